//! The driver: an engine, a network stack and a storage, and the loop that runs them.

use alloc::{boxed::Box, format, string::ToString, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use dunlin_core::engine::{Engine, Event};
use dunlin_core::op::SocketKind;
use dunlin_core::{Caps, Config, Instant, Op, OpError, OpErrorKind, OpId, Outcome, SocketId};
use rand_core::Rng;
use smoltcp::iface::Interface;
use smoltcp::phy::Device;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

use crate::address::Dhcp;
use crate::config::{Hardware, NetConfig, SetupError};
use crate::fetch::{Fetches, Tools};
use crate::names::{Asker, Names};
use crate::net::pool::{Owner, Pool, Stage};
use crate::net::udp::Udp;
use crate::net::{Net, streams};
use crate::ready::Ready;
use crate::stats::Stats;
use crate::storage::{DiskOp, Storage};
use crate::time::to_stack;

/// The most turns in one call of [`Driver::poll`].
const TURNS_PER_POLL: usize = 64;
/// The most packets received in one turn.
const PACKETS_PER_TURN: usize = 64;
/// The most ops taken from the engine in one turn.
const OPS_PER_TURN: usize = 256;

/// Whether [`Driver::poll`] has done everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Polled {
    /// Nothing is left to do until [`Driver::poll_timeout`] or the next packet.
    Idle,
    /// More is left to do at once. The machine may do something else first.
    Busy,
}

/// An engine on a network interface. See the [crate's documentation](crate).
pub struct Driver<S: Storage> {
    engine: Engine,
    storage: S,
    net: Net,
    pool: Pool,
    udp: Udp,
    names: Names,
    fetches: Fetches,
    dhcp: Option<Dhcp>,
    stats: Stats,
    now: Instant,
    /// The application may have changed the engine, or the last poll reached its limit of turns.
    touched: bool,
    /// The first bits of each kind in the ready set: UDP sockets, names, DHCP, TCP sockets.
    names_bit: usize,
    /// The ports that were chosen automatically, for IPv4 and IPv6.
    chosen: [Option<u16>; 2],
}

