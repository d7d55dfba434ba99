//! What an engine and a disk are given.

use std::{fmt, ops::RangeInclusive, sync::Arc};

use dunlin_core::{
    InfoHash,
    engine::{AddTorrent, FilePriority},
    metainfo::{Info, Magnet},
};

use super::Selector;
use crate::{Result, disk::Placement, session::store::Store};

/// Something to do off the engine's thread; the application hears of its error.
pub type Job = Box<dyn FnOnce() -> Result<()> + Send>;
/// What to do once the files of a magnet are known: says how much each is wanted, and how the
/// session folder comes to know them.
pub type OnInfo = Box<dyn FnOnce(Arc<Info>) -> (Vec<FilePriority>, Option<Job>) + Send>;

/// What an engine and a disk are given.
pub struct Ready {
    /// For the engine.
    pub torrent: AddTorrent,
    /// For the disk.
    pub placement: Placement,
    /// For a magnet's metadata, when it has come.
    pub on_info: Option<OnInfo>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Peers that are named by host.
    pub hosts: Vec<(String, u16)>,
    /// The right to run it, until an engine does.
    pub(crate) claim: Option<Claim>,
}

/// The right to run a torrent. It is given up if it is dropped before an engine runs the torrent.
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

    /// The torrent runs: the claim ends with its removal, or with the session.
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

/// What to do when the metadata of `magnet` has come.
pub(super) fn when_known(
    magnet: Magnet,
    select: Option<Selector>,
    store: Option<Arc<Store>>,
) -> OnInfo {
    Box::new(move |info| {
        let priorities = select.map_or_else(Vec::new, |select| select(&info));
        let keep = store.map(|store| -> Job {
            // Only spares the next session some work, so nobody waits for it.
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
