//! The disk as the driver sees it: it accepts ops and returns outcomes, at once or later.

mod ram;
#[cfg(test)]
mod tests;

use alloc::{string::String, sync::Arc, vec::Vec};

use dunlin_core::dht::Saved;
use dunlin_core::metainfo::Info;
use dunlin_core::op::{Claim, HashJob, ReadJob, Whose, WriteJob};
use dunlin_core::{Bitfield, Instant, Op, OpError, OpErrorKind, OpId, Outcome, TorrentId};

pub use ram::{NoDisk, RamDisk};

/// A disk op, taken from [`Op`].
#[derive(Debug)]
pub struct DiskOp {
    /// The id that its outcome must carry.
    pub id: OpId,
    /// The torrent whose files it concerns.
    pub torrent: TorrentId,
    /// What to do.
    pub job: DiskJob,
}

/// What to do. The documentation of [`Op`]'s variants applies.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are those of Op")]
pub enum DiskJob {
    /// See [`Op::Open`].
    Open { info: Arc<Info> },
    /// See [`Op::Read`].
    Read(ReadJob),
    /// See [`Op::Write`].
    Write(WriteJob),
    /// See [`Op::Hash`].
    Hash(HashJob),
    /// See [`Op::Claim`].
    Claim {
        whose: Vec<Whose>,
        have: Bitfield,
        claim: Claim,
    },
    /// See [`Op::Confirm`].
    Confirm,
    /// See [`Op::Flush`].
    Flush { durable: bool },
    /// See [`Op::Select`].
    Select { wanted: Vec<bool> },
    /// See [`Op::Release`].
    Release { delete: bool },
    /// See [`Op::Save`].
    Save { record: Vec<u8> },
}

impl DiskOp {
    /// Takes a disk op from `op`.
    ///
    /// # Errors
    /// The op itself, when it is of another kind.
    pub fn take(op: Op) -> Result<Self, Op> {
        let (id, torrent, job) = match op {
            Op::Open { op, torrent, info } => (op, torrent, DiskJob::Open { info }),
            Op::Read(job) => (job.op, job.torrent, DiskJob::Read(job)),
            Op::Write(job) => (job.op, job.torrent, DiskJob::Write(job)),
            Op::Hash(job) => (job.op, job.torrent, DiskJob::Hash(job)),
            Op::Claim {
                op,
                torrent,
                whose,
                have,
                claim,
            } => (op, torrent, DiskJob::Claim { whose, have, claim }),
            Op::Confirm { op, torrent, .. } => (op, torrent, DiskJob::Confirm),
            Op::Flush {
                op,
                torrent,
                durable,
            } => (op, torrent, DiskJob::Flush { durable }),
            Op::Select {
                op,
                torrent,
                wanted,
            } => (op, torrent, DiskJob::Select { wanted }),
            Op::Release {
                op,
                torrent,
                delete,
            } => (op, torrent, DiskJob::Release { delete }),
            Op::Save {
                op,
                torrent,
                record,
            } => (op, torrent, DiskJob::Save { record }),
            other => return Err(other),
        };
        Ok(Self { id, torrent, job })
    }

    /// The outcome of an op that failed, which returns its blocks.
    #[must_use]
    pub fn fail(self, kind: OpErrorKind, detail: impl Into<String>) -> Outcome {
        let detail = detail.into();
        let error = OpError { kind, detail };
        match self.job {
            DiskJob::Read(job) => job.fail(error),
            DiskJob::Write(job) => job.fail(error),
            DiskJob::Hash(job) => job.fail(error),
            _ => Outcome::failed(error.kind, error.detail),
        }
    }
}

/// A disk, which must keep law 1: each op that was submitted gets exactly one outcome. What an
/// op was lent comes home with it: `done` and `fail` of its job make the outcome.
///
/// Overlapping ops of one torrent may be carried out in any order, except that [`DiskJob::Claim`],
/// [`DiskJob::Confirm`], [`DiskJob::Flush`] and [`DiskJob::Release`] come after everything that was
/// submitted before them. A storage that keeps the data of each torrent apart may answer a claim
/// with the files as they are. At most [`Config::max_jobs`](dunlin_core::Config::max_jobs) ops are
/// outstanding at once.
pub trait Storage {
    /// Accepts an op.
    fn submit(&mut self, now: Instant, op: DiskOp);
    /// The next op that is done by `now`, with its outcome.
    fn poll(&mut self, now: Instant) -> Option<(OpId, Outcome)>;
    /// Saves the DHT's table for [`Config::dht_saved`](dunlin_core::Config::dht_saved) of the next
    /// start. Without it, the node bootstraps from its routers.
    fn save_dht(&mut self, saved: Saved) -> Outcome {
        drop(saved);
        Outcome::Done
    }
    /// When [`Storage::poll`] will have something; `None` when no op is outstanding, or the
    /// platform wakes the driver itself.
    fn poll_timeout(&self) -> Option<Instant>;
}
