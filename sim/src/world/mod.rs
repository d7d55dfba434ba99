//! The world: the tree of nodes, the packets under way between them, and the time.
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
//! then down. A router knows the addresses of every node below it, except those that a NAT hides:
//! of what is behind one, the parent knows the NAT's own addresses alone. Packets between two
//! children of a router are switched and do not pass its box. Multicast and broadcast reach every
//! other child of the sender's parent and the gateway inside its box, and no further.
//!
//! At one instant each packet goes as far as it can, in the order in which packets came up; what
//! takes time is planned in the [`Agenda`]. Hops that have no state may be looked through ahead of
//! time: the outcome is the same and it costs no event.

mod action;
#[cfg(test)]
mod box_tests;
mod boxes;
mod forward;
mod icmp;
mod machine;
mod node;
mod run;
#[cfg(test)]
mod tests;
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
    link::{
        LinkConfig,
        region::{Region, RegionMatrix},
    },
    middlebox::BoxConfig,
    packet::{Packet, pcapng::Capture},
    rng::SimRng,
    world::trace::{PacketId, Trace},
};

pub use action::Action;
pub use node::NodeId;
pub use run::Stuck;

use machine::Machine;
use node::{Kind, Node, Router};

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
    nodes: Vec<Node>,
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
    captures: Vec<(NodeId, Capture)>,
    started: bool,
    panics: bool,
    stuck: Option<Stuck>,
    /// Packets that were carried since the clock moved last.
    at_once: u64,
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

/// What is planned.
#[derive(Clone, Copy)]
enum Event {
    /// The packet in this place takes its next step.
    Packet(u32),
    /// A host, or a box's gateway, may want to be woken.
    Wake(u32),
    /// A box's timer may be due.
    Box(u32),
    /// An action of the timetable.
    Act(u32),
}

/// A packet under way.
#[derive(Clone)]
struct Flight {
    packet: Packet,
    id: PacketId,
    /// Digest of its payload.
    digest: u64,
    stage: Stage,
    /// When its next step is planned.
    due: Instant,
    /// When its last bit was put on the line it is on, in nanoseconds; 0 where no rate is set.
    sent: u64,
    /// A bit of it was changed.
    corrupt: bool,
}

/// What is next for a packet.
#[derive(Clone, Copy)]
enum Stage {
    /// It arrives at a node.
    Arrive(u32, Via),
    /// It is put on the link of this node, upwards or downwards.
    Enter(u32, bool),
}

/// Whence a packet comes to a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Via {
    Parent,
    Child(u32),
    /// From the node itself, to be handled as if from one of its children.
    Within,
    /// From the node itself, to be handled as if from its parent.
    Without,
}

impl World {
    /// A world with nothing but its core, at the origin of time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let key = SimRng::new(seed).next_u64();
        let core = Node::new(
            0,
            0,
            key,
            Kind::Core(Box::new(Router::new(&CORE_ADDRESSES))),
        );
        Self {
            seed,
            agenda: Agenda::new(),
            nodes: vec![core],
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
    pub const fn core(&self) -> NodeId {
        NodeId::CORE
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
        parent: NodeId,
        link: LinkConfig,
        config: BoxConfig,
        wan: &[IpAddr],
    ) -> NodeId {
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
        parent: NodeId,
        link: LinkConfig,
        addrs: &[IpAddr],
        host: impl Host,
    ) -> NodeId {
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
    pub fn set_gateway(&mut self, router: NodeId, host: impl Host) {
        let node = &mut self.nodes[router.index()];
        let machine = Machine::new(Box::new(host), node.key ^ 1);
        let Kind::Router(inner) = &mut node.kind else {
            panic!("{router:?} is not a router");
        };
        inner.gateway = Some(machine);
        if self.started {
            self.switch_on(router);
        }
    }

    /// A key for the randomness of a new node. It follows from the node's place, by its parent
    /// and address, not from its number: another node more or less leaves it as it is.
    fn key_below(&mut self, parent: NodeId, addrs: &[IpAddr]) -> u64 {
        let parent = &mut self.nodes[parent.index()];
        let place = if let Some(addr) = addrs.first() {
            let wide = node::route_key(*addr);
            SimRng::part((wide >> 64) as u64, wide as u64).next_u64()
        } else {
            parent.nameless += 1;
            parent.nameless.into()
        };
        SimRng::part(parent.key, place).next_u64()
    }

    fn add(
        &mut self,
        parent: NodeId,
        link: LinkConfig,
        addrs: &[IpAddr],
        key: u64,
        kind: Kind,
    ) -> NodeId {
        let id = NodeId::at(self.nodes.len());
        let profile = self.intern(link);
        let mut node = Node::new(parent.0, profile, key, kind);
        let above = &mut self.nodes[parent.index()];
        node.region = above.region;
        let Some(router) = above.router_mut() else {
            panic!("{parent:?} is a host: nothing can be below it");
        };
        router.children.push(id.0);
        for addr in addrs {
            self.announce(*addr, parent, id);
        }
        self.nodes.push(node);
        id
    }

    /// Makes `addr`, of the child `by`, known to `router` and all above it that may know.
    fn announce(&mut self, addr: IpAddr, mut router: NodeId, mut by: NodeId) {
        loop {
            let node = &mut self.nodes[router.index()];
            let (parent, name) = (NodeId(node.parent), node.label(router));
            let Some(inner) = node.router_mut() else {
                return;
            };
            let before = inner.routes.insert(node::route_key(addr), by.0);
            assert!(before.is_none(), "{addr} is there twice, below {name}");
            if router == NodeId::CORE || inner.hides(addr) {
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

    /// Puts a node, with everything below it, into a region: what counts is where its subtree
    /// joins the core. New nodes are where their parents are, those at the core in
    /// [`Region::default`].
    pub fn set_region(&mut self, node: NodeId, region: Region) {
        let mut top = node;
        while self.nodes[top.index()].parent != 0 {
            top = NodeId(self.nodes[top.index()].parent);
        }
        self.nodes[top.index()].region = region;
    }

    /// Sets how long packets take through the core.
    pub fn set_latency(&mut self, matrix: RegionMatrix) {
        self.regions = matrix;
    }

    /// Names a node, for captures and people.
    pub fn set_name(&mut self, node: NodeId, name: &str) {
        self.nodes[node.index()].name = Some(name.into());
    }

    /// A node's name; without one, its kind and number.
    #[must_use]
    pub fn name(&self, node: NodeId) -> String {
        self.nodes[node.index()].label(node)
    }

    /// The node of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<NodeId> {
        let found = (0..self.nodes.len()).find(|n| self.nodes[*n].label(NodeId::at(*n)) == name);
        found.map(NodeId::at)
    }

    /// A node's parent; none of the core.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != NodeId::CORE).then(|| NodeId(self.nodes[node.index()].parent))
    }

    /// How many nodes there are, the core included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing but the core.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.len() < 2
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

    /// The host at a node, or a box's gateway, if it is one of this type.
    #[must_use]
    pub fn host<T: Host>(&self, id: NodeId) -> Option<&T> {
        let host: &dyn std::any::Any = &*self.nodes.get(id.index())?.machine()?.host;
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
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}
