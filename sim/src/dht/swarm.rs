//! A DHT of real nodes: open ones, and ones behind firewalls or NATs, in all regions, coming and
//! going.
//!
//! Node 0 is the router, from which every other node bootstraps. It is open and never leaves. A
//! node that leaves keeps its table, like a cache file, and has it when it comes back.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Cx, InfoHash, Instant,
    dht::{Announce, Dht, DhtConfig, DhtEvent, DhtStats, Goal, LookupId, LookupReport},
    net::Ports,
};
use rand_core::Rng;

use super::{
    draw::lognormal,
    space::{self, PORT, below},
};
use crate::{
    agenda::Agenda,
    host::light::Light,
    id::DeviceId,
    link::{
        LinkConfig,
        region::{Region, RegionMatrix},
    },
    middlebox::{
        BoxConfig, firewall,
        nat::{NatConfig, presets},
    },
    rng::SimRng,
    world::World,
};

/// The most events that a node keeps.
const EVENTS: usize = 16;
/// The address of a node behind a NAT, which has it on the inner side.
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);

/// Who can reach a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Everybody.
    Open,
    /// The nodes that it queried: it is behind a stateful firewall.
    Firewalled,
    /// The nodes that it queried: it is behind a port-restricted NAT.
    Restricted,
    /// The nodes that it queried, each through another port: it is behind a symmetric NAT.
    Symmetric,
}

/// The configuration of a DHT.
#[derive(Clone, Debug)]
pub struct SwarmConfig {
    /// The number of nodes, including the router.
    pub nodes: u32,
    /// The configuration of each node.
    pub dht: DhtConfig,
    /// The configuration of the router.
    pub router: DhtConfig,
    /// The number of nodes in a million behind a firewall; Jimenez et al. counted 106 000.
    pub firewalled_ppm: u32,
    /// The number of nodes in a million behind a port-restricted NAT; Jimenez et al. counted 313
    /// 000 behind NATs of any kind.
    pub restricted_ppm: u32,
    /// The number of nodes in a million behind a symmetric NAT.
    pub symmetric_ppm: u32,
    /// The time within which the nodes join, one after another.
    pub joins: Duration,
    /// The median of the time that a node stays, and of the time that it is away. Without it nobody
    /// leaves.
    pub session: Option<Duration>,
    /// The deviation of the logarithm of both, in thousandths.
    pub session_sigma_milli: u32,
    /// The distances between regions.
    pub latency: RegionMatrix,
    /// The longest one-way delay between a node and the core.
    pub access: Duration,
}

impl SwarmConfig {
    /// A configuration of nodes that join within a minute and stay.
    #[must_use]
    pub fn new(nodes: u32) -> Self {
        Self {
            nodes,
            dht: lean(),
            router: DhtConfig {
                // The router has a public address, so there is no NAT whose table it could fill.
                new_remote_budget: None,
                ..DhtConfig::default()
            },
            firewalled_ppm: 106_000,
            restricted_ppm: 213_000,
            symmetric_ppm: 100_000,
            joins: Duration::from_secs(60),
            session: None,
            session_sigma_milli: 1_000,
            latency: RegionMatrix::earth().with_jitter(100),
            access: Duration::from_millis(20),
        }
    }

    /// The same with nodes that stay for half an hour in the median, and come back.
    #[must_use]
    pub const fn churning(mut self) -> Self {
        self.session = Some(Duration::from_secs(30 * 60));
        self
    }

    /// The same without NATs and firewalls.
    #[must_use]
    pub const fn open(mut self) -> Self {
        self.firewalled_ppm = 0;
        self.restricted_ppm = 0;
        self.symmetric_ppm = 0;
        self
    }
}

