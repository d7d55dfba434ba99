//! Runs one case with many seeds, spread over shards and threads.
//!
//! A job array runs `--shard 1/N` to `--shard N/N`. Each seed belongs to exactly one shard,
//! whatever the range, so results can be joined by sorting. Each thread runs whole worlds and
//! shares none.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{ControlFlow, Range},
    str::FromStr,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
};

/// A case, which is run once for each seed.
pub trait Case {
    /// The outcome of a run.
    type Outcome;
    /// Runs the case. The same seed must give the same outcome.
    fn run(&self, seed: u64) -> Self::Outcome;
}

impl<T, F: Fn(u64) -> T> Case for F {
    type Outcome = T;
    fn run(&self, seed: u64) -> T {
        self(seed)
    }
}

/// A share of the seeds: number `index` of `of`, counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u64,
    of: u64,
}

/// The reasons why a shard is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadShard {
    /// The text is not of the form `I/N`.
    Form,
    /// The numbers do not satisfy `1 ≤ I ≤ N`.
    Range,
}

impl fmt::Display for BadShard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a shard is written I/N, for example 3/10",
            Self::Range => "in a shard I/N, I is at least 1 and at most N",
        })
    }
}

impl std::error::Error for BadShard {}

impl Shard {
    /// All seeds.
    pub const WHOLE: Self = Self { index: 1, of: 1 };

    /// Shard number `index` of `of`.
    ///
    /// # Errors
    /// [`BadShard::Range`] unless `1 ≤ index ≤ of`.
    pub const fn new(index: u64, of: u64) -> Result<Self, BadShard> {
        if 1 <= index && index <= of {
            Ok(Self { index, of })
        } else {
            Err(BadShard::Range)
        }
    }

    /// The number of the shard, counted from one, and the number of shards.
    #[must_use]
    pub const fn parts(self) -> (u64, u64) {
        (self.index, self.of)
    }

    /// Returns `true` when a seed belongs to this shard.
    #[must_use]
    pub const fn has(self, seed: u64) -> bool {
        seed % self.of == self.index - 1
    }

    /// The seeds of a range that belong to this shard, in order.
    pub fn seeds(self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let skip = (self.index - 1 + self.of - range.start % self.of) % self.of;
        let mut next = range.start.checked_add(skip).filter(|n| *n < range.end);
        std::iter::from_fn(move || {
            let seed = next?;
            next = seed.checked_add(self.of).filter(|n| *n < range.end);
            Some(seed)
        })
    }
}

impl FromStr for Shard {
    type Err = BadShard;

