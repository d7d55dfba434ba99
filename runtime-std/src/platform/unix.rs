//! Unix. Paths are resolved below an open folder, so a symbolic link planted in it cannot lead outside,
//! even in a race.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, IoSliceMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Component, Path},
};

use rustix::{
    fs::{
        AtFlags, CWD, Mode, OFlags, linkat, mkdirat, openat, renameat, statat, symlinkat, unlinkat,
    },
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::{Access, escape, file_stat, not_a_file, whole::FileSystem};
use dunlin_core::op::FileStat;

/// Writes from `bufs` at `offset`; may write less.
pub(crate) fn write_vectored_at(
    file: &File,
    bufs: &[IoSlice<'_>],
    offset: u64,
) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, bufs, offset)?)
}

/// Reads into `bufs` from `offset`; returns 0 at the end of the file.
pub(crate) fn read_vectored_at(
    file: &File,
    bufs: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    Ok(rustix::io::preadv(file, bufs, offset)?)
}

/// Like [`read_vectored_at`], from the page cache only.
///
/// # Errors
/// `WouldBlock` if the device is needed; `Unsupported` if the system cannot tell.
pub(crate) fn read_vectored_cached(
    file: &File,
    bufs: &mut [IoSliceMut<'_>],
    offset: u64,
) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        match preadv2(file, bufs, offset, ReadWriteFlags::NOWAIT) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            done => return Ok(done?),
        }
    }
    let _ = (file, bufs, offset);
    Err(ErrorKind::Unsupported.into())
}

/// Reserves space up to `len`.
///
/// # Errors
/// `Unsupported` if the file system cannot.
pub(crate) fn allocate(file: &File, len: u64) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        use rustix::{fs::FallocateFlags, io::Errno};
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            done => return Ok(done?),
        }
    }
    let _ = (file, len);
    Err(ErrorKind::Unsupported.into())
}

/// Limits of open files to try. The first is more than Dunlin ever uses; macOS refuses it even where it
/// reports no limit, and accepts the second.
const OPEN_FILES: [u64; 2] = [65_536, 10_240];

/// How many files this process may have open; `None` means unlimited.
pub(crate) fn open_file_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Raises the limit of open files as far as an unprivileged process may.
pub(crate) fn raise_open_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    for most in OPEN_FILES {
        let most = limit.maximum.map_or(most, |maximum| maximum.min(most));
        let raised = Rlimit {
            current: Some(most),
            ..limit
        };
        let is_lower = limit.current.is_some_and(|current| current < most);
        if !is_lower || setrlimit(Resource::Nofile, raised).is_ok() {
            return;
        }
    }
}

/// Creates a folder that only its owner may access.
pub(crate) fn make_private(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(0o700).create(dir)
}

/// The number of a file in its file system (inode number).
pub(crate) fn file_id(meta: &std::fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::ino(meta))
}

/// The file system of a folder.
pub(crate) fn place_of(dir: &Path) -> Option<u64> {
    let meta = std::fs::metadata(dir).ok()?;
    Some(std::os::unix::fs::MetadataExt::dev(&meta))
}

/// The number of the file system of a file or folder.
pub(crate) fn device(meta: &std::fs::Metadata) -> Option<u64> {
    Some(std::os::unix::fs::MetadataExt::dev(meta))
}

/// Whether files keep their numbers on the file system of `dir`. FAT, and most file systems that are served
/// by other machines or programs, invent numbers while a file is in use.
pub(crate) fn stable_ids(dir: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        /// FAT, exFAT, FUSE, CIFS, SMB 2, SMB, 9P, vboxsf: `statfs(2)` and linux/magic.h.
        const MADE_UP: [u32; 8] = [
            0x4d44,
            0x2011_bab0,
            0x6573_5546,
            0xff53_4d42,
            0xfe53_4d42,
            0x517b,
            0x0102_1997,
            0x786f_4256,
        ];
        match rustix::fs::statfs(dir) {
            Ok(found) => !MADE_UP.contains(&(found.f_type as u32)),
            Err(_) => false,
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = dir;
        true
    }
}

/// The extended attribute that names the torrent that writes a file.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
const MARK: &str = "user.dunlin.torrent";

