//! The simulator: machines that run the engine in a simulated network, as in scenarios.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dunlin_core::engine::{AddTorrent, Command, Engine, Event, Source};
use dunlin_core::{Instant, TorrentId};
use dunlin_sim::host::disk::{DiskConfig, SimDisk};
use dunlin_sim::host::engine::{EngineHost, EngineSetup};
use dunlin_sim::{BoxConfig, DeviceId, Host, HostCx, LinkConfig, Packet, Scripted, SimRng, World};

use super::guest::{Guest, Post};
use super::link;
use super::stack::StackGuest;
use super::{Content, Effort, End, Fault, Node, Setup, Spec, TestDriver};

/// The port on which engines listen.
const PORT: u16 = 6_881;
/// The port of the name server.
const DNS_PORT: u16 = 53;
/// The longest time of one step.
const STEP: Duration = Duration::from_millis(20);
/// The numbers of the guest and of a machine that never answers.
const GUEST: usize = 200;
const MUTE: usize = 201;

/// The address of a machine.
fn ip(n: usize, v6: bool) -> IpAddr {
    match v6 {
        false => IpAddr::from([10, 0, 0, n as u8 + 1]),
        true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n as u16 + 1]),
    }
}

fn ips(n: usize) -> [IpAddr; 2] {
    [ip(n, false), ip(n, true)]
}

/// A simulated world with one network.
pub struct Sim {
    seed: u64,
    world: World,
    router: DeviceId,
    guest: DeviceId,
    machines: Vec<Machine>,
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.world.now())
            .finish_non_exhaustive()
    }
}

struct Machine {
    id: DeviceId,
    events: Vec<Event>,
    stopped: bool,
}

/// A machine that can be stopped for a while.
struct Sleeper {
    inner: EngineHost,
    until: Option<Instant>,
    waiting: Vec<Packet>,
}

impl Sleeper {
    fn sleeps(&mut self, now: Instant) -> bool {
        let sleeps = self.until.is_some_and(|until| until > now);
        if !sleeps {
            self.until = None;
        }
        sleeps
    }
}

