//! Goodput of the simulated TCP beside that of Linux: `cargo run --release -p dunlin-sim --example
//! goodput [seeds]`. See `sim/GOODPUT.md` for what was measured and how. With `MBIT RTT_MS LOSS_PERCENT` in place of the seeds,
//! it prints a line for each of ten seeds on that path, as dunlin-tests' `goodput` does for the kernel.

#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_sim::{
    Algorithm, BulkHost, DeviceId, LinkConfig, TcpConfig, World,
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
    rtt: Duration,
    loss: u32,
    queue: u32,
    seed: u64,
) -> (World, [DeviceId; 2]) {
    let mut world = World::new(seed);
    let core = world.core();
    let (from, to) = ([20, 0, 0, 1], [30, 0, 0, 1]);
    let [near, far]: [SocketAddr; 2] = [(from, 4_000).into(), (to, 5_000).into()];
    let mut down = Direction::delayed(rtt / 2);
    let up = down.clone();
    down.rate = Some(Rate {
        bits_per_second: rate * 1_000_000,
        queue,
    });
    if loss > 0 {
        down.loss = Loss::Random(loss);
    }
    let sender = BulkHost::sender(config, near, far);
    let from = world.add_host(core, LinkConfig::perfect(), &[IpAddr::from(from)], sender);
    let receiver = BulkHost::receiver(config, far);
    let to = world.add_host(core, LinkConfig { up, down }, &[IpAddr::from(to)], receiver);
    (world, [from, to])
}

/// What came of a transfer.
struct Transfer {
    /// The goodput in Mbit/s, times 100.
    goodput: u64,
    /// The mean of the smoothed round-trip times that the sender had each second.
    round_trip: Duration,
}

fn transfer(config: TcpConfig, rate: u64, rtt: Duration, loss: u32, seed: u64) -> Transfer {
    let queue = queue(rate, rtt.as_millis() as u64);
    let (mut world, [from, to]) = world(config, rate, rtt, loss, queue, seed);
    world.start();
    let mut round_trips = Duration::ZERO;
    for _ in 0..SECONDS {
        world.run_for(Duration::from_secs(1));
        let sender = world.host::<BulkHost>(from);
        round_trips += sender.and_then(BulkHost::round_trip).unwrap_or_default();
    }
    let bytes = world.host::<BulkHost>(to).map_or(0, BulkHost::received);
    Transfer {
        goodput: bytes * 8 / SECONDS / 10_000,
        round_trip: round_trips / SECONDS as u32,
    }
}

fn average(config: TcpConfig, rate: u64, rtt: u64, loss: u32, seeds: u64) -> u64 {
    let seeds = if loss == 0 { 1 } else { seeds };
    let sum: u64 = (1..=seeds)
        .map(|seed| transfer(config, rate, Duration::from_millis(rtt), loss, seed).goodput)
        .sum();
    sum / seeds
}

fn hundredths(n: u64) -> String {
    format!("{}.{:02}", n / 100, n % 100)
}

/// Prints what ten seeds reach on one path.
fn path(mbit: f64, rtt_ms: f64, loss_percent: f64) {
    let rtt = Duration::from_secs_f64(rtt_ms / 1e3);
    let mut sum = 0;
    for seed in 1..=10 {
        let loss = (loss_percent * 1e4) as u32;
        let t = transfer(TcpConfig::default(), mbit as u64, rtt, loss, seed);
        let ms = t.round_trip.as_secs_f64() * 1e3;
        println!(
            "seed {seed}: {} Mbit/s, mean round-trip time {ms:.1} ms",
            hundredths(t.goodput)
        );
        sum += t.goodput;
    }
    println!(
        "{mbit} Mbit/s, {rtt_ms} ms, {loss_percent} %: {} Mbit/s, the mean of 10",
        hundredths(sum / 10)
    );
}

fn main() {
    let args: Vec<f64> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    if let [mbit, rtt, loss] = args[..] {
        return path(mbit, rtt, loss);
    }
    let seeds = args.first().map_or(20, |n| *n as u64);
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
