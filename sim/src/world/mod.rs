//! The world: the tree of devices, the packets that travel between them, and virtual time.
//!
//! ```
//! use dunlin_sim::{BoxConfig, LinkConfig, Packet, Scripted, World};
//!
//! let mut world = World::new(1);
//! let router = world.add_router(world.core(), LinkConfig::fibre(), BoxConfig::default(), &[]);
//! let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
//! let hello = Packet::udp((a, 1).into(), (b, 2).into(), b"hello");
//! let at = world.now();
//! world.add_host(router, LinkConfig::lan(), &[a.into()], Scripted::new().send(at, hello));
//! let b = world.add_host(router, LinkConfig::lan(), &[b.into()], Scripted::new());
//! world.start();
//! world.run_for(std::time::Duration::from_secs(1));
//! let got = world.host::<Scripted>(b).map(|host| host.received());
//! assert_eq!(got.map(|r| r[0].1.payload()), Some(&b"hello"[..]));
//! ```
//!
//! # How a packet travels
//!
//! A packet from a host goes up the tree until a router knows its receiver among its descendants,
//! and then down. A router knows the addresses of every device below it, except those that a NAT
//! hides: of the devices behind a NAT, the parent knows only the NAT's own addresses. Packets
//! between two children of a router are switched and do not pass its box. Multicast and broadcast
//! reach every other child of the sender's parent and the gateway inside its box, and no further.
//!
//! At each instant every packet goes as far as it can, in the order in which the packets were sent;
//! steps that take time are planned in the [`Agenda`]. Hops without state are computed ahead of
//! time: the outcome is the same, and no event is needed.

#[cfg(test)]
mod box_tests;
mod boxes;
mod calls;
mod device;
mod event;
mod forward;
mod icmp;
mod machine;
pub mod monitor;
mod queues;
mod run;
#[cfg(test)]
mod tests;
mod timetable;
pub mod trace;
mod wan;
mod watch;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
};

use dunlin_core::Instant;
use rand_core::Rng;

use crate::{
    agenda::Agenda,
    host::Host,
    id::DeviceId,
    link::{
        LinkConfig,
        region::{Region, RegionMatrix},
    },
    middlebox::BoxConfig,
    packet::{Packet, pcapng::Capture},
    rng::SimRng,
    world::trace::Trace,
};

pub use event::Stuck;

use device::{Device, Kind, Router};
use event::{Event, Flight};
use machine::Machine;

/// The addresses of the core, from which it sends ICMP errors. They are from the ranges for
/// benchmarks (RFC 2544, RFC 5180).
pub const CORE_ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 19, 255, 254)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 2, 0, 0xffff, 0, 0, 0, 1)),
];

/// New link configurations are shared with equal ones among this many older ones.
const MAX_LOOKED_UP: usize = 64;

/// A simulated network under virtual time.
pub struct World {
    seed: u64,
    agenda: Agenda<Event>,
    devices: Vec<Device>,
    /// Packets whose next step is planned. Free slots are used again.
    flights: Vec<Option<Flight>>,
    /// Slots in `flights` that are empty and not free yet, because their events are still planned.
    vacated: usize,
    free: Vec<u32>,
    /// Packets that go on at this instant.
    ready: VecDeque<Flight>,
    /// Packets in queues that choose what is sent next.
    queued: usize,
    /// There is, or was, a link with such a queue.
    queues: bool,
    buffers: CallBuffers,
    /// The link configurations in use. Many links share one.
    links: Vec<Link>,
    regions: RegionMatrix,
    /// Pairs of regions that cannot reach each other.
    parted: Vec<(Region, Region)>,
    timetable: Vec<Option<Action>>,
    /// The times of planned actions that affect packets, with the number of actions at each. Hops
    /// are not computed ahead beyond the first of these times.
    changes: BTreeMap<Instant, u32>,
    horizon: Instant,
    trace: Trace,
    captures: Vec<(DeviceId, Capture)>,
    started: bool,
    panics: bool,
    stuck: Option<Stuck>,
    /// What is watched, if anything is.
    monitor: Option<Box<monitor::Monitor>>,
    /// The packets that were handled since the clock last moved.
    at_once: u64,
}

