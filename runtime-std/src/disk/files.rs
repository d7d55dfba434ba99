//! The files of one torrent: where they are, what was done to them, and opening them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use dunlin_core::{
    Bitfield, OpError, OpErrorKind, TorrentId,
    metainfo::{Extent, FileKind, Info},
    op::FileStat,
};

use super::{
    Allocation, Placement,
    handles::{Handle, Handles, PARTS},
    parts::Parts,
    transfer,
};
use crate::platform::{self, Access, Root};

/// What is known of one file, as bits.
pub(super) mod flag {
    /// Somebody wants it.
    pub(in super::super) const WANTED: u8 = 1;
    /// Unwanted and not on the disk: its bytes of shared pieces are in the parts file.
    pub(in super::super) const IN_PARTS: u8 = 2;
    /// Written to since the last flush.
    pub(in super::super) const DIRTY: u8 = 4;
    /// Its space was reserved.
    pub(in super::super) const ALLOCATED: u8 = 8;
}

/// Zeros are written in pieces of this size where space cannot be reserved otherwise.
const ZEROS: usize = 256 * 1024;

/// One torrent on the disk.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) torrent: TorrentId,
    pub(super) info: Arc<Info>,
    pub(super) dir: PathBuf,
    /// Below `dir`, in the order of the torrent.
    pub(super) paths: Vec<PathBuf>,
    pub(super) flags: Vec<AtomicU8>,
    pub(super) parts: Parts,
    allocation: Allocation,
    /// Something was written since the torrent was opened.
    pub(super) written: AtomicBool,
    pub(super) ledger: Mutex<Ledger>,
    /// Held while a file is made, so that two threads do not both fill it with zeros.
    making: Mutex<()>,
}

/// What a flush has to see to.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Files with [`flag::DIRTY`]; [`PARTS`] is the parts file.
    pub(super) dirty: Vec<u32>,
    /// Files that were there at the opening, until the first flush: an earlier process, or an
    /// earlier opening by this one, may have written to them and not flushed.
    pub(super) inherited: Vec<u32>,
    /// Folders that got new names.
    pub(super) folders: BTreeSet<PathBuf>,
    /// As of the opening or the last flush.
    pub(super) stats: Vec<Option<FileStat>>,
    /// The same of the parts file.
    pub(super) parts: Option<FileStat>,
    /// Pieces written to since the last flush that succeeded.
    touched: Bitfield,
    /// A flush failed: the system may have forgotten what was written to those pieces.
    suspect: bool,
    /// Empty files were made.
    pub(super) empty_made: bool,
    /// Links were made.
    pub(super) links_made: bool,
}

impl Ledger {
    fn new(pieces: u32) -> Self {
        Self {
            dirty: Vec::new(),
            inherited: Vec::new(),
            folders: BTreeSet::new(),
            stats: Vec::new(),
            parts: None,
            touched: Bitfield::new(pieces),
            suspect: false,
            empty_made: false,
            links_made: false,
        }
    }

    /// What an outcome says of the files.
    pub(super) fn report(&self) -> Vec<Option<FileStat>> {
        let parts = self.parts.map(Some);
        self.stats.iter().copied().chain(parts).collect()
    }

    /// Notes how a file is now; [`PARTS`] is the parts file.
    pub(super) fn note(&mut self, file: u32, stat: Option<FileStat>) {
        if file == PARTS {
            self.parts = stat;
        } else if let Some(known) = self.stats.get_mut(file as usize) {
            *known = stat;
        }
    }

    /// A flush begins: returns the pieces that are durable if it succeeds.
    pub(super) fn begin_flush(&mut self) -> Bitfield {
        let none = Bitfield::new(self.touched.len());
        std::mem::replace(&mut self.touched, none)
    }

    /// A flush failed for these pieces.
    pub(super) fn flush_failed(&mut self, touched: &Bitfield) {
        touched.iter().for_each(|piece| {
            self.touched.set(piece);
        });
        self.suspect = true;
    }
}

/// Where the bytes of an extent are.
pub(super) struct Place {
    /// File number, or [`PARTS`].
    pub(super) file: u32,
    /// Offset there.
    pub(super) offset: u64,
}

impl Files {
    /// Looks at what is on the disk; makes nothing.
    pub(super) fn open(
        torrent: TorrentId,
        info: &Arc<Info>,
        placement: &Placement,
        before: Option<&Self>,
    ) -> Result<Self, OpError> {
        let paths = placement.paths(info);
        let files = Self {
            torrent,
            dir: placement.dir.clone(),
            flags: paths.iter().map(|_| AtomicU8::new(flag::WANTED)).collect(),
            parts: Parts::new(info),
            info: Arc::clone(info),
            paths,
            allocation: placement.allocation,
            written: AtomicBool::new(false),
            ledger: Mutex::new(Ledger::new(info.piece_count())),
            making: Mutex::new(()),
        };
        files.stat_all()?;
        if let Some(before) = before {
            // Nobody flushed them yet.
            let touched = before.ledger().touched.clone();
            files.ledger().touched = touched;
        }
        Ok(files)
    }

