//! The service by itself: modes, names, owners and saves, without an engine and without a network, or with one other node.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use quickcheck::{Arbitrary, Gen, quickcheck};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::schedule::LINGER;
use super::*;
use crate::dht::{Contact, DhtConfig};
use crate::{Ecn, InfoHash, SocketId};

const T0: Instant = Instant::from_micros(1_000_000);
const MINUTE: Duration = Duration::from_secs(60);
const PORTS: Ports = Ports {
    v4: Some(6881),
    v6: None,
};

struct World {
    now: Instant,
    rng: ChaCha8Rng,
    service: Service<u32>,
}

impl World {
    fn new(config: ServiceConfig) -> Self {
        Self {
            now: T0,
            rng: ChaCha8Rng::seed_from_u64(1),
            service: Service::new(config),
        }
    }

    /// One that runs.
    fn started(config: ServiceConfig) -> Self {
        let mut world = Self::new(ServiceConfig {
            mode: DhtMode::On,
            ..config
        });
        world.service.begin();
        assert_eq!(world.events(), [ServiceEvent::Bind]);
        world.run(|service, cx| service.bound(cx, PORTS));
        world
    }

    fn run<R>(&mut self, f: impl FnOnce(&mut Service<u32>, &mut Cx<'_>) -> R) -> R {
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        f(&mut self.service, &mut cx)
    }

    fn events(&mut self) -> Vec<ServiceEvent<u32>> {
        core::iter::from_fn(|| self.service.poll_event()).collect()
    }

    /// Lets time pass; nothing that is sent arrives anywhere. Returns what was told, each with the time.
    fn pass(&mut self, time: Duration) -> Vec<(Duration, ServiceEvent<u32>)> {
        let (end, mut told) = (self.now + time, Vec::new());
        loop {
            let mut buf = [0; 1500];
            while self.run(|s, cx| s.poll_transmit(cx, &mut buf)).is_some() {}
            let at = self.now.saturating_since(T0);
            told.extend(self.events().into_iter().map(|event| (at, event)));
            match self.service.poll_timeout().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.run(Machine::handle_timeout);
        }
        self.now = end;
        told
    }

    fn search(&mut self, owner: u32) -> Result<LookupId, Full> {
        let goal = Goal::Peers {
            hash: InfoHash([7; 20]),
            announce: None,
            scrape: false,
        };
        self.run(|s, cx| s.search(cx, owner, goal))
    }

    /// Answers the look-ups that were asked for.
    fn answer(&mut self, events: &[ServiceEvent<u32>], found: Option<&[IpAddr]>) {
        for event in events {
            if let ServiceEvent::Resolve { name, wanted } = event {
                self.run(|s, cx| s.resolved(cx, name.port, *wanted, found));
            }
        }
    }
}

fn local() -> DhtConfig {
    DhtConfig {
        local: true,
        ..DhtConfig::default()
    }
}

fn names(count: u16) -> Vec<HostPort> {
    (1..=count)
        .map(|port| HostPort::new("node.example", port).unwrap())
        .collect()
}

fn ports_asked(events: &[ServiceEvent<u32>]) -> Vec<u16> {
    let asked = events.iter().filter_map(|event| match event {
        ServiceEvent::Resolve { name, .. } => Some(name.port),
        _ => None,
    });
    asked.collect()
}

/// Nodes of a cache, eight in each of a table's first buckets, which do not answer.
fn cache(count: u8) -> Saved {
    const OWN: NodeId = NodeId([0xaa; 20]);
    let contact = |n: u8| {
        let mut id = OWN;
        (id.0[0], id.0[19]) = (OWN.0[0] ^ (0x80 >> (n / 8)), n);
        let addr = ([127, 0, 0, n + 1], 6881).into();
        Contact { id, addr }
    };
    Saved {
        id: Some(OWN),
        nodes: (0..count).map(|n| (contact(n), 60)).collect(),
        ..Saved::default()
    }
}

fn outcome(event: &ServiceEvent<u32>) -> Option<(u32, Option<(Failure, Cause)>)> {
    match event {
        ServiceEvent::Answer {
            owner,
            event: DhtEvent::Done { report, .. },
        } => Some((*owner, report.failure)),
        _ => None,
    }
}

// ---- modes ----

#[test]
fn a_node_is_bound_started_saved_and_unbound() {
    let mut world = World::started(ServiceConfig::default());
    assert_eq!(world.service.ports(), Some(PORTS));
    world.events();
    world.run(|s, cx| s.set_mode(cx, DhtMode::Off));
    let events = world.events();
    let end = &events[events.len() - 3..];
    assert!(
        matches!(
            end,
            [
                ServiceEvent::Stopped,
                ServiceEvent::Save(_),
                ServiceEvent::Unbind
            ]
        ),
        "{events:?}"
    );
    assert!(events.contains(&ServiceEvent::Log(DhtLog::Stopping)));
    assert_eq!(world.service.ports(), None);
    assert_eq!(world.service.poll_timeout(), None);
    assert!(!world.service.has_transmit());
}

#[test]
fn auto_starts_for_whoever_needs_it_and_lingers_for_a_quarter_of_an_hour() {
    let mut world = World::new(ServiceConfig {
        mode: DhtMode::Auto,
        ..ServiceConfig::default()
    });
    world.service.begin();
    assert_eq!(world.events(), []);
    world.service.want();
    assert!(world.service.is_on());
    assert_eq!(world.events(), [ServiceEvent::Bind]);
    world.service.want();
    assert_eq!(world.events(), [], "once");
    world.run(|s, cx| s.bound(cx, PORTS));
    let told = world.pass(MINUTE);
    assert!(told.contains(&(MINUTE, ServiceEvent::IsUsed)), "{told:?}");

    // Somebody needs it again before the quarter is over, so it stays.
    world.service.unused(world.now);
    world.pass(14 * MINUTE);
    world.service.want();
    let stopped = |told: &[(Duration, ServiceEvent<u32>)]| {
        let mut told = told.iter();
        told.find(|(_, event)| *event == ServiceEvent::Stopped)
            .map(|(at, _)| *at)
    };
    assert_eq!(stopped(&world.pass(20 * MINUTE)), None);
    let unused = world.now.saturating_since(T0);
    world.service.unused(world.now);
    world.service.unused(world.now + MINUTE);
    assert_eq!(stopped(&world.pass(20 * MINUTE)), Some(unused + LINGER));
    assert_eq!(world.service.mode(), DhtMode::Auto);
}

#[test]
fn what_cannot_be_bound_switches_the_node_off() {
    let config = ServiceConfig {
        mode: DhtMode::On,
        ..ServiceConfig::default()
    };
    let mut world = World::new(config.clone());
    world.service.begin();
    world.service.not_bound();
    assert_eq!(world.events(), [ServiceEvent::Bind]);
    assert_eq!(world.service.mode(), DhtMode::Off);
    world.service.want();
    assert!(!world.service.is_on());

    let mut world = World::new(config);
    world.service.set_startable(false);
    world.service.begin();
    assert_eq!(world.events(), [], "it may not start");
}

#[test]
fn a_start_that_is_withdrawn_ignores_the_sockets_that_come_too_late() {
    let mut world = World::new(ServiceConfig {
        mode: DhtMode::On,
        ..ServiceConfig::default()
    });
    world.service.begin();
    world.run(|s, cx| s.set_mode(cx, DhtMode::Off));
    assert_eq!(world.events(), [ServiceEvent::Bind, ServiceEvent::Unbind]);
    world.run(|s, cx| s.bound(cx, PORTS));
    assert_eq!((world.service.ports(), world.events()), (None, vec![]));
}

// ---- names ----

#[test]
fn eight_names_are_looked_up_at_a_time_the_newest_first_and_the_others_in_the_next_round() {
    let mut world = World::started(ServiceConfig {
        resolve: true,
        bootstrap: names(12),
        ..ServiceConfig::default()
    });
    let events = world.events();
    assert_eq!(ports_asked(&events), [5, 6, 7, 8, 9, 10, 11, 12]);
    world.run(|s, cx| s.add_contacts(cx, names(3)));
    assert_eq!(ports_asked(&world.events()), [], "others are under way");
    world.answer(&events, None);
    world.run(|s, cx| s.add_contacts(cx, []));
    assert_eq!(ports_asked(&world.events()), [9, 10, 11, 12, 1, 2, 3, 4]);
}

#[test]
fn a_search_that_fails_because_no_name_has_an_address_says_so() {
    let config = || ServiceConfig {
        resolve: true,
        bootstrap: names(2),
        ..ServiceConfig::default()
    };
    for (found, cause) in [(None, Cause::Dns), (Some(&[][..]), Cause::NoContacts)] {
        let mut world = World::started(config());
        let events = world.events();
        world.answer(&events, found);
        world.search(5).unwrap();
        let told = world.pass(MINUTE);
        let ends: Vec<_> = told.iter().filter_map(|(_, e)| outcome(e)).collect();
        assert_eq!(ends, [(5, Some((Failure::NoNodes, cause)))]);
    }
}

#[test]
fn routers_are_asked_only_when_the_others_are_of_no_help() {
    let mut world = World::started(ServiceConfig {
        resolve: true,
        node: local(),
        routers: names(2),
        saved: Some(cache(8)),
        ..ServiceConfig::default()
    });
    assert_eq!(ports_asked(&world.events()), []);
    let told: Vec<_> = world.pass(MINUTE).into_iter().map(|(_, e)| e).collect();
    assert_eq!(ports_asked(&told), [1, 2], "none of the cache answers");
}

#[test]
fn a_node_that_is_added_is_pinged_or_remembered_for_the_start() {
    let mut world = World::new(ServiceConfig {
        node: local(),
        resolve: true,
        ..ServiceConfig::default()
    });
    let named = HostPort::new("node.example", 7).unwrap();
    world.run(|s, cx| s.add_node(cx, named.clone()));
    assert_eq!(world.events(), []);
    world.run(|s, cx| s.set_mode(cx, DhtMode::On));
    world.run(|s, cx| s.bound(cx, PORTS));
    let wanted = Wanted::Contact;
    let name = named.clone();
    assert!(
        world
            .events()
            .contains(&ServiceEvent::Resolve { name, wanted })
    );
    world.run(|s, cx| s.add_node(cx, named.clone()));
    let wanted = Wanted::Ping;
    assert_eq!(
        world.events(),
        [ServiceEvent::Resolve {
            name: named,
            wanted
        }]
    );
    let address = HostPort::new("127.0.0.9", 9).unwrap();
    world.run(|s, cx| s.add_node(cx, address));
    let mut buf = [0; 1500];
    let sent = world.run(|s, cx| s.poll_transmit(cx, &mut buf)).unwrap();
    assert_eq!(sent.dst, ([127, 0, 0, 9], 9).into());
}

// ---- owners ----

#[test]
fn answers_go_to_the_owner_and_who_withdraws_hears_nothing() {
    let mut world = World::started(ServiceConfig {
        node: local(),
        saved: Some(cache(9)),
        ..ServiceConfig::default()
    });
    let (first, second) = (world.search(1).unwrap(), world.search(2).unwrap());
    world.search(1).unwrap();
    let third = world.search(3).unwrap();
    assert_eq!(world.service.owner(second), Some(2));
    world.service.cancel(third);
    world.service.withdraw(1);
    assert_eq!(world.service.owner(first), None);
    let told = world.pass(MINUTE);
    let ends: Vec<_> = told.iter().filter_map(|(_, e)| outcome(e)).collect();
    assert_eq!(ends, [(2, Some((Failure::NoReplies, Cause::NoReplies)))]);
}

#[test]
fn searches_under_way_end_when_the_node_stops() {
    let mut world = World::started(ServiceConfig {
        node: local(),
        saved: Some(cache(9)),
        ..ServiceConfig::default()
    });
    world.search(4).unwrap();
    world.run(|s, cx| s.set_mode(cx, DhtMode::Off));
    let ends: Vec<_> = world.events().iter().filter_map(outcome).collect();
    assert_eq!(ends, [(4, Some((Failure::NoReplies, Cause::NoContacts)))]);
    assert_eq!(world.search(4), Err(Full));
}

#[test]
fn one_search_at_a_time_if_there_is_room_for_no_more() {
    let mut world = World::started(ServiceConfig {
        node: DhtConfig {
            max_lookups: 1,
            ..local()
        },
        saved: Some(cache(9)),
        ..ServiceConfig::default()
    });
    for owner in [1, 2, 2, 3] {
        world.service.request(world.now, owner);
    }
    let ready = |events: &[ServiceEvent<u32>]| {
        let of = |e: &ServiceEvent<u32>| match e {
            ServiceEvent::Ready(owner) => Some(*owner),
            _ => None,
        };
        events.iter().filter_map(of).collect::<Vec<_>>()
    };
    let mut order = Vec::new();
    while let Some(event) = world.service.poll_event() {
        if let ServiceEvent::Ready(owner) = event {
            order.push(owner);
            world.search(owner).unwrap();
        }
    }
    assert_eq!(order, [1], "the second waits");
    world.service.withdraw(2);
    let told: Vec<_> = world.pass(MINUTE).into_iter().map(|(_, e)| e).collect();
    assert_eq!(ready(&told), [3], "its turn comes, and that of none else");
}

#[test]
fn a_search_that_gathers_waits_for_nodes_but_no_longer_than_ten_seconds() {
    let mut world = World::started(ServiceConfig {
        node: local(),
        gather: true,
        ..ServiceConfig::default()
    });
    world.pass(MINUTE);
    world.service.request(world.now, 1);
    let told = world.pass(MINUTE);
    assert!(told.contains(&(MINUTE + Duration::from_secs(10), ServiceEvent::Ready(1))));
}

/// The service and one other node, which answers everything.
#[test]
fn a_node_that_answers_is_heard_of_after_a_search_failed_and_makes_others_begin() {
    let (here, there) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 2], 2).into());
    let mut world = World::started(ServiceConfig {
        node: local(),
        gather: true,
        ..ServiceConfig::default()
    });
    world.search(1).unwrap();
    let told = world.events();
    assert!(told.iter().any(|e| outcome(e).is_some()), "{told:?}");
    assert!(!told.contains(&ServiceEvent::Heard));
    world.service.request(world.now, 2);

    let mut other = world.run(|_, cx| Dht::new(cx, local()));
    world.run(|_, cx| other.start(cx, 2));
    let node = HostPort::from(there);
    world.run(|s, cx| s.add_contacts(cx, [node]));
    let meta = |from| RecvMeta {
        socket: SocketId::V4,
        from,
        local: None,
        ecn: Ecn::NotEct,
    };
    let (mut buf, mut told) = ([0; 1500], Vec::new());
    let begun = world.now;
    while !told.contains(&ServiceEvent::Ready(2)) {
        world.run(Machine::handle_timeout);
        while let Some(sent) = world.run(|s, cx| s.poll_transmit(cx, &mut buf)) {
            if sent.dst == there {
                world.run(|_, cx| other.handle_datagram(cx, &meta(here), &buf[..sent.len]));
            }
        }
        while let Some(sent) = world.run(|_, cx| other.poll_transmit(cx, &mut buf)) {
            world.run(|s, cx| s.handle_datagram(cx, &meta(there), &buf[..sent.len]));
        }
        told.extend(world.events());
        world.now = world.service.poll_timeout().unwrap().max(world.now);
        assert!(world.now < begun + Duration::from_secs(5), "{told:?}");
    }
    assert!(told.contains(&ServiceEvent::Heard));
    let waited = world.now.saturating_since(begun);
    assert!(
        waited >= Duration::from_millis(500),
        "others are waited for: {waited:?}"
    );
}

