//! What is queued for the threads.

use std::sync::Arc;

use dunlin_core::{
    Op, OpError, OpErrorKind, OpId, Outcome, TorrentId,
    op::{HashJob, ReadJob, WriteJob},
};

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
                | Op::Read(ReadJob { torrent, .. })
                | Op::Write(WriteJob { torrent, .. })
                | Op::Hash(HashJob { torrent, .. })
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
        matches!(self, Self::Op(Op::Read(_) | Op::Hash(_)))
    }

    /// Its outcome: the one that it returned or, if it returned none, the one of its job with its buffers.
    pub(super) fn answer(self, done: Result<Option<Outcome>, OpError>) -> Option<(OpId, Outcome)> {
        let id = self.id()?;
        let outcome = match (self, done) {
            (Self::Op(op), Err(error)) => op.fail(error),
            (Self::Op(Op::Read(job)), Ok(_)) => job.done(),
            (Self::Op(Op::Write(job)), Ok(_)) => job.done(),
            (Self::Op(Op::Hash(job)), Ok(_)) => job.done(),
            (_, Ok(outcome)) => outcome.unwrap_or(Outcome::Done),
            (Self::Task(..), Err(error)) => Outcome::failed(error.kind, error.detail),
        };
        Some((id, outcome))
    }

    /// The outcome of work that was not carried out.
    pub(super) fn fail(
        self,
        kind: OpErrorKind,
        detail: impl Into<String>,
    ) -> Option<(OpId, Outcome)> {
        let detail = detail.into();
        self.answer(Err(OpError { kind, detail }))
    }
}

/// A piece of work that may run now.
pub(super) struct Job {
    pub(super) files: Option<Arc<Files>>,
    pub(super) placement: Option<Arc<Placement>>,
    pub(super) work: Work,
}
