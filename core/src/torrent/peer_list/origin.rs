//! Who named an address, and which addresses are accepted from that source.
//!
//! A peer that names addresses of this machine or its network could make us connect to services that it cannot reach itself.
//! An address is therefore accepted only if it is no closer to us than its source: a peer in our own network may name others
//! there, a peer on the Internet may not.

use core::net::IpAddr;

use super::super::prefix::Prefix;
use super::super::status::PeerSource;
use crate::scope::Scope;

/// The origin of an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(super) source: PeerSource,
    /// The peer that told of it.
    pub(super) teller: Option<Prefix>,
    /// The narrowest scope of addresses that are accepted.
    narrowest: Scope,
}

impl Origin {
    /// Peer exchange with a peer at `teller`.
    pub(crate) fn pex(teller: IpAddr) -> Self {
        Self {
            source: PeerSource::Pex,
            teller: Some(Prefix::of(teller)),
            narrowest: Scope::of(teller),
        }
    }

    /// A tracker whose address or name has this scope. A tracker learns the addresses of its peers from them, and some share
    /// a network behind a NAT, so it may name site-local addresses wherever it is. It may name loopback and link-local
    /// addresses only if it has such an address itself.
    pub(crate) fn tracker(scope: Scope) -> Self {
        Self {
            narrowest: scope.min(Scope::Site),
            ..PeerSource::Tracker.into()
        }
    }

    /// Whether an address is accepted.
    pub(crate) fn may_name(&self, ip: IpAddr) -> bool {
        Scope::of(ip) >= self.narrowest
    }
}

/// Accepts every address: the application named it, a connection came from it, or the DHT has checked it.
impl From<PeerSource> for Origin {
    fn from(source: PeerSource) -> Self {
        Self {
            source,
            teller: None,
            narrowest: Scope::Host,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the nearest to the farthest.
    const ADDRESSES: [[&str; 4]; 4] = [
        ["127.0.0.1", "::1", "0.0.0.0", "64:ff9b::7f00:1"],
        [
            "169.254.169.254",
            "fe80::1",
            "169.254.1.1",
            "2002:a9fe:a9fe::1",
        ],
        ["192.168.1.1", "fd00::1", "100.64.0.1", "::ffff:10.0.0.1"],
        ["203.0.113.5", "2001:db8::1", "20.0.0.1", "::ffff:20.0.0.1"],
    ];

    fn believed(origin: Origin) -> [usize; 4] {
        let named = |ip: &&&str| origin.may_name(ip.parse().unwrap());
        ADDRESSES
            .each_ref()
            .map(|ips| ips.iter().filter(named).count())
    }

    #[test]
    fn a_peer_names_no_address_that_is_closer_to_us_than_itself() {
        for (near, tellers) in ADDRESSES.iter().enumerate() {
            let mut wanted = [0; 4];
            wanted[near..].fill(4);
            for teller in tellers {
                let origin = Origin::pex(teller.parse().unwrap());
                assert_eq!(believed(origin), wanted, "{teller}");
            }
        }
    }

    #[test]
    fn a_tracker_may_name_private_addresses_but_not_those_of_this_machine() {
        for (scope, wanted) in [
            (Scope::Host, [4, 4, 4, 4]),
            (Scope::Link, [0, 4, 4, 4]),
            (Scope::Site, [0, 0, 4, 4]),
            (Scope::Global, [0, 0, 4, 4]),
        ] {
            assert_eq!(believed(Origin::tracker(scope)), wanted, "{scope:?}");
        }
    }

    #[test]
    fn a_person_may_name_any_address() {
        assert_eq!(believed(PeerSource::Manual.into()), [4; 4]);
    }
}
