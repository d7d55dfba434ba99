//! Attacks on a DHT node that need a network. Attacks on a node alone are tests of the core. Both
//! follow one numbered list of attacks.

#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Instant, NodeId as Key,
    dht::{Contact, DhtConfig, DhtEvent, DhtLog},
    wire::krpc::{self, Body, QueryOut, ReplyOut},
};
use dunlin_sim::{
    Action, Host, HostCx, LinkConfig, Packet, Scripted, SimRng,
    dht::{Reach, Swarm, SwarmConfig, SyntheticConfig, SyntheticDht, Trial, space},
};
use rand_core::Rng;

const PORT: u16 = space::PORT;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn config() -> SyntheticConfig {
    SyntheticConfig {
        nodes: 20_000,
        dead_ppm: 200_000,
        ..SyntheticConfig::default()
    }
}

/// A node that has bootstrapped among honest ones.
fn settled(synthetic: SyntheticDht) -> Trial {
    let mut trial = Trial::of(9, synthetic, DhtConfig::default());
    trial.warm(8, secs(180), 32).expect("it finds 32 nodes");
    trial
}

fn table(trial: &mut Trial) -> Vec<Contact> {
    trial.node(|dht, _| dht.nodes().collect())
}

/// 254 addresses of one /24, with or without ids that are derived from them.
fn subnet(net: [u8; 3], secure: bool) -> Vec<(Key, Ipv4Addr)> {
    let mut dice = SimRng::new(21);
    let [a, b, c] = net;
    (1..=254)
        .map(|d| Ipv4Addr::new(a, b, c, d))
        .map(|addr| (space::key_for(&mut dice, addr, secure), addr))
        .collect()
}

/// Attack 4: an attacker with one subnet gets at most one entry of a bucket, and searches are not
/// affected.
#[test]
fn a04_one_subnet_gets_one_seat_of_a_bucket() {
    let mut trial = Trial::of(9, SyntheticDht::new(9, config()), DhtConfig::default());
    let of_sybils = SyntheticDht::of_sybils(9, subnet([45, 77, 1], true));
    let of_sybils = of_sybils.querying(trial.addr(), Duration::from_millis(100));
    let (core, addrs) = (trial.world().core(), of_sybils.addresses());
    let of_sybils = trial
        .world()
        .add_host(core, LinkConfig::perfect(), &addrs, of_sybils);
    // The attacker has the empty table for itself at first.
    trial.world().run_for(secs(60));
    trial.warm(8, secs(20 * 60), 32).expect("it finds 32 nodes");
    let asked = trial.world().host::<SyntheticDht>(of_sybils);
    assert!(
        asked.expect("there").queries() > 0,
        "nobody of the of_sybils was even asked"
    );
    let own = trial.node(|dht, _| dht.id(false));
    let mut seats: BTreeMap<u32, u32> = BTreeMap::new();
    let table = table(&mut trial);
    for node in &table {
        if let IpAddr::V4(ip) = node.addr.ip()
            && ip.octets()[..3] == [45, 77, 1]
        {
            *seats.entry(own.common_prefix(&node.id)).or_default() += 1;
        }
    }
    let taken: u32 = seats.values().sum();
    println!(
        "{taken} of {} nodes are the attacker's: {seats:?}",
        table.len()
    );
    assert!(seats.values().all(|n| *n <= 1), "{seats:?}");
    assert!(
        taken as usize * 5 <= table.len(),
        "{seats:?} of {}",
        table.len()
    );
    let searches = trial.searches(20, secs(4), false, |_| {});
    assert!(
        searches.iter().all(|s| s.first_values.is_some()),
        "{searches:?}"
    );
}

/// Attack 5: an attacker with many subnets has nodes closer to a hash than any honest node.
#[test]
fn a05_a_hash_that_is_surrounded_is_found_and_announced_all_the_same() {
    let mut dice = SimRng::new(31);
    let mut target = Key([0; 20]);
    dice.fill_bytes(&mut target.0);
    // BEP 42 derives no such ids from any address.
    let sybil = |n: u8| {
        let mut key = target;
        dice.fill_bytes(&mut key.0[8..]);
        (key, Ipv4Addr::new(60 + n, 9, n, 7))
    };
    let sybils: Vec<_> = (0..20).map(sybil).collect();
    let mut trial = settled(SyntheticDht::with_sybils(9, config(), &sybils));
    // The node learns the size of the network.
    trial.searches(12, secs(4), false, |_| {});
    let track = trial.synthetic_mut(|synthetic| synthetic.watch_honest(&target));
    let search = trial.search_for(target, track, true);
    println!("{search:?}");
    assert!(search.first_values.is_some(), "{search:?}");
    assert!(search.honest.0 >= 1 && search.announced >= 1, "{search:?}");
    assert!(search.suspicious, "{search:?}");
}