/// A change of the world, planned or immediate.
// Few actions exist at a time, and a link's configuration is rarely moved, so the size of the
// largest variant does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Action {
    /// A host is switched off and on; a box forgets what it does not store durably.
    Reboot(DeviceId),
    /// The device's link to its parent carries nothing. A packet on the link is lost if it would
    /// arrive while the link is cut. A packet that is on the link both before the cut and after it
    /// was mended arrives, as if the line was cut at its far end.
    Cut(DeviceId),
    /// The device's link is cut, and the device notices. A box then answers packets for the outside
    /// with an ICMP error, and forgets the flows that it translated unless `keep` is set.
    Unplug {
        /// The router or host.
        device: DeviceId,
        /// The box keeps its flows.
        keep: bool,
    },
    /// The device's link carries packets again.
    Mend(DeviceId),
    /// A router gets other addresses on its parent's side; see [`World::renumber`].
    Renumber {
        /// The router.
        router: DeviceId,
        /// All its addresses from now on.
        wan: Vec<IpAddr>,
        /// The box keeps its flows.
        keep: bool,
    },
    /// The device's link changes. Packets that wait to be sent go on at the new rate; their delay,
    /// loss and queue length are those of the time at which they were put on the link.
    SetLink(DeviceId, LinkConfig),
    /// Nothing passes through this device or comes from it.
    SwitchOff(DeviceId),
    /// The device starts again.
    SwitchOn(DeviceId),
    /// Two regions can no longer reach each other.
    Part(Region, Region),
    /// The two regions can reach each other again.
    Join(Region, Region),
    /// The distances between regions change.
    SetLatency(Box<RegionMatrix>),
    /// A line is written into the trace.
    Mark(String),
    /// Any other change.
    Do(Box<dyn FnOnce(&mut World)>),
}

impl Action {
    /// Returns `true` when the action can change what happens to packets that are under way.
    const fn changes_paths(&self) -> bool {
        !matches!(self, Self::Mark(_))
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reboot(device) => write!(f, "Reboot({device:?})"),
            Self::Cut(device) => write!(f, "Cut({device:?})"),
            Self::Unplug { device, keep } => write!(f, "Unplug({device:?}, {keep})"),
            Self::Mend(device) => write!(f, "Mend({device:?})"),
            Self::Renumber { router, wan, keep } => {
                write!(f, "Renumber({router:?}, {wan:?}, {keep})")
            }
            Self::SetLink(device, link) => write!(f, "SetLink({device:?}, {link:?})"),
            Self::SwitchOff(device) => write!(f, "SwitchOff({device:?})"),
            Self::SwitchOn(device) => write!(f, "SwitchOn({device:?})"),
            Self::Part(a, b) => write!(f, "Part({a:?}, {b:?})"),
            Self::Join(a, b) => write!(f, "Join({a:?}, {b:?})"),
            Self::SetLatency(_) => write!(f, "SetLatency(..)"),
            Self::Mark(text) => write!(f, "Mark({text:?})"),
            Self::Do(_) => write!(f, "Do(..)"),
        }
    }
}

/// The packets of a host on its own link, and their bytes from the IP header on. Packets that were
/// lost on the way to it do not count as received. The numbers of packets wrap at 2³².
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The packets that it sent.
    pub sent_packets: u64,
    /// The bytes of these packets.
    pub sent_bytes: u64,
    /// The packets that it received.
    pub received_packets: u64,
    /// The bytes of these packets.
    pub received_bytes: u64,
}

/// Buffers that hosts fill during their calls.
#[derive(Default)]
struct CallBuffers {
    out: Vec<Packet>,
    spare: Vec<Vec<u8>>,
    marks: Vec<String>,
}

struct Link {
    config: LinkConfig,
    /// The delay upwards and downwards, for directions that do nothing else.
    up: Option<std::time::Duration>,
    down: Option<std::time::Duration>,
}

