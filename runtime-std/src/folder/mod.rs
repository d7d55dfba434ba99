//! The session folder: what Dunlin remembers from one run to the next.
//!
//! ```text
//!  session/lock                    held shared by every process, alone by a daemon
//!          <name>.owner            held by the process that made it
//!          claims                  held while a process looks at claims or changes them
//!          <info-hash>.lock        names the owner that runs this torrent: see `claims`
//!          <info-hash>.torrent     the torrent file, as it came
//!          <info-hash>.place       the folder that it is saved in, sealed like a record
//!          <info-hash>.resume      the engine's record, sealed: magic, SHA-1, bytes
//!          <info-hash>.resume.bak  the record before
//!          rtorrent.dht_cache      the DHT's table, in rTorrent's format: see [`dht_cache`](crate::dht_cache)
//!          <name>.damaged          what could not be read, kept for a person to look at
//! ```
//!
//! Files are written under a temporary name, made durable, and renamed into place, so a crash
//! leaves the old or the new one. Nothing that is damaged or foreign is fatal, and nothing of
//! the kind is deleted.

mod claims;

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind, Read},
    path::{Path, PathBuf},
};

use dunlin_core::{InfoHash, OpError, OpErrorKind, Outcome, hash::sha1};

use self::claims::{Claim, Claims, Refused};
use crate::{
    disk::write_all,
    platform::{self, Root, private_folder, same_file},
};

/// The name of the DHT's table in the folder, which is rTorrent's; see [`dht_cache`](crate::dht_cache).
pub const DHT_CACHE: &str = "rtorrent.dht_cache";
/// The start of every sealed record; the digit is the version of the format.
const MAGIC: &[u8; 8] = b"dunlin1\n";
/// The largest file that is read. A torrent of 2^22 pieces has 80 MiB of hashes.
const MAX_FILE: u64 = 128 << 20;
/// The most damaged files of one name that are kept; after that the newest replaces the last one.
const MAX_DAMAGED: u32 = 100;
/// How often a lock file that is deleted while we open it is opened again before it counts as busy.
const LOCK_TRIES: u32 = 8;

/// How a process shares the session folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// With processes that run other torrents.
    Shared,
    /// With no other process.
    Alone,
}

/// What failed, and the path.
#[derive(Debug)]
pub enum SessionError {
    /// Another process holds the lock at this path.
    Busy(PathBuf),
    /// The platform's error at this path.
    Io(PathBuf, io::Error),
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(path) => write!(f, "{}: in use by another dunlin", path.display()),
            Self::Io(path, e) => write!(f, "{}: {e}", path.display()),
        }
    }
}

impl std::error::Error for SessionError {}

type Result<T> = std::result::Result<T, SessionError>;

/// An open session folder, locked until this is dropped.
#[derive(Debug)]
pub struct SessionFolder {
    dir: PathBuf,
    claims: Claims,
    _lock: File,
}

/// The claim on a torrent; released when dropped.
#[derive(Debug)]
pub struct TorrentLock(#[expect(dead_code, reason = "it is dropped")] Claim);

/// The content of the session folder.
#[derive(Debug, Default)]
pub struct Listing {
    /// The torrents that have a torrent file, a record or both, sorted.
    pub torrents: Vec<InfoHash>,
    /// Messages for people: files with names that Dunlin does not use.
    pub notes: Vec<String>,
}

/// What the session folder holds of one torrent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The torrent file; a torrent added by magnet link has none until its metadata has arrived.
    pub torrent: Option<Vec<u8>>,
    /// The engine's record.
    pub resume: Option<Vec<u8>>,
    /// The folder in which its files are saved.
    pub place: Option<PathBuf>,
    /// Messages for people: what was damaged, and its new name.
    pub notes: Vec<String>,
}

impl SessionFolder {
    /// Opens `dir`. Creates it if it does not exist, readable by its owner only, as it tells what was
    /// downloaded.
    pub fn open(dir: &Path, sharing: Sharing) -> Result<Self> {
        private_folder(dir).map_err(|e| SessionError::Io(dir.into(), e))?;
        let lock = lock(&dir.join("lock"), sharing)?;
        Ok(Self {
            claims: Claims::open(dir).map_err(|e| SessionError::Io(dir.into(), e))?,
            dir: dir.into(),
            _lock: lock,
        })
    }

    /// The path of the folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Claims a torrent for this process.
    pub fn claim(&self, torrent: InfoHash) -> Result<TorrentLock> {
        let path = self.path(torrent, "lock");
        match self.claims.claim(path.clone()) {
            Ok(claim) => Ok(TorrentLock(claim)),
            Err(Refused::Busy) => Err(SessionError::Busy(path)),
            Err(Refused::Io(error)) => Err(SessionError::Io(path, error)),
        }
    }

