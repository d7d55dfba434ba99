//! The session folder, and the right to run each torrent.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    Error, Result, dht_cache,
    session::{SessionFolder, Sharing, TorrentLock},
};
use dunlin_core::{InfoHash, dht::Saved, metainfo, op::Outcome};

/// An open session folder. Dropping it gives up its locks.
#[derive(Debug)]
pub struct Store {
    folder: SessionFolder,
    locks: Mutex<BTreeMap<InfoHash, TorrentLock>>,
}

/// What an earlier session left of a torrent.
#[derive(Debug, Default)]
pub struct Kept {
    /// Its torrent file, if it is sound.
    pub torrent: Option<metainfo::Torrent>,
    /// Its resume record.
    pub resume: Option<Vec<u8>>,
    /// What a person should know.
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
        })
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<InfoHash, TorrentLock>> {
        // Nothing panics while it is held.
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a torrent for this process and says what is kept of it. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`]: another process, or this one, runs it, or the platform refuses.
    pub fn claim(&self, info_hash: InfoHash) -> Result<Kept> {
        let lock = self.folder.claim(info_hash).map_err(Error::Folder)?;
        let stored = self.folder.load(info_hash).map_err(Error::Folder)?;
        self.locks().insert(info_hash, lock);
        let mut kept = Kept {
            torrent: None,
            resume: stored.resume,
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

    /// Gives a torrent up that was claimed and not added after all.
    pub fn release(&self, info_hash: InfoHash) {
        self.locks().remove(&info_hash);
    }

    /// Keeps a torrent file. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`].
    pub fn keep(&self, torrent: &metainfo::Torrent) -> Result<()> {
        let info_hash = torrent.info.info_hash();
        self.folder
            .save_torrent(info_hash, &torrent.to_bytes())
            .map_err(Error::Folder)
    }

    /// Keeps a resume record, as the answer to `Op::Save`. Blocks.
    #[must_use]
    pub fn save(&self, info_hash: InfoHash, record: &[u8]) -> Outcome {
        self.folder.save(info_hash, record)
    }

    /// The DHT's table of the last session, and what a person should know of it. Blocks.
    #[must_use]
    pub fn load_dht(&self) -> dht_cache::Loaded {
        dht_cache::load(self.folder.dir())
    }

    /// Keeps the DHT's table, as the answer to `Op::SaveDht`. Blocks.
    #[must_use]
    pub fn save_dht(&self, saved: &Saved) -> Outcome {
        match dht_cache::save(self.folder.dir(), saved) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed {
                error: error.into(),
                blocks: Vec::new(),
            },
        }
    }

    /// Forgets a torrent. Blocks.
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
