//! The timers of the engine, in one ordered set.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::{ConnId, Instant, TorrentId};

/// The owner of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A connection.
    Conn(ConnId),
    /// A torrent.
    Torrent(TorrentId, TorrentTimer),
    /// UDP tracker transactions.
    Udp,
    /// The DHT service.
    Dht,
    /// A rate bucket has refilled.
    Throttle,
    /// More torrents are to be visited by a sweep.
    Sweep,
    /// The shutdown stops waiting for trackers.
    Stop,
}

impl Timer {
    /// Its name, to explain wake-ups.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Conn(_) => "connection",
            Self::Torrent(_, timer) => timer.name(),
            Self::Udp => "UDP trackers",
            Self::Dht => "DHT",
            Self::Throttle => "rate limit",
            Self::Sweep => "trackers of all torrents",
            Self::Stop => "shutdown",
        }
    }
}

/// The purpose of a torrent's timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TorrentTimer {
    /// Its announcer.
    Trackers,
    /// The next peer to connect to.
    Connect,
    /// The choking round, and other work that is done every ten seconds.
    Round,
    /// Free upload slots are assigned to interested peers.
    Unchoke,
    /// Peer exchange.
    Pex,
    /// The resume record is saved.
    Save,
    /// Checks whether the trackers knew enough peers.
    Enough,
    /// The retry after a disk error.
    Retry,
}

impl TorrentTimer {
    const fn name(self) -> &'static str {
        match self {
            Self::Trackers => "trackers",
            Self::Connect => "connect",
            Self::Round => "choking round",
            Self::Unchoke => "free upload slots",
            Self::Pex => "peer exchange",
            Self::Save => "resume record",
            Self::Enough => "enough peers",
            Self::Retry => "retry after a disk error",
        }
    }
}

/// The armed timers, at most one deadline per [`Timer`]. Every operation is O(log n); asking for the next one is O(1) in
/// practice.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
    armed: BTreeMap<Timer, Instant>,
    /// The timer that fired last.
    last: Option<Timer>,
}

impl Timers {
    /// Sets the deadline of a timer. `None` disarms it.
    pub(crate) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.armed.insert(timer, at),
            None => self.armed.remove(&timer),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.order.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.order.insert((at, timer));
        }
    }

    /// Sets the deadline of a timer unless it has an earlier one. A timer that fires too early is armed again.
    pub(crate) fn at_latest(&mut self, timer: Timer, at: Instant) {
        if self.armed.get(&timer).is_none_or(|&armed| at < armed) {
            self.set(timer, Some(at));
        }
    }

    /// Sets the deadline of a timer unless it is armed.
    pub(crate) fn arm(&mut self, timer: Timer, at: Instant) {
        if !self.is_armed(timer) {
            self.set(timer, Some(at));
        }
    }

    /// Whether a timer is armed.
    pub(crate) fn is_armed(&self, timer: Timer) -> bool {
        self.armed.contains_key(&timer)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<(Instant, Timer)> {
        self.order.first().copied()
    }

    /// The timer that fired last.
    pub(crate) const fn last(&self) -> Option<Timer> {
        self.last
    }

    /// Disarms and returns the earliest deadline that is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = self.next()?;
        (at <= now).then(|| {
            self.set(timer, None);
            self.last = Some(timer);
            timer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_out_in_order_and_once() {
        let at = Instant::from_micros;
        let conn = ConnId {
            index: 1,
            generation: 0,
        };
        let mut timers = Timers::default();
        timers.set(Timer::Conn(conn), Some(at(30)));
        timers.set(Timer::Udp, Some(at(20)));
        timers.set(Timer::Conn(conn), Some(at(10)));
        timers.at_latest(Timer::Udp, at(25));
        assert_eq!(timers.next(), Some((at(10), Timer::Conn(conn))));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(20)), Some(Timer::Conn(conn)));
        assert_eq!(timers.pop_due(at(20)), Some(Timer::Udp));
        assert_eq!(timers.pop_due(at(99)), None);
    }
}