/// Marks a file as written by the torrent `name`, where the file system supports attributes.
pub(crate) fn mark(file: &File, name: &str) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        let flags = rustix::fs::XattrFlags::empty();
        // Without the mark, the file is recognised by its content.
        let _ = rustix::fs::fsetxattr(file, MARK, name.as_bytes(), flags);
    }
    let _ = (file, name);
}

/// The torrent named by the mark of a file.
pub(crate) fn marked(file: &File) -> Option<String> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        let mut name = [0; 64];
        let len = rustix::fs::fgetxattr(file, MARK, &mut name[..]).ok()?;
        str::from_utf8(name.get(..len)?).ok().map(str::to_owned)
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = file;
        None
    }
}

/// Removes the mark of a file.
pub(crate) fn unmark(file: &File) {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        // There may be no mark.
        let _ = rustix::fs::fremovexattr(file, MARK);
    }
    let _ = file;
}

/// The offset of the next written bytes at or after `at`; `None` if only a hole follows. Returns `at` where
/// the system cannot tell.
pub(crate) fn next_data(file: &File, at: u64) -> io::Result<Option<u64>> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::{fs::SeekFrom, io::Errno};
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NXIO) => Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Some(at)),
            Err(e) => Err(e.into()),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = file;
        Ok(Some(at))
    }
}

/// Whether the owner of a file may execute it.
pub(crate) fn executable(meta: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o100 != 0
}

/// The path of these encoded bytes.
pub(crate) fn path(bytes: Vec<u8>) -> Option<std::path::PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

/// Whether `path` still leads to this file.
pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: std::fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(a), Ok(b)) => id(a) == id(b),
        _ => false,
    }
}

/// A folder below which paths are resolved.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