    /// Saves a torrent file.
    pub fn save_torrent(&self, torrent: InfoHash, bytes: &[u8]) -> Result<()> {
        self.replace(&self.path(torrent, "torrent"), &[bytes], false)
    }

    /// Saves the engine's record; the previous one is kept as `.bak`.
    pub fn save_resume(&self, torrent: InfoHash, record: &[u8]) -> Result<()> {
        let seal = sha1(record);
        let path = self.path(torrent, "resume");
        self.replace(&path, &[MAGIC, &seal, record], true)
    }

    /// Saves the folder in which a torrent's files are saved.
    pub fn save_place(&self, torrent: InfoHash, dir: &Path) -> Result<()> {
        let path = self.path(torrent, "place");
        let dir = dir.as_os_str().as_encoded_bytes();
        if platform::path(dir.to_vec()).is_none() {
            // The path could not be read again, and the previous one is out of date.
            return match platform::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(SessionError::Io(path, e)),
                _ => Ok(()),
            };
        }
        self.replace(&path, &[MAGIC, &sha1(dir), dir], false)
    }

    /// [`SessionFolder::save_resume`] as the outcome of `Op::Save`.
    #[must_use]
    pub fn save(&self, torrent: InfoHash, record: &[u8]) -> Outcome {
        match self.save_resume(torrent, record) {
            Ok(()) => Outcome::Done,
            Err(e) => Outcome::Failed {
                error: e.into(),
                blocks: Vec::new(),
            },
        }
    }

    /// Loads what is saved of a torrent. A damaged record is set aside, and the previous one is used.
    pub fn load(&self, torrent: InfoHash) -> Result<Stored> {
        let mut stored = Stored::default();
        let path = self.path(torrent, "torrent");
        stored.torrent = match read(&path)? {
            Some(bytes) if bytes.is_empty() => {
                stored.notes.push(set_aside(&path, "it is empty"));
                None
            }
            found => found,
        };
        let path = self.path(torrent, "place");
        if let Some(bytes) = read(&path)? {
            let dir = unseal(bytes).and_then(platform::path);
            match dir {
                Some(dir) => stored.place = Some(dir),
                None => stored.notes.push(set_aside(&path, "it is torn")),
            }
        }
        for name in ["resume", "resume.bak"] {
            let path = self.path(torrent, name);
            let Some(bytes) = read(&path)? else {
                continue;
            };
            stored.resume = unseal(bytes);
            if stored.resume.is_some() {
                break;
            }
            stored.notes.push(set_aside(&path, "it is torn"));
        }
        Ok(stored)
    }

    /// Sets aside a torrent file that the caller could not parse. Returns a message for the user.
    #[must_use]
    pub fn set_aside_torrent(&self, torrent: InfoHash, why: &str) -> String {
        set_aside(&self.path(torrent, "torrent"), why)
    }

    /// Lists the torrents in the folder.
    pub fn list(&self) -> Result<Listing> {
        let failed = |e| SessionError::Io(self.dir.clone(), e);
        let (mut torrents, mut foreign) = (BTreeSet::new(), BTreeSet::new());
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            // An entry that cannot be read must not hide the others.
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                foreign.insert(entry.path());
                continue;
            };
            let is_file = entry.path().is_file();
            match name.split_once('.').map(|(hash, kind)| (parse(hash), kind)) {
                Some((Some(hash), "torrent" | "resume" | "resume.bak")) if is_file => {
                    torrents.insert(hash);
                }
                Some((Some(_), "lock" | "place")) => {}
                Some((Some(_), kind)) if kind.ends_with(".tmp") || kind.contains(".damaged") => {}
                None if name == "lock" => {}
                _ if claims::is_ours(name) => {}
                _ if name.starts_with(DHT_CACHE) => {}
                _ => drop(foreign.insert(entry.path())),
            }
        }
        let note = |path: PathBuf| format!("{}: not ours, left alone", path.display());
        Ok(Listing {
            torrents: torrents.into_iter().collect(),
            notes: foreign.into_iter().map(note).collect(),
        })
    }

    /// Removes everything saved of a torrent; `lock` proves that this process has claimed it.
    pub fn remove(&self, torrent: InfoHash, lock: TorrentLock) -> Result<()> {
        for name in ["resume", "resume.bak", "place", "torrent"] {
            let path = self.path(torrent, name);
            match platform::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(SessionError::Io(path, e));
                }
                _ => {}
            }
        }
        drop(lock);
        self.sync()
    }

    fn path(&self, torrent: InfoHash, kind: &str) -> PathBuf {
        self.dir.join(format!("{torrent}.{kind}"))
    }

    fn sync(&self) -> Result<()> {
        sync(&self.dir)
    }

    /// Replaces `path` durably by a file of these `parts`.
    fn replace(&self, path: &Path, parts: &[&[u8]], keep_old: bool) -> Result<()> {
        replace(path, ".tmp", parts, keep_old)?;
        self.sync()
    }
}

