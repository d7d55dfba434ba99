//! The speed of the world: `cargo bench -p dunlin-sim --bench world [-- part…]`.
//!
//! - `nats`: datagrams between light hosts, each through two NATs; the target is 10^6 packets/s.
//! - `delays`: the same with a delay on every link, so that each hop is an event.
//! - `plain`: the same without NATs.
//! - `hosts`: 10^5 light hosts at the core, each with one packet under way; memory for each host.
//! - `agenda`: the event queue compared with a binary heap.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    hint::black_box,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant as Clock},
};

use dunlin_core::Instant;
use dunlin_sim::{
    Agenda, BoxConfig, DeviceId, Host, HostCx, LinkConfig, Packet, RegionMatrix, Rule, SimRng,
    World, middlebox::nat::presets,
};
use rand_core::Rng;

/// Answers every datagram with one of the same length, and sends the first `balls` on its own.
struct Ping {
    local: SocketAddr,
    peer: SocketAddr,
    balls: u32,
    got: u64,
}

const PAYLOAD: [u8; 100] = [0x64; 100];

impl Host for Ping {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        for _ in 0..self.balls {
            cx.send_udp(self.local, self.peer, &PAYLOAD);
        }
    }
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        self.got += 1;
        let flow = packet.flow();
        let (src, dst) = (flow.dst, flow.src);
        cx.recycle(packet);
        cx.send_udp(src, dst, &PAYLOAD);
    }
    fn wake(&mut self, _: &mut HostCx<'_>) {}
    fn next_wake(&self) -> Option<Instant> {
        None
    }
}

/// `pairs` pairs of hosts, each behind a box of its own, that keep `balls` packets in the air
/// between them.
fn pairs(pairs: u16, balls: u32, config: &BoxConfig, lan: LinkConfig, wan: LinkConfig) -> World {
    let mut world = World::new(1);
    let core = world.core();
    for n in 0..pairs {
        let [high, low] = n.to_be_bytes();
        let public = |side: u8| IpAddr::from([20 + side, high, low, 1]);
        let natted = config.nat.is_some();
        for side in 0..2 {
            let inside = if natted {
                IpAddr::from([192, 168, 1, 2])
            } else {
                IpAddr::from([20 + side, high, low, 2])
            };
            let there = if natted {
                public(1 - side)
            } else {
                IpAddr::from([21 - side, high, low, 2])
            };
            let router = world.add_router(core, wan.clone(), config.clone(), &[public(side)]);
            // Both send first, which opens both NATs; they preserve the port.
            let host = Ping {
                local: SocketAddr::new(inside, 4_000),
                peer: SocketAddr::new(there, 4_000),
                balls,
                got: 0,
            };
            world.add_host(router, lan.clone(), &[inside], host);
        }
    }
    world
}

fn turn(what: &str, mut world: World, events: u64) {
    world.start();
    for _ in 0..events / 10 {
        world.step();
    }
    let (before, clock) = (world.trace().count(Rule::Delivered), Clock::now());
    for _ in 0..events {
        if !world.step() {
            break;
        }
    }
    let (seconds, count) = (
        clock.elapsed().as_secs_f64(),
        world.trace().count(Rule::Delivered) - before,
    );
    println!(
        "{what:<44} {:>9.0} packets/s  {:>6.0} ns each  ({count} delivered, {} under way, hash {:016x})",
        count as f64 / seconds,
        seconds * 1e9 / count as f64,
        world.in_flight(),
        world.trace().hash(),
    );
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

fn hosts(count: u32) {
    let before = resident();
    let mut world = World::new(1);
    let addr = |n: u32| SocketAddr::new(IpAddr::from((0x1400_0000 + n).to_be_bytes()), 6_881);
    world.set_latency(RegionMatrix::earth().with_jitter(100));
    for n in 0..count {
        let host = Ping {
            local: addr(n),
            peer: addr((n + 1) % count),
            balls: 1,
            got: 0,
        };
        let delay = Duration::from_micros(u64::from(n % 997) * 20);
        world.add_host(
            DeviceId::CORE,
            LinkConfig::delayed(delay),
            &[addr(n).ip()],
            host,
        );
    }
    let quiet = resident();
    world.start();
    world.run_for(Duration::from_millis(20));
    println!(
        "{count} hosts: {} bytes each at rest, {} with one packet each under way",
        (quiet - before) / u64::from(count),
        (resident() - before) / u64::from(count)
    );
    turn("10^5 hosts", world, 5_000_000);
}

/// As many planned events as a world may have. Each is planned anew when it is taken.
fn agenda(planned: u32) {
    const TURNS: u32 = 5_000_000;
    let gap = |rng: &mut SimRng| 1_000 + u64::from(rng.next_u32() >> 15);
    let mut rng = SimRng::new(1);
    let mut agenda = Agenda::new();
    for n in 0..planned {
        agenda.plan(Instant::from_micros(gap(&mut rng)), n);
    }
    let clock = Clock::now();
    for _ in 0..TURNS {
        let event = agenda.step();
        let after = Duration::from_micros(gap(&mut rng));
        agenda.plan_in(after, black_box(event).unwrap_or_default());
    }
    let radix = clock.elapsed().as_nanos() / u128::from(TURNS);
    let mut rng = SimRng::new(1);
    let mut heap = BinaryHeap::new();
    let mut seq = u64::from(planned);
    for n in 0..planned {
        heap.push(Reverse((gap(&mut rng), u64::from(n), n)));
    }
    let clock = Clock::now();
    for _ in 0..TURNS {
        if let Some(Reverse((now, _, event))) = heap.pop() {
            seq += 1;
            heap.push(Reverse((now + gap(&mut rng), seq, black_box(event))));
        }
    }
    let binary = clock.elapsed().as_nanos() / u128::from(TURNS);
    println!("agenda of {planned:>6}: {radix:>4} ns an event, a binary heap {binary:>4} ns");
}

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let want = |part: &str| wanted.is_empty() || wanted.iter().any(|w| w == part);
    let linux = BoxConfig {
        nat: Some(presets::linux()),
        ..BoxConfig::default()
    };
    let ms = |n| LinkConfig::delayed(Duration::from_millis(n));
    const EVENTS: u64 = 3_000_000;
    if want("nats") {
        let world = pairs(1, 64, &linux, LinkConfig::perfect(), ms(5));
        turn("through two NATs, 1 pair", world, EVENTS);
        let world = pairs(1_000, 4, &linux, LinkConfig::perfect(), ms(5));
        turn("through two NATs, 1000 pairs", world, EVENTS);
    }
    if want("delays") {
        let world = pairs(1_000, 4, &linux, ms(1), ms(5));
        turn("every link delays, two NATs, 1000 pairs", world, EVENTS);
        let world = pairs(1_000, 4, &linux, LinkConfig::lan(), LinkConfig::fibre());
        turn("LAN and fibre, two NATs, 1000 pairs", world, EVENTS);
    }
    if want("plain") {
        let plain = BoxConfig::default();
        let world = pairs(1_000, 4, &plain, LinkConfig::perfect(), ms(5));
        turn("plain routers, 1000 pairs", world, EVENTS);
    }
    if want("hosts") {
        hosts(100_000);
    }
    if want("agenda") {
        for planned in [10, 1_000, 100_000] {
            agenda(planned);
        }
    }
}
