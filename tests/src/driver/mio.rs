//! Drivers of the mio loop, each on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use dunlin_core::engine::{Engine, EngineStatus, Event};
use dunlin_core::{Instant, TorrentId};
use dunlin_mio::{Control, Driver, Handle};
use dunlin_std::session::add::Add;
use dunlin_std::session::setup::SessionConfig;

use super::real::{Loopback, Runner};
use super::{Effort, End};

/// The mio driver over loopback.
pub type Mio = Loopback<MioRunner>;

/// A driver and its thread.
#[derive(Debug)]
pub struct MioRunner {
    handle: Handle,
    events: Receiver<Event>,
    killed: Arc<AtomicBool>,
    thread: Option<JoinHandle<EngineStatus>>,
}

impl Runner for MioRunner {
    const NAME: &'static str = "mio";

    fn start(config: SessionConfig) -> Self {
        let mut driver = Driver::new(config).unwrap();
        let handle = driver.handle();
        let (tell, events) = channel();
        let killed = Arc::new(AtomicBool::new(false));
        let kill = Arc::clone(&killed);
        let thread = thread::spawn(move || {
            let mut tell = |event, _: &mut Control<'_>| {
                // The test may have ended.
                let _ = tell.send(event);
            };
            while driver.turn(None, &mut tell).unwrap() && !kill.load(Ordering::Relaxed) {}
            driver.control().engine_status()
        });
        Self {
            handle,
            events,
            killed,
            thread: Some(thread),
        }
    }

    fn kill(mut self) {
        self.killed.store(true, Ordering::Relaxed);
        // Ends the turn.
        self.handle.call(|_| ()).unwrap();
        self.thread.take().map(|t| t.join().unwrap()).unwrap();
    }

    fn stop(&mut self) {
        self.handle.stop().unwrap();
    }

    fn ended(&mut self) -> Option<End> {
        let thread = self.thread.take_if(|thread| thread.is_finished())?;
        let engine = thread.join().unwrap();
        Some(End { engine, ops: None })
    }

    fn with_engine<R: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R {
        self.handle.with_engine(f).unwrap()
    }

    fn add(&mut self, add: Add) -> TorrentId {
        self.handle.add(add).unwrap()
    }

    fn remove(&mut self, torrent: TorrentId, delete: bool) {
        self.handle.remove(torrent, delete).unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        self.events.try_iter().collect()
    }

    fn effort(&mut self) -> Effort {
        let stats = self.handle.call(|ctl| ctl.stats()).unwrap();
        Effort {
            wakes: stats.turns,
            read: stats.read_bytes,
            written: stats.written_bytes,
            datagrams_in: stats.datagrams_in,
            datagrams_out: stats.datagrams_out,
        }
    }
}
