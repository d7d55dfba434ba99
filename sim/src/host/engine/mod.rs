//! A simulated machine that runs Dunlin: the real engine on the firmware's driver, with a real TCP,
//! and a disk under virtual time.

mod presence;
mod progress;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Config, InfoHash, Instant, TorrentId,
    engine::{AddTorrent, Changes, Command, Engine, Event, Source, State, TorrentStatus},
    metainfo::Info,
};
use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled};

pub use self::{
    presence::{Leaves, Lifetime},
    progress::Progress,
};
use presence::Presence;

use crate::{
    host::{
        Host, HostCx,
        disk::SimDisk,
        stack::{Cable, MTU, tcp::TcpConfig},
    },
    packet::Packet,
    rng::SimRng,
};

/// The most events that are kept until somebody takes them. The oldest are dropped.
const MAX_EVENTS: usize = 1_024;
/// The most polls of the driver in a row. Afterwards the host is woken again at the same time, so
/// that a driver that never rests is reported as a spin of this host instead of a hang.
const MAX_POLLS: usize = 1_024;

/// The configuration of a simulated machine.
#[derive(Clone, Debug)]
pub struct EngineSetup {
    /// The engine's configuration. Its addresses to listen on are replaced by those of the host.
    pub engine: Config,
    /// The port to listen on.
    pub port: u16,
    /// Addresses to listen on instead, at most one of each family.
    pub listen: Vec<SocketAddr>,
    /// The host's addresses.
    pub addrs: Vec<IpAddr>,
    /// The name servers.
    pub dns: Vec<IpAddr>,
    /// The longest packet in bytes.
    pub mtu: usize,
    /// How the machine's TCP behaves; `None` for that of the firmware alone, smoltcp.
    pub tcp: Option<TcpConfig>,
    /// The size of a TCP socket's buffer in each direction, in bytes. Without [`tcp`](Self::tcp)
    /// it is also the window.
    pub tcp_buffer: usize,
}

impl EngineSetup {
    /// A machine with these addresses and the limits of a small machine, because a simulated world
    /// has many of them.
    #[must_use]
    pub fn new(addrs: &[IpAddr]) -> Self {
        let engine = Config {
            max_connections: 100,
            max_blocks: 128,
            ..Config::default()
        };
        Self {
            engine,
            port: 6_881,
            listen: Vec::new(),
            addrs: addrs.to_vec(),
            dns: Vec::new(),
            mtu: MTU,
            tcp: Some(TcpConfig::default()),
            tcp_buffer: 64 << 10,
        }
    }

    fn engine_config(&self) -> Config {
        let mut config = self.engine.clone();
        config.listen.clear();
        let own = self.addrs.iter().map(|ip| (*ip, self.port).into());
        let wanted: Vec<SocketAddr> = match self.listen.is_empty() {
            true => own.collect(),
            false => self.listen.clone(),
        };
        for addr in wanted {
            let taken = config.listen.iter().any(|l| l.is_ipv4() == addr.is_ipv4());
            if !taken {
                // There is room for one address of each family.
                let _ = config.listen.push(addr);
            }
        }
        config
    }

    fn net_config(&self, engine: &Config) -> NetConfig {
        let mut net = NetConfig::for_engine(Hardware::Ip, engine);
        for ip in &self.addrs {
            // The link has no other neighbours, so everything goes to the router.
            net = net
                .address(*ip, if ip.is_ipv4() { 32 } else { 128 })
                .gateway(*ip);
        }
        net.dns.clone_from(&self.dns);
        net.tcp_rx = self.tcp_buffer;
        net.tcp_tx = self.tcp_buffer;
        if self.tcp.is_some() {
            // The card delays acknowledgements, and the stack need not.
            net.ack_delay = Duration::ZERO;
        }
        net
    }

    fn cable(&self) -> Cable {
        match self.tcp {
            Some(tcp) => Cable::new(self.mtu, tcp),
            None => Cable::bare(self.mtu),
        }
    }
}

/// A machine that runs Dunlin.
pub struct EngineHost {
    setup: EngineSetup,
    /// The disk, while the machine is off.
    disk: Option<SimDisk>,
    /// The driver, which has the disk, while the machine is on.
    driver: Option<Driver<SimDisk>>,
    cable: Cable,
    wanted: Vec<AddTorrent>,
    events: VecDeque<(Instant, Event)>,
    /// The progress of every torrent that was added, also when the machine is off.
    progress: BTreeMap<InfoHash, Progress>,
    busy: bool,
    boots: u8,
    presence: Presence,
}

