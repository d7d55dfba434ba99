//! The driver's own ops. They are carried out like the engine's, under ids that the engine never uses.

use std::collections::BTreeMap;

use dunlin_core::{ConnId, OpId, TorrentId, engine::Event};

/// The first id; the engine counts its ids up from zero.
const FIRST: u64 = 1 << 63;

/// What is done with the outcome of the driver's own op.
#[derive(Debug)]
pub(super) enum FollowUp {
    /// The application is told of a failure.
    Report,
    /// The application is told of a failure, and then of this event.
    Tell(Event),
    /// The outcome has the addresses of the proxy for this stream.
    Proxy(ConnId),
    /// The outcome has the addresses of a magnet's peer with this port.
    Peer(TorrentId, u16),
}

/// The driver's own ops that are not answered yet.
#[derive(Debug, Default)]
pub(super) struct OwnOps {
    open: BTreeMap<OpId, FollowUp>,
    next: u64,
    telling: usize,
}

impl OwnOps {
    /// Returns the id of a new op.
    pub(super) fn begin(&mut self, follow_up: FollowUp) -> OpId {
        let op = OpId(FIRST | self.next);
        self.next += 1;
        self.telling += usize::from(matches!(follow_up, FollowUp::Tell(_)));
        self.open.insert(op, follow_up);
        op
    }

    /// Whether `op` is the driver's own.
    pub(super) const fn includes(op: OpId) -> bool {
        op.0 & FIRST != 0
    }

    /// Returns what to do with the outcome of `op`.
    pub(super) fn end(&mut self, op: OpId) -> FollowUp {
        let follow_up = self.open.remove(&op).unwrap_or(FollowUp::Report);
        self.telling -= usize::from(matches!(follow_up, FollowUp::Tell(_)));
        follow_up
    }

    /// Whether an event for the application still waits for an outcome.
    pub(super) const fn is_telling(&self) -> bool {
        self.telling > 0
    }
}
