//! Whole nodes on a network in memory: a delay, and nothing else.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

mod client;
mod server;
mod silence;
mod small;
mod using_dht;

use super::*;
use crate::dht::{Announce, Failure, LookupReport};
use crate::net::Ports;
use crate::wire::krpc::{Method, QueryOut};
use crate::{Ecn, InfoHash, SocketId};

/// One way between any two nodes.
const DELAY: Duration = Duration::from_millis(20);

/// Nodes, and datagrams under way.
struct Net {
    now: Instant,
    rng: ChaCha8Rng,
    nodes: Vec<(SocketAddr, Dht)>,
    by_addr: BTreeMap<SocketAddr, usize>,
    /// When each node wants to be called.
    timers: BTreeSet<(Instant, usize)>,
    timer_of: Vec<Option<Instant>>,
    /// In order of arrival: when, to, from, what.
    flying: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Nothing arrives.
    down: bool,
    /// The platform refuses whatever is to leave for this family; `true` is IPv6.
    refused: Option<bool>,
    /// A node that hears replies only.
    deaf: Option<usize>,
    /// Whose queries are counted.
    watch: Option<SocketAddr>,
    asked: u64,
    sent: u64,
}

/// Every node in a network of its own.
fn addr(n: usize) -> SocketAddr {
    let [a, b] = (n as u16 + 1).to_be_bytes();
    SocketAddr::from(([11 + b % 80, b, a, 1], 6881))
}

/// The id with which a sender at `addr` that is not a node speaks.
fn stranger(addr: SocketAddr) -> NodeId {
    let mut id = [0x77; 20];
    if let core::net::IpAddr::V4(ip) = addr.ip() {
        id[..4].copy_from_slice(&ip.octets());
    }
    id[4..6].copy_from_slice(&addr.port().to_be_bytes());
    NodeId(id)
}

impl Net {
    fn new(count: usize, config: &DhtConfig) -> Self {
        let mut net = Self {
            now: Instant::from_micros(1_000_000),
            rng: ChaCha8Rng::seed_from_u64(7),
            nodes: Vec::new(),
            by_addr: BTreeMap::new(),
            timers: BTreeSet::new(),
            timer_of: Vec::new(),
            flying: VecDeque::new(),
            down: false,
            refused: None,
            deaf: None,
            watch: None,
            asked: 0,
            sent: 0,
        };
        for _ in 0..count {
            net.add(config);
        }
        net
    }

    fn add(&mut self, config: &DhtConfig) {
        let n = self.nodes.len();
        let mut dht = self.with_cx(|cx| Dht::new(cx, config.clone()));
        self.with_cx(|cx| dht.start(cx, 6881));
        self.by_addr.insert(addr(n), n);
        self.nodes.push((addr(n), dht));
        self.timer_of.push(None);
        self.flush(n);
    }

    fn replace(&mut self, n: usize, dht: Dht) {
        self.nodes[n].1 = dht;
        self.flush(n);
    }

    fn with_cx<R>(&mut self, act: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        act(&mut Cx {
            now: self.now,
            rng: &mut self.rng,
        })
    }

    fn with<R>(&mut self, n: usize, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        let result = act(&mut self.nodes[n].1, &mut cx);
        self.flush(n);
        result
    }

    fn flush(&mut self, n: usize) {
        let (from, dht) = &mut self.nodes[n];
        let mut buf = [0; 1500];
        let mut cx = Cx {
            now: self.now,
            rng: &mut self.rng,
        };
        while let Some(transmit) = dht.poll_transmit(&mut cx, &mut buf) {
            self.sent += 1;
            if self.refused == Some(transmit.dst.is_ipv6()) {
                dht.send_failed(&mut cx, transmit.dst);
            } else if !self.down {
                let data = buf[..transmit.len].to_vec();
                self.flying
                    .push_back((self.now + DELAY, transmit.dst, *from, data));
            }
        }
        let next = dht.poll_timeout();
        if let Some(old) = core::mem::replace(&mut self.timer_of[n], next) {
            self.timers.remove(&(old, n));
        }
        self.timers.extend(next.map(|at| (at, n)));
    }

