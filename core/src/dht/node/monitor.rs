//! Counters, statistics and warnings, as rTorrent's "Using DHT" page describes them.

use core::time::Duration;

use crate::Instant;
use crate::dht::{Cause, DhtLog};

/// Nodes that make a table usable (S15).
pub(super) const ENOUGH_NODES: u32 = 32;
/// Time between housekeeping of the table, and between checks whether statistics are due (S23).
pub(super) const HOUSEKEEPING: Duration = Duration::from_secs(15 * 60);
/// The same while bootstrapping (S15).
const BOOTSTRAP_TICK: Duration = Duration::from_secs(60);
/// The first cycle that ends with statistics: 15 minutes after the bootstrap (S19).
const FIRST_LINE: u32 = 3;
/// Cycles between statistics: 2 hours (S19).
const LINE_EVERY: u32 = 8;
/// Queries that we send after which one of another node should have arrived (S17).
const UNREACHABLE_AFTER: u64 = 100;

/// Counters that only grow, until the next start (S6).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) queries_in: u64,
    pub(super) queries_out: u64,
    pub(super) replies: u64,
    pub(super) errors_received: u64,
    pub(super) errors_caught: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// The present values that can grow and shrink.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauges {
    pub(super) nodes: u32,
    pub(super) buckets: u32,
    pub(super) peers: u32,
    pub(super) peers_max: u32,
    pub(super) torrents: u32,
    /// Why queries might not reach us.
    pub(super) unreachable: Option<Cause>,
    /// Why replies might not reach us.
    pub(super) firewalled: Cause,
}

/// Lines of one tick: a warning, or statistics.
pub(super) type Lines = heapless::Vec<DhtLog, 3>;

/// Counts what the node does, and says when a line of the log is due.
#[derive(Clone, Debug)]
pub(super) struct Monitor {
    /// Since the start.
    pub(super) counters: Counters,
    /// As of the last statistics.
    reported: Counters,
    /// 0 inactive, 1 bootstrapping, then one more every 15 minutes.
    cycle: u32,
    /// The cycle of the last statistics.
    line: u32,
    tick: Option<Instant>,
    can_receive: bool,
    firewalled: bool,
}

