//! What each op does, on one of the threads.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use dunlin_core::{
    BLOCK_LEN, Block, Hasher, Op, OpError, OpErrorKind, Outcome,
    metainfo::{Extent, FileKind},
    op::FileStat,
};

use super::{
    files::{Files, flag},
    handles::PARTS,
    queue::{Job, Shared, Work},
    systems::Group,
    transfer,
};
use crate::platform::{Access, Root, sync_file};

/// Bytes read at a time for hashing: fits the second-level cache beside the hash's own work.
const HASH_RUN: usize = 256 * 1024;

/// Runs a job. Blocks stay in `job` until it is over, so that a panic cannot lose them.
pub(super) fn run(
    shared: &Shared,
    job: &mut Job,
    opened: &mut Option<Arc<Files>>,
    scratch: &mut Vec<u8>,
) -> Outcome {
    #[cfg(test)]
    shared.faults.panic_if_armed();
    let op = match &mut job.work {
        Work::Task(_, task) => {
            return task.take().map_or(Outcome::Done, |task| task());
        }
        Work::Op(op) => op,
    };
    if let Op::Open { torrent, info, .. } = op {
        let Some(placement) = &job.placement else {
            return Outcome::failed(OpErrorKind::NotFound, "nobody said where the torrent goes");
        };
        let before = job.files.as_deref();
        let restored = before.map_or(Ok(()), |files| files.write_again(&shared.handles));
        // What is opened anew is looked at by its paths.
        shared.handles.close_all(*torrent);
        shared.claims().give_up(*torrent);
        let many = shared.many.load(Ordering::Relaxed);
        let open = || Files::open(*torrent, info, placement, before, many);
        return match restored.and_then(|()| open()) {
            #[cfg(test)]
            Ok(mut files) if shared.faults.no_ids.load(Ordering::Relaxed) => {
                files.forget_ids();
                let stats = files.ledger().report();
                *opened = Some(Arc::new(files));
                Outcome::Opened(stats)
            }
            Ok(files) => {
                let stats = files.ledger().report();
                *opened = Some(Arc::new(files));
                Outcome::Opened(stats)
            }
            Err(error) => failed(error),
        };
    }
    let Some(files) = &job.files else {
        if let Op::Release { .. } = op {
            return Outcome::Done;
        }
        return job
            .work
            .fail(OpErrorKind::NotFound, "the torrent is not open");
    };
    let disk = Disk { shared, files };
    let done = match op {
        Op::Read {
            at, len, blocks, ..
        } => disk
            .read(*at, *len, blocks)
            .map(|()| Outcome::Read(std::mem::take(blocks))),
        Op::Write {
            at,
            len,
            blocks,
            hasher,
            ..
        } => disk
            .write(*at, *len, blocks, hasher.as_mut())
            .map(|()| Outcome::Written {
                blocks: std::mem::take(blocks),
                hasher: hasher.take(),
            }),
        Op::Hash {
            at, len, hasher, ..
        } => disk
            .hash(*at, *len, hasher, scratch)
            .map(|()| Outcome::Hashed(std::mem::replace(hasher, Hasher::sha1()))),
        Op::Claim {
            whose, have, claim, ..
        } => disk.claim(whose, have, *claim).map(Outcome::Flushed),
        Op::Confirm { done, .. } => disk.confirm(*done).map(Outcome::Flushed),
        Op::Flush { durable: true, .. } => disk.flush().map(Outcome::Flushed),
        Op::Flush { .. } => disk.look().map(Outcome::Flushed),
        Op::Select { wanted, .. } => disk
            .files
            .select(&shared.handles, wanted)
            .map(|()| Outcome::Done),
        Op::Release { delete, .. } => disk.release(*delete).map(|()| Outcome::Done),
        _ => return Outcome::failed(OpErrorKind::Unsupported, "not an op for the disk"),
    };
    done.unwrap_or_else(|error| job.work.fail(error.kind, error.detail))
}

