//! The API for applications.
//!
//! Every call is a closure that is sent to the engine's task over a bounded queue and answered by a oneshot
//! channel: the engine has one owner and needs no lock.
//!
//! Every future may be dropped at any time. Calls that take several commands, and must not be left half
//! done, run to their end in a task of their own (`Shared::to_the_end`).

mod add;
mod key;
mod streams;
mod torrent;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use dunlin_core::{
    DhtMode, InfoHash, Instant, TorrentId,
    engine::{Command, DhtStatus, Engine, EngineStatus, Event, Reply, Scope},
};
use dunlin_std::{
    driver::{Prepared, Stats},
    session::{
        add::{Add, Limits},
        setup::SessionConfig,
        store::Store,
    },
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

pub use self::{
    add::AddError,
    streams::{Events, Watch},
    torrent::{Content, Torrent, Tracker, TrackerUse},
};
use crate::{
    Ended, Error, Result,
    driver::{Call, Driver},
    net::Http,
};

/// The most calls that wait for the engine's task; further callers wait.
const CALL_QUEUE: usize = 64;
/// The most events kept for a slow reader; the oldest are dropped.
const EVENT_QUEUE: usize = 1024;

/// A session: one engine, its sockets and its disk.
///
/// [`Session::shutdown`] ends it in good order. Dropping it starts the same, but nobody waits for the end:
/// if the runtime ends first, the rest is not done.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    /// For the first caller of [`Session::events`], who also gets the events since the start, such as a
    /// failure to bind a socket.
    first: Mutex<Option<broadcast::Receiver<Event>>>,
}

/// The state that handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    calls: mpsc::Sender<Call>,
    events: broadcast::WeakSender<Event>,
    http: Arc<Http>,
    config: SessionConfig,
    /// The driver owns the store, so its locks are released when the session ends.
    store: Option<Weak<Store>>,
    /// Torrents are added one at a time, so that a duplicate is recognised.
    adding: tokio::sync::Mutex<()>,
    /// The folder in which each torrent is saved.
    dirs: Mutex<BTreeMap<TorrentId, PathBuf>>,
    /// The runtime in which the session was started.
    runtime: tokio::runtime::Handle,
    /// Set when the engine's task has ended, and then closed.
    ended: watch::Receiver<Option<Ended>>,
}

/// Identifies a torrent of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TorrentKey {
    /// Its id in this session.
    Id(TorrentId),
    /// Its info-hash.
    Hash(InfoHash),
}

impl From<TorrentId> for TorrentKey {
    fn from(id: TorrentId) -> Self {
        Self::Id(id)
    }
}

impl From<InfoHash> for TorrentKey {
    fn from(info_hash: InfoHash) -> Self {
        Self::Hash(info_hash)
    }
}