impl Monitor {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            reported: Counters::default(),
            cycle: 0,
            line: 0,
            tick: None,
            can_receive: true,
            firewalled: false,
        }
    }

    /// The node starts; a table that is usable already needs no bootstrap (S16).
    pub(super) fn start(&mut self, now: Instant, nodes: u32) {
        *self = Self::new();
        self.cycle = if nodes >= ENOUGH_NODES { 2 } else { 1 };
        self.schedule(now);
    }

    /// The node stops: returns the last statistics, if they have changed (S5).
    pub(super) fn stop(&mut self, gauges: &Gauges) -> Option<DhtLog> {
        let told = (self.cycle > 1 && self.cycle != self.line).then(|| self.statistics(gauges));
        (self.cycle, self.tick) = (0, None);
        told
    }

    pub(super) const fn cycle(&self) -> u32 {
        self.cycle
    }

    pub(super) const fn is_bootstrapping(&self) -> bool {
        self.cycle == 1
    }

    /// Queries of others reach us, as far as is known (S14, S17).
    pub(super) const fn can_receive(&self) -> bool {
        self.can_receive
    }

    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        self.tick
    }

    /// A query came in, so we are reachable (S17).
    pub(super) const fn received(&mut self) {
        self.can_receive = true;
    }

    fn schedule(&mut self, now: Instant) {
        self.tick = Some(
            now + if self.cycle == 1 {
                BOOTSTRAP_TICK
            } else {
                HOUSEKEEPING
            },
        );
    }

    /// The table has become usable (S16). Our choice: logged at once, not at the next tick.
    pub(super) fn bootstrapped(&mut self, now: Instant, gauges: &Gauges) -> DhtLog {
        self.cycle = 2;
        self.schedule(now);
        DhtLog::Bootstrapped {
            nodes: gauges.nodes,
            buckets: gauges.buckets,
        }
    }

    /// Handles a tick if one is due: returns whether it is time for housekeeping, and lines of the log.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        gauges: &Gauges,
    ) -> Option<(bool, Lines)> {
        if self.tick? > now {
            return None;
        }
        let housekeeping = self.cycle > 1;
        if housekeeping {
            self.cycle = self.cycle.saturating_add(1);
        }
        self.schedule(now);
        Some((housekeeping, self.lines(gauges)))
    }

    fn lines(&mut self, gauges: &Gauges) -> Lines {
        let mut lines = Lines::new();
        let sent = self.counters.queries_out - self.reported.queries_out;
        let silent = self.counters.replies == self.reported.replies;
        if sent > 2 * u64::from(gauges.nodes) + 20 && silent {
            if !self.firewalled {
                let _ = lines.push(DhtLog::Firewalled(gauges.firewalled));
            }
            self.firewalled = true;
            return lines;
        }
        self.firewalled = false;
        let unasked = self.counters.queries_in == self.reported.queries_in;
        if self.cycle > 2
            && sent > UNREACHABLE_AFTER
            && unasked
            && self.can_receive
            && let Some(cause) = gauges.unreachable
        {
            self.can_receive = false;
            let _ = lines.push(DhtLog::Unreachable(cause));
        }
        let due = if self.line == 0 {
            FIRST_LINE
        } else {
            self.line + LINE_EVERY
        };
        if self.cycle >= due {
            let _ = lines.push(self.statistics(gauges));
        }
        lines
    }

    fn statistics(&mut self, gauges: &Gauges) -> DhtLog {
        let (now, then) = (self.counters, self.reported);
        (self.reported, self.line) = (now, self.cycle);
        DhtLog::Statistics {
            queries_in: now.queries_in - then.queries_in,
            queries_out: now.queries_out - then.queries_out,
            replies: now.replies - then.replies,
            bytes_in: now.bytes_in - then.bytes_in,
            bytes_out: now.bytes_out - then.bytes_out,
            nodes: gauges.nodes,
            buckets: gauges.buckets,
            peers: gauges.peers,
            peers_max: gauges.peers_max,
            torrents: gauges.torrents,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    const MINUTE: Duration = Duration::from_secs(60);

    fn gauges(nodes: u32) -> Gauges {
        Gauges {
            nodes,
            buckets: 9,
            peers: 3,
            peers_max: 4,
            torrents: 2,
            unreachable: Some(Cause::NotForwarded),
            firewalled: Cause::NoReplies,
        }
    }

    /// What is said until `minutes` have passed, each with its minute.
    fn run(
        monitor: &mut Monitor,
        minutes: u32,
        mut each: impl FnMut(&mut Counters),
    ) -> Vec<(u32, DhtLog)> {
        let mut said = Vec::new();
        for minute in 1..=minutes {
            each(&mut monitor.counters);
            let now = Instant::ORIGIN + MINUTE * minute;
            if let Some((_, lines)) = monitor.handle_timeout(now, &gauges(40)) {
                said.extend(lines.into_iter().map(|l| (minute, l)));
            }
        }
        said
    }

    #[test]
    fn statistics_come_after_15_minutes_and_then_every_two_hours() {
        let mut monitor = Monitor::new();
        monitor.start(Instant::ORIGIN, 40);
        let said = run(&mut monitor, 300, |c| {
            c.queries_in += 1;
            c.queries_out += 2;
            c.replies += 1;
        });
        let minutes: Vec<_> = said.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(minutes, [15, 135, 255]);
        assert_eq!(
            said[1].1.to_string(),
            "DHT statistics: 120 queries in, 240 queries out, 120 replies received, 0 bytes read, \
             0 bytes sent, 40 known nodes in 9 buckets, 3 peers (highest: 4) tracked in 2 torrents."
        );
        assert!(
            monitor.stop(&gauges(40)).is_some(),
            "cycles have passed since the last line"
        );
    }

    #[test]
    fn unreachable_is_said_once_until_a_query_comes() {
        let mut monitor = Monitor::new();
        monitor.start(Instant::ORIGIN, 40);
        let busy =
            |c: &mut Counters| (c.queries_out, c.replies) = (c.queries_out + 20, c.replies + 9);
        let said = run(&mut monitor, 60, busy);
        let warned = |l: &&(u32, DhtLog)| matches!(l.1, DhtLog::Unreachable(Cause::NotForwarded));
        assert_eq!(said.iter().filter(warned).count(), 1);
        assert_eq!(said[0].0, 15);
        assert!(!monitor.can_receive());
        monitor.received();
        assert!(monitor.can_receive());
    }

    #[test]
    fn who_answers_nobody_hears_no_warning_that_nobody_asks() {
        let mut monitor = Monitor::new();
        monitor.start(Instant::ORIGIN, 40);
        let quiet = Gauges {
            unreachable: None,
            ..gauges(40)
        };
        let mut said = Vec::new();
        for quarter in 1..=4 {
            (monitor.counters.queries_out, monitor.counters.replies) =
                (500 * quarter, 200 * quarter);
            let now = Instant::ORIGIN + 15 * MINUTE * quarter as u32;
            said.extend(monitor.handle_timeout(now, &quiet).unwrap().1);
        }
        assert!(matches!(said[..], [DhtLog::Statistics { .. }]), "{said:?}");
    }

    #[test]
    fn firewalled_is_said_once_and_drowns_the_rest() {
        let mut monitor = Monitor::new();
        monitor.start(Instant::ORIGIN, 40);
        let said = run(&mut monitor, 200, |c| c.queries_out += 20);
        assert_eq!(said, [(15, DhtLog::Firewalled(Cause::NoReplies))]);
        let said = run(&mut monitor, 230, |c| {
            (c.queries_out, c.replies) = (c.queries_out + 20, c.replies + 1);
        });
        assert!(
            matches!(said[0].1, DhtLog::Unreachable(_)),
            "it has cleared: {said:?}"
        );
    }

    #[test]
    fn bootstrapping_is_watched_every_minute_and_ends_with_a_line() {
        let mut monitor = Monitor::new();
        monitor.start(Instant::ORIGIN, 31);
        assert_eq!(
            (monitor.cycle(), monitor.poll_timeout()),
            (1, Some(Instant::ORIGIN + MINUTE))
        );
        run(&mut monitor, 3, |_| ());
        assert_eq!(monitor.cycle(), 1);
        let line = monitor.bootstrapped(Instant::ORIGIN, &gauges(32));
        assert_eq!(
            line.to_string(),
            "DHT bootstrap complete, have 32 nodes in 9 buckets."
        );
        assert_eq!(monitor.cycle(), 2);
    }
}
