//! The command `dunlin-sim dht swarm`.

use std::time::{Duration, Instant as Clock};

use dunlin_sim::dht::{
    Swarm, SwarmConfig,
    measure::{Spread, percentile},
};
use serde_json::json;

use super::{args, farm::spread};
use crate::{
    exit::Exit,
    say::{Meter, say},
};

/// The longest time to wait for a search.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of nodes in the table at which bootstrapping counts as done.
const ENOUGH: u32 = 32;
/// The searches in a thousand that must find what was announced.
const GOOD: usize = 990;

pub(crate) fn swarm(args: &args::Swarm) -> Result<Exit, String> {
    let mut config = SwarmConfig::new(args.nodes);
    config.joins = args.joins;
    if args.open {
        config = config.open();
    }
    if !args.steady {
        config = config.churning();
    }
    let (before, clock) = (resident(), Clock::now());
    let mut swarm = Swarm::new(args.seed, config);
    let quiet = resident();
    let meter = Meter::new("minutes", args.minutes.into());
    for _ in 0..args.minutes {
        swarm.run_for(Duration::from_secs(60));
        meter.step(|| format!("{} nodes are there", swarm.up()));
    }
    drop(meter);
    let formed = clock.elapsed();
    let packets = swarm.world().trace().packets();
    let loaded = resident();
    let up: Vec<u32> = (0..swarm.len()).filter(|n| swarm.is_up(*n)).collect();
    let known: Vec<u32> = up.iter().map(|n| swarm.stats(*n).nodes).collect();
    let ready = known.iter().filter(|n| **n >= ENOUGH).count();
    let meter = Meter::new("searches", args.searches.into());
    let (mut stored, mut first, mut done) = (0u32, Vec::new(), Vec::new());
    let mut found = 0usize;
    for _ in 0..args.searches {
        let hash = swarm.hash();
        let (giver, seeker) = (swarm.random(), swarm.random());
        let told = swarm.announce(giver, hash, PATIENCE);
        stored += told.report.map_or(0, |r| r.stored);
        let got = swarm.find(seeker, hash, PATIENCE);
        found += usize::from(!got.peers.is_empty());
        first.extend(got.first);
        done.extend(got.done);
        meter.step(String::new);
    }
    drop(meter);
    let (first, done) = (Spread::of(&first), Spread::of(&done));
    let found_milli = found * 1_000 / (args.searches as usize).max(1);
    let ready_milli = ready * 1_000 / up.len().max(1);
    let each = |bytes: u64| bytes / u64::from(args.nodes);
    let hash = swarm.world().trace().hash();
    if args.json {
        let object = json!({
            "nodes": args.nodes,
            "up": up.len(),
            "seed": args.seed,
            "simulated_s": u64::from(args.minutes) * 60,
            "formed_ms": formed.as_millis() as u64,
            "packets": packets,
            "bytes_each_idle": each(quiet.saturating_sub(before)),
            "bytes_each": each(loaded.saturating_sub(before)),
            "ready_milli": ready_milli,
            "table_p5": percentile(&known, 50),
            "table_p50": percentile(&known, 500),
            "searches": args.searches,
            "stored": stored,
            "found_milli": found_milli,
            "first_values_us": spread(&first),
            "done_us": spread(&done),
            "wall_ms": clock.elapsed().as_millis() as u64,
            "trace": format!("{hash:016x}"),
        });
        say(&object.to_string());
    } else {
        let ms = |s: &Spread| {
            let ms = [s.p50, s.p95, s.p99].map(|d| d.as_millis());
            format!("p50 {} ms, p95 {} ms, p99 {} ms", ms[0], ms[1], ms[2])
        };
        say(&format!(
            "{} nodes, {} of them there, {} min simulated in {:.1} s, {packets} packets\n  \
             memory          {} bytes a node at rest, {} at the end\n  \
             tables          {ENOUGH} nodes or more in {}.{} %; p5 {}, p50 {} nodes\n  \
             searches        {found} of {} found what was announced (to {stored} nodes)\n  \
             first peers     {}\n  done            {}\n  {} ms in all, trace {hash:016x}",
            args.nodes,
            up.len(),
            args.minutes,
            formed.as_secs_f64(),
            each(quiet.saturating_sub(before)),
            each(loaded.saturating_sub(before)),
            ready_milli / 10,
            ready_milli % 10,
            percentile(&known, 50),
            percentile(&known, 500),
            args.searches,
            ms(&first),
            ms(&done),
            clock.elapsed().as_millis(),
        ));
    }
    Ok(Exit::of(found_milli >= GOOD && ready_milli >= GOOD))
}

/// The memory that this process uses; 0 when the system does not report it.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}
