//! The state of a tracker: the members of each swarm.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use dunlin_core::{InfoHash, Instant};
use rand_core::Rng;

/// The most peers in one answer.
pub(super) const MAX_ANSWER: usize = 200;

/// An announce over HTTP or UDP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announce {
    pub(super) info_hash: InfoHash,
    /// The address from which it came, with the port that it names.
    pub(super) peer: SocketAddr,
    pub(super) left: u64,
    pub(super) stopped: bool,
    pub(super) completed: bool,
    pub(super) want: usize,
}

/// The counters of one torrent (BEP 48).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwarmStats {
    /// Peers that are complete.
    pub seeds: u32,
    /// Peers that are not complete.
    pub leeches: u32,
    /// Downloads that were completed.
    pub completed: u32,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    left: u64,
    seen: Instant,
}

/// The members of every torrent of a tracker.
#[derive(Debug, Default)]
pub struct Swarm {
    members: BTreeMap<(InfoHash, SocketAddr), Member>,
    completed: BTreeMap<InfoHash, u32>,
    /// The peers picked for an answer; kept to reuse its memory.
    picked: BTreeSet<usize>,
}

impl Swarm {
    /// Records an announce, and picks peers of the same family for the answer.
    pub(super) fn announce(
        &mut self,
        now: Instant,
        rng: &mut dyn Rng,
        lifetime: Duration,
        a: &Announce,
    ) -> Vec<SocketAddr> {
        self.members.retain(|_, m| now < m.seen + lifetime);
        if a.stopped {
            self.members.remove(&(a.info_hash, a.peer));
            return Vec::new();
        }
        let member = Member {
            left: a.left,
            seen: now,
        };
        self.members.insert((a.info_hash, a.peer), member);
        if a.completed {
            *self.completed.entry(a.info_hash).or_default() += 1;
        }
        // A seed does not need other seeds.
        let others: Vec<SocketAddr> = self
            .of(a.info_hash)
            .filter(|(peer, m)| *peer != a.peer && (a.left > 0 || m.left > 0))
            .map(|(peer, _)| peer)
            .filter(|peer| peer.is_ipv4() == a.peer.is_ipv4())
            .collect();
        let want = a.want.min(MAX_ANSWER);
        if others.len() <= want {
            return others;
        }
        // Floyd's sampling: `want` distinct peers, each with the same probability.
        self.picked.clear();
        for top in others.len() - want..others.len() {
            let at = ((u64::from(rng.next_u32()) * (top as u64 + 1)) >> 32) as usize;
            if !self.picked.insert(at) {
                self.picked.insert(top);
            }
        }
        self.picked.iter().map(|n| others[*n]).collect()
    }

    fn of(&self, hash: InfoHash) -> impl Iterator<Item = (SocketAddr, Member)> + '_ {
        let lowest = SocketAddr::from(([0, 0, 0, 0], 0));
        self.members
            .range((hash, lowest)..)
            .take_while(move |((of, _), _)| *of == hash)
            .map(|((_, peer), m)| (*peer, *m))
    }

    /// The counters of a torrent.
    #[must_use]
    pub fn stats(&self, hash: InfoHash) -> SwarmStats {
        let mut stats = SwarmStats {
            completed: self.completed.get(&hash).copied().unwrap_or(0),
            ..SwarmStats::default()
        };
        for (_, member) in self.of(hash) {
            match member.left {
                0 => stats.seeds += 1,
                _ => stats.leeches += 1,
            }
        }
        stats
    }

    /// The members of a torrent, as they announced themselves.
    #[must_use]
    pub fn members(&self, hash: InfoHash) -> Vec<SocketAddr> {
        self.of(hash).map(|(peer, _)| peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SimRng;

    fn announce(n: u8, left: u64, want: usize) -> Announce {
        Announce {
            info_hash: InfoHash([1; 20]),
            peer: SocketAddr::from(([10, 0, 0, n], 6_881)),
            left,
            stopped: false,
            completed: false,
            want,
        }
    }

    #[test]
    fn peers_learn_of_each_other_until_they_leave_or_fall_silent() {
        let (mut swarm, mut rng) = (Swarm::default(), SimRng::new(1));
        let hour = Duration::from_secs(3_600);
        let at = |s: u64| Instant::ORIGIN + Duration::from_secs(s);
        let mut say = |s, a: Announce| swarm.announce(at(s), &mut rng, hour, &a);
        assert!(say(0, announce(1, 0, 50)).is_empty());
        assert_eq!(say(1, announce(2, 9, 50)), [announce(1, 0, 0).peer]);
        // A seed is not told about another seed.
        assert_eq!(say(2, announce(3, 0, 50)), [announce(2, 9, 0).peer]);
        let gone = Announce {
            stopped: true,
            ..announce(2, 9, 50)
        };
        assert!(say(3, gone).is_empty());
        assert!(say(4, announce(1, 0, 50)).is_empty());
        assert_eq!(say(3_603, announce(4, 9, 50)), [announce(1, 0, 0).peer]);
    }

    #[test]
    fn a_large_swarm_is_sampled_without_repeats() {
        let (mut swarm, mut rng) = (Swarm::default(), SimRng::new(1));
        let hour = Duration::from_secs(3_600);
        let mut last = Vec::new();
        for n in 0..100 {
            last = swarm.announce(Instant::ORIGIN, &mut rng, hour, &announce(n, 5, 30));
        }
        assert_eq!(last.len(), 30);
        last.sort();
        last.dedup();
        assert_eq!(
            (last.len(), last.contains(&announce(99, 5, 0).peer)),
            (30, false)
        );
    }
}
