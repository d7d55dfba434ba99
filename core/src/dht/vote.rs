//! Votes on our address: nodes report the address that they see us at (BEP 42 `ip`), and some of them lie.
//!
//! The last vote of each of the latest 32 networks counts. An address is agreed on once 8 of them
//! and more than half of all name it: who owns one network has one vote. An agreed address is
//! replaced at most every 30 minutes, since our id depends on it.

use alloc::boxed::Box;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::guard::{is_martian, network};
use crate::Instant;

/// Networks whose votes are kept, of each family. Our choice: four times what is needed.
const BALLOTS: usize = 32;
/// Votes that an address needs. Our choice: more than a few mistaken nodes have, and fewer than a bootstrap collects.
pub const QUORUM: usize = 8;
/// Votes that a port needs; it only decides what a warning says.
const PORT_QUORUM: usize = 3;
/// An agreed address stands at least this long: each change costs a new id.
pub const TERM: Duration = Duration::from_secs(30 * 60);

#[derive(Clone, Copy, Debug)]
struct Ballot {
    network: u64,
    ip: IpAddr,
    port: u16,
}

/// The votes of one family.
#[derive(Clone, Debug, Default)]
struct Urn {
    /// The last votes, oldest first.
    ballots: heapless::Deque<Ballot, BALLOTS>,
    agreed: Option<(IpAddr, Instant)>,
}

/// The votes on our address, separate for IPv4 and IPv6.
#[derive(Clone, Debug, Default)]
pub struct Vote {
    v4: Urn,
    /// Allocated at the first vote, because many nodes have no IPv6.
    v6: Option<Box<Urn>>,
}

impl Vote {
    /// No votes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The node at `from`, which answered a query of ours, says that it sees us at `seen`. Returns
    /// the address if this vote made it the agreed one.
    pub fn vote(&mut self, now: Instant, from: IpAddr, seen: SocketAddr) -> Option<IpAddr> {
        // A node of the other family cannot have seen this address, and a martian address is not reachable.
        if from.is_ipv4() != seen.is_ipv4() || is_martian(&SocketAddr::new(seen.ip(), 1), false) {
            return None;
        }
        let urn = if seen.is_ipv4() {
            &mut self.v4
        } else {
            self.v6.get_or_insert_default()
        };
        urn.put(Ballot {
            network: network(from),
            ip: seen.ip(),
            port: seen.port(),
        });
        urn.count(now, seen.ip())
    }

    /// The address that was agreed on.
    #[must_use]
    pub fn agreed(&self, v6: bool) -> Option<IpAddr> {
        let urn = if v6 {
            self.v6.as_deref()
        } else {
            Some(&self.v4)
        };
        urn?.agreed.map(|(ip, _)| ip)
    }

    /// The port that more than half of the voters see, and at least three; IPv4's, if any. `None`
    /// also if a NAT shows each of them another one.
    #[must_use]
    pub fn observed_port(&self) -> Option<u16> {
        self.v4.port().or_else(|| self.v6.as_ref()?.port())
    }

    /// Forgets all votes, not what was agreed: for a change of network.
    pub fn clear(&mut self) {
        self.v4.ballots.clear();
        if let Some(v6) = &mut self.v6 {
            v6.ballots.clear();
        }
    }
}

impl Urn {
    fn put(&mut self, ballot: Ballot) {
        let earlier = |b: &&mut Ballot| b.network == ballot.network;
        if let Some(earlier) = self.ballots.iter_mut().find(earlier) {
            *earlier = ballot;
            return;
        }
        if self.ballots.is_full() {
            self.ballots.pop_front();
        }
        let _ = self.ballots.push_back(ballot);
    }

    /// Only the address that was just named can have gained.
    fn count(&mut self, now: Instant, named: IpAddr) -> Option<IpAddr> {
        if self
            .agreed
            .is_some_and(|(ip, since)| ip == named || now < since + TERM)
        {
            return None;
        }
        let votes = self.ballots.iter().filter(|b| b.ip == named).count();
        if votes < QUORUM || votes * 2 <= self.ballots.len() {
            return None;
        }
        self.agreed = Some((named, now));
        Some(named)
    }

