//! The household router: a DHT node and the flows of 200 peers are behind a NAT table of 1 024
//! entries, together with other users, who must not be affected.
//!
//! # The size of the table
//!
//! A datagram to an endpoint for which the NAT has no entry creates one, which lives for 30 s
//! (`nf_conntrack_udp_timeout`). If the entry is used again more than 2 s after its creation, and
//! was answered, it lives for 180 s from then on (`nf_conntrack_udp_timeout_stream`; 120 s in newer
//! kernels). A search queries some 38 nodes and then announces to 8 of them. While many searches
//! share the budget, each takes longer than 2 s, so those 8 entries live for 180 s.
//!
//! | who | entries, sustained | with 12 new remotes a second |
//! |---|---|---|
//! | nodes queried once: 30/38 of the rate, for 30 s | 24 × rate | 284 |
//! | nodes announced to: 8/38 of the rate, for 180 s | 38 × rate | 455 |
//! | peers: 200, and those that left within 180 s | 206 | 206 |
//! | the other users: a new flow every 5 s, for 30 s | 8 | 8 |
//! | strangers that query: one every half second, for 30 s | 60 | 60 |
//!
//! The sum, 1 013, would be reached only if the announces never paused. The burst of 100 is
//! subtracted from what is sustained later. Measured with 60 torrents, which announce at once and
//! then every 20 minutes, the peak was 1 024 (full) with 25 new remotes a second, 835 with 15, and
//! 635 with 10; with 300 torrents it was full, 989 and 670. Hence the default of 12.

#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::{
    Cx, InfoHash, Instant, NodeId as Key,
    dht::{Announce, Dht, DhtConfig, DhtEvent, Goal},
};
use dunlin_sim::{
    BoxConfig, DeviceId, Host, HostCx, Light, LinkConfig, Packet, Proto, SimRng, TcpFlags, World,
    dht::{SyntheticConfig, SyntheticDht},
    middlebox::{
        conntrack::Timeouts,
        nat::{Full, Nat, NatConfig, NatStats, presets},
    },
};
use rand_core::Rng;

const PORT: u16 = 6_881;
const PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const PEERS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 3);
const BYSTANDER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 4);
/// The server that answers peers and the other users.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const STRANGERS: u32 = 8_000;
/// The interval between announces of a torrent.
const INTERVAL: Duration = Duration::from_secs(20 * 60);

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A conversation: a line is sent at intervals, and an answer is expected.
struct Talk {
    proto: Proto,
    local: SocketAddr,
    remote: SocketAddr,
    /// The time from one line to the next.
    every: Duration,
    /// The number of lines, and the pause before a new flow begins.
    then: Option<(u32, Duration)>,
    next: Instant,
    /// For TCP, the next sequence numbers of both sides; `None` until the handshake is finished.
    numbers: Option<(u32, u32)>,
    lines: u32,
    sent: u64,
    answered: u64,
}

impl Talk {
    fn new(proto: Proto, local: (Ipv4Addr, u16), port: u16, every: Duration) -> Self {
        Self {
            proto,
            local: local.into(),
            remote: (SERVER, port).into(),
            every,
            then: None,
            next: Instant::ORIGIN,
            numbers: None,
            lines: 0,
            sent: 0,
            answered: 0,
        }
    }

    fn speak(&mut self, cx: &mut HostCx<'_>) {
        const LINE: [u8; 40] = [7; 40];
        if self.then.is_some_and(|(lines, _)| self.lines >= lines) {
            // Both sides begin another flow.
            self.lines = 0;
            for end in [&mut self.local, &mut self.remote] {
                end.set_port(1_024 + (end.port() + 1 - 1_024) % 60_000);
            }
        }
        match (self.proto, &mut self.numbers) {
            (Proto::Tcp, None) => {
                let syn = Packet::tcp(self.local, self.remote, TcpFlags::SYN, 1_000, 0, b"");
                cx.send(syn);
                self.next = cx.now + secs(1);
                return;
            }
            (Proto::Tcp, Some((mine, theirs))) => {
                let flags = TcpFlags::PSH.with(TcpFlags::ACK);
                cx.send(Packet::tcp(
                    self.local,
                    self.remote,
                    flags,
                    *mine,
                    *theirs,
                    &LINE,
                ));
                *mine += LINE.len() as u32;
            }
            _ => cx.send_udp(self.local, self.remote, &LINE),
        }
        self.sent += 1;
        self.lines += 1;
        let over = self.then.filter(|(lines, _)| self.lines >= *lines);
        self.next = cx.now + over.map_or(self.every, |(_, pause)| pause);
    }

