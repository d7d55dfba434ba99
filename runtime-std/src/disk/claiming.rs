//! Claims of torrents on their files: which path belongs to which torrent, and which files that exist may
//! be taken.
//!
//! A torrent claims the paths of its files before it writes or serves any of them.
//!
//! - Within one [`Disk`](super::Disk), a path that one torrent writes cannot be used by another torrent; a
//!   path that nobody writes may be shared. Paths are compared after the system has resolved their folders,
//!   links included.
//! - A file that exists is taken for writing only if the engine vouches for it, if it carries this
//!   torrent's mark (an extended attribute, kept from the first write until the torrent is complete, so that
//!   a process recognises its own files after it was killed), or if it holds nothing but zeros.
//! - A file that does not exist is created exclusively, so anything that appears at its path in the
//!   meantime is left alone, however the file system compares names.
//! - A file that is open for writing is locked, also against other processes and sessions.
//!
//! Not covered: other programs; file systems without locks or attributes, where the engine's record and the
//! content alone decide; a file reached through two mounts of one folder while neither torrent has it open;
//! and a file that a user overwrites in place during a download, which counts as this torrent's file until
//! it is next looked at.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, ErrorKind},
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use dunlin_core::{
    Bitfield, OpError, OpErrorKind,
    metainfo::FileKind,
    op::{Claim, FileStat, Whose},
};

use super::{
    access::Disk,
    errors::{self, is_missing},
    files::{Files, flag, try_lock},
    ledger::Owned,
    transfer,
};
use crate::{
    paths::Names,
    platform::{self, Access, Root},
};

/// The most files named in one error: a torrent may have a million.
const MAX_NAMED: usize = 10;
/// Bytes read at a time when a file is searched for anything but zeros.
const RUN: usize = 64 * 1024;

