//! The states that a crash may leave behind: a model of what POSIX promises, and no more.
//!
//! - What was written to a file is on the medium once the file was synced. Before that, each page of each
//!   write may be present, missing, or torn at a sector, in any order.
//! - Length and time of a file change together, before or after the data: a file that grew without its data
//!   reads as zeros.
//! - A name that was created, moved or removed is on the medium once its folder was synced, not once the
//!   file was. Before that, changes of different names happen in any order; changes of one name happen in
//!   their order. A rename is complete or has not happened.
//! - A sync of a file system is a sync of each of its files and folders.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, FileTimes},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rand_chacha::{ChaCha8Rng, rand_core::Rng};

use crate::platform::trace::{Entry, Kind, NodeId, Recording, Step};

/// The unit in which the page cache writes.
const PAGE: usize = 4096;
/// The unit that a disk writes completely or not at all.
const SECTOR: usize = 512;

/// The kinds of sync, by what they make durable. A test shows that each is necessary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SyncOf {
    Data,
    Parts,
    /// A file assembled from the parts file, before it gets its name.
    Assembled,
    Record,
    TorrentFile,
    DhtCache,
    /// The names in the session folder.
    SessionFolder,
    /// The name of the session folder itself.
    AboveSession,
    /// The name of the download folder itself.
    AboveDownloads,
    /// The names in the download folder.
    Downloads,
    /// The names in the torrent's folders.
    Subfolder,
    /// A whole file system.
    FileSystem,
}

impl SyncOf {
    pub(super) const ALL: [Self; 12] = [
        Self::Data,
        Self::Parts,
        Self::Assembled,
        Self::Record,
        Self::TorrentFile,
        Self::DhtCache,
        Self::SessionFolder,
        Self::AboveSession,
        Self::AboveDownloads,
        Self::Downloads,
        Self::Subfolder,
        Self::FileSystem,
    ];

    /// The kind of a path below the base, as `super::machine` lays it out.
    pub(super) fn of(path: &Path) -> Self {
        let text = path.to_str().unwrap();
        let named = |end: &str| text.ends_with(end);
        match text {
            "" => Self::AboveSession,
            "session" => Self::SessionFolder,
            "home" => Self::AboveDownloads,
            "home/dl" => Self::Downloads,
            _ if named(".parts") => Self::Parts,
            _ if named(".resume.tmp") => Self::Record,
            _ if named(".torrent.tmp") => Self::TorrentFile,
            _ if named(".new") => Self::DhtCache,
            _ if named(".tmp") => Self::Assembled,
            _ if path.extension().is_none() => Self::Subfolder,
            _ => Self::Data,
        }
    }
}

#[derive(Clone, Debug)]
enum DataChange {
    Write {
        offset: usize,
        data: Vec<u8>,
        mtime: SystemTime,
    },
    Length {
        len: usize,
        mtime: SystemTime,
    },
}

impl DataChange {
    const fn pages(&self) -> usize {
        match self {
            Self::Write { data, .. } => data.len().div_ceil(PAGE),
            Self::Length { .. } => 0,
        }
    }
}

/// A file, folder or link.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    data: Vec<u8>,
    mtime: SystemTime,
    /// Changes since the last sync.
    pending: Vec<DataChange>,
}

#[derive(Clone, Debug)]
struct NameChange {
    /// The names removed and added by this change, in this order.
    gone: Option<Entry>,
    made: Option<Entry>,
    node: NodeId,
}

impl NameChange {
    fn touches(&self) -> impl Iterator<Item = &Entry> {
        self.gone.iter().chain(&self.made)
    }

    fn after(&self, earlier: &Self) -> bool {
        self.touches().any(|e| earlier.touches().any(|x| x == e))
    }
}

/// The state of the medium after a number of steps.
#[derive(Clone, Debug)]
pub(super) struct Medium {
    base: PathBuf,
    nodes: BTreeMap<NodeId, Node>,
    names: BTreeMap<Entry, NodeId>,
    pending: Vec<NameChange>,
}

/// Which of the changes that were not synced are on the medium.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    names: Vec<bool>,
    /// For each file with pending changes: how many of them count for length and time, and for each page of
    /// each write the number of sectors present.
    files: BTreeMap<NodeId, (usize, Vec<Vec<usize>>)>,
}

