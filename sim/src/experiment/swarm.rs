//! A swarm in homes: real engines behind simulated NATs exchange a torrent with the help of a
//! tracker.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use dunlin_core::{
    Config, EncryptionPolicy, InfoHash, Instant,
    engine::{AddTorrent, Check, Source},
    metainfo::{Builder, Info},
};
use rand_core::Rng;

use crate::{
    addresses::public_v4,
    host::{
        disk::{DiskConfig, SimDisk},
        engine::{EngineHost, EngineSetup, Progress},
        service::{Tracker, TrackerConfig},
        stack::{MTU, tcp::TcpConfig},
    },
    id::DeviceId,
    link::LinkConfig,
    middlebox::BoxConfig,
    packet::Proto,
    rng::SimRng,
    world::World,
};

/// What a home does in the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has everything from the start.
    Seed,
    /// It downloads everything and uploads what it has.
    Leech,
    /// It downloads everything and uploads nothing.
    FreeRider,
}

/// One home: a line, a router, and one machine that runs Dunlin.
#[derive(Clone, Debug)]
pub struct Home {
    /// What the machine does.
    pub role: Role,
    /// The line to the internet.
    pub link: LinkConfig,
    /// The router; `None` when the machine has a public address.
    pub router: Option<BoxConfig>,
    /// The router forwards the machine's port.
    pub forwarded: bool,
    /// The machine's disk.
    pub disk: DiskConfig,
    /// When the machine is switched on.
    pub joins: Duration,
}

impl Home {
    /// A home without a router, which is on from the start.
    #[must_use]
    pub fn new(role: Role, link: LinkConfig) -> Self {
        Self {
            role,
            link,
            router: None,
            forwarded: false,
            disk: DiskConfig::ssd(),
            joins: Duration::ZERO,
        }
    }

    /// The same home behind a router.
    #[must_use]
    pub fn behind(mut self, router: BoxConfig) -> Self {
        self.router = Some(router);
        self
    }
}

/// The configuration of a swarm.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The length of the torrent in bytes.
    pub len: usize,
    /// The length of a piece in bytes.
    pub piece_len: u32,
    /// The homes, at most 60 000.
    pub homes: Vec<Home>,
    /// The tracker is reached over UDP instead of HTTP.
    pub udp_tracker: bool,
    /// The configuration of every engine, except for what a role changes.
    pub engine: Config,
    /// How the TCP of every home behaves; `None` for that of the firmware alone.
    pub tcp: Option<TcpConfig>,
    /// The size of a TCP socket's buffer in each direction, in bytes.
    pub tcp_buffer: usize,
}

impl SwarmConfig {
    /// A torrent of `len` bytes in pieces of 256 KiB, without homes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            len,
            piece_len: 256 << 10,
            homes: Vec::new(),
            udp_tracker: false,
            // RC4 would take processor time and change nothing else of interest.
            engine: Config {
                encryption: EncryptionPolicy::Allowed,
                ..EngineSetup::new(&[]).engine
            },
            tcp: Some(TcpConfig::default()),
            tcp_buffer: 64 << 10,
        }
    }
}

/// The progress of a home: the times at which it had verified more bytes, and how many.
pub type Curve = Vec<(Duration, u64)>;

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmResult {
    /// The progress of each home.
    pub curves: Vec<Curve>,
    /// When each home was complete, according to its engine: the instant itself.
    pub completed: Vec<Option<Duration>>,
    /// The bytes that each home uploaded.
    pub uploaded: Vec<u64>,
    /// Whether each home's disk holds the content correctly.
    pub exact: Vec<bool>,
    /// When the run ended.
    pub ended: Duration,
    /// The hash of the world's trace.
    pub trace: u64,
}

impl SwarmResult {
    /// Returns `true` when every home's disk holds the content correctly.
    #[must_use]
    pub fn all_exact(&self) -> bool {
        self.exact.iter().all(|exact| *exact)
    }
}

/// A swarm in its world.
#[derive(Debug)]
pub struct Swarm {
    /// The world.
    pub world: World,
    /// The torrent that the homes exchange.
    pub info: Arc<Info>,
    /// The machine and the router of each home.
    pub homes: Vec<(DeviceId, Option<DeviceId>)>,
    /// The device of the tracker.
    pub tracker: DeviceId,
}

const PORT: u16 = 6_881;
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Makes a torrent of one file whose content does not repeat.
///
/// # Panics
/// When `len` is 0, or `piece_len` is not a power of two of at least 16 KiB.
#[must_use]
pub fn torrent(seed: u64, len: usize, piece_len: u32) -> (Arc<Info>, Arc<[u8]>) {
    let mut content = vec![0; len];
    SimRng::new(seed).fill_bytes(&mut content);
    let hashes: Vec<[u8; 20]> = content
        .chunks(piece_len as usize)
        .map(dunlin_core::hash::sha1)
        .collect();
    let mut builder = Builder::file("content", len as u64);
    builder.piece_len = Some(piece_len);
    let draft = builder.draft().expect("a file has a name and bytes");
    let torrent = draft.finish(&hashes).expect("a hash for each piece");
    (torrent.info, content.into())
}