    fn port(&self) -> Option<u16> {
        // Boyer and Moore's majority vote: if there is a majority, it is the candidate that is left.
        let (mut candidate, mut lead) = (0, 0_usize);
        for ballot in &self.ballots {
            match (lead, ballot.port == candidate) {
                (0, _) => (candidate, lead) = (ballot.port, 1),
                (_, true) => lead += 1,
                (_, false) => lead -= 1,
            }
        }
        let votes = self.ballots.iter().filter(|b| b.port == candidate).count();
        (candidate != 0 && votes >= PORT_QUORUM && votes * 2 > self.ballots.len())
            .then_some(candidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_micros(1);

    fn voter(n: u8) -> IpAddr {
        IpAddr::from([11, 0, n, 1])
    }

    fn us(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, last], port))
    }

    #[test]
    fn eight_networks_agree() {
        let mut vote = Vote::new();
        for n in 0..7 {
            assert_eq!(vote.vote(T0, voter(n), us(1, 6881)), None);
            // The same network again counts once.
            assert_eq!(vote.vote(T0, [11, 0, n, 200].into(), us(1, 6881)), None);
        }
        assert_eq!(vote.agreed(false), None);
        assert_eq!(vote.vote(T0, voter(7), us(1, 6881)), Some(us(1, 0).ip()));
        assert_eq!(vote.vote(T0, voter(8), us(1, 6881)), None, "told once");
        assert_eq!(vote.agreed(false), Some(us(1, 0).ip()));
        assert_eq!(vote.observed_port(), Some(6881));
    }

    #[test]
    fn a_whole_network_of_liars_has_one_vote() {
        let mut vote = Vote::new();
        for host in 0..=255 {
            assert_eq!(vote.vote(T0, [11, 0, 0, host].into(), us(66, 1)), None);
        }
        let v6 = |host: u128| IpAddr::V6((0x2a00_u128 << 112 | host).into());
        for host in 0..256 {
            let seen = SocketAddr::new(v6(1 << 70), 1);
            assert_eq!(vote.vote(T0, v6(host), seen), None, "one /64");
        }
    }

    #[test]
    fn eight_liars_do_not_outvote_more_honest_ones() {
        let mut vote = Vote::new();
        for n in 0..16 {
            let _ = vote.vote(T0, voter(n), us(1, 6881));
        }
        let later = T0 + TERM;
        for n in 16..32 {
            assert_eq!(vote.vote(later, voter(n), us(66, 6881)), None, "{n}");
        }
        assert_eq!(vote.agreed(false), Some(us(1, 0).ip()));
    }

    #[test]
    fn an_address_stands_for_thirty_minutes() {
        let mut vote = Vote::new();
        for n in 0..8 {
            let _ = vote.vote(T0, voter(n), us(1, 6881));
        }
        let early = T0 + TERM.saturating_sub(Duration::from_secs(1));
        for n in 0..32 {
            assert_eq!(vote.vote(early, voter(n), us(2, 6881)), None);
        }
        assert_eq!(
            vote.vote(T0 + TERM, voter(0), us(2, 6881)),
            Some(us(2, 0).ip())
        );
    }

    #[test]
    fn martians_and_the_other_family_have_no_say() {
        let mut vote = Vote::new();
        for n in 0..32 {
            assert_eq!(vote.vote(T0, voter(n), ([192, 168, 1, 2], 1).into()), None);
            let v6 = SocketAddr::new(IpAddr::V6((0x2a00_u128 << 112 | 1).into()), 1);
            assert_eq!(vote.vote(T0, voter(n), v6), None);
        }
        assert_eq!(vote.observed_port(), None);
    }

    #[test]
    fn a_port_needs_a_majority() {
        let mut vote = Vote::new();
        for n in 0..8 {
            let _ = vote.vote(T0, voter(n), us(1, 1000 + u16::from(n)));
        }
        assert_eq!(vote.observed_port(), None, "each sees another");
        for n in 0..5 {
            let _ = vote.vote(T0, voter(n), us(1, 4242));
        }
        assert_eq!(vote.observed_port(), Some(4242));
    }

    #[test]
    fn ballots_are_bounded_and_the_oldest_go() {
        let mut vote = Vote::new();
        for n in 0..=255 {
            let _ = vote.vote(T0, voter(n), us(n, 1));
        }
        assert_eq!(vote.v4.ballots.len(), BALLOTS);
        assert_eq!(vote.v4.ballots.front().map(|b| b.ip), Some(us(224, 1).ip()));
    }
}
