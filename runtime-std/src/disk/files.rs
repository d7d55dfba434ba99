//! The files of one torrent: their paths, their state, and opening them.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use dunlin_core::{
    OpError, OpErrorKind, TorrentId,
    metainfo::{Extent, FileKind, Info},
    op::FileStat,
};

use super::{
    Allocation, Placement,
    errors::{error, found, is_missing},
    handles::{Handle, Handles, PARTS},
    ledger::{Ledger, Owned},
    parts::Parts,
    systems::Systems,
    transfer,
};
use crate::{
    paths::Names,
    platform::{self, Access, FileSystem, Root},
};

/// The state of one file, as bits.
pub(super) mod flag {
    /// The file is wanted.
    pub(in super::super) const WANTED: u8 = 1;
    /// Unwanted and not on the disk: its bytes of shared pieces are in the parts file.
    pub(in super::super) const IN_PARTS: u8 = 2;
    /// Written to since the last flush.
    pub(in super::super) const DIRTY: u8 = 4;
    /// Space was reserved for the file.
    pub(in super::super) const ALLOCATED: u8 = 8;
    /// Written to since the torrent was opened.
    pub(in super::super) const WRITTEN: u8 = 16;
    /// Claimed for reading, and part of its content is not the torrent's.
    pub(in super::super) const PARTLY: u8 = 32;
}

/// Bytes of zeros written at a time where the file system cannot reserve space.
const ZEROS: usize = 256 * 1024;

/// The files of one torrent.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) torrent: TorrentId,
    pub(super) info: Arc<Info>,
    pub(super) dir: PathBuf,
    /// Paths relative to `dir`, in the order of the torrent.
    pub(super) paths: Vec<PathBuf>,
    pub(super) flags: Vec<AtomicU8>,
    pub(super) parts: Parts,
    pub(super) systems: Arc<Systems>,
    /// How far each file was written since the torrent was opened, in bytes.
    reach: Vec<AtomicU64>,
    pub(super) names: Names,
    allocation: Allocation,
    /// File numbers (inode numbers) stay the same over mounts on the file system of `dir`.
    stable_ids: bool,
    /// The file system that `dir` was on when the torrent was opened.
    place: Option<u64>,
    /// Something was written since the torrent was opened.
    pub(super) written: AtomicBool,
    pub(super) ledger: Mutex<Ledger>,
    /// Held while an empty file is created: to each other, two threads would look like two torrents.
    making: Mutex<()>,
}

/// Where the bytes of an extent are kept.
pub(super) struct Place {
    /// File number, or [`PARTS`].
    pub(super) file: u32,
    /// The offset in that file.
    pub(super) offset: u64,
}

impl Files {
    /// Looks at what is on the disk, and creates nothing. `before` is the same torrent as it was open until
    /// now: what was not flushed then still has to be, and its folder has to exist.
    pub(super) fn open(
        torrent: TorrentId,
        info: &Arc<Info>,
        placement: &Placement,
        before: Option<&Self>,
        many: usize,
    ) -> Result<Self, OpError> {
        let paths = placement.paths(info);
        let place = platform::place_of(&placement.dir);
        if let Some(then) = before.and_then(|before| before.place)
            && place != Some(then)
        {
            // A disk that was unplugged is waited for, not replaced by a new download.
            return Err(OpError {
                kind: OpErrorKind::NotFound,
                detail: format!(
                    "{}: the folder is gone, or on another disk than before",
                    placement.dir.display()
                ),
            });
        }
        let mut above = placement.dir.ancestors();
        let there = above.find(|dir| !dir.as_os_str().is_empty() && dir.exists());
        let files = Self {
            torrent,
            dir: placement.dir.clone(),
            flags: paths.iter().map(|_| AtomicU8::new(flag::WANTED)).collect(),
            parts: Parts::new(info),
            // Errors of earlier writes are reported to descriptors that were open at the time.
            systems: match before {
                Some(before) => Arc::clone(&before.systems),
                None => Arc::new(Systems::new(paths.len(), many)),
            },
            info: Arc::clone(info),
            paths,
            reach: info.files().iter().map(|_| AtomicU64::new(0)).collect(),
            names: placement.names,
            allocation: placement.allocation,
            stable_ids: platform::stable_ids(there.unwrap_or(Path::new("."))),
            place,
            written: AtomicBool::new(false),
            ledger: Mutex::new(Ledger::new(info.piece_count())),
            making: Mutex::new(()),
        };
        files.stat_all()?;
        if let Some(before) = before {
            // What `before` wrote and did not flush.
            let touched = before.ledger().touched.clone();
            files.ledger().touched = touched;
        }
        Ok(files)
    }

