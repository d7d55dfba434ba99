//! The disk, as the driver sees it: ops go in, outcomes come out, at once or later.

mod ram;
#[cfg(test)]
mod tests;

use alloc::{string::String, sync::Arc, vec::Vec};

use dunlin_core::dht::Saved;
use dunlin_core::metainfo::Info;
use dunlin_core::op::{Claim, OpError, Whose};
use dunlin_core::{Bitfield, Block, Hasher, Instant, Op, OpErrorKind, OpId, Outcome, TorrentId};

pub use ram::{NoDisk, RamDisk};

/// A disk op, taken out of [`Op`].
#[derive(Debug)]
pub struct DiskOp {
    /// What its outcome has to carry.
    pub id: OpId,
    /// Whose files.
    pub torrent: TorrentId,
    /// What to do.
    pub job: DiskJob,
}

/// What to do; the documentation of [`Op`]'s variants holds.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are those of Op")]
pub enum DiskJob {
    /// See [`Op::Open`].
    Open { info: Arc<Info> },
    /// See [`Op::Read`].
    Read {
        at: u64,
        len: u32,
        blocks: Vec<Block>,
    },
    /// See [`Op::Write`].
    Write {
        at: u64,
        len: u32,
        blocks: Vec<Block>,
        hasher: Option<Hasher>,
    },
    /// See [`Op::Hash`].
    Hash { at: u64, len: u64, hasher: Hasher },
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
    /// Takes a disk op out of `op`.
    ///
    /// # Errors
    /// The op itself, if it is of another kind.
    pub fn take(op: Op) -> Result<Self, Op> {
        let (id, torrent, job) = match op {
            Op::Open { op, torrent, info } => (op, torrent, DiskJob::Open { info }),
            Op::Read {
                op,
                torrent,
                at,
                len,
                blocks,
            } => (op, torrent, DiskJob::Read { at, len, blocks }),
            Op::Write {
                op,
                torrent,
                at,
                len,
                blocks,
                hasher,
            } => {
                let job = DiskJob::Write {
                    at,
                    len,
                    blocks,
                    hasher,
                };
                (op, torrent, job)
            }
            Op::Hash {
                op,
                torrent,
                at,
                len,
                hasher,
            } => (op, torrent, DiskJob::Hash { at, len, hasher }),
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

    /// The op failed: its blocks come home.
    #[must_use]
    pub fn fail(self, kind: OpErrorKind, detail: impl Into<String>) -> Outcome {
        let blocks = match self.job {
            DiskJob::Read { blocks, .. } | DiskJob::Write { blocks, .. } => blocks,
            _ => Vec::new(),
        };
        let detail = detail.into();
        let error = OpError { kind, detail };
        Outcome::Failed { error, blocks }
    }
}

/// A disk. Law 1 is its to keep: each op that went in comes out with exactly one outcome, and
/// with the blocks that went in.
///
/// Ops of one torrent that overlap may be carried out in any order, except that
/// [`DiskJob::Claim`], [`DiskJob::Confirm`], [`DiskJob::Flush`] and [`DiskJob::Release`] come
/// after all that was submitted before them. A storage that keeps what belongs to one torrent
/// apart from everything else may answer each claim with the files as they are.
/// At most [`Config::max_jobs`](dunlin_core::Config::max_jobs) ops are out at once.
pub trait Storage {
    /// Takes an op on.
    fn submit(&mut self, now: Instant, op: DiskOp);
    /// The next op that is done by `now`.
    fn poll(&mut self, now: Instant) -> Option<(OpId, Outcome)>;
    /// Keeps the DHT's table for [`Config::dht_saved`](dunlin_core::Config::dht_saved) of the next
    /// start. A storage that does not keep it leaves the node to its routers.
    fn save_dht(&mut self, saved: Saved) -> Outcome {
        drop(saved);
        Outcome::Done
    }
    /// When [`Storage::poll`] will have something; `None` if nothing is out, or if the platform
    /// wakes the driver by itself.
    fn poll_timeout(&self) -> Option<Instant>;
}