impl<S: Storage + core::fmt::Debug> core::fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Driver")
            .field("engine", &self.engine)
            .field("storage", &self.storage)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl<S: Storage> Driver<S> {
    /// Creates an interface with an engine. `rng` must be well seeded: sequence numbers, ports and
    /// values that peers see are drawn from it.
    ///
    /// # Errors
    /// When `config` does not match the device, or is inconsistent.
    pub fn new<D: Device + ?Sized>(
        now: Instant,
        device: &mut D,
        config: &NetConfig,
        mut engine: Config,
        storage: S,
        mut rng: Box<dyn Rng + Send>,
    ) -> Result<Self, SetupError> {
        let device_caps = device.capabilities();
        config.check(device_caps.medium)?;
        let hardware = match config.hardware {
            Hardware::Ethernet(mac) => HardwareAddress::Ethernet(EthernetAddress(mac)),
            Hardware::Ip => HardwareAddress::Ip,
        };
        let mut stack = smoltcp::iface::Config::new(hardware);
        stack.random_seed = rng.next_u64();
        let mut iface = Interface::new(stack, device, to_stack(now));
        iface.update_ip_addrs(|addrs| {
            for (address, prefix) in &config.addresses {
                // The number of addresses was checked.
                let _ = addrs.push(IpCidr::new((*address).into(), *prefix));
            }
        });
        let mut full = Ok(());
        if let Some(gateway) = config.gateway_v4 {
            full = iface.routes_mut().add_default_ipv4_route(gateway).map(drop);
        }
        if let (Some(gateway), Ok(())) = (config.gateway_v6, full) {
            full = iface.routes_mut().add_default_ipv6_route(gateway).map(drop);
        }
        if full.is_err() {
            return Err(SetupError::TooMany);
        }
        for group in &config.multicast {
            if iface.join_multicast_group(IpAddress::from(*group)).is_err() {
                return Err(SetupError::TooMany);
            }
        }
        let names_bit = config.udp_sockets;
        let first_bit = names_bit + 2;
        let ready = Ready::new(first_bit + Pool::bits(config));
        let mut net = Net::new(iface, ready);
        let udp = Udp::new(&mut net, config, device_caps.ip_mtu());
        let servers: Vec<IpAddress> = config.dns.iter().map(|s| (*s).into()).collect();
        let families = [config.has(false), config.has(true)];
        let names = Names::new(&mut net, &servers, names_bit, config.lookups, families);
        let dhcp = config
            .dhcp
            .then(|| Dhcp::new(&mut net, names_bit + 1, config.dns.is_empty()));
        let mut pool = Pool::new(config, first_bit, rng.next_u32());
        if config.preallocate {
            pool.preallocate(&mut net, &engine.listen);
        }
        // The engine's timeout of an op begins when the engine emits it, so every op must be
        // started at once.
        let most = |limit: u32, places: usize| limit.min(u32::try_from(places).unwrap_or(limit));
        engine.max_requests = most(engine.max_requests, config.http_requests);
        engine.max_lookups = most(engine.max_lookups, config.lookups);
        let mut caps = Caps::all();
        caps.http = config.http_requests > 0;
        caps.https = false;
        caps.ipv4 = families[0];
        caps.ipv6 = families[1];
        Ok(Self {
            engine: Engine::new(now, engine, caps, rng),
            storage,
            net,
            pool,
            udp,
            names,
            fetches: Fetches::new(config.http_requests),
            dhcp,
            stats: Stats::default(),
            now,
            touched: true,
            names_bit,
            chosen: [None; 2],
        })
    }

    /// The engine.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The engine, for the application's commands. Call [`Driver::poll`] afterwards.
    pub const fn engine_mut(&mut self) -> &mut Engine {
        self.touched = true;
        &mut self.engine
    }

    /// The storage.
    #[must_use]
    pub const fn storage(&self) -> &S {
        &self.storage
    }

    /// The storage, for the application. Call [`Driver::poll`] afterwards.
    pub const fn storage_mut(&mut self) -> &mut S {
        self.touched = true;
        &mut self.storage
    }

    /// Drops the driver without a shutdown, and returns the storage.
    #[must_use]
    pub fn into_storage(self) -> S {
        self.storage
    }

    /// The next event for the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.engine.poll_event()
    }

    /// The present addresses of the interface.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let addrs = self.net.iface.ip_addrs().iter();
        addrs.map(|cidr| cidr.address().into())
    }

    /// The counters of the driver, and the use of its sockets.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let [free, listening, half_open, used, ending] = self.pool.usage();
        Stats {
            sockets_made: self.pool.made(),
            sockets_free: free,
            sockets_listening: listening,
            sockets_half_open: half_open,
            sockets_used: used,
            sockets_ending: ending,
            ..self.stats
        }
    }

    /// When [`Driver::poll`] must be called next if no packet arrives first: the earliest deadline
    /// of the engine, the stack and the storage. A time in the past means at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.touched {
            return Some(self.now);
        }
        let own = [
            self.engine.poll_timeout(),
            self.storage.poll_timeout(),
            self.net.deadline(),
            self.pool.deadline(),
            self.fetches.deadline(),
            self.names.deadline(),
            self.udp.deadline(),
        ];
        own.into_iter().flatten().min()
    }

    /// Runs the stack, the engine and the storage until nothing is left to do at `now`, within a
    /// limit of turns. Call it when a packet has arrived, when the device accepts packets again,
    /// when [`Driver::poll_timeout`] is due, and after commands.
    pub fn poll<D: Device + ?Sized>(&mut self, now: Instant, device: &mut D) -> Polled {
        self.now = self.now.max(now);
        self.touched = false;
        self.stats.polls += 1;
        for _ in 0..TURNS_PER_POLL {
            self.stats.turns += 1;
            // Dropping a datagram that is stuck makes room for others from the engine.
            if !self.turn(device)
                && !self
                    .udp
                    .drop_stuck(&mut self.net, self.now, &mut self.stats)
            {
                self.net.settle(self.now);
                return Polled::Idle;
            }
        }
        self.net.settle(self.now);
        self.touched = true;
        Polled::Busy
    }

    /// Runs one turn. Returns whether anything happened.
    fn turn<D: Device + ?Sized>(&mut self, device: &mut D) -> bool {
        let now = self.now;
        let mut progress = false;
        for _ in 0..PACKETS_PER_TURN {
            if !self.net.ingress(now, device) {
                break;
            }
            progress = true;
            self.stats.packets_in += 1;
            // A listener that has received a SYN must be replaced before the next packet.
            self.sort(Stage::Ingress);
        }
        progress |= self.run_timers();
        progress |= self.take_outcomes();
        progress |= self.start_ops();
        while let Some((id, readiness)) = self.engine.poll_interest() {
            progress = true;
            if let Some(index) = self.pool.of(id) {
                self.pool.slot_mut(index).readiness = readiness;
                if readiness.read || readiness.write {
                    self.pool.enqueue(index);
                }
            }
        }
        progress |= self.visit_streams();
        let Self {
            udp,
            net,
            engine,
            stats,
            ..
        } = self;
        progress |= udp.receive(net, engine, now, stats);
        progress |= udp.send(net, engine, now, stats);
        if self.net.egress(now, device) {
            progress = true;
        }
        // Timers of the stack may have ended connections without sending anything. Their owners are
        // visited in another turn.
        progress |= self.sort(Stage::Egress);
        progress
    }

    /// Dispatches the sockets whose wakers were called to their owners. Returns whether there were
    /// any.
    fn sort(&mut self, stage: Stage) -> bool {
        let now = self.now;
        let mut became_ready = false;
        while let Some(bit) = self.net.ready.pop() {
            became_ready = true;
            if bit < self.names_bit {
                self.udp.became_ready(&mut self.net, bit);
            } else if bit == self.names_bit {
                self.names.ready = true;
            } else if bit == self.names_bit + 1 {
                if let Some(dhcp) = &mut self.dhcp {
                    dhcp.ready = true;
                }
            } else {
                let index = bit - self.names_bit - 2;
                self.pool
                    .became_ready(&mut self.net, now, index, stage, &mut self.stats);
            }
        }
        self.pool.fill(&mut self.net, &mut self.stats);
        became_ready
    }

    fn run_timers(&mut self) -> bool {
        let now = self.now;
        let mut progress = false;
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
            // By law 3 the next timeout is later, or there is output, which counts as progress by
            // itself.
            progress = self.engine.poll_timeout().is_none_or(|at| at > now);
        }
        self.pool.tick(&mut self.net, now, &mut self.stats);
        if self.fetches.deadline().is_some_and(|at| at <= now) {
            let (fetches, mut tools) = self.fetching();
            fetches.tick(&mut tools);
            progress = true;
        }
        if let Some(dhcp) = &mut self.dhcp
            && dhcp.poll(&mut self.net, &self.names)
        {
            progress = true;
            self.pool.drop_orphans(&mut self.net);
        }
        progress
    }

    fn fetching(&mut self) -> (&mut Fetches, Tools<'_>) {
        let tools = Tools {
            net: &mut self.net,
            pool: &mut self.pool,
            names: &mut self.names,
            stats: &mut self.stats,
            now: self.now,
        };
        (&mut self.fetches, tools)
    }

    /// Hands outcomes to the engine.
    fn take_outcomes(&mut self) -> bool {
        let mut progress = false;
        while let Some((op, outcome)) = self.storage.poll(self.now) {
            progress = true;
            self.answer(op, outcome);
        }
        while let Some((asker, result)) = self.names.poll(&mut self.net, self.now) {
            progress = true;
            match asker {
                Asker::Op(op) => {
                    let outcome = result.map_or_else(|failed| failed, Outcome::Resolved);
                    self.answer(op, outcome);
                }
                Asker::Http(job) => {
                    let (fetches, mut tools) = self.fetching();
                    fetches.resolved(&mut tools, job, result);
                }
            }
        }
        while let Some((op, outcome)) = self.fetches.poll() {
            progress = true;
            self.answer(op, outcome);
        }
        progress
    }

    fn answer(&mut self, op: OpId, outcome: Outcome) {
        self.stats.outcomes += 1;
        self.engine.handle_op(self.now, op, outcome);
    }

    fn start_ops(&mut self) -> bool {
        let mut progress = false;
        for _ in 0..OPS_PER_TURN {
            let Some(op) = self.engine.poll_op() else {
                break;
            };
            progress = true;
            self.stats.ops += u64::from(op.id().is_some());
            match DiskOp::take(op) {
                Ok(op) => self.storage.submit(self.now, op),
                Err(op) => self.start_op(op),
            }
        }
        progress
    }

    fn start_op(&mut self, op: Op) {
        let now = self.now;
        match op {
            Op::Bind {
                op,
                socket,
                kind,
                local,
            } => {
                let outcome = self.bind(socket, kind, local);
                self.answer(op, outcome);
            }
            Op::Unbind { op, socket } => {
                self.udp.unbind(&mut self.net, socket);
                self.answer(op, Outcome::Done);
            }
            Op::SaveDht { op, saved } => {
                let outcome = self.storage.save_dht(saved);
                self.answer(op, outcome);
            }
            Op::TcpConnect { conn, remote } => {
                let Self {
                    pool, net, stats, ..
                } = self;
                if let Err(why) = pool.connect(net, now, remote, Owner::Peer(conn), stats) {
                    self.engine.handle_closed(now, conn, why);
                }
            }
            Op::TcpClose { conn, how } => {
                if let Some(index) = self.pool.of(conn) {
                    self.pool.close(&mut self.net, now, index, how);
                }
            }
            Op::Resolve { op, host } => self.names.ask(&mut self.net, Asker::Op(op), host),
            Op::Http { op, request } => {
                let (fetches, mut tools) = self.fetching();
                fetches.submit(&mut tools, op, &request);
            }
            // Until there are web seeds.
            Op::Fetch(job) => {
                let error = OpError {
                    kind: OpErrorKind::Unsupported,
                    detail: format!("{}: ranges are not fetched yet", job.request.url),
                };
                self.answer(job.op, job.fail(error));
            }
            Op::Cancel { op } => {
                if self.names.cancel(&mut self.net, Asker::Op(op)) {
                    let outcome = Outcome::failed(OpErrorKind::Cancelled, "cancelled");
                    self.answer(op, outcome);
                }
                let (fetches, mut tools) = self.fetching();
                fetches.cancel(&mut tools, op);
            }
            other => {
                // Law 1 also holds for ops that this driver does not know.
                if let Some(op) = other.id() {
                    let error = OpError {
                        kind: OpErrorKind::Unsupported,
                        detail: "this driver does not know the op".into(),
                    };
                    self.answer(op, other.fail(error));
                }
            }
        }
    }

    fn bind(&mut self, socket: SocketId, kind: SocketKind, mut local: SocketAddr) -> Outcome {
        let v6 = local.is_ipv6();
        if !local.ip().is_unspecified()
            && !local.ip().is_multicast()
            && !self.net.iface.has_ip_addr(local.ip())
        {
            let detail = format!("{local}: not an address of this machine");
            return Outcome::failed(OpErrorKind::NotFound, detail);
        }
        if local.port() == 0 {
            // Datagrams and streams share one port, because peers are told one port.
            let chosen = self.chosen[usize::from(v6)].or_else(|| self.free_port());
            let Some(chosen) = chosen else {
                let detail = local.to_string() + ": no port is free";
                return Outcome::failed(OpErrorKind::Denied, detail);
            };
            self.chosen[usize::from(v6)] = Some(chosen);
            local.set_port(chosen);
        }
        let bound = match kind {
            SocketKind::Udp => self.udp.bind(&mut self.net, socket, local),
            SocketKind::TcpListener => self.pool.listen(&mut self.net, local.port(), v6),
        };
        if bound {
            Outcome::Bound(local)
        } else {
            let detail = local.to_string() + ": in use, or no socket is left";
            Outcome::failed(OpErrorKind::Denied, detail)
        }
    }

    fn free_port(&mut self) -> Option<u16> {
        let udp = &self.udp;
        self.pool.ephemeral(|port| udp.uses(port))
    }

    /// Visits each stream whose socket or readiness has changed, once.
    fn visit_streams(&mut self) -> bool {
        let mut progress = false;
        let now = self.now;
        for _ in 0..self.pool.queued() {
            let Some(index) = self.pool.next_queued() else {
                break;
            };
            progress = true;
            let Self {
                pool,
                net,
                engine,
                stats,
                ..
            } = self;
            match pool.slot(index).owner {
                Owner::Peer(_) => streams::visit(pool, net, engine, now, index, stats),
                Owner::HalfOpen => streams::accept(pool, net, engine, now, index, stats),
                Owner::Http(job) => {
                    let (fetches, mut tools) = self.fetching();
                    fetches.visit(&mut tools, index, job);
                }
                Owner::Free | Owner::Listener | Owner::Ending => {}
            }
        }
        progress
    }
}