    fn from_str(text: &str) -> Result<Self, BadShard> {
        let (index, of) = text.split_once('/').ok_or(BadShard::Form)?;
        let number = |t: &str| t.parse().map_err(|_| BadShard::Form);
        Self::new(number(index)?, number(of)?)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Runs a case with every seed of a shard, in order, until `on_result` ends the sweep. Returns the
/// number of results that `on_result` received.
pub fn run<C: Case + ?Sized>(
    case: &C,
    seeds: Range<u64>,
    shard: Shard,
    mut on_result: impl FnMut(u64, C::Outcome) -> ControlFlow<()>,
) -> u64 {
    let mut ran = 0;
    for seed in shard.seeds(seeds) {
        ran += 1;
        if on_result(seed, case.run(seed)).is_break() {
            break;
        }
    }
    ran
}

/// How many seeds a thread may be ahead of the result that is awaited.
const AHEAD: u64 = 64;

/// Ends the sweep when a case panics; the other threads would otherwise wait for its result
/// forever.
struct EndOnPanic<'a>(&'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs a case on several threads, like [`run`]. Results come in the order of the seeds, also when
/// the sweep is ended early.
///
/// # Panics
/// When the case panics.
pub fn run_on<C>(
    threads: usize,
    case: &C,
    seeds: Range<u64>,
    shard: Shard,
    mut on_result: impl FnMut(u64, C::Outcome) -> ControlFlow<()>,
) -> u64
where
    C: Case + Sync + ?Sized,
    C::Outcome: Send,
{
    if threads <= 1 {
        return run(case, seeds, shard, on_result);
    }
    let Some(first) = shard.seeds(seeds.clone()).next() else {
        return 0;
    };
    let count = (seeds.end - 1 - first) / shard.of + 1;
    let (taken, given, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (tx, rx) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let tx = tx.clone();
            let (taken, given, over) = (&taken, &given, &over);
            scope.spawn(move || {
                let _end = EndOnPanic(over);
                loop {
                    let n = taken.fetch_add(1, Ordering::Relaxed);
                    while n < count
                        && n > given.load(Ordering::Relaxed) + AHEAD * threads as u64
                        && !over.load(Ordering::Relaxed)
                    {
                        std::thread::yield_now();
                    }
                    if n >= count || over.load(Ordering::Relaxed) {
                        return;
                    }
                    // The receiver is gone when the sweep was ended.
                    if tx.send((n, case.run(first + n * shard.of))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tx);
        let mut early = BTreeMap::new();
        let mut next = 0;
        for (n, outcome) in rx {
            early.insert(n, outcome);
            while let Some(outcome) = early.remove(&next) {
                let seed = first + next * shard.of;
                next += 1;
                given.store(next, Ordering::Relaxed);
                if on_result(seed, outcome).is_break() {
                    over.store(true, Ordering::Relaxed);
                    return next;
                }
            }
        }
        next
    })
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn square(seed: u64) -> u64 {
        seed * seed
    }

    fn swept(threads: usize, seeds: Range<u64>, shard: Shard, until: u64) -> Vec<(u64, u64)> {
        let mut results = Vec::new();
        let ran = run_on(threads, &square, seeds, shard, |seed, outcome| {
            results.push((seed, outcome));
            if seed >= until {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        assert_eq!(ran, results.len() as u64);
        results
    }

    quickcheck! {
        fn shards_have_each_seed_once(from: u8, len: u8, of: u8) -> bool {
            let (from, of) = (u64::from(from), u64::from(of) + 1);
            let range = from..from + u64::from(len);
            let mut seeds: Vec<u64> = (1..=of)
                .flat_map(|i| Shard::new(i, of).unwrap().seeds(range.clone()))
                .collect();
            seeds.sort_unstable();
            seeds.into_iter().eq(range.clone())
                && (1..=of).all(|i| {
                    let shard = Shard::new(i, of).unwrap();
                    shard.seeds(range.clone()).eq(range.clone().filter(|s| shard.has(*s)))
                })
        }

        fn threads_change_nothing(from: u8, len: u8, of: u8, until: u8) -> bool {
            let (from, of) = (u64::from(from), u64::from(of % 4) + 1);
            let range = from..from + u64::from(len);
            let shard = Shard::new(of, of).unwrap();
            swept(1, range.clone(), shard, until.into()) == swept(3, range, shard, until.into())
        }
    }

    #[test]
    fn the_last_seeds_there_are_can_be_swept() {
        let range = u64::MAX - 3..u64::MAX;
        let seeds = |i| {
            Shard::new(i, 2)
                .unwrap()
                .seeds(range.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (seeds(1), seeds(2)),
            (vec![u64::MAX - 3, u64::MAX - 1], vec![u64::MAX - 2])
        );
    }

    #[test]
    fn a_shard_is_read_and_written() {
        let shard: Shard = "3/10".parse().unwrap();
        assert_eq!(
            (shard.parts(), shard.to_string()),
            ((3, 10), "3/10".to_owned())
        );
        for (text, error) in [
            ("3", BadShard::Form),
            ("a/2", BadShard::Form),
            ("0/2", BadShard::Range),
            ("3/2", BadShard::Range),
            ("1/0", BadShard::Range),
        ] {
            assert_eq!(text.parse::<Shard>(), Err(error));
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_case_that_panics_ends_the_sweep() {
        let case = |seed: u64| assert_ne!(seed, 0, "as it should");
        run_on(2, &case, 0..100_000, Shard::WHOLE, |_, ()| {
            ControlFlow::Continue(())
        });
    }
}
