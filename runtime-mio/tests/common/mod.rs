//! Drivers on loopback, each on a thread of its own.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "tests, and each uses a part of it"
)]

pub(crate) mod tracker;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use dunlin_mio::{
    Driver, DriverConfig, EngineStatus, Event, Handle, Result, State, Stats, TorrentId,
    TorrentStatus,
};
pub(crate) use dunlin_std::testing::content::Content;
use tempfile::TempDir;

/// Longer than any of these transfers takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a driver ended.
pub(crate) struct End {
    pub(crate) result: Result<bool>,
    pub(crate) status: EngineStatus,
    pub(crate) stats: Stats,
}

/// A driver on loopback, on a thread of its own, with a folder of its own.
pub(crate) struct Node {
    pub(crate) handle: Handle,
    pub(crate) events: Receiver<Event>,
    pub(crate) addr: SocketAddr,
    pub(crate) dir: TempDir,
    thread: JoinHandle<End>,
}

pub(crate) fn config(dir: &Path) -> DriverConfig {
    let mut config = DriverConfig::default();
    config.session.listen = vec![(Ipv4Addr::LOCALHOST, 0).into()];
    config.session.dir = dir.into();
    config
}

impl Node {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn on(ip: impl Into<IpAddr>) -> Self {
        let ip = ip.into();
        Self::with(|c| c.session.listen = vec![(ip, 0).into()])
    }

    pub(crate) fn with(change: impl FnOnce(&mut DriverConfig)) -> Self {
        Self::at(TempDir::new().unwrap(), change)
    }

    /// A driver that saves to `dir`.
    pub(crate) fn at(dir: TempDir, change: impl FnOnce(&mut DriverConfig)) -> Self {
        let mut config = config(dir.path());
        change(&mut config);
        let listens = !config.session.listen.is_empty() && config.session.route.proxy.is_none();
        let mut driver = Driver::new(config).unwrap();
        let handle = driver.handle();
        let (tell, events) = channel();
        let thread = std::thread::spawn(move || {
            let mut tell = |event, _: &mut dunlin_mio::Control<'_>| {
                // A test that has seen enough no longer listens.
                let _ = tell.send(event);
            };
            let result = loop {
                match driver.turn(None, &mut tell) {
                    Ok(true) => {}
                    end => break end,
                }
            };
            let control = driver.control();
            let (status, stats) = (control.engine_status(), control.stats());
            End {
                result,
                status,
                stats,
            }
        });
        let listening = || handle.engine_status().unwrap().listening.first().copied();
        let addr = match listens {
            true => until("the driver to listen", listening),
            false => (Ipv4Addr::UNSPECIFIED, 0).into(),
        };
        Self {
            handle,
            events,
            addr,
            dir,
            thread,
        }
    }

    /// A driver that shares `content`, and its torrent, complete.
    pub(crate) fn sharing(content: &Content) -> (Self, TorrentId) {
        let node = Self::new();
        let torrent = node.handle.add(content.share()).unwrap();
        node.wait_complete(torrent);
        (node, torrent)
    }

    /// Waits for an event that `wanted` recognises; what comes before is lost.
    pub(crate) fn event(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if wanted(&event) => return event,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} in vain: {what}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the driver ended before: {what}"),
            }
        }
    }

    /// Waits until a torrent's state is as `wanted` says, which is asked anew with every event.
    pub(crate) fn wait(
        &self,
        id: TorrentId,
        what: &str,
        wanted: impl Fn(&TorrentStatus) -> bool,
    ) -> TorrentStatus {
        let mut status = self.handle.status(id).unwrap();
        while !wanted(&status) {
            self.event(
                &format!("{what}, {status:?}"),
                |e| matches!(e, Event::Changed { torrent, .. } if *torrent == id),
            );
            status = self.handle.status(id).unwrap();
        }
        status
    }

    pub(crate) fn wait_complete(&self, id: TorrentId) -> TorrentStatus {
        self.wait(id, "complete", |status| status.state == State::Seeding)
    }

    /// Stops it, and waits until it has: law 1, nothing is unanswered then.
    pub(crate) fn stop(self) -> (TempDir, Stats) {
        self.handle.stop().unwrap();
        self.join()
    }

    /// Waits for its end.
    pub(crate) fn join(self) -> (TempDir, Stats) {
        until("the driver to end", || {
            self.thread.is_finished().then_some(())
        });
        let end = self.thread.join().unwrap();
        assert!(!end.result.unwrap(), "it has stopped");
        assert_eq!(end.status.jobs, 0, "law 1: every op is answered");
        assert_eq!(end.status.blocks_lent, 0, "law 1: every block is home");
        (self.dir, end.stats)
    }
}

/// Waits until `condition` yields something.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::yield_now();
    }
}
