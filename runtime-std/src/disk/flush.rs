//! Makes written data durable, and checks files by their paths.

use std::{collections::BTreeSet, io::ErrorKind, path::PathBuf, sync::atomic::Ordering};

use dunlin_core::{OpError, OpErrorKind, op::FileStat};

use super::{
    access::Disk, common::Common, errors, extras::Extras, files::Files, handles::PARTS,
    systems::Group,
};
use crate::platform::{Access, Root, sync_file};

/// A flush of one torrent's files.
pub(super) struct Flush<'a> {
    pub(super) shared: &'a Common,
    pub(super) files: &'a Files,
}

impl Flush<'_> {
    const fn disk(&self) -> Disk<'_> {
        Disk {
            shared: self.shared,
            files: self.files,
        }
    }

    const fn extras(&self) -> Extras<'_> {
        Extras {
            shared: self.shared,
            files: self.files,
        }
    }

    /// Makes everything written so far durable, including the names of new files. What could not be flushed
    /// is tried again by the next flush.
    pub(super) fn run(&self) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        self.disk().selection().settle()?;
        if files.written.load(Ordering::Acquire) {
            self.extras().make();
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
        // Taken now: flushing a file system covers the names that exist when the flush begins.
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

    /// Flushes files, whole file systems at once where that is possible. Returns the file systems that were
    /// flushed completely.
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

    /// Flushes the file systems that hold many of the files. Returns them, and leaves in `dirty` the files
    /// that still have to be flushed: all of them after a failure.
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
                    // One file is flushed by itself as well, which makes the device write its cache for all
                    // of them.
                    rest.extend(group.pop());
                    flushed.append(&mut group);
                }
                // The call is blocked by a sandbox.
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Unsupported | ErrorKind::PermissionDenied
                    ) =>
                {
                    rest.append(&mut group);
                }
                Err(e) => return Err(errors::error(&files.dir, &e)),
            }
        }
        let root = files.root()?;
        for &file in &flushed {
            self.look_at(root.as_ref(), file)?;
        }
        *dirty = rest;
        Ok(devices)
    }

    /// Makes new names durable; those on `devices` already are.
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
        synced.map_err(|e| errors::error(&files.dir, &e))
    }

    /// Waits for the writes so far and returns the current state of the files; flushes nothing.
    pub(super) fn look(&self) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        self.disk().selection().settle()?;
        if files.written.load(Ordering::Acquire) {
            self.extras().make();
        }
        let dirty = files.ledger().dirty.clone();
        let root = files.root()?;
        for file in dirty {
            self.look_at(root.as_ref(), file)?;
        }
        Ok(files.ledger().report())
    }

    /// Makes durable what was written to these files before they were opened here. They may belong to
    /// somebody else and be readable only.
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
                            // Read-only media, such as an ISO image.
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

    /// Records what is at the path of a file that was written to. If the file is no longer there, later
    /// writes do not go into the file that was deleted.
    fn look_at(&self, root: Option<&Root>, file: u32) -> Result<(), OpError> {
        let files = self.files;
        let looked = match (file, root) {
            (PARTS, None) => Ok(None),
            (PARTS, Some(root)) => {
                let stat = root.stat(files.parts.path());
                errors::found(stat.map(|stat| files.known(stat)))
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
        // Never created again: if the file was deleted, there is nothing left to flush.
        let handles = &self.shared.handles;
        let handle = handles.get((files.torrent, file), true, || {
            Root::open(&files.dir)?.file(files.path(file), Access::Write)
        });
        let synced = self.disk().with(file, handle, |f| {
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
}