/// Attack 9: queries from very many sources fill no table beyond its limit, and the packets sent
/// for them stay within the budget.
#[test]
fn a09_a_flood_from_very_many_sources_costs_what_the_caps_say() {
    let mut trial = settled(SyntheticDht::new(9, config()));
    let flood = SyntheticConfig {
        nodes: 20_000,
        ..SyntheticConfig::default()
    };
    let flood = SyntheticDht::new(77, flood).querying(trial.addr(), Duration::from_millis(2));
    let (core, addrs) = (trial.world().core(), flood.addresses());
    let taken = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => trial.synthetic().space().at(*ip).is_some(),
        IpAddr::V6(_) => true,
    };
    assert!(
        !addrs.iter().any(taken),
        "two farms share an address: another seed"
    );
    let flood = trial
        .world()
        .add_host(core, LinkConfig::perfect(), &addrs, flood);
    let before = trial.stats();
    trial.world().run_for(secs(60));
    let after = trial.stats();
    let config = DhtConfig::default();
    let replies = trial
        .world()
        .host::<SyntheticDht>(flood)
        .expect("there")
        .replies();
    let asked = after.queries_received - before.queries_received;
    println!("{asked} queries in a minute, {replies} answered, {after:?}");
    assert!(asked > 25_000);
    // A remote that queries the node has an entry in the NAT already; one that the node queries on
    // its own gets a new one.
    let budget = config.new_remote_budget.expect("there is one");
    let sent = after.queries_sent - before.queries_sent;
    let allowed = config.new_remote_burst + 61 * budget;
    assert!(sent <= u64::from(allowed), "{sent} queries");
    let (read, written) = (
        after.bytes_read - before.bytes_read,
        after.bytes_written - before.bytes_written,
    );
    assert!(written * 10 <= read * 32, "{written} bytes for {read}");
    assert!(after.pending <= config.max_queries.into(), "{after:?}");
    assert!(
        after.nodes <= u32::from(config.max_buckets) * 8,
        "{after:?}"
    );
    // Afterwards everything is as before.
    trial.world().perform(Action::SwitchOff(flood));
    trial.world().run_for(secs(30));
    let searches = trial.searches(20, secs(4), false, |_| {});
    assert!(
        searches.iter().all(|s| s.first_values.is_some()),
        "{searches:?}"
    );
}

/// Attack 10: a router that restarts gives the node another port, or another address.
#[test]
fn a10_a_new_external_address_keeps_the_table() {
    let mut swarm = Swarm::new(5, SwarmConfig::new(300));
    swarm.run_for(secs(6 * 60));
    let symmetric = (1..swarm.len()).find(|n| swarm.reach(*n) == Reach::Symmetric);
    let n = symmetric.expect("there is one");
    let before = swarm.stats(n);
    let host = swarm.host(n);
    let nat = swarm.world().parent(host).expect("its NAT");
    swarm.world().perform(Action::Reboot(nat));
    swarm.run_for(secs(35));
    let (giver, hash) = (swarm.random(), swarm.hash());
    swarm.announce(giver, hash, secs(30));
    let found = swarm.find(n, hash, secs(30));
    let after = swarm.stats(n);
    assert!(!found.peers.is_empty(), "{found:?}");
    assert!(after.nodes + 4 >= before.nodes, "{before:?} {after:?}");
}

/// Attack 12: a new node is told only about nodes of one operator.
#[test]
fn a12_a_captured_bootstrap_is_not_taken_for_a_network() {
    let mut dice = SimRng::new(41);
    let of_sybils: Vec<(Key, Ipv4Addr)> = (0..=255)
        .flat_map(|c| [7, 99].map(|d| Ipv4Addr::new(77, 3, c, d)))
        .map(|addr| (space::key_for(&mut dice, addr, true), addr))
        .collect();
    let gate = SocketAddr::from((of_sybils[0].1, PORT));
    for honest in [false, true] {
        let mut trial = Trial::of(9, SyntheticDht::new(9, config()), DhtConfig::default());
        let synthetic = SyntheticDht::of_sybils(9, of_sybils.clone());
        let (core, addrs) = (trial.world().core(), synthetic.addresses());
        trial
            .world()
            .add_host(core, LinkConfig::perfect(), &addrs, synthetic);
        trial.node(|dht, cx| dht.add_contact(cx, gate));
        if honest {
            let contact = trial.synthetic().contacts(1)[0];
            trial.node(|dht, cx| dht.add_contact(cx, contact));
        }
        trial.world().run_for(secs(10 * 60));
        let ready = |e: &DhtEvent| matches!(e, DhtEvent::Log(DhtLog::Bootstrapped { .. }));
        let bootstrapped = trial.events().iter().any(ready);
        assert_eq!(bootstrapped, honest);
        let handed = handed_out(&mut trial);
        println!("honest contact: {honest}; {handed} nodes handed out");
        if honest {
            let searches = trial.searches(10, secs(4), false, |_| {});
            assert!(
                searches.iter().all(|s| s.first_values.is_some()),
                "{searches:?}"
            );
        } else {
            assert_eq!(handed, 0, "what was told by one operator is handed on");
        }
    }
}

