//! Ops of the driver's own. They go the way of the engine's ops, under ids that the engine never
//! gives.

use std::collections::BTreeMap;

use dunlin_core::{ConnId, OpId, TorrentId, engine::Event};

/// The engine counts its ops up from zero.
const FIRST: u64 = 1 << 63;

/// What an outcome is for.
#[derive(Debug)]
pub(super) enum FollowUp {
    /// Nothing, unless it failed: then the application hears of it.
    Report,
    /// The same, and then the application hears of this event.
    Tell(Event),
    /// The addresses of the proxy, for this stream.
    Proxy(ConnId),
    /// The addresses of a peer of a magnet, which has this port.
    Peer(TorrentId, u16),
}

/// The ops of the driver that are under way.
#[derive(Debug, Default)]
pub(super) struct OwnOps {
    open: BTreeMap<OpId, FollowUp>,
    next: u64,
    telling: usize,
}

impl OwnOps {
    /// Gives the id of a new op.
    pub(super) fn begin(&mut self, follow_up: FollowUp) -> OpId {
        let op = OpId(FIRST | self.next);
        self.next += 1;
        self.telling += usize::from(matches!(follow_up, FollowUp::Tell(_)));
        self.open.insert(op, follow_up);
        op
    }

    /// Whether `op` is one of these, and not the engine's.
    pub(super) const fn includes(op: OpId) -> bool {
        op.0 & FIRST != 0
    }

    /// What the outcome of `op` is for.
    pub(super) fn end(&mut self, op: OpId) -> FollowUp {
        let follow_up = self.open.remove(&op).unwrap_or(FollowUp::Report);
        self.telling -= usize::from(matches!(follow_up, FollowUp::Tell(_)));
        follow_up
    }

    /// Whether the application is still to hear of something.
    pub(super) const fn is_telling(&self) -> bool {
        self.telling > 0
    }
}
