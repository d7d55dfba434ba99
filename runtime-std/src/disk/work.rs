//! What the threads are given.

use std::sync::Arc;

use dunlin_core::{Block, Op, OpErrorKind, OpId, Outcome, TorrentId};

use super::{Placement, files::Files};

/// Something to run off the engine's thread.
pub(super) type Task = Box<dyn FnOnce() -> Outcome + Send>;

/// What the threads are given.
pub(super) enum Work {
    /// An op on a torrent's files.
    Op(Op),
    /// Anything else; `None` once it started.
    Task(OpId, Option<Task>),
}

impl Work {
    pub(super) fn torrent(&self) -> Option<TorrentId> {
        match self {
            Self::Op(
                Op::Open { torrent, .. }
                | Op::Read { torrent, .. }
                | Op::Write { torrent, .. }
                | Op::Hash { torrent, .. }
                | Op::Claim { torrent, .. }
                | Op::Confirm { torrent, .. }
                | Op::Flush { torrent, .. }
                | Op::Select { torrent, .. }
                | Op::Release { torrent, .. },
            ) => Some(*torrent),
            _ => None,
        }
    }

    pub(super) fn id(&self) -> Option<OpId> {
        match self {
            Self::Op(op) => op.id(),
            Self::Task(id, _) => Some(*id),
        }
    }

    /// Runs only after everything of its torrent that came before.
    pub(super) fn waits_for_all(&self) -> bool {
        matches!(self, Self::Op(Op::Flush { .. })) || self.is_alone()
    }

    /// Nothing of its torrent runs beside it.
    pub(super) fn is_alone(&self) -> bool {
        matches!(
            self,
            Self::Op(
                Op::Open { .. }
                    | Op::Claim { .. }
                    | Op::Confirm { .. }
                    | Op::Select { .. }
                    | Op::Release { .. }
            )
        )
    }

    /// Of no use to anybody once the disk stops.
    pub(super) fn is_idle_curiosity(&self) -> bool {
        matches!(self, Self::Op(Op::Read { .. } | Op::Hash { .. }))
    }

    /// What was lent to it, given back.
    pub(super) fn blocks(&mut self) -> Vec<Block> {
        match self {
            Self::Op(Op::Read { blocks, .. } | Op::Write { blocks, .. }) => std::mem::take(blocks),
            _ => Vec::new(),
        }
    }

    pub(super) fn fail(&mut self, kind: OpErrorKind, detail: impl Into<String>) -> Outcome {
        let mut outcome = Outcome::failed(kind, detail);
        if let Outcome::Failed { blocks, .. } = &mut outcome {
            *blocks = self.blocks();
        }
        outcome
    }
}

/// Work whose turn has come.
pub(super) struct Job {
    pub(super) files: Option<Arc<Files>>,
    pub(super) placement: Option<Arc<Placement>>,
    pub(super) work: Work,
}
