//! A handle to one torrent.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dunlin_core::{
    InfoHash, Instant, TorrentId,
    engine::{Command, Engine, FilePriority, FileStatus, PeerStatus, Scope, State, TorrentStatus},
    metainfo::Info,
    tracker::{DhtProgress, TrackerState},
};
use dunlin_std::session::add::Limits;

use super::{Shared, Watch};
use crate::{Error, Result};

/// A torrent of a session. Clones refer to the same torrent.
#[derive(Clone, Debug)]
pub struct Torrent {
    shared: Arc<Shared>,
    id: TorrentId,
    info_hash: InfoHash,
}

/// Whether a tracker is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerUse {
    /// It is used.
    Enabled,
    /// It was switched off.
    Disabled,
    /// It is switched on but cannot be asked, such as the DHT while it does not run.
    Unavailable,
}

/// The state of a tracker of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tracker {
    /// Its URL.
    pub url: String,
    /// Its tier, 0 first (BEP 12).
    pub tier: u32,
    /// Its state.
    pub state: TrackerState,
    /// The time until it is asked again; `None` while it is being asked, or if it is not used.
    pub next: Option<Duration>,
    /// The last error, or the last message of the tracker.
    pub message: Option<String>,
    /// The number of seeds it knows.
    pub seeds: Option<u32>,
    /// The number of leeches it knows.
    pub leeches: Option<u32>,
    /// The number of peers it sent last time.
    pub peers: u32,
    /// Whether it is used.
    pub used: TrackerUse,
    /// The progress of the search, for the DHT's pseudo-tracker.
    pub dht: Option<DhtProgress>,
}

/// What is done with downloaded content when its torrent is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is kept.
    Keep,
    /// It is deleted.
    Delete,
}

/// Whether a torrent has everything that is wanted.
fn complete(status: &TorrentStatus) -> bool {
    match status.state {
        State::Seeding => true,
        State::Paused => {
            status.has_metadata && status.wanted > 0 && status.wanted_done == status.wanted
        }
        _ => false,
    }
}

/// Methods fail with [`Error::Stopped`] when the session has ended and with [`Error::Removed`]
/// when the torrent has been removed.
impl Torrent {
    pub(super) const fn new(shared: Arc<Shared>, id: TorrentId, info_hash: InfoHash) -> Self {
        Self {
            shared,
            id,
            info_hash,
        }
    }

    /// Its id in this session.
    #[must_use]
    pub const fn id(&self) -> TorrentId {
        self.id
    }

    /// Its info-hash.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The folder that contains the torrent's file, or the folder of its files.
    ///
    /// # Errors
    /// [`Error::Removed`].
    pub fn dir(&self) -> Result<PathBuf> {
        self.shared
            .dirs()
            .get(&self.id)
            .cloned()
            .ok_or(Error::Removed)
    }

