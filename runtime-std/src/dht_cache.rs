//! Loads and saves the DHT's table between sessions, as rTorrent's file `rtorrent.dht_cache`.
//!
//! Deleting the file resets the table. As in rTorrent, the file is written with `.new` appended and then
//! renamed. A damaged file is renamed and kept for a person to look at, and the table starts empty.

use std::{
    fs::File,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use dunlin_core::dht::{Saved, cache};

use crate::folder::{SessionError, Sharing, lock, read, replace, set_aside, sync};

pub use crate::folder::DHT_CACHE as FILE;
/// Appended to the name while the file is written.
const NEW: &str = ".new";

/// The content of the cache.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What was saved; `None` if there is no file or it is damaged.
    pub saved: Option<Saved>,
    /// A problem to report, for people.
    pub note: Option<String>,
}

/// Reads the cache of the session folder `dir`. No problem is fatal: without the cache the table starts
/// empty.
#[must_use]
pub fn load(dir: &Path) -> Loaded {
    let path = dir.join(FILE);
    let bytes = match read(&path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Loaded::default(),
        Err(error) => {
            return Loaded {
                saved: None,
                note: Some(format!("{error}; the DHT begins without its cache")),
            };
        }
    };
    match cache::decode(&bytes, unix_now()) {
        Ok(saved) => Loaded {
            saved: Some(saved),
            note: None,
        },
        Err(error) => Loaded {
            saved: None,
            note: Some(set_aside(&path, &format!("no DHT cache: {error}"))),
        },
    }
}

/// Reads the cache of the session folder `dir` without changing anything, also if it is damaged.
///
/// # Errors
/// A sentence: the file cannot be read, or is damaged.
pub fn look(dir: &Path) -> Result<Option<Saved>, String> {
    let bytes = read(&dir.join(FILE)).map_err(|error| error.to_string())?;
    let decode = |bytes: Vec<u8>| {
        cache::decode(&bytes, unix_now())
            .map_err(|error| format!("{}: no DHT cache: {error}", dir.join(FILE).display()))
    };
    bytes.map(decode).transpose()
}

/// A claim on the cache, and with it on the node id that it holds; released when dropped.
#[derive(Debug)]
pub struct CacheLock {
    _file: File,
}

/// Claims the cache of the session folder `dir` for this process: two nodes must not have the same id.
///
/// # Errors
/// Another process holds it, or the platform's error.
pub fn claim(dir: &Path) -> Result<CacheLock, SessionError> {
    let path = dir.join(format!("{FILE}.lock"));
    lock(&path, Sharing::Alone).map(|file| CacheLock { _file: file })
}

/// Writes the cache of the session folder `dir`.
///
/// # Errors
/// The platform's error; the previous file is then unchanged.
pub fn save(dir: &Path, saved: &Saved) -> Result<(), SessionError> {
    let bytes = cache::encode(saved, unix_now());
    replace(&dir.join(FILE), NEW, &[&bytes], false)?;
    sync(dir)
}

/// Seconds since 1970; 0 on a machine whose clock is before that.
fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use dunlin_core::{NodeId, dht::Contact, metainfo::HostPort};

    use super::*;

    fn some() -> Saved {
        let contact = |n: u8| Contact {
            id: NodeId([n; 20]),
            addr: ([192, 0, 2, n], 6881).into(),
        };
        Saved {
            id: Some(NodeId([7; 20])),
            nodes: (1..9).map(|n| (contact(n), 60)).collect(),
            contacts: vec![HostPort::new("router.example", 6881).unwrap()],
            ..Saved::default()
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).saved.is_none());
        let saved = some();
        save(dir.path(), &saved).unwrap();
        let loaded = load(dir.path());
        let found = loaded.saved.unwrap();
        assert_eq!(loaded.note, None);
        assert_eq!((found.id, found.contacts), (saved.id, saved.contacts));
        assert_eq!(found.nodes.len(), saved.nodes.len());
        for ((found, age), (kept, _)) in found.nodes.iter().zip(&saved.nodes) {
            assert_eq!(found, kept);
            // Up to some seconds pass between saving and loading.
            assert!((60..120).contains(age), "{age}");
        }
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing temporary is left: {names:?}");
    }

    #[test]
    fn what_makes_no_sense_is_put_aside_and_the_table_begins_empty() {
        let dir = tempfile::tempdir().unwrap();
        for (n, bytes) in [&b""[..], b"rubbish", b"d5:nodesd"].iter().enumerate() {
            fs::write(dir.path().join(FILE), bytes).unwrap();
            let loaded = load(dir.path());
            assert!(loaded.saved.is_none());
            assert!(loaded.note.unwrap().contains("damaged"));
            let kept = match n {
                0 => format!("{FILE}.damaged"),
                n => format!("{FILE}.damaged-{n}"),
            };
            assert_eq!(fs::read(dir.path().join(kept)).unwrap(), *bytes);
        }
        assert!(!dir.path().join(FILE).exists());
        save(dir.path(), &some()).unwrap();
        assert!(load(dir.path()).saved.is_some());
    }

    #[test]
    fn s29_the_cache_of_a_real_rtorrent_is_read_and_written_back() {
        const REAL: &[u8] = include_bytes!("../../core/tests/data/rtorrent.dht_cache");
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), REAL).unwrap();
        let first = load(dir.path()).saved.unwrap();
        assert!(first.id.is_some() && !first.nodes.is_empty());
        save(dir.path(), &first).unwrap();
        let again = look(dir.path()).unwrap().unwrap();
        let nodes = |saved: &Saved| saved.nodes.iter().map(|(c, _)| *c).collect::<Vec<_>>();
        assert_eq!((again.id, nodes(&again)), (first.id, nodes(&first)));
    }

    #[test]
    fn looking_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(look(dir.path()), Ok(None));
        fs::write(dir.path().join(FILE), b"rubbish").unwrap();
        assert!(look(dir.path()).unwrap_err().contains(FILE));
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), b"rubbish");
        save(dir.path(), &some()).unwrap();
        assert_eq!(look(dir.path()).unwrap().unwrap().id, some().id);
    }

    #[test]
    fn one_node_owns_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let held = claim(dir.path()).unwrap();
        assert!(matches!(claim(dir.path()), Err(SessionError::Busy(_))));
        drop(held);
        claim(dir.path()).unwrap();
    }

    #[test]
    fn a_save_that_fails_leaves_the_cache_of_before() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &some()).unwrap();
        fs::create_dir(dir.path().join(format!("{FILE}{NEW}"))).unwrap();
        let error = save(dir.path(), &Saved::default()).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
        assert_eq!(load(dir.path()).saved.unwrap().id, some().id);
    }
}