    /// Adds existing files and the names of their folders to the first flush.
    fn inherit(&self, stats: &[Option<FileStat>]) {
        let there = |(i, stat): (usize, &Option<FileStat>)| stat.map(|_| i as u32);
        let mut inherited: Vec<u32> = stats.iter().enumerate().filter_map(there).collect();
        if self.parts.is_unsettled() {
            inherited.push(PARTS);
        }
        let mut ledger = self.ledger();
        for &file in &inherited {
            let above = self.path(file).ancestors().skip(1);
            ledger.folders.extend(above.map(Path::to_path_buf));
        }
        ledger.inherited = inherited;
    }

    /// Marks missing files as possibly kept in the parts file of an earlier run, if there is one.
    fn remember_parts(&self, stats: &[Option<FileStat>], parts: Option<FileStat>) {
        if parts.is_none() {
            return;
        }
        for (i, file) in self.info.files().iter().enumerate() {
            let missing = file.kind == FileKind::Regular && file.len > 0 && stats[i].is_none();
            self.set(i, flag::IN_PARTS, missing);
        }
        self.parts.inherit();
    }

    fn stat_all(&self) -> Result<(), OpError> {
        let (mut stats, mut parts) = (vec![None; self.paths.len()], None);
        match Root::open(&self.dir) {
            Ok(root) => {
                let regular = |i: &usize| self.info.files()[*i].kind == FileKind::Regular;
                for i in (0..stats.len()).filter(regular) {
                    let stat = found(root.stat(&self.paths[i]).map(|s| self.known(s)));
                    stats[i] = stat.map_err(|e| self.error(i as u32, &e))?;
                }
                parts = found(root.stat(self.parts.path()).map(|s| self.known(s)))
                    .map_err(|e| self.error(PARTS, &e))?;
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(error(&self.dir, &e)),
        }
        self.remember_parts(&stats, parts);
        self.inherit(&stats);
        let mut ledger = self.ledger();
        ledger.owned = vec![None; stats.len()];
        (ledger.stats, ledger.parts) = (stats, parts);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn forget_ids(&mut self) {
        self.stable_ids = false;
        let mut ledger = self.ledger();
        let Ledger { stats, parts, .. } = &mut *ledger;
        for stat in stats.iter_mut().chain([parts]).flatten() {
            stat.id = None;
        }
    }

    /// `stat` without its file number where numbers do not last.
    pub(super) fn known(&self, stat: FileStat) -> FileStat {
        FileStat {
            id: stat.id.filter(|_| self.stable_ids),
            ..stat
        }
    }

    /// The state of an open file.
    pub(super) fn stat_of(&self, file: &File) -> io::Result<FileStat> {
        Ok(self.known(platform::file_stat(&file.metadata()?)))
    }

    /// The state of what is at the path of a file; `None` if that is not this torrent's file any more,
    /// which then no longer counts as its own.
    pub(super) fn look_at(&self, root: Option<&Root>, file: usize) -> io::Result<Option<FileStat>> {
        let found = match root.map(|root| root.stat(&self.paths[file])) {
            Some(Ok(found)) => Some(self.known(found)),
            None => None,
            Some(Err(e)) if is_missing(&e) => None,
            Some(Err(e)) if platform::is_not_a_file(&e) => None,
            Some(Err(e)) => return Err(e),
        };
        let mut ledger = self.ledger();
        let Some(owned) = ledger.owned.get(file).copied().flatten() else {
            return Ok(found);
        };
        let ours = found.filter(|found| owned.is(found));
        if ours.is_none() {
            ledger.owned[file] = None;
        }
        Ok(ours)
    }

    /// The folder, or `None` if it does not exist.
    pub(super) fn root(&self) -> Result<Option<Root>, OpError> {
        match Root::open(&self.dir) {
            Ok(root) => Ok(Some(root)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(error(&self.dir, &e)),
        }
    }

    pub(super) fn owned(&self, file: u32) -> Option<Owned> {
        self.ledger().owned.get(file as usize).copied().flatten()
    }

    pub(super) fn own(&self, file: u32, owned: Option<Owned>) {
        if let Some(slot) = self.ledger().owned.get_mut(file as usize) {
            *slot = owned;
        }
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

    /// Where `extent` is kept; `None` for padding, which is not stored.
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

    /// The path of a file, relative to the folder.
    pub(super) fn path(&self, file: u32) -> &Path {
        if file == PARTS {
            self.parts.path()
        } else {
            &self.paths[file as usize]
        }
    }

    /// The error of an op for `e`, with the path of the file.
    pub(super) fn error(&self, file: u32, e: &io::Error) -> OpError {
        error(&self.dir.join(self.path(file)), e)
    }

    pub(super) fn readable(&self, handles: &Handles, file: u32) -> io::Result<Arc<Handle>> {
        handles.get((self.torrent, file), false, || {
            let opened = Root::open(&self.dir)?.file(self.path(file), Access::Read)?;
            if let Some(owned) = self.owned(file) {
                let found = self.stat_of(&opened)?;
                if !owned.is(&found) {
                    return Err(replaced());
                }
                let then = self.ledger().stats.get(file as usize).copied().flatten();
                let written = self.has(file as usize, flag::WRITTEN);
                if !written && then.is_some_and(|then| !then.agrees(&found)) {
                    return Err(io::Error::other("it was changed since it was checked"));
                }
            }
            Ok(opened)
        })
    }

    /// A handle for writing. Creates the file, its folders and its space if necessary.
    pub(super) fn writable(&self, handles: &Handles, file: u32) -> io::Result<Arc<Handle>> {
        handles.get((self.torrent, file), true, || self.open_to_write(file))
    }

    /// Called before a write: fails if the file is shorter than what was written to it, so somebody
    /// truncated it. The write would make it longer again and hide the loss.
    pub(super) fn check_reach(&self, file: u32, open: &File) -> io::Result<()> {
        let Some(reach) = self.reach.get(file as usize) else {
            return Ok(());
        };
        // Read before the length, so that a write of another thread in between is not taken for a loss.
        let reach = reach.load(Ordering::Acquire);
        match reach > 0 && open.metadata()?.len() < reach {
            true => Err(ErrorKind::UnexpectedEof.into()),
            false => Ok(()),
        }
    }

    /// Called after a write up to `end`.
    pub(super) fn reached(&self, file: u32, end: u64) {
        if let Some(reach) = self.reach.get(file as usize) {
            reach.fetch_max(end, Ordering::AcqRel);
        }
    }

    /// Called before a write. The result is kept until the file is marked as written to.
    pub(super) fn hold_system(&self, file: u32, open: &File) -> Option<Arc<FileSystem>> {
        let folder = || self.path(file).parent().unwrap_or(Path::new(""));
        self.systems
            .hold(file, open, || Root::open(&self.dir)?.file_system(folder()))
    }

    /// Marks a file and the piece that holds byte `at` of the torrent as written to.
    pub(super) fn soil_piece(&self, file: u32, at: u64) {
        self.soil(file);
        let piece = at / u64::from(self.info.piece_len());
        self.ledger().touched.set(piece as u32);
    }

    /// Marks a file as written to.
    pub(super) fn soil(&self, file: u32) {
        self.written.store(true, Ordering::Release);
        let fresh = if file == PARTS {
            self.parts.soil()
        } else {
            let both = flag::DIRTY | flag::WRITTEN;
            self.flags[file as usize].fetch_or(both, Ordering::AcqRel) & flag::DIRTY == 0
        };
        if fresh {
            self.ledger().dirty.push(file);
        }
    }

    /// Called before a flush of a file: later writes belong to the next flush.
    pub(super) fn clean(&self, file: u32) {
        if file == PARTS {
            self.parts.clean();
        } else {
            self.set(file as usize, flag::DIRTY, false);
        }
    }

    /// Marks a file again that a flush has taken up and not flushed.
    pub(super) fn soil_again(&self, file: u32) {
        self.clean(file);
        self.soil(file);
    }

    /// Creates the folders of `path`. The next flush covers their names and that of `path`.
    pub(super) fn make_parents(&self, root: &Root, path: &Path) -> io::Result<()> {
        let parent = |p: &Path| p.parent().unwrap_or(Path::new("")).to_path_buf();
        root.make_parents(path, |folder| {
            self.ledger().folders.insert(parent(folder));
        })?;
        self.ledger().folders.insert(parent(path));
        Ok(())
    }

    /// Takes the folders whose new names are not durable yet. A flush passes them to
    /// [`Self::sync_folders`], or puts them back.
    pub(super) fn take_folders(&self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.ledger().folders)
    }

    /// Makes new names durable with `sync`, which syncs one folder. If that fails, all of them stay to be
    /// done.
    pub(super) fn sync_folders(
        &self,
        folders: BTreeSet<PathBuf>,
        sync: impl Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let synced = folders.iter().try_for_each(|f| match sync(f) {
            // The folder is gone, or belongs to somebody else.
            Err(e) if is_missing(&e) || e.kind() == ErrorKind::PermissionDenied => Ok(()),
            done => done,
        });
        if synced.is_err() {
            self.ledger().folders.extend(folders);
        }
        synced
    }

    /// Writes what a failed flush may have lost again, as it reads now, so that a later flush can succeed
    /// truthfully. Whether the bytes are still correct is not checked here.
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
        let found = self.stat_of(&handle.file)?;
        if place.file != PARTS && !self.owned(place.file).is_some_and(|owned| owned.is(&found)) {
            // Another file has taken its place.
            handles.close((self.torrent, place.file));
            return Ok(());
        }
        let end = handle.file.metadata()?.len().min(place.offset + len);
        let mut at = place.offset;
        while at < end {
            let part = (end - at).min(buf.len() as u64) as usize;
            transfer::read_exact(&handle.file, &mut buf[..part], at)?;
            let _system = self.hold_system(place.file, &handle.file);
            transfer::write_all(&handle.file, &buf[..part], at)?;
            self.soil(place.file);
            at += part as u64;
        }
        Ok(())
    }

    /// Opens a file for writing, and creates it if it does not exist. A file that exists has to be this
    /// torrent's.
    pub(super) fn make(&self, file: u32) -> io::Result<File> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        self.open_to_write(file)
    }

    fn open_to_write(&self, file: u32) -> io::Result<File> {
        let path = self.path(file);
        let entry = self.info.files().get(file as usize);
        let root = match Root::open(&self.dir) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                platform::make_folders(&self.dir)?;
                Root::open(&self.dir)?
            }
            root => root?,
        };
        let owned = self.owned(file);
        let made = match root.file(path, Access::Write) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if owned.is_some() {
                    // The content is gone: a new file at this path must not be taken for it.
                    self.own(file, None);
                    return Err(io::Error::new(
                        ErrorKind::NotFound,
                        "it was deleted or moved while it was written",
                    ));
                }
                self.make_parents(&root, path)?;
                let executable = entry.is_some_and(|f| f.executable);
                match file {
                    PARTS => root.file(path, Access::Create { executable })?,
                    _ => {
                        let new = root.file(path, Access::New { executable })?;
                        if let Some(reach) = self.reach.get(file as usize) {
                            reach.store(0, Ordering::Release);
                        }
                        new
                    }
                }
            }
            made => {
                let made = made?;
                match owned {
                    _ if file == PARTS => {}
                    Some(owned) if owned.is(&self.stat_of(&made)?) => {}
                    Some(_) => {
                        self.own(file, None);
                        return Err(replaced());
                    }
                    None => {
                        return Err(io::Error::new(
                            ErrorKind::AlreadyExists,
                            "it exists, and is not this torrent's",
                        ));
                    }
                }
                made
            }
        };
        lock(&made)?;
        if let Some(entry) = entry {
            self.own(file, Some(Owned(self.stat_of(&made)?.id)));
            platform::mark(&made, &self.info.info_hash().to_string());
            if self.allocation == Allocation::Full && !self.has(file as usize, flag::ALLOCATED) {
                reserve(&made, entry.len)?;
                self.set(file as usize, flag::ALLOCATED, true);
            }
        }
        Ok(made)
    }
}

fn replaced() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "another file is in its place")
}

/// Locks a file that is open for writing against other torrents, of this process and others, as long as it
/// is open. The lock is advisory, so it only keeps out Dunlin, and it has no effect on file systems without
/// locks.
fn lock(file: &File) -> io::Result<()> {
    if try_lock(file) {
        return Ok(());
    }
    Err(io::Error::new(
        ErrorKind::ResourceBusy,
        "another torrent or program is writing it",
    ))
}

/// Whether the file could be locked; `false` if somebody else has locked it.
pub(super) fn try_lock(file: &File) -> bool {
    // Locks on Windows are mandatory and would keep readers out.
    !cfg!(unix) || !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Reserves the space of `file` up to `len`.
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
