//! Creating torrents: names and sizes in, a layout out; piece hashes in, a torrent out. Drivers read and
//! hash the files.

use alloc::{format, string::String, vec::Vec};

use bendy::encoding::{Error as EmitError, SingleItemEncoder};

use super::{
    Error, File, FileKind, Info, Layout, MAX_FILES, MAX_PATH_ELEMENTS, MAX_PIECE_LEN, MAX_PIECES,
    Place, Problem, Torrent,
    info::check_depth,
    torrent::{emit_dict, emit_strings, pair},
};
use crate::sync::Arc;

/// The smallest and the largest piece length that is chosen automatically. With shorter pieces, hashes and
/// `have` messages grow; with longer ones, clients wait long for the first piece that they can share.
const AUTO_PIECE_LEN: (u32, u32) = (16 << 10, 16 << 20);
/// The number of pieces aimed at; their hashes take 40 KiB.
const AUTO_PIECES: u64 = 2048;

/// The piece length for `total` bytes: the smallest power of two from 16 KiB to 16 MiB that
/// makes at most 2048 pieces; more than 16 MiB only where there would be too many pieces to load.
#[must_use]
pub(crate) const fn auto_piece_len(total: u64) -> u32 {
    let (mut len, top) = AUTO_PIECE_LEN;
    loop {
        let pieces = total.div_ceil(len as u64);
        let fine = pieces <= AUTO_PIECES || (len >= top && pieces <= MAX_PIECES as u64);
        if fine || len >= MAX_PIECE_LEN {
            return len;
        }
        len *= 2;
    }
}

/// The content of a new torrent, as far as it is part of the hash.
#[derive(Clone, Debug)]
pub struct Builder {
    name: String,
    multi: bool,
    files: Vec<File>,
    /// Bytes in a piece, any number up to [`MAX_PIECE_LEN`]. `None` takes the smallest power of two from 16
    /// KiB to 16 MiB that makes at most 2048 pieces, or a longer one if there would be too many pieces to
    /// load.
    pub piece_len: Option<u32>,
    /// Whether peers may come from its trackers only (BEP 27).
    pub private: bool,
    /// The site that the torrent is made for; it gives equal content another info-hash.
    pub source: Option<String>,
    /// Whether every file starts at a piece, with padding in between (BEP 47), so that files can be shared
    /// and checked separately.
    pub align: bool,
}

impl Builder {
    /// A torrent of one file of `len` bytes.
    #[must_use]
    pub fn file(name: &str, len: u64) -> Self {
        let mut builder = Self::folder(name);
        builder.multi = false;
        builder.add(Vec::from([name.into()]), len);
        builder
    }

    /// A torrent of a folder without files.
    #[must_use]
    pub fn folder(name: &str) -> Self {
        Self {
            name: name.into(),
            multi: true,
            files: Vec::new(),
            piece_len: None,
            private: false,
            source: None,
            align: false,
        }
    }

    /// Adds a file of `len` bytes at `path` below the folder. Attributes can be set on the result:
    /// [`File::executable`], [`File::hidden`], or [`File::kind`] (a link has length 0).
    pub fn add(&mut self, path: Vec<String>, len: u64) -> &mut File {
        let file = File {
            path,
            len,
            offset: 0,
            kind: FileKind::Regular,
            executable: false,
            hidden: false,
        };
        self.files.push(file);
        let last = self.files.len() - 1;
        &mut self.files[last]
    }

    /// Sorts the files by path, so that equal content makes equal torrents, and lays them out.
    ///
    /// # Errors
    /// A name, path or length that a torrent cannot have.
    pub fn draft(mut self) -> Result<Draft, Error> {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.check().map_err(|(place, p)| p.made(place))?;
        let total = self
            .files
            .iter()
            .map(|f| f.len)
            .fold(0, u64::saturating_add);
        let piece_len = self.piece_len.unwrap_or(auto_piece_len(total));
        let files = if self.align {
            padded(self.files, piece_len)
        } else {
            self.files
        };
        if files.len() > MAX_FILES {
            return Err(Problem::TooManyFiles.made(Place::Info("files")));
        }
        let layout = Layout::new(piece_len.into(), files).map_err(|p| match p {
            Problem::PieceLen(_) | Problem::TooManyPieces(_) => p.made(Place::Info("piece length")),
            _ => p.made(Place::Info("files")),
        })?;
        Ok(Draft {
            name: self.name,
            multi: self.multi,
            private: self.private,
            source: self.source,
            layout,
        })
    }

