//! Windows: std's positional calls, and a look at every component of a path before it is used.
//! Making a link needs a privilege there, so a link planted between the look and the use is a
//! lesser worry than on Unix.

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

/// Windows cannot tell what is in memory: always `Unsupported`.
pub(crate) fn read_vectored_cached(
    _: &File,
    _: &mut [IoSliceMut<'_>],
    _: u64,
) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reads into `bufs` from `offset`; 0 at the end of the file.
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

/// How many files this process may have open; `None` without limit.
pub(crate) fn open_file_limit() -> Option<u64> {
    None
}

/// This platform has no such limit.
pub(crate) const fn raise_open_file_limit() {}

/// Makes a folder; its owner's profile keeps others out.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)
}

/// The number of a file: std does not tell on Windows.
pub(crate) fn file_id(_meta: &fs::Metadata) -> Option<u64> {
    None
}

/// Which file system a folder is on: std does not tell on Windows.
pub(crate) fn place_of(_dir: &Path) -> Option<u64> {
    None
}

/// Number of a file system: std does not tell on Windows.
pub(crate) const fn device(_: &fs::Metadata) -> Option<u64> {
    None
}

/// Whether files keep their numbers: there are none here.
pub(crate) fn stable_ids(_dir: &Path) -> bool {
    false
}

/// Files are not marked here: they are known by what they hold.
pub(crate) fn mark(_file: &File, _name: &str) {}

/// Files are not marked here.
pub(crate) fn marked(_file: &File) -> Option<String> {
    None
}

/// Files are not marked here.
pub(crate) fn unmark(_file: &File) {}

/// Where the next bytes that were written begin: not told here.
pub(crate) fn next_data(_file: &File, at: u64) -> io::Result<Option<u64>> {
    Ok(Some(at))
}

/// Whether the owner of a file may execute it: not a property of files here.
pub(crate) fn executable(_meta: &fs::Metadata) -> bool {
    false
}

/// The path that has these encoded bytes; none for names that are not Unicode.
pub(crate) fn path(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// Whether `path` still leads to this very file: an open file cannot be removed here.
pub(crate) fn same_file(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// A folder that paths are resolved below.
#[derive(Debug)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// Opens `dir`, through links if need be: it is the user's own choice.
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

    /// Files are flushed one by one here.
    pub(crate) fn file_system(&self, _: &Path) -> io::Result<Option<FileSystem>> {
        Ok(None)
    }

    /// File systems have no numbers here.
    pub(crate) fn device(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// Length and time of the regular file `path`.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        let meta = fs::metadata(self.resolve(path)?)?;
        if meta.is_file() {
            Ok(file_stat(&meta))
        } else {
            Err(not_a_file())
        }
    }

    /// Makes the folders that `path` lies in, telling `made` of each new one.
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

    /// Renames within the root, to a name that is free: `AlreadyExists` if it is not.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.resolve(from)?, self.resolve(to)?);
        match fs::hard_link(&from, &to) {
            Ok(()) => return fs::remove_file(from),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(e),
            // FAT knows no second names.
            Err(_) => {}
        }
        match fs::symlink_metadata(&to) {
            Err(e) if e.kind() == ErrorKind::NotFound => fs::rename(from, to),
            Err(e) => Err(e),
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
        }
    }

    /// Makes the link `path`, pointing at `target`. The caller has made sure of `target`.
    pub(crate) fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        std::os::windows::fs::symlink_file(target, self.resolve(path)?)
    }

    /// What the link `path` points at.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        fs::read_link(self.resolve(parent)?.join(name))
    }

    /// Makes the names in the folder `path` durable: NTFS keeps a journal of them.
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