impl std::fmt::Debug for EngineHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHost")
            .field("addrs", &self.setup.addrs)
            .field("on", &self.driver.is_some())
            .finish_non_exhaustive()
    }
}

impl EngineHost {
    /// Creates a machine that is off.
    #[must_use]
    pub fn new(setup: EngineSetup, disk: SimDisk) -> Self {
        Self {
            cable: setup.cable(),
            setup,
            disk: Some(disk),
            driver: None,
            wanted: Vec::new(),
            events: VecDeque::new(),
            progress: BTreeMap::new(),
            busy: false,
            boots: 0,
            presence: Presence::new(Lifetime::default()),
        }
    }

    /// Sets how long the machine takes part.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.presence = Presence::new(lifetime);
        self
    }

    /// When all torrents were complete; `None` while one is not.
    fn complete(&self) -> Option<Instant> {
        let all = self.progress.values().map(Progress::completed);
        all.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// Leaves or comes back, if that is due.
    fn come_and_go(&mut self, cx: &mut HostCx<'_>) {
        let due = self.presence.due(self.complete());
        if due.is_none_or(|due| due > cx.now) {
            return;
        }
        if self.presence.comes_back(cx.now) {
            return self.start(cx);
        }
        match self.presence.leave(cx.now) {
            true => {
                if let Some(engine) = self.engine_mut() {
                    // Nothing is wrong with a shutdown, and it is asked for once.
                    let _ = engine.command(cx.now, Command::Shutdown);
                }
            }
            false => self.kill(),
        }
    }

    /// Adds a torrent, now and again after each start.
    pub fn want(&mut self, now: Instant, add: AddTorrent) {
        if self.driver.is_some() {
            self.add(now, add.clone());
        }
        self.wanted.push(add);
    }

    fn add(&mut self, now: Instant, mut add: AddTorrent) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        let hash = hash_of(&add.source);
        self.progress.entry(hash).or_default();
        if let Some(record) = driver.storage().record(hash) {
            add.resume = Some(record.to_vec());
        }
        if let Ok(id) = driver.engine_mut().add(now, add) {
            driver.storage_mut().name(id, hash);
        }
    }

    /// The engine, while the machine is on.
    #[must_use]
    pub fn engine(&self) -> Option<&Engine> {
        self.driver.as_ref().map(Driver::engine)
    }

    /// The engine, for commands. Call it through [`World::call`](crate::world::World::call), which
    /// runs the machine afterwards.
    pub fn engine_mut(&mut self) -> Option<&mut Engine> {
        self.driver.as_mut().map(Driver::engine_mut)
    }

    /// The counters of the driver.
    #[must_use]
    pub fn driver_stats(&self) -> Option<dunlin_smoltcp::Stats> {
        self.driver.as_ref().map(Driver::stats)
    }

    /// The disk, whether the machine is on or off.
    #[must_use]
    pub fn disk(&self) -> Option<&SimDisk> {
        self.driver
            .as_ref()
            .map(Driver::storage)
            .or(self.disk.as_ref())
    }

    /// The disk, to change it.
    pub fn disk_mut(&mut self) -> Option<&mut SimDisk> {
        match &mut self.driver {
            Some(driver) => Some(driver.storage_mut()),
            None => self.disk.as_mut(),
        }
    }

    /// The events that were not taken yet, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &(Instant, Event)> {
        self.events.iter()
    }

    /// Takes the events since they were taken last. The oldest may be missing.
    pub fn take_events(&mut self) -> Vec<(Instant, Event)> {
        self.events.drain(..).collect()
    }

    /// The status of a torrent.
    #[must_use]
    pub fn torrent(&self, now: Instant, info_hash: InfoHash) -> Option<TorrentStatus> {
        let engine = self.engine()?;
        engine
            .torrent(engine.find(info_hash)?)
            .map(|t| t.status(now))
    }

    /// The progress of a torrent so far; `None` when it was never added.
    #[must_use]
    pub fn progress(&self, info_hash: InfoHash) -> Option<&Progress> {
        self.progress.get(&info_hash)
    }

    /// Returns `true` when the disk holds a torrent completely and correctly.
    #[must_use]
    pub fn has(&self, info: &Info) -> bool {
        self.disk().is_some_and(|disk| disk.holds(info))
    }

    /// Returns `true` when the engine reports a torrent as complete.
    #[must_use]
    pub fn seeds(&self, now: Instant, info_hash: InfoHash) -> bool {
        self.torrent(now, info_hash)
            .is_some_and(|t| t.state == State::Seeding)
    }

    /// Kills the process: its memory is lost, and the disk stays as it is.
    pub fn kill(&mut self) {
        self.stop(SimDisk::process_ended);
    }

    /// Cuts the power.
    pub fn power_cut(&mut self) {
        self.boots = self.boots.wrapping_add(1);
        self.stop(SimDisk::power_cut);
    }

    fn stop(&mut self, disk: impl FnOnce(&mut SimDisk)) {
        if let Some(driver) = self.driver.take() {
            self.disk = Some(driver.into_storage());
        }
        if let Some(own) = &mut self.disk {
            disk(own);
        }
        self.cable = self.setup.cable();
        self.busy = false;
    }

    /// Runs the driver, and sends the packets that it has for the network.
    pub fn run(&mut self, cx: &mut HostCx<'_>) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        self.busy = true;
        let mut stopped = false;
        self.cable.pass(cx);
        for _ in 0..MAX_POLLS {
            let polled = driver.poll(cx.now, &mut self.cable);
            let arrived = self.cable.pass(cx);
            if driver.storage().has_lost_power() {
                // The machine is switched on again at once.
                return self.start(cx);
            }
            while let Some(event) = driver.poll_event() {
                if let Event::Changed { torrent, what } = &event {
                    note(driver, &mut self.progress, cx.now, *torrent, *what);
                }
                stopped |= event == Event::Stopped;
                if self.events.len() == MAX_EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back((cx.now, event));
            }
            if polled == Polled::Idle && !arrived {
                self.busy = false;
                if stopped && self.presence.is_leaving() {
                    self.presence.left(cx.now);
                    self.kill();
                }
                return;
            }
        }
    }
}