/// Fills `blocks` from memory, or returns `false`: a file is not open, or the device is needed.
pub(super) fn read_cached(
    shared: &Shared,
    files: &Files,
    at: u64,
    len: u32,
    blocks: &mut [Block],
) -> bool {
    if shared.no_cached_reads.load(Ordering::Relaxed) || check_blocks(len, blocks).is_err() {
        return false;
    }
    let disk = Disk { shared, files };
    let mut all = true;
    let done = disk.each(at, len.into(), |extent, from| {
        all = all
            && match files.place(extent) {
                None => {
                    transfer::zero(blocks, from, extent.len as usize);
                    true
                }
                Some(place) => {
                    let key = (files.torrent, place.file);
                    shared.handles.cached(key, false).is_some_and(|handle| {
                        let len = extent.len as usize;
                        transfer::read_cached(&handle.file, blocks, from, len, place.offset)
                            .inspect_err(|e| {
                                let never = e.kind() == ErrorKind::Unsupported;
                                shared.no_cached_reads.fetch_or(never, Ordering::Relaxed);
                            })
                            .is_ok()
                    })
                }
            };
        Ok(())
    });
    all && done.is_ok()
}

fn failed(error: OpError) -> Outcome {
    Outcome::Failed {
        error,
        blocks: Vec::new(),
    }
}

/// One torrent's files and what all torrents share.
pub(super) struct Disk<'a> {
    pub(super) shared: &'a Shared,
    pub(super) files: &'a Files,
}

