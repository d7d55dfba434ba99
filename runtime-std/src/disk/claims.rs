//! The paths that the torrents of one disk use; see [`claiming`](super::claiming).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

use dunlin_core::TorrentId;

/// A path in use.
#[derive(Debug)]
struct Use {
    by: BTreeSet<TorrentId>,
    write: bool,
}

/// The paths that the torrents of one disk use.
#[derive(Debug, Default)]
pub(super) struct Claims {
    paths: HashMap<PathBuf, Use>,
    torrents: BTreeMap<TorrentId, (String, Vec<PathBuf>)>,
}

impl Claims {
    /// Replaces what `torrent` has by `paths`; if other torrents use some of them, changes nothing and
    /// returns which.
    pub(super) fn take(
        &mut self,
        torrent: TorrentId,
        name: &str,
        paths: Vec<PathBuf>,
        write: bool,
    ) -> Result<(), Vec<(PathBuf, String)>> {
        let mut taken = Vec::new();
        for path in &paths {
            let Some(there) = self.paths.get(path).filter(|there| write || there.write) else {
                continue;
            };
            if let Some(other) = there.by.iter().find(|by| **by != torrent) {
                let name = self.torrents.get(other).map_or("", |(name, _)| name);
                taken.push((path.clone(), name.to_owned()));
            }
        }
        if !taken.is_empty() {
            return Err(taken);
        }
        self.give_up(torrent);
        for path in &paths {
            let there = self.paths.entry(path.clone());
            let there = there.or_insert_with(|| Use {
                by: BTreeSet::new(),
                write,
            });
            there.by.insert(torrent);
        }
        self.torrents.insert(torrent, (name.to_owned(), paths));
        Ok(())
    }

    /// Releases all paths of `torrent`.
    pub(super) fn give_up(&mut self, torrent: TorrentId) {
        let Some((_, paths)) = self.torrents.remove(&torrent) else {
            return;
        };
        for path in paths {
            if let Some(there) = self.paths.get_mut(&path) {
                there.by.remove(&torrent);
                if there.by.is_empty() {
                    self.paths.remove(&path);
                }
            }
        }
    }
}
