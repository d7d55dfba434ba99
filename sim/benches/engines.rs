//! The speed and memory of simulated machines with real engines.
//!
//! `cargo bench -p dunlin-sim --bench engines` prints two figures:
//!
//! - simulated seconds per second of processor time for a swarm of 50 homes, 49 of them behind NATs
//!   of seven kinds, that exchange 64 MiB on cable lines; the median of three runs;
//! - machines with an engine per GiB of memory, for 400 machines with 20 idle connections each.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    fs,
    time::{Duration, Instant},
};

use dunlin_sim::{
    BoxConfig, LinkConfig,
    experiment::swarm::{Home, Role, Swarm, SwarmConfig},
    middlebox::nat::presets,
};

const PEERS: usize = 50;
const LEN: usize = 64 << 20;
const RUNS: usize = 3;
const CROWD: usize = 400;
const NATS: [&str; 7] = [
    "linux",
    "full-cone",
    "restricted-cone",
    "cgnat-good",
    "symmetric",
    "pf",
    "voip-helper",
];

fn behind(name: &str) -> BoxConfig {
    let nat = presets::find(name).map(|preset| (preset.make)()).ok();
    assert!(nat.is_some(), "no preset {name}");
    BoxConfig {
        nat,
        ..BoxConfig::default()
    }
}

/// A seed, followed by leechers that join one after another. Every third has a forwarded port.
fn homes(count: usize) -> Vec<Home> {
    (0..count)
        .map(|n| {
            let role = if n == 0 { Role::Seed } else { Role::Leech };
            let mut home = Home::new(role, LinkConfig::cable());
            if n > 0 {
                home = home.behind(behind(NATS[n % NATS.len()]));
                home.joins = Duration::from_millis(1_000 + 50 * n as u64);
                home.forwarded = n % 3 == 0;
            }
            home
        })
        .collect()
}

/// The processor time of this process in seconds.
fn processor() -> f64 {
    // Fields 14 and 15 of proc_pid_stat(5), in ticks of 10 ms.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

/// The memory of this process in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn exchange() {
    let mut rates = Vec::new();
    for run in 0..RUNS {
        let mut config = SwarmConfig::new(LEN);
        config.homes = homes(PEERS);
        let mut swarm = Swarm::new(run as u64, config);
        let (wall, began) = (Instant::now(), processor());
        let result = swarm.run(Duration::from_secs(3_600));
        let (wall, cpu) = (wall.elapsed().as_secs_f64(), processor() - began);
        assert!(
            result.all_exact(),
            "the swarm did not complete: {:?}",
            result.completed
        );
        let simulated = result.ended.as_secs_f64();
        let packets = swarm.world.trace().count(dunlin_sim::Rule::Delivered);
        println!(
            "swarm of {PEERS}, {} MiB, seed {run}: {simulated:.0} s simulated in {cpu:.1} s of processor \
             ({wall:.1} s of wall): {:.2} x real time; {packets} packets, {:.2} us each",
            LEN >> 20,
            simulated / cpu,
            cpu * 1e6 / packets as f64,
        );
        rates.push(simulated / cpu);
    }
    rates.sort_by(f64::total_cmp);
    println!("median: {:.2} x real time on one core", rates[RUNS / 2]);
}

fn of_sybils() {
    let mut config = SwarmConfig::new(1 << 20);
    config.homes = homes(CROWD);
    config.engine.max_connections = 20;
    config.engine.max_half_open = 10;
    config.tcp_buffer = 16 << 10;
    let before = resident();
    let mut swarm = Swarm::new(1, config);
    let result = swarm.run(Duration::from_secs(600));
    let grown = resident() - before;
    let done = result.exact.iter().filter(|exact| **exact).count();
    let connections: u32 = swarm
        .homes
        .iter()
        .filter_map(|(n, _)| {
            swarm
                .world
                .host::<dunlin_sim::host::engine::EngineHost>(*n)?
                .engine()
        })
        .map(|engine| engine.status(dunlin_core::Instant::ORIGIN).connections)
        .sum();
    println!(
        "{CROWD} machines ({done} complete, {:.1} connections each): {:.0} KiB each, {:.0} per GiB",
        f64::from(connections) / CROWD as f64,
        grown as f64 / CROWD as f64 / 1024.0,
        CROWD as f64 * (1u64 << 30) as f64 / grown as f64,
    );
}

fn main() {
    // `cargo test` only builds the benchmark.
    if std::env::args().any(|arg| arg == "--bench") {
        exchange();
        of_sybils();
    }
}
