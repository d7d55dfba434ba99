//! What is queued for the threads.

use std::sync::Arc;

use dunlin_core::{Block, Op, OpErrorKind, OpId, Outcome, TorrentId};

use super::{Placement, files::Files};

/// A task that runs on one of the threads.
pub(super) type Task = Box<dyn FnOnce() -> Outcome + Send>;

/// What is queued for the threads.
pub(super) enum Work {
    /// An op on a torrent's files.
    Op(Op),
    /// A task that is not an op; `None` once it has started.
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

    /// Whether it runs only after everything that its torrent submitted before.
    pub(super) fn waits_for_all(&self) -> bool {
        matches!(self, Self::Op(Op::Flush { .. })) || self.is_alone()
    }

    /// Whether nothing else of its torrent runs at the same time.
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

    /// Whether nobody needs the result once the disk stops.
    pub(super) fn is_dropped_at_stop(&self) -> bool {
        matches!(self, Self::Op(Op::Read { .. } | Op::Hash { .. }))
    }

    /// Takes back the blocks that were lent to it.
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

/// A piece of work that may run now.
pub(super) struct Job {
    pub(super) files: Option<Arc<Files>>,
    pub(super) placement: Option<Arc<Placement>>,
    pub(super) work: Work,
}
