//! When a service checks its node, stops it because nothing needs it, and saves its table.

use core::time::Duration;

use crate::Instant;

/// Time between checks of the node while it knows few others (rTorrent's value).
const CHECK_EARLY: Duration = Duration::from_secs(60);
/// The same afterwards (rTorrent's value).
const CHECK: Duration = Duration::from_secs(15 * 60);
/// How long the node goes on when nothing needs it, in mode `auto` (rTorrent's value).
pub(super) const LINGER: Duration = Duration::from_secs(15 * 60);
/// Time between saves (rTorrent's interval for its session).
const SAVE: Duration = Duration::from_secs(1200);
/// Time until a changed table is saved. Our choice: a crash loses the changes of one minute at most.
const SAVE_SOON: Duration = Duration::from_secs(60);

/// What a service does at which time.
#[derive(Debug)]
pub(super) struct Schedule {
    check_at: Option<Instant>,
    /// `None` while something needs the node.
    stop_at: Option<Instant>,
    save_at: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) check: bool,
    pub(super) stop: bool,
    pub(super) save: bool,
}

impl Schedule {
    /// That of a node that does not run.
    pub(super) const EMPTY: Self = Self {
        check_at: None,
        stop_at: None,
        save_at: None,
    };

    /// The node was started.
    pub(super) fn started(now: Instant) -> Self {
        Self {
            check_at: Some(now + CHECK_EARLY),
            stop_at: None,
            save_at: Some(now + SAVE),
        }
    }

    /// The node was checked. If it knows few others, the next check is `early`.
    pub(super) fn checked(&mut self, now: Instant, early: bool) {
        self.check_at = Some(now + if early { CHECK_EARLY } else { CHECK });
    }

    /// Something needs the node.
    pub(super) const fn used(&mut self) {
        self.stop_at = None;
    }

    /// Nothing needs the node. If that was known, the time of the stop remains.
    pub(super) fn unused(&mut self, now: Instant) {
        self.stop_at.get_or_insert(now + LINGER);
    }

    /// Whether nothing needs the node.
    pub(super) const fn is_lingering(&self) -> bool {
        self.stop_at.is_some()
    }

    /// The table was saved.
    pub(super) fn saved(&mut self, now: Instant) {
        self.save_at = Some(now + SAVE);
    }

    /// The table changed.
    pub(super) fn save_soon(&mut self, now: Instant) {
        let soon = now + SAVE_SOON;
        self.save_at = Some(self.save_at.map_or(soon, |at| at.min(soon)));
    }

    /// What is due now.
    pub(super) fn due(&self, now: Instant) -> Due {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        Due {
            check: due(self.check_at),
            stop: due(self.stop_at),
            save: due(self.save_at),
        }
    }

    /// When something is due next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let all = [self.check_at, self.stop_at, self.save_at];
        all.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(1);

    #[test]
    fn a_table_that_keeps_changing_is_saved_within_a_minute() {
        let mut schedule = Schedule::started(NOW);
        schedule.save_soon(NOW);
        schedule.save_soon(NOW + SAVE_SOON / 2);
        assert!(!schedule.due(NOW + SAVE_SOON / 2).save);
        assert!(schedule.due(NOW + SAVE_SOON).save);
        schedule.saved(NOW + SAVE_SOON);
        assert!(!schedule.due(NOW + SAVE).save);
        assert!(schedule.due(NOW + SAVE_SOON + SAVE).save);
    }

    #[test]
    fn a_node_that_is_needed_again_is_not_stopped() {
        let mut schedule = Schedule::started(NOW);
        schedule.unused(NOW);
        schedule.unused(NOW + LINGER / 2);
        assert!(schedule.is_lingering());
        assert!(schedule.due(NOW + LINGER).stop, "it counts from the first");
        schedule.used();
        assert!(!schedule.due(NOW + LINGER).stop);
        assert_eq!(schedule.poll_timeout(), Some(NOW + CHECK_EARLY));
        assert_eq!(Schedule::EMPTY.poll_timeout(), None);
    }
}
