//! What a driver keeps about each torrent: its claim in the session folder, and what to do when a magnet's
//! files are known.

use std::{collections::BTreeMap, sync::Arc};

use dunlin_core::{
    InfoHash, Instant, OpId, Outcome, TorrentId,
    dht::Saved,
    engine::{AddError, Changes, Command, Engine, Event, Source, What},
};

use crate::{
    disk::Disk,
    session::add::{Job, OnInfo, Ready},
    session::store::Store,
};

/// The torrents of one driver.
#[derive(Default)]
pub(super) struct Torrents {
    known: BTreeMap<TorrentId, Known>,
    store: Option<Arc<Store>>,
    proxied: bool,
}

struct Known {
    info_hash: InfoHash,
    on_info: Option<OnInfo>,
    forget: bool,
}

impl std::fmt::Debug for Torrents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Torrents")
            .field("known", &self.known.keys())
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Torrents {
    /// No torrents. `store` keeps records; if `proxied`, trackers that could not be asked through the proxy
    /// are left out.
    #[must_use]
    pub(super) const fn new(store: Option<Arc<Store>>, proxied: bool) -> Self {
        Self {
            known: BTreeMap::new(),
            store,
            proxied,
        }
    }

    /// The session folder.
    #[must_use]
    pub(super) const fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }

    /// Adds a torrent; `tell` is called with events for the application.
    ///
    /// # Errors
    /// See [`AddError`].
    pub(super) fn add(
        &mut self,
        engine: &mut Engine,
        disk: &Disk,
        now: Instant,
        mut ready: Ready,
        tell: &mut dyn FnMut(Event),
    ) -> Result<TorrentId, AddError> {
        for message in ready.notes {
            tell(Event::warning(What::Disk { message }));
        }
        let info_hash = match &ready.torrent.source {
            Source::Info(info) => info.info_hash(),
            Source::Hash { info_hash, .. } => *info_hash,
        };
        for tier in &mut ready.torrent.trackers {
            self.keep_reachable(tier, tell);
        }
        let id = engine.add(now, ready.torrent)?;
        if let Some(claim) = ready.claim {
            claim.keep();
        }
        // Done before the engine's first op of this torrent, which opens its files.
        disk.place(id, ready.placement);
        let on_info = ready.on_info;
        let known = Known {
            info_hash,
            on_info,
            forget: false,
        };
        self.known.insert(id, known);
        Ok(id)
    }

    /// Removes the trackers that could not be asked through the proxy from `urls`, and reports them.
    pub(super) fn keep_reachable(&self, urls: &mut Vec<String>, tell: &mut dyn FnMut(Event)) {
        let udp = |url: &str| {
            url.get(..4)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case("udp:"))
        };
        urls.retain(|url| {
            let around = self.proxied && udp(url);
            if around {
                let message = "not asked: datagrams would go around the proxy".into();
                let url = url.clone();
                tell(Event::warning(What::Tracker { url, message }));
            }
            !around
        });
    }

    /// Carries out an `Op::Save` on the disk's threads; returns the outcome at once if there is no session
    /// folder.
    pub(super) fn save(
        &self,
        disk: &Disk,
        op: OpId,
        torrent: TorrentId,
        record: Vec<u8>,
    ) -> Option<Outcome> {
        let (Some(store), Some(known)) = (self.store.clone(), self.known.get(&torrent)) else {
            return Some(Outcome::Done);
        };
        let info_hash = known.info_hash;
        disk.run(op, move || store.save(info_hash, &record));
        None
    }

    /// Carries out an `Op::SaveDht` on the disk's threads; returns the outcome at once if there is no
    /// session folder.
    pub(super) fn save_dht(&self, disk: &Disk, op: OpId, saved: Saved) -> Option<Outcome> {
        let Some(store) = self.store.clone() else {
            return Some(Outcome::Done);
        };
        disk.run(op, move || store.save_dht(&saved));
        None
    }

    /// When this torrent is removed, the session folder forgets it as well.
    pub(super) fn forget(&mut self, torrent: TorrentId) {
        if let Some(known) = self.known.get_mut(&torrent) {
            known.forget = true;
        }
    }

    /// Sees an event before the application does: a selection is applied as soon as the files are known,
    /// before anything is requested. The job that is returned has to run off this thread; after a removal,
    /// before the application is told of it.
    #[must_use = "the job keeps or forgets what the session folder holds"]
    pub(super) fn event(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        event: &Event,
    ) -> Option<Job> {
        match event {
            Event::Changed { torrent, what } if what.contains(Changes::METADATA) => {
                let info = engine.torrent(*torrent)?.info()?.clone();
                let on_info = self.known.get_mut(torrent)?.on_info.take()?;
                let (priorities, keep) = on_info(info);
                if !priorities.is_empty() {
                    let torrent = *torrent;
                    let set = Command::SetPriorities {
                        torrent,
                        priorities,
                    };
                    // The event just named the torrent.
                    let _ = engine.command(now, set);
                }
                keep
            }
            Event::Removed(torrent) => {
                let known = self.known.remove(torrent)?;
                let store = self.store.clone().filter(|_| known.forget)?;
                Some(Box::new(move || store.forget(known.info_hash)))
            }
            _ => None,
        }
    }
}