/// A configuration of nodes for very many of them on one machine.
#[must_use]
pub fn lean() -> DhtConfig {
    DhtConfig {
        max_buckets: 24,
        max_replacements: 16,
        max_queries: 32,
        max_lookups: 2,
        max_replies: 16,
        max_hashes: 64,
        max_peers: 256,
        max_peers_per_hash: 32,
        max_items: 8,
        max_sources: 32,
        max_events: 8,
        max_remotes: 64,
        ..DhtConfig::default()
    }
}

/// The outcome of a search.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Distinct peers, in the order of arrival.
    pub peers: Vec<SocketAddr>,
    /// The time until the first peer.
    pub first: Option<Duration>,
    /// The time until the search was done.
    pub done: Option<Duration>,
    /// The node's own report of the search.
    pub report: Option<LookupReport>,
}

struct Member {
    /// The device of the node.
    host: DeviceId,
    reach: Reach,
    /// The public address of the node.
    public: Ipv4Addr,
    up: bool,
    /// The node has been up before.
    old: bool,
    /// When the node comes or goes. Other entries of the agenda are out of date.
    next: Option<Instant>,
}

/// The world and its nodes.
pub struct Swarm {
    world: World,
    config: SwarmConfig,
    members: Vec<Member>,
    /// Which node comes or goes next.
    agenda: Agenda<u32>,
    dice: SimRng,
    up: u32,
}

impl Swarm {
    /// Creates a DHT in which only the router is up.
    #[must_use]
    pub fn new(seed: u64, config: SwarmConfig) -> Self {
        let mut world = World::new(seed);
        world.set_latency(config.latency.clone());
        let mut swarm = Self {
            members: Vec::with_capacity(config.nodes as usize),
            agenda: Agenda::new(),
            dice: SimRng::part(seed, 5),
            up: 0,
            world,
            config,
        };
        let mut taken = BTreeSet::new();
        for n in 0..swarm.config.nodes {
            let public = loop {
                let addr = Ipv4Addr::from(swarm.dice.next_u32());
                if space::is_public(addr) && taken.insert(addr) {
                    break addr;
                }
            };
            let member = swarm.member(n, public);
            swarm.members.push(member);
        }
        swarm.world.start();
        swarm.come(0);
        let micros = u64::try_from(swarm.config.joins.as_micros()).unwrap_or(u64::MAX);
        for n in 1..swarm.config.nodes {
            let after = u128::from(micros) * u128::from(n) / u128::from(swarm.config.nodes);
            let after = Duration::from_micros(after as u64);
            swarm.plan(n, after);
        }
        swarm
    }

