//! The share of pairs that connect in two published mixes of peers: `cargo run --release -p dunlin-sim
//! --example mixes [seeds]`. `sim/MIXES.md` says what the model assumes.

#![allow(clippy::print_stdout, reason = "the table is the output")]

use dunlin_sim::scenario::{Check, RunOptions, Scenario, run};

const HALKES: &str = include_str!("../scenarios/14-halkes-pouwelse.toml");
const DCUTR: &str = include_str!("../scenarios/15-dcutr.toml");

/// The pairs of one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) pairs: usize,
    /// One of the two is not behind a NAT, so that the other can call it.
    pub(crate) direct: usize,
    /// Both are behind NATs, and connect.
    pub(crate) punched: usize,
    /// Both are behind NATs that keep a port for all destinations.
    pub(crate) punchable: usize,
    /// Of those, the ones that connect.
    pub(crate) succeeded: usize,
}

/// Runs a scenario of pairs `a-1` and `b-1` and so on, and really punches.
pub(crate) fn measure(text: &str, seed: u64) -> Shares {
    let scenario = Scenario::parse(text, "mix").unwrap_or_else(|e| panic!("{e}"));
    let drawn = scenario.drawn(seed).unwrap_or_else(|e| panic!("{e}"));
    let Check::Of(quota) = &drawn.expects[0].check else {
        panic!("the first expectation is about pairs");
    };
    // One expectation for each pair tells which of them connect.
    let mut each = drawn.clone().into_owned();
    let expect = each.expects[0].clone();
    each.expects = (quota.checks.iter())
        .map(|check| {
            let mut one = expect.clone();
            one.check = check.clone();
            one
        })
        .collect();
    each.seed = seed;
    let result = run(&each, seed, &RunOptions::default());
    let nat_of = |side: &str, n: usize| {
        let name = format!("{side}-{}", n + 1);
        let router = each.routers.iter().find(|r| r.name == name);
        router.map_or("", |r| r.nat_name.as_str())
    };
    let mut shares = Shares::default();
    for (n, outcome) in result.outcomes.iter().enumerate() {
        let nats = [nat_of("left", n), nat_of("right", n)];
        shares.pairs += 1;
        match nats.contains(&"") {
            true => shares.direct += usize::from(outcome.held),
            false => shares.punched += usize::from(outcome.held),
        }
        if !nats.iter().any(|nat| nat.is_empty() || *nat == "symmetric") {
            shares.punchable += 1;
            shares.succeeded += usize::from(outcome.held);
        }
    }
    shares
}

fn main() {
    let seeds = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let tcp = DCUTR.replace("udp-punch", "tcp-punch");
    let mixes = [
        (
            "Halkes and Pouwelse, UDP",
            HALKES,
            "64 % of peers punchable, > 80 % of attempts",
        ),
        ("DCUtR, UDP", DCUTR, "70 % ± 7.1 %"),
        ("DCUtR, TCP", &tcp, "70 % ± 7.1 %"),
    ];
    println!("| mix | pairs | direct | punched | together | of punchable pairs | paper |");
    println!("|---|---|---|---|---|---|---|");
    for (name, text, paper) in mixes {
        let mut all = Shares::default();
        for seed in 1..=seeds.unwrap_or(5) {
            let one = measure(text, seed);
            all.pairs += one.pairs;
            all.direct += one.direct;
            all.punched += one.punched;
            all.punchable += one.punchable;
            all.succeeded += one.succeeded;
        }
        let percent = |n: usize, of: usize| {
            let thousandths = n * 1_000 / of.max(1);
            format!("{}.{} %", thousandths / 10, thousandths % 10)
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {paper} |",
            all.pairs,
            percent(all.direct, all.pairs),
            percent(all.punched, all.pairs),
            percent(all.direct + all.punched, all.pairs),
            percent(all.succeeded, all.punchable),
        );
    }
}