    async fn ask<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Instant, TorrentId) -> Option<R> + Send + 'static,
    ) -> Result<R> {
        let id = self.id;
        let answer = self
            .shared
            .with_engine(move |engine, now| f(engine, now, id));
        answer.await?.ok_or(Error::Removed)
    }

    async fn tell(&self, command: Command) -> Result<()> {
        self.shared.command(command).await.map(drop)
    }

    /// A snapshot.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn status(&self) -> Result<TorrentStatus> {
        self.ask(|engine, now, id| engine.torrent(id).map(|t| t.status(now)))
            .await
    }

    /// A stream of snapshots.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn watch(&self) -> Result<Watch> {
        Ok(Watch::new(self.watcher().await?))
    }

    async fn watcher(&self) -> Result<tokio::sync::watch::Receiver<TorrentStatus>> {
        let id = self.id;
        let receiver = self.shared.call(move |driver| driver.watch(id));
        receiver.await?.ok_or(Error::Removed)
    }

    /// Waits until `done` returns true.
    async fn wait(&self, done: impl Fn(&TorrentStatus) -> bool) -> Result<TorrentStatus> {
        let mut watcher = self.watcher().await?;
        loop {
            let status = watcher.borrow_and_update().clone();
            if done(&status) {
                return Ok(status);
            }
            if let State::Failed(source) = status.state {
                return Err(Error::Failed {
                    name: status.name,
                    source,
                });
            }
            if watcher.changed().await.is_err() {
                return Err(if self.shared.calls.is_closed() {
                    Error::Stopped
                } else {
                    Error::Removed
                });
            }
        }
    }

    /// Waits until everything that is wanted is downloaded and verified.
    ///
    /// # Errors
    /// [`Error::Failed`] if the torrent cannot continue, for instance because the disk is full; otherwise
    /// see [`Torrent`].
    pub async fn wait_complete(&self) -> Result<TorrentStatus> {
        self.wait(complete).await
    }

    /// Waits until the metadata of a magnet is known.
    ///
    /// # Errors
    /// As [`Torrent::wait_complete`].
    pub async fn wait_metadata(&self) -> Result<Arc<Info>> {
        self.wait(|status| status.has_metadata).await?;
        self.info().await?.ok_or(Error::Removed)
    }

    /// The info dictionary; `None` until it is known.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn info(&self) -> Result<Option<Arc<Info>>> {
        let id = self.id;
        self.shared
            .with_engine(move |engine, _| engine.torrent(id)?.info().cloned())
            .await
    }

    /// The files; empty until they are known.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn files(&self) -> Result<Vec<FileStatus>> {
        self.ask(|engine, _, id| Some(engine.torrent(id)?.files()))
            .await
    }

    /// The connected peers.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn peers(&self) -> Result<Vec<PeerStatus>> {
        self.ask(|engine, now, id| Some(engine.torrent(id)?.peers(now)))
            .await
    }

    /// The trackers, in the order in which they are tried.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn trackers(&self) -> Result<Vec<Tracker>> {
        let trackers = |engine: &mut Engine, now: Instant, id| {
            let all = engine.torrent(id)?.trackers().into_iter();
            let told = all.map(|t| Tracker {
                url: t.url.to_owned(),
                tier: t.tier,
                state: t.state,
                next: t.next.map(|at| at.saturating_since(now)),
                message: t
                    .error
                    .map(ToString::to_string)
                    .or(t.warning.map(str::to_owned)),
                seeds: t.seeds,
                leeches: t.leeches,
                peers: t.peers,
                used: match t.state {
                    TrackerState::Disabled => TrackerUse::Disabled,
                    TrackerState::Unusable => TrackerUse::Unavailable,
                    _ => TrackerUse::Enabled,
                },
                dht: t.dht,
            });
            Some(told.collect())
        };
        self.ask(trackers).await
    }

    /// Asks the trackers for the size of the swarm (BEP 48), as far as they allow it.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn scrape(&self) -> Result<()> {
        self.tell(Command::Scrape(self.id)).await
    }

    /// Pauses the torrent: its peers are disconnected, and its trackers are told.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn pause(&self) -> Result<()> {
        self.tell(Command::Pause(self.id)).await
    }

    /// Resumes the torrent, also after a failure.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn resume(&self) -> Result<()> {
        self.tell(Command::Resume(self.id)).await
    }

    /// Checks all content on disk again.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn recheck(&self) -> Result<()> {
        self.tell(Command::Recheck(self.id)).await
    }

    /// Removes the torrent from the session and from its folder. Returns when its files are closed. All of
    /// that is done even if the future is dropped.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn remove(&self, content: Content) -> Result<()> {
        let removal = self.clone().remove_now(content);
        self.shared.to_the_end(removal).await?
    }

    /// Must not be dropped before the torrent's folder is removed from `dirs`.
    async fn remove_now(self, content: Content) -> Result<()> {
        let mut watcher = self.watcher().await?;
        let (torrent, delete) = (self.id, content == Content::Delete);
        self.tell(Command::Remove { torrent, delete }).await?;
        // The watch ends with the last event of the torrent, when its record is removed as well.
        while watcher.changed().await.is_ok() {}
        self.shared.dirs().remove(&self.id);
        Ok(())
    }

    /// Sets the priority of each file; files beyond the end of the list have normal priority.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn set_priorities(&self, priorities: Vec<FilePriority>) -> Result<()> {
        let torrent = self.id;
        self.tell(Command::SetPriorities {
            torrent,
            priorities,
        })
        .await
    }

    /// Downloads the pieces in order, or the rarest first.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn set_sequential(&self, on: bool) -> Result<()> {
        let torrent = self.id;
        self.tell(Command::SetSequential { torrent, on }).await
    }

    /// Limits the torrent's traffic.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn set_limits(&self, limits: Limits) -> Result<()> {
        let Limits { down, up } = limits;
        let scope = Scope::Torrent(self.id);
        self.tell(Command::SetLimits { scope, down, up }).await
    }

    /// Adds peers.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) -> Result<()> {
        let torrent = self.id;
        self.tell(Command::AddPeers { torrent, peers }).await
    }

    /// Adds trackers, one tier each.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn add_trackers(&self, urls: Vec<String>) -> Result<()> {
        let torrent = self.id;
        self.tell(Command::AddTrackers { torrent, urls }).await
    }

    /// Switches a tracker on or off; `dht://` is the DHT's pseudo-tracker.
    ///
    /// # Errors
    /// See [`Torrent`]; [`Error::Command`] if there is no such tracker.
    pub async fn set_tracker_enabled(&self, url: String, enabled: bool) -> Result<()> {
        let torrent = self.id;
        self.tell(Command::SetTrackerEnabled {
            torrent,
            url,
            enabled,
        })
        .await
    }

    /// Asks the trackers for peers now, as far as they allow it.
    ///
    /// # Errors
    /// See [`Torrent`].
    pub async fn reannounce(&self) -> Result<()> {
        self.tell(Command::Reannounce(self.id)).await
    }
}
