//! The firmware's driver, with packets passed in memory under virtual time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dunlin_core::engine::{AddTorrent, Command, Engine, Event, Source};
use dunlin_core::{Instant, OpErrorKind, OpId, Outcome, TorrentId};
use dunlin_smoltcp::storage::{DiskJob, DiskOp, Storage};
use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled, RamDisk};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::guest::{Guest, Post};
use super::link::{self, Link};
use super::stack::{Card, StackGuest};
use super::{Content, Effort, End, Fault, Node, Setup, Spec, TestDriver};

/// The port on which engines listen.
const PORT: u16 = 6_881;
/// The port of the name server.
const DNS_PORT: u16 = 53;
/// The size of a node's disk in bytes.
const DISK: u64 = 1 << 28;
/// The time that a disk op takes.
const DISK_DELAY: Duration = Duration::from_micros(300);
/// The longest time of one step.
const STEP: Duration = Duration::from_millis(20);
/// The most polls at one time; more mean that a driver spins.
const POLLS: usize = 1_000;

/// The address of a machine; the guest is number 200.
fn ip(n: usize, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([10, 0, 0, n as u8 + 1]),
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n as u16 + 1]),
    }
}

const GUEST: usize = 200;

/// The smoltcp driver over a link in memory.
pub struct Smoltcp {
    now: Instant,
    rng: ChaCha8Rng,
    machines: Vec<Machine>,
    guest: StackGuest,
    dns: Post,
    link: Link,
}

impl std::fmt::Debug for Smoltcp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smoltcp")
            .field("now", &self.now)
            .field("machines", &self.machines.len())
            .finish_non_exhaustive()
    }
}

struct Machine {
    driver: Option<Driver<Disk>>,
    /// The disk, while the node is off.
    disk: Option<Disk>,
    card: Card,
    events: VecDeque<Event>,
    stopped: bool,
    stalled: Option<Instant>,
}

/// A disk in memory with delays and faults.
#[derive(Debug)]
struct Disk {
    inner: RamDisk,
    fault: Option<Fault>,
    later: BTreeMap<(Instant, u64), (OpId, Outcome)>,
    seen: BTreeSet<OpId>,
}

impl Disk {
    fn new(inner: RamDisk) -> Self {
        Self {
            inner,
            fault: None,
            later: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }
}

impl Storage for Disk {
    fn submit(&mut self, now: Instant, op: DiskOp) {
        let id = op.id;
        assert!(self.seen.insert(id), "{id:?} is used twice");
        let outcome = match (self.fault, &op.job) {
            (Some(Fault::Unwritable), DiskJob::Write(_)) => {
                op.fail(OpErrorKind::NoSpace, "the disk is full")
            }
            (Some(Fault::Missing), DiskJob::Read(_) | DiskJob::Hash(_)) => {
                op.fail(OpErrorKind::NotFound, "the file is gone")
            }
            _ => self.inner.apply(now, op),
        };
        let key = (now + DISK_DELAY, self.seen.len() as u64);
        self.later.insert(key, (id, outcome));
    }

