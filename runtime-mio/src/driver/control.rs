//! Commands on the loop's own thread.

use std::{fmt, net::SocketAddr};

use dunlin_core::{
    Instant, TorrentId,
    engine::{Engine, EngineStatus, Scope, TorrentStatus},
};
use dunlin_std::{
    Error, Result,
    session::add::{Add, Limits},
};

use super::{Core, Stats, handle};

/// The driver, at the disposal of the thread that runs it. None of the calls waits for anything
/// but a short file.
pub struct Control<'a> {
    pub(super) core: &'a mut Core,
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("engine", &self.core.engine)
            .finish_non_exhaustive()
    }
}

impl<'a> Control<'a> {
    pub(super) const fn new(core: &'a mut Core) -> Self {
        Self { core }
    }

    /// Adds a torrent. Its file and what the session folder holds of it are read here, on the
    /// loop's thread: peers wait as long. Where that matters, let another thread do it by
    /// [`Handle::add`](crate::Handle::add), which also fetches URLs.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if it is here already; what is wrong with the torrent file;
    /// [`Error::Deadlock`] for a URL.
    pub fn add(&mut self, add: Add) -> Result<TorrentId> {
        if add.source_url().is_some() {
            return Err(Error::Deadlock {
                what: "fetching a torrent file by its URL",
                instead: "add it by a handle, from another thread",
            });
        }
        let loaded = add.load()?;
        let (info_hash, name) = (loaded.info_hash(), loaded.name());
        if let Some(id) = self.core.engine.find(info_hash) {
            return Err(Error::Duplicate { name, id });
        }
        let store = self.core.torrents.store().cloned();
        let config = &self.core.shared.config;
        let (ready, hosts) = handle::prepare(loaded, config, store.clone())?;
        self.core.insert(ready, hosts).map_err(|error| {
            if let Some(store) = store {
                store.release(info_hash);
            }
            handle::refusal(name, error)
        })
    }

    /// Puts a torrent to rest. Returns, as all commands on torrents do, whether there is one of
    /// that name.
    pub fn pause(&mut self, id: TorrentId) -> bool {
        let now = self.now();
        self.core.engine.pause(now, id)
    }

    /// Wakes a torrent that rests, or tries one again that has failed.
    pub fn resume(&mut self, id: TorrentId) -> bool {
        let now = self.now();
        self.core.engine.resume(now, id)
    }

    /// Takes a torrent out, with what was downloaded if `delete`, and with what the session
    /// folder knows of it. [`Event::Removed`](crate::Event::Removed) follows when that is done.
    pub fn remove(&mut self, id: TorrentId, delete: bool) -> bool {
        let now = self.now();
        self.core.torrents.forget(id);
        self.core.engine.remove(now, id, delete)
    }

    /// Tells a torrent of peers.
    pub fn add_peers(&mut self, id: TorrentId, peers: &[SocketAddr]) -> bool {
        let now = self.now();
        self.core.engine.add_peers(now, id, peers)
    }

    /// Adds trackers to a torrent, a tier each.
    pub fn add_trackers(&mut self, id: TorrentId, mut urls: Vec<String>) -> bool {
        let (now, core) = (self.now(), &mut *self.core);
        core.torrents
            .keep_reachable(&mut urls, &mut |event| core.told.push_back(event));
        core.engine.add_trackers(now, id, &urls)
    }

    /// Limits a torrent's traffic, or with `None` all traffic.
    pub fn set_limits(&mut self, id: Option<TorrentId>, limits: Limits) -> bool {
        let now = self.now();
        let scope = id.map_or(Scope::Global, Scope::Torrent);
        self.core
            .engine
            .set_limits(now, scope, limits.down, limits.up)
    }

    /// A torrent, now.
    #[must_use]
    pub fn status(&self, id: TorrentId) -> Option<TorrentStatus> {
        self.core.engine.torrent(self.now(), id)
    }

    /// The torrents, oldest first.
    #[must_use]
    pub fn torrents(&self) -> Vec<TorrentId> {
        self.core.engine.torrents().collect()
    }

    /// The engine, now.
    #[must_use]
    pub fn engine_status(&self) -> EngineStatus {
        self.core.engine.status(self.now())
    }

    /// What the driver did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.stats
    }

    /// Begins to end the driver: trackers hear `stopped`, what was written is made durable, the
    /// records are saved. [`Event::Stopped`](crate::Event::Stopped) is the last event.
    pub fn stop(&mut self) {
        self.core.stop();
    }

    /// The engine itself, for everything else. Torrents are added and removed by the methods
    /// above, which also see to their files and to the session folder.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.core.engine
    }

    /// The present, as the engine counts it.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core.poller.now()
    }
}