impl Disk<'_> {
    /// See [`dunlin_core::Op::Claim`].
    pub(super) fn claim(
        &self,
        whose: &[Whose],
        have: &Bitfield,
        claim: Claim,
    ) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        let write = claim != Claim::Read;
        let whose = |i: usize| whose.get(i).copied().unwrap_or_default();
        let regular: Vec<usize> = (0..files.paths.len())
            .filter(|&i| files.info.files()[i].kind == FileKind::Regular)
            .collect();
        let used = regular
            .iter()
            .copied()
            .filter(|&i| write || whose(i) != Whose::Unknown);
        let paths = files.canonical(used);
        let name = files.info.name();
        let taken = self.shared.claims().take(files.torrent, name, paths, write);
        if let Err(taken) = taken {
            let mut obstacles = Obstacles::default();
            for (path, by) in taken {
                let why = format!("the torrent {by:?} uses it");
                obstacles.add(&path, Obstacle::new(OpErrorKind::InUse, why));
            }
            return Err(obstacles.into());
        }
        let done = match write {
            false => self.claim_to_read(&regular, whose),
            true => self.claim_to_write(&regular, whose, have, claim == Claim::Overwrite),
        };
        if done.is_err() {
            self.shared.claims().give_up(files.torrent);
        }
        done?;
        Ok(files.ledger().report())
    }

    fn claim_to_read(
        &self,
        regular: &[usize],
        whose: impl Fn(usize) -> Whose,
    ) -> Result<(), OpError> {
        let mut ledger = self.files.ledger();
        ledger.writing = false;
        for &i in regular {
            let known = ledger.stats[i].filter(|_| whose(i) != Whose::Unknown);
            ledger.owned[i] = known.map(|s| Owned(s.id));
            let partly = whose(i) == Whose::Partly;
            self.files.set(i, flag::PARTLY, partly);
        }
        Ok(())
    }

    fn claim_to_write(
        &self,
        regular: &[usize],
        whose: impl Fn(usize) -> Whose,
        have: &Bitfield,
        insists: bool,
    ) -> Result<(), OpError> {
        let files = self.files;
        let root = files.root()?;
        let mut owned = vec![None; files.paths.len()];
        let mut too_long = Vec::new();
        let mut obstacles = Obstacles::default();
        for &i in regular {
            let Some(root) = &root else {
                break;
            };
            files.set(i, flag::PARTLY, false);
            let found = self.judge(root, i, whose(i), have, insists);
            match found.map_err(|e| files.error(i as u32, &e))? {
                Found::Nothing => {}
                Found::Ours(stat) => {
                    owned[i] = Some(Owned(stat.id));
                    if stat.len > files.info.files()[i].len {
                        too_long.push((i, stat.len));
                    }
                    files.ledger().stats[i] = Some(stat);
                }
                Found::Obstacle(obstacle) => {
                    obstacles.add(&files.dir.join(&files.paths[i]), obstacle);
                }
            }
        }
        if !obstacles.is_empty() {
            return Err(obstacles.into());
        }
        {
            let mut ledger = files.ledger();
            (ledger.owned, ledger.writing) = (owned, true);
        }
        for (i, len) in too_long {
            self.cut(i).map_err(|e| files.error(i as u32, &e))?;
            let (path, wanted) = (files.dir.join(&files.paths[i]), files.info.files()[i].len);
            self.shared.note(format!(
                "{}: it was {} too long, which were cut off",
                path.display(),
                bytes(len - wanted)
            ));
        }
        Ok(())
    }

    /// Decides about what exists at the path of a file that is to be written.
    fn judge(
        &self,
        root: &Root,
        i: usize,
        whose: Whose,
        have: &Bitfield,
        insists: bool,
    ) -> io::Result<Found> {
        let files = self.files;
        let path = &files.paths[i];
        let obstacle = |kind, why: &str| Ok(Found::Obstacle(Obstacle::new(kind, why)));
        let found = match root.stat(path) {
            Ok(found) => files.known(found),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(e) if e.kind() == ErrorKind::NotADirectory => {
                let why = "a file stands where its folder has to be";
                return obstacle(OpErrorKind::NotAFile, why);
            }
            Err(e) if platform::is_not_a_file(&e) => {
                return obstacle(OpErrorKind::NotAFile, "it is not a regular file");
            }
            Err(e) => return Err(e),
        };
        let wanted = files.info.files()[i].len;
        let file = root.file(path, Access::Read)?;
        if !try_lock(&file) {
            return obstacle(
                OpErrorKind::InUse,
                "another torrent or program is writing it",
            );
        }
        if insists {
            return Ok(Found::Ours(found));
        }
        match platform::marked(&file) {
            Some(by) if by == files.info.info_hash().to_string() => return Ok(Found::Ours(found)),
            Some(_) if !holds_nothing(&file, 0..found.len, &mut Vec::new())? => {
                let why = "it belongs to another torrent, which has not completed it";
                return obstacle(OpErrorKind::Exists, why);
            }
            _ => {}
        }
        let writes = files.ledger().writing && files.owned(i as u32).is_some_and(|o| o.is(&found));
        if writes || whose == Whose::Recorded {
            return Ok(Found::Ours(found));
        }
        let kept = self.loses_nothing(&file, i, found.len, whose, have)?;
        let more = found.len.saturating_sub(wanted);
        if kept && more == 0 {
            return Ok(Found::Ours(found));
        }
        let too_long = format!("{} too long", bytes(more));
        let why = match (whose, kept, more) {
            (Whose::Unknown, _, 0) => "it holds nothing of this torrent".into(),
            (Whose::Unknown, ..) => format!("it holds nothing of this torrent and is {too_long}"),
            (_, false, 0) => "part of it is not this torrent's".into(),
            (_, false, _) => format!("part of it is not this torrent's, and it is {too_long}"),
            (_, true, _) => format!("it is {too_long}"),
        };
        obstacle(OpErrorKind::Exists, &why)
    }

    /// Whether overwriting the pieces that `have` lacks loses nothing: the first `len` bytes of the file,
    /// as far as they belong to those pieces, are all zeros.
    fn loses_nothing(
        &self,
        file: &File,
        i: usize,
        len: u64,
        whose: Whose,
        have: &Bitfield,
    ) -> io::Result<bool> {
        let info = &self.files.info;
        let entry = &info.files()[i];
        let end = len.min(entry.len);
        let pieces = info.pieces_of(i);
        let holds_nothing = |run: Range<u32>, buf: &mut Vec<u8>| {
            let piece_len = u64::from(info.piece_len());
            let within = |piece: u32| {
                let at = u64::from(piece) * piece_len;
                at.saturating_sub(entry.offset).min(end)
            };
            holds_nothing(file, within(run.start)..within(run.end), buf)
        };
        let mut buf = Vec::new();
        let mut empty = true;
        for run in runs(pieces.clone(), |piece| !have.get(piece)) {
            if !holds_nothing(run, &mut buf)? {
                empty = false;
                break;
            }
        }
        if empty || whose != Whose::Checked {
            return Ok(empty);
        }
        // Zeros pass the check of many torrents, so a piece of zeros does not prove whose the rest of the
        // file is.
        for run in runs(pieces, |piece| have.get(piece)) {
            if !holds_nothing(run, &mut buf)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Truncates a file to its length in the torrent.
    fn cut(&self, i: usize) -> io::Result<()> {
        let files = self.files;
        let file = i as u32;
        let handle = files.writable(&self.shared.handles, file)?;
        platform::set_len(&handle.file, files.info.files()[i].len)?;
        files.soil(file);
        let stat = files.stat_of(&handle.file)?;
        files.ledger().stats[i] = Some(stat);
        Ok(())
    }

    /// See [`dunlin_core::Op::Confirm`].
    pub(super) fn confirm(&self, done: bool) -> Result<Vec<Option<FileStat>>, OpError> {
        let files = self.files;
        self.selection().settle()?;
        if files.ledger().writing || files.written.load(Ordering::Acquire) {
            self.extras().make();
        }
        let root = files.root()?;
        let mut stats = vec![None; files.paths.len()];
        for (i, entry) in files.info.files().iter().enumerate() {
            if entry.kind == FileKind::Regular {
                let found = files.look_at(root.as_ref(), i);
                stats[i] = found.map_err(|e| files.error(i as u32, &e))?;
            }
        }
        files.ledger().stats.clone_from(&stats);
        if done && files.ledger().writing {
            // The torrent is complete, so nobody writes its files any more: their marks are removed.
            self.shared.handles.close_all(files.torrent);
            for (i, _) in stats.iter().enumerate().filter(|(_, s)| s.is_some()) {
                let file = root.as_ref().map(|r| r.file(&files.paths[i], Access::Read));
                if let Some(Ok(file)) = file {
                    platform::unmark(&file);
                }
            }
        }
        Ok(files.ledger().report())
    }
}

/// What exists at a path.
enum Found {
    Nothing,
    /// A file that may be written to.
    Ours(FileStat),
    /// Something that may not be written to.
    Obstacle(Obstacle),
}

/// Something at the path of a file that has to be written.
struct Obstacle {
    kind: OpErrorKind,
    /// The reason, for people, without the path.
    why: String,
}

impl Obstacle {
    fn new(kind: OpErrorKind, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { kind, why }
    }
}

/// The obstacles to a claim, of which [`MAX_NAMED`] are named.
#[derive(Default)]
struct Obstacles {
    named: Vec<String>,
    all: usize,
    /// The kind of obstacle that is hardest to remove.
    kind: Option<OpErrorKind>,
}

impl Obstacles {
    fn is_empty(&self) -> bool {
        self.all == 0
    }

    fn add(&mut self, path: &Path, Obstacle { kind, why }: Obstacle) {
        self.all += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(format!("{}: {why}", path.display()));
        }
        self.kind = match (self.kind, kind) {
            (Some(OpErrorKind::InUse), _) => self.kind,
            (Some(OpErrorKind::NotAFile), OpErrorKind::Exists) => self.kind,
            _ => Some(kind),
        };
    }
}