/// The files and folders that a crash leaves behind.
#[derive(Debug)]
pub(super) struct Tree(BTreeMap<PathBuf, (Kind, Vec<u8>, SystemTime)>);

impl Medium {
    pub(super) fn new(recording: &Recording) -> Self {
        let mut medium = Self {
            base: recording.base.clone(),
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            pending: Vec::new(),
        };
        let ids: BTreeMap<&Path, NodeId> = (recording.found.iter())
            .map(|f| (f.path.as_path(), f.node))
            .collect();
        for found in &recording.found {
            let node = Node {
                kind: found.kind.clone(),
                data: found.data.clone(),
                mtime: found.mtime,
                pending: Vec::new(),
            };
            medium.nodes.insert(found.node, node);
            if found.path != recording.base {
                let name = found.path.file_name().unwrap().to_str().unwrap();
                let entry = (ids[found.path.parent().unwrap()], name.to_owned());
                medium.names.insert(entry, found.node);
            }
        }
        medium
    }

    /// Applies one step; a sync of the kind `dropped` is ignored.
    pub(super) fn step(&mut self, step: &Step, dropped: Option<SyncOf>) {
        match step {
            Step::Make { at, node, kind } => {
                let new = Node {
                    kind: kind.clone(),
                    data: Vec::new(),
                    mtime: SystemTime::UNIX_EPOCH,
                    pending: Vec::new(),
                };
                self.nodes.insert(*node, new);
                self.name(None, Some(at), *node);
            }
            Step::Rename { from, to, node } => self.name(Some(from), Some(to), *node),
            Step::Remove { at, node } => self.name(Some(at), None, *node),
            Step::Write {
                node,
                offset,
                data,
                mtime,
            } => self.data(
                *node,
                DataChange::Write {
                    offset: *offset as usize,
                    data: data.clone(),
                    mtime: *mtime,
                },
            ),
            Step::Length { node, len, mtime } => self.data(
                *node,
                DataChange::Length {
                    len: *len as usize,
                    mtime: *mtime,
                },
            ),
            Step::Sync { node, path } => {
                let path = path.strip_prefix(&self.base).unwrap();
                if dropped != Some(SyncOf::of(path)) {
                    self.sync(*node);
                }
            }
            Step::SyncAll { nodes } => {
                if dropped != Some(SyncOf::FileSystem) {
                    nodes.iter().for_each(|node| self.sync(*node));
                }
            }
        }
    }

    fn name(&mut self, gone: Option<&Entry>, made: Option<&Entry>, node: NodeId) {
        self.pending.push(NameChange {
            gone: gone.cloned(),
            made: made.cloned(),
            node,
        });
    }

    fn data(&mut self, node: NodeId, change: DataChange) {
        self.nodes.get_mut(&node).unwrap().pending.push(change);
    }

    fn sync(&mut self, id: NodeId) {
        let node = self.nodes.get_mut(&id).unwrap();
        if node.kind != Kind::Folder {
            let all = full(&node.pending);
            (node.data, node.mtime) = node.after(&all);
            node.pending.clear();
            return;
        }
        let mut keep = vec![false; self.pending.len()];
        for (n, change) in self.pending.iter().enumerate() {
            if change.touches().any(|(folder, _)| *folder == id) {
                keep[n] = true;
            }
        }
        self.close(&mut keep);
        let mut names = std::mem::take(&mut self.names);
        let mut left = Vec::new();
        for (change, done) in std::mem::take(&mut self.pending).into_iter().zip(keep) {
            match done {
                true => apply(&mut names, &change),
                false => left.push(change),
            }
        }
        (self.names, self.pending) = (names, left);
    }

    /// Adds the changes that those in `keep` depend on.
    fn close(&self, keep: &mut [bool]) {
        for n in (0..keep.len()).rev() {
            if keep[n] {
                for (earlier, kept) in self.pending[..n].iter().zip(&mut *keep) {
                    *kept |= self.pending[n].after(earlier);
                }
            }
        }
    }

    /// Removes the changes that depend on changes missing from `keep`.
    fn prune(&self, keep: &mut [bool]) {
        for n in 0..keep.len() {
            keep[n] =
                keep[n] && (0..n).all(|e| keep[e] || !self.pending[n].after(&self.pending[e]));
        }
    }

