//! A check of the pieces on disk.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use super::verifier::{Judgement, Verifier};
use crate::metainfo::Info;
use crate::op::HashJob;
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::{Bitfield, Hasher, Op, OpError, OpErrorKind, Outcome, TorrentId};

/// How many pieces a check hashes at once.
const CHECKS_IN_FLIGHT: usize = 16;

/// A check of the pieces on disk.
#[derive(Debug)]
pub(crate) struct Checking {
    queue: VecDeque<u32>,
    /// The pieces that are being hashed.
    out: BTreeSet<u32>,
    done: u32,
    total: u32,
    have: Bitfield,
}

/// What follows from the hash of a piece.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// Nothing: the check was interrupted, and has requested this hash again.
    Stale,
    /// The check continues.
    Continues,
    /// It was the last piece.
    Finished,
    /// The disk does not work, which says nothing about the piece.
    Failed(OpError),
}

impl Checking {
    /// A check of doubtful pieces; those that are known to be good are passed beside them.
    pub(crate) fn new(have: Bitfield, doubted: Vec<u32>) -> Self {
        Self {
            total: doubted.len() as u32,
            queue: doubted.into(),
            out: BTreeSet::new(),
            done: 0,
            have,
        }
    }

    /// The number of pieces that were hashed, and the number of all that are to be.
    pub(crate) const fn progress(&self) -> (u32, u32) {
        (self.done, self.total)
    }

    /// Whether there is nothing left to hash.
    pub(crate) fn is_finished(&self) -> bool {
        self.queue.is_empty() && self.out.is_empty()
    }

    /// The pieces that are good, as far as they were hashed.
    pub(crate) fn into_have(self) -> Bitfield {
        self.have
    }

    /// Hashes the next pieces, as many as may be hashed at once.
    pub(crate) fn advance(&mut self, ops: &mut Ops, torrent: TorrentId, info: &Info) {
        while self.out.len() < CHECKS_IN_FLIGHT {
            let Some(piece) = self.queue.pop_front() else {
                break;
            };
            self.out.insert(piece);
            let (at, len) = (info.piece_offset(piece), u64::from(info.piece_size(piece)));
            ops.job(Purpose::Disk(torrent, DiskJob::Check { piece }), |op| {
                Op::Hash(HashJob::new(op, torrent, at, len, Hasher::sha1()))
            });
        }
    }

    /// Handles the hash of a piece.
    pub(crate) fn hashed(&mut self, info: &Info, piece: u32, outcome: Outcome) -> Checked {
        if !self.out.contains(&piece) {
            return Checked::Stale;
        }
        let there = match outcome {
            Outcome::Hashed(hasher) => {
                Verifier::new(info).judge(piece, hasher.finish()) == Judgement::Passed
            }
            // The file is missing or ends early, so the piece is missing. Any other error says nothing about the piece: it must
            // not be downloaded again because, say, the process may not open more files.
            Outcome::Failed { error, .. }
                if !matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated) =>
            {
                return Checked::Failed(error);
            }
            _ => false,
        };
        if there {
            self.have.set(piece);
        }
        self.out.remove(&piece);
        self.done += 1;
        match self.is_finished() {
            true => Checked::Finished,
            false => Checked::Continues,
        }
    }

    /// Puts the pieces that are being hashed back to the front of the queue.
    pub(crate) fn halt(&mut self) {
        for piece in core::mem::take(&mut self.out).into_iter().rev() {
            self.queue.push_front(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::Config;
    use crate::hash::sha1;
    use crate::metainfo::Builder;
    use crate::sync::Arc;

    const PIECE: usize = 16 << 10;

    /// 20 pieces, each of which is filled with its index.
    fn info() -> Arc<Info> {
        let hashes: Vec<[u8; 20]> = (0..20).map(|i| sha1(&[i; PIECE])).collect();
        let mut builder = Builder::file("checked", 20 * PIECE as u64);
        builder.piece_len = Some(PIECE as u32);
        builder.draft().unwrap().finish(&hashes).unwrap().info
    }

    fn hash_of(filling: u8) -> Outcome {
        let mut hasher = Hasher::sha1();
        hasher.update(&[filling; PIECE]);
        Outcome::Hashed(hasher)
    }

    fn failed(kind: OpErrorKind) -> Outcome {
        Outcome::Failed {
            error: OpError {
                kind,
                detail: "it failed".into(),
            },
            blocks: Vec::new(),
        }
    }

    /// The pieces that the driver is asked to hash.
    fn asked(checking: &mut Checking, info: &Info) -> Vec<u64> {
        let mut ops = Ops::new(&Config::default());
        checking.advance(&mut ops, TorrentId(1), info);
        let mut asked = Vec::new();
        while let Some(op) = ops.poll() {
            match op {
                Op::Hash(job) => asked.push(job.at / PIECE as u64),
                other => panic!("{other:?}"),
            }
        }
        asked
    }

    #[test]
    fn a_piece_is_verified_only_if_its_bytes_are_there() {
        let info = info();
        let mut checking = Checking::new(Bitfield::new(20), vec![3, 4, 5, 6]);
        assert_eq!(asked(&mut checking, &info), [3, 4, 5, 6]);
        assert_eq!(checking.hashed(&info, 3, hash_of(3)), Checked::Continues);
        assert_eq!(checking.hashed(&info, 4, hash_of(3)), Checked::Continues);
        let cut = failed(OpErrorKind::Truncated);
        assert_eq!(checking.hashed(&info, 5, cut), Checked::Continues);
        let gone = failed(OpErrorKind::NotFound);
        assert_eq!(checking.hashed(&info, 6, gone), Checked::Finished);
        assert_eq!(checking.progress(), (4, 4));
        assert_eq!(checking.into_have().iter().collect::<Vec<u32>>(), [3]);
    }

    #[test]
    fn a_check_that_was_halted_hashes_again_what_was_in_flight() {
        let info = info();
        let mut checking = Checking::new(Bitfield::new(20), (0..20).collect());
        assert!(asked(&mut checking, &info).into_iter().eq(0..16));
        assert_eq!(checking.hashed(&info, 2, hash_of(2)), Checked::Continues);
        let broken = checking.hashed(&info, 1, failed(OpErrorKind::Io));
        assert!(matches!(broken, Checked::Failed(_)));
        checking.halt();
        // An answer from before the halt counts for nothing.
        assert_eq!(checking.hashed(&info, 0, hash_of(0)), Checked::Stale);
        assert_eq!(checking.progress(), (1, 20));
        let again = asked(&mut checking, &info);
        assert!(again.into_iter().eq([0, 1].into_iter().chain(3..17)));
    }
}
