//! Commands from other threads.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        mpsc::{SyncSender, sync_channel},
    },
    thread::ThreadId,
};

use dunlin_core::{
    Instant, TorrentId,
    engine::{self, Engine, EngineStatus, Reply, TorrentStatus},
};
use dunlin_std::{
    Error, Result,
    session::{
        add::{self, Add},
        setup::SessionConfig,
        store::Store,
    },
};

use super::{Control, Core};
use crate::{
    bell::{Bell, Source},
    http::Http,
};

/// Code of another thread that runs on the loop's thread.
pub(super) type Command = Box<dyn FnOnce(&mut Core) + Send>;

/// The state that handles share with the loop.
pub(super) struct Shared {
    pub(super) config: SessionConfig,
    pub(super) http: Http,
    /// The thread that runs the loop; `None` before it runs and after it has ended.
    pub(super) thread: Mutex<Option<ThreadId>>,
    /// The driver owns the store, so its locks are released when the driver is dropped.
    pub(super) store: Option<Weak<Store>>,
    /// Handles add torrents one at a time, so that a duplicate is recognised.
    adding: Mutex<()>,
}

impl Shared {
    pub(super) fn new(config: SessionConfig, http: Http, store: Option<Weak<Store>>) -> Self {
        Self {
            config,
            http,
            thread: Mutex::default(),
            store,
            adding: Mutex::default(),
        }
    }
}

/// Gives commands to a [`Driver`](crate::Driver) from any thread. Clones refer to the same driver, and may
/// outlive it; then they return [`Error::Stopped`].
///
/// A call waits until the loop has carried it out, so the loop has to run: in
/// [`Driver::run`](crate::Driver::run), or by calls of [`Driver::turn`](crate::Driver::turn). On the loop's
/// own thread every call fails with [`Error::Deadlock`]; code on that thread has a [`Control`].
#[derive(Clone)]
pub struct Handle {
    commands: SyncSender<Command>,
    bell: Bell,
    shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    pub(super) const fn new(
        commands: SyncSender<Command>,
        bell: Bell,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            commands,
            bell,
            shared,
        }
    }

    /// Runs `f` on the loop's thread and returns what it returns.
    ///
    /// # Errors
    /// [`Error::Stopped`] if the driver has ended; [`Error::Deadlock`] on the loop's own thread.
    pub fn call<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Control<'_>) -> R + Send + 'static,
    ) -> Result<R> {
        let own = *self
            .shared
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if own == Some(std::thread::current().id()) {
            return Err(Error::Deadlock {
                what: "a call by a handle",
                instead: "use the callback's control, or the driver's",
            });
        }
        let (reply, answer) = sync_channel(1);
        let command: Command = Box::new(move |core| {
            // The caller may have given up.
            let _ = reply.send(f(&mut Control::new(core)));
        });
        self.commands.send(command).map_err(|_| Error::Stopped)?;
        self.bell.ring(Source::Commands);
        answer.recv().map_err(|_| Error::Stopped)
    }

    /// Adds a torrent. Slow work, such as reading or downloading the torrent file, is done on the caller's
    /// thread.
    ///
    /// # Errors
    /// [`Error::Duplicate`] if the driver has it already; [`Error::Gone`] if the folder where it was saved
    /// before does not exist; [`Error::Dir`] if its folder cannot be used; errors of the torrent file, and
    /// of downloading it; otherwise as [`Handle::call`].
    pub fn add(&self, mut add: Add) -> Result<TorrentId> {
        if let Some(url) = add.source_url() {
            let user_agent = &self.shared.config.engine.user_agent;
            let request = add::torrent_request(url, user_agent);
            let file = add::torrent_file(url, self.shared.http.get(&request))?;
            add = add.fetched(&file)?;
        }
        let loaded = add.load()?;
        let (info_hash, name) = (loaded.info_hash(), loaded.name());
        let _one_at_a_time = self
            .shared
            .adding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = self.call(move |ctl| ctl.engine().find(info_hash))? {
            return Err(Error::Duplicate { name, id });
        }
        let store = match &self.shared.store {
            None => None,
            Some(store) => Some(store.upgrade().ok_or(Error::Stopped)?),
        };
        let ready = loaded.claim(store, &self.shared.config)?;
        let added = self.call(move |ctl| ctl.add_ready(ready))?;
        added.map_err(|error| Error::of_add(name, error))
    }

    /// Carries out a command, as [`Control::command`].
    ///
    /// # Errors
    /// [`Error::Removed`] if there is no torrent with that id; [`Error::Command`] for any other error of
    /// the engine; otherwise as [`Handle::call`].
    pub fn command(&self, command: engine::Command) -> Result<Reply> {
        Ok(self.call(move |ctl| ctl.command(command))??)
    }

    /// Runs `f` on the engine.
    ///
    /// # Errors
    /// As [`Handle::call`].
    pub fn with_engine<R: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> Result<R> {
        self.call(|ctl| {
            let now = ctl.now();
            f(ctl.engine(), now)
        })
    }

    /// The state of a torrent.
    ///
    /// # Errors
    /// [`Error::Removed`] if there is no torrent with that id; otherwise as [`Handle::call`].
    pub fn status(&self, id: TorrentId) -> Result<TorrentStatus> {
        self.call(move |ctl| ctl.status(id))?.ok_or(Error::Removed)
    }

    /// The state of the engine.
    ///
    /// # Errors
    /// As [`Handle::call`].
    pub fn engine_status(&self) -> Result<EngineStatus> {
        self.with_engine(|engine, now| engine.status(now))
    }

    /// Pauses a torrent.
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub fn pause(&self, id: TorrentId) -> Result<()> {
        self.command(engine::Command::Pause(id)).map(drop)
    }

    /// Resumes a torrent that is paused or has failed.
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub fn resume(&self, id: TorrentId) -> Result<()> {
        self.command(engine::Command::Resume(id)).map(drop)
    }

    /// Removes a torrent; see [`Control::remove`].
    ///
    /// # Errors
    /// As [`Handle::command`].
    pub fn remove(&self, id: TorrentId, delete: bool) -> Result<()> {
        let torrent = id;
        let remove = engine::Command::Remove { torrent, delete };
        self.command(remove).map(drop)
    }

    /// Starts to stop the driver; [`Driver::run`](crate::Driver::run) returns when it has stopped.
    ///
    /// # Errors
    /// As [`Handle::call`].
    pub fn stop(&self) -> Result<()> {
        self.call(|ctl| {
            ctl.stop();
        })
    }
}
