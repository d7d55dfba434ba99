//! The progress of a torrent, recorded as it happens.

use dunlin_core::Instant;

/// The most points of a curve. When there would be more, every second one is left out, except the
/// last.
const MAX_POINTS: usize = 8_192;

/// The progress of a torrent on one machine. Each entry has the instant of the event itself, so
/// that nothing depends on when somebody looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    points: Vec<(Instant, u64)>,
    completed: Option<Instant>,
    exact: bool,
}

impl Progress {
    /// The numbers of verified bytes and when each was reached, oldest first.
    #[must_use]
    pub fn points(&self) -> &[(Instant, u64)] {
        &self.points
    }

    /// The number of bytes that were verified last.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.points.last().map_or(0, |(_, done)| *done)
    }

    /// When the engine first reported that it has everything.
    #[must_use]
    pub const fn completed(&self) -> Option<Instant> {
        self.completed
    }

    /// Whether the disk held the correct content at that time; `false` when the content was not
    /// announced to it.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.exact
    }

    pub(super) fn note(&mut self, now: Instant, done: u64) {
        if self.points.last().is_some_and(|(_, last)| *last == done) {
            return;
        }
        if self.points.len() == MAX_POINTS {
            let mut n = 0;
            self.points.retain(|_| {
                n += 1;
                n % 2 == 0
            });
        }
        self.points.push((now, done));
    }

    /// Notes that everything is there. Only the first time counts; `exact` is called then.
    pub(super) fn complete(&mut self, now: Instant, exact: impl FnOnce() -> bool) {
        if self.completed.is_none() {
            self.completed = Some(now);
            self.exact = exact();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_end() {
        let mut progress = Progress::default();
        let most = 3 * MAX_POINTS as u64;
        for n in 1..=most {
            progress.note(Instant::from_micros(n), n * 10);
            assert_eq!(progress.done(), n * 10);
        }
        assert!(progress.points().len() <= MAX_POINTS);
        assert!(progress.points().windows(2).all(|w| w[0] < w[1]));
        assert!(progress.points()[0].1 < most / 100);
    }

    #[test]
    fn only_the_first_completion_counts() {
        let mut progress = Progress::default();
        progress.complete(Instant::from_micros(5), || true);
        progress.complete(Instant::from_micros(9), || false);
        assert_eq!(progress.completed(), Some(Instant::from_micros(5)));
        assert!(progress.is_exact());
    }
}