impl Disk<'_> {
    /// Calls `act` with each extent of a range, and how far into the range it starts.
    fn each(
        &self,
        at: u64,
        len: u64,
        mut act: impl FnMut(&Extent, usize) -> Result<(), OpError>,
    ) -> Result<(), OpError> {
        let end = at.checked_add(len);
        if end.is_none_or(|end| end > self.files.info.total_len()) {
            return Err(OpError {
                kind: OpErrorKind::Io,
                detail: "a range beyond the end of the torrent".into(),
            });
        }
        self.files.settle(&self.shared.handles)?;
        let mut from = 0;
        for extent in self.files.info.extents(at, len) {
            act(&extent, from)?;
            from += extent.len as usize;
        }
        Ok(())
    }

    /// Runs `act` on an open file. One that failed is closed, so that the next attempt starts
    /// from the path again: the cause may be gone by then.
    fn with<T>(
        &self,
        file: u32,
        handle: io::Result<Arc<super::handles::Handle>>,
        act: impl FnOnce(&std::fs::File) -> io::Result<T>,
    ) -> Result<T, OpError> {
        handle
            .and_then(|handle| {
                #[cfg(test)]
                self.shared.faults.error_if_armed()?;
                act(&handle.file)
            })
            .map_err(|e| {
                if e.kind() != ErrorKind::UnexpectedEof {
                    self.shared.handles.close((self.files.torrent, file));
                }
                self.files.error(file, &e)
            })
    }

    fn write(
        &self,
        at: u64,
        len: u32,
        blocks: &[Block],
        hasher: Option<&mut Hasher>,
    ) -> Result<(), OpError> {
        check_blocks(len, blocks)?;
        if let Some(hasher) = hasher {
            transfer::feed(hasher, blocks, len as usize);
        }
        let (files, handles) = (self.files, &self.shared.handles);
        if !files.written.load(Ordering::Acquire) {
            // With the first bytes, not with the last: who hears that a torrent is complete
            // expects all of its files.
            self.make_empty_files();
        }
        self.each(at, len.into(), |extent, from| {
            let Some(place) = files.place(extent) else {
                return Ok(());
            };
            let handle = files.writable(handles, place.file);
            self.with(place.file, handle, |file| {
                files.check_reach(place.file, file)?;
                let _system = files.hold_system(place.file, file);
                let done = transfer::write(file, blocks, from, extent.len as usize, place.offset);
                // Only now, also when it failed half-way: a flush beside us that clears the
                // mark before this line is one that sees our bytes.
                files.soil_piece(place.file, at);
                if done.is_ok() {
                    files.reached(place.file, place.offset + extent.len);
                }
                done
            })
        })
    }

    fn read(&self, at: u64, len: u32, blocks: &mut [Block]) -> Result<(), OpError> {
        check_blocks(len, blocks)?;
        let (files, handles) = (self.files, &self.shared.handles);
        self.each(at, len.into(), |extent, from| {
            let Some(place) = files.place(extent) else {
                transfer::zero(blocks, from, extent.len as usize);
                return Ok(());
            };
            let handle = files.readable(handles, place.file);
            self.with(place.file, handle, |file| {
                transfer::read(file, blocks, from, extent.len as usize, place.offset)
            })
        })
    }

    fn hash(
        &self,
        at: u64,
        len: u64,
        hasher: &mut Hasher,
        scratch: &mut Vec<u8>,
    ) -> Result<(), OpError> {
        scratch.resize(HASH_RUN, 0);
        let (files, handles) = (self.files, &self.shared.handles);
        self.each(at, len, |extent, _| {
            let place = files.place(extent);
            let mut done = 0;
            while done < extent.len {
                let buf = &mut scratch[..(extent.len - done).min(HASH_RUN as u64) as usize];
                match &place {
                    None => buf.fill(0),
                    Some(place) => {
                        let handle = files.readable(handles, place.file);
                        self.with(place.file, handle, |file| {
                            transfer::read_exact(file, buf, place.offset + done)
                        })?;
                    }
                }
                hasher.update(buf);
                done += buf.len() as u64;
            }
            Ok(())
        })
    }

    /// Everything written so far is on the medium afterwards, and so are the names of new
    /// files. What could not be flushed stays to be flushed.
    fn flush(&self) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        files.settle(&self.shared.handles)?;
        if files.written.load(Ordering::Acquire) {
            self.make_extras();
        }
        let touched = files.ledger().begin_flush();
        match self.flush_all() {
            Ok(()) => Ok(files.ledger().report()),
            Err(error) => {
                files.ledger().flush_failed(&touched);
                Err(error)
            }
        }
    }

    fn flush_all(&self) -> Result<(), OpError> {
        let files = self.files;
        let inherited = std::mem::take(&mut files.ledger().inherited);
        if let Err(error) = self.flush_inherited(&inherited) {
            files.ledger().inherited = inherited;
            return Err(error);
        }
        let dirty = std::mem::take(&mut files.ledger().dirty);
        // Now, for a file system covers the names that are there when its flush begins.
        let folders = files.take_folders();
        match self.flush_dirty(dirty) {
            Ok(devices) => self.flush_folders(folders, &devices)?,
            Err(error) => {
                files.ledger().folders.extend(folders);
                return Err(error);
            }
        }
        files.systems.close(|| files.ledger().dirty.is_empty());
        Ok(())
    }

    /// Flushes files, many at once where that can be done; says on which file systems everything
    /// was flushed.
    fn flush_dirty(&self, mut dirty: Vec<u32>) -> Result<Vec<u64>, OpError> {
        let files = self.files;
        let devices = self.flush_systems(&mut dirty).inspect_err(|_| {
            dirty.iter().for_each(|&file| files.soil_again(file));
        })?;
        for (i, &file) in dirty.iter().enumerate() {
            if let Err(error) = self.flush_file(file) {
                let rest = dirty.iter().skip(i + 1);
                rest.for_each(|&file| files.soil_again(file));
                return Err(error);
            }
        }
        Ok(devices)
    }

    /// Flushes the file systems that hold many of the files; says which, and leaves in `dirty` what
    /// is still to be flushed, which is everything if it failed.
    fn flush_systems(&self, dirty: &mut Vec<u32>) -> Result<Vec<u64>, OpError> {
        let files = self.files;
        let many = self.shared.many.load(Ordering::Relaxed);
        let (groups, mut rest) = files.systems.group(dirty, many);
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let (mut devices, mut flushed) = (Vec::new(), Vec::new());
        for Group {
            system,
            files: mut group,
        } in groups
        {
            group.iter().for_each(|&file| files.clean(file));
            #[cfg(test)]
            let done = (self.shared.faults.sync_error_if_armed()).and_then(|()| system.sync());
            #[cfg(not(test))]
            let done = system.sync();
            match done {
                Ok(()) => {
                    devices.push(system.device());
                    // One by itself: then the device keeps nothing back of the others either.
                    rest.extend(group.pop());
                    flushed.append(&mut group);
                }
                // A sandbox that does not know the call.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Unsupported | ErrorKind::PermissionDenied
                    ) =>
                {
                    rest.append(&mut group);
                }
                Err(e) => return Err(super::files::error(&files.dir, &e)),
            }
        }
        let root = files.root()?;
        for &file in &flushed {
            self.look_at(root.as_ref(), file)?;
        }
        *dirty = rest;
        Ok(devices)
    }

    /// Makes new names durable; those on `devices` are.
    fn flush_folders(&self, folders: BTreeSet<PathBuf>, devices: &[u64]) -> Result<(), OpError> {
        let files = self.files;
        if folders.is_empty() {
            return Ok(());
        }
        let synced = match Root::open(&files.dir) {
            Err(e) => {
                files.ledger().folders.extend(folders);
                match e.kind() {
                    ErrorKind::NotFound => Ok(()),
                    _ => Err(e),
                }
            }
            Ok(root) => files.sync_folders(folders, |folder| {
                #[cfg(test)]
                self.shared.faults.folder_error_if_armed()?;
                match root.device(folder)? {
                    Some(device) if devices.contains(&device) => Ok(()),
                    _ => root.sync_folder(folder),
                }
            }),
        };
        synced.map_err(|e| super::files::error(&files.dir, &e))
    }

    /// The files as they are now that everything written so far is; nothing is flushed.
    fn look(&self) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        files.settle(&self.shared.handles)?;
        if files.written.load(Ordering::Acquire) {
            self.make_extras();
        }
        let dirty = files.ledger().dirty.clone();
        let root = files.root()?;
        for file in dirty {
            self.look_at(root.as_ref(), file)?;
        }
        Ok(files.ledger().report())
    }

    /// Makes durable what was written to these files before they were opened here. They may be
    /// somebody else's that can only be read.
    fn flush_inherited(&self, inherited: &[u32]) -> Result<(), OpError> {
        let files = self.files;
        if inherited.is_empty() {
            return Ok(());
        }
        let access = match cfg!(windows) {
            true => Access::Write,
            false => Access::Read,
        };
        for &file in inherited {
            let flushed = Root::open(&files.dir)
                .and_then(|root| root.file(files.path(file), access))
                .and_then(|file| sync_file(&file));
            match flushed {
                Err(e)
                    if !matches!(
                        e.kind(),
                        ErrorKind::NotFound
                            | ErrorKind::NotADirectory
                            | ErrorKind::PermissionDenied
                            | ErrorKind::ReadOnlyFilesystem
                            // Media that are never written to, such as an ISO image.
                            | ErrorKind::InvalidInput
                    ) =>
                {
                    return Err(files.error(file, &e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Notes what is at the path of a file that was written to; what is written from here on
    /// does not go into a file that is not there any more.
    fn look_at(&self, root: Option<&Root>, file: u32) -> Result<(), OpError> {
        let files = self.files;
        let looked = match (file, root) {
            (PARTS, None) => Ok(None),
            (PARTS, Some(root)) => {
                let stat = root.stat(files.parts.path());
                super::files::found(stat.map(|stat| files.known(stat)))
            }
            _ => files.look_at(root, file as usize),
        };
        let found = looked.map_err(|e| files.error(file, &e))?;
        if found.is_none() {
            self.shared.handles.close((files.torrent, file));
        }
        files.ledger().note(file, found);
        Ok(())
    }

    fn flush_file(&self, file: u32) -> Result<(), OpError> {
        let files = self.files;
        files.clean(file);
        // Never made anew: if somebody deleted it, there is nothing left to flush.
        let handles = &self.shared.handles;
        let handle = handles.get((files.torrent, file), true, || {
            Root::open(&files.dir)?.file(files.path(file), Access::Write)
        });
        let synced = self.with(file, handle, |f| {
            #[cfg(test)]
            self.shared.faults.sync_error_if_armed()?;
            sync_file(f)
        });
        match synced {
            Ok(()) => {}
            Err(e) if e.kind == OpErrorKind::NotFound => {}
            Err(e) => {
                files.soil(file);
                return Err(e);
            }
        }
        self.look_at(files.root()?.as_ref(), file)
    }

    /// Makes what no block ever touches: empty files, and links within the torrent, whose
    /// targets have to be there first.
    pub(super) fn make_extras(&self) {
        self.make_empty_files();
        if !std::mem::replace(&mut self.files.ledger().links_made, true) {
            self.make_wanted(|i, kind| match kind {
                FileKind::Symlink(target) => self.make_link(i, target),
                _ => Ok(()),
            });
        }
    }

    fn make_empty_files(&self) {
        if !std::mem::replace(&mut self.files.ledger().empty_made, true) {
            let files = self.files.info.files();
            self.make_wanted(|i, kind| match kind {
                FileKind::Regular if files[i].len == 0 => self.make_empty(i),
                _ => Ok(()),
            });
        }
    }

    fn make_wanted(&self, make: impl Fn(usize, &FileKind) -> io::Result<()>) {
        let files = self.files;
        for (i, entry) in files.info.files().iter().enumerate() {
            if files.has(i, flag::WANTED)
                && let Err(e) = make(i, &entry.kind)
            {
                let error = files.error(i as u32, &e);
                self.shared.note(format!("left out: {}", error.detail));
            }
        }
    }

    fn make_empty(&self, index: usize) -> io::Result<()> {
        let made = self.files.make(index as u32)?;
        let stat = self.files.stat_of(&made)?;
        self.files.ledger().stats[index] = Some(stat);
        Ok(())
    }

    /// BEP 47: a link may only point at another entry of the same torrent, and is made
    /// relative, from path to path as they are on this disk.
    fn make_link(&self, index: usize, target: &[String]) -> io::Result<()> {
        let Some(to) = self.link_target(target) else {
            return Err(io::Error::other(
                "the link points at nothing in the torrent",
            ));
        };
        let from = &self.files.paths[index];
        let root = Root::open(&self.files.dir)?;
        self.files.make_parents(&root, from)?;
        match root.symlink(&self.link(index, to), from) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            done => done,
        }
    }

    /// The file that a link points at.
    pub(super) fn link_target(&self, target: &[String]) -> Option<usize> {
        let mut entries = self.files.info.files().iter();
        entries.position(|f| f.path == target && f.kind == FileKind::Regular)
    }

    /// What the link `index` to the file `to` says.
    pub(super) fn link(&self, index: usize, to: usize) -> PathBuf {
        relative(&self.files.paths[index], &self.files.paths[to])
    }

    fn release(&self, delete: bool) -> Result<(), OpError> {
        self.shared.handles.close_all(self.files.torrent);
        let done = match delete {
            true => self.delete(),
            false => Ok(()),
        };
        self.shared.claims().give_up(self.files.torrent);
        done
    }
}

fn check_blocks(len: u32, blocks: &[Block]) -> Result<(), OpError> {
    if blocks.len() * BLOCK_LEN < len as usize {
        return Err(OpError {
            kind: OpErrorKind::Io,
            detail: "fewer blocks than bytes".into(),
        });
    }
    Ok(())
}

/// `to` as seen from the folder of `from`; both plain and relative to the same folder.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let folder = from.parent().unwrap_or(Path::new(""));
    let common = folder
        .components()
        .zip(to.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = folder.components().count() - common;
    let mut path: PathBuf = (0..up).map(|_| "..").collect();
    path.extend(to.components().skip(common));
    path
}
