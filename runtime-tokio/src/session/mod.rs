//! The API for applications.
//!
//! Every call is a closure that travels to the engine's task over a bounded queue and is
//! answered by a oneshot: the engine has one owner and no lock.
//!
//! Every future here may be dropped at any time. What takes several commands, and must not be left half done, runs to its
//! end in a task of its own (`Shared::to_the_end`).

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

/// Calls that may wait for the engine's task; more make the callers wait.
const CALL_QUEUE: usize = 64;
/// Events kept for a listener that is slow; the oldest make way.
const EVENT_QUEUE: usize = 1024;

/// A session: one engine, its sockets and its disk.
///
/// [`Session::shutdown`] ends it in good order. Dropping it begins the same, but nobody waits
/// for the end: what the runtime does not live to see stays undone.
#[derive(Debug)]
pub struct Session {
    shared: Arc<Shared>,
    /// For who asks first: what happened before that, a socket that could not be bound, is heard.
    first: Mutex<Option<broadcast::Receiver<Event>>>,
}

/// What handles need.
#[derive(Debug)]
pub(crate) struct Shared {
    calls: mpsc::Sender<Call>,
    events: broadcast::WeakSender<Event>,
    http: Arc<Http>,
    config: SessionConfig,
    /// The driver owns it, so that its locks are given up when the session ends.
    store: Option<Weak<Store>>,
    /// One torrent is added at a time, so that a duplicate is recognised as one.
    adding: tokio::sync::Mutex<()>,
    /// Where each torrent is saved.
    dirs: Mutex<BTreeMap<TorrentId, PathBuf>>,
    /// The runtime that it was started in.
    runtime: tokio::runtime::Handle,
    /// Set and closed when the engine's task has ended.
    ended: watch::Receiver<Option<Ended>>,
}

/// What a torrent of a session is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TorrentKey {
    /// What events call it.
    Id(TorrentId),
    /// What the network calls it.
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
    /// [`Error::Folder`] if the session's folder cannot be used or belongs to a running
    /// session, [`Error::Start`] if the system lacks threads or random numbers.
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
        // The driver has a budget of its own; tokio's would only make streams look busy.
        let task = tokio::task::unconstrained(driver);
        tokio::spawn(async move {
            // Handles may all be gone: nobody wants to know then.
            let _ = end.send(Some(task.await));
        });
        Ok(Self { shared, first })
    }

    /// Adds a torrent. If the future is dropped, the torrent has been added, or will be at once, or will not be;
    /// nothing else stays behind.
    ///
    /// # Errors
    /// [`AddError::Duplicate`], with the torrent, if it is here already; [`Error::Gone`] if the folder where an earlier
    /// session saved it is gone (its disk is not mounted), [`Error::Dir`] if its folder cannot be made; what is wrong
    /// with the torrent file, or why it could not be had. [`AddError`] becomes an [`Error`] by `?`.
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

    /// What happens from now on; to the first who asks, all that happened since the session's
    /// start. Events that come faster than they are taken make room for
    /// newer ones; those about torrents only say that something changed, so nothing is lost.
    #[must_use]
    pub fn events(&self) -> Events {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let now = || Some(self.shared.events.upgrade()?.subscribe());
        Events::new(first.take().or_else(now))
    }

    /// The session, now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn status(&self) -> Result<EngineStatus> {
        self.shared
            .with_engine(|engine, now| engine.status(now))
            .await
    }

    /// What the driver did so far.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn stats(&self) -> Result<Stats> {
        self.shared.call(|driver| driver.stats()).await
    }

    /// Limits all traffic.
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

    /// The DHT's mode and statistics; `None` if there is no DHT: it is disabled, or the session
    /// keeps nothing.
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

    /// Tells the DHT of a node, `host` or `host:port`; see [`Command::AddDhtNode`].
    ///
    /// # Errors
    /// [`Error::DhtNode`] if there is no DHT, or the text names no node; [`Error::Stopped`].
    pub async fn add_dht_node(&self, node: String) -> Result<()> {
        let added = self.command(Command::AddDhtNode(node.clone())).await;
        added.map(drop).map_err(|error| match error {
            Error::Command(source) => Error::DhtNode { node, source },
            error => error,
        })
    }

    /// Carries out a command. Torrents are added and removed by [`Session::add`] and
    /// [`Torrent::remove`], which also see to their files and to the session folder.
    ///
    /// # Errors
    /// [`Error::Removed`] if there is no torrent of that id, [`Error::Command`] for any other reason
    /// of the engine; [`Error::Stopped`].
    pub async fn command(&self, command: Command) -> Result<Reply> {
        self.shared.command(command).await
    }

    /// Runs `f` on the engine, in the engine's task, for everything that has no method here.
    /// Torrents are added and removed by [`Session::add`] and [`Torrent::remove`], which also see
    /// to their files and to the session folder.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> Result<R> {
        self.shared.with_engine(f).await
    }

    /// Ends the session: trackers hear `stopped`, what was written is made durable and the
    /// records are saved. Returns when that is done, at the latest some seconds after
    /// [`Config::stop_timeout`](dunlin_core::Config::stop_timeout), and says what the session
    /// came to; `None` if its runtime went away first. Asked again, it says the same.
    pub async fn shutdown(&self) -> Option<Ended> {
        // A queue that is closed means that the session has ended already.
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
        // Busy: somebody else has to wait for a place in the queue.
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
            // A caller that gave up does not want the answer.
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

    /// Runs `work` in a task of its own, so that it comes to its end even if nobody waits for that.
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
        // Nothing panics while it is held.
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session folder, if there is one.
    ///
    /// # Errors
    /// [`Error::Stopped`] if there was one, and the session has ended.
    fn store(&self) -> Result<Option<Arc<Store>>> {
        match &self.store {
            None => Ok(None),
            Some(store) => store.upgrade().map(Some).ok_or(Error::Stopped),
        }
    }

    async fn wait_end(&self) -> Option<Ended> {
        let mut ended = self.ended.clone();
        // An error means that the sender was dropped, and nothing was sent.
        ended.wait_for(Option::is_some).await.ok()?.clone()
    }
}

/// Runs what may block off the runtime's threads.
async fn blocking<R: Send + 'static>(f: impl FnOnce() -> Result<R> + Send + 'static) -> Result<R> {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(Error::Stopped),
    }
}
