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
    OpError, OpErrorKind, TorrentId,
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
#[derive(Debug, Default)]
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
    /// Empty files were made.
    pub(super) empty_made: bool,
    /// Links were made.
    pub(super) links_made: bool,
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
            ledger: Mutex::default(),
            making: Mutex::new(()),
        };
        let stats = files.stat_all().map_err(|e| error(&files.dir, &e))?;
        files.remember_parts(&stats);
        files.inherit(&stats);
        files.ledger().stats = stats;
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

    fn stat_all(&self) -> io::Result<Vec<Option<FileStat>>> {
        let root = match Root::open(&self.dir) {
            Ok(root) => root,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(vec![None; self.paths.len()]),
            Err(e) => return Err(e),
        };
        let regular = |i: usize| self.info.files()[i].kind == FileKind::Regular;
        let stat =
            |(i, path): (usize, &PathBuf)| regular(i).then(|| root.stat(path).ok()).flatten();
        Ok(self.paths.iter().enumerate().map(stat).collect())
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
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                Ok(())
            }
            done => done,
        });
        if synced.is_err() {
            self.ledger().folders.extend(folders);
        }
        synced
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
