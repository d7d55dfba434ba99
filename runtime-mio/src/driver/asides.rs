//! Errands of the driver's own: they go the way of the engine's ops, under names that the engine
//! never gives, and their outcomes come back here.

use std::collections::BTreeMap;

use dunlin_core::{ConnId, OpId, TorrentId, engine::Event};

/// The engine counts its ops up from zero.
const FIRST: u64 = 1 << 63;

/// What an outcome is for.
#[derive(Debug)]
pub(super) enum Aside {
    /// Nothing is to follow.
    Nothing,
    /// The application hears of it now.
    Tell(Event),
    /// The proxy's addresses, for this stream.
    Proxy(ConnId),
    /// The addresses of a peer of a magnet, and its port.
    Peer(TorrentId, u16),
}

/// Those under way.
#[derive(Debug, Default)]
pub(super) struct Asides {
    open: BTreeMap<OpId, Aside>,
    next: u64,
    telling: usize,
}

impl Asides {
    /// Names an errand.
    pub(super) fn open(&mut self, aside: Aside) -> OpId {
        let op = OpId(FIRST | self.next);
        self.next += 1;
        self.telling += usize::from(matches!(aside, Aside::Tell(_)));
        self.open.insert(op, aside);
        op
    }

    /// Whether `op` is an errand, not the engine's.
    pub(super) const fn are(op: OpId) -> bool {
        op.0 & FIRST != 0
    }

    /// What the outcome of `op` is for.
    pub(super) fn done(&mut self, op: OpId) -> Aside {
        let aside = self.open.remove(&op).unwrap_or(Aside::Nothing);
        self.telling -= usize::from(matches!(aside, Aside::Tell(_)));
        aside
    }

    /// Whether the application is still to hear of something.
    pub(super) const fn telling(&self) -> bool {
        self.telling > 0
    }
}