/// The number of nodes that the node returns to a stranger.
fn handed_out(trial: &mut Trial) -> usize {
    let (stranger, to) = (SocketAddr::from(([81, 2, 3, 4], PORT)), trial.addr());
    let mut buf = [0; 200];
    let target = trial.node(|dht, _| dht.id(false));
    let query = QueryOut::FindNode { target, want: None };
    let len = krpc::query(&mut buf, b"zz", &Key([3; 20]), true, &query).expect("it fits");
    let at = trial.world().now();
    let asker = Scripted::new().send(at, Packet::udp(stranger, to, &buf[..len]));
    let core = trial.world().core();
    let asker = trial
        .world()
        .add_host(core, LinkConfig::perfect(), &[stranger.ip()], asker);
    trial.world().run_for(secs(2));
    let got = trial
        .world()
        .host::<Scripted>(asker)
        .expect("there")
        .received();
    let replies = got
        .iter()
        .filter_map(|(_, p)| match krpc::parse(p.payload()).ok()?.body {
            Body::Reply(reply) => Some(reply.nodes.len() / krpc::COMPACT_V4),
            _ => None,
        });
    replies.max().expect("an answer")
}

/// Sends packets with spoofed sources: queries and replies.
struct Spoofer {
    victim: SocketAddr,
    /// The nodes whose addresses it spoofs.
    known: Vec<Contact>,
    left: u32,
    every: Duration,
    next: Instant,
}

impl Spoofer {
    fn lie(&self, cx: &mut HostCx<'_>) -> Option<Packet> {
        let mut key = Key([0; 20]);
        cx.rng.fill_bytes(&mut key.0);
        let lot = cx.rng.next_u32();
        let stranger = SocketAddr::from((public(cx.rng), PORT));
        let known = self.known.get(lot as usize % self.known.len())?;
        let mut buf = [0; 400];
        let tid = cx.rng.next_u32().to_be_bytes();
        let query = QueryOut::FindNode {
            target: key,
            want: None,
        };
        let (src, len) = match lot >> 16 & 3 {
            // An unknown node at any address.
            0 => (stranger, krpc::query(&mut buf, &tid, &key, false, &query)?),
            // A known node at another address.
            1 => (
                stranger,
                krpc::query(&mut buf, &tid, &known.id, false, &query)?,
            ),
            // A known node with another id.
            2 => (
                known.addr,
                krpc::query(&mut buf, &tid, &key, false, &query)?,
            ),
            // A reply that nobody asked for.
            _ => {
                let reply = ReplyOut::default();
                (
                    known.addr,
                    krpc::reply(&mut buf, &tid, &key, &self.victim, &reply)?,
                )
            }
        };
        Some(Packet::udp(src, self.victim, &buf[..len]))
    }
}

fn public(dice: &mut dyn Rng) -> Ipv4Addr {
    loop {
        let addr = Ipv4Addr::from(dice.next_u32());
        if space::is_public(addr) {
            return addr;
        }
    }
}

impl Host for Spoofer {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if let Some(packet) = self.lie(cx) {
            cx.send(packet);
        }
        self.left -= 1;
        self.next = cx.now + self.every;
    }

    fn next_wake(&self) -> Option<Instant> {
        (self.left > 0).then_some(self.next)
    }
}

/// Attacks 1 and 2: spoofed packets neither add nor remove a node.
fn spoofed(packets: u32) {
    let honest = SyntheticConfig {
        dead_ppm: 0,
        ..config()
    };
    let mut trial = settled(SyntheticDht::new(9, honest));
    let before = table(&mut trial);
    let spoofer = Spoofer {
        victim: trial.addr(),
        known: before.clone(),
        left: packets,
        every: Duration::from_millis(1),
        next: trial.world().now(),
    };
    let core = trial.world().core();
    let addr = Ipv4Addr::new(198, 51, 100, 66).into();
    trial
        .world()
        .add_host(core, LinkConfig::perfect(), &[addr], spoofer);
    let received = trial.stats().queries_received;
    trial.world().run_for(secs(u64::from(packets) / 1_000 + 30));
    assert!(trial.stats().queries_received - received > u64::from(packets / 2));
    let after = table(&mut trial);
    for node in &before {
        assert!(after.contains(node), "{node:?} was lost");
    }
    for node in &after {
        let SocketAddr::V4(addr) = node.addr else {
            panic!("{node:?}");
        };
        let true_key = trial.synthetic().space().at(*addr.ip());
        let true_key = true_key.map(|n| *trial.synthetic().space().key(n));
        assert_eq!((true_key, addr.port()), (Some(node.id), PORT));
    }
}

#[test]
fn a01_a02_spoofed_packets_change_no_table() {
    spoofed(30_000);
}

#[test]
#[ignore = "a million packets: for a release build, see tests/run"]
fn in_full_a_million_spoofed_packets_change_no_table() {
    spoofed(1_000_000);
}
