//! Whole files and folders: collecting the content of a new torrent, and checking whether a torrent on disk
//! is intact. Hashing uses all processors.
//!
//! A folder is walked in the order of names, byte by byte, so that the same content makes the same torrent
//! everywhere. Hidden files are included; Dunlin's own parts files are not. Symbolic links are followed if
//! the caller asks for it, and left out otherwise. Two kinds of links are never followed: those that lead
//! back into a folder that contains them, and those that lead out of the walked folder, as people who share
//! a folder do not mean to share what is elsewhere, and the disk does not open such files. An absolute link
//! counts as leading out. Sockets, pipes, devices, and names that are not Unicode, which a torrent cannot
//! hold, are left out. [`Scan::notes`] names everything that was left out.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use dunlin_core::{
    Hasher, OpError, OpErrorKind,
    metainfo::{Builder, FileKind, Info, Layout},
};

use crate::{
    disk::{Placement, io_error},
    platform::{self, Root},
};

/// Bytes read at a time; they fit into the second-level cache.
const RUN: usize = 256 * 1024;
/// The deepest nesting of folders: far more than real trees have, and far less than the stack allows.
const MAX_DEPTH: usize = 200;

/// The files found at a path.
#[derive(Debug, Default)]
pub struct Scan {
    /// The name of the file or folder itself; empty if it has none that a torrent can hold, such as `/`.
    pub name: String,
    /// Whether it is a folder, not one file.
    pub folder: bool,
    /// The files in the order of the torrent.
    pub files: Vec<Found>,
    /// What was left out, and the reasons.
    pub notes: Vec<String>,
}

/// A file for a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative to the folder; the name alone for a single file.
    pub path: Vec<String>,
    /// The path on this disk.
    pub source: PathBuf,
    /// Length in bytes.
    pub len: u64,
    /// Whether its owner may execute it.
    pub executable: bool,
}

impl Scan {
    /// Collects the files at `path`, which is a file or a folder.
    pub fn new(path: &Path, follow_links: bool) -> Result<Self, OpError> {
        let failed = |e: io::Error| io_error(path, &e);
        let real = fs::canonicalize(path).map_err(failed)?;
        let meta = fs::metadata(path).map_err(failed)?;
        let mut scan = Self {
            name: own_name(path).unwrap_or_default(),
            folder: meta.is_dir(),
            ..Self::default()
        };
        if scan.folder {
            let mut walk = Walk {
                scan: &mut scan,
                follow_links,
                root: Root::open(&real).map_err(failed)?,
                above: vec![real],
                path: Vec::new(),
            };
            walk.folder(path)?;
            // Compared element by element: the order of a walk differs where `a.b` is beside `a/`.
            scan.files.sort_by(|a, b| a.path.cmp(&b.path));
        } else if meta.is_file() {
            let path_in_torrent = vec![scan.name.clone()];
            scan.files.push(found(path_in_torrent, path, &meta));
        } else {
            return Err(failed(platform::not_a_file()));
        }
        Ok(scan)
    }

    /// A builder for a torrent of these files. Its layout has them in the order of `self.files`, with
    /// padding in between if the builder is told to align.
    #[must_use]
    pub fn builder(&self) -> Builder {
        if !self.folder {
            let mut builder = Builder::folder(&self.name);
            if let Some(file) = self.files.first() {
                builder = Builder::file(&self.name, file.len);
            }
            return builder;
        }
        let mut builder = Builder::folder(&self.name);
        for file in &self.files {
            builder.add(file.path.clone(), file.len).executable = file.executable;
        }
        builder
    }

    /// The paths on disk of the files of `layout`, made by [`Scan::builder`].
    #[must_use]
    pub fn sources(&self, layout: &Layout) -> Vec<PathBuf> {
        let mut ours = self.files.iter();
        let mut source = |kind: &FileKind| match kind {
            FileKind::Regular => ours.next().map(|f| f.source.clone()).unwrap_or_default(),
            _ => PathBuf::new(),
        };
        layout.files().iter().map(|f| source(&f.kind)).collect()
    }
}

/// The name of the file or folder `path`; `None` if it has none that a torrent can hold, such as `/`.
#[must_use]
pub fn own_name(path: &Path) -> Option<String> {
    // `.` and `..` have no name of their own.
    let name = match path.file_name() {
        Some(name) => name.to_owned(),
        None => fs::canonicalize(path).ok()?.file_name()?.to_owned(),
    };
    name.into_string().ok()
}

fn found(path: Vec<String>, source: &Path, meta: &fs::Metadata) -> Found {
    Found {
        path,
        source: source.into(),
        len: meta.len(),
        executable: platform::executable(meta),
    }
}

