//! Every call that changes a file or folder, in one place, so that tests can record them all and
//! try what a crash after each of them may leave behind (see `crate::crash`).
//!
//! In a normal build each function here is the call it names and nothing else: the recording is
//! compiled into the crate's own tests only. A trait object would have cost a dispatch per block and
//! a type parameter in every user, for a second implementation that only tests have.

#[cfg(test)]
use std::path::PathBuf;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, IoSlice},
    path::Path,
};

use dunlin_core::op::FileStat;

#[cfg(test)]
use super::trace::{self, Change};
use super::{Access, sys, whole};

/// Makes a call on an open file; tests record what it changed if it succeeded.
macro_rules! on_file {
    ($file:expr, $call:expr, $change:expr) => {{
        #[cfg(test)]
        let done = trace::on_file($file, || $call, $change);
        #[cfg(not(test))]
        let done = $call;
        done
    }};
}

/// Makes a call on a path; tests record what it changed if it succeeded.
macro_rules! on_path {
    ($path:expr, $call:expr, $change:expr) => {{
        #[cfg(test)]
        let done = trace::on_path($path, || $call, $change);
        #[cfg(not(test))]
        let done = $call;
        done
    }};
}

/// Writes from `bufs` at `offset`; may write less.
#[inline]
pub(crate) fn write_vectored_at(
    file: &File,
    bufs: &[IoSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    on_file!(
        file,
        sys::write_vectored_at(file, bufs, offset),
        |written| {
            let data = bufs.iter().flat_map(|buf| buf.iter().copied());
            let data = data.take(*written).collect();
            Change::Write { offset, data }
        }
    )
}

/// Reserves space up to `len`; `Unsupported` where the file system cannot.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    on_file!(file, sys::allocate(file, len), |()| Change::AtLeast(len))
}

/// Cuts or extends a file to `len` bytes.
pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    on_file!(file, file.set_len(len), |()| Change::Length(len))
}

/// What was written to `file` is on the medium when this returns.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    on_file!(file, file.sync_all(), |()| Change::Sync)
}

/// Opens `path` for writing, made if missing, emptied if not.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    on_path!(path, File::create(path), |_| Change::Create { empty: true })
}

/// Opens `path` for reading and writing, made if missing.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    on_path!(path, options.open(path), |_| Change::Create {
        empty: false
    })
}

/// Renames a file, replacing what is at `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    on_path!(from, fs::rename(from, to), |()| Change::Rename(to.into()))
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    on_path!(path, fs::remove_file(path), |()| Change::Remove)
}

/// Makes the folder `dir` and those above it. Their names are durable when this returns.
pub(crate) fn make_folders(dir: &Path) -> io::Result<()> {
    make_durably(dir, &|dir| {
        on_path!(dir, fs::create_dir(dir), |()| Change::MakeFolder)
    })
}

/// Makes the folder `dir`, and those above it, for its owner only. Their names are durable when
/// this returns.
pub(crate) fn private_folder(dir: &Path) -> io::Result<()> {
    make_durably(dir, &|dir| {
        on_path!(dir, sys::make_private(dir), |()| Change::MakeFolder)
    })
}

/// Makes `dir` with `make`, and before it the folders above; a folder that exists stays as it is.
fn make_durably(dir: &Path, make: &dyn Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_durably(parent, make)?;
    match make(dir) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
        done => done?,
    }
    match Root::open(parent).and_then(|root| root.sync_folder(Path::new(""))) {
        // A folder that may be written but not read, or one whose file system has no such call:
        // no reason to do without the folder.
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::PermissionDenied | ErrorKind::InvalidInput
            ) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// A folder that paths are resolved below.
#[derive(Debug)]
pub(crate) struct Root {
    root: sys::Root,
    #[cfg(test)]
    dir: PathBuf,
}

impl Root {
    /// Opens `dir`, through links if need be: it is the user's own choice.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            root: sys::Root::open(dir)?,
            #[cfg(test)]
            dir: dir.into(),
        })
    }

    /// Opens the regular file `path`.
    pub(crate) fn file(&self, path: &Path, access: Access) -> io::Result<File> {
        match access {
            Access::Create { .. } | Access::New { .. } => {
                on_path!(&self.dir.join(path), self.root.file(path, access), |_| {
                    Change::Create { empty: false }
                })
            }
            Access::Read | Access::Write => self.root.file(path, access),
        }
    }

    /// Length and time of the regular file `path`.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.root.stat(path)
    }

    /// Makes the folders that `path` lies in, telling `made` of each new one.
    pub(crate) fn make_parents(&self, path: &Path, made: impl FnMut(&Path)) -> io::Result<()> {
        on_path!(
            &self.dir.join(path),
            self.root.make_parents(path, made),
            |()| Change::MakeParents
        )
    }

    /// Removes a file or link.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(path), self.root.remove_file(path), |()| {
            Change::Remove
        })
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(path), self.root.remove_folder(path), |()| {
            Change::Remove
        })
    }

    /// Renames within the root, to a name that is free: `AlreadyExists` if it is not.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(from), self.root.rename_new(from, to), |()| {
            Change::Rename(self.dir.join(to))
        })
    }

    /// Makes the link `path`, pointing at `target`. The caller has made sure of `target`.
    pub(crate) fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        on_path!(
            &self.dir.join(path),
            self.root.symlink(target, path),
            |()| Change::Link(target.into())
        )
    }

    /// What the link `path` points at.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        self.root.link_target(path)
    }

    /// The file system that the folder `path` is on; `None` if a flush of all of it is worth less
    /// than one of each file.
    pub(crate) fn file_system(&self, path: &Path) -> io::Result<Option<FileSystem>> {
        let system = self.root.file_system(path)?;
        Ok(system.map(|system| FileSystem {
            system,
            #[cfg(test)]
            dir: self.dir.join(path),
        }))
    }

    /// Number of the file system that the folder `path` is on, where there are such numbers.
    pub(crate) fn device(&self, path: &Path) -> io::Result<Option<u64>> {
        self.root.device(path)
    }

    /// Makes the names in the folder `path` durable (empty: the root itself).
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(path), self.root.sync_folder(path), |()| {
            Change::Sync
        })
    }
}

/// A file system, open since before what it is to flush was written.
#[derive(Debug)]
pub(crate) struct FileSystem {
    system: whole::FileSystem,
    #[cfg(test)]
    dir: PathBuf,
}

impl FileSystem {
    /// The number that it has.
    pub(crate) fn device(&self) -> u64 {
        self.system.device()
    }

    /// What was written to any of its files and folders is on the medium when this returns, apart
    /// from what the device itself keeps back: the flush of a single file afterwards sees to that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        on_path!(&self.dir, self.system.sync(), |()| Change::SyncAll(
            self.device()
        ))
    }
}
