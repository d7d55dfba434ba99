//! The corpora that fuzzing left, over every target: what was found once stays mended.

#![allow(
    clippy::print_stdout,
    reason = "a failing test shows which input it was"
)]

use std::fs;
use std::path::{Path, PathBuf};

use dunlin_fuzz_targets::TARGETS;

/// Bytes of one target's corpus: it is kept small.
const MAX_CORPUS: u64 = 256 << 10;

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|e| e.expect("a file").path()).collect();
    inputs.sort();
    inputs
}

/// Runs every input of a target; a panic is preceded by the name of its input.
fn replay(name: &str) {
    let target = TARGETS.iter().find(|t| t.name == name).expect("a target");
    let inputs = inputs(name);
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for input in inputs {
        println!("{}", input.display());
        (target.run)(&fs::read(&input).expect("a file"));
    }
    (target.run)(&[]);
}

macro_rules! replays {
    ($($name:ident),*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_target_is_replayed() {
            let names = [$(stringify!($name)),*];
            assert!(TARGETS.iter().map(|t| t.name).eq(names));
        }
    };
}

replays!(
    bencode, config, dht_cache, engine, http, krpc, magnet, metainfo, mux, peer, resume, scenario,
    tracker
);

#[test]
fn corpora_are_small() {
    for target in TARGETS {
        let bytes: u64 = inputs(target.name)
            .iter()
            .map(|p| p.metadata().expect("a file").len())
            .sum();
        assert!(
            bytes <= MAX_CORPUS,
            "{}: {bytes} bytes; tests/fuzz/run --minimise {}",
            target.name,
            target.name
        );
    }
}
