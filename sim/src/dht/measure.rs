//! Statistics of many searches.

use std::time::Duration;

use super::{synthetic::K, trial::Search};

/// The value that `per_mille` of `all` do not exceed (nearest rank); zero when there are none.
#[must_use]
pub fn percentile<T: Copy + Ord + Default>(all: &[T], per_mille: usize) -> T {
    let mut all = all.to_vec();
    all.sort_unstable();
    let rank = (all.len() * per_mille).div_ceil(1_000).max(1);
    all.get(rank - 1).copied().unwrap_or_default()
}

/// The median, and the 95th and 99th percentiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// The number of values.
    pub count: usize,
    /// The median.
    pub p50: Duration,
    /// The 95th percentile.
    pub p95: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Spread {
    /// The percentiles of these durations.
    #[must_use]
    pub fn of(all: &[Duration]) -> Self {
        Self {
            count: all.len(),
            p50: percentile(all, 500),
            p95: percentile(all, 950),
            p99: percentile(all, 990),
        }
    }
}

/// The outcome of many searches. Shares and means are in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of searches.
    pub searches: usize,
    /// The searches that found peers, in thousandths.
    pub found_milli: usize,
    /// The time until the first peers.
    pub first_values: Spread,
    /// The time until the last of the closest 8 live nodes that were reached had answered.
    pub closest: Spread,
    /// The mean number of the closest 8 live nodes that answered, in thousandths.
    pub reached_milli: usize,
    /// The searches that reached at least one honest node of the closest 8, in a million of those
    /// that had one.
    pub honest_ppm: usize,
    /// The time until the search was done.
    pub done: Spread,
    /// The mean number of queries of a search, in thousandths.
    pub queries_milli: usize,
    /// The most queries of a search.
    pub queries_most: u32,
    /// The queries to dead nodes, in thousandths of all queries.
    pub dead_milli: usize,
    /// The mean number of nodes that accepted an announce, in thousandths.
    pub announced_milli: usize,
    /// The searches whose result the node considered suspicious, in thousandths.
    pub suspicious_milli: usize,
}

impl Summary {
    /// The statistics of these searches.
    #[must_use]
    pub fn of(all: &[Search]) -> Self {
        let count = all.len().max(1);
        let times = |of: fn(&Search) -> Option<Duration>| {
            Spread::of(&all.iter().filter_map(of).collect::<Vec<_>>())
        };
        let share = |n: usize| n * 1_000 / count;
        let queries: usize = all.iter().map(|s| s.queries as usize).sum();
        let dead: usize = all.iter().map(|s| s.dead as usize).sum();
        let with_honest = all.iter().filter(|s| s.honest.1 > 0);
        let had = with_honest.clone().count().max(1);
        let got = with_honest.filter(|s| s.honest.0 > 0).count();
        Self {
            searches: all.len(),
            found_milli: share(all.iter().filter(|s| s.first_values.is_some()).count()),
            first_values: times(|s| s.first_values),
            closest: times(|s| s.closest),
            reached_milli: share(all.iter().map(|s| usize::from(s.reached)).sum()),
            honest_ppm: got * 1_000_000 / had,
            done: times(|s| s.done),
            queries_milli: share(queries),
            queries_most: all.iter().map(|s| s.queries).max().unwrap_or(0),
            dead_milli: dead * 1_000 / queries.max(1),
            announced_milli: share(all.iter().map(|s| s.announced as usize).sum()),
            suspicious_milli: share(all.iter().filter(|s| s.suspicious).count()),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milli = |n: usize| format!("{}.{:02}", n / 1_000, n % 1_000 / 10);
        let line = |f: &mut std::fmt::Formatter<'_>, what: &str, s: &Spread| {
            let ms = |d: Duration| d.as_millis();
            writeln!(
                f,
                "  {what:<22} p50 {:>6} ms   p95 {:>6} ms   p99 {:>6} ms   ({} searches)",
                ms(s.p50),
                ms(s.p95),
                ms(s.p99),
                s.count
            )
        };
        let percent = |n: usize| format!("{}.{} %", n / 10, n % 10);
        writeln!(
            f,
            "  searches               {}, {} found peers",
            self.searches,
            percent(self.found_milli)
        )?;
        line(f, "first peers", &self.first_values)?;
        line(f, "closest 8 all answered", &self.closest)?;
        line(f, "done", &self.done)?;
        writeln!(
            f,
            "  of the closest {K}       {} answered; one honest in {} ppm",
            milli(self.reached_milli),
            self.honest_ppm
        )?;
        writeln!(
            f,
            "  queries                {} each, at most {}; {} to dead nodes",
            milli(self.queries_milli),
            self.queries_most,
            percent(self.dead_milli)
        )?;
        write!(
            f,
            "  announced to           {} each; {} called suspicious",
            milli(self.announced_milli),
            percent(self.suspicious_milli)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let all: Vec<u32> = (1..=200).rev().collect();
        assert_eq!((percentile(&all, 500), percentile(&all, 990)), (100, 198));
        assert_eq!(
            (percentile(&all, 1_000), percentile::<u32>(&[], 500)),
            (200, 0)
        );
        assert_eq!(percentile(&[7], 10), 7);
    }
}
