//! What a driver remembers of each torrent beyond what the engine knows: its place in the session
//! folder, and what to do when a magnet's files are known.

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
    /// None yet. `store` keeps records; with `proxied`, trackers that could only be asked around
    /// the proxy are left out.
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

    /// Adds a torrent; `tell` hears what the application should know.
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
        // Before the engine's ops are looked at, the first of which opens the files.
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

    /// Takes those trackers out of `urls` that could only be asked around the proxy, and says so.
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

    /// Does an `Op::Save` on the disk's threads; the outcome at once where nothing is kept.
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

    /// Does an `Op::SaveDht` on the disk's threads; the outcome at once where nothing is kept.
    pub(super) fn save_dht(&self, disk: &Disk, op: OpId, saved: Saved) -> Option<Outcome> {
        let Some(store) = self.store.clone() else {
            return Some(Outcome::Done);
        };
        disk.run(op, move || store.save_dht(&saved));
        None
    }

    /// What the session folder knows of a torrent is forgotten when it has been removed.
    pub(super) fn forget(&mut self, torrent: TorrentId) {
        if let Some(known) = self.known.get_mut(&torrent) {
            known.forget = true;
        }
    }

    /// Learns from an event before the application does: a selection is applied as soon as the
    /// files are known, before anything is asked for. What comes back is to be done off this
    /// thread, and before the application hears of a torrent that was removed.
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
