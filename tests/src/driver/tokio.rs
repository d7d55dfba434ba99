//! Sessions of the tokio driver, each in a runtime of its own.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

use dunlin_core::engine::{Engine, Event};
use dunlin_core::{Instant, TorrentId};
use dunlin_std::session::add::Add;
use dunlin_std::session::setup::SessionConfig;
use dunlin_tokio::{Content, Ended, Events, Session, Torrent};
use tokio::runtime::{Builder, Runtime};

use super::real::{Loopback, Runner};
use super::{Effort, End};

/// The tokio driver over loopback.
pub type Tokio = Loopback<TokioRunner>;

/// A session.
#[derive(Debug)]
pub struct TokioRunner {
    runtime: Option<Runtime>,
    session: Option<Session>,
    events: Events,
    ending: Option<JoinHandle<Option<Ended>>>,
}

impl TokioRunner {
    /// Runs `f` with the session in its runtime.
    fn within<R>(&self, f: impl AsyncFnOnce(&Session) -> R) -> R {
        let session = self.session.as_ref().expect("it was not stopped");
        self.runtime
            .as_ref()
            .expect("it was not killed")
            .block_on(f(session))
    }

    fn torrent(&self, id: TorrentId) -> Torrent {
        let torrents = self.within(async |s| s.torrents().await).unwrap();
        let found = torrents.into_iter().find(|t| t.id() == id);
        found.expect("the torrent is there")
    }
}

impl Runner for TokioRunner {
    const NAME: &'static str = "tokio";

    fn start(config: SessionConfig) -> Self {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let session = runtime.block_on(Session::new(config)).unwrap();
        Self {
            events: session.events(),
            runtime: Some(runtime),
            session: Some(session),
            ending: None,
        }
    }

    fn kill(mut self) {
        // The runtime ends before the session, which tells nobody.
        std::mem::forget(self.session.take());
        drop(self.runtime.take());
    }

    fn stop(&mut self) {
        let session = self.session.take().expect("it was not stopped");
        let runtime = self.runtime.take().expect("it was not killed");
        self.ending = Some(thread::spawn(move || runtime.block_on(session.shutdown())));
    }

    fn ended(&mut self) -> Option<End> {
        let ending = self.ending.take_if(|thread| thread.is_finished())?;
        let ended = ending.join().unwrap().expect("the driver ended by itself");
        Some(End {
            engine: ended.engine,
            ops: None,
        })
    }

    fn with_engine<R: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R {
        self.within(async |s| s.with_engine(f).await).unwrap()
    }

    fn add(&mut self, add: Add) -> TorrentId {
        self.within(async |s| s.add(add).await).unwrap().id()
    }

    fn remove(&mut self, torrent: TorrentId, delete: bool) {
        let content = match delete {
            true => Content::Delete,
            false => Content::Keep,
        };
        let torrent = self.torrent(torrent);
        self.within(async |_| torrent.remove(content).await)
            .unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(event)) = pin!(self.events.next()).poll(&mut cx) {
            all.push(event);
        }
        all
    }

    fn effort(&mut self) -> Effort {
        let stats = self.within(async |s| s.stats().await).unwrap();
        Effort {
            wakes: stats.turns,
            read: stats.read_bytes,
            written: stats.written_bytes,
            datagrams_in: stats.datagrams_in,
            datagrams_out: stats.datagrams_out,
        }
    }
}
