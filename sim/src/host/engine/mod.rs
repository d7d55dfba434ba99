//! A simulated machine that runs Dunlin: the real engine, the firmware's driver, a real TCP, and
//! a disk under virtual time.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use dunlin_core::{
    Config, InfoHash, Instant,
    engine::{AddTorrent, Engine, Event, Source, State, TorrentStatus},
    metainfo::Info,
};
use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled};

use crate::{
    host::{
        Host, HostCx,
        disk::SimDisk,
        stack::{Cable, MTU},
    },
    packet::Packet,
    rng::SimRng,
};

/// Events kept for whoever looks; the oldest make way.
const MAX_EVENTS: usize = 1_024;
/// Polls of the driver in one go, should it stay busy: after that the host is woken again at
/// the same time, so that a defect shows as a spin of this host and not as a hang.
const MAX_POLLS: usize = 1_024;

/// How a simulated machine is set up.
#[derive(Clone, Debug)]
pub struct EngineSetup {
    /// The engine's limits and habits. Its addresses to listen on are those of the host, with
    /// the port that is given here.
    pub engine: Config,
    /// Port to listen on.
    pub port: u16,
    /// Where to listen in place of that, at most one address of each family.
    pub listen: Vec<SocketAddr>,
    /// The host's addresses.
    pub addrs: Vec<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Longest packet.
    pub mtu: usize,
    /// Bytes of a TCP socket's buffer, each way: what may be on the way.
    pub tcp_buffer: usize,
}

impl EngineSetup {
    /// A machine with these addresses and defaults for the rest, its limits those of a small
    /// machine: a simulated world has many.
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
                // One of each family: there is room for two.
                let _ = config.listen.push(addr);
            }
        }
        config
    }

    fn net_config(&self, engine: &Config) -> NetConfig {
        let mut net = NetConfig::for_engine(Hardware::Ip, engine);
        for ip in &self.addrs {
            // No neighbours: everything goes up the one link.
            net = net
                .address(*ip, if ip.is_ipv4() { 32 } else { 128 })
                .gateway(*ip);
        }
        net.dns.clone_from(&self.dns);
        net.tcp_rx = self.tcp_buffer;
        net.tcp_tx = self.tcp_buffer;
        net
    }
}

/// A machine that runs Dunlin.
pub struct EngineHost {
    setup: EngineSetup,
    /// While the machine is off.
    disk: Option<SimDisk>,
    /// While it is on.
    driver: Option<Driver<SimDisk>>,
    cable: Cable,
    wanted: Vec<AddTorrent>,
    events: VecDeque<(Instant, Event)>,
    busy: bool,
    boots: u8,
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
    /// A machine that is off.
    #[must_use]
    pub fn new(setup: EngineSetup, disk: SimDisk) -> Self {
        Self {
            cable: Cable::new(setup.mtu),
            setup,
            disk: Some(disk),
            driver: None,
            wanted: Vec::new(),
            events: VecDeque::new(),
            busy: false,
            boots: 0,
        }
    }

    /// Has it fetch or seed a torrent: at once, and again after each start.
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

    /// The engine, for commands. To be used through [`crate::world::World::call`], after which the
    /// machine runs.
    pub fn engine_mut(&mut self) -> Option<&mut Engine> {
        self.driver.as_mut().map(Driver::engine_mut)
    }

    /// The driver's figures.
    #[must_use]
    pub fn driver_stats(&self) -> Option<dunlin_smoltcp::Stats> {
        self.driver.as_ref().map(Driver::stats)
    }

    /// The disk, on or off.
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

    /// What happened, the latest last.
    pub fn events(&self) -> impl Iterator<Item = &(Instant, Event)> {
        self.events.iter()
    }

    /// Takes what happened since it was taken last; the oldest may have made way.
    pub fn take_events(&mut self) -> Vec<(Instant, Event)> {
        self.events.drain(..).collect()
    }

    /// How it stands with a torrent.
    #[must_use]
    pub fn torrent(&self, now: Instant, info_hash: InfoHash) -> Option<TorrentStatus> {
        let engine = self.engine()?;
        engine.torrent(now, engine.find(info_hash)?)
    }

    /// Whether a torrent is complete here and, byte for byte, right.
    #[must_use]
    pub fn has(&self, info: &Info) -> bool {
        self.disk().is_some_and(|disk| disk.holds(info))
    }

    /// Whether the engine says that a torrent is complete.
    #[must_use]
    pub fn seeds(&self, now: Instant, info_hash: InfoHash) -> bool {
        self.torrent(now, info_hash)
            .is_some_and(|t| t.state == State::Seeding)
    }

    /// The process is killed: what it had in memory is gone, the disk is as it was.
    pub fn kill(&mut self) {
        self.stop(SimDisk::process_ended);
    }

    /// The power fails.
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
        self.cable = Cable::new(self.setup.mtu);
        self.busy = false;
    }

    /// Lets the driver work, and sends what it has for the network.
    pub fn run(&mut self, cx: &mut HostCx<'_>) {
        let Some(driver) = &mut self.driver else {
            return;
        };
        self.busy = true;
        for _ in 0..MAX_POLLS {
            let polled = driver.poll(cx.now, &mut self.cable);
            self.cable.pass(cx);
            if driver.storage().has_lost_power() {
                // It is switched on again at once.
                return self.start(cx);
            }
            while let Some(event) = driver.poll_event() {
                if self.events.len() == MAX_EVENTS {
                    self.events.pop_front();
                }
                self.events.push_back((cx.now, event));
            }
            if polled == Polled::Idle {
                self.busy = false;
                return;
            }
        }
    }
}

/// The torrent that a source names.
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
        // Another boot after every power cut.
        engine.boot = Some([self.boots; 16]);
        engine.dht_saved = disk.dht().cloned().or(engine.dht_saved);
        let net = self.setup.net_config(&engine);
        let rng = Box::new(SimRng::new(cx.rng.next_u64()));
        match Driver::new(cx.now, &mut self.cable, &net, engine, disk, rng) {
            Ok(driver) => self.driver = Some(driver),
            Err(e) => unreachable!("a simulated card suits its driver: {e}"),
        }
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
        self.run(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        if self.busy {
            return Some(Instant::ORIGIN);
        }
        self.driver.as_ref()?.poll_timeout()
    }
}