    fn time_out(&mut self, n: usize) {
        self.with(n, Machine::handle_timeout);
        let next = self.nodes[n].1.poll_timeout();
        let late = next.is_none_or(|at| at > self.now);
        assert!(late, "law 3: {next:?} is not later than {:?}", self.now);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for n in 0..self.nodes.len() {
            self.time_out(n);
        }
        loop {
            let timer = self.timers.first().map(|(at, _)| *at);
            let arrival = self.flying.front().map(|f| f.0);
            let next = timer.into_iter().chain(arrival).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            while self.flying.front().is_some_and(|f| f.0 <= self.now) {
                let (_, to, from, data) = self.flying.pop_front().unwrap();
                self.asked += u64::from(self.watch == Some(to));
                let query = || matches!(krpc::parse(&data).unwrap().body, Body::Query(..));
                let hears = |n: &usize| self.deaf != Some(*n) || !query();
                if let Some(n) = self.by_addr.get(&to).copied().filter(hears) {
                    let meta = RecvMeta {
                        socket: SocketId::V4,
                        from,
                        local: None,
                        ecn: Ecn::NotEct,
                    };
                    self.with(n, |dht, cx| dht.handle_datagram(cx, &meta, &data));
                }
            }
            while let Some((_, n)) = self.timers.first().copied().filter(|t| t.0 <= self.now) {
                self.time_out(n);
            }
        }
        self.now = self.now.max(end);
    }

    /// Sends a query to node `n` from an endpoint that is not a node; what it sends back there.
    fn ask(&mut self, n: usize, from: SocketAddr, query: &QueryOut<'_>) -> Option<Vec<u8>> {
        let mut buf = [0; 1500];
        let len = krpc::query(&mut buf, b"tt", &stranger(from), false, query).unwrap();
        self.tell(n, from, &buf[..len])
    }

    /// The same with any bytes.
    fn tell(&mut self, n: usize, from: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let meta = RecvMeta {
            socket: SocketId::V4,
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        self.with(n, |dht, cx| dht.handle_datagram(cx, &meta, data));
        // A ping of ours may be on its way there too.
        let reply = |f: &(Instant, SocketAddr, SocketAddr, Vec<u8>)| {
            f.1 == from && !matches!(krpc::parse(&f.3).unwrap().body, Body::Query(..))
        };
        let at = self.flying.iter().position(reply)?;
        self.flying.remove(at).map(|f| f.3)
    }

    fn log(&mut self, n: usize) -> Vec<DhtLog> {
        let log = |event| match event {
            DhtEvent::Log(log) => Some(log),
            _ => None,
        };
        self.events(n).into_iter().filter_map(log).collect()
    }

    fn report(&mut self, n: usize) -> LookupReport {
        let report = |event| match event {
            DhtEvent::Done { report, .. } => Some(report),
            _ => None,
        };
        self.events(n)
            .into_iter()
            .find_map(report)
            .expect("a search is over")
    }

    fn events(&mut self, n: usize) -> Vec<DhtEvent> {
        core::iter::from_fn(|| self.nodes[n].1.poll_event()).collect()
    }

    /// A network in which everybody began with node 0.
    fn formed(count: usize, config: &DhtConfig) -> Self {
        let mut net = Self::new(count, config);
        for n in 1..count {
            net.with(n, |dht, cx| dht.add_contact(cx, addr(0)));
        }
        net.run(Duration::from_secs(20));
        net
    }
}

/// The reply that a datagram is.
fn reply(data: &[u8]) -> krpc::Reply<'_> {
    match krpc::parse(data).expect("sound").body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn peers(hash: u8, announce: Option<u16>) -> Goal {
    let announce = announce.map(|port| Announce {
        ports: Ports::both(port),
        implied: false,
        seed: false,
    });
    Goal::Peers {
        hash: InfoHash([hash; 20]),
        announce,
        scrape: false,
    }
}

#[test]
fn a_network_forms_from_one_node_and_says_so() {
    let mut net = Net::formed(140, &DhtConfig::default());
    for n in 0..140 {
        let stats = net.nodes[n].1.stats();
        assert!(stats.nodes >= 32, "node {n} knows {}", stats.nodes);
    }
    let log: Vec<_> = net
        .events(5)
        .into_iter()
        .filter_map(|e| {
            if let DhtEvent::Log(log) = e {
                Some(log.to_string())
            } else {
                None
            }
        })
        .collect();
    assert_eq!(log[0], "Starting DHT server on port 6881.");
    assert!(
        log[1].starts_with("DHT bootstrap complete, have 32 nodes in "),
        "{log:?}"
    );
}

#[test]
fn what_one_announces_another_finds() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let announce = net.with(3, |dht, cx| dht.search(cx, peers(9, Some(4000))).unwrap());
    net.run(Duration::from_secs(5));
    let report = net.events(3).into_iter().find_map(|e| match e {
        DhtEvent::Done { lookup, report } if lookup == announce => Some(report),
        _ => None,
    });
    let report = report.expect("the announce is over");
    assert_eq!(report.failure, None);
    assert_eq!((report.stores, report.stored), (8, 8), "{report:?}");

