//! A torrent whose source has been read, and the folder in which it is saved.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
};

use dunlin_core::{
    InfoHash,
    engine::{AddTorrent, Existing, Source},
    metainfo::{self, Magnet},
};

use super::{
    Add,
    ready::{Claim, Ready, magnet_selector, when_known},
};
use crate::{
    Error, Result,
    disk::Placement,
    platform,
    session::{
        setup::SessionConfig,
        store::{Kept, Store},
    },
};

/// An [`Add`] whose source has been read.
#[derive(Debug)]
pub struct Loaded {
    found: Found,
    /// Everything but its source.
    add: Add,
    /// Peers of a magnet that are given by host name.
    hosts: Vec<(String, u16)>,
}

impl Loaded {
    pub(super) const fn new(found: Found, add: Add, hosts: Vec<(String, u16)>) -> Self {
        Self { found, add, hosts }
    }

    /// The torrent's info-hash.
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        self.found.info_hash()
    }

    /// The torrent's name; for a magnet without a name, the info-hash.
    #[must_use]
    pub fn name(&self) -> String {
        self.found.name()
    }

    /// Claims the torrent, adds what the session folder holds of it, and creates the folder in which it is
    /// saved; without a session folder, only the last. A magnet whose metadata arrived in an earlier
    /// session has a torrent file by now. If no folder was named, the torrent is saved where an earlier
    /// session saved it, or in the folder of `defaults` if its files are there or it is new. Blocks.
    ///
    /// # Errors
    /// [`Error::Folder`], for instance if another process runs it; [`Error::Gone`] and [`Error::Dir`], see
    /// [`Add::dir`].
    pub fn claim(mut self, store: Option<Arc<Store>>, defaults: &SessionConfig) -> Result<Ready> {
        let mut kept = Kept::default();
        let mut claim = None;
        match store {
            None => self.make_dir(&self.dir(defaults))?,
            Some(store) => {
                kept = store.claim(self.info_hash())?;
                let held = claim.insert(Claim::new(store, self.info_hash()));
                self.recall(held.store(), &mut kept)?;
                self.settle_place(held.store(), &mut kept, defaults)?;
            }
        }
        Ok(self.ready(claim, kept, defaults))
    }

    /// Replaces what was given by what the session folder holds of the torrent, or saves the torrent file
    /// there.
    fn recall(&mut self, store: &Store, kept: &mut Kept) -> Result<()> {
        match (&mut self.found, kept.torrent.take()) {
            (Found::Magnet(_, magnet), Some(mut torrent)) => {
                let mut trackers = tiers(&magnet.trackers);
                torrent.trackers.retain(|tier| !trackers.contains(tier));
                trackers.append(&mut torrent.trackers);
                torrent.trackers = trackers;
                let ranges = std::mem::take(&mut magnet.select);
                self.add.select = self.add.select.take().or_else(|| magnet_selector(ranges));
                self.found = Found::Torrent(Box::new(torrent));
            }
            // The same bytes may be parsed with another encoding of names than declared here. The files
            // have the names that the earlier session gave them.
            (Found::Torrent(torrent), Some(kept)) if torrent.info != kept.info => {
                torrent.info = kept.info;
                torrent.encoding = kept.encoding;
            }
            (Found::Torrent(torrent), None) => store.keep(torrent)?,
            _ => {}
        }
        Ok(())
    }

    /// Decides on the folder, and saves it for the next session.
    fn settle_place(
        &mut self,
        store: &Store,
        kept: &mut Kept,
        defaults: &SessionConfig,
    ) -> Result<()> {
        let place = kept.place.take();
        let usual = self.add.dir.as_ref().unwrap_or(&defaults.dir);
        let Ok(usual) = std::path::absolute(usual) else {
            // Without a current folder, a relative path cannot be saved for the next session.
            return Ok(());
        };
        let here = self.is_in(&usual, defaults);
        let known = place.as_ref() == Some(&usual);
        if let (Some(dir), None) = (place, &self.add.dir) {
            match is_folder(&dir) {
                Ok(()) if known => return Ok(()),
                // The files may have been moved here by hand.
                Ok(()) if !here || self.is_in(&dir, defaults) => {
                    let (name, dir_shown) = (self.name(), dir.display());
                    let note = format!("{name}: it is in {dir_shown}, where it was saved before");
                    kept.notes.push(note);
                    self.add.dir = Some(dir);
                    return Ok(());
                }
                // Downloading everything again, into a folder that nobody named, could fill another disk
                // than the one that was chosen.
                Err(source) if !here => {
                    let name = self.name();
                    return Err(Error::Gone { name, dir, source });
                }
                _ => {}
            }
        }
        self.make_dir(&usual)?;
        // A folder in which the files were only looked for is not saved.
        if !known && (here || self.add.existing != Existing::ReadOnly) {
            store.place(self.info_hash(), &usual)?;
        }
        Ok(())
    }

    /// Creates the folder `dir` if the torrent may be written. A full disk is not an error here: the engine
    /// tries again until there is space.
    fn make_dir(&self, dir: &Path) -> Result<()> {
        use ErrorKind::{QuotaExceeded, StaleNetworkFileHandle, StorageFull, TimedOut};

        let made = match self.add.existing {
            Existing::ReadOnly => is_folder(dir),
            _ => platform::make_folders(dir),
        };
        let Err(error) = made else {
            return Ok(());
        };
        if let StorageFull | QuotaExceeded | TimedOut | StaleNetworkFileHandle = error.kind()
            && self.add.existing != Existing::ReadOnly
        {
            return Ok(());
        }
        // The system's message names neither the obstacle nor its path.
        let there = dir.ancestors().find(|path| path.symlink_metadata().is_ok());
        let source = match there {
            Some(file) if file == dir && !dir.is_dir() => not_a_folder("it is not a folder"),
            Some(file) if !file.is_dir() => {
                not_a_folder(&format!("{} is not a folder", file.display()))
            }
            _ => error,
        };
        Err(Error::Dir {
            name: self.name(),
            dir: dir.into(),
            source,
        })
    }

    /// Whether the torrent's file or folder is in `dir`; `false` while its name is not known.
    fn is_in(&self, dir: &Path, defaults: &SessionConfig) -> bool {
        let Found::Torrent(torrent) = &self.found else {
            return false;
        };
        let placement = Placement {
            names: defaults.names,
            root: self.add.root.clone(),
            ..Placement::default()
        };
        let paths = placement.paths(&torrent.info);
        let root = paths.first().and_then(|path| path.iter().next());
        root.is_some_and(|root| dir.join(root).exists())
    }

    /// The folder in which it is saved: the one that was named or remembered, else that of `defaults`.
    fn dir(&self, defaults: &SessionConfig) -> PathBuf {
        self.add.dir.as_ref().unwrap_or(&defaults.dir).clone()
    }

    /// Fills in defaults for what was not given.
    fn ready(self, claim: Option<Claim>, kept: Kept, defaults: &SessionConfig) -> Ready {
        let add = self.add;
        let store = claim.as_ref().map(|claim| Arc::clone(claim.store()));
        let mut ready = Ready {
            torrent: AddTorrent {
                resume: kept.resume,
                peers: add.peers,
                paused: add.paused,
                sequential: add.sequential,
                check: add.check,
                existing: add.existing,
                limit_down: add.limits.down,
                limit_up: add.limits.up,
                ..AddTorrent::new(Source::Hash {
                    info_hash: self.found.info_hash(),
                    name: None,
                })
            },
            placement: Placement {
                dir: add.dir.unwrap_or_else(|| defaults.dir.clone()),
                allocation: add.allocation.unwrap_or(defaults.allocation),
                names: defaults.names,
                root: add.root,
                renames: std::collections::BTreeMap::new(),
            },
            on_info: None,
            notes: [add.notes, kept.notes].concat(),
            hosts: self.hosts,
            claim,
        };
        let mut select = add.select;
        match self.found {
            Found::Torrent(torrent) => {
                let priorities = select.map_or_else(Vec::new, |select| select(&torrent.info));
                ready.torrent.priorities = priorities;
                ready.torrent.source = Source::Info(torrent.info);
                ready.torrent.trackers = torrent.trackers;
                ready.torrent.nodes = torrent.nodes;
            }
            Found::Magnet(info_hash, mut magnet) => {
                let ranges = std::mem::take(&mut magnet.select);
                select = select.or_else(|| magnet_selector(ranges));
                ready.torrent.source = Source::Hash {
                    info_hash,
                    name: magnet.name.clone(),
                };
                ready.torrent.trackers = tiers(&magnet.trackers);
                ready.on_info = Some(when_known(*magnet, select, store));
            }
        }
        ready.torrent.trackers.extend(tiers(&add.trackers));
        ready
    }
}

/// A source that has been read.
#[derive(Debug)]
pub(super) enum Found {
    Magnet(InfoHash, Box<Magnet>),
    Torrent(Box<metainfo::Torrent>),
}

impl Found {
    fn info_hash(&self) -> InfoHash {
        match self {
            Self::Magnet(info_hash, _) => *info_hash,
            Self::Torrent(torrent) => torrent.info.info_hash(),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Magnet(info_hash, magnet) => match &magnet.name {
                Some(name) => name.clone(),
                None => info_hash.to_string(),
            },
            Self::Torrent(torrent) => torrent.info.name().into(),
        }
    }
}

/// Fails if `dir` is not a folder.
fn is_folder(dir: &Path) -> io::Result<()> {
    match fs::metadata(dir)?.is_dir() {
        true => Ok(()),
        false => Err(not_a_folder("it is not a folder")),
    }
}

fn not_a_folder(words: &str) -> io::Error {
    io::Error::new(ErrorKind::NotADirectory, words)
}

/// One tier for each URL.
fn tiers(urls: &[String]) -> Vec<Vec<String>> {
    urls.iter().map(|url| vec![url.clone()]).collect()
}
