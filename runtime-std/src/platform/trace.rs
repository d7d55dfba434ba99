//! Records every change below a folder in order, for tests.
//!
//! A call and its record are one step under the recorder's lock, so the order is right between threads as
//! well. Open files are identified by inode, so a write to a file that was renamed or removed meanwhile is
//! recorded as such.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::SystemTime,
};

/// Identifies a file or folder whatever its name is, also once it has none.
pub(crate) type NodeId = usize;

/// What a call changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    Length(u64),
    AtLeast(u64),
    Sync,
    /// All of the file system with this number.
    SyncAll(u64),
    Create {
        empty: bool,
    },
    MakeFolder,
    MakeParents,
    Link(PathBuf),
    Rename(PathBuf),
    Remove,
}

/// A name in a folder.
pub(crate) type Entry = (NodeId, String);

/// What happened, in terms of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A new file, folder or link with its name.
    Make {
        at: Entry,
        node: NodeId,
        kind: Kind,
    },
    Rename {
        from: Entry,
        to: Entry,
        node: NodeId,
    },
    Remove {
        at: Entry,
        node: NodeId,
    },
    Write {
        node: NodeId,
        offset: u64,
        data: Vec<u8>,
        mtime: SystemTime,
    },
    Length {
        node: NodeId,
        len: u64,
        mtime: SystemTime,
    },
    /// A flush of a file or folder.
    Sync {
        node: NodeId,
        path: PathBuf,
    },
    /// A flush of all files and folders of a file system.
    SyncAll {
        nodes: Vec<NodeId>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link(PathBuf),
}

/// A file or folder that existed when the recording began; its content counts as durable.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) node: NodeId,
    pub(crate) kind: Kind,
    pub(crate) data: Vec<u8>,
    pub(crate) mtime: SystemTime,
}

/// What was recorded so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(crate) base: PathBuf,
    pub(crate) found: Vec<Found>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Default)]
struct Log {
    recording: Recording,
    /// The paths below the base as they are now.
    names: HashMap<PathBuf, NodeId>,
    inodes: HashMap<(u64, u64), NodeId>,
    next: NodeId,
}

/// Records until it is dropped.
#[derive(Debug)]
pub(crate) struct Recorder(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    base: PathBuf,
    log: Mutex<Log>,
}

static WATCHES: RwLock<Vec<Arc<Watch>>> = RwLock::new(Vec::new());

impl Recorder {
    /// Starts to record what happens below the folder `base`; what exists now counts as durable.
    pub(crate) fn new(base: &Path) -> Self {
        let base = fs::canonicalize(base).unwrap();
        let mut log = Log::default();
        log.recording.base.clone_from(&base);
        log.find(&base);
        let watch = Arc::new(Watch {
            base,
            log: Mutex::new(log),
        });
        WATCHES.write().unwrap().push(Arc::clone(&watch));
        Self(watch)
    }

    /// The number of steps so far.
    pub(crate) fn len(&self) -> usize {
        let log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.recording.steps.len()
    }

    pub(crate) fn recording(&self) -> Recording {
        let log = self.0.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.recording.clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut watches = WATCHES.write().unwrap_or_else(PoisonError::into_inner);
        watches.retain(|watch| !Arc::ptr_eq(watch, &self.0));
    }
}

fn watch(path: &Path) -> Option<Arc<Watch>> {
    let watches = WATCHES.read().unwrap_or_else(PoisonError::into_inner);
    watches.iter().find(|w| path.starts_with(&w.base)).cloned()
}

/// Makes a call on an open file and records its change if that file is watched.
pub(crate) fn on_file<T>(
    file: &File,
    call: impl FnOnce() -> io::Result<T>,
    change: impl FnOnce(&T) -> Change,
) -> io::Result<T> {
    if WATCHES.read().is_ok_and(|w| w.is_empty()) {
        return call();
    }
    let fd = std::os::fd::AsRawFd::as_raw_fd(file);
    // The path of a removed file still shows the folder it was in.
    let path = fs::read_link(format!("/proc/self/fd/{fd}"))?;
    let Some(watch) = watch(&path) else {
        return call();
    };
    let mut log = watch.log.lock().unwrap_or_else(PoisonError::into_inner);
    let done = call()?;
    log.on_file(&file.metadata()?, path, change(&done));
    Ok(done)
}

/// Makes a call on a path and records its change if that path is watched.
pub(crate) fn on_path<T>(
    path: &Path,
    call: impl FnOnce() -> io::Result<T>,
    change: impl FnOnce(&T) -> Change,
) -> io::Result<T> {
    let Some(watch) = watch(path) else {
        return call();
    };
    let mut log = watch.log.lock().unwrap_or_else(PoisonError::into_inner);
    let done = call()?;
    log.on_path(path, change(&done));
    Ok(done)
}

