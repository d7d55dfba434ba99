//! Which process runs which torrent, with one lock for all torrents of a process.
//!
//! A process that opens a session folder makes a file of its own there and keeps it locked. To
//! run a torrent it writes the name of that file into `<info-hash>.lock`: a claim. A claim holds
//! while the file that it names is locked, so it ends with the process, however that ends. Who
//! looks at claims, or changes them, does so under a lock that nobody holds for longer.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    disk::write_all,
    platform::{self, same_file},
};

/// Locked while claims are looked at or changed.
const GATE: &str = "claims";
/// Ends the name of the file that a process keeps locked.
const OWNER: &str = ".owner";
/// Names tried for the file of a process. Each carries the time, so one is enough but for a race
/// with a process that takes the new file for one left behind.
const OWNER_TRIES: u32 = 8;
/// Longest content of a claim that is looked at.
const MAX_CLAIM: u64 = 128;

/// Whether a file of this name belongs to the claims.
pub(crate) fn is_ours(name: &str) -> bool {
    name == GATE || name.ends_with(OWNER)
}

/// The claims of this process in a folder; they end when it is dropped.
#[derive(Debug)]
pub(crate) struct Claims(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    dir: PathBuf,
    name: String,
    /// Locked; `None` once it is given up.
    file: Option<File>,
}

/// The right to run one torrent; given up when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    owner: Arc<Owner>,
}

/// Why a claim was not to be had.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another process, or this one, has it.
    Busy,
    /// The platform refused.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Claims {
    /// Makes this process known in `dir`, and removes what processes that are gone left there.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let _gate = gate(dir)?;
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(OWNER) && !is_locked(&entry.path())? {
                // What cannot be removed is as stale as before, and in nobody's way.
                let _ = platform::remove_file(&entry.path());
            }
        }
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let started = started.unwrap_or_default().as_nanos();
        for n in 0..OWNER_TRIES {
            let name = format!("{:x}-{started:x}-{n}{OWNER}", std::process::id());
            let path = dir.join(&name);
            if path.exists() {
                continue;
            }
            let file = platform::open_or_create(&path)?;
            match file.try_lock() {
                Ok(()) if same_file(&file, &path) => {
                    let (dir, file) = (dir.into(), Some(file));
                    return Ok(Self(Arc::new(Owner { dir, name, file })));
                }
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// Claims the torrent whose claim is kept at `path`.
    pub(crate) fn claim(&self, path: PathBuf) -> Result<Claim, Refused> {
        let owner = &self.0;
        let _gate = gate(&owner.dir)?;
        if let Some(name) = read(&path)?
            && (name == owner.name || is_locked(&owner.dir.join(name))?)
        {
            return Err(Refused::Busy);
        }
        let file = platform::create(&path)?;
        write_all(&file, owner.name.as_bytes(), 0)?;
        Ok(Claim {
            path,
            owner: Arc::clone(owner),
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Without the lock it would be a guess whose claim it is: left behind, it ends with this
        // process.
        if let Ok(_gate) = gate(&self.owner.dir)
            && read(&self.path).is_ok_and(|name| name.as_deref() == Some(&self.owner.name))
        {
            let _ = platform::remove_file(&self.path);
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // Some systems do not remove an open file.
        self.file = None;
        let _ = platform::remove_file(&self.dir.join(&self.name));
    }
}

/// Waits for the turn of this process; it lasts until the file is dropped.
fn gate(dir: &Path) -> io::Result<File> {
    let file = platform::open_or_create(&dir.join(GATE))?;
    file.lock()?;
    Ok(file)
}

/// The file that a claim names, if it names one.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(meta) if meta.len() > MAX_CLAIM => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        meta => meta?,
    };
    let name = fs::read(path)?;
    let is_plain =
        |b: &u8| b.is_ascii_hexdigit() || matches!(b, b'-' | b'.') || b"owner".contains(b);
    let name = String::from_utf8(name).unwrap_or_default();
    let plain = name.ends_with(OWNER) && name.bytes().all(|b| is_plain(&b));
    Ok(Some(name).filter(|_| plain))
}

/// Whether a process keeps a file locked.
fn is_locked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.lock");
        (dir, path)
    }

    #[test]
    fn a_claim_keeps_others_and_its_owner_from_claiming_again() {
        let (dir, path) = folder();
        let first = Claims::open(dir.path()).unwrap();
        let second = Claims::open(dir.path()).unwrap();
        let claim = first.claim(path.clone()).unwrap();
        for claims in [&first, &second] {
            assert!(matches!(claims.claim(path.clone()), Err(Refused::Busy)));
        }
        drop(claim);
        assert!(!path.exists());
        let _claim = second.claim(path.clone()).unwrap();
        assert!(matches!(first.claim(path), Err(Refused::Busy)));
    }

    #[test]
    fn what_a_killed_process_claimed_is_free_and_its_file_is_removed() {
        let (dir, path) = folder();
        // As it is left by a process that had no time to clean up: nobody locks the file.
        let dead = dir.path().join("1-2-0.owner");
        fs::write(&dead, "").unwrap();
        fs::write(&path, "1-2-0.owner").unwrap();
        let claims = Claims::open(dir.path()).unwrap();
        assert!(!dead.exists());
        let _claim = claims.claim(path).unwrap();
    }

    #[test]
    fn a_claim_that_makes_no_sense_is_none() {
        let (dir, path) = folder();
        let claims = Claims::open(dir.path()).unwrap();
        for content in ["", "../../etc/passwd.owner", "x", "\u{fffd}.owner"] {
            fs::write(&path, content).unwrap();
            drop(claims.claim(path.clone()).unwrap());
        }
        fs::write(&path, vec![b'0'; 1 << 20]).unwrap();
        drop(claims.claim(path).unwrap());
    }
}
