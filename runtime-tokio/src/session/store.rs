//! The session folder, and the right to run each torrent.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use dunlin_core::{InfoHash, metainfo, op::Outcome};
use dunlin_std::session::{SessionFolder, Sharing, TorrentLock};

use crate::{Error, Result};

/// An open session folder. Dropping it gives up its locks.
#[derive(Debug)]
pub(crate) struct Store {
    folder: SessionFolder,
    locks: Mutex<BTreeMap<InfoHash, TorrentLock>>,
}

/// What an earlier session left of a torrent.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) torrent: Option<metainfo::Torrent>,
    pub(super) resume: Option<Vec<u8>>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

impl Store {
    /// Opens the folder, shared with other processes. Blocks.
    pub(super) fn open(dir: &Path) -> Result<Self> {
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
    pub(super) fn claim(&self, info_hash: InfoHash) -> Result<Kept> {
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
    pub(super) fn release(&self, info_hash: InfoHash) {
        self.locks().remove(&info_hash);
    }

    /// Keeps a torrent file. Blocks.
    pub(super) fn keep(&self, torrent: &metainfo::Torrent) -> Result<()> {
        let info_hash = torrent.info.info_hash();
        self.folder
            .save_torrent(info_hash, &torrent.to_bytes())
            .map_err(Error::Folder)
    }

    /// Keeps a resume record. Blocks.
    pub(crate) fn save(&self, info_hash: InfoHash, record: &[u8]) -> Outcome {
        self.folder.save(info_hash, record)
    }

    /// Forgets a torrent. Blocks.
    pub(super) fn forget(&self, info_hash: InfoHash) -> Result<()> {
        let lock = self.locks().remove(&info_hash);
        match lock {
            Some(lock) => self.folder.remove(info_hash, lock).map_err(Error::Folder),
            None => Ok(()),
        }
    }
}