fn inode(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn mtime(meta: &Metadata) -> SystemTime {
    meta.modified().unwrap()
}

impl Log {
    fn node(&mut self, path: &Path, meta: &Metadata) -> NodeId {
        let node = self.next;
        self.next += 1;
        self.names.insert(path.into(), node);
        self.inodes.insert(inode(meta), node);
        node
    }

    fn find(&mut self, path: &Path) {
        let meta = fs::symlink_metadata(path).unwrap();
        let node = self.node(path, &meta);
        let (mut data, mut kind) = (Vec::new(), Kind::File);
        if meta.is_dir() {
            kind = Kind::Folder;
        } else if meta.is_symlink() {
            kind = Kind::Link(fs::read_link(path).unwrap());
        } else {
            data = fs::read(path).unwrap();
        }
        let mtime = mtime(&meta);
        let path = path.to_path_buf();
        self.recording.found.push(Found {
            path: path.clone(),
            node,
            kind,
            data,
            mtime,
        });
        if meta.is_dir() {
            let mut below: Vec<_> = fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            below.sort();
            below.iter().for_each(|path| self.find(path));
        }
    }

    fn entry(&self, path: &Path) -> Entry {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.known(path.parent().unwrap()), name)
    }

    fn known(&self, path: &Path) -> NodeId {
        let found = self.names.get(path).copied();
        found.unwrap_or_else(|| panic!("{}: made past the file layer", path.display()))
    }

    fn make(&mut self, path: &Path, kind: Kind) {
        let at = self.entry(path);
        let node = self.node(path, &fs::symlink_metadata(path).unwrap());
        self.recording.steps.push(Step::Make { at, node, kind });
    }

    fn on_file(&mut self, meta: &Metadata, path: PathBuf, change: Change) {
        let node = self.inodes.get(&inode(meta)).copied();
        let node = node.unwrap_or_else(|| panic!("{}: made past the file layer", path.display()));
        let mtime = mtime(meta);
        self.recording.steps.push(match change {
            Change::Write { offset, data } => Step::Write {
                node,
                offset,
                data,
                mtime,
            },
            Change::Length(_) | Change::AtLeast(_) => Step::Length {
                node,
                len: meta.len(),
                mtime,
            },
            Change::Sync => Step::Sync { node, path },
            other => unreachable!("{other:?} of an open file"),
        });
    }

    fn on_path(&mut self, path: &Path, change: Change) {
        // `dir.join("")` ends with a separator.
        let path: &Path = &path.components().collect::<PathBuf>();
        match change {
            Change::Create { empty } => match self.names.get(path).copied() {
                None => self.make(path, Kind::File),
                Some(node) if empty => {
                    let mtime = mtime(&fs::metadata(path).unwrap());
                    let len = 0;
                    self.recording.steps.push(Step::Length { node, len, mtime });
                }
                Some(_) => {}
            },
            Change::MakeFolder => self.make(path, Kind::Folder),
            Change::MakeParents => {
                let folders: Vec<_> = path.ancestors().skip(1).collect();
                for folder in folders.into_iter().rev() {
                    if folder.starts_with(&self.recording.base) && !self.names.contains_key(folder)
                    {
                        self.make(folder, Kind::Folder);
                    }
                }
            }
            Change::Link(target) => self.make(path, Kind::Link(target)),
            Change::Rename(to) => {
                let node = self.known(path);
                let step = Step::Rename {
                    from: self.entry(path),
                    to: self.entry(&to),
                    node,
                };
                self.names.remove(path);
                self.names.insert(to, node);
                self.recording.steps.push(step);
            }
            Change::Remove => {
                let at = self.entry(path);
                let node = self.known(path);
                self.names.remove(path);
                self.recording.steps.push(Step::Remove { at, node });
            }
            Change::Sync => {
                let node = self.known(path);
                let path = path.into();
                self.recording.steps.push(Step::Sync { node, path });
            }
            Change::SyncAll(device) => {
                let on_it = self.inodes.iter().filter(|((dev, _), _)| *dev == device);
                let mut nodes: Vec<_> = on_it.map(|(_, node)| *node).collect();
                nodes.sort_unstable();
                self.recording.steps.push(Step::SyncAll { nodes });
            }
            other => unreachable!("{other:?} of a path"),
        }
    }
}

#[test]
fn a_save_is_recorded_call_by_call() {
    use crate::folder::{SessionFolder, Sharing};
    use dunlin_core::InfoHash;

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("users"), b"own").unwrap();
    let recorder = Recorder::new(dir.path());
    let torrent = InfoHash([7; 20]);
    let session = SessionFolder::open(&dir.path().join("s"), Sharing::Shared).unwrap();
    session.save_resume(torrent, b"one").unwrap();
    session.save_resume(torrent, b"two").unwrap();
    let recording = recorder.recording();
    assert_eq!(recording.steps.len(), recorder.len());
    let found = |f: &Found| (f.path.clone(), f.node, f.kind.clone(), f.data.clone());
    let base = &recording.base;
    let there: Vec<_> = recording.found.iter().map(found).collect();
    assert_eq!(there[0], (base.clone(), 0, Kind::Folder, Vec::new()));
    assert_eq!(
        there[1],
        (base.join("users"), 1, Kind::File, b"own".to_vec())
    );
    assert!(recording.found[1].mtime <= SystemTime::now());
    let short = |step: &Step| match step {
        // Named by process and time.
        Step::Make { at, .. } if at.1.ends_with(".owner") => "make owner".to_owned(),
        Step::Make { at, .. } => format!("make {}", at.1),
        Step::Rename { from, to, .. } => format!("rename {} {}", from.1, to.1),
        Step::Remove { at, .. } => format!("remove {}", at.1),
        Step::Write { data, .. } => format!("write {}", data.len()),
        Step::Length { len, .. } => format!("length {len}"),
        Step::Sync { path, .. } => {
            let path = path.strip_prefix(base).unwrap();
            format!("sync {}", path.display())
        }
        Step::SyncAll { .. } => "sync all".to_owned(),
    };
    let steps = recording.steps.iter().map(short).collect::<Vec<_>>();
    let text = steps.join(", ").replace(&torrent.to_string(), "T");
    let write = "write 8, write 20, write 3";
    assert_eq!(
        text,
        format!(
            "make s, sync , make lock, make claims, make owner, \
             make T.resume.tmp, {write}, sync s/T.resume.tmp, \
             rename T.resume.tmp T.resume, sync s, \
             make T.resume.tmp, {write}, sync s/T.resume.tmp, \
             rename T.resume T.resume.bak, rename T.resume.tmp T.resume, sync s"
        )
    );
}
