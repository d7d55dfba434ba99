//! Windows. Uses the positional calls of std, and checks every component of a path before it is used.
//! Creating a link needs a privilege on Windows, so a link that is planted between check and use is less of
//! a risk than on Unix.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    os::windows::fs::FileExt,
    path::{Component, Path, PathBuf},
};

use super::{Access, escape, file_stat, not_a_file, whole::FileSystem};
use dunlin_core::op::FileStat;

/// Writes from `bufs` at `offset`; may write less.
pub(crate) fn write_vectored_at(
    file: &File,
    bufs: &[IoSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    for buf in bufs.iter().filter(|b| !b.is_empty()) {
        let n = file.seek_write(buf, offset + done as u64)?;
        done += n;
        if n < buf.len() {
            break;
        }
    }
    Ok(done)
}

/// Windows cannot tell what is in the page cache: always `Unsupported`.
pub(crate) fn read_vectored_cached(
    _: &File,
    _: &mut [IoSliceMut<'_>],
    _: u64,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads into `bufs` from `offset`; returns 0 at the end of the file.
pub(crate) fn read_vectored_at(
    file: &File,
    bufs: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    for buf in bufs.iter_mut().filter(|b| !b.is_empty()) {
        let n = file.seek_read(buf, offset + done as u64)?;
        done += n;
        if n < buf.len() {
            break;
        }
    }
    Ok(done)
}

/// Reserves space up to `len`: setting the length does so on NTFS.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    if file.metadata()?.len() < len {
        file.set_len(len)?;
    }
    Ok(())
}

/// How many files this process may have open; `None` means unlimited.
pub(crate) fn open_file_limit() -> Option<u64> {
    None
}

/// Does nothing: this platform has no such limit.
pub(crate) const fn raise_open_file_limit() {}

/// Creates a folder; the permissions of the owner's profile keep others out.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

/// The number of a file: std does not provide it on Windows.
pub(crate) fn file_id(_meta: &fs::Metadata) -> Option<u64> {
    None
}

/// The file system of a folder: std does not provide it on Windows.
pub(crate) fn place_of(_dir: &Path) -> Option<u64> {
    None
}

/// The number of a file system: std does not provide it on Windows.
pub(crate) const fn device(_: &fs::Metadata) -> Option<u64> {
    None
}

/// Whether files keep their numbers: always `false`, as there are none.
pub(crate) fn stable_ids(_dir: &Path) -> bool {
    false
}

/// Does nothing: files are recognised by their content on this platform.
pub(crate) fn mark(_file: &File, _name: &str) {}

/// Always `None`: files are not marked on this platform.
pub(crate) fn marked(_file: &File) -> Option<String> {
    None
}

/// Does nothing: files are not marked on this platform.
pub(crate) fn unmark(_file: &File) {}

/// The offset of the next written bytes: always `at`, as holes are not looked for on this platform.
pub(crate) fn next_data(_file: &File, at: u64) -> io::Result<Option<u64>> {
    Ok(Some(at))
}

/// Whether the owner of a file may execute it: files have no such property on this platform.
pub(crate) fn executable(_meta: &fs::Metadata) -> bool {
    false
}

/// The path of these encoded bytes; `None` if they are not Unicode.
pub(crate) fn path(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Whether `path` still leads to this file: an open file cannot be removed on this platform.
pub(crate) fn same_file(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// A folder below which paths are resolved.
#[derive(Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Opens `dir`, following links: the user chose this path.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self(fs::canonicalize(dir)?))
    }

    /// Opens the regular file `path`.
    pub(crate) fn file(&self, path: &Path, access: Access) -> io::Result<File> {
        let path = self.resolve(path)?;
        let write = access != Access::Read;
        let create = matches!(access, Access::Create { .. });
        let new = matches!(access, Access::New { .. });
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .create(create)
            .create_new(new)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(not_a_file())
        }
    }

    /// Always `None`: files are flushed one by one on this platform.
    pub(crate) fn file_system(&self, _: &Path) -> io::Result<Option<FileSystem>> {
        Ok(None)
    }

    /// Always `None`: file systems have no numbers on this platform.
    pub(crate) fn device(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Length and modification time of the regular file `path`.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        let meta = fs::metadata(self.resolve(path)?)?;
        if meta.is_file() {
            Ok(file_stat(&meta))
        } else {
            Err(not_a_file())
        }
    }

    /// Creates the parents of `path`, and calls `made` for each new folder.
    pub(crate) fn make_parents(&self, path: &Path, mut made: impl FnMut(&Path)) -> io::Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let mut at = PathBuf::new();
        for part in parent.components() {
            at.push(part);
            match fs::create_dir(self.resolve(&at)?) {
                Ok(()) => made(&at),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Removes a file or link.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(self.resolve(path)?)
    }

    /// Renames within this folder.
    ///
    /// # Errors
    /// `AlreadyExists` if something is at `to`.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.resolve(from)?, self.resolve(to)?);
        match fs::hard_link(&from, &to) {
            Ok(()) => return fs::remove_file(from),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
            // FAT has no hard links.
            Err(_) => {}
        }
        match fs::symlink_metadata(&to) {
            Err(e) if e.kind() == ErrorKind::NotFound => fs::rename(from, to),
            Err(e) => Err(e),
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    /// Creates the link `path` to `target`, which the caller has checked.
    pub(crate) fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::windows::fs::symlink_file(target, self.resolve(path)?)
    }

    /// The target of the link `path`.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        fs::read_link(self.resolve(parent)?.join(name))
    }

    /// Does nothing: NTFS keeps a journal of the names in a folder.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.resolve(path).map(drop)
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut at = self.0.clone();
        for part in path.components() {
            let Component::Normal(name) = part else {
                return Err(escape());
            };
            at.push(name);
            match fs::symlink_metadata(&at) {
                Ok(meta) if meta.is_symlink() => return Err(escape()),
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(at)
    }
}
