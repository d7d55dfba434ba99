//! Bans of addresses that sent data that failed its check.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use super::super::prefix::Prefix;

/// After bad pieces from this many socket addresses with one prefix (an IPv4 address or an IPv6 /64), the whole prefix is
/// banned. Before that, only the socket addresses are, as several subscribers, or several programs, may share a prefix.
pub(crate) const MAX_STRIKES: usize = 3;

/// The banned socket addresses with one prefix.
type Strikes = heapless::Vec<SocketAddr, MAX_STRIKES>;

/// The addresses that a torrent has banned. Bans do not expire: they last as long as the torrent. If there are too many, the
/// prefix with the fewest bans is removed.
#[derive(Debug)]
pub(crate) struct Bans {
    of: BTreeMap<Prefix, Strikes>,
    cap: usize,
}

impl Bans {
    pub(super) const fn new(cap: usize) -> Self {
        let of = BTreeMap::new();
        Self { of, cap }
    }

    /// Bans a socket address. Returns whether it was not banned before.
    pub(super) fn strike(&mut self, addr: SocketAddr) -> bool {
        let news = !self.refuses(addr);
        let prefix = Prefix::of(addr.ip());
        if self.of.len() >= self.cap && !self.of.contains_key(&prefix) {
            let least = self.of.iter().min_by_key(|(_, strikes)| strikes.len());
            if let Some(least) = least.map(|(prefix, _)| *prefix) {
                self.of.remove(&least);
            }
        }
        let strikes = self.of.entry(prefix).or_default();
        if news {
            // A full list bans the whole prefix, so there is room.
            let _ = strikes.push(addr);
        }
        news
    }

    /// Whether the whole prefix of an IP address is banned.
    pub(super) fn refuses_all_of(&self, ip: IpAddr) -> bool {
        let strikes = self.of.get(&Prefix::of(ip));
        strikes.is_some_and(|s| s.len() >= MAX_STRIKES)
    }

    /// Whether a socket address is banned.
    pub(super) fn refuses(&self, addr: SocketAddr) -> bool {
        let strikes = self.of.get(&Prefix::of(addr.ip()));
        strikes.is_some_and(|s| s.is_full() || s.contains(&addr))
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    fn addr(n: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, n], port))
    }

    #[test]
    fn three_ports_with_bad_pieces_refuse_every_port_of_an_address() {
        let mut bans = Bans::new(10);
        assert!(bans.strike(addr(1, 5)));
        assert!(bans.refuses(addr(1, 5)) && !bans.refuses(addr(1, 6)));
        for _ in 0..9 {
            assert!(!bans.strike(addr(1, 5)), "it is refused already");
        }
        assert!(!bans.refuses(addr(1, 6)), "a neighbour is not to blame");
        assert!(bans.strike(addr(1, 6)) && bans.strike(addr(1, 8)));
        assert!(bans.refuses(addr(1, 7)) && bans.refuses_all_of(addr(1, 0).ip()));
        assert!(!bans.refuses(addr(2, 5)));
    }

    #[test]
    fn ipv6_neighbours_within_a_64_share_their_strikes() {
        let mut bans = Bans::new(10);
        for n in 1..=3 {
            bans.strike(format!("[2001:db8::{n}]:{n}").parse().unwrap());
        }
        assert!(bans.refuses("[2001:db8::ff]:9".parse().unwrap()));
        assert!(!bans.refuses("[2001:db8:0:1::1]:9".parse().unwrap()));
    }

    #[test]
    fn a_full_table_forgives_the_one_with_the_fewest_and_keeps_learning() {
        let mut bans = Bans::new(2);
        for (n, port) in [(1, 1), (1, 2), (2, 1), (3, 1)] {
            bans.strike(addr(n, port));
        }
        assert!(bans.refuses(addr(1, 1)) && bans.refuses(addr(3, 1)));
        assert!(!bans.refuses(addr(2, 1)));
    }
}