impl Root {
    /// Opens `dir`, following links: the user chose this path.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, dir, FOLDER, Mode::empty())?))
    }

    /// Opens the regular file `path`.
    pub(crate) fn file(&self, path: &Path, access: Access) -> io::Result<File> {
        let (flags, mode) = match access {
            Access::Read => (OFlags::RDONLY, Mode::empty()),
            Access::Write => (OFlags::RDWR, Mode::empty()),
            Access::Create { executable } => (
                OFlags::RDWR | OFlags::CREATE,
                Mode::from_raw_mode(if executable { 0o777 } else { 0o666 }),
            ),
            Access::New { executable } => (
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
                Mode::from_raw_mode(if executable { 0o777 } else { 0o666 }),
            ),
        };
        // NONBLOCK, so that opening a pipe that somebody put here does not block.
        let fd = self.resolve(
            path,
            flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
            mode,
        )?;
        let file = File::from(fd);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(not_a_file())
        }
    }

    /// Length, modification time and number of the regular file `path`.
    pub(crate) fn stat(&self, path: &Path) -> io::Result<FileStat> {
        let fd = self.resolve(path, stat_flags(), Mode::empty())?;
        let meta = File::from(fd).metadata()?;
        if meta.is_file() {
            Ok(file_stat(&meta))
        } else {
            Err(not_a_file())
        }
    }

    /// Creates the parents of `path`, and calls `made` for each new folder.
    pub(crate) fn make_parents(&self, path: &Path, mut made: impl FnMut(&Path)) -> io::Result<()> {
        let Some(parent) = parent_of(path) else {
            return Ok(());
        };
        match self.folder(parent) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            done => return done.map(drop),
        }
        self.make_parents(parent, &mut made as &mut dyn FnMut(&Path))?;
        self.in_parent(parent, |dir, name| {
            match mkdirat(dir, name, Mode::from_raw_mode(0o777)) {
                Err(rustix::io::Errno::EXIST) => Ok(()),
                done => done,
            }
        })?;
        made(parent);
        Ok(())
    }

    /// Removes a file or link.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.in_parent(path, |dir, name| unlinkat(dir, name, AtFlags::empty()))
    }

    /// Removes an empty folder.
    pub(crate) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.in_parent(path, |dir, name| unlinkat(dir, name, AtFlags::REMOVEDIR))
    }

    /// Renames within this folder.
    ///
    /// # Errors
    /// `AlreadyExists` if something is at `to`.
    pub(crate) fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.in_parent(from, |old_dir, old| {
            self.in_parent(to, |new_dir, new| rename_new(old_dir, old, new_dir, new))
                .map_err(|e| errno(&e))
        })
    }

    /// Creates the link `path` to `target`, which the caller has checked.
    pub(crate) fn symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        self.in_parent(path, |dir, name| symlinkat(target, dir, name))
    }

    /// The target of the link `path`.
    pub(crate) fn link_target(&self, path: &Path) -> io::Result<std::path::PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let mut target = Ok(Vec::new());
        self.in_parent(path, |dir, name| {
            target =
                rustix::fs::readlinkat(dir, name, Vec::new()).map(std::ffi::CString::into_bytes);
            Ok(())
        })?;
        Ok(std::ffi::OsString::from_vec(target?).into())
    }

    /// Makes the names in the folder `path` durable (empty for the folder itself). Does nothing where the
    /// file system has no such call (vboxsf, some network file systems) or is read-only.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        use rustix::io::Errno;
        let dir = self.folder(path)?;
        match rustix::fs::fsync(dir) {
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ROFS) => Ok(()),
            done => Ok(done?),
        }
    }

    /// The number of the file system of the folder `path`.
    pub(crate) fn device(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(device(&File::from(self.folder(path)?).metadata()?))
    }

    /// The file system of the folder `path`, if it can be flushed as a whole.
    pub(crate) fn file_system(&self, path: &Path) -> io::Result<Option<FileSystem>> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return FileSystem::of(File::from(self.folder(path)?));
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = path;
            Ok(None)
        }
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        if path.as_os_str().is_empty() {
            return Ok(openat(&self.0, ".", FOLDER, Mode::empty())?);
        }
        self.resolve(path, FOLDER, Mode::empty())
    }

    fn in_parent<T>(
        &self,
        path: &Path,
        act: impl FnOnce(BorrowedFd<'_>, &Path) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let name = Path::new(path.file_name().ok_or(ErrorKind::InvalidInput)?);
        Ok(match parent_of(path) {
            None => act(self.0.as_fd(), name)?,
            Some(parent) => act(self.folder(parent)?.as_fd(), name)?,
        })
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        use rustix::{
            fs::{ResolveFlags, openat2},
            io::Errno,
        };
        /// The kernel asks for another try (`EAGAIN`) when a rename runs at the same time.
        const TRIES: u32 = 32;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..TRIES {
            return match openat2(&self.0, path, flags, mode, how) {
                Ok(fd) => Ok(fd),
                Err(Errno::AGAIN) => continue,
                Err(Errno::XDEV) => Err(escape()),
                // Kernels before 5.6, and sandboxes that block the call.
                Err(Errno::NOSYS | Errno::PERM) => self.walk(path, flags, mode),
                Err(e) => Err(e.into()),
            };
        }
        Err(escape())
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        self.walk(path, flags, mode)
    }

    /// Resolves component by component and follows no link at all, which is stricter than `openat2`.
    fn walk(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let mut dir: Option<OwnedFd> = None;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(escape());
            };
            let at = dir.as_ref().map_or(self.0.as_fd(), AsFd::as_fd);
            let last = parts.peek().is_none();
            let (flags, mode) = if last {
                (flags, mode)
            } else {
                (FOLDER, Mode::empty())
            };
            let fd = openat(at, name, flags | OFlags::NOFOLLOW, mode).map_err(|e| match e {
                rustix::io::Errno::LOOP => escape(),
                e => e.into(),
            })?;
            if last {
                return Ok(fd);
            }
            dir = Some(fd);
        }
        Err(ErrorKind::InvalidInput.into())
    }
}

fn rename_new(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> rustix::io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(old_dir, old, new_dir, new, RenameFlags::NOREPLACE) {
            // Old kernels, and file systems that do not support the flag.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return done,
        }
    }
    link_new(old_dir, old, new_dir, new)
}

/// Renames by a hard link, which never replaces anything.
fn link_new(
    old_dir: BorrowedFd<'_>,
    old: &Path,
    new_dir: BorrowedFd<'_>,
    new: &Path,
) -> rustix::io::Result<()> {
    match linkat(old_dir, old, new_dir, new, AtFlags::empty()) {
        Ok(()) => return unlinkat(old_dir, old, AtFlags::empty()),
        Err(Errno::EXIST) => return Err(Errno::EXIST),
        // FAT and some network file systems have no hard links.
        Err(_) => {}
    }
    match statat(new_dir, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(old_dir, old, new_dir, new),
        Err(e) => Err(e),
        Ok(_) => Err(Errno::EXIST),
    }
}

fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().filter(|p| !p.as_os_str().is_empty())
}

fn errno(e: &io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(e).unwrap_or(rustix::io::Errno::IO)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const fn stat_flags() -> OFlags {
    OFlags::PATH.union(OFlags::CLOEXEC)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
const fn stat_flags() -> OFlags {
    OFlags::RDONLY
        .union(OFlags::NONBLOCK)
        .union(OFlags::CLOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_inside_are_followed_and_links_that_lead_outside_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("in");
        fs::create_dir_all(dir.join("real")).unwrap();
        fs::write(dir.join("real/file"), b"x").unwrap();
        fs::write(outer.path().join("secret"), b"y").unwrap();
        std::os::unix::fs::symlink("real", dir.join("alias")).unwrap();
        std::os::unix::fs::symlink("..", dir.join("up")).unwrap();
        std::os::unix::fs::symlink("../secret", dir.join("leak")).unwrap();
        let root = Root::open(&dir).unwrap();
        assert!(root.file("alias/file".as_ref(), Access::Write).is_ok());
        for bad in ["up/secret", "leak", "../secret", "/etc/passwd"] {
            let kind = root.file(bad.as_ref(), Access::Read).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::PermissionDenied, "{bad}");
            assert!(root.stat(bad.as_ref()).is_err());
        }
        let create = Access::Create { executable: false };
        assert!(root.file("up/new".as_ref(), create).is_err());
        assert!(root.make_parents("up/d/f".as_ref(), |_| {}).is_err());
        assert!(!outer.path().join("new").exists() && !outer.path().join("d").exists());
        // The method for older kernels is stricter, never laxer.
        let read = OFlags::RDONLY;
        assert!(root.walk("real/file".as_ref(), read, Mode::empty()).is_ok());
        for bad in ["up/secret", "leak", "../secret", "alias/file"] {
            assert!(
                root.walk(bad.as_ref(), read, Mode::empty()).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_pipe_in_place_of_a_file_neither_blocks_nor_opens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert!(root.file("pipe".as_ref(), Access::Read).is_err());
        assert!(root.file("pipe".as_ref(), Access::Write).is_err());
    }

    #[test]
    fn a_name_that_is_taken_is_not_renamed_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        type Rename = fn(BorrowedFd<'_>, &Path, BorrowedFd<'_>, &Path) -> rustix::io::Result<()>;
        for (i, way) in [rename_new as Rename, link_new].into_iter().enumerate() {
            let rename = |to: String| {
                let to = Path::new(&to).to_path_buf();
                way(root.0.as_fd(), "new".as_ref(), root.0.as_fd(), &to)
            };
            fs::write(dir.path().join("new"), b"new").unwrap();
            fs::write(dir.path().join("old"), b"old").unwrap();
            assert_eq!(rename("old".into()), Err(Errno::EXIST));
            assert_eq!(fs::read(dir.path().join("old")).unwrap(), b"old");
            assert_eq!(rename(format!("d/{i}")), Ok(()));
            assert_eq!(fs::read(dir.path().join(format!("d/{i}"))).unwrap(), b"new");
            assert!(!dir.path().join("new").exists());
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_folder_that_cannot_be_flushed_is_no_error_and_one_that_is_gone_is() {
        let root = Root::open("/proc".as_ref()).unwrap();
        let folder = openat(CWD, "/proc/self", FOLDER, Mode::empty()).unwrap();
        assert_eq!(rustix::fs::fsync(folder), Err(Errno::INVAL));
        root.sync_folder("".as_ref()).unwrap();
        assert!(root.sync_folder("missing".as_ref()).is_err());
    }

    #[test]
    fn parents_are_made_once_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let mut made = Vec::new();
        let mut make = || {
            root.make_parents("a/b/c".as_ref(), |p| made.push(p.to_path_buf()))
                .unwrap();
            made.len()
        };
        assert_eq!((make(), make()), (2, 2));
        assert!(dir.path().join("a/b").is_dir() && !dir.path().join("a/b/c").exists());
    }
}
