//! One real node in a synthetic DHT, and the searches that it makes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Cx, InfoHash, Instant, NodeId as Key,
    dht::{Announce, Dht, DhtConfig, DhtEvent, DhtStats, Goal},
    net::Ports,
};
use rand_core::Rng;

use super::{
    space::{self, PORT},
    synthetic::{Kind, SyntheticConfig, SyntheticDht},
};
use crate::{host::light::Light, id::DeviceId, link::LinkConfig, rng::SimRng, world::World};

/// The longest time to wait for a search.
const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome of one search. Times are measured from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The time until the node reported the first peers.
    pub first_values: Option<Duration>,
    /// The time until the last of the closest live nodes had answered, if all of them did.
    pub closest: Option<Duration>,
    /// How many of the closest 8 live nodes answered.
    pub reached: u8,
    /// The honest nodes among the closest 8 live nodes: those that answered, and all.
    pub honest: (u8, u8),
    /// The time until the node reported the end of the search.
    pub done: Option<Duration>,
    /// Queries for the target.
    pub queries: u32,
    /// Queries for the target to dead nodes.
    pub dead: u32,
    /// Nodes that accepted an announce.
    pub announced: u32,
    /// The node considers the result suspicious.
    pub suspicious: bool,
}

/// A world with a synthetic DHT and a real node.
pub struct Trial {
    world: World,
    synthetic: DeviceId,
    node: DeviceId,
    addr: SocketAddr,
    dice: SimRng,
}

impl Trial {
    /// Creates a synthetic DHT, and a node with a public address that knows nobody yet.
    #[must_use]
    pub fn new(seed: u64, synthetic: SyntheticConfig, config: DhtConfig) -> Self {
        Self::of(seed, SyntheticDht::new(seed, synthetic), config)
    }