/// Notes the progress of a torrent that has changed.
fn note(
    driver: &Driver<SimDisk>,
    progress: &mut BTreeMap<InfoHash, Progress>,
    now: Instant,
    torrent: TorrentId,
    what: Changes,
) {
    let concerns = |change| what.contains(change);
    if ![Changes::STATE, Changes::PROGRESS, Changes::FINISHED]
        .into_iter()
        .any(concerns)
    {
        return;
    }
    let Some(torrent) = driver.engine().torrent(torrent) else {
        return;
    };
    let status = torrent.status(now);
    let own = progress.entry(torrent.info_hash()).or_default();
    own.note(now, status.done);
    // The last piece is verified before the files are confirmed.
    if status.state == State::Seeding && status.done == status.total {
        let holds = |info| driver.storage().holds(info);
        own.complete(now, || torrent.info().is_some_and(|info| holds(info)));
    }
}

/// The info-hash of the torrent that a source names.
fn hash_of(source: &Source) -> InfoHash {
    match source {
        Source::Info(info) => info.info_hash(),
        Source::Hash { info_hash, .. } => *info_hash,
    }
}

impl Host for EngineHost {
    /// Switches the machine on. If it was on, its power had failed.
    fn start(&mut self, cx: &mut HostCx<'_>) {
        if self.driver.is_some() {
            self.power_cut();
        }
        let Some(disk) = self.disk.take() else {
            return;
        };
        let mut engine = self.setup.engine_config();
        // Every power cut begins another boot.
        engine.boot = Some([self.boots; 16]);
        engine.dht_saved = disk.dht().cloned().or(engine.dht_saved);
        let net = self.setup.net_config(&engine);
        let rng = Box::new(SimRng::new(cx.rng.next_u64()));
        match Driver::new(cx.now, &mut self.cable, &net, engine, disk, rng) {
            Ok(driver) => self.driver = Some(driver),
            Err(e) => unreachable!("a simulated card suits its driver: {e}"),
        }
        self.presence.began(cx.now);
        for add in self.wanted.clone() {
            self.add(cx.now, add);
        }
        self.run(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        self.cable.arrive(packet);
        self.run(cx);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.come_and_go(cx);
        self.run(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        if self.busy {
            return Some(Instant::ORIGIN);
        }
        let due = self.presence.due(self.complete());
        let Some(driver) = &self.driver else {
            return due;
        };
        let own = driver.poll_timeout().into_iter();
        own.chain(self.cable.deadline()).chain(due).min()
    }
}
