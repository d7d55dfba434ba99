//! What the application wants of a torrent's content, and in which order.

use alloc::{collections::BTreeMap, vec::Vec};

use super::deadlines::Deadlines;
use super::selection::Selection;
use crate::metainfo::{FileKind, Info};
use crate::torrent::outbox::ops::{DiskJob, Ops, Purpose};
use crate::torrent::picker::{Picker, Priority, Sequential};
use crate::torrent::status::FilePriority;
use crate::{Op, TorrentId};

/// Sequential order from the first piece to the last.
const WHOLE: Sequential = Sequential {
    from: 0,
    window: u32::MAX,
};

/// What the application wants of the content.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Of the files, in the order of the metadata. Those that are not listed have the default.
    pub(crate) priorities: Vec<FilePriority>,
    pub(crate) selection: Selection,
    pub(crate) sequential: bool,
    /// The deadlines of pieces, while there is no picker.
    pub(crate) deadlines: Deadlines,
}

impl Wanted {
    pub(crate) fn new(priorities: Vec<FilePriority>, sequential: bool) -> Self {
        Self {
            priorities,
            selection: Selection::default(),
            sequential,
            deadlines: Deadlines::default(),
        }
    }

    /// Whether a file is wanted.
    pub(crate) fn wants(&self, file: usize) -> bool {
        self.priorities.get(file) != Some(&FilePriority::Skip)
    }

    /// The order of the pieces, if they are wanted in order.
    pub(crate) fn order(&self) -> Option<Sequential> {
        self.sequential.then_some(WHOLE)
    }

    /// Tells the disk which files are wanted.
    pub(crate) fn select(
        &mut self,
        ops: &mut Ops,
        torrent: TorrentId,
        info: &Info,
        read_only: bool,
    ) {
        if self.priorities.is_empty() && !read_only {
            return;
        }
        // Where nothing may be written, no file is assembled from a parts file.
        let wanted = (0..info.files().len())
            .map(|file| !read_only && self.wants(file))
            .collect();
        self.selection.asked();
        ops.job(Purpose::Disk(torrent, DiskJob::Select), |op| Op::Select {
            op,
            torrent,
            wanted,
        });
    }

    /// Sets the priorities of pieces in a picker. Returns the number of bytes in the wanted pieces.
    pub(crate) fn prioritise(&self, picker: &mut Picker, info: &Info, read_only: bool) -> u64 {
        if self.priorities.is_empty() {
            if read_only {
                (0..info.piece_count()).for_each(|p| picker.set_priority(p, Priority::Skip));
            }
            return info.total_len();
        }
        // A piece has the highest priority of the files in it.
        let mut of_piece: BTreeMap<u32, FilePriority> = BTreeMap::new();
        for (file, f) in info.files().iter().enumerate() {
            if f.kind != FileKind::Regular {
                continue;
            }
            let priority = self.priorities.get(file).copied().unwrap_or_default();
            for piece in info.pieces_of(file) {
                let p = of_piece.entry(piece).or_insert(FilePriority::Skip);
                *p = (*p).max(priority);
            }
        }
        let mut wanted = 0;
        for piece in 0..info.piece_count() {
            let priority = of_piece.get(&piece).copied().unwrap_or(FilePriority::Skip);
            if priority != FilePriority::Skip {
                wanted += u64::from(info.piece_size(piece));
            }
            picker.set_priority(
                piece,
                match priority {
                    _ if read_only => Priority::Skip,
                    FilePriority::Skip => Priority::Skip,
                    FilePriority::Low => Priority::Low,
                    FilePriority::Normal => Priority::Normal,
                    FilePriority::High => Priority::High,
                },
            );
        }
        wanted
    }
}