    fn dirty(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        let nodes = self.nodes.iter().map(|(id, node)| (*id, node));
        nodes.filter(|(_, node)| !node.pending.is_empty())
    }

    fn choice(&self, names: Vec<bool>, meta: bool, data: bool) -> Choice {
        let file = |node: &Node| {
            let (all, mut pages) = full(&node.pending);
            if !data {
                pages.iter_mut().flatten().for_each(|sectors| *sectors = 0);
            }
            (if meta { all } else { 0 }, pages)
        };
        Choice {
            names,
            files: self.dirty().map(|(id, node)| (id, file(node))).collect(),
        }
    }

    /// The states to try: the extremes; each change of a name and each file alone present and alone
    /// missing; and `samples` random ones.
    pub(super) fn choices(&self, samples: usize, rng: &mut ChaCha8Rng) -> Vec<Choice> {
        let count = self.pending.len();
        let mut out = Vec::new();
        for names in [false, true] {
            for (meta, data) in [(true, false), (true, true), (false, false), (false, true)] {
                out.push(self.choice(vec![names; count], meta, data));
            }
        }
        for n in 0..count {
            let mut only = vec![false; count];
            only[n] = true;
            self.close(&mut only);
            out.push(self.choice(only, true, true));
            let mut without = vec![true; count];
            without[n] = false;
            self.prune(&mut without);
            out.push(self.choice(without, true, true));
        }
        let dirty: Vec<NodeId> = self.dirty().map(|(id, _)| id).collect();
        for id in dirty {
            let mut choice = self.choice(vec![true; count], true, true);
            if let Some((_, pages)) = choice.files.get_mut(&id) {
                pages.iter_mut().flatten().for_each(|sectors| *sectors = 0);
            }
            out.push(choice);
        }
        if count > 0 || self.dirty().next().is_some() {
            out.extend((0..samples).map(|_| self.drawn(rng)));
        }
        out
    }

    fn drawn(&self, rng: &mut ChaCha8Rng) -> Choice {
        let odds = rng.next_u32() % 5;
        let mut names: Vec<bool> = (self.pending.iter())
            .map(|_| rng.next_u32() % 4 < odds)
            .collect();
        self.prune(&mut names);
        let mut choice = self.choice(names, true, true);
        for (all, pages) in choice.files.values_mut() {
            *all = rng.next_u32() as usize % (*all + 1);
            for sectors in pages.iter_mut().flatten() {
                *sectors = match rng.next_u32() % 4 {
                    0 => 0,
                    1 => rng.next_u32() as usize % (PAGE / SECTOR),
                    _ => PAGE / SECTOR,
                };
            }
        }
        choice
    }

    /// The files and folders of a choice.
    pub(super) fn tree(&self, choice: &Choice) -> Tree {
        let mut names = self.names.clone();
        for (change, _) in self.pending.iter().zip(&choice.names).filter(|(_, k)| **k) {
            apply(&mut names, change);
        }
        let mut tree = BTreeMap::new();
        // A name counts if its folder has one: folders come before their content.
        let mut folders = vec![(0, PathBuf::new())];
        let mut seen = BTreeSet::new();
        while let Some((folder, path)) = folders.pop() {
            if !seen.insert(folder) {
                continue;
            }
            let below = (folder, String::new())..(folder + 1, String::new());
            for ((_, name), id) in names.range(below) {
                let (node, path) = (&self.nodes[id], path.join(name));
                let (data, mtime) = match choice.files.get(id) {
                    Some(chosen) => node.after(chosen),
                    None => (node.data.clone(), node.mtime),
                };
                if node.kind == Kind::Folder {
                    folders.push((*id, path.clone()));
                }
                tree.insert(path, (node.kind.clone(), data, mtime));
            }
        }
        Tree(tree)
    }

    /// The state without a crash.
    pub(super) fn whole(&self) -> Tree {
        self.tree(&self.choice(vec![true; self.pending.len()], true, true))
    }
}