    /// Creates a trial with this synthetic DHT.
    #[must_use]
    pub fn of(seed: u64, synthetic: SyntheticDht, config: DhtConfig) -> Self {
        let mut world = World::new(seed);
        let mut dice = SimRng::part(seed, 4);
        let addr = loop {
            let addr = Ipv4Addr::from(dice.next_u32());
            if space::is_public(addr) && synthetic.space().at(addr).is_none() {
                break addr;
            }
        };
        let local = SocketAddr::from((addr, PORT));
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut dice,
        };
        let light = Light::new(Dht::new(&mut cx, config), local);
        let core = world.core();
        let addrs = synthetic.addresses();
        let synthetic = world.add_host(core, LinkConfig::perfect(), &addrs, synthetic);
        let node = world.add_host(core, LinkConfig::perfect(), &[IpAddr::V4(addr)], light);
        world.start();
        let mut trial = Self {
            world,
            synthetic,
            node,
            addr: local,
            dice,
        };
        trial.node(|dht, cx| dht.start(cx, PORT));
        trial
    }

    /// The world.
    pub const fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The synthetic DHT.
    ///
    /// # Panics
    /// Never, because every trial has one.
    #[must_use]
    pub fn synthetic(&self) -> &SyntheticDht {
        (self.world.host(self.synthetic))
            .unwrap_or_else(|| unreachable!("a trial has a synthetic DHT"))
    }

    /// Calls the synthetic DHT.
    pub fn synthetic_mut<R>(&mut self, act: impl FnOnce(&mut SyntheticDht) -> R) -> R {
        let done = (self.world).call(self.synthetic, |synthetic: &mut SyntheticDht, _| {
            act(synthetic)
        });
        done.unwrap_or_else(|| unreachable!("a trial has a synthetic DHT"))
    }

    /// The endpoint of the node.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Calls the node, and sends the datagrams that it then has.
    pub fn node<R>(&mut self, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
        let done = (self.world).call(self.node, |light: &mut Light<Dht>, cx| light.with(cx, act));
        done.unwrap_or_else(|| unreachable!("the node is there"))
    }

    /// The counters of the node.
    pub fn stats(&mut self) -> DhtStats {
        self.node(|dht, _| dht.stats())
    }

    /// Gives the node `contacts` live nodes to begin with, and runs for `time`. Returns how long it
    /// took until the node's table held `enough` nodes, if it did.
    pub fn warm(&mut self, contacts: usize, time: Duration, enough: u32) -> Option<Duration> {
        const STEP: Duration = Duration::from_millis(10);
        let began = self.world.now();
        for addr in self.synthetic().contacts(contacts) {
            self.node(|dht, cx| dht.add_contact(cx, addr));
        }
        let mut took = None;
        while took.is_none() && self.since(began) < time {
            self.world.run_until(began + self.since(began) + STEP);
            let known = self.stats().nodes;
            took = (known >= enough).then(|| self.since(began));
        }
        self.world.run_until(began + time);
        self.events();
        took
    }

    /// Searches for the peers of a random torrent, and runs until the search is done.
    pub fn search(&mut self, announce: bool) -> Search {
        let mut target = Key([0; 20]);
        self.dice.fill_bytes(&mut target.0);
        let track = self.synthetic_mut(|synthetic| synthetic.watch(&target));
        self.search_for(target, track, announce)
    }

    /// Searches for a target that is observed already under the number `track`.
    pub fn search_for(&mut self, target: Key, track: usize, announce: bool) -> Search {
        let node = self.node;
        let began = self.world.now();
        let goal = Goal::Peers {
            hash: InfoHash(target.0),
            announce: announce.then_some(Announce {
                ports: Ports::both(PORT),
                implied: false,
                seed: false,
            }),
            scrape: false,
        };
        let mut search = Search::default();
        let Ok(lookup) = self.node(|dht, cx| dht.search(cx, goal)) else {
            return search;
        };
        while search.done.is_none() && self.since(began) < PATIENCE {
            let quiet = |w: &World| w.host(node).is_none_or(|l: &Light<Dht>| l.events() == 0);
            self.world.run_while(quiet, began + PATIENCE);
            if quiet(&self.world) {
                break;
            }
            let now = self.since(began);
            for event in self.events() {
                match event {
                    DhtEvent::Peers { lookup: of, .. } if of == lookup => {
                        search.first_values.get_or_insert(now);
                    }
                    DhtEvent::Done { lookup: of, report } if of == lookup => {
                        search.done = Some(now);
                        search.suspicious = report.suspicious;
                    }
                    _ => {}
                }
            }
        }
        let synthetic = self.synthetic();
        let Some(track) = synthetic.track(track) else {
            return search;
        };
        for (n, at) in &track.closest {
            search.reached += u8::from(at.is_some());
            if synthetic.kind(*n) == Kind::Live {
                search.honest.0 += u8::from(at.is_some());
                search.honest.1 += 1;
            }
        }
        let last = track
            .closest
            .iter()
            .map(|(_, at)| *at)
            .collect::<Option<Vec<_>>>();
        let last = last.and_then(|all| all.into_iter().max());
        search.closest = last.map(|at| at.saturating_since(began));
        search.queries = track.queries;
        search.dead = track.dead;
        search.announced = track.announced;
        search
    }

    /// Makes `count` searches. Each begins `gap` after the one before, or when that one is done.
    /// `each` is called with their outcomes.
    pub fn searches(
        &mut self,
        count: u32,
        gap: Duration,
        announce: bool,
        mut each: impl FnMut(&Search),
    ) -> Vec<Search> {
        let mut all = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let began = self.world.now();
            let search = self.search(announce);
            each(&search);
            all.push(search);
            self.world.run_until(began + gap);
        }
        all
    }

    fn since(&self, began: Instant) -> Duration {
        self.world.now().saturating_since(began)
    }

    /// Takes the events of the node.
    pub fn events(&mut self) -> Vec<DhtEvent> {
        let taken = self.world.call(self.node, |light: &mut Light<Dht>, _| {
            std::iter::from_fn(|| light.take_event()).collect()
        });
        taken.unwrap_or_default()
    }
}