// ---- saving ----

#[test]
fn a_table_is_saved_every_twenty_minutes_and_a_minute_after_it_changed() {
    let saves = |nodes| {
        let mut world = World::started(ServiceConfig {
            node: local(),
            saved: Some(cache(nodes)),
            ..ServiceConfig::default()
        });
        let told = world.pass(41 * MINUTE);
        let saved = told.into_iter().filter_map(|(at, event)| match event {
            ServiceEvent::Save(_) => Some(at),
            _ => None,
        });
        saved.collect::<Vec<_>>()
    };
    // With few nodes the table is not usable, so that nothing is said of it.
    assert_eq!(saves(8), [20 * MINUTE, 40 * MINUTE]);
    // A usable table is looked after every 15 minutes, and changes by that.
    assert_eq!(saves(40), [16 * MINUTE, 31 * MINUTE]);
}

#[test]
fn what_is_saved_are_nodes_and_names_but_not_those_of_the_configuration() {
    let mut world = World::started(ServiceConfig {
        node: local(),
        resolve: true,
        routers: names(1),
        bootstrap: vec![HostPort::new("bootstrap.example", 1).unwrap()],
        saved: Some(cache(8)),
        ..ServiceConfig::default()
    });
    let added = HostPort::new("torrent.example", 2).unwrap();
    let contacts = [added.clone(), names(1).remove(0)];
    world.run(|s, cx| s.add_contacts(cx, contacts));
    let saved = world.service.save_now(world.now).unwrap();
    assert_eq!((saved.id, saved.nodes.len()), (Some(NodeId([0xaa; 20])), 8));
    assert_eq!(saved.contacts, [added]);
}