    /// Has the first flush cover what is there already, its names included.
    fn inherit(&self, stats: &[Option<FileStat>]) {
        let there = |(i, stat): (usize, &Option<FileStat>)| stat.map(|_| i as u32);
        let mut inherited: Vec<u32> = stats.iter().enumerate().filter_map(there).collect();
        if self.parts.were_there() {
            inherited.push(PARTS);
        }
        let mut ledger = self.ledger();
        for &file in &inherited {
            let above = self.path(file).ancestors().skip(1);
            ledger.folders.extend(above.map(Path::to_path_buf));
        }
        ledger.inherited = inherited;
    }

    fn stat_all(&self) -> Result<(), OpError> {
        let (mut stats, mut parts) = (vec![None; self.paths.len()], None);
        match Root::open(&self.dir) {
            Ok(root) => {
                let regular = |i: &usize| self.info.files()[*i].kind == FileKind::Regular;
                for i in (0..stats.len()).filter(regular) {
                    let stat = found(root.stat(&self.paths[i]));
                    stats[i] = stat.map_err(|e| self.error(i as u32, &e))?;
                }
                parts = found(root.stat(self.parts.path())).map_err(|e| self.error(PARTS, &e))?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(error(&self.dir, &e)),
        }
        self.remember_parts(&stats, parts);
        self.inherit(&stats);
        let mut ledger = self.ledger();
        (ledger.stats, ledger.parts) = (stats, parts);
        Ok(())
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, file: usize, bit: u8) -> bool {
        self.flags
            .get(file)
            .is_some_and(|f| f.load(Ordering::Acquire) & bit != 0)
    }

    pub(super) fn set(&self, file: usize, bit: u8, on: bool) {
        if let Some(flags) = self.flags.get(file) {
            if on {
                flags.fetch_or(bit, Ordering::AcqRel);
            } else {
                flags.fetch_and(!bit, Ordering::AcqRel);
            }
        }
    }

    /// Where `extent` is kept; `None` for padding, which is kept nowhere.
    pub(super) fn place(&self, extent: &Extent) -> Option<Place> {
        let file = &self.info.files()[extent.file];
        if file.kind != FileKind::Regular {
            return None;
        }
        if self.has(extent.file, flag::IN_PARTS) {
            return Some(Place {
                file: PARTS,
                offset: self.parts.offset(&self.info, file.offset + extent.offset),
            });
        }
        Some(Place {
            file: extent.file as u32,
            offset: extent.offset,
        })
    }

    /// Path of a file by number, below the folder.
    pub(super) fn path(&self, file: u32) -> &Path {
        if file == PARTS {
            self.parts.path()
        } else {
            &self.paths[file as usize]
        }
    }

    /// `e` as an outcome has it, with the path.
    pub(super) fn error(&self, file: u32, e: &io::Error) -> OpError {
        error(&self.dir.join(self.path(file)), e)
    }

    pub(super) fn readable(&self, handles: &Handles, file: u32) -> io::Result<Arc<Handle>> {
        handles.get((self.torrent, file), false, || {
            Root::open(&self.dir)?.file(self.path(file), Access::Read)
        })
    }

    /// A handle to write with; the file, its folders and its space are made if need be.
    pub(super) fn writable(&self, handles: &Handles, file: u32) -> io::Result<Arc<Handle>> {
        handles.get((self.torrent, file), true, || self.make(file))
    }

    /// Notes that a file is being written to, for the piece that holds byte `at` of the torrent.
    pub(super) fn soil_piece(&self, file: u32, at: u64) {
        self.soil(file);
        let piece = at / u64::from(self.info.piece_len());
        self.ledger().touched.set(piece as u32);
    }

    /// Notes that a file is being written to.
    pub(super) fn soil(&self, file: u32) {
        self.written.store(true, Ordering::Release);
        let fresh = if file == PARTS {
            self.parts.soil()
        } else {
            self.flags[file as usize].fetch_or(flag::DIRTY, Ordering::AcqRel) & flag::DIRTY == 0
        };
        if fresh {
            self.ledger().dirty.push(file);
        }
    }

    /// Makes the folders that `path` lies in; the next flush covers their names and that of `path`.
    pub(super) fn make_parents(&self, root: &Root, path: &Path) -> io::Result<()> {
        let parent = |p: &Path| p.parent().unwrap_or(Path::new("")).to_path_buf();
        root.make_parents(path, |folder| {
            self.ledger().folders.insert(parent(folder));
        })?;
        self.ledger().folders.insert(parent(path));
        Ok(())
    }

    /// Makes new names durable. What failed stays to be done.
    pub(super) fn sync_folders(&self, root: &Root) -> io::Result<()> {
        let folders = std::mem::take(&mut self.ledger().folders);
        let synced = folders.iter().try_for_each(|f| match root.sync_folder(f) {
            // Gone, or somebody else's.
            Err(e) if is_missing(&e) || e.kind() == ErrorKind::PermissionDenied => Ok(()),
            done => done,
        });
        if synced.is_err() {
            self.ledger().folders.extend(folders);
        }
        synced
    }

    /// Writes what a failed flush may have lost once more, as it reads now, so that a later flush
    /// is not about nothing. Whether it still is what it should be is for others to find out.
    pub(super) fn write_again(&self, handles: &Handles) -> Result<(), OpError> {
        if !self.ledger().suspect {
            return Ok(());
        }
        let touched = self.ledger().touched.clone();
        let mut buf = vec![0; ZEROS];
        for piece in touched.iter() {
            let (at, len) = (self.info.piece_offset(piece), self.info.piece_size(piece));
            for extent in self.info.extents(at, len.into()) {
                let Some(place) = self.place(&extent) else {
                    continue;
                };
                let copied = self.copy_onto_itself(handles, &place, extent.len, &mut buf);
                copied.map_err(|e| {
                    handles.close((self.torrent, place.file));
                    self.error(place.file, &e)
                })?;
            }
        }
        self.ledger().suspect = false;
        Ok(())
    }

    fn copy_onto_itself(
        &self,
        handles: &Handles,
        place: &Place,
        len: u64,
        buf: &mut [u8],
    ) -> io::Result<()> {
        let open = || Root::open(&self.dir)?.file(self.path(place.file), Access::Write);
        let handle = match handles.get((self.torrent, place.file), true, open) {
            Err(e) if is_missing(&e) => return Ok(()),
            handle => handle?,
        };
        let end = handle.file.metadata()?.len().min(place.offset + len);
        let mut at = place.offset;
        while at < end {
            let part = (end - at).min(buf.len() as u64) as usize;
            transfer::read_exact(&handle.file, &mut buf[..part], at)?;
            transfer::write_all(&handle.file, &buf[..part], at)?;
            self.soil(place.file);
            at += part as u64;
        }
        Ok(())
    }

    /// Opens a file for writing, made if missing.
    pub(super) fn make(&self, file: u32) -> io::Result<File> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(file);
        let entry = self.info.files().get(file as usize);
        let root = match Root::open(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                platform::make_folders(&self.dir)?;
                Root::open(&self.dir)?
            }
            root => root?,
        };
        let made = match root.file(path, Access::Write) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.make_parents(&root, path)?;
                let executable = entry.is_some_and(|f| f.executable);
                root.file(path, Access::Create { executable })?
            }
            made => made?,
        };
        if let Some(entry) = entry
            && self.allocation == Allocation::Full
            && !self.has(file as usize, flag::ALLOCATED)
        {
            reserve(&made, entry.len)?;
            self.set(file as usize, flag::ALLOCATED, true);
        }
        Ok(made)
    }
}

