//! The command `dunlin-sim dht farm`.

use std::time::Instant as Clock;

use dunlin_core::dht::DhtConfig;
use dunlin_sim::dht::{Summary, SyntheticConfig, Trial, measure::Spread};
use serde_json::{Value, json};

use super::args;
use crate::{
    exit::Exit,
    say::{Meter, say},
};

pub(crate) fn farm(args: &args::Farm) -> Result<Exit, String> {
    if u64::from(args.dead) + u64::from(args.sybils) >= 2_000_000 || args.dead == 1_000_000 {
        return Err("with everybody dead there is nobody to find".into());
    }
    let clock = Clock::now();
    let config = SyntheticConfig {
        nodes: args.nodes,
        dead_ppm: args.dead,
        loss_ppm: args.loss,
        sybil_ppm: args.sybils,
        secure_ppm: args.secure,
        rtt: std::time::Duration::from_millis(args.rtt),
        ..SyntheticConfig::default()
    };
    let mut trial = Trial::new(args.seed, config, DhtConfig::default());
    let cold = trial.warm(args.contacts, args.warm, ENOUGH);
    let meter = Meter::new("searches", args.lookups.into());
    let searches = trial.searches(args.lookups, args.gap, args.announce, |_| {
        meter.step(String::new);
    });
    drop(meter);
    let (summary, stats) = (Summary::of(&searches), trial.stats());
    let hash = trial.world().trace().hash();
    if args.json {
        let object = json!({
            "nodes": args.nodes,
            "dead_ppm": args.dead,
            "loss_ppm": args.loss,
            "sybil_ppm": args.sybils,
            "seed": args.seed,
            "cold_start_us": cold.map(|d| d.as_micros() as u64),
            "searches": summary.searches,
            "found_milli": summary.found_milli,
            "first_values_us": spread(&summary.first_values),
            "closest_us": spread(&summary.closest),
            "done_us": spread(&summary.done),
            "reached_milli": summary.reached_milli,
            "honest_ppm": summary.honest_ppm,
            "queries_milli": summary.queries_milli,
            "queries_most": summary.queries_most,
            "dead_queries_milli": summary.dead_milli,
            "announced_milli": summary.announced_milli,
            "suspicious_milli": summary.suspicious_milli,
            "table_nodes": stats.nodes,
            "table_buckets": stats.buckets,
            "size_by_buckets": stats.size_by_buckets,
            "size_by_lookups": stats.size_by_lookups,
            "held_back": stats.held_back,
            "wall_ms": clock.elapsed().as_millis() as u64,
            "trace": format!("{hash:016x}"),
        });
        say(&object.to_string());
    } else {
        let cold = cold.map_or_else(|| "never".into(), |d| format!("after {} ms", d.as_millis()));
        say(&format!(
            "{} nodes, {} ppm dead, {} ppm lost, {} ppm Sybils, seed {}\n{summary}\n  \
             table                  {} nodes in {} buckets; {ENOUGH} nodes {cold}\n  \
             size of the network    {} by lookups, {} by buckets\n  \
             held back              {}\n  \
             {} ms, trace {hash:016x}",
            args.nodes,
            args.dead,
            args.loss,
            args.sybils,
            args.seed,
            stats.nodes,
            stats.buckets,
            stats.size_by_lookups,
            stats.size_by_buckets,
            stats.held_back,
            clock.elapsed().as_millis(),
        ));
    }
    Ok(Exit::of(summary.found_milli == 1_000))
}

/// The number of nodes in the table at which bootstrapping counts as done.
const ENOUGH: u32 = 32;

pub(super) fn spread(s: &Spread) -> Value {
    let us = |d: std::time::Duration| d.as_micros() as u64;
    json!({ "count": s.count, "p50": us(s.p50), "p95": us(s.p95), "p99": us(s.p99) })
}
