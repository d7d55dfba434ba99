//! The world: the tree of devices, the packets under way between them, and the time.
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
//! From a host it goes up the tree until a router knows its receiver among its descendants, and
//! then down. A router knows the addresses of every device below it, except those that a NAT hides:
//! of what is behind one, the parent knows the NAT's own addresses alone. Packets between two
//! children of a router are switched and do not pass its box. Multicast and broadcast reach every
//! other child of the sender's parent and the gateway inside its box, and no further.
//!
//! At one instant each packet goes as far as it can, in the order in which packets came up; what
//! takes time is planned in the [`Agenda`]. Hops that have no state may be looked through ahead of
//! time: the outcome is the same and it costs no event.

#[cfg(test)]
mod box_tests;
mod boxes;
mod calls;
mod device;
mod event;
mod forward;
mod icmp;
mod machine;
mod run;
#[cfg(test)]
mod tests;
mod timetable;
pub mod trace;
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

/// The addresses that the core has for its ICMP errors, out of the ranges for benchmarks
/// (RFC 2544, RFC 5180).
pub const CORE_ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(198, 19, 255, 254)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 2, 0, 0xffff, 0, 0, 0, 1)),
];

/// Links of one world that may differ before new ones are no longer looked up among old ones.
const MAX_LOOKED_UP: usize = 64;

/// A simulated network under virtual time.
pub struct World {
    seed: u64,
    agenda: Agenda<Event>,
    devices: Vec<Device>,
    /// Packets under way whose next step is planned; freed places are used again.
    flights: Vec<Option<Flight>>,
    /// Places in `flights` that are empty and not free yet: their events are still planned.
    vacated: usize,
    free: Vec<u32>,
    /// Packets that are to be carried on at this instant.
    ready: VecDeque<Flight>,
    desk: Desk,
    /// Link configurations in use; many links share one.
    links: Vec<Link>,
    regions: RegionMatrix,
    /// Pairs of regions that cannot reach one another.
    parted: Vec<(Region, Region)>,
    timetable: Vec<Option<Action>>,
    /// Times of planned actions that change what packets meet, with how many there are: no
    /// packet is looked ahead beyond the first.
    changes: BTreeMap<Instant, u32>,
    horizon: Instant,
    trace: Trace,
    captures: Vec<(DeviceId, Capture)>,
    started: bool,
    panics: bool,
    stuck: Option<Stuck>,
    /// Packets that were carried since the clock moved last.
    at_once: u64,
}

/// Something that the timetable, or whoever runs the world, does to it.
// A timetable is short, and a link's configuration is more often made than moved.
#[allow(clippy::large_enum_variant)]
pub enum Action {
    /// A host is switched off and on; a box forgets what it does not keep.
    Reboot(DeviceId),
    /// The device's link to its parent carries nothing. What is on it is lost if it would arrive
    /// while the link is cut. A packet that is on it both before the cut and after the mending
    /// arrives: a cut shorter than a flight is taken for one of the end of the line.
    Cut(DeviceId),
    /// And carries again.
    Mend(DeviceId),
    /// The device's link changes. What waits to be sent goes on at the new rate; delays, loss and the length of the queue
    /// are those of the time at which a packet was put on the link.
    SetLink(DeviceId, LinkConfig),
    /// Nothing passes through, or comes from, this device.
    SwitchOff(DeviceId),
    /// And it starts anew.
    SwitchOn(DeviceId),
    /// Two regions cannot reach one another.
    Part(Region, Region),
    /// And can again.
    Join(Region, Region),
    /// Distances change.
    SetLatency(Box<RegionMatrix>),
    /// A line for the trace.
    Mark(String),
    /// Anything else.
    Do(Box<dyn FnOnce(&mut World)>),
}

impl Action {
    /// Whether packets under way may fare differently for it.
    const fn changes_paths(&self) -> bool {
        !matches!(self, Self::Mark(_))
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reboot(device) => write!(f, "Reboot({device:?})"),
            Self::Cut(device) => write!(f, "Cut({device:?})"),
            Self::Mend(device) => write!(f, "Mend({device:?})"),
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

/// What calls of hosts fill.
#[derive(Default)]
struct Desk {
    out: Vec<Packet>,
    spare: Vec<Vec<u8>>,
    marks: Vec<String>,
}

struct Link {
    config: LinkConfig,
    /// The delays of directions that do nothing else.
    up: Option<std::time::Duration>,
    down: Option<std::time::Duration>,
}

impl World {
    /// A world with nothing but its core, at the origin of time.
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
            desk: Desk::default(),
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
            at_once: 0,
        }
    }

    /// The seed that it was made with.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// The root of the tree: the internet's core.
    #[must_use]
    pub const fn core(&self) -> DeviceId {
        DeviceId::CORE
    }

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.agenda.now()
    }

    /// Adds a router with a NAT, a firewall, both or neither. `wan` are its own addresses on the
    /// parent's side; of its inner side it has that of its [`BoxConfig::gateway`].
    ///
    /// # Panics
    /// If `parent` is a host, or the parent's side has one of the addresses already.
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

    /// Adds a host. If the world was started, it is switched on at once.
    ///
    /// # Panics
    /// If `parent` is a host, or the parent's side has one of the addresses already.
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

    /// Gives a router's box a host inside: it gets the packets that are for the box itself, from
    /// either side, and may change the box by [`HostCx::middlebox`](crate::host::HostCx).
    ///
    /// # Panics
    /// If `router` is none.
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

    /// A key for the randomness of a new device. It follows from the device's place, by its parent
    /// and address, not from its number: another device more or less leaves it as it is.
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

    /// Makes `addr`, of the child `by`, known to `router` and all above it that may know.
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
        self.links.push(Link::new(config));
        self.links.len() as u32 - 1
    }

    /// Puts a device, with everything below it, into a region: what counts is where its subtree
    /// joins the core. New devices are where their parents are, those at the core in
    /// [`Region::default`].
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

    /// Names a device, for captures and people.
    pub fn set_name(&mut self, device: DeviceId, name: &str) {
        self.devices[device.index()].name = Some(name.into());
    }

    /// A device's name; without one, its kind and number.
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

    /// A device's parent; none of the core.
    #[must_use]
    pub fn parent(&self, device: DeviceId) -> Option<DeviceId> {
        (device != DeviceId::CORE).then(|| DeviceId(self.devices[device.index()].parent))
    }

    /// How many devices there are, the core included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether there is nothing but the core.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.devices.len() < 2
    }

    /// How many packets are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len() - self.vacated + self.ready.len()
    }

    /// What was seen so far.
    #[must_use]
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The host at a device, or a box's gateway, if it is one of this type.
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