/// Takes up the space of `file` up to `len`.
fn reserve(file: &File, len: u64) -> io::Result<()> {
    if len == 0 {
        return Ok(());
    }
    match platform::allocate(file, len) {
        Err(e) if e.kind() == ErrorKind::Unsupported => {}
        done => return done,
    }
    let mut at = file.metadata()?.len();
    let zeros = vec![0; ZEROS];
    while at < len {
        let part = (len - at).min(ZEROS as u64);
        transfer::write_all(file, &zeros[..part as usize], at)?;
        at += part;
    }
    Ok(())
}

/// Whether an error says that nothing is there. Any other says nothing about what is there: a
/// process that may open no more files has not lost its content.
fn is_missing(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// `None` in place of an error that says that nothing is there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if is_missing(&e) => Ok(None),
        result => result.map(Some),
    }
}

/// `e` as an outcome has it.
pub(crate) fn error(path: &Path, e: &io::Error) -> OpError {
    let kind = match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => OpErrorKind::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpErrorKind::Denied,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpErrorKind::NoSpace,
        ErrorKind::UnexpectedEof => OpErrorKind::Truncated,
        ErrorKind::FileTooLarge => OpErrorKind::TooLarge,
        _ => OpErrorKind::Io,
    };
    let words = match e.kind() {
        ErrorKind::UnexpectedEof => "the file ends too early".to_owned(),
        _ => e.to_string(),
    };
    OpError {
        kind,
        detail: format!("{}: {words}", path.display()),
    }
}
