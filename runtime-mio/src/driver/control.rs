//! Commands on the loop's own thread.

use std::{fmt, net::SocketAddr};

use dunlin_core::{
    Instant, TorrentId,
    engine::{AddError, Command, CommandError, Engine, EngineStatus, Reply, Scope, TorrentStatus},
};
use dunlin_std::{
    Error, Result,
    driver::Stats,
    session::add::{Add, Limits, Ready},
};

use super::Core;

/// The driver, for code that runs on the loop's own thread. No call waits for anything but reading a short
/// file.
pub struct Control<'a> {
    pub(super) core: &'a mut Core,
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("engine_loop", &self.core.engine_loop)
            .finish_non_exhaustive()
    }
}

impl<'a> Control<'a> {
    pub(super) const fn new(core: &'a mut Core) -> Self {
        Self { core }
    }

    /// Adds a torrent. Its file, and what the session folder holds of it, are read on the loop's thread,
    /// while peers wait. To avoid that, another thread can use [`Handle::add`](crate::Handle::add), which
    /// also downloads URLs.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if the driver has it already; errors of the torrent file; [`Error::Deadlock`]
    /// for a URL.
    pub fn add(&mut self, add: Add) -> Result<TorrentId> {
        if add.source_url().is_some() {
            return Err(Error::Deadlock {
                what: "fetching a torrent file by its URL",
                instead: "add it by a handle, from another thread",
            });
        }
        let loaded = add.load()?;
        let (info_hash, name) = (loaded.info_hash(), loaded.name());
        if let Some(id) = self.core.engine_loop.engine.find(info_hash) {
            return Err(Error::Duplicate { name, id });
        }
        let store = self.core.engine_loop.store().cloned();
        let ready = loaded.claim(store, &self.core.shared.config)?;
        self.add_ready(ready)
            .map_err(|error| Error::of_add(name, error))
    }

    pub(super) fn add_ready(&mut self, ready: Ready) -> Result<TorrentId, AddError> {
        let now = self.now();
        self.core.engine_loop.add(now, ready)
    }

    /// Carries out a command. Torrents are added with [`Control::add`], which also takes care of their
    /// files and the session folder.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub fn command(&mut self, command: Command) -> Result<Reply, CommandError> {
        let now = self.now();
        self.core.engine_loop.command(now, command)
    }

    /// Pauses a torrent.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn pause(&mut self, id: TorrentId) -> Result<(), CommandError> {
        self.command(Command::Pause(id)).map(drop)
    }

    /// Resumes a torrent that is paused or has failed.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn resume(&mut self, id: TorrentId) -> Result<(), CommandError> {
        self.command(Command::Resume(id)).map(drop)
    }

    /// Removes a torrent from the session and its folder, and with `delete` also what was downloaded.
    /// [`Event::Removed`](crate::Event::Removed) follows when that is done.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn remove(&mut self, id: TorrentId, delete: bool) -> Result<(), CommandError> {
        let torrent = id;
        self.command(Command::Remove { torrent, delete }).map(drop)
    }

    /// Adds peers to a torrent.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn add_peers(&mut self, id: TorrentId, peers: &[SocketAddr]) -> Result<(), CommandError> {
        let (torrent, peers) = (id, peers.to_vec());
        self.command(Command::AddPeers { torrent, peers }).map(drop)
    }

    /// Adds trackers to a torrent, one tier each.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn add_trackers(&mut self, id: TorrentId, urls: Vec<String>) -> Result<(), CommandError> {
        let torrent = id;
        self.command(Command::AddTrackers { torrent, urls })
            .map(drop)
    }

    /// Limits the traffic of a torrent, or with `None` all traffic.
    ///
    /// # Errors
    /// [`CommandError::NoTorrent`].
    pub fn set_limits(
        &mut self,
        id: Option<TorrentId>,
        limits: Limits,
    ) -> Result<(), CommandError> {
        let Limits { down, up } = limits;
        let scope = id.map_or(Scope::Global, Scope::Torrent);
        self.command(Command::SetLimits { scope, down, up })
            .map(drop)
    }

    /// The state of a torrent; `None` if it does not exist.
    #[must_use]
    pub fn status(&self, id: TorrentId) -> Option<TorrentStatus> {
        self.core
            .engine_loop
            .engine
            .torrent(id)
            .map(|t| t.status(self.now()))
    }

    /// The torrents, oldest first.
    #[must_use]
    pub fn torrents(&self) -> Vec<TorrentId> {
        self.core.engine_loop.engine.torrents().collect()
    }

    /// The state of the engine.
    #[must_use]
    pub fn engine_status(&self) -> EngineStatus {
        self.core.engine_loop.engine.status(self.now())
    }

    /// The counters of the driver.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.core.engine_loop.stats
    }

    /// Starts to stop the driver: trackers are told, written data is made durable, and records are saved.
    /// [`Event::Stopped`](crate::Event::Stopped) is the last event.
    pub fn stop(&mut self) {
        let now = self.now();
        self.core.engine_loop.stop(now);
    }

    /// The engine, for everything that has no method here. Torrents are added and removed with the methods
    /// above, which also take care of their files and the session folder.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.core.engine_loop.engine
    }

    /// The current time in the engine's terms.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core.sockets.0.now()
    }
}
