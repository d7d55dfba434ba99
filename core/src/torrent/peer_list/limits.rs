//! Quotas of the peer list: how many addresses each source may have in it.

use core::net::SocketAddr;

use super::super::status::PeerSource;

/// Classes of sources that share a quota, the most trusted first. They are also tried in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The application named it.
    Manual,
    /// A tracker named it, now or in an earlier session.
    Tracker,
    /// The DHT named it.
    Dht,
    /// A peer named it, or connected to us.
    Gossip,
}

/// The number of classes.
pub(super) const CLASSES: usize = 4;

impl Class {
    pub(super) const fn of(source: PeerSource) -> Self {
        match source {
            PeerSource::Manual => Self::Manual,
            PeerSource::Tracker | PeerSource::Resume => Self::Tracker,
            PeerSource::Dht => Self::Dht,
            PeerSource::Pex | PeerSource::Incoming => Self::Gossip,
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The limits of a peer list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The maximum number of addresses.
    pub(crate) known: usize,
    /// The maximum number of the torrent's connections with one IPv4 address or IPv6 /64.
    pub(crate) per_ip: usize,
    /// Whether IPv4 and IPv6 are available. Addresses of other families are not learned.
    pub(crate) families: (bool, bool),
}

impl Limits {
    /// The quota of addresses named by peers: half of the list, so that peers cannot fill it.
    pub(super) const fn most_gossip(&self) -> usize {
        self.known.div_ceil(2)
    }

    /// The quota of all other sources: a quarter of the list is left to addresses named by peers.
    pub(super) const fn most_others(&self) -> usize {
        self.known - self.known / 4
    }

    /// The quota of addresses named by the peers of one IP address: a twentieth of the list, which by default is two peer
    /// exchange messages (BEP 11: 50 peers each).
    pub(super) const fn per_teller(&self) -> usize {
        self.known.div_ceil(20)
    }

    /// The maximum number of ports of one IPv4 address or IPv6 /64 that a source may add. A tracker sees its peers'
    /// addresses, and many subscribers may share one. By peer exchange any port can be named, which could make a whole swarm
    /// connect to it, so few are allowed.
    pub(super) const fn ports(&self, source: PeerSource) -> usize {
        match source {
            PeerSource::Manual => usize::MAX,
            PeerSource::Tracker | PeerSource::Resume => self.per_ip.saturating_mul(4),
            PeerSource::Dht | PeerSource::Incoming => self.per_ip,
            PeerSource::Pex => self.per_ip.div_ceil(2),
        }
    }

    pub(super) const fn has_family(&self, addr: SocketAddr) -> bool {
        match addr {
            SocketAddr::V4(_) => self.families.0,
            SocketAddr::V6(_) => self.families.1,
        }
    }
}