struct Walk<'a> {
    scan: &'a mut Scan,
    follow_links: bool,
    /// The walked folder, below which links are resolved as the disk does it.
    root: Root,
    /// The folders that contain the current one, with links resolved.
    above: Vec<PathBuf>,
    path: Vec<String>,
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Path) -> Result<(), OpError> {
        let failed = |e: io::Error| io_error(dir, &e);
        let entries = fs::read_dir(dir).map_err(failed)?;
        let mut names: Vec<_> = entries
            .map(|entry| entry.map(|e| e.file_name()))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        names.sort_unstable();
        for name in names {
            let path = dir.join(&name);
            match name.into_string() {
                Ok(name) => self.entry(name, &path)?,
                Err(_) => self.leave(&path, "its name is not Unicode"),
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: String, path: &Path) -> Result<(), OpError> {
        let failed = |e: io::Error| io_error(path, &e);
        let mut meta = fs::symlink_metadata(path).map_err(failed)?;
        if meta.is_symlink() {
            if !self.follow_links {
                self.leave(path, "a symbolic link");
                return Ok(());
            }
            meta = match fs::metadata(path) {
                Ok(meta) => meta,
                Err(e) => {
                    self.leave(path, &format!("a symbolic link to nowhere ({e})"));
                    return Ok(());
                }
            };
            if let Some(why) = self.leads_out(&name, path) {
                self.leave(path, why);
                return Ok(());
            }
        }
        if meta.is_dir() {
            let real = fs::canonicalize(path).map_err(failed)?;
            if self.above.contains(&real) {
                self.leave(path, "a symbolic link back to a folder that it is in");
            } else if self.above.len() >= MAX_DEPTH {
                self.leave(path, "too many folders inside each other");
            } else {
                self.above.push(real);
                self.path.push(name);
                let done = self.folder(path);
                self.path.pop();
                self.above.pop();
                done?;
            }
        } else if !meta.is_file() {
            self.leave(path, "neither a file nor a folder");
        } else if is_parts_file(&name) {
            self.leave(path, "a parts file of Dunlin");
        } else {
            let mut path_in_torrent = self.path.clone();
            path_in_torrent.push(name);
            self.scan.files.push(found(path_in_torrent, path, &meta));
        }
        Ok(())
    }

    /// The reason why a link is not followed, if the disk would not follow it below this folder either.
    fn leads_out(&self, name: &str, path: &Path) -> Option<&'static str> {
        let below: PathBuf = self.path.iter().map(String::as_str).chain([name]).collect();
        match self.root.stat(&below) {
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                let is_inside = |real: PathBuf| real.starts_with(&self.above[0]);
                Some(match fs::canonicalize(path).is_ok_and(is_inside) {
                    true => {
                        "a symbolic link leads back into the folder from outside; a relative one \
                         that stays inside is followed"
                    }
                    false => "a symbolic link leads outside the folder",
                })
            }
            _ => None,
        }
    }

    fn leave(&mut self, path: &Path, why: &str) {
        let note = format!("{}: left out: {why}", path.display());
        self.scan.notes.push(note);
    }
}

