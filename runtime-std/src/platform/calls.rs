//! Every call that changes a file or folder, in one place, so that tests can record all of them and try
//! what a crash after each may leave behind (see `crate::crash`).
//!
//! In a normal build each function here only makes the call that it names: the recording is compiled into
//! this crate's own tests only. A trait object would cost a dispatch for each block, and a type parameter
//! would spread to every user, for a second implementation that only tests have.

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

/// Makes a call on an open file. In tests, records what it changed if it succeeded.
macro_rules! on_file {
    ($file:expr, $call:expr, $change:expr) => {{
        #[cfg(test)]
        let done = trace::on_file($file, || $call, $change);
        #[cfg(not(test))]
        let done = $call;
        done
    }};
}

/// Makes a call on a path. In tests, records what it changed if it succeeded.
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

/// Reserves space up to `len`.
///
/// # Errors
/// `Unsupported` if the file system cannot.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    on_file!(file, sys::allocate(file, len), |()| Change::AtLeast(len))
}

/// Truncates or extends a file to `len` bytes.
pub(crate) fn set_len(file: &File, len: u64) -> io::Result<()> {
    on_file!(file, file.set_len(len), |()| Change::Length(len))
}

/// Makes everything written to `file` durable.
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    on_file!(file, file.sync_all(), |()| Change::Sync)
}

/// Opens `path` for writing, empty; creates it if it does not exist.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    on_path!(path, File::create(path), |_| Change::Create { empty: true })
}

/// Opens `path` for reading and writing; creates it if it does not exist.
pub(crate) fn open_or_create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    on_path!(path, options.open(path), |_| Change::Create {
        empty: false
    })
}

/// Renames a file, and replaces what is at `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    on_path!(from, fs::rename(from, to), |()| Change::Rename(to.into()))
}

/// Removes a file.
pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    on_path!(path, fs::remove_file(path), |()| Change::Remove)
}

/// Creates the folder `dir` and its parents, durably.
pub(crate) fn make_folders(dir: &Path) -> io::Result<()> {
    make_durably(dir, &|dir| {
        on_path!(dir, fs::create_dir(dir), |()| Change::MakeFolder)
    })
}

/// Creates the folder `dir` and its parents, durably, accessible by their owner only.
pub(crate) fn private_folder(dir: &Path) -> io::Result<()> {
    make_durably(dir, &|dir| {
        on_path!(dir, sys::make_private(dir), |()| Change::MakeFolder)
    })
}

/// Creates `dir` with `make`, and its parents before it; folders that exist are not changed.
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
        // The folder may be writable but not readable, or its file system has no such call. That does not
        // make the folder unusable.
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

/// A folder below which paths are resolved.
#[derive(Debug)]
pub(crate) struct Root {
    root: sys::Root,
    #[cfg(test)]
    dir: PathBuf,
}

impl Root {
    /// Opens `dir`, following links: the user chose this path.
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

    /// Length, modification time and number of the regular file `path`.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.root.stat(path)
    }

    /// Creates the parents of `path`, and calls `made` for each new folder.
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

    /// Renames within this folder.
    ///
    /// # Errors
    /// `AlreadyExists` if something is at `to`.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(from), self.root.rename_new(from, to), |()| {
            Change::Rename(self.dir.join(to))
        })
    }

    /// Creates the link `path` to `target`, which the caller has checked.
    pub(crate) fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        on_path!(
            &self.dir.join(path),
            self.root.symlink(target, path),
            |()| Change::Link(target.into())
        )
    }

    /// The target of the link `path`.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        self.root.link_target(path)
    }

    /// The file system of the folder `path`; `None` if flushing all of it guarantees less than flushing
    /// each file.
    pub(crate) fn file_system(&self, path: &Path) -> io::Result<Option<FileSystem>> {
        let system = self.root.file_system(path)?;
        Ok(system.map(|system| FileSystem {
            system,
            #[cfg(test)]
            dir: self.dir.join(path),
        }))
    }

    /// The number of the file system of the folder `path`, where there are such numbers.
    pub(crate) fn device(&self, path: &Path) -> io::Result<Option<u64>> {
        self.root.device(path)
    }

    /// Makes the names in the folder `path` durable (empty for the folder itself).
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        on_path!(&self.dir.join(path), self.root.sync_folder(path), |()| {
            Change::Sync
        })
    }
}

/// A file system, opened before the writes that it is to flush.
#[derive(Debug)]
pub(crate) struct FileSystem {
    system: whole::FileSystem,
    #[cfg(test)]
    dir: PathBuf,
}

impl FileSystem {
    /// The number of the file system.
    pub(crate) fn device(&self) -> u64 {
        self.system.device()
    }

    /// Makes everything written to its files and folders durable, except for what the device keeps in its
    /// own cache: flushing a single file afterwards takes care of that.
    pub(crate) fn sync(&self) -> io::Result<()> {
        on_path!(&self.dir, self.system.sync(), |()| Change::SyncAll(
            self.device()
        ))
    }
}