    fn poll(&mut self, now: Instant) -> Option<(OpId, Outcome)> {
        let first = self.later.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Machine {
    /// Runs the driver until it is idle.
    fn run(&mut self, now: Instant) {
        if self.stalled.is_some_and(|until| until > now) {
            return;
        }
        self.stalled = None;
        let Some(driver) = &mut self.driver else {
            self.card.rx.clear();
            return;
        };
        let due = driver.poll_timeout().is_some_and(|at| at <= now);
        if !due && self.card.rx.is_empty() {
            return;
        }
        let mut polls = 0;
        while driver.poll(now, &mut self.card) == Polled::Busy {
            polls += 1;
            assert!(polls < POLLS, "law 3: a driver does not come to rest");
        }
        while let Some(event) = driver.poll_event() {
            self.stopped |= event == Event::Stopped;
            self.events.push_back(event);
        }
    }

    fn next(&self) -> Option<Instant> {
        let driver = self.driver.as_ref()?;
        let at = driver.poll_timeout()?;
        Some(at.max(self.stalled.unwrap_or(at)))
    }
}

impl Smoltcp {
    fn driver(&mut self, node: Node) -> &mut Driver<Disk> {
        let machine = &mut self.machines[node.0];
        machine.driver.as_mut().expect("the engine runs")
    }

    /// Does everything that is due now.
    fn settle(&mut self) {
        let now = self.now;
        while let Some((to, packet)) = self.link.arrived(now) {
            if to == ip(GUEST, to.is_ipv6()) {
                self.guest.card.rx.push_back(packet);
                continue;
            }
            let machine = (0..self.machines.len()).find(|n| ip(*n, to.is_ipv6()) == to);
            if let Some(machine) = machine {
                self.machines[machine].card.rx.push_back(packet);
            }
        }
        for machine in &mut self.machines {
            machine.run(now);
            for packet in machine.card.tx.drain(..) {
                self.link.send(now, packet);
            }
        }
        self.guest.poll(now);
        while let Some((from, question)) = self.guest.receive(self.dns) {
            let ips = [ip(GUEST, false), ip(GUEST, true)];
            if let Some(answer) = link::resolve(&question, ips) {
                self.guest.send(self.dns, from, &answer);
                self.guest.poll(now);
            }
        }
        for packet in self.guest.card.tx.drain(..) {
            self.link.send(now, packet);
        }
    }
}

impl TestDriver for Smoltcp {
    const NAME: &'static str = "smoltcp";
    const VIRTUAL: bool = true;

    fn new(seed: u64) -> Self {
        let now = Instant::from_micros(1_000_000);
        let mut guest = StackGuest::new(now, [ip(GUEST, false), ip(GUEST, true)]);
        let dns = guest.bind_at((ip(GUEST, false), DNS_PORT).into());
        Self {
            now,
            rng: ChaCha8Rng::seed_from_u64(seed),
            machines: Vec::new(),
            guest,
            dns,
            link: Link::default(),
        }
    }

    fn boot(&mut self, setup: Setup) -> Node {
        self.machines.push(Machine {
            driver: None,
            disk: Some(Disk::new(RamDisk::new(DISK))),
            card: Card::default(),
            events: VecDeque::new(),
            stopped: false,
            stalled: None,
        });
        let node = Node(self.machines.len() - 1);
        self.reboot(node, setup);
        node
    }

    fn reboot(&mut self, node: Node, setup: Setup) {
        let mut config = setup.config;
        config.listen.clear();
        let own = SocketAddr::new(ip(node.0, setup.v6), PORT);
        config.listen.push(setup.listen.unwrap_or(own)).unwrap();
        let net = NetConfig {
            tcp_rx: 64 << 10,
            tcp_tx: 64 << 10,
            dns: vec![ip(GUEST, false)],
            ..NetConfig::for_engine(Hardware::Ip, &config)
        }
        .address(ip(node.0, false), 24)
        .address(ip(node.0, true), 64);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(self.rng.next_u64()));
        let machine = &mut self.machines[node.0];
        let disk = machine.disk.take().expect("it runs");
        machine.card = Card::default();
        machine.stopped = false;
        let driver = Driver::new(self.now, &mut machine.card, &net, config, disk, rng);
        machine.driver = Some(driver.unwrap());
    }

    fn kill(&mut self, node: Node) {
        let machine = &mut self.machines[node.0];
        let driver = machine.driver.take().expect("the engine runs");
        let mut disk = driver.into_storage();
        disk.inner.reopen();
        machine.disk = Some(Disk::new(disk.inner));
    }

    fn stop(&mut self, node: Node) {
        let now = self.now;
        self.driver(node)
            .engine_mut()
            .command(now, Command::Shutdown)
            .expect("it is always carried out");
    }

    fn ended(&mut self, node: Node) -> Option<End> {
        if !self.machines[node.0].stopped {
            return None;
        }
        let now = self.now;
        let driver = self.driver(node);
        let stats = driver.stats();
        let end = End {
            engine: driver.engine().status(now),
            ops: Some((stats.ops, stats.outcomes)),
        };
        self.kill(node);
        Some(end)
    }

    fn with_engine<R: Send + 'static>(
        &mut self,
        node: Node,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R {
        let now = self.now;
        f(self.driver(node).engine_mut(), now)
    }

    fn listening(&mut self, node: Node) -> Option<SocketAddr> {
        let now = self.now;
        let status = self.driver(node).engine().status(now);
        status.listening.first().copied()
    }

    fn put(&mut self, node: Node, content: &Content) {
        let disk = self.driver(node).storage_mut();
        disk.inner
            .put(&content.info(), content.data.clone())
            .unwrap();
    }

    fn add(&mut self, node: Node, content: &Content, spec: Spec) -> TorrentId {
        let now = self.now;
        let info = content.info();
        let driver = self.driver(node);
        let record = driver.storage().inner.record(info.info_hash());
        let add = AddTorrent {
            trackers: spec.trackers.into_iter().map(|url| vec![url]).collect(),
            peers: spec.peers,
            resume: record.map(<[u8]>::to_vec),
            paused: spec.paused,
            check: spec.check,
            existing: spec.existing,
            limit_down: spec.down,
            limit_up: spec.up,
            ..AddTorrent::new(match spec.magnet {
                false => Source::Info(info),
                true => Source::Hash {
                    info_hash: info.info_hash(),
                    name: None,
                },
            })
        };
        driver.engine_mut().add(now, add).unwrap()
    }

    fn remove(&mut self, node: Node, torrent: TorrentId, delete: bool) {
        let now = self.now;
        assert!(
            self.driver(node)
                .engine_mut()
                .command(now, Command::Remove { torrent, delete })
                .is_ok()
        );
    }

    fn events(&mut self, node: Node) -> Vec<Event> {
        self.machines[node.0].events.drain(..).collect()
    }

    fn bytes(&mut self, node: Node, content: &Content) -> Option<Vec<u8>> {
        let machine = &self.machines[node.0];
        let on = machine.driver.as_ref().map(Driver::storage);
        let disk = on.or(machine.disk.as_ref())?;
        let content = disk.inner.content(content.info().info_hash());
        content.map(<[u8]>::to_vec)
    }

    fn exists(&mut self, node: Node, content: &Content) -> bool {
        self.bytes(node, content).is_some()
    }

    fn break_disk(&mut self, node: Node, _content: &Content, fault: Fault) {
        self.driver(node).storage_mut().fault = Some(fault);
    }

    fn mend_disk(&mut self, node: Node, _content: &Content) {
        self.driver(node).storage_mut().fault = None;
    }

    fn effort(&mut self, node: Node) -> Effort {
        let stats = self.driver(node).stats();
        Effort {
            wakes: stats.polls,
            read: stats.read_bytes,
            written: stats.written_bytes,
            datagrams_in: stats.datagrams_in,
            datagrams_out: stats.datagrams_out,
        }
    }

    fn stall(&mut self, node: Node, time: Duration) {
        self.machines[node.0].stalled = Some(self.now + time);
    }

    fn guest<R>(&mut self, f: impl FnOnce(&mut dyn Guest) -> R) -> R {
        f(&mut self.guest)
    }

    fn known_name(&self) -> String {
        link::NAME.into()
    }

    fn unknown_name(&self) -> String {
        "nobody.invalid".into()
    }

    fn silent_addr(&mut self) -> SocketAddr {
        // The address does not exist: packets to it are lost.
        SocketAddr::new(ip(GUEST + 1, false), PORT)
    }

    fn taken_addr(&mut self) -> SocketAddr {
        // Another machine's address.
        SocketAddr::new(ip(GUEST, false), PORT)
    }

    fn jump(&mut self, time: Duration) -> bool {
        self.now += time;
        true
    }

    fn trace(&self) -> Option<u64> {
        Some(self.link.trace)
    }

    fn step(&mut self) {
        self.settle();
        let machines = self.machines.iter().filter_map(Machine::next);
        let next = machines
            .chain(self.link.next())
            .chain(self.guest.deadline());
        let limit = self.now + STEP;
        let next = next.min().map_or(limit, |at| at.min(limit));
        self.now = self.now.max(next);
    }

    fn elapsed(&self) -> Duration {
        self.now.saturating_since(Instant::ORIGIN)
    }
}