/// `.<40 hex digits>.parts`
fn is_parts_file(name: &str) -> bool {
    let hash = name
        .strip_prefix('.')
        .and_then(|n| n.strip_suffix(".parts"));
    hash.is_some_and(|h| h.len() == 40 && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The paths of a torrent's files that are kept as `placement` says.
#[must_use]
pub fn saved_files(info: &Info, placement: &Placement) -> Vec<PathBuf> {
    let paths = placement.paths(info);
    paths.iter().map(|path| placement.dir.join(path)).collect()
}

/// Hashes every piece of `layout`, whose files are at `sources`, on `threads` threads (`None`: one for each
/// processor). `each` is called for every piece, in any order, from any of the threads, and may stop the
/// whole. Padding reads as zeros.
pub fn hash_pieces(
    layout: &Layout,
    sources: &[PathBuf],
    threads: Option<usize>,
    each: impl Fn(u32, Result<[u8; 20], OpError>) -> ControlFlow<()> + Sync,
) {
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let threads = threads.clamp(1, layout.piece_count().max(1) as usize);
    let (next, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let mut reader = Reader {
            layout,
            sources,
            open: None,
            buf: vec![0; RUN],
        };
        while !stop.load(Ordering::Relaxed) {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= layout.piece_count() {
                break;
            }
            if each(piece, reader.hash(piece)).is_break() {
                stop.store(true, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

/// Hashes every piece for a new torrent. `progress` is told the number of bytes done, from any thread, and
/// may stop the whole, which is answered as cancelled.
pub fn hash_all(
    layout: &Layout,
    sources: &[PathBuf],
    threads: Option<usize>,
    progress: impl Fn(u64) -> ControlFlow<()> + Sync,
) -> Result<Vec<[u8; 20]>, OpError> {
    struct State {
        hashes: Vec<[u8; 20]>,
        failed: Option<OpError>,
    }
    let shared = Mutex::new(State {
        hashes: vec![[0; 20]; layout.piece_count() as usize],
        failed: None,
    });
    hash_pieces(layout, sources, threads, |piece, hash| {
        let mut state = lock(&shared);
        match hash {
            Ok(hash) => state.hashes[piece as usize] = hash,
            Err(e) => {
                state.failed.get_or_insert(e);
                return ControlFlow::Break(());
            }
        }
        drop(state);
        let size = layout.piece_size(piece);
        progress(size.into()).map_break(|()| {
            lock(&shared).failed.get_or_insert(OpError {
                kind: OpErrorKind::Cancelled,
                detail: "stopped".into(),
            });
        })
    });
    let state = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.failed.map_or(Ok(state.hashes), Err)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The open files of one thread.
struct Reader<'a> {
    layout: &'a Layout,
    sources: &'a [PathBuf],
    open: Option<(usize, File)>,
    buf: Vec<u8>,
}

impl Reader<'_> {
    fn hash(&mut self, piece: u32) -> Result<[u8; 20], OpError> {
        let mut hasher = Hasher::sha1();
        let at = u64::from(piece) * u64::from(self.layout.piece_len());
        let len = self.layout.piece_size(piece).into();
        for extent in self.layout.extents(at, len) {
            let padding = self.layout.files()[extent.file].kind != FileKind::Regular;
            let mut done = 0;
            while done < extent.len {
                let part = (extent.len - done).min(RUN as u64) as usize;
                if padding {
                    self.buf[..part].fill(0);
                } else {
                    self.read(extent.file, part, extent.offset + done)?;
                }
                hasher.update(&self.buf[..part]);
                done += part as u64;
            }
        }
        Ok(hasher.finish())
    }

    fn read(&mut self, index: usize, len: usize, offset: u64) -> Result<(), OpError> {
        let missing = || OpError {
            kind: OpErrorKind::NotFound,
            detail: format!("file {index} of the torrent: nobody said where it is"),
        };
        let path = self.sources.get(index).ok_or_else(missing)?;
        let mut act = || {
            let file = match &self.open {
                Some((i, file)) if *i == index => file,
                _ => &self.open.insert((index, open(path)?)).1,
            };
            crate::disk::read_exact(file, &mut self.buf[..len], offset)
        };
        act().map_err(|e| io_error(path, &e))
    }
}

/// Opens a regular file; opening anything else could block forever.
fn open(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(platform::not_a_file());
    }
    match File::open(path) {
        Err(e) if e.kind() == ErrorKind::IsADirectory => Err(platform::not_a_file()),
        file => file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::hash::sha1;
    use std::collections::BTreeMap;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("set");
        fs::create_dir_all(root.join("a/deep")).unwrap();
        for (name, len) in [
            ("a/z", 70_000),
            ("a/deep/y", 10),
            ("a.b", 40_000),
            (".hid", 0),
        ] {
            let data: Vec<u8> = (0..len as u32).map(|i| (i * 7 / 3) as u8).collect();
            fs::write(root.join(name), data).unwrap();
        }
        fs::write(root.join(format!(".{}.parts", "ab".repeat(20))), b"x").unwrap();
        std::os::unix::fs::symlink("a/z", root.join("link")).unwrap();
        std::os::unix::fs::symlink("..", root.join("a/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join("dead")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        dir
    }

    fn names(scan: &Scan) -> Vec<String> {
        scan.files.iter().map(|f| f.path.join("/")).collect()
    }

    #[test]
    fn a_walk_is_sorted_and_names_what_it_leaves_out() {
        let dir = tree();
        let root = dir.path().join("set");
        let scan = Scan::new(&root, false).unwrap();
        assert_eq!((scan.name.as_str(), scan.folder), ("set", true));
        assert_eq!(names(&scan), [".hid", "a/deep/y", "a/z", "a.b"]);
        assert_eq!(scan.notes.len(), 5, "{:#?}", scan.notes);
        let scan = Scan::new(&root, true).unwrap();
        assert_eq!(names(&scan), [".hid", "a/deep/y", "a/z", "a.b", "link"]);
        assert_eq!(scan.notes.len(), 4, "{:#?}", scan.notes);
        assert!(Scan::new(&root.join("none"), true).is_err());
        assert!(Scan::new(&root.join("pipe"), true).is_err());
        let dots = Scan::new(&root.join("a/.."), false).unwrap();
        assert_eq!(dots.name, "set");
        assert_eq!(own_name(&root.join("a/..")).as_deref(), Some("set"));
        assert_eq!(own_name(Path::new("/")), None);
    }

    #[test]
    fn a_link_that_leads_outside_is_left_out_and_named() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("set");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir(dir.path().join("private")).unwrap();
        fs::write(dir.path().join("private/key"), "secret").unwrap();
        fs::write(root.join("own"), "shared").unwrap();
        let private = dir.path().join("private");
        for (name, target) in [
            ("absolute", private.join("key")),
            ("folder", private.clone()),
            ("sub/relative", "../../private/key".into()),
            ("around", "../set/own".into()),
            ("chain", "absolute".into()),
            ("rooted", root.join("own")),
            // These lead to files that are shared.
            ("sub/inside", "../own".into()),
            ("again", "sub/inside".into()),
        ] {
            symlink(target, root.join(name)).unwrap();
        }
        let scan = Scan::new(&root, true).unwrap();
        assert_eq!(names(&scan), ["again", "own", "sub/inside"]);
        let said = scan.notes.join("\n");
        for name in ["absolute", "folder", "sub/relative", "chain"] {
            let line = format!("{name}: left out: a symbolic link leads outside the folder");
            assert!(said.contains(&line), "{line} in {said}");
        }
        for name in ["rooted", "around"] {
            let line = format!("{name}: left out: a symbolic link leads back");
            assert!(said.contains(&line), "{line} in {said}");
        }
        assert_eq!(scan.notes.len(), 6, "{said}");
    }

    #[test]
    fn a_torrent_made_of_a_folder_checks_out_until_a_byte_changes() {
        let dir = tree();
        let scan = Scan::new(&dir.path().join("set"), false).unwrap();
        for align in [false, true] {
            let mut builder = scan.builder();
            builder.piece_len = Some(16_384);
            builder.align = align;
            let draft = builder.draft().unwrap();
            let sources = scan.sources(draft.layout());
            let done = Mutex::new(0);
            let hashes = hash_all(draft.layout(), &sources, Some(3), |n| {
                *done.lock().unwrap() += n;
                ControlFlow::Continue(())
            })
            .unwrap();
            assert_eq!(*done.lock().unwrap(), draft.layout().total_len());
            let torrent = draft.finish(&hashes).unwrap();
            let info = &torrent.info;
            let bad = |sources: &[PathBuf]| {
                let bad = Mutex::new(BTreeMap::new());
                hash_pieces(info.layout(), sources, None, |piece, hash| {
                    if hash.as_ref().ok() != info.piece_hash(piece).as_ref() {
                        bad.lock()
                            .unwrap()
                            .insert(piece, hash.err().map(|e| e.kind));
                    }
                    ControlFlow::Continue(())
                });
                bad.into_inner().unwrap()
            };
            let saved = saved_files(
                info,
                &Placement {
                    dir: dir.path().into(),
                    ..Placement::default()
                },
            );
            assert_eq!(bad(&saved), BTreeMap::new());
            let path = dir.path().join("set/a/z");
            let whole = fs::read(&path).unwrap();
            fs::write(&path, &whole[..60_000]).unwrap();
            let found = bad(&saved);
            assert!(
                !found.is_empty() && found.values().all(|k| *k == Some(OpErrorKind::Truncated))
            );
            let mut other = whole.clone();
            other[20_000] ^= 1;
            fs::write(&path, other).unwrap();
            assert_eq!(bad(&saved).into_values().collect::<Vec<_>>(), [None]);
            fs::write(&path, whole).unwrap();
        }
    }

    #[test]
    fn one_file_is_a_torrent_too_and_a_stop_is_a_stop() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.bin");
        let data = vec![3; 100_000];
        fs::write(&path, &data).unwrap();
        let scan = Scan::new(&path, false).unwrap();
        let mut builder = scan.builder();
        builder.piece_len = Some(65_536);
        let draft = builder.draft().unwrap();
        let sources = scan.sources(draft.layout());
        let go = |_| ControlFlow::Continue(());
        let hashes = hash_all(draft.layout(), &sources, None, go).unwrap();
        assert_eq!(hashes, [sha1(&data[..65_536]), sha1(&data[65_536..])]);
        let stop = |_| ControlFlow::Break(());
        let stopped = hash_all(draft.layout(), &sources, None, stop).unwrap_err();
        assert_eq!(stopped.kind, OpErrorKind::Cancelled);
        fs::remove_file(&path).unwrap();
        let gone = hash_all(draft.layout(), &sources, None, go).unwrap_err();
        assert!(gone.kind == OpErrorKind::NotFound && gone.detail.contains("one.bin"));
    }
}