impl Session {
    /// Starts a session in the current runtime.
    ///
    /// # Errors
    /// [`Error::Folder`] if the session folder cannot be used or belongs to another running session;
    /// [`Error::Start`] if the system has no threads or random numbers left.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn new(config: SessionConfig) -> Result<Self> {
        let (prepared, config) = blocking(move || {
            let prepared = Prepared::new(&config)?;
            Ok((prepared, config))
        })
        .await?;
        let store = prepared.store.as_ref().map(Arc::downgrade);
        let (calls, queue) = mpsc::channel(CALL_QUEUE);
        let events = broadcast::Sender::new(EVENT_QUEUE);
        let first = Mutex::new(Some(events.subscribe()));
        let weak_events = events.downgrade();
        let (driver, http) = Driver::new(prepared, &config, queue, events)
            .map_err(|error| Error::Start(error.to_string()))?;
        let (end, ended) = watch::channel(None);
        let shared = Arc::new(Shared {
            calls,
            events: weak_events,
            http,
            config,
            store,
            adding: tokio::sync::Mutex::default(),
            dirs: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            ended,
        });
        // The driver has its own budget; tokio's would only make streams look busy.
        let task = tokio::task::unconstrained(driver);
        tokio::spawn(async move {
            // All handles may have been dropped.
            let _ = end.send(Some(task.await));
        });
        Ok(Self { shared, first })
    }

    /// Adds a torrent. If the future is dropped, the torrent has been added, is about to be, or is not
    /// added; nothing else remains.
    ///
    /// # Errors
    /// [`AddError::Duplicate`], with the torrent, if the session has it already; [`Error::Gone`] if the
    /// folder where an earlier session saved it does not exist (its disk is not mounted); [`Error::Dir`] if
    /// its folder cannot be created; errors of the torrent file, and of downloading it. `?` turns an
    /// [`AddError`] into an [`Error`].
    pub async fn add(&self, add: Add) -> Result<Torrent, AddError> {
        add::add(add, &self.shared).await
    }

    /// The torrent with this id or info-hash, if the session has it.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn get(&self, torrent: impl Into<TorrentKey>) -> Result<Option<Torrent>> {
        let key = torrent.into();
        let found = self.shared.with_engine(move |engine, _| {
            let id = match key {
                TorrentKey::Id(id) => id,
                TorrentKey::Hash(info_hash) => engine.find(info_hash)?,
            };
            Some((id, engine.torrent(id)?.info_hash()))
        });
        let handle = |(id, info_hash)| Torrent::new(Arc::clone(&self.shared), id, info_hash);
        Ok(found.await?.map(handle))
    }

    /// The torrents of this session, oldest first.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn torrents(&self) -> Result<Vec<Torrent>> {
        let ids: Vec<_> = self
            .shared
            .call(|driver| {
                let engine = driver.engine();
                engine
                    .torrents()
                    .filter_map(|id| Some((id, engine.torrent(id)?.info_hash())))
                    .collect()
            })
            .await?;
        let handle = |(id, info_hash)| Torrent::new(Arc::clone(&self.shared), id, info_hash);
        Ok(ids.into_iter().map(handle).collect())
    }

    /// The events from now on; the first caller also gets those since the start of the session. If events
    /// are not read fast enough, the oldest are dropped; events about torrents only say that something has
    /// changed, so no information is lost.
    #[must_use]
    pub fn events(&self) -> Events {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let now = || Some(self.shared.events.upgrade()?.subscribe());
        Events::new(first.take().or_else(now))
    }

    /// The state of the session.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<EngineStatus> {
        self.shared
            .with_engine(|engine, now| engine.status(now))
            .await
    }

    /// The counters of the driver.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn stats(&self) -> Result<Stats> {
        self.shared.call(|driver| driver.stats()).await
    }

    /// Limits the traffic of the whole session.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn set_limits(&self, limits: Limits) -> Result<()> {
        let Limits { down, up } = limits;
        let scope = Scope::Global;
        self.command(Command::SetLimits { scope, down, up })
            .await
            .map(drop)
    }

    /// The DHT's mode and statistics; `None` if there is no DHT because it is disabled or the session has
    /// no folder.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn dht(&self) -> Result<Option<DhtStatus>> {
        self.shared
            .with_engine(|engine, _| engine.dht().map(|dht| dht.status()))
            .await
    }

    /// Changes the DHT's mode; see [`Command::SetDht`].
    ///
    /// # Errors
    /// [`Error::Command`] if there is no DHT; [`Error::Stopped`].
    pub async fn set_dht(&self, mode: DhtMode) -> Result<()> {
        self.command(Command::SetDht(mode)).await.map(drop)
    }

    /// Adds a node to the DHT, `host` or `host:port`; see [`Command::AddDhtNode`].
    ///
    /// # Errors
    /// [`Error::DhtNode`] if there is no DHT, or the text is not the name of a node; [`Error::Stopped`].
    pub async fn add_dht_node(&self, node: String) -> Result<()> {
        let added = self.command(Command::AddDhtNode(node.clone())).await;
        added.map(drop).map_err(|error| match error {
            Error::Command(source) => Error::DhtNode { node, source },
            error => error,
        })
    }

    /// Carries out a command. Torrents are added and removed with [`Session::add`] and [`Torrent::remove`],
    /// which also take care of their files and the session folder.
    ///
    /// # Errors
    /// [`Error::Removed`] if there is no torrent with that id; [`Error::Command`] for any other error of
    /// the engine; [`Error::Stopped`].
    pub async fn command(&self, command: Command) -> Result<Reply> {
        self.shared.command(command).await
    }

    /// Runs `f` on the engine, in the engine's task, for everything that has no method here. Torrents are
    /// added and removed with [`Session::add`] and [`Torrent::remove`], which also take care of their files
    /// and the session folder.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> Result<R> {
        self.shared.with_engine(f).await
    }

    /// Ends the session: trackers are told, written data is made durable, and records are saved. Returns
    /// when that is done, at most some seconds after
    /// [`Config::stop_timeout`](dunlin_core::Config::stop_timeout), with the result; `None` if its runtime
    /// ended first. Further calls return the same.
    pub async fn shutdown(&self) -> Option<Ended> {
        // A closed queue means that the session has ended already.
        let _ = self.shared.call(Driver::stop).await;
        self.shared.wait_end().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let stop: Call = Box::new(Driver::stop);
        let Err(mpsc::error::TrySendError::Full(stop)) = self.shared.calls.try_send(stop) else {
            return;
        };
        // The queue is full: a task waits for a place in it.
        let calls = self.shared.calls.clone();
        self.shared
            .runtime
            .spawn(async move { calls.send(stop).await });
    }
}

impl Shared {
    /// Runs `f` in the engine's task.
    pub(crate) async fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Driver) -> R + Send + 'static,
    ) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let call: Call = Box::new(move |driver| {
            // The caller may have been dropped.
            let _ = reply.send(f(driver));
        });
        self.calls.send(call).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)
    }

    /// Runs `f` on the engine.
    pub(crate) async fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> Result<R> {
        self.call(|driver| {
            let now = driver.now();
            f(driver.engine(), now)
        })
        .await
    }

    /// Carries out a command.
    pub(crate) async fn command(&self, command: Command) -> Result<Reply> {
        Ok(self.call(move |driver| driver.command(command)).await??)
    }

    /// Runs `work` in a task of its own, so that it ends even if nobody waits for it.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the runtime has ended.
    async fn to_the_end<R: Send + 'static>(
        &self,
        work: impl Future<Output = R> + Send + 'static,
    ) -> Result<R> {
        match self.runtime.spawn(work).await {
            Ok(result) => Ok(result),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Stopped),
        }
    }

    fn dirs(&self) -> MutexGuard<'_, BTreeMap<TorrentId, PathBuf>> {
        // No code panics while this lock is held.
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session folder, if there is one.
    ///
    /// # Errors
    /// [`Error::Stopped`] if there was one and the session has ended.
    fn store(&self) -> Result<Option<Arc<Store>>> {
        match &self.store {
            None => Ok(None),
            Some(store) => store.upgrade().map(Some).ok_or(Error::Stopped),
        }
    }

    async fn wait_end(&self) -> Option<Ended> {
        let mut ended = self.ended.clone();
        // An error means that the sender was dropped without sending.
        ended.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Runs code that may block off the runtime's threads.
async fn blocking<R: Send + 'static>(f: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Stopped),
    }
}
