//! The wanted files, and the priorities of pieces that follow from them.

use alloc::collections::BTreeMap;

use crate::metainfo::{FileKind, Info};
use crate::torrent::picker::{Picker, Priority};
use crate::torrent::status::FilePriority;

/// Whether the disk has followed the selection of files.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    /// The number of [`Op::Select`](crate::Op::Select)s in flight.
    out: u32,
    /// Whether the last one failed: wanted files may still be in the parts file.
    pub(crate) failed: bool,
}

impl Selection {
    pub(crate) const fn asked(&mut self) {
        self.out += 1;
    }

    pub(crate) const fn answered(&mut self, failed: bool) {
        self.out = self.out.saturating_sub(1);
        self.failed = failed;
    }

    /// Whether every wanted file that is complete is at its place.
    pub(crate) const fn is_applied(&self) -> bool {
        self.out == 0 && !self.failed
    }
}

/// Sets the priorities of pieces in a picker. Returns the number of bytes in the wanted pieces.
pub(crate) fn prioritise(
    picker: &mut Picker,
    info: &Info,
    priorities: &[FilePriority],
    read_only: bool,
) -> u64 {
    if priorities.is_empty() {
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
        let priority = priorities.get(file).copied().unwrap_or_default();
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
