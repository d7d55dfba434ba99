//! Searches in an emulated wide-area DHT, and how they went.
//!
//! `cargo run --release -p dunlin-core --example dht_farm -- [name=value]…`, with
//! `searches nodes dead loss sybils warm wide seeds sized seed`, and `alpha near ring flight k per_reply queries`
//! of [`Params`](dunlin_core::dht::lookup::Params).

#![allow(clippy::print_stdout)]

mod farm;

use farm::{Farm, Nature, Score, Searcher, mean_milli, quantile};

fn main() {
    let (mut nature, mut searcher) = (Nature::default(), Searcher::default());
    let (mut count, mut seed) = (10_000, 1);
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').expect("name=value");
        let share: f64 = value.parse().expect("a number");
        let number = share as usize;
        let small = number.min(255) as u8;
        match name {
            "searches" => count = number,
            "nodes" => nature.nodes = number,
            "dead" => nature.dead = share,
            "loss" => nature.loss = share,
            "sybils" => nature.sybils = share,
            "seed" => seed = number as u64,
            "warm" => searcher.warm = number != 0,
            "wide" => searcher.wide = number != 0,
            "seeds" => searcher.seeds = number,
            "sized" => searcher.sized = number != 0,
            "alpha" => searcher.params.alpha = small,
            "near" => searcher.params.alpha_near = small,
            "ring" => searcher.params.ring = small,
            "flight" => searcher.params.max_in_flight = small,
            "k" => searcher.params.k = small,
            "per_reply" => searcher.params.per_reply = small,
            "queries" => searcher.params.max_queries = small,
            _ => panic!("no such parameter: {name}"),
        }
    }
    let scores = Farm::new(nature, seed).searches(&searcher, count);
    print(&scores);
}

fn print(scores: &[Score]) {
    let times = |name: &str, of: fn(&Score) -> Option<u64>| {
        let known = || scores.iter().filter_map(of);
        println!(
            "{name:16} p50 {:5} p95 {:5} p99 {:5} ms in {:.2} %",
            quantile(known(), 500),
            quantile(known(), 950),
            quantile(known(), 990),
            known().count() as f64 * 100.0 / scores.len() as f64,
        );
    };
    times("first values", |s| s.values);
    times("all of closest 8", |s| s.all_closest);
    times("done", |s| Some(s.done));
    let mean = |of: fn(&Score) -> u32| mean_milli(scores.iter().map(of)) as f64 / 1e3;
    let queries = mean(|s| s.queries);
    println!(
        "closest 8 reached {:.3}, none of them honest {:.3} %\nqueries {queries:.1} (p99 {}, max {}), \
         dead {:.1} %, in flight at most {}\n\
         stores {:.2}, suspicious {:.3} %",
        mean(|s| s.reached),
        scores.iter().filter(|s| s.honest == 0).count() as f64 * 100.0 / scores.len() as f64,
        quantile(scores.iter().map(|s| u64::from(s.queries) * 1_000), 990),
        scores.iter().map(|s| s.queries).max().unwrap_or(0),
        mean(|s| s.dead_queries) * 100.0 / queries,
        scores.iter().map(|s| s.in_flight).max().unwrap_or(0),
        mean(|s| s.stores),
        mean(|s| u32::from(s.suspicious)) * 100.0,
    );
}
