//! How many addresses each source may have in the table of known peers.

use core::net::SocketAddr;

use super::super::status::PeerSource;

/// Sources that share a quota, the most trusted first: whom to dial first, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// The application named it.
    Manual,
    /// A tracker named it, now or in an earlier session.
    Tracker,
    /// The DHT named it.
    Dht,
    /// Strangers named it or themselves.
    Gossip,
}

/// How many classes there are.
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

/// Bounds of a table of known peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Addresses in all.
    pub(crate) known: usize,
    /// Connections of the torrent with one IPv4 address or IPv6 /64.
    pub(crate) per_ip: usize,
    /// Whether there is IPv4 and IPv6; what cannot be reached is not learned.
    pub(crate) families: (bool, bool),
}

impl Limits {
    /// Most addresses that peers may have named: half of the table, so that nobody fills it.
    pub(super) const fn most_gossip(&self) -> usize {
        self.known.div_ceil(2)
    }

    /// Most addresses from all other sources: a quarter is left to what peers name.
    pub(super) const fn most_others(&self) -> usize {
        self.known - self.known / 4
    }

    /// Most addresses that peers behind one address may have named: a twentieth of the table,
    /// which is two messages of peer exchange by default (BEP 11: 50 peers each).
    pub(super) const fn per_teller(&self) -> usize {
        self.known.div_ceil(20)
    }

    /// Most ports of one IPv4 address or IPv6 /64 that a source may add. A tracker sees its
    /// peers' addresses, and many subscribers may share one. Anybody can name any port by peer
    /// exchange, to have it dialled by a whole swarm: a few will do.
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
