//! What an engine and a disk need in order to run a torrent.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use dunlin_core::{
    InfoHash,
    engine::{AddTorrent, FilePriority},
    metainfo::{Info, Magnet},
};

use super::Selector;
use crate::{Result, disk::Placement, session::store::Store};

/// A task to run off the engine's thread; the application is told of its error.
pub type Job = Box<dyn FnOnce() -> Result<()> + Send>;
/// Called once the files of a magnet are known. Returns the priority of each file, and a job that saves the
/// torrent file in the session folder.
pub type OnInfo = Box<dyn FnOnce(Arc<Info>) -> (Vec<FilePriority>, Option<Job>) + Send>;

/// What an engine and a disk need in order to run a torrent.
pub struct Ready {
    /// For the engine.
    pub torrent: AddTorrent,
    /// For the disk.
    pub placement: Placement,
    /// Called when the metadata of a magnet has arrived.
    pub on_info: Option<OnInfo>,
    /// Messages for people.
    pub notes: Vec<String>,
    /// Peers that are given by host name.
    pub hosts: Vec<(String, u16)>,
    /// The claim on the torrent until an engine runs it.
    pub(crate) claim: Option<Claim>,
}

/// The claim on a torrent, released if it is dropped before an engine runs the torrent.
#[derive(Debug)]
pub(crate) struct Claim {
    store: Arc<Store>,
    info_hash: InfoHash,
    kept: bool,
}

impl Claim {
    pub(super) const fn new(store: Arc<Store>, info_hash: InfoHash) -> Self {
        Self {
            store,
            info_hash,
            kept: false,
        }
    }

    pub(super) const fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Keeps the claim: an engine runs the torrent. The claim ends with the torrent's removal, or with the
    /// session.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.store.release(self.info_hash);
        }
    }
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("torrent", &self.torrent)
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

/// What is done when the metadata of `magnet` has arrived.
pub(super) fn when_known(
    magnet: Magnet,
    select: Option<Selector>,
    store: Option<Arc<Store>>,
) -> OnInfo {
    Box::new(move |info| {
        let priorities = select.map_or_else(Vec::new, |select| select(&info));
        let keep = store.map(|store| -> Job {
            // This only saves work for the next session, so nobody waits for it.
            Box::new(move || {
                let _ = store.keep(&magnet.torrent(info));
                Ok(())
            })
        });
        (priorities, keep)
    })
}

/// The selection of a magnet (BEP 53).
pub(super) fn magnet_selector(ranges: Vec<RangeInclusive<u32>>) -> Option<Selector> {
    if ranges.is_empty() {
        return None;
    }
    let wanted = move |file: u32| ranges.iter().any(|range| range.contains(&file));
    Some(Box::new(move |info| {
        (0u32..)
            .zip(info.files())
            .map(|(i, _)| match wanted(i) {
                true => FilePriority::Normal,
                false => FilePriority::Skip,
            })
            .collect()
    }))
}
