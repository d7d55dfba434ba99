//! Goodput of the simulated TCP beside that of Linux: `cargo run --release -p dunlin-sim --example
//! goodput [seeds]`. See `sim/GOODPUT.md` for what was measured and how.

#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_sim::{
    Algorithm, BulkHost, LinkConfig, TcpConfig, World,
    link::{Direction, Loss, Rate},
};

/// How long each transfer lasts, from the first SYN.
const SECONDS: u64 = 60;

/// Megabits per second that Linux's CUBIC reaches, times 100, with the rate in Mbit/s, the
/// round-trip time in milliseconds and the loss in packets per million.
const LINUX: &[(u64, u64, u32, u64)] = &include!("goodput/linux.in");

/// A queue of one bandwidth-delay product, and at least 64 KiB.
fn queue(rate: u64, rtt: u64) -> u32 {
    let kib = (rate * rtt * 125 + 512) / 1_024;
    (kib.max(64) << 10) as u32
}

/// A sender and a receiver; the bottleneck and half of the delay lie before the receiver.
fn world(
    config: TcpConfig,
    rate: u64,
    rtt: u64,
    loss: u32,
    queue: u32,
    seed: u64,
) -> (World, dunlin_sim::DeviceId) {
    let mut world = World::new(seed);
    let core = world.core();
    let (from, to) = ([20, 0, 0, 1], [30, 0, 0, 1]);
    let [near, far]: [SocketAddr; 2] = [(from, 4_000).into(), (to, 5_000).into()];
    let mut down = Direction::delayed(Duration::from_micros(rtt * 500));
    let up = down.clone();
    down.rate = Some(Rate {
        bits_per_second: rate * 1_000_000,
        queue,
    });
    if loss > 0 {
        down.loss = Loss::Random(loss);
    }
    let sender = BulkHost::sender(config, near, far);
    world.add_host(core, LinkConfig::perfect(), &[IpAddr::from(from)], sender);
    let receiver = BulkHost::receiver(config, far);
    let to = world.add_host(core, LinkConfig { up, down }, &[IpAddr::from(to)], receiver);
    (world, to)
}

/// The goodput in Mbit/s, times 100.
fn goodput(config: TcpConfig, rate: u64, rtt: u64, loss: u32, seed: u64) -> u64 {
    let (mut world, to) = world(config, rate, rtt, loss, queue(rate, rtt), seed);
    world.start();
    world.run_for(Duration::from_secs(SECONDS));
    let bytes = world.host::<BulkHost>(to).map_or(0, BulkHost::received);
    bytes * 8 / SECONDS / 10_000
}

fn average(config: TcpConfig, rate: u64, rtt: u64, loss: u32, seeds: u64) -> u64 {
    let seeds = if loss == 0 { 1 } else { seeds };
    let sum: u64 = (1..=seeds)
        .map(|seed| goodput(config, rate, rtt, loss, seed))
        .sum();
    sum / seeds
}

fn hundredths(n: u64) -> String {
    format!("{}.{:02}", n / 100, n % 100)
}

fn main() {
    let seeds = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(20);
    let (cubic, reno) = (
        TcpConfig::default(),
        TcpConfig {
            algorithm: Algorithm::Reno,
            ..TcpConfig::default()
        },
    );
    println!("| Mbit/s | RTT ms | loss % | Linux CUBIC | CUBIC | ratio | Reno |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for (rate, rtt, loss, linux) in LINUX {
        let [cubic, reno] = [cubic, reno].map(|tcp| average(tcp, *rate, *rtt, *loss, seeds));
        println!(
            "| {rate} | {rtt} | {} | {} | {} | {} | {} |",
            f64::from(*loss) / 10_000.0,
            hundredths(*linux),
            hundredths(cubic),
            hundredths(cubic * 100 / linux.max(&1)),
            hundredths(reno),
        );
    }
}