// ---- any order ----

#[derive(Clone, Copy, Debug)]
enum Operation {
    Mode(DhtMode),
    Want,
    Unused,
    Bound,
    NotBound,
    Request(u32),
    Search(u32),
    Withdraw(u32),
    Ping(u8),
    Pass(u16),
}

impl Arbitrary for Operation {
    fn arbitrary(g: &mut Gen) -> Self {
        let owner = u32::arbitrary(g) % 4;
        let modes = [DhtMode::Off, DhtMode::Auto, DhtMode::On];
        let all = [
            Self::Mode(*g.choose(&modes).unwrap()),
            Self::Want,
            Self::Unused,
            Self::Bound,
            Self::Bound,
            Self::NotBound,
            Self::Request(owner),
            Self::Search(owner),
            Self::Withdraw(owner),
            Self::Ping(u8::arbitrary(g) % 8 + 1),
            Self::Pass(u16::arbitrary(g) % 2000),
        ];
        *g.choose(&all).unwrap()
    }

    fn shrink(&self) -> alloc::boxed::Box<dyn Iterator<Item = Self>> {
        match *self {
            Self::Pass(seconds) => alloc::boxed::Box::new(seconds.shrink().map(Self::Pass)),
            _ => quickcheck::empty_shrinker(),
        }
    }
}

