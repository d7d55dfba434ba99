//! The session folder, and the claims on its torrents.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Error, Result,
    dht_cache::{self, CacheLock},
    folder::{SessionFolder, Sharing, TorrentLock},
};
use dunlin_core::{InfoHash, Outcome, dht::Saved, metainfo};

/// An open session folder. Dropping it releases its locks.
#[derive(Debug)]
pub struct Store {
    folder: SessionFolder,
    locks: Mutex<BTreeMap<InfoHash, TorrentLock>>,
    /// Held by the one process whose DHT node has the id in the saved table.
    dht: Mutex<Option<CacheLock>>,
}

/// What an earlier session saved of a torrent.
#[derive(Debug, Default)]
pub struct Kept {
    /// Its torrent file, if it can be parsed.
    pub torrent: Option<metainfo::Torrent>,
    /// Its resume record.
    pub resume: Option<Vec<u8>>,
    /// The folder in which it is saved.
    pub place: Option<PathBuf>,
    /// Messages for people.
    pub notes: Vec<String>,
}

impl Store {
    /// Opens the folder, shared with other processes. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn open(dir: &Path) -> Result<Self> {
        Ok(Self {
            folder: SessionFolder::open(dir, Sharing::Shared).map_err(Error::Folder)?,
            locks: Mutex::default(),
            dht: Mutex::default(),
        })
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<InfoHash, TorrentLock>> {
        // No code panics while this lock is held.
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a torrent for this process, and returns what is saved of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`]: another process, or this one, runs it, or the platform's error.
    pub fn claim(&self, info_hash: InfoHash) -> Result<Kept> {
        let lock = self.folder.claim(info_hash).map_err(Error::Folder)?;
        let stored = self.folder.load(info_hash).map_err(Error::Folder)?;
        self.locks().insert(info_hash, lock);
        let mut kept = Kept {
            torrent: None,
            resume: stored.resume,
            place: stored.place,
            notes: stored.notes,
        };
        if let Some(bytes) = stored.torrent {
            match metainfo::Torrent::parse(&bytes) {
                Ok(torrent) if torrent.info.info_hash() == info_hash => {
                    kept.torrent = Some(torrent);
                }
                Ok(_) => kept
                    .notes
                    .push(self.folder.set_aside_torrent(info_hash, "another torrent")),
                Err(error) => kept
                    .notes
                    .push(self.folder.set_aside_torrent(info_hash, &error.to_string())),
            }
        }
        Ok(kept)
    }

    /// Releases a torrent that was claimed and then not added.
    pub fn release(&self, info_hash: InfoHash) {
        self.locks().remove(&info_hash);
    }

    /// Saves a torrent file. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn keep(&self, torrent: &metainfo::Torrent) -> Result<()> {
        let info_hash = torrent.info.info_hash();
        self.folder
            .save_torrent(info_hash, &torrent.to_bytes())
            .map_err(Error::Folder)
    }

    /// Saves the folder of a torrent. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn place(&self, info_hash: InfoHash, dir: &Path) -> Result<()> {
        self.folder
            .save_place(info_hash, dir)
            .map_err(Error::Folder)
    }

    /// Saves a resume record; returns the outcome of `Op::Save`. Blocks.
    #[must_use]
    pub fn save(&self, info_hash: InfoHash, record: &[u8]) -> Outcome {
        self.folder.save(info_hash, record)
    }

    /// Loads the DHT's table of the last session, and a message for people about it. If another process has
    /// the table, this one gets the nodes but not the id: two nodes must not have the same id. Blocks.
    #[must_use]
    pub fn load_dht(&self) -> dht_cache::Loaded {
        let dir = self.folder.dir();
        let mut lock = self.dht.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            *lock = dht_cache::claim(dir).ok();
        }
        let mut loaded = dht_cache::load(dir);
        if let (None, Some(saved)) = (&*lock, &mut loaded.saved) {
            (saved.id, saved.id6) = (None, None);
        }
        loaded
    }

    /// Saves the DHT's table; returns the outcome of `Op::SaveDht`. Does nothing if another process has the
    /// table. Blocks.
    #[must_use]
    pub fn save_dht(&self, saved: &Saved) -> Outcome {
        let lock = self.dht.lock().unwrap_or_else(PoisonError::into_inner);
        if lock.is_none() {
            return Outcome::Done;
        }
        match dht_cache::save(self.folder.dir(), saved) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: error.into(),
                blocks: Vec::new(),
            },
        }
    }

    /// Removes everything that is saved of a torrent. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn forget(&self, info_hash: InfoHash) -> Result<()> {
        let lock = self.locks().remove(&info_hash);
        match lock {
            Some(lock) => self.folder.remove(info_hash, lock).map_err(Error::Folder),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::NodeId;

    #[test]
    fn s29_one_process_keeps_the_dht_and_others_only_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Store::open(dir.path()).unwrap();
        let second = Store::open(dir.path()).unwrap();
        assert!(first.load_dht().saved.is_none());
        let saved = |n: u8| Saved {
            id: Some(NodeId([n; 20])),
            ..Saved::default()
        };
        assert!(matches!(first.save_dht(&saved(1)), Outcome::Done));
        assert_eq!(second.load_dht().saved.unwrap().id, None);
        assert!(matches!(second.save_dht(&saved(2)), Outcome::Done));
        let kept = || dht_cache::look(dir.path()).unwrap().unwrap().id;
        assert_eq!(kept(), saved(1).id);
        drop(first);
        assert_eq!(second.load_dht().saved.unwrap().id, saved(1).id);
        assert!(matches!(second.save_dht(&saved(2)), Outcome::Done));
        assert_eq!(kept(), saved(2).id);
    }
}
