//! Peer exchange (BEP 11) with one peer: what it is told, and which of its messages are heeded.

use alloc::{collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use crate::Instant;
use crate::wire::extension::{MAX_PEX, PexFlags};

/// Messages that arrive sooner than this after the last one are ignored. BEP 11 allows one per minute; the rest is for delays
/// of the network.
const LEAST_INTERVAL: Duration = Duration::from_secs(45);

/// The peers of a torrent that others can connect to.
#[derive(Debug)]
pub(crate) struct Roster {
    peers: Vec<(SocketAddr, PexFlags)>,
    addrs: BTreeSet<SocketAddr>,
}

impl FromIterator<(SocketAddr, PexFlags)> for Roster {
    fn from_iter<I: IntoIterator<Item = (SocketAddr, PexFlags)>>(peers: I) -> Self {
        let peers: Vec<_> = peers.into_iter().collect();
        let addrs = peers.iter().map(|(addr, _)| *addr).collect();
        Self { peers, addrs }
    }
}

/// The contents of a message.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) added: Vec<(SocketAddr, PexFlags)>,
    pub(crate) dropped: Vec<SocketAddr>,
}

/// The exchange with one peer.
#[derive(Debug, Default)]
pub(crate) struct Pex {
    /// The peers that it was told of.
    told: BTreeSet<SocketAddr>,
    /// When the last message that was heeded arrived.
    heard: Option<Instant>,
}

impl Pex {
    /// What a peer at `own` does not know yet. `None` if there is nothing to tell.
    pub(crate) fn update(&self, roster: &Roster, own: Option<SocketAddr>) -> Option<Update> {
        let news = |addr: SocketAddr| Some(addr) != own && !self.told.contains(&addr);
        let added = roster.peers.iter().filter(|(addr, _)| news(*addr));
        let dropped = self.told.difference(&roster.addrs);
        let update = Update {
            added: added.take(MAX_PEX).copied().collect(),
            dropped: dropped.take(MAX_PEX).copied().collect(),
        };
        (!update.added.is_empty() || !update.dropped.is_empty()).then_some(update)
    }

    /// It was told.
    pub(crate) fn told(&mut self, update: &Update) {
        self.told.extend(update.added.iter().map(|(addr, _)| *addr));
        for addr in &update.dropped {
            self.told.remove(addr);
        }
    }

    /// A message arrived. Returns whether it is heeded.
    pub(crate) fn heeds(&mut self, now: Instant) -> bool {
        if self.heard.is_some_and(|at| at + LEAST_INTERVAL > now) {
            return false;
        }
        self.heard = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881))
    }

    fn roster(of: impl Iterator<Item = usize>) -> Roster {
        of.map(|n| (addr(n), PexFlags::default())).collect()
    }

    #[test]
    fn a_peer_is_told_everything_once_and_in_portions() {
        let mut pex = Pex::default();
        let mut tell = |roster: &Roster| {
            let (mut added, mut dropped) = (Vec::new(), Vec::new());
            while let Some(update) = pex.update(roster, Some(addr(7))) {
                assert!(update.added.len() <= MAX_PEX && update.dropped.len() <= MAX_PEX);
                pex.told(&update);
                added.extend(update.added.iter().map(|(addr, _)| *addr));
                dropped.extend(update.dropped);
            }
            (added, dropped)
        };
        let range = |from, to| (from..to).map(addr).collect::<Vec<_>>();
        let (mut others, none) = (range(0, 120), Vec::new());
        others.remove(7);
        assert_eq!(tell(&roster(0..120)), (others, none.clone()), "not itself");
        assert_eq!(tell(&roster(0..120)), (none.clone(), none.clone()));
        assert_eq!(tell(&roster(60..130)).0, range(120, 130));
        assert_eq!(tell(&roster(60..60)), (none, range(60, 130)));
    }

    #[test]
    fn what_could_not_be_sent_is_told_later() {
        let pex = Pex::default();
        for _ in 0..2 {
            let update = pex.update(&roster(0..3), None).unwrap();
            assert_eq!(update.added.len(), 3);
        }
    }

    #[test]
    fn messages_in_quick_succession_are_ignored() {
        let mut pex = Pex::default();
        let mut heeds = |secs: u64| pex.heeds(Instant::from_micros(1 + secs * 1_000_000));
        let heeded = [0, 44, 45, 60, 89, 90].map(&mut heeds);
        assert_eq!(heeded, [true, false, true, false, false, true]);
    }
}
