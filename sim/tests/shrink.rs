//! A planted fault is found by a sweep and reduced.

use std::{ops::ControlFlow, time::Duration};

use dunlin_sim::{
    experiment::{
        ledger::{self, Event, Ledger},
        sweep::{self, Shard},
    },
    middlebox::nat::{Fault, NatConfig, presets},
};

/// The number of events in a script.
const LEN: usize = 60;

fn forgetful() -> NatConfig {
    NatConfig {
        fault: Some(Fault::ForgetMapping {
            nth: 3,
            after: Duration::from_secs(4),
        }),
        ..presets::linux()
    }
}

const fn case(nat: NatConfig) -> Ledger {
    Ledger { nat, events: LEN }
}

/// The seeds of a shard for which the property does not hold.
fn failing(nat: &NatConfig, seeds: u64, shard: Shard) -> Vec<u64> {
    let mut found = Vec::new();
    sweep::run(&case(nat.clone()), 0..seeds, shard, |seed, outcome| {
        if outcome.is_err() {
            found.push(seed);
        }
        ControlFlow::Continue(())
    });
    found
}

#[test]
fn a_sound_nat_keeps_what_it_promises() {
    let mut answers = 0;
    let case = case(presets::linux());
    let ran = sweep::run(&case, 0..60, Shard::WHOLE, |seed, outcome| {
        let kept = outcome.unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
        answers += kept.answers;
        ControlFlow::Continue(())
    });
    assert_eq!(ran, 60);
    assert!(answers > 300, "hardly put to the test: {answers} answers");
}

#[test]
fn a_planted_fault_is_found_by_a_sweep_and_shrunk() {
    let nat = forgetful();
    let seeds = failing(&nat, 40, Shard::WHOLE);
    let seed = *seeds.first().expect("a sweep finds the fault");
    let script = ledger::script(seed, LEN);
    let shrunk = ledger::shorten(&nat, seed, script);

    assert!(shrunk.reproduced && shrunk.minimal && shrunk.from == LEN);
    assert!(shrunk.events.len() <= 10, "{:#?}", shrunk.events);
    let broken = ledger::play(&nat, seed, &shrunk.events).expect_err("it still fails");
    assert_eq!(broken.event, shrunk.events.len() - 1);
    assert!(matches!(shrunk.events[broken.event], Event::Answer { .. }));
    // The reduced script fails because of the fault, not on its own.
    let sound = ledger::play(&presets::linux(), seed, &shrunk.events).expect("kept");
    assert_eq!(sound.answers, 1);
}

#[test]
fn shards_find_together_what_one_sweep_finds() {
    let nat = forgetful();
    let whole = failing(&nat, 40, Shard::WHOLE);
    let mut joined: Vec<u64> = (1..=3)
        .flat_map(|i| failing(&nat, 40, Shard::new(i, 3).expect("there is one")))
        .collect();
    joined.sort_unstable();
    assert_eq!(joined, whole);
    assert!(whole.len() > 3);
}

#[test]
fn a_script_is_played_the_same_twice() {
    let nat = presets::linux();
    let play = |seed| ledger::play(&nat, seed, &ledger::script(seed, LEN));
    assert_eq!(play(5), play(5));
    assert_ne!(play(5), play(6));
}