impl From<Obstacles> for OpError {
    fn from(obstacles: Obstacles) -> Self {
        let mut detail = obstacles.named.join("; ");
        if obstacles.all > MAX_NAMED {
            detail.push_str(&format!("; and {} more", obstacles.all - MAX_NAMED));
        }
        Self {
            kind: obstacles.kind.unwrap_or(OpErrorKind::Exists),
            detail,
        }
    }
}

impl Files {
    /// The paths of the given files with all links of their folders resolved.
    fn canonical(&self, of: impl Iterator<Item = usize>) -> Vec<PathBuf> {
        let mut folders: HashMap<&Path, PathBuf> = HashMap::new();
        let mut paths = Vec::new();
        for i in of {
            let path = &self.paths[i];
            let folder = path.parent().unwrap_or(Path::new(""));
            let real = folders
                .entry(folder)
                .or_insert_with(|| resolve(&self.dir.join(folder)));
            let path = real.join(path.file_name().unwrap_or_default());
            paths.push(fold(&path, self.names));
        }
        paths
    }
}

/// The folder `dir` with links resolved, as far as it exists.
fn resolve(dir: &Path) -> PathBuf {
    let here = Path::new(".");
    for above in dir.ancestors() {
        let above = if above.as_os_str().is_empty() {
            here
        } else {
            above
        };
        if let Ok(real) = std::fs::canonicalize(above) {
            let rest = dir.strip_prefix(above).unwrap_or(dir);
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    dir.to_path_buf()
}

/// The path in a form that is equal for all spellings that the file system takes for the same file.
fn fold(path: &Path, names: Names) -> PathBuf {
    match names.folds_case() {
        true => path.to_string_lossy().to_lowercase().into(),
        false => path.to_path_buf(),
    }
}

/// The runs of consecutive pieces that `belongs` selects.
fn runs(mut pieces: Range<u32>, belongs: impl Fn(u32) -> bool) -> impl Iterator<Item = Range<u32>> {
    std::iter::from_fn(move || {
        let start = pieces.find(|piece| belongs(*piece))?;
        let end = pieces.find(|piece| !belongs(*piece));
        Some(start..end.unwrap_or(pieces.end))
    })
}

/// Whether these bytes of a file are all zeros; `buf` is scratch memory.
fn holds_nothing(file: &File, bytes: Range<u64>, buf: &mut Vec<u8>) -> io::Result<bool> {
    let mut at = bytes.start;
    while at < bytes.end {
        match platform::next_data(file, at)? {
            None => return Ok(true),
            Some(data) => at = data.max(at),
        }
        let part = bytes.end.saturating_sub(at).min(RUN as u64) as usize;
        if buf.len() < part {
            buf.resize(part, 0);
        }
        transfer::read_exact(file, &mut buf[..part], at)?;
        if buf[..part].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += part as u64;
    }
    Ok(true)
}

/// A number of bytes with its unit.
fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".into(),
        count => format!("{count} bytes"),
    }
}

