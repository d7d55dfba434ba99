//! The command `dunlin-sim sweep`.

use std::ops::ControlFlow;

use dunlin_sim::{
    experiment::sweep::{self, Shard},
    scenario::{self, RunOptions},
};
use serde_json::json;

use crate::{args, exit::Exit, load, say::Meter, threads};

/// The description in `--help`.
pub(crate) const ABOUT: &str = "\
Run a scenario with many seeds and print one line of JSON for each.

The first line says what is run: type (sweep), scenario, sum (of the file), first, end, shard,
of. Each other line is one seed: type (seed), seed, trace (hash), held, failed (the
expectations that did not come true). `merge` joins the lines of all shards.";

/// A checksum of the file, so that results of different files are not joined.
pub(crate) fn sum(text: &str) -> String {
    // FNV-1a: the checksum guards against mistakes, not against malice.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

pub(crate) fn sweep(args: &args::Sweep) -> Result<Exit, String> {
    let (document, s) = load(&args.scenario)?;
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let (index, of) = shard.parts();
    let count = shard.seeds(args.seeds.clone()).count() as u64;
    let meter = Meter::new("seeds", count);
    let head = json!({
        "type": "sweep",
        "scenario": s.name,
        "sum": sum(document.text()),
        "first": args.seeds.start,
        "end": args.seeds.end,
        "shard": index,
        "of": of,
    });
    let mut read = meter.say(&head.to_string());
    let one = |seed: u64| scenario::run(&s, seed, &RunOptions::default());
    let mut failed = 0u64;
    if read {
        sweep::run_on(
            threads(args.jobs),
            &one,
            args.seeds.clone(),
            shard,
            |seed, r| {
                failed += u64::from(!r.held());
                let mut wrong: Vec<String> = (r.outcomes.iter())
                    .filter(|o| !o.held)
                    .map(|o| format!("{}: {}", o.what, o.why))
                    .collect();
                wrong.extend(r.stuck.clone());
                let line = json!({
                    "type": "seed",
                    "seed": seed,
                    "trace": format!("{:016x}", r.trace),
                    "held": r.held(),
                    "failed": wrong,
                });
                read = meter.say(&line.to_string());
                meter.step(|| match failed {
                    0 => "all hold".into(),
                    n => format!("{n} fail"),
                });
                if read {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        );
    }
    Ok(Exit::of(failed == 0))
}
