//! The smallest script that still diverges: events are taken out, and pauses.
//!
//! A router takes many scripts at a time, so all candidates of a round are tried at once.

use super::model::Model;
use super::run::{Case, compare};
use super::script::Script;

/// Rounds, of which each takes as long as the script.
const ROUNDS: usize = 8;
/// Of so few events any two are taken out, not only neighbours.
const FEW: usize = 10;

/// Makes a case smaller as long as anything in it diverges.
pub fn shrink(kernel: &Model, simulated: &Model, case: &Case) -> Case {
    let mut best = case.clone();
    for _ in 0..ROUNDS {
        let candidates = candidates(&best);
        let tried = compare(kernel, simulated, candidates);
        let smaller = tried
            .into_iter()
            .filter(|case| !case.found.is_empty())
            .min_by_key(|case| (case.script.events.len(), last(&case.script)));
        match smaller {
            Some(case) => best = case,
            None => break,
        }
    }
    best
}

fn last(script: &Script) -> u32 {
    script.events.last().map_or(0, |e| e.at)
}

/// Smaller scripts: what comes after the first divergence taken off, runs of events taken out,
/// every pause taken out, any two taken out.
fn candidates(case: &Case) -> Vec<Script> {
    let script = &case.script;
    let len = script.events.len();
    let mut all = Vec::new();
    if let Some(first) = case.found.first() {
        all.push(script.without(&(first.event + 1..len).collect::<Vec<_>>()));
    }
    let mut run = len / 2;
    while run > 0 {
        for from in 0..=len - run {
            all.push(script.without(&(from..from + run).collect::<Vec<_>>()));
        }
        run /= 2;
    }
    if len <= FEW {
        for a in 0..len {
            for b in a + 1..len {
                all.push(script.without(&[a, b]));
            }
        }
    }
    let mut quick = script.clone();
    for event in &mut quick.events {
        event.at = 0;
    }
    all.push(quick);
    all.retain(|smaller| (smaller.events.len(), last(smaller)) < (len, last(script)));
    all
}