/// Makes renames in `dir` durable.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    Root::open(dir)
        .and_then(|root| root.sync_folder("".as_ref()))
        .map_err(|e| SessionError::Io(dir.into(), e))
}

/// Writes `parts` to `path` with `suffix` appended, and renames it to `path`; durable after [`sync`].
pub(crate) fn replace(path: &Path, suffix: &str, parts: &[&[u8]], keep_old: bool) -> Result<()> {
    let temporary = with_suffix(path, suffix);
    let write = || {
        let file = platform::create(&temporary)?;
        let mut at = 0;
        for part in parts {
            write_all(&file, part, at)?;
            at += part.len() as u64;
        }
        platform::sync_file(&file)?;
        if keep_old {
            match platform::rename(path, &with_suffix(path, ".bak")) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        platform::rename(&temporary, path)
    };
    write().map_err(|e| {
        // The file is incomplete. If it cannot be removed now, the next attempt overwrites it.
        let _ = platform::remove_file(&temporary);
        SessionError::Io(path.into(), e)
    })
}

/// Renames a damaged file, and returns a message for the user.
pub(crate) fn set_aside(path: &Path, why: &str) -> String {
    let free = |n: &u32| !damaged(path, *n).exists();
    let to = damaged(path, (0..MAX_DAMAGED).find(free).unwrap_or(MAX_DAMAGED));
    match platform::rename(path, &to) {
        Ok(()) => format!("{}: {why}; kept as {}", path.display(), to.display()),
        Err(e) => format!("{}: {why}; left in place ({e})", path.display()),
    }
}

fn damaged(path: &Path, n: u32) -> PathBuf {
    match n {
        0 => with_suffix(path, ".damaged"),
        n => with_suffix(path, &format!(".damaged-{n}")),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

pub(crate) fn lock(path: &Path, sharing: Sharing) -> Result<File> {
    let failed = |e| SessionError::Io(path.into(), e);
    for _ in 0..LOCK_TRIES {
        let file = platform::open_or_create(path).map_err(failed)?;
        let locked = match sharing {
            Sharing::Shared => file.try_lock_shared(),
            Sharing::Alone => file.try_lock(),
        };
        match locked {
            Err(TryLockError::WouldBlock) => return Err(SessionError::Busy(path.into())),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
            // Another process may have removed the file between the two calls.
            Ok(()) if same_file(&file, path) => return Ok(file),
            Ok(()) => {}
        }
    }
    Err(SessionError::Busy(path.into()))
}

pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let failed = |e| SessionError::Io(path.into(), e);
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(failed)?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        bytes.clear(); // taken as damaged
    }
    Ok(Some(bytes))
}

fn unseal(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let (seal, record) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<20>()?;
    if sha1(record) != *seal {
        return None;
    }
    bytes.drain(..MAGIC.len() + 20);
    Some(bytes)
}

/// Parses an info-hash in hex, as [`InfoHash`] is displayed.
fn parse(hex: &str) -> Option<InfoHash> {
    let (digits, rest) = hex.as_bytes().as_chunks::<2>();
    let lower = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != 20 || !rest.is_empty() || !lower {
        return None;
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(InfoHash(hash))
}

impl From<SessionError> for OpError {
    fn from(e: SessionError) -> Self {
        let detail = e.to_string();
        match e {
            SessionError::Busy(_) => Self {
                kind: OpErrorKind::Denied,
                detail,
            },
            SessionError::Io(path, e) => crate::disk::io_error(&path, &e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: InfoHash = InfoHash([0xab; 20]);
    const B: InfoHash = InfoHash([0x1c; 20]);

    fn folder() -> (tempfile::TempDir, SessionFolder) {
        let dir = tempfile::tempdir().unwrap();
        let session = SessionFolder::open(&dir.path().join("s"), Sharing::Shared).unwrap();
        (dir, session)
    }

    #[test]
    fn what_is_saved_is_loaded_listed_and_removed() {
        let (_dir, s) = folder();
        let lock = s.claim(A).unwrap();
        s.save_torrent(A, b"d4:infode").unwrap();
        for record in [b"one".as_slice(), b"", b"two"] {
            assert!(matches!(s.save(A, record), Outcome::Done));
            assert_eq!(s.load(A).unwrap().resume.unwrap(), record);
        }
        for place in ["/srv/a", "/srv/b"].map(PathBuf::from) {
            s.save_place(A, &place).unwrap();
            assert_eq!(s.load(A).unwrap().place, Some(place));
        }
        s.save_resume(B, b"magnet").unwrap();
        assert_eq!(s.list().unwrap().torrents, [B, A]);
        assert!(s.list().unwrap().notes.is_empty());
        assert_eq!(s.load(A).unwrap().torrent.unwrap(), b"d4:infode");
        s.remove(A, lock).unwrap();
        assert_eq!(s.list().unwrap().torrents, [B]);
        assert_eq!(s.load(A).unwrap(), Stored::default());
        s.claim(A).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_place_need_not_be_unicode() {
        use std::os::unix::ffi::OsStrExt;
        let (_dir, s) = folder();
        let place = Path::new(std::ffi::OsStr::from_bytes(b"/srv/\xff\n"));
        s.save_place(A, place).unwrap();
        assert_eq!(s.load(A).unwrap().place.as_deref(), Some(place));
    }

    #[test]
    fn a_torn_place_is_set_aside_and_named() {
        let (dir, s) = folder();
        s.save_place(A, Path::new("/srv/a")).unwrap();
        let path = dir.path().join(format!("s/{A}.place"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let stored = s.load(A).unwrap();
        assert_eq!(stored.place, None);
        assert_eq!(stored.notes.len(), 1, "{:?}", stored.notes);
        assert!(!path.exists());
        assert_eq!(s.load(A).unwrap(), Stored::default());
        assert!(s.list().unwrap().notes.is_empty());
    }

    #[test]
    fn one_process_a_torrent_and_one_daemon_a_folder() {
        let (dir, s) = folder();
        let path = dir.path().join("s");
        let other = SessionFolder::open(&path, Sharing::Shared).unwrap();
        let held = s.claim(A).unwrap();
        assert!(matches!(other.claim(A), Err(SessionError::Busy(_))));
        assert!(other.claim(B).is_ok());
        drop(held);
        assert!(other.claim(A).is_ok());
        let alone = SessionFolder::open(&path, Sharing::Alone);
        assert!(matches!(alone, Err(SessionError::Busy(_))));
        drop((s, other));
        let _daemon = SessionFolder::open(&path, Sharing::Alone).unwrap();
        assert!(SessionFolder::open(&path, Sharing::Shared).is_err());
    }

    #[test]
    fn a_torn_record_gives_way_to_the_one_before_and_is_kept() {
        let (_dir, s) = folder();
        s.save_resume(A, b"old").unwrap();
        s.save_resume(A, b"new record").unwrap();
        let path = s.path(A, "resume");
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let stored = s.load(A).unwrap();
            assert_eq!(stored.resume.unwrap(), b"old");
            assert_eq!(stored.notes.len(), 1);
            assert!(!path.exists());
        }
        assert_eq!(fs::read(damaged(&path, 0)).unwrap(), b"");
        assert_eq!(fs::read(damaged(&path, 20)).unwrap(), whole[..20]);
        assert_eq!(s.list().unwrap().notes, [""; 0]);
    }

    #[test]
    fn foreign_files_are_named_and_left_alone() {
        let (_dir, s) = folder();
        s.save_resume(B, b"x").unwrap();
        let upper = format!("{A}.torrent").to_uppercase();
        for name in ["notes.txt", "0123.torrent", &upper, ".hidden"] {
            fs::write(s.dir.join(name), b"?").unwrap();
        }
        fs::create_dir(s.path(A, "torrent")).unwrap();
        let listing = s.list().unwrap();
        assert_eq!(listing.torrents, [B]);
        assert_eq!(listing.notes.len(), 5, "{:?}", listing.notes);
        assert!(s.dir.join("notes.txt").exists());
    }

    #[test]
    fn an_empty_torrent_file_is_put_aside() {
        let (_dir, s) = folder();
        fs::write(s.path(A, "torrent"), b"").unwrap();
        let stored = s.load(A).unwrap();
        assert!(stored.torrent.is_none() && stored.notes.len() == 1);
        fs::write(s.path(A, "torrent"), b"rubbish").unwrap();
        assert!(s.set_aside_torrent(A, "not bencode").contains("damaged-1"));
        assert!(!s.path(A, "torrent").exists());
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_record() {
        let (_dir, s) = folder();
        s.save_resume(A, b"old").unwrap();
        fs::create_dir(s.path(A, "resume.tmp")).unwrap();
        let Outcome::Failed { error, .. } = s.save(A, b"new") else {
            panic!("a folder is in the way");
        };
        assert!(error.detail.contains("resume"), "{error}");
        assert_eq!(s.load(A).unwrap().resume.unwrap(), b"old");
        fs::remove_dir(s.path(A, "resume.tmp")).unwrap();
        assert!(matches!(s.save(A, b"new"), Outcome::Done));
    }
}