    net.with(40, |dht, cx| dht.search(cx, peers(9, None)).unwrap());
    net.run(Duration::from_secs(5));
    let found = net.events(40).into_iter().find_map(|e| match e {
        DhtEvent::Peers { peers, .. } => Some(peers),
        _ => None,
    });
    assert_eq!(found, Some(vec![SocketAddr::new(addr(3).ip(), 4000)]));
}

#[test]
fn nodes_of_a_family_without_a_port_are_not_told_of_us() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let announced = |net: &mut Net, ports, implied| {
        let announce = Some(Announce {
            ports,
            implied,
            seed: false,
        });
        let goal = Goal::Peers {
            hash: InfoHash([8; 20]),
            announce,
            scrape: false,
        };
        net.with(3, |dht, cx| dht.search(cx, goal).unwrap());
        net.run(Duration::from_secs(5));
        let over = net.events(3).into_iter().find_map(|e| match e {
            DhtEvent::Done { report, .. } => Some((report.stores, report.stored, report.failure)),
            _ => None,
        });
        over.expect("the announce is over")
    };
    // The network is one of IPv4.
    let v6 = Ports {
        v4: None,
        v6: Some(4000),
    };
    assert_eq!(announced(&mut net, v6, false), (0, 0, None));
    assert_eq!(announced(&mut net, Ports::default(), false), (0, 0, None));
    let v4 = Ports {
        v4: Some(4000),
        v6: None,
    };
    assert_eq!(announced(&mut net, v4, false), (8, 8, None));
    // The port that a datagram comes from is there in any case.
    assert_eq!(announced(&mut net, Ports::default(), true), (8, 8, None));
}

#[test]
fn nobody_to_ask_is_said_with_its_cause() {
    let mut net = Net::new(1, &DhtConfig::default());
    net.with(0, |dht, cx| dht.search(cx, peers(1, Some(1))).unwrap());
    net.run(Duration::from_secs(1));
    let events = net.events(0);
    let failure = events.iter().find_map(|e| match e {
        DhtEvent::Done { report, .. } => report.failure,
        _ => None,
    });
    let (failure, cause) = failure.expect("it failed");
    assert_eq!(
        (failure, cause),
        (Failure::NoNodes, super::super::Cause::NoContacts)
    );
    assert_eq!(
        failure.to_string(),
        "No DHT nodes available for peer search."
    );
    assert!(events.contains(&DhtEvent::NeedContacts { v6: false }));
}

#[test]
fn an_outage_costs_no_node() {
    let mut net = Net::formed(60, &DhtConfig::default());
    let before: Vec<u32> = net.nodes.iter().map(|(_, d)| d.stats().nodes).collect();
    net.down = true;
    net.run(Duration::from_secs(600));
    net.down = false;
    let after: Vec<u32> = net.nodes.iter().map(|(_, d)| d.stats().nodes).collect();
    assert_eq!(before, after);
}

#[test]
fn a_stopped_node_is_silent() {
    let mut net = Net::formed(40, &DhtConfig::default());
    net.with(7, Dht::stop);
    let sent = net.sent;
    let meta = RecvMeta {
        socket: SocketId::V4,
        from: addr(1),
        local: None,
        ecn: Ecn::NotEct,
    };
    let query = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let handled = net.with(7, |dht, cx| dht.handle_datagram(cx, &meta, query));
    assert_eq!((handled, net.sent), (Handled::NotMine, sent));
    assert_eq!(net.nodes[7].1.stats(), DhtStats::default());
    assert!(net.nodes[7].1.nodes().next().is_some(), "the table is kept");
}