impl World {
    /// Creates a world that has only its core, at the origin of time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let key = SimRng::new(seed).next_u64();
        let core = Device::new(
            0,
            0,
            key,
            Kind::Core(Box::new(Router::new(&CORE_ADDRESSES))),
        );
        Self {
            seed,
            agenda: Agenda::new(),
            devices: vec![core],
            flights: Vec::new(),
            vacated: 0,
            free: Vec::new(),
            ready: VecDeque::new(),
            queued: 0,
            queues: false,
            buffers: CallBuffers::default(),
            links: vec![Link::new(LinkConfig::perfect())],
            regions: RegionMatrix::none(),
            parted: Vec::new(),
            timetable: Vec::new(),
            changes: BTreeMap::new(),
            horizon: Instant::from_micros(u64::MAX),
            trace: Trace::new(seed),
            captures: Vec::new(),
            started: false,
            panics: true,
            stuck: None,
            monitor: None,
            at_once: 0,
        }
    }

    /// The seed of the world.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The root of the tree: the core of the internet.
    #[must_use]
    pub const fn core(&self) -> DeviceId {
        DeviceId::CORE
    }

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.agenda.now()
    }

    /// Adds a router with a NAT, a firewall, both or neither. `wan` lists its own addresses on the
    /// parent's side; on its inner side it has the address of its [`BoxConfig::gateway`].
    ///
    /// # Panics
    /// When `parent` is a host, or another device on the parent's side has one of the addresses.
    pub fn add_router(
        &mut self,
        parent: DeviceId,
        link: LinkConfig,
        config: BoxConfig,
        wan: &[IpAddr],
    ) -> DeviceId {
        let key = self.key_below(parent, wan);
        let router = Router::with_box(config, wan, key);
        self.add(parent, link, wan, key, Kind::Router(Box::new(router)))
    }

    /// Adds a host. It is switched on at once if the world was started.
    ///
    /// # Panics
    /// When `parent` is a host, or another device on the parent's side has one of the addresses.
    pub fn add_host(
        &mut self,
        parent: DeviceId,
        link: LinkConfig,
        addrs: &[IpAddr],
        host: impl Host,
    ) -> DeviceId {
        let key = self.key_below(parent, addrs);
        let machine = Machine::new(Box::new(host), key);
        let id = self.add(parent, link, addrs, key, Kind::Host(machine));
        if self.started {
            self.switch_on(id);
        }
        id
    }

    /// Puts a host inside a router's box. It receives the packets that are for the box itself, from
    /// either side, and can change the box through [`HostCx::middlebox`](crate::host::HostCx).
    ///
    /// # Panics
    /// When `router` is not a router.
    pub fn set_gateway(&mut self, router: DeviceId, host: impl Host) {
        let device = &mut self.devices[router.index()];
        let machine = Machine::new(Box::new(host), device.key ^ 1);
        let Kind::Router(inner) = &mut device.kind else {
            panic!("{router:?} is not a router");
        };
        inner.gateway = Some(machine);
        if self.started {
            self.switch_on(router);
        }
    }

    /// The key for the random numbers of a new device. It depends on the parent and the address of
    /// the device, not on its number, so that adding another device does not change it.
    fn key_below(&mut self, parent: DeviceId, addrs: &[IpAddr]) -> u64 {
        let parent = &mut self.devices[parent.index()];
        let place = if let Some(addr) = addrs.first() {
            let wide = device::route_key(*addr);
            SimRng::part((wide >> 64) as u64, wide as u64).next_u64()
        } else {
            parent.nameless += 1;
            parent.nameless.into()
        };
        SimRng::part(parent.key, place).next_u64()
    }

    fn add(
        &mut self,
        parent: DeviceId,
        link: LinkConfig,
        addrs: &[IpAddr],
        key: u64,
        kind: Kind,
    ) -> DeviceId {
        let id = DeviceId::at(self.devices.len());
        let profile = self.intern(link);
        let mut device = Device::new(parent.0, profile, key, kind);
        let above = &mut self.devices[parent.index()];
        device.region = above.region;
        let Some(router) = above.router_mut() else {
            panic!("{parent:?} is a host: nothing can be below it");
        };
        router.children.push(id.0);
        for addr in addrs {
            self.announce(*addr, parent, id);
        }
        self.devices.push(device);
        id
    }

    /// Makes `addr`, an address of the child `by`, known to `router` and to the routers above it
    /// that may know it.
    fn announce(&mut self, addr: IpAddr, mut router: DeviceId, mut by: DeviceId) {
        loop {
            let device = &mut self.devices[router.index()];
            let (parent, name) = (DeviceId(device.parent), device.label(router));
            let Some(inner) = device.router_mut() else {
                return;
            };
            let before = inner.routes.insert(device::route_key(addr), by.0);
            assert!(before.is_none(), "{addr} is there twice, below {name}");
            if router == DeviceId::CORE || inner.hides(addr) {
                return;
            }
            (by, router) = (router, parent);
        }
    }

    fn intern(&mut self, config: LinkConfig) -> u32 {
        let known = self.links.iter().take(MAX_LOOKED_UP);
        let last = self.links.len() - 1;
        let found = known.clone().position(|l| l.config == config);
        if let Some(n) = found {
            return n as u32;
        }
        if self.links[last].config == config {
            return last as u32;
        }
        self.queues |= config.up.keeps_packets() || config.down.keeps_packets();
        self.links.push(Link::new(config));
        self.links.len() as u32 - 1
    }

    /// Moves a device, with the rest of its subtree below the core, into a region. New devices are
    /// in the region of their parent; those at the core are in [`Region::default`].
    pub fn set_region(&mut self, device: DeviceId, region: Region) {
        let mut top = device;
        while self.devices[top.index()].parent != 0 {
            top = DeviceId(self.devices[top.index()].parent);
        }
        self.devices[top.index()].region = region;
    }

    /// Sets how long packets take through the core.
    pub fn set_latency(&mut self, matrix: RegionMatrix) {
        self.regions = matrix;
    }

    /// Sets the name of a device in captures and reports.
    pub fn set_name(&mut self, device: DeviceId, name: &str) {
        self.devices[device.index()].name = Some(name.into());
    }

    /// The name of a device, or its kind and number when it has none.
    #[must_use]
    pub fn name(&self, device: DeviceId) -> String {
        self.devices[device.index()].label(device)
    }

    /// The device of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<DeviceId> {
        let found =
            (0..self.devices.len()).find(|n| self.devices[*n].label(DeviceId::at(*n)) == name);
        found.map(DeviceId::at)
    }

    /// The parent of a device; `None` for the core.
    #[must_use]
    pub fn parent(&self, device: DeviceId) -> Option<DeviceId> {
        (device != DeviceId::CORE).then(|| DeviceId(self.devices[device.index()].parent))
    }

    /// The number of devices, including the core.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.devices.len()
    }

    /// Returns `true` when there is no device besides the core.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.devices.len() < 2
    }

    /// The number of packets that are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len() - self.vacated + self.ready.len() + self.queued
    }

    /// What a host has sent and received so far.
    #[must_use]
    pub fn traffic(&self, device: DeviceId) -> Traffic {
        let device = &self.devices[device.index()];
        Traffic {
            sent_packets: device.sent.into(),
            sent_bytes: device.sent_bytes,
            received_packets: device.received.0.into(),
            received_bytes: device.received.1,
        }
    }

    /// The trace of the run so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The host at a device, or the gateway of a box, if it has this type.
    #[must_use]
    pub fn host<T: Host>(&self, id: DeviceId) -> Option<&T> {
        let host: &dyn std::any::Any = &*self.devices.get(id.index())?.machine()?.host;
        host.downcast_ref()
    }
}

impl Link {
    const fn new(config: LinkConfig) -> Self {
        Self {
            up: config.up.steady(),
            down: config.down.steady(),
            config,
        }
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("now", &self.now())
            .field("devices", &self.devices.len())
            .finish_non_exhaustive()
    }
}
