//! The layout of pieces, blocks and files in the bytes of a torrent.

use alloc::{string::String, vec::Vec};
use core::ops::Range;

use super::{MAX_PIECE_LEN, MAX_PIECES, Problem};
use crate::{BLOCK_LEN, BlockRef};

/// A file of a torrent. Its names are those of the torrent and not yet safe to use as a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The path below the torrent's own folder, of at least one element; in a single-file torrent the name
    /// of the file. No element is empty, `.` or `..`, or contains a separator, a control character or a
    /// mark that changes the direction of text: these are replaced when a torrent is parsed, so that a path
    /// looks the same everywhere.
    pub path: Vec<String>,
    /// The length in bytes.
    pub len: u64,
    /// The offset in the bytes of the torrent.
    pub offset: u64,
    /// The kind of the entry.
    pub kind: FileKind,
    /// Marked executable (BEP 47 `x`).
    pub executable: bool,
    /// Marked hidden (BEP 47 `h`).
    pub hidden: bool,
}

/// The kind of a file entry (BEP 47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with content.
    Regular,
    /// Zeros that align the next file to a piece, or an entry without bytes that only names a folder; never
    /// written to disk.
    Padding,
    /// A symbolic link to this path inside the torrent.
    Symlink(Vec<String>),
}

/// A range of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index into [`Layout::files`].
    pub file: usize,
    /// Offset in the file.
    pub offset: u64,
    /// The length in bytes, at least 1.
    pub len: u64,
}

/// Files that are concatenated and cut into pieces (BEP 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    piece_len: u32,
    len: u64,
    files: Vec<File>,
}

impl Layout {
    /// Concatenates `files` in this order, and sets their offsets.
    pub(super) fn new(piece_len: u64, mut files: Vec<File>) -> Result<Self, Problem> {
        let piece_len = u32::try_from(piece_len)
            .ok()
            .filter(|len| (1..=MAX_PIECE_LEN).contains(len))
            .ok_or(Problem::PieceLen(piece_len))?;
        let mut len = 0u64;
        for file in &mut files {
            file.offset = len;
            // Offsets in files are signed on most systems.
            len = len
                .checked_add(file.len)
                .filter(|&len| len <= i64::MAX as u64)
                .ok_or(Problem::TotalTooLarge)?;
        }
        if len == 0 {
            return Err(Problem::NoData);
        }
        let pieces = len.div_ceil(u64::from(piece_len));
        if pieces > u64::from(MAX_PIECES) {
            return Err(Problem::TooManyPieces(pieces));
        }
        Ok(Self {
            piece_len,
            len,
            files,
        })
    }

    /// The length in bytes, including padding.
    #[must_use]
    pub const fn total_len(&self) -> u64 {
        self.len
    }

    /// The length in bytes of every piece except the last.
    #[must_use]
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// The number of pieces.
    #[must_use]
    pub const fn piece_count(&self) -> u32 {
        self.len.div_ceil(self.piece_len as u64) as u32
    }

    /// The files, in order of their offsets.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The length in bytes of piece `index`; 0 beyond the last piece.
    #[must_use]
    pub fn piece_size(&self, index: u32) -> u32 {
        let start = self.piece_offset(index);
        self.len
            .saturating_sub(start)
            .min(u64::from(self.piece_len)) as u32
    }

    /// The offset of piece `index` in the bytes of the torrent.
    #[must_use]
    pub const fn piece_offset(&self, index: u32) -> u64 {
        index as u64 * self.piece_len as u64
    }

    /// The number of blocks of piece `index`.
    #[must_use]
    pub(crate) fn blocks_in(&self, index: u32) -> u32 {
        self.piece_size(index).div_ceil(BLOCK_LEN as u32)
    }

    /// Block number `block` of piece `index`; `None` if there is no such block.
    #[must_use]
    pub(crate) fn block(&self, index: u32, block: u32) -> Option<BlockRef> {
        let begin = block.checked_mul(BLOCK_LEN as u32)?;
        let left = self
            .piece_size(index)
            .checked_sub(begin)
            .filter(|&left| left > 0)?;
        Some(BlockRef {
            piece: index,
            begin,
            len: left.min(BLOCK_LEN as u32),
        })
    }

    /// The pieces that contain bytes of file number `file`; empty for an empty file or a wrong number.
    #[must_use]
    pub fn pieces_of(&self, file: usize) -> Range<u32> {
        match self.files.get(file) {
            Some(f) if f.len > 0 => {
                let piece = u64::from(self.piece_len);
                (f.offset / piece) as u32..((f.offset + f.len - 1) / piece + 1) as u32
            }
            _ => 0..0,
        }
    }

    /// The ranges of files that hold the bytes `at .. at + len`, in order. The first one is found by binary
    /// search.
    pub fn extents(&self, at: u64, len: u64) -> impl Iterator<Item = Extent> + '_ {
        let end = at.saturating_add(len).min(self.len);
        let first = self.files.partition_point(|f| f.offset + f.len <= at);
        self.files[first..]
            .iter()
            .enumerate()
            .take_while(move |(_, f)| f.offset < end)
            .filter(|(_, f)| f.len > 0)
            .map(move |(i, f)| {
                let from = at.max(f.offset);
                Extent {
                    file: first + i,
                    offset: from - f.offset,
                    len: end.min(f.offset + f.len) - from,
                }
            })
    }
}
