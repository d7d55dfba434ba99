//! Reduces a long script that fails to a short one by delta debugging.
//!
//! First comes ddmin (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input",
//! 2002): halves, quarters and so on are left out as long as the rest fails. Then single events are
//! left out, and finally each event is replaced by a simpler one, until nothing more can be done.
//!
//! ```
//! let script: Vec<u32> = (0..100).collect();
//! let fails = |s: &[u32]| s.contains(&17) && s.contains(&80);
//! let short = dunlin_sim::experiment::shrink::shrink(script, fails);
//! assert_eq!(short, [17, 80]);
//! ```

/// The default limit of runs.
pub const MAX_RUNS: u64 = 100_000;

/// A reduced script, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk<E> {
    /// The reduced script, which fails; the original script if `reproduced` is false.
    pub events: Vec<E>,
    /// The length of the original script.
    pub from: usize,
    /// How often a script was run.
    pub runs: u64,
    /// The original script failed.
    pub reproduced: bool,
    /// No event can be left out or simplified. False when the limit of runs was reached.
    pub minimal: bool,
}

/// The shortest script found that still fails, by leaving out events. A script that does not fail
/// is returned unchanged.
///
/// `fails` must depend on the events only, as a world with a fixed seed does.
pub fn shrink<E: Clone>(events: Vec<E>, fails: impl FnMut(&[E]) -> bool) -> Vec<E> {
    shrink_with(events, |_| Vec::new(), fails, MAX_RUNS).events
}

/// Reduces a script like [`shrink`], and then simplifies the events that remain: `simpler` returns
/// replacements for an event, simplest first. Each replacement must be smaller by a measure that
/// cannot decrease forever. Returns the best script so far after `max_runs` runs.
pub fn shrink_with<E: Clone>(
    events: Vec<E>,
    simpler: impl Fn(&E) -> Vec<E>,
    fails: impl FnMut(&[E]) -> bool,
    max_runs: u64,
) -> Shrunk<E> {
    let from = events.len();
    let mut trial = Trial {
        fails,
        runs: 0,
        max_runs,
    };
    let reproduced = trial.fails(&events);
    let mut best = events;
    if reproduced {
        ddmin(&mut best, &mut trial);
        loop {
            one_by_one(&mut best, &mut trial);
            if !simplify(&mut best, &simpler, &mut trial) {
                break;
            }
        }
    }
    Shrunk {
        events: best,
        from,
        reproduced,
        minimal: reproduced && trial.runs < max_runs,
        runs: trial.runs,
    }
}

/// The predicate, and how often it was called.
struct Trial<F> {
    fails: F,
    runs: u64,
    max_runs: u64,
}

impl<F> Trial<F> {
    /// Runs a script. After the last permitted run nothing fails any more, so that the script stays
    /// as it is.
    fn fails<E>(&mut self, events: &[E]) -> bool
    where
        F: FnMut(&[E]) -> bool,
    {
        if self.runs >= self.max_runs {
            return false;
        }
        self.runs += 1;
        (self.fails)(events)
    }
}

/// Leaves out smaller and smaller parts. Each part is also tried alone, before the rest without it.
fn ddmin<E: Clone, F: FnMut(&[E]) -> bool>(best: &mut Vec<E>, trial: &mut Trial<F>) {
    let mut parts = 2;
    while best.len() >= 2 {
        let size = best.len().div_ceil(parts);
        if let Some(part) = best.chunks(size).find(|part| trial.fails(part)) {
            *best = part.to_vec();
            parts = 2;
            continue;
        }
        let without = (0..best.len()).step_by(size).find_map(|start| {
            let rest = without(best, start, size);
            trial.fails(&rest).then_some(rest)
        });
        if let Some(rest) = without {
            *best = rest;
            parts = (parts - 1).max(2);
        } else if size == 1 {
            return;
        } else {
            parts = (parts * 2).min(best.len());
        }
    }
}

/// Leaves out one event at a time, the last one first, until every event is needed. Unlike ddmin,
/// this can end with an empty script.
fn one_by_one<E: Clone, F: FnMut(&[E]) -> bool>(best: &mut Vec<E>, trial: &mut Trial<F>) {
    let mut shorter = true;
    while shorter {
        shorter = false;
        for at in (0..best.len()).rev() {
            let rest = without(best, at, 1);
            if trial.fails(&rest) {
                *best = rest;
                shorter = true;
            }
        }
    }
}

/// Replaces events by simpler ones. Returns whether any was replaced.
fn simplify<E: Clone, F: FnMut(&[E]) -> bool>(
    best: &mut [E],
    simpler: &impl Fn(&E) -> Vec<E>,
    trial: &mut Trial<F>,
) -> bool {
    let mut changed = false;
    for at in 0..best.len() {
        'again: loop {
            for candidate in simpler(&best[at]) {
                let old = std::mem::replace(&mut best[at], candidate);
                if trial.fails(best) {
                    changed = true;
                    continue 'again;
                }
                best[at] = old;
            }
            break;
        }
    }
    changed
}

fn without<E: Clone>(events: &[E], start: usize, len: usize) -> Vec<E> {
    let mut rest = events[..start].to_vec();
    rest.extend_from_slice(&events[(start + len).min(events.len())..]);
    rest
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        /// A script that fails when it contains certain events shrinks to those.
        fn what_is_needed_remains(script: Vec<u8>, needed: Vec<u8>) -> bool {
            let needed: BTreeSet<u8> = needed.into_iter().take(4).filter(|n| script.contains(n)).collect();
            let fails = |s: &[u8]| needed.iter().all(|n| s.contains(n));
            let mut short = shrink(script, fails);
            short.sort_unstable();
            short.into_iter().eq(needed.iter().copied())
        }

        /// Whatever the failure, the reduced script fails, and none of its events can be left out.
        fn what_remains_is_minimal(script: Vec<u8>, modulus: u8, rest: u8) -> bool {
            let modulus = u32::from(modulus) + 1;
            let fails = |s: &[u8]| s.iter().map(|e| u32::from(*e)).sum::<u32>() % modulus == u32::from(rest) % modulus;
            let failed = fails(&script);
            let shrunk = shrink_with(script.clone(), |_| Vec::new(), fails, MAX_RUNS);
            let short = shrunk.events;
            shrunk.reproduced == failed
                && (failed || short == script)
                && (!failed || fails(&short))
                && (!failed || (0..short.len()).all(|i| !fails(&without(&short, i, 1))))
        }
    }

    #[test]
    fn values_are_made_simpler() {
        let shrunk = shrink_with(
            vec![3u32, 900, 70, 8],
            |e: &u32| {
                vec![e / 2, e.saturating_sub(1)]
                    .into_iter()
                    .filter(|n| n < e)
                    .collect()
            },
            |s: &[u32]| s.iter().any(|e| *e >= 50),
            MAX_RUNS,
        );
        assert_eq!((shrunk.events, shrunk.minimal), (vec![50], true));
    }

    #[test]
    fn when_the_runs_run_out_the_best_so_far_is_given() {
        let fails = |s: &[u32]| s.contains(&5);
        let shrunk = shrink_with((0..64).collect(), |_| Vec::new(), fails, 4);
        assert_eq!((shrunk.runs, shrunk.minimal, shrunk.from), (4, false, 64));
        assert!(shrunk.events.contains(&5) && shrunk.events.len() < 64);
    }
}