impl Node {
    /// Content and time of a file with the given changes and sectors.
    fn after(&self, (counted, kept): &(usize, Vec<Vec<usize>>)) -> (Vec<u8>, SystemTime) {
        let (mut data, mut mtime, mut end) = (self.data.clone(), self.mtime, self.data.len());
        for (n, (change, pages)) in self.pending.iter().zip(kept).enumerate() {
            match change {
                DataChange::Length { len, mtime: at } if n < *counted => {
                    data.resize(*len, 0);
                    (end, mtime) = (*len, *at);
                }
                DataChange::Length { .. } => {}
                DataChange::Write {
                    offset,
                    data: new,
                    mtime: at,
                } => {
                    for (page, sectors) in pages.iter().enumerate() {
                        let from = page * PAGE;
                        let to = (from + sectors * SECTOR).min(new.len());
                        if from < to {
                            if data.len() < offset + to {
                                data.resize(offset + to, 0);
                            }
                            data[offset + from..offset + to].copy_from_slice(&new[from..to]);
                        }
                    }
                    if n < *counted {
                        (end, mtime) = (end.max(offset + new.len()), *at);
                    }
                }
            }
        }
        data.resize(end, 0);
        (data, mtime)
    }
}

fn full(pending: &[DataChange]) -> (usize, Vec<Vec<usize>>) {
    let pages = |change: &DataChange| vec![PAGE / SECTOR; change.pages()];
    (pending.len(), pending.iter().map(pages).collect())
}

fn apply(names: &mut BTreeMap<Entry, NodeId>, change: &NameChange) {
    if let Some(gone) = &change.gone {
        names.remove(gone);
    }
    if let Some(made) = &change.made {
        names.insert(made.clone(), change.node);
    }
}

/// A step in one line.
pub(super) fn brief(step: &Step) -> String {
    match step {
        Step::Make { at, node, .. } => format!("make {} as {node}", at.1),
        Step::Rename { from, to, .. } => format!("rename {} to {}", from.1, to.1),
        Step::Remove { at, .. } => format!("remove {}", at.1),
        Step::Write {
            node, offset, data, ..
        } => format!("write {} at {offset} of {node}", data.len()),
        Step::Length { node, len, .. } => format!("cut {node} to {len}"),
        Step::Sync { node, path } => {
            let name = path.file_name().unwrap_or_default();
            format!("sync {node}, {}", name.display())
        }
        Step::SyncAll { nodes } => format!("sync all {}", nodes.len()),
    }
}

impl Tree {
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, (kind, data, mtime)) in &self.0 {
            let link = match kind {
                Kind::Link(to) => Some(to),
                _ => None,
            };
            (path, link, data, mtime).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Creates it below `dir`, with its times.
    pub(super) fn write(&self, dir: &Path) {
        for (path, (kind, data, mtime)) in &self.0 {
            let path = dir.join(path);
            match kind {
                Kind::Folder => fs::create_dir(path).unwrap(),
                Kind::Link(to) => std::os::unix::fs::symlink(to, path).unwrap(),
                Kind::File => {
                    fs::write(&path, data).unwrap();
                    let file = File::options().write(true).open(path).unwrap();
                    let times = FileTimes::new().set_modified(*mtime);
                    file.set_times(times).unwrap();
                }
            }
        }
    }

    /// Asserts that the folder `dir` is equal to this: nothing was changed without being recorded.
    pub(super) fn assert_is(&self, dir: &Path) {
        let mut found = BTreeMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(dir.join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let path = folder.join(entry.file_name());
                let kind = entry.file_type().unwrap();
                let (kind, data) = if kind.is_dir() {
                    folders.push(path.clone());
                    (Kind::Folder, Vec::new())
                } else if kind.is_symlink() {
                    (Kind::Link(fs::read_link(entry.path()).unwrap()), Vec::new())
                } else {
                    (Kind::File, fs::read(entry.path()).unwrap())
                };
                found.insert(path, (kind, data));
            }
        }
        let ours: Vec<_> = self.0.iter().map(|(p, (k, d, _))| (p, k, d)).collect();
        let theirs: Vec<_> = found.iter().map(|(p, (k, d))| (p, k, d)).collect();
        let brief = |all: &[(&PathBuf, &Kind, &Vec<u8>)]| -> Vec<String> {
            let line = |(p, k, d): &(&PathBuf, &Kind, &Vec<u8>)| {
                format!("{} {k:?} {}", p.display(), d.len())
            };
            all.iter().map(line).collect()
        };
        assert!(
            ours == theirs,
            "changed past the file layer: {:#?} in the recording, {:#?} on the disk",
            brief(&ours),
            brief(&theirs)
        );
    }
}
