//! Which process runs which torrent, with one lock for all torrents of a process.
//!
//! A process that opens a session folder creates a file of its own there and keeps it locked. To run a
//! torrent it writes the name of that file into `<info-hash>.lock`: a claim. A claim is valid while the
//! file that it names is locked, so it ends with the process in any case. Claims are read and changed under
//! another lock, which is held only for that.

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

/// The file that is locked while claims are read or changed.
const GATE: &str = "claims";
/// The suffix of the file that a process keeps locked.
const OWNER: &str = ".owner";
/// Names tried for the file of a process. Each contains the time, so the first one works unless another
/// process takes the new file for an abandoned one and removes it.
const OWNER_TRIES: u32 = 8;
/// The longest claim that is read, in bytes.
const MAX_CLAIM: u64 = 128;

/// Whether a file of this name belongs to the claims.
pub(crate) fn is_ours(name: &str) -> bool {
    name == GATE || name.ends_with(OWNER)
}

/// The claims of this process in a folder; dropping this releases all of them.
#[derive(Debug)]
pub(crate) struct Claims(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    dir: PathBuf,
    name: String,
    /// Locked; `None` once the claim is released.
    file: Option<File>,
}

/// A claim on one torrent; released when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    owner: Arc<Owner>,
}

/// The reason why a torrent could not be claimed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Another process, or this one, runs it.
    Busy,
    /// The platform's error.
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Claims {
    /// Registers this process in `dir`, and removes the files of processes that have ended.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let _gate = gate(dir)?;
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(OWNER) && !is_locked(&entry.path())? {
                // A file that cannot be removed is not locked, so it has no effect.
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

    /// Claims the torrent whose claim is the file `path`.
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
        // Without the lock it is uncertain whose claim the file holds. If it stays, it ends with this
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
        // Some systems do not remove open files.
        self.file = None;
        let _ = platform::remove_file(&self.dir.join(&self.name));
    }
}

/// Waits for the lock on claims; it is held until the file is dropped.
fn gate(dir: &Path) -> io::Result<File> {
    let file = platform::open_or_create(&dir.join(GATE))?;
    file.lock()?;
    Ok(file)
}

/// The name of the file in a claim, if there is one.
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

/// Whether a process has locked the file.
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
        // The file of a process that was killed: it is not locked.
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