    /// Adds a node, switched off.
    fn member(&mut self, n: u32, public: Ipv4Addr) -> Member {
        // Only sixteen delays are used, so that many links are equal.
        let steps = below(&mut self.dice, 16);
        let link = LinkConfig::delayed(self.config.access * steps / 16);
        let region = Region::ALL[below(&mut self.dice, Region::ALL.len() as u32) as usize];
        let reach = self.draw_reach(n);
        let (core, public_ip) = (self.world.core(), IpAddr::V4(public));
        let wall = || BoxConfig {
            firewall: Some(firewall::presets::no_inbound()),
            ..BoxConfig::default()
        };
        let nat = |nat: NatConfig| BoxConfig {
            nat: Some(nat),
            ..BoxConfig::default()
        };
        let preset = |name| presets::find(name).map_or_else(|_| presets::linux(), |p| (p.make)());
        // The public address is the NAT's, or the node's own behind a firewall.
        let (middlebox, wan, local) = match reach {
            Reach::Open => (None, vec![], public),
            Reach::Firewalled => (Some(wall()), vec![], public),
            Reach::Restricted => (
                Some(nat(preset("port-restricted"))),
                vec![public_ip],
                INSIDE,
            ),
            Reach::Symmetric => (Some(nat(preset("symmetric"))), vec![public_ip], INSIDE),
        };
        let config = if n == 0 {
            self.config.router.clone()
        } else {
            self.config.dht.clone()
        };
        let mut dice = SimRng::part(self.world.seed() ^ 6, n.into());
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut dice,
        };
        let light = Light::new(Dht::new(&mut cx, config), (local, PORT).into()).keeping(EVENTS);
        let (parent, near) = match middlebox {
            None => (core, link),
            Some(config) => {
                let parent = self.world.add_router(core, link, config, &wan);
                (parent, LinkConfig::perfect())
            }
        };
        let host = self.world.add_host(parent, near, &[local.into()], light);
        self.world.set_region(host, region);
        self.world.set_off(host);
        Member {
            host,
            reach,
            public,
            up: false,
            old: false,
            next: None,
        }
    }

    fn draw_reach(&mut self, n: u32) -> Reach {
        let lot = below(&mut self.dice, 1_000_000);
        let wall = self.config.firewalled_ppm;
        let restricted = wall + self.config.restricted_ppm;
        let symmetric = restricted + self.config.symmetric_ppm;
        match lot {
            _ if n == 0 => Reach::Open,
            l if l < wall => Reach::Firewalled,
            l if l < restricted => Reach::Restricted,
            l if l < symmetric => Reach::Symmetric,
            _ => Reach::Open,
        }
    }

    /// The world.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The present.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.world.now()
    }

    /// The number of nodes, up or away.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.members.len() as u32
    }

    /// Returns `true` when there are no nodes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The number of nodes that are up.
    #[must_use]
    pub const fn up(&self) -> u32 {
        self.up
    }

    /// Returns `true` when node `n` is up.
    #[must_use]
    pub fn is_up(&self, n: u32) -> bool {
        self.members.get(n as usize).is_some_and(|m| m.up)
    }

    /// Who can reach node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn reach(&self, n: u32) -> Reach {
        self.members[n as usize].reach
    }

    /// The endpoint of node `n`, which can be reached if the node is open.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn addr(&self, n: u32) -> SocketAddr {
        (self.members[n as usize].public, PORT).into()
    }

    /// The device of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn host(&self, n: u32) -> DeviceId {
        self.members[n as usize].host
    }

    /// A random node that is up, other than the router.
    ///
    /// # Panics
    /// When there is none.
    pub fn random(&mut self) -> u32 {
        assert!(self.up > 1, "nobody but the router is there");
        let others = self.len() - 1;
        loop {
            let n = 1 + below(&mut self.dice, others);
            if self.is_up(n) {
                return n;
            }
        }
    }

    /// Calls node `n`, and sends the datagrams that it then has.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn node<R>(&mut self, n: u32, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
        let host = self.host(n);
        let done = (self.world).call(host, |light: &mut Light<Dht>, cx| light.with(cx, act));
        done.unwrap_or_else(|| unreachable!("every member is a node"))
    }

    /// The counters of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn stats(&self, n: u32) -> DhtStats {
        let light = self.world.host::<Light<Dht>>(self.host(n));
        light.map_or_else(DhtStats::default, |light| light.machine().stats())
    }

    /// Takes the last few events of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn events(&mut self, n: u32) -> Vec<DhtEvent> {
        let taken = self.world.call(self.host(n), |light: &mut Light<Dht>, _| {
            std::iter::from_fn(|| light.take_event()).collect()
        });
        taken.unwrap_or_default()
    }

    /// Runs for `time`, while nodes come and go.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    /// Runs until a time, like [`Swarm::run_for`].
    pub fn run_until(&mut self, until: Instant) {
        self.run_while(|_| true, until);
        self.world.run_until(until);
    }

    /// Runs like [`World::run_while`], while nodes come and go.
    pub fn run_while(&mut self, goes_on: impl Fn(&World) -> bool, until: Instant) -> bool {
        loop {
            let next = self.agenda.next_at().filter(|at| *at <= until);
            if self.world.run_while(&goes_on, next.unwrap_or(until)) {
                return true;
            }
            let Some(next) = next else {
                return false;
            };
            self.world.run_until(next);
            let due = |n: &u32| self.members[*n as usize].next == Some(next);
            match self.agenda.step().filter(due) {
                Some(n) if self.is_up(n) => self.go(n),
                Some(n) => self.come(n),
                None => {}
            }
        }
    }

    /// Switches node `n` on.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn come(&mut self, n: u32) {
        let router = self.addr(0);
        let member = &mut self.members[n as usize];
        if std::mem::replace(&mut member.up, true) {
            return;
        }
        let (host, old) = (member.host, std::mem::replace(&mut member.old, true));
        self.up += 1;
        self.world.perform(crate::world::Action::SwitchOn(host));
        self.node(n, |dht, cx| {
            if old {
                let saved = dht.save(cx.now);
                *dht = Dht::new(cx, dht.config().clone());
                dht.restore(cx, &saved);
            }
            dht.start(cx, PORT);
            if n > 0 {
                dht.add_contact(cx, router);
            }
        });
        self.plan_turn(n);
    }

    /// Switches node `n` off.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn go(&mut self, n: u32) {
        let member = &mut self.members[n as usize];
        if !std::mem::replace(&mut member.up, false) {
            return;
        }
        let host = member.host;
        self.up -= 1;
        self.node(n, Dht::stop);
        self.events(n);
        self.world.perform(crate::world::Action::SwitchOff(host));
        self.plan_turn(n);
    }

    /// Plans when a node goes again, or comes back.
    fn plan_turn(&mut self, n: u32) {
        self.members[n as usize].next = None;
        if let Some(median) = self.config.session
            && n > 0
        {
            let after = lognormal(&mut self.dice, median, self.config.session_sigma_milli);
            self.plan(n, after);
        }
    }

    fn plan(&mut self, n: u32, after: Duration) {
        let at = self.now() + after;
        self.members[n as usize].next = Some(at);
        self.agenda.plan(at, n);
    }

    /// Makes node `n` search, and runs until the search is done, for at most `patience`.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn search(&mut self, n: u32, goal: Goal, patience: Duration) -> Found {
        let mut found = Found::default();
        let began = self.now();
        let Ok(lookup) = self.node(n, |dht, cx| dht.search(cx, goal)) else {
            return found;
        };
        let host = self.host(n);
        let quiet = |w: &World| w.host(host).is_none_or(|l: &Light<Dht>| l.events() == 0);
        while found.done.is_none() {
            if !self.run_while(quiet, began + patience) {
                break;
            }
            self.heard(n, lookup, began, &mut found);
        }
        found
    }

    fn heard(&mut self, n: u32, lookup: LookupId, began: Instant, found: &mut Found) {
        let now = self.now().saturating_since(began);
        for event in self.events(n) {
            match event {
                DhtEvent::Peers { lookup: of, peers } if of == lookup => {
                    found.first.get_or_insert(now);
                    for peer in peers {
                        if !found.peers.contains(&peer) {
                            found.peers.push(peer);
                        }
                    }
                }
                DhtEvent::Done { lookup: of, report } if of == lookup => {
                    found.done = Some(now);
                    found.report = Some(report);
                }
                _ => {}
            }
        }
    }

    /// Makes node `n` announce itself for a torrent.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn announce(&mut self, n: u32, hash: InfoHash, patience: Duration) -> Found {
        let goal = Goal::Peers {
            hash,
            announce: Some(Announce {
                ports: Ports::both(PORT),
                implied: true,
                seed: true,
            }),
            scrape: false,
        };
        self.search(n, goal, patience)
    }

    /// Makes node `n` look for the peers of a torrent.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn find(&mut self, n: u32, hash: InfoHash, patience: Duration) -> Found {
        let goal = Goal::Peers {
            hash,
            announce: None,
            scrape: false,
        };
        self.search(n, goal, patience)
    }

    /// A random info-hash.
    pub fn hash(&mut self) -> InfoHash {
        let mut hash = InfoHash([0; 20]);
        self.dice.fill_bytes(&mut hash.0);
        hash
    }
}