impl Disk<'_> {
    /// Deletes the files that belong to this torrent, and the folders that are empty afterwards.
    pub(super) fn delete(&self) -> Result<(), OpError> {
        let files = self.files;
        let Some(root) = files.root()? else {
            return Ok(());
        };
        let mut first = Ok(());
        let mut folders = BTreeSet::new();
        let mut remove = |path: &Path| {
            folders.extend(
                path.ancestors()
                    .skip(1)
                    .filter(|p| *p != Path::new(""))
                    .map(Path::to_path_buf),
            );
            match root.remove_file(path) {
                Err(e) if !is_missing(&e) && first.is_ok() => {
                    first = Err(errors::error(&files.dir.join(path), &e));
                }
                _ => {}
            }
        };
        for (i, entry) in files.info.files().iter().enumerate() {
            let path = &files.paths[i];
            let ours = match &entry.kind {
                FileKind::Regular => {
                    let owned = files.owned(i as u32).is_some() && !files.has(i, flag::PARTLY);
                    owned && files.look_at(Some(&root), i).is_ok_and(|s| s.is_some())
                }
                FileKind::Symlink(target) => self.extras().link_target(target).is_some_and(|to| {
                    root.link_target(path)
                        .is_ok_and(|is| is == self.extras().link(i, to))
                }),
                _ => false,
            };
            if ours {
                remove(path);
            }
        }
        remove(files.parts.path());
        // Children come after their parents in this order. A folder that is not empty holds something that
        // is not this torrent's, and stays.
        for folder in folders.iter().rev() {
            let _ = root.remove_folder(folder);
        }
        first
    }
}