quickcheck! {
    /// Whatever is called, and in whatever order: sockets are bound and given back in turn, a search that began ends once
    /// unless its owner withdrew, and a timeout that was handled is over.
    fn any_order_is_legal(operations: Vec<Operation>) -> bool {
        let mut world = World::new(ServiceConfig {
            node: DhtConfig { max_lookups: 3, ..local() },
            mode: DhtMode::Auto,
            saved: Some(cache(9)),
            ..ServiceConfig::default()
        });
        let (mut held, mut open) = (false, BTreeSet::new());
        for operation in operations {
            let mut told = Vec::new();
            match operation {
                Operation::Mode(mode) => world.run(|s, cx| s.set_mode(cx, mode)),
                Operation::Want => world.service.want(),
                Operation::Unused => world.service.unused(world.now),
                Operation::Bound => world.run(|s, cx| s.bound(cx, PORTS)),
                Operation::NotBound => {
                    // Without a bound socket there is nothing to release.
                    held &= world.service.ports().is_some();
                    world.service.not_bound();
                }
                Operation::Request(owner) => world.service.request(world.now, owner),
                Operation::Search(owner) => {
                    if let Ok(lookup) = world.search(owner) {
                        open.insert((lookup, owner));
                    }
                }
                Operation::Withdraw(owner) => {
                    world.service.withdraw(owner);
                    open.retain(|(_, of)| *of != owner);
                }
                Operation::Ping(n) => {
                    let addr = ([127, 0, 0, n], 6881).into();
                    let _ = world.run(|s, cx| s.ping(cx, Some(9), addr));
                }
                Operation::Pass(seconds) => {
                    let events = world.pass(Duration::from_secs(seconds.into()));
                    told.extend(events.into_iter().map(|(_, event)| event));
                }
            }
            told.extend(world.events());
            for event in told {
                match event {
                    ServiceEvent::Bind => assert!(!core::mem::replace(&mut held, true)),
                    ServiceEvent::Unbind => assert!(core::mem::replace(&mut held, false)),
                    ServiceEvent::Answer { owner, event: DhtEvent::Done { lookup, .. } } => {
                        assert!(open.remove(&(lookup, owner)), "{lookup:?} of {owner}");
                    }
                    _ => {}
                }
            }
            if world.service.ports().is_none() {
                assert!(open.is_empty() && world.service.poll_timeout().is_none());
            }
        }
        true
    }
}