    fn check(&self) -> Result<(), (Place, Problem)> {
        if self.name.is_empty() {
            return Err((Place::Info("name"), Problem::EmptyName));
        }
        if self.files.is_empty() {
            return Err((Place::Info("files"), Problem::NoFiles));
        }
        let mut elements = 0usize;
        for (i, file) in self.files.iter().enumerate() {
            let target = match &file.kind {
                FileKind::Symlink(target) => Some(target),
                _ => None,
            };
            for path in [Some(&file.path), target].into_iter().flatten() {
                check_depth(path.len()).map_err(|p| (Place::File(i, "path"), p))?;
                if path.iter().any(String::is_empty) {
                    return Err((Place::File(i, "path"), Problem::EmptyName));
                }
                elements += path.len();
            }
            if target.is_some() && file.len > 0 {
                return Err((Place::File(i, "length"), Problem::LinkWithData));
            }
            // Sorted, a path comes right before those below it.
            if i > 0 && file.path.starts_with(&self.files[i - 1].path) {
                return Err((Place::File(i, "path"), Problem::DuplicatePath));
            }
        }
        if elements > MAX_PATH_ELEMENTS {
            return Err((Place::Info("files"), Problem::TooManyPathElements));
        }
        Ok(())
    }
}

/// `files`, with padding so that each one that has bytes starts at a piece.
fn padded(files: Vec<File>, piece_len: u32) -> Vec<File> {
    let piece_len = u64::from(piece_len.max(1));
    let mut out = Vec::with_capacity(files.len() * 2);
    let mut over = 0;
    for file in files {
        if over > 0 && file.len > 0 {
            let len = piece_len - over;
            out.push(File {
                path: Vec::from([".pad".into(), format!("{len}")]),
                len,
                offset: 0,
                kind: FileKind::Padding,
                executable: false,
                hidden: false,
            });
            over = 0;
        }
        over = (over + file.len % piece_len) % piece_len;
        out.push(file);
    }
    out
}

/// A new torrent without its hashes.
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    multi: bool,
    private: bool,
    source: Option<String>,
    layout: Layout,
}

impl Draft {
    /// The files in their final order, and the pieces to hash.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The torrent, given the SHA-1 of every piece in order. Trackers, comment and the like are then set on
    /// it.
    ///
    /// # Errors
    /// The number of hashes is wrong, or the torrent would be too long to load.
    pub fn finish(self, hashes: &[[u8; 20]]) -> Result<Torrent, Error> {
        let info = Info::from_raw(self.emit(hashes.as_flattened()))?;
        Ok(Torrent::new(Arc::new(info)))
    }

    fn emit(&self, hashes: &[u8]) -> Vec<u8> {
        let single = match self.layout.files() {
            [file] if !self.multi => Some(file),
            _ => None,
        };
        emit_dict(|mut d| {
            match single {
                Some(file) => {
                    pair(&mut d, b"attr", attr(file).as_ref())?;
                    d.emit_pair(b"length", file.len)?;
                }
                None => d.emit_pair_with(b"files", |e| emit_files(e, self.layout.files()))?,
            }
            d.emit_pair_with(b"name", |e| e.emit_str(&self.name))?;
            d.emit_pair(b"piece length", self.layout.piece_len())?;
            d.emit_pair_with(b"pieces", |e| e.emit_bytes(hashes))?;
            if self.private {
                d.emit_pair(b"private", 1)?;
            }
            pair(&mut d, b"source", self.source.as_ref())
        })
    }
}

fn emit_files(e: SingleItemEncoder<'_>, files: &[File]) -> Result<(), EmitError> {
    e.emit_list(|e| {
        files.iter().try_for_each(|file| {
            e.emit_dict(|mut d| {
                pair(&mut d, b"attr", attr(file).as_ref())?;
                d.emit_pair(b"length", file.len)?;
                d.emit_pair_with(b"path", |e| emit_strings(e, &file.path))?;
                match &file.kind {
                    FileKind::Symlink(target) => {
                        d.emit_pair_with(b"symlink path", |e| emit_strings(e, target))
                    }
                    FileKind::Regular | FileKind::Padding => Ok(()),
                }
            })
        })
    })
}

/// The letters of BEP 47.
fn attr(file: &File) -> Option<String> {
    let letters = [
        (matches!(file.kind, FileKind::Padding), 'p'),
        (matches!(file.kind, FileKind::Symlink(_)), 'l'),
        (file.executable, 'x'),
        (file.hidden, 'h'),
    ];
    let attr: String = letters
        .iter()
        .filter(|(set, _)| *set)
        .map(|l| l.1)
        .collect();
    (!attr.is_empty()).then_some(attr)
}
