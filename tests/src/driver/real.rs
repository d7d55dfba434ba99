//! What drivers on a real machine share: folders, loopback, and the clock.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant as Clock};

use dunlin_core::engine::{Engine, Event};
use dunlin_core::{Instant, TorrentId};
use dunlin_std::session::add::{Add, Limits};
use dunlin_std::session::setup::SessionConfig;
use tempfile::TempDir;

use super::guest::Guest;
use super::loopback::StdGuest;
use super::{Content, Effort, End, Fault, Node, Setup, Spec, TestDriver};

/// The time between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(1);

/// A driver on a real machine.
pub trait Runner: Sized {
    /// The name of the driver.
    const NAME: &'static str;

    /// Starts it.
    fn start(config: SessionConfig) -> Self;
    /// Ends it at once, as far as that can be done within the process.
    fn kill(self);
    /// Starts to stop it.
    fn stop(&mut self);
    /// The result, once it has stopped.
    fn ended(&mut self) -> Option<End>;
    /// Runs `f` on the engine.
    fn with_engine<R: Send + 'static>(
        &mut self,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R;
    /// Adds a torrent.
    fn add(&mut self, add: Add) -> TorrentId;
    /// Takes a torrent out.
    fn remove(&mut self, torrent: TorrentId, delete: bool);
    /// The events since the last call.
    fn events(&mut self) -> Vec<Event>;
    /// The counters of the driver.
    fn effort(&mut self) -> Effort;
}

/// The test driver made of such drivers.
#[derive(Debug)]
pub struct Loopback<R> {
    start: Clock,
    machines: Vec<Machine<R>>,
    guest: StdGuest,
}

#[derive(Debug)]
struct Machine<R> {
    runner: Option<R>,
    dir: TempDir,
    /// The address of the last run, which a restarted machine keeps.
    addr: Option<SocketAddr>,
}

impl<R> Machine<R> {
    fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    fn config(&self, setup: Setup) -> SessionConfig {
        let any = match setup.v6 {
            false => (Ipv4Addr::LOCALHOST, 0).into(),
            true => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let mut config = SessionConfig {
            engine: setup.config,
            listen: vec![setup.listen.or(self.addr).unwrap_or(any)],
            folder: Some(self.dir.path().join("session")),
            dir: self.files(),
            dht_without_folder: false,
            ..SessionConfig::default()
        };
        config.disk.threads = 1;
        config
    }
}

impl<R: Runner> Loopback<R> {
    fn runner(&mut self, node: Node) -> &mut R {
        let machine = &mut self.machines[node.0];
        machine.runner.as_mut().expect("the engine runs")
    }
}

impl<R: Runner> TestDriver for Loopback<R> {
    const NAME: &'static str = R::NAME;
    const VIRTUAL: bool = false;

    fn new(_seed: u64) -> Self {
        Self {
            start: Clock::now(),
            machines: Vec::new(),
            guest: StdGuest::default(),
        }
    }

    fn boot(&mut self, setup: Setup) -> Node {
        let machine = Machine {
            runner: None,
            dir: TempDir::new().unwrap(),
            addr: None,
        };
        fs::create_dir(machine.files()).unwrap();
        self.machines.push(machine);
        let node = Node(self.machines.len() - 1);
        self.reboot(node, setup);
        node
    }

    fn reboot(&mut self, node: Node, setup: Setup) {
        let machine = &mut self.machines[node.0];
        assert!(machine.runner.is_none(), "it runs");
        machine.runner = Some(R::start(machine.config(setup)));
    }

    fn kill(&mut self, node: Node) {
        let runner = self.machines[node.0].runner.take();
        runner.expect("the engine runs").kill();
    }

    fn stop(&mut self, node: Node) {
        self.runner(node).stop();
    }

    fn ended(&mut self, node: Node) -> Option<End> {
        let end = self.runner(node).ended()?;
        self.machines[node.0].runner = None;
        Some(end)
    }

    fn with_engine<T: Send + 'static>(
        &mut self,
        node: Node,
        f: impl FnOnce(&mut Engine, Instant) -> T + Send + 'static,
    ) -> T {
        self.runner(node).with_engine(f)
    }

    fn listening(&mut self, node: Node) -> Option<SocketAddr> {
        let listening = self.with_engine(node, |engine, now| engine.status(now).listening);
        let addr = listening.first().copied();
        self.machines[node.0].addr = addr;
        addr
    }

    fn put(&mut self, node: Node, content: &Content) {
        let root = self.machines[node.0].files();
        for (path, bytes) in content.files() {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    fn add(&mut self, node: Node, content: &Content, spec: Spec) -> TorrentId {
        let add = match spec.magnet {
            false => Add::torrent(content.torrent.clone()),
            true => Add::magnet(&content.torrent.magnet().to_string()).unwrap(),
        };
        let limits = Limits {
            down: spec.down,
            up: spec.up,
        };
        let add = add
            .peers(spec.peers)
            .trackers(spec.trackers)
            .paused(spec.paused)
            .check(spec.check)
            .existing(spec.existing)
            .limits(limits);
        self.runner(node).add(add)
    }

    fn remove(&mut self, node: Node, torrent: TorrentId, delete: bool) {
        self.runner(node).remove(torrent, delete);
    }

    fn events(&mut self, node: Node) -> Vec<Event> {
        self.runner(node).events()
    }

    fn bytes(&mut self, node: Node, content: &Content) -> Option<Vec<u8>> {
        let root = self.machines[node.0].files();
        let mut all = Vec::new();
        for (path, _) in content.files() {
            all.extend(fs::read(root.join(path)).ok()?);
        }
        Some(all)
    }

    fn exists(&mut self, node: Node, content: &Content) -> bool {
        let root = self.machines[node.0].files();
        content.files().any(|(path, _)| root.join(path).exists())
    }

    fn break_disk(&mut self, node: Node, content: &Content, fault: Fault) {
        let root = self.machines[node.0].files();
        match fault {
            Fault::Unwritable => fs::write(root.join(content.info().name()), b"").unwrap(),
            Fault::Missing => {
                for (path, _) in content.files() {
                    fs::remove_file(root.join(path)).unwrap();
                }
            }
        }
    }

    fn mend_disk(&mut self, node: Node, content: &Content) {
        let root = self.machines[node.0].files();
        fs::remove_file(root.join(content.info().name())).unwrap();
    }

    fn effort(&mut self, node: Node) -> Effort {
        self.runner(node).effort()
    }

    fn stall(&mut self, node: Node, time: Duration) {
        // Code on the driver's own thread delays its loop.
        self.runner(node)
            .with_engine(move |_, _| thread::sleep(time));
    }

    fn guest<T>(&mut self, f: impl FnOnce(&mut dyn Guest) -> T) -> T {
        f(&mut self.guest)
    }

    fn known_name(&self) -> String {
        "localhost".into()
    }

    fn unknown_name(&self) -> String {
        "nobody.invalid".into()
    }

    fn silent_addr(&mut self) -> SocketAddr {
        self.guest.silent_addr()
    }

    fn taken_addr(&mut self) -> SocketAddr {
        self.guest.taken_addr()
    }

    fn jump(&mut self, _time: Duration) -> bool {
        false
    }

    fn trace(&self) -> Option<u64> {
        None
    }

    fn step(&mut self) {
        thread::sleep(GLANCE);
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