impl Swarm {
    /// Builds the world without starting it.
    #[must_use]
    pub fn new(seed: u64, config: SwarmConfig) -> Self {
        let mut world = World::new(seed);
        let core = world.core();
        let (info, content) = torrent(seed, config.len, config.piece_len);
        let address = public_v4(0);
        let tracker = [IpAddr::V4(address)];
        let serves = TrackerConfig::default();
        let scheme = if config.udp_tracker { "udp" } else { "http" };
        let url = format!("{scheme}://{address}:{}/announce", serves.port);
        let host = Tracker::new(&tracker, serves);
        let tracker = world.add_host(core, LinkConfig::perfect(), &tracker, host);
        let homes: Vec<_> = (0..config.homes.len())
            .map(|n| build_home(&mut world, n, &config, &info, &content, &url))
            .collect();
        Self {
            world,
            info,
            homes,
            tracker,
        }
    }

    /// Runs until the last home is complete, or until `until`.
    pub fn run(&mut self, until: Duration) -> SwarmResult {
        self.world.start();
        let (homes, hash) = (&self.homes, self.info.info_hash());
        // Homes complete once and for all, so those before the first that is not need no look.
        let first = Cell::new(0);
        let goes_on = |world: &World| {
            while let Some((machine, _)) = homes.get(first.get()) {
                let progress = progress(world, *machine, hash);
                if progress.and_then(Progress::completed).is_none() {
                    return true;
                }
                first.set(first.get() + 1);
            }
            false
        };
        let until = Instant::ORIGIN + until;
        if !self.world.run_while(goes_on, until) {
            // Nothing else happens until then.
            self.world.run_until(until);
        }
        self.result()
    }

    fn result(&self) -> SwarmResult {
        let since = |at: Instant| at.saturating_since(Instant::ORIGIN);
        let hash = self.info.info_hash();
        let mut result = SwarmResult {
            curves: Vec::new(),
            completed: Vec::new(),
            uploaded: Vec::new(),
            exact: Vec::new(),
            ended: since(self.world.now()),
            trace: self.world.trace().hash(),
        };
        for (machine, _) in &self.homes {
            let host = self.world.host::<EngineHost>(*machine);
            let status = host.and_then(|h| h.torrent(self.world.now(), hash));
            let progress = host.and_then(|h| h.progress(hash));
            let points = progress.map_or(&[][..], Progress::points);
            let curve = points.iter().map(|(at, done)| (since(*at), *done));
            result.curves.push(curve.collect());
            let completed = progress.and_then(Progress::completed);
            result.completed.push(completed.map(since));
            result.uploaded.push(status.map_or(0, |s| s.uploaded));
            let exact = host.is_some_and(|h| h.has(&self.info));
            result.exact.push(exact);
        }
        result
    }
}

fn progress(world: &World, machine: DeviceId, hash: InfoHash) -> Option<&Progress> {
    world.host::<EngineHost>(machine)?.progress(hash)
}

fn build_home(
    world: &mut World,
    n: usize,
    config: &SwarmConfig,
    info: &Arc<Info>,
    content: &Arc<[u8]>,
    url: &str,
) -> (DeviceId, Option<DeviceId>) {
    let home = &config.homes[n];
    let core = world.core();
    // Number 0 is the tracker's.
    let public = IpAddr::V4(public_v4(n as u32 + 1));
    let inside = if home.router.is_some() {
        IpAddr::V4(INSIDE)
    } else {
        public
    };
    let mut setup = EngineSetup::new(&[inside]);
    setup.engine = config.engine.clone();
    setup.port = PORT;
    setup.tcp = config.tcp;
    setup.tcp_buffer = config.tcp_buffer;
    setup.mtu = MTU.min(home.link.up.mtu.min(home.link.down.mtu) as usize);
    if home.role == Role::FreeRider {
        // A free rider unchokes nobody.
        setup.engine.upload_slots = Some(0);
    }
    let rng = Box::new(SimRng::part(world.seed(), n as u64));
    let mut disk = SimDisk::new(home.disk.clone(), rng);
    disk.expect(info, content.clone());
    let mut add = AddTorrent::new(Source::Info(info.clone()));
    add.trackers = vec![vec![url.to_owned()]];
    if home.role == Role::Seed {
        disk.fill(info);
        add.check = Check::Nothing;
    }
    let mut machine = EngineHost::new(setup, disk);
    machine.want(Instant::ORIGIN, add);
    let (parent, link, router) = match &home.router {
        Some(router) => {
            let node = world.add_router(core, home.link.clone(), router.clone(), &[public]);
            if home.forwarded {
                forward(world, node, SocketAddr::new(inside, PORT));
            }
            (node, LinkConfig::lan(), Some(node))
        }
        None => (core, home.link.clone(), None),
    };
    let node = world.add_host(parent, link, &[inside], machine);
    if home.joins > Duration::ZERO {
        world.set_off(node);
        world.at(
            Instant::ORIGIN + home.joins,
            crate::world::Action::SwitchOn(node),
        );
    }
    (node, router)
}

/// Forwards a port permanently, as the owner of a router would.
fn forward(world: &mut World, router: DeviceId, to: SocketAddr) {
    let now = world.now();
    let Some(nat) = world
        .middlebox_mut(router)
        .and_then(crate::middlebox::Middlebox::nat_mut)
    else {
        return;
    };
    for proto in [Proto::Tcp, Proto::Udp] {
        nat.forward(now, proto, to.port(), to, None)
            .expect("a new box has no other port mapping");
    }
}