impl Host for Sleeper {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.inner.start(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        match self.sleeps(cx.now) {
            true => self.waiting.push(packet),
            false => self.inner.packet(cx, packet),
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if !self.sleeps(cx.now) {
            for packet in self.waiting.drain(..) {
                self.inner.packet(cx, packet);
            }
            self.inner.wake(cx);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let inner = self.inner.next_wake();
        match self.until {
            Some(until) => Some(until),
            None => inner,
        }
    }
}

/// The guest's machine.
struct Visitor {
    stack: StackGuest,
    dns: Post,
}

impl Visitor {
    fn run(&mut self, cx: &mut HostCx<'_>) {
        self.stack.poll(cx.now);
        while let Some((from, question)) = self.stack.receive(self.dns) {
            if let Some(answer) = link::resolve(&question, ips(GUEST)) {
                self.stack.send(self.dns, from, &answer);
                self.stack.poll(cx.now);
            }
        }
        for bytes in self.stack.card.tx.drain(..) {
            // The stack sends packets to routers that the simulator does not carry.
            if let Ok(packet) = Packet::parse(bytes) {
                cx.send(packet);
            }
        }
    }
}

impl Host for Visitor {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        self.stack.card.rx.push_back(packet.into_bytes());
        self.run(cx);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.run(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.stack.deadline()
    }
}

impl Sim {
    fn on<R>(&mut self, node: Node, f: impl FnOnce(&mut EngineHost, &mut HostCx<'_>) -> R) -> R {
        let id = self.machines[node.0].id;
        let call = |host: &mut Sleeper, cx: &mut HostCx<'_>| f(&mut host.inner, cx);
        let result = self.world.call(id, call);
        self.collect(node);
        result.expect("a machine of this kind")
    }

    /// The engine's host keeps a limited number of events.
    fn collect(&mut self, node: Node) {
        let machine = &mut self.machines[node.0];
        let take = |host: &mut Sleeper, _: &mut HostCx<'_>| host.inner.take_events();
        let events = self.world.call(machine.id, take).unwrap_or_default();
        for (_, event) in events {
            machine.stopped |= event == Event::Stopped;
            machine.events.push(event);
        }
    }

    fn setup(node: Node, setup: Setup) -> EngineSetup {
        let mut all = EngineSetup::new(&ips(node.0));
        all.engine = setup.config;
        all.port = PORT;
        let own = SocketAddr::new(ip(node.0, setup.v6), PORT);
        all.listen = vec![setup.listen.unwrap_or(own)];
        all.dns = vec![ip(GUEST, false)];
        all
    }

    fn disk(&self, node: Node) -> SimDisk {
        let rng = SimRng::new(self.seed ^ node.0 as u64);
        SimDisk::new(DiskConfig::ssd(), Box::new(rng))
    }
}

impl TestDriver for Sim {
    const NAME: &'static str = "sim";
    const VIRTUAL: bool = true;

    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        world.start();
        let core = world.core();
        let router = world.add_router(core, LinkConfig::fibre(), BoxConfig::default(), &[]);
        let mut stack = StackGuest::new(world.now(), ips(GUEST));
        let dns = stack.bind_at((ip(GUEST, false), DNS_PORT).into());
        let visitor = Visitor { stack, dns };
        let guest = world.add_host(router, LinkConfig::lan(), &ips(GUEST), visitor);
        world.add_host(router, LinkConfig::lan(), &ips(MUTE), Scripted::new());
        Self {
            seed,
            world,
            router,
            guest,
            machines: Vec::new(),
        }
    }

    fn boot(&mut self, setup: Setup) -> Node {
        let node = Node(self.machines.len());
        let inner = EngineHost::new(Self::setup(node, setup), self.disk(node));
        let host = Sleeper {
            inner,
            until: None,
            waiting: Vec::new(),
        };
        let addrs = ips(node.0);
        let id = self
            .world
            .add_host(self.router, LinkConfig::lan(), &addrs, host);
        self.machines.push(Machine {
            id,
            events: Vec::new(),
            stopped: false,
        });
        node
    }

    fn reboot(&mut self, node: Node, setup: Setup) {
        let blank = self.disk(node);
        self.machines[node.0].stopped = false;
        self.on(node, |host, cx| {
            assert!(host.engine().is_none(), "it runs");
            let disk = host.disk_mut().expect("a disk");
            let disk = std::mem::replace(disk, blank);
            *host = EngineHost::new(Self::setup(node, setup), disk);
            host.start(cx);
        });
    }

    fn kill(&mut self, node: Node) {
        self.on(node, |host, _| host.kill());
    }

    fn stop(&mut self, node: Node) {
        self.with_engine(node, |engine, now| {
            engine.command(now, Command::Shutdown).is_ok()
        });
    }

    fn ended(&mut self, node: Node) -> Option<End> {
        self.collect(node);
        if !self.machines[node.0].stopped {
            return None;
        }
        let end = self.on(node, |host, cx| {
            let stats = host.driver_stats().expect("it was not killed");
            End {
                engine: host.engine().expect("it is on").status(cx.now),
                ops: Some((stats.ops, stats.outcomes)),
            }
        });
        self.kill(node);
        Some(end)
    }

    fn with_engine<R: Send + 'static>(
        &mut self,
        node: Node,
        f: impl FnOnce(&mut Engine, Instant) -> R + Send + 'static,
    ) -> R {
        self.on(node, |host, cx| {
            f(host.engine_mut().expect("the engine runs"), cx.now)
        })
    }

    fn listening(&mut self, node: Node) -> Option<SocketAddr> {
        let listening = self.with_engine(node, |engine, now| engine.status(now).listening);
        listening.first().copied()
    }

    fn put(&mut self, node: Node, content: &Content) {
        self.on(node, |host, _| {
            let disk = host.disk_mut().expect("a disk");
            disk.expect(&content.info(), Arc::from(&content.data[..]));
            disk.fill(&content.info());
        });
    }

    fn add(&mut self, node: Node, content: &Content, spec: Spec) -> TorrentId {
        let info = content.info();
        let hash = info.info_hash();
        self.on(node, |host, cx| {
            let disk = host.disk_mut().expect("a disk");
            let resume = disk.record(hash).map(<[u8]>::to_vec);
            if !disk.holds(&info) {
                disk.expect(&info, Arc::from(&content.data[..]));
            }
            let add = AddTorrent {
                trackers: spec.trackers.into_iter().map(|url| vec![url]).collect(),
                peers: spec.peers,
                resume,
                paused: spec.paused,
                check: spec.check,
                existing: spec.existing,
                limit_down: spec.down,
                limit_up: spec.up,
                ..AddTorrent::new(match spec.magnet {
                    false => Source::Info(info),
                    true => Source::Hash {
                        info_hash: hash,
                        name: None,
                    },
                })
            };
            let engine = host.engine_mut().expect("the engine runs");
            let id = engine.add(cx.now, add).unwrap();
            host.disk_mut().expect("a disk").name(id, hash);
            id
        })
    }

    fn remove(&mut self, node: Node, torrent: TorrentId, delete: bool) {
        let removed = self.with_engine(node, move |e, now| {
            e.command(now, Command::Remove { torrent, delete }).is_ok()
        });
        assert!(removed);
    }

    fn events(&mut self, node: Node) -> Vec<Event> {
        self.collect(node);
        std::mem::take(&mut self.machines[node.0].events)
    }

    fn bytes(&mut self, node: Node, content: &Content) -> Option<Vec<u8>> {
        self.on(node, |host, _| host.disk_mut()?.content(&content.info()))
    }

    fn exists(&mut self, node: Node, content: &Content) -> bool {
        self.on(node, |host, _| host.has(&content.info()))
    }

    fn break_disk(&mut self, node: Node, content: &Content, fault: Fault) {
        self.on(node, |host, _| {
            let disk = host.disk_mut().expect("a disk");
            match fault {
                Fault::Unwritable => disk.set_config(DiskConfig {
                    capacity: 0,
                    ..DiskConfig::ssd()
                }),
                Fault::Missing => disk.lose(&content.info()),
            }
        });
    }

    fn mend_disk(&mut self, node: Node, _content: &Content) {
        self.on(node, |host, _| {
            host.disk_mut()
                .expect("a disk")
                .set_config(DiskConfig::ssd());
        });
    }

    fn effort(&mut self, node: Node) -> Effort {
        let stats = self.on(node, |host, _| host.driver_stats());
        let stats = stats.expect("the engine runs");
        Effort {
            wakes: stats.polls,
            read: stats.read_bytes,
            written: stats.written_bytes,
            datagrams_in: stats.datagrams_in,
            datagrams_out: stats.datagrams_out,
        }
    }

    fn stall(&mut self, node: Node, time: Duration) {
        let id = self.machines[node.0].id;
        let stalled = self.world.call(id, |host: &mut Sleeper, cx| {
            host.until = Some(cx.now + time);
        });
        stalled.expect("a machine of this kind");
    }

    fn guest<R>(&mut self, f: impl FnOnce(&mut dyn Guest) -> R) -> R {
        let result = self.world.call(self.guest, |visitor: &mut Visitor, cx| {
            let result = f(&mut visitor.stack);
            if visitor.stack.touched {
                visitor.run(cx);
            }
            result
        });
        result.expect("the guest is there")
    }

    fn known_name(&self) -> String {
        link::NAME.into()
    }

    fn unknown_name(&self) -> String {
        "nobody.invalid".into()
    }

    fn silent_addr(&mut self) -> SocketAddr {
        SocketAddr::new(ip(MUTE, false), PORT)
    }

    fn taken_addr(&mut self) -> SocketAddr {
        // Another machine's address.
        SocketAddr::new(ip(MUTE, false), PORT)
    }

    fn jump(&mut self, time: Duration) -> bool {
        // All machines sleep, and wake at the same time.
        for node in 0..self.machines.len() {
            self.stall(Node(node), time);
        }
        self.world.run_for(time);
        true
    }

    fn trace(&self) -> Option<u64> {
        Some(self.world.trace().hash())
    }

    fn step(&mut self) {
        // What is due now comes first: after code has used an engine, its driver runs.
        let now = self.world.now();
        while self.world.next_at().is_some_and(|at| at <= now) {
            assert!(self.world.step(), "the world is stuck");
        }
        let limit = now + STEP;
        match self.world.next_at() {
            Some(at) if at <= limit => assert!(self.world.step(), "the world is stuck"),
            _ => self.world.run_until(limit),
        }
    }

    fn elapsed(&self) -> Duration {
        self.world.now().saturating_since(Instant::ORIGIN)
    }
}
