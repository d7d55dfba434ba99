//! The simulator's NATs behave as Linux does. Scripts that diverge are left in `parity/` of the
//! target directory's `tmp`, whole and shrunk, and can be run again:
//!
//! ```text
//! DUNLIN_PARITY_SCRIPT=…/eim-eif-17-small.script \
//!     cargo test -p dunlin-tests --features lab --test parity -- --ignored --nocapture replay
//! ```

use std::path::Path;

use dunlin_tests::parity::model::{self, Model};
use dunlin_tests::parity::script::Script;
use dunlin_tests::parity::{generate, run, shrink};

/// Packets of a million whose fate must be the same.
const BAR: usize = 999_000;
/// Scripts of each model, in brief and in full.
const BRIEF: usize = 40;
const FULL: usize = 512;

fn model(name: &str) -> Model {
    let mut all = model::all().into_iter();
    all.find(|model| model.name == name)
        .unwrap_or_else(|| panic!("no model {name}"))
}

fn every_model(first: u64, count: usize) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("parity");
    let tallies = run::all(&model::all(), first, count, &folder);
    for tally in &tallies {
        assert_eq!(tally.scripts, count, "{}: scripts are missing", tally.model);
        assert!(
            tally.passed * 3 > tally.packets,
            "{}: nearly nothing passes, so nearly nothing is compared",
            tally.model
        );
        assert!(
            tally.same_per_million() >= BAR,
            "{}: scripts that diverge are in {}",
            tally.model,
            folder.display()
        );
    }
}

#[test]
fn the_simulator_does_as_the_kernel_does() {
    every_model(1, BRIEF);
}

#[test]
#[ignore = "some minutes; tests/run parity-full"]
fn the_simulator_does_as_the_kernel_does_in_full() {
    every_model(seed(100_000), FULL);
}

fn seed(default: u64) -> u64 {
    std::env::var("DUNLIN_PARITY_SEED").map_or(default, |seed| seed.parse().expect("a number"))
}

/// What one of these diverges in must be seen, or agreement means nothing.
#[test]
fn another_nat_is_told_apart() {
    let pairs = [
        ("linux-preserve", "eim-eif"),
        ("linux-preserve", "apdm-random"),
        ("eim-hash", "adm-hash"),
        ("adm-hash", "apdm-hash"),
        ("apdm-hash", "apdm-random"),
        ("apdm-sequential", "apdm-random"),
        ("cgn-block", "apdm-random"),
        ("eim-eif", "eim-adf"),
        ("eim-adf", "linux-preserve"),
    ];
    std::thread::scope(|scope| {
        for (kernel, simulated) in pairs {
            scope.spawn(move || {
                let (kernel, simulated) = (model(kernel), model(simulated));
                let scripts = (1..=24).map(|seed| generate::script(&kernel, seed));
                let cases = run::compare(&kernel, &simulated, scripts.collect());
                let diverged = cases.iter().filter(|case| !case.found.is_empty()).count();
                println!("{} as {}: {diverged} of 24", kernel.name, simulated.name);
                assert!(
                    diverged >= 3,
                    "{} is taken for {}",
                    simulated.name,
                    kernel.name
                );
            });
        }
    });
}

#[test]
fn a_divergence_shrinks_to_what_matters() {
    let (kernel, simulated) = (model("eim-eif"), model("eim-adf"));
    let scripts = (1..=24).map(|seed| generate::script(&kernel, seed));
    let cases = run::compare(&kernel, &simulated, scripts.collect());
    let case = cases.iter().find(|case| !case.found.is_empty());
    let small = shrink::shrink(
        &kernel,
        &simulated,
        case.expect("a full cone lets strangers in"),
    );
    println!("{small}");
    // One that goes out and a stranger that comes in.
    assert_eq!(small.script.events.len(), 2, "{small}");
}

#[test]
#[ignore = "needs DUNLIN_PARITY_SCRIPT"]
fn replay() {
    let path = std::env::var("DUNLIN_PARITY_SCRIPT").expect("DUNLIN_PARITY_SCRIPT");
    let text = std::fs::read_to_string(&path).expect(&path);
    let script: Script = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    let model = model(&script.model);
    for case in run::compare(&model, &model, vec![script]) {
        println!("{case}");
        assert!(case.found.is_empty(), "it diverges");
    }
}