    fn hear(&mut self, cx: &mut HostCx<'_>, packet: &Packet) {
        let flags = packet.flow().flags;
        let Some((seq, _)) = packet.tcp_numbers() else {
            self.answered += 1;
            return;
        };
        if flags.has(TcpFlags::SYN) {
            self.numbers = Some((1_001, seq + 1));
            let ack = Packet::tcp(self.local, self.remote, TcpFlags::ACK, 1_001, seq + 1, b"");
            cx.send(ack);
        } else if let Some((_, theirs)) = &mut self.numbers {
            let len = packet.payload().len() as u32;
            *theirs = seq + len;
            self.answered += u64::from(len > 0);
        }
        // A router gives a connection that waits for an acknowledgement five minutes.
        if let (true, Some((mine, theirs))) = (!packet.payload().is_empty(), self.numbers) {
            let flags = TcpFlags::ACK;
            cx.send(Packet::tcp(
                self.local,
                self.remote,
                flags,
                mine,
                theirs,
                b"",
            ));
        }
    }
}

/// A host with conversations.
struct Talker(Vec<Talk>);

impl Host for Talker {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let of = |t: &&mut Talk| t.proto == flow.proto && t.local.port() == flow.dst.port();
        if let Some(talk) = self.0.iter_mut().find(of) {
            talk.hear(cx, &packet);
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        for talk in &mut self.0 {
            if talk.next <= cx.now {
                talk.speak(cx);
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.0.iter().map(|t| t.next).min()
    }
}

/// Answers every line, on TCP after a while: the output of a quiet session can arrive at any time,
/// and needs its entry.
struct Server {
    /// The next sequence numbers of both sides, by flow.
    numbers: BTreeMap<(SocketAddr, SocketAddr), (u32, u32)>,
    late: BTreeMap<(Instant, u64), Packet>,
    count: u64,
    /// The delay of answers on a port.
    thinks: (u16, Duration),
}

impl Host for Server {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let (to, from) = (flow.src, flow.dst);
        let Some((seq, _)) = packet.tcp_numbers() else {
            if flow.proto == Proto::Udp {
                cx.send_udp(from, to, packet.payload());
            }
            return cx.recycle(packet);
        };
        if flow.flags.has(TcpFlags::SYN) {
            self.numbers.insert((from, to), (5_001, seq + 1));
            let flags = TcpFlags::SYN.with(TcpFlags::ACK);
            return cx.send(Packet::tcp(from, to, flags, 5_000, seq + 1, b""));
        }
        let len = packet.payload().len() as u32;
        if len > 0
            && let Some((mine, theirs)) = self.numbers.get_mut(&(from, to))
        {
            *theirs = seq + len;
            let flags = TcpFlags::PSH.with(TcpFlags::ACK);
            let answer = Packet::tcp(from, to, flags, *mine, *theirs, packet.payload());
            *mine += len;
            let (port, after) = self.thinks;
            if from.port() == port {
                cx.send(Packet::tcp(
                    from,
                    to,
                    TcpFlags::ACK,
                    *mine - len,
                    *theirs,
                    b"",
                ));
                self.count += 1;
                self.late.insert((cx.now + after, self.count), answer);
            } else {
                cx.send(answer);
            }
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        while let Some(entry) = self.late.first_entry()
            && entry.key().0 <= cx.now
        {
            cx.send(entry.remove());
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.late.keys().next().map(|(at, _)| *at)
    }
}

/// Nodes that query the node under test, each time another one.
struct Strangers {
    every: Duration,
    next: Instant,
    asked: u64,
    answers: u64,
}

impl Strangers {
    fn addr(n: u32) -> Ipv4Addr {
        // 198.18.0.0/15 is reserved for benchmarks. These nodes stand for real ones, so they use
        // other addresses.
        Ipv4Addr::from(0x5000_0001 + (n << 8))
    }
}

impl Host for Strangers {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        self.answers += 1;
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        let src = (Self::addr(self.asked as u32 % STRANGERS), PORT).into();
        let mut query = *b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa6:target20:bbbbbbbbbbbbbbbbbbbbe1:q9:find_node1:t2:xy1:y1:qe";
        cx.rng.fill_bytes(&mut query[12..32]);
        cx.rng.fill_bytes(&mut query[43..63]);
        cx.send_udp(src, (PUBLIC, PORT).into(), &query);
        self.asked += 1;
        self.next = cx.now + self.every;
    }

    fn next_wake(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// The configuration of a run.
struct Household {
    full: Full,
    config: DhtConfig,
    torrents: u32,
    /// The interval of queries from strangers, for which the port is forwarded.
    strangers: Option<Duration>,
    time: Duration,
}

#[derive(Debug)]
struct Outcome {
    /// For the quiet TCP session, the telephone's registration, its calls, and the peers: the lines
    /// that were not answered, and all lines.
    ssh: (u64, u64),
    registration: (u64, u64),
    calls: (u64, u64),
    peers: (u64, u64),
    nat: NatStats,
    announced: u32,
    found: u32,
    queries_answered: (u64, u64),
}

impl Outcome {
    const fn bystander_lost(&self) -> u64 {
        self.ssh.0 + self.registration.0 + self.calls.0
    }
}

impl Household {
    fn router(&self) -> BoxConfig {
        let linux = presets::linux();
        BoxConfig {
            nat: Some(NatConfig {
                max_entries: 1_024,
                full: self.full,
                timeouts: Timeouts {
                    udp_first: secs(30),
                    udp_stream: secs(180),
                    ..linux.timeouts
                },
                ..linux
            }),
            ..BoxConfig::default()
        }
    }

    fn run(&self) -> Outcome {
        let mut world = World::new(11);
        let core = world.core();
        let synthetic = SyntheticDht::new(
            11,
            SyntheticConfig {
                nodes: 20_000,
                ..SyntheticConfig::default()
            },
        );
        let contacts = synthetic.contacts(8);
        let addrs = synthetic.addresses();
        let synthetic = world.add_host(core, LinkConfig::perfect(), &addrs, synthetic);
        let wan = LinkConfig::delayed(Duration::from_millis(5));
        let router = world.add_router(core, wan, self.router(), &[PUBLIC.into()]);

        let mut dice = SimRng::new(3);
        let mut cx = Cx {
            now: Instant::ORIGIN,
            rng: &mut dice,
        };
        let light = Light::new(Dht::new(&mut cx, self.config.clone()), (NODE, PORT).into());
        let near = LinkConfig::perfect;
        let node = world.add_host(router, near(), &[NODE.into()], light);

        let peers = world.add_host(router, near(), &[PEERS.into()], Talker(peers()));
        let bystander = Talker(bystander());
        let bystander = world.add_host(router, near(), &[BYSTANDER.into()], bystander);
        let server = Server {
            numbers: BTreeMap::new(),
            late: BTreeMap::new(),
            count: 0,
            thinks: (22, secs(7 * 60)),
        };
        let ms20 = LinkConfig::delayed(Duration::from_millis(20));
        world.add_host(core, ms20, &[SERVER.into()], server);
        let strangers = self.strangers.map(|every| {
            let inside = (NODE, PORT).into();
            let nat = world
                .middlebox_mut(router)
                .and_then(|b| b.nat_mut())
                .expect("a NAT");
            nat.forward(Instant::ORIGIN, Proto::Udp, PORT, inside, None)
                .expect("forwarded");
            let addrs: Vec<IpAddr> = (0..STRANGERS).map(|n| Strangers::addr(n).into()).collect();
            let strangers = Strangers {
                every,
                next: Instant::ORIGIN + secs(60),
                asked: 0,
                answers: 0,
            };
            world.add_host(core, LinkConfig::perfect(), &addrs, strangers)
        });
        world.start();
        with(&mut world, node, |dht, cx| {
            dht.start(cx, PORT);
            for addr in contacts {
                dht.add_contact(cx, addr);
            }
        });
        world.run_for(secs(60));

        let (announced, found) = self.announce(&mut world, synthetic, node);
        let (peers, bystander) = (talks(&world, peers), talks(&world, bystander));
        let stats = world
            .middlebox(router)
            .and_then(|b| b.nat())
            .map(Nat::stats);
        let strangers = strangers.and_then(|s| world.host::<Strangers>(s));
        Outcome {
            ssh: unanswered(&bystander[..1]),
            registration: unanswered(&bystander[1..2]),
            calls: unanswered(&bystander[2..]),
            peers: unanswered(peers),
            nat: stats.expect("a NAT"),
            announced,
            found,
            queries_answered: strangers.map_or((0, 0), |s| (s.answers, s.asked)),
        }
    }

    /// All torrents announce at once, as after a start, and then every 20 minutes.
    fn announce(&self, world: &mut World, synthetic: DeviceId, node: DeviceId) -> (u32, u32) {
        let end = world.now() + self.time;
        let mut agenda: BTreeMap<(Instant, u32), InfoHash> = BTreeMap::new();
        let mut dice = SimRng::new(17);
        for n in 0..self.torrents {
            let mut hash = InfoHash([0; 20]);
            dice.fill_bytes(&mut hash.0);
            world.call(synthetic, |f: &mut SyntheticDht, _| f.watch(&Key(hash.0)));
            agenda.insert((world.now(), n), hash);
        }
        let (mut announced, mut found) = (0, 0);
        while let Some(((at, n), hash)) = agenda.pop_first() {
            if at >= end {
                break;
            }
            world.run_until(at);
            let goal = Goal::Peers {
                hash,
                announce: Some(Announce {
                    ports: dunlin_core::net::Ports::both(PORT),
                    implied: true,
                    seed: false,
                }),
                scrape: false,
            };
            let began = with(world, node, |dht, cx| dht.search(cx, goal));
            // There are too many searches at once, so this one is repeated a little later.
            let again = if began.is_ok() { INTERVAL } else { secs(1) };
            agenda.insert((world.now() + again, n), hash);
            (announced, found) = count(world, node, announced, found);
        }
        world.run_until(end);
        count(world, node, announced, found)
    }
}

fn count(world: &mut World, node: DeviceId, mut announced: u32, mut found: u32) -> (u32, u32) {
    world.call(node, |light: &mut Light<Dht>, _| {
        while let Some(event) = light.take_event() {
            if let DhtEvent::Done { report, .. } = event {
                announced += u32::from(report.stored > 0);
                found += u32::from(report.peers > 0);
            }
        }
    });
    (announced, found)
}

fn with<R>(world: &mut World, node: DeviceId, act: impl FnOnce(&mut Dht, &mut Cx<'_>) -> R) -> R {
    let done = world.call(node, |light: &mut Light<Dht>, cx| light.with(cx, act));
    done.expect("the node is there")
}

fn talks(world: &World, of: DeviceId) -> &[Talk] {
    &world.host::<Talker>(of).expect("a talker").0
}

/// The lines that were not answered, except for the last of each flow, which may still be answered;
/// and all lines.
fn unanswered(talks: &[Talk]) -> (u64, u64) {
    let lost = talks
        .iter()
        .map(|t| (t.sent - t.answered).saturating_sub(1));
    (lost.sum(), talks.iter().map(|t| t.sent).sum())
}

/// 200 peers, half of them over TCP. Each of those over uTP is replaced by another after 50
/// minutes.
fn peers() -> Vec<Talk> {
    let talk = |n: u16| {
        let tcp = n.is_multiple_of(2);
        let proto = if tcp { Proto::Tcp } else { Proto::Udp };
        let mut talk = Talk::new(proto, (PEERS, 20_000 + 97 * n), 30_000 + 97 * n, secs(10));
        talk.next = Instant::ORIGIN + Duration::from_millis(u64::from(n) * 50);
        if !tcp {
            // The first ones are replaced at different times.
            talk.then = Some((300, secs(10)));
            talk.lines = u32::from(n) * 3 / 2;
        }
        talk
    };
    (0..200).map(talk).collect()
}

/// A quiet session over TCP, a telephone's registration, and its calls.
fn bystander() -> Vec<Talk> {
    let ssh = Talk::new(Proto::Tcp, (BYSTANDER, 40_000), 22, secs(15 * 60));
    let registration = Talk::new(Proto::Udp, (BYSTANDER, 5_060), 5_060, secs(20));
    let mut calls = Talk::new(
        Proto::Udp,
        (BYSTANDER, 7_078),
        7_078,
        Duration::from_millis(100),
    );
    // As many as a browser that resolves names: a new flow every 5 s.
    calls.then = Some((10, secs(4)));
    vec![ssh, registration, calls]
}

fn household(full: Full, time: Duration) -> Household {
    Household {
        full,
        config: DhtConfig::default(),
        torrents: 60,
        strangers: None,
        time,
    }
}

/// Routers differ in what they do when the table is full.
const FULL: [Full; 2] = [Full::DropNew, Full::EvictOldest];

fn kind(household: &Household) {
    let outcome = household.run();
    println!("{:?}: {outcome:?}", household.full);
    let (answers, asked) = outcome.queries_answered;
    assert!(answers >= asked * 9 / 10, "{outcome:?}");
    assert_eq!(outcome.bystander_lost(), 0, "{outcome:?}");
    assert_eq!(outcome.peers.0, 0, "{outcome:?}");
    assert_eq!(
        (outcome.nat.table_full, outcome.nat.evicted),
        (0, 0),
        "{outcome:?}"
    );
    // The node used fewer entries, and its searches succeeded all the same.
    let rounds = (household.time.as_secs() / INTERVAL.as_secs()).max(1) as u32;
    assert!(
        outcome.announced >= household.torrents * rounds * 95 / 100,
        "{outcome:?}"
    );
    assert!(
        outcome.found >= household.torrents * rounds * 95 / 100,
        "{outcome:?}"
    );
    assert!(outcome.ssh.1 > 0 && outcome.calls.1 > 100, "{outcome:?}");
}

fn unkind(household: &mut Household) {
    household.config.new_remote_budget = None;
    let outcome = household.run();
    println!("{:?}, without a budget: {outcome:?}", household.full);
    assert!(outcome.bystander_lost() > 0, "{outcome:?}");
    assert!(outcome.nat.peak >= 1_024, "{outcome:?}");
}

#[test]
fn the_bystander_does_not_notice_the_dht() {
    for full in FULL {
        kind(&household(full, secs(40 * 60)));
    }
}

#[test]
fn nor_when_the_port_is_forwarded_and_strangers_ask() {
    for full in FULL {
        let mut household = household(full, secs(40 * 60));
        household.strangers = Some(Duration::from_millis(500));
        kind(&household);
    }
}

#[test]
fn without_the_budget_the_bystander_does_notice() {
    for full in FULL {
        unkind(&mut household(full, secs(40 * 60)));
    }
}

#[test]
#[ignore = "24 simulated hours six times over: minutes in a release build, see tests/run"]
fn in_full_a_day_long() {
    for full in FULL {
        let mut day = household(full, secs(24 * 3_600));
        kind(&day);
        day.strangers = Some(Duration::from_millis(500));
        kind(&day);
        day.strangers = None;
        unkind(&mut day);
    }
}
