//! Files that are checked and claimed.

use alloc::{collections::BTreeMap, vec::Vec};

use super::assembly::Assembly;
use super::resume::Record;
use crate::metainfo::Info;
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::torrent::picker::Picker;
use crate::{Bitfield, Instant, Op, OpError, TorrentId};

/// Files that are checked and claimed, and the pieces that are being downloaded into them.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) picker: Picker,
    pub(crate) access: Access,
    pub(crate) assemblies: BTreeMap<u32, Assembly>,
    /// The number of assemblies so far; it numbers each.
    pub(crate) assembled: u64,
    pub(crate) look: Look,
    /// The pieces that could not be read.
    pub(crate) unreadable: Vec<u32>,
    /// Every wanted piece is verified, and its files were confirmed to exist.
    pub(crate) finished: bool,
    /// The number of bytes in the wanted pieces.
    pub(crate) wanted_bytes: u64,
}

/// What the files are claimed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read.
    Read,
    /// To read; an [`Op::Claim`](crate::Op::Claim) to write is in flight.
    Asked,
    /// To write.
    Write,
    /// The claim to write was refused. They are claimed again before they are used.
    Refused,
}

/// Whether the files are being confirmed by their paths.
#[derive(Debug)]
pub(crate) enum Look {
    /// They are not.
    No,
    /// [`Op::Confirm`](crate::Op::Confirm) is in flight, perhaps because of an error with one of them.
    Out(Option<OpError>),
}

impl Open {
    pub(crate) const fn new(picker: Picker, access: Access) -> Self {
        Self {
            picker,
            access,
            assemblies: BTreeMap::new(),
            assembled: 0,
            look: Look::No,
            unreadable: Vec::new(),
            finished: false,
            wanted_bytes: 0,
        }
    }

    /// Whether blocks wait for longer runs of writes while nothing is done with their piece.
    pub(crate) fn has_idle(&self) -> bool {
        let idle = |assembly: &Assembly| assembly.has_waiting() && !assembly.is_busy();
        self.assemblies.values().any(idle)
    }

    /// Restores the blocks of partial pieces, if the record vouches for them.
    pub(crate) fn restore_partial(&mut self, now: Instant, info: &Info, record: Record) {
        if !record.clean {
            return;
        }
        for (piece, blocks) in record.partial {
            let count = info.blocks_in(piece);
            let Some(blocks) = Bitfield::from_wire(&blocks, count) else {
                continue;
            };
            if blocks.is_full() || blocks.count() == 0 || self.picker.have().get(piece) {
                continue;
            }
            self.picker.restore_partial(now, piece, &blocks);
            if self.picker.partial(piece).is_some() {
                let restored = Assembly::restored(info.piece_size(piece), blocks);
                self.assemblies.insert(piece, restored);
            }
        }
    }

    /// Confirms the files by their paths, once at a time: every wanted piece is verified, or an error occurred with a file.
    pub(crate) fn confirm(&mut self, ops: &mut Ops, torrent: TorrentId, trouble: Option<OpError>) {
        if let Look::Out(earlier) = &mut self.look {
            if trouble.is_some() {
                *earlier = trouble;
            }
            return;
        }
        let done = self.picker.is_done() && trouble.is_none();
        self.look = Look::Out(trouble);
        ops.job(Purpose::Disk(torrent, DiskJob::Confirm), |op| Op::Confirm {
            op,
            torrent,
            done,
        });
    }

    /// The files were examined by their paths. Returns the error because of which they were, if there was one.
    pub(crate) fn confirmed(&mut self) -> Option<OpError> {
        match core::mem::replace(&mut self.look, Look::No) {
            Look::Out(trouble) => trouble,
            Look::No => None,
        }
    }

    /// A verified piece could not be read.
    pub(crate) fn unreadable(&mut self, piece: u32) {
        if !self.unreadable.contains(&piece) {
            self.unreadable.push(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Builder;
    use crate::{Config, OpErrorKind};

    #[test]
    fn files_are_confirmed_once_at_a_time_and_the_last_error_is_kept() {
        let info = Builder::file("one", 5).draft().unwrap();
        let info = info.finish(&[[1; 20]]).unwrap().info;
        let picker = Picker::new(&info, Bitfield::full(1));
        let mut open = Open::new(picker, Access::Write);
        let mut ops = Ops::new(&Config::default());
        let trouble = |detail: &str| OpError {
            kind: OpErrorKind::NotFound,
            detail: detail.into(),
        };
        let id = TorrentId(1);
        open.confirm(&mut ops, id, None);
        assert!(matches!(ops.poll(), Some(Op::Confirm { done: true, .. })));
        open.confirm(&mut ops, id, Some(trouble("first")));
        open.confirm(&mut ops, id, Some(trouble("last")));
        open.confirm(&mut ops, id, None);
        assert!(ops.poll().is_none());
        assert_eq!(open.confirmed(), Some(trouble("last")));
        assert_eq!(open.confirmed(), None);
        // With an error, the files are not to be treated as complete.
        open.confirm(&mut ops, id, Some(trouble("again")));
        assert!(matches!(ops.poll(), Some(Op::Confirm { done: false, .. })));
    }
}
