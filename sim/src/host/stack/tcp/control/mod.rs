//! Congestion control: how much may be under way. Windows are in bytes, times in microseconds, and
//! all arithmetic is in integers.

mod cubic;
mod hystart;

use cubic::Cubic;
use hystart::HyStart;

/// The initial window in segments (RFC 6928).
const INITIAL: u64 = 10;
/// Windows stay below this.
const MAX_WINDOW: u64 = 1 << 30;

/// The algorithms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 5681.
    Reno,
    /// RFC 9438, with HyStart; the default of Linux, Windows and macOS.
    #[default]
    Cubic,
}

/// The congestion window of one connection.
#[derive(Clone, Debug)]
pub(super) struct Control {
    mss: u64,
    window: u64,
    threshold: u64,
    /// Bytes that were acknowledged and did not enlarge the window yet.
    credit: u64,
    /// `None` for Reno.
    cubic: Option<Cubic>,
    hystart: HyStart,
}

/// What an acknowledgement says about the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acked {
    pub(super) now: u64,
    /// The bytes that it acknowledges for the first time.
    pub(super) bytes: u64,
    /// The round-trip time of the newest of them.
    pub(super) rtt: Option<u64>,
    /// The smoothed round-trip time.
    pub(super) smoothed: u64,
    /// Everything before this offset is acknowledged.
    pub(super) una: u64,
    /// The next offset to be sent.
    pub(super) nxt: u64,
}

impl Control {
    pub(super) fn new(algorithm: Algorithm, mss: u64) -> Self {
        Self {
            mss,
            window: INITIAL * mss,
            threshold: MAX_WINDOW,
            credit: 0,
            cubic: (algorithm == Algorithm::Cubic).then(Cubic::default),
            hystart: HyStart::default(),
        }
    }

    /// The congestion window.
    pub(super) const fn window(&self) -> u64 {
        self.window
    }

    /// The window after the last reduction.
    pub(super) const fn threshold(&self) -> u64 {
        self.threshold
    }

    pub(super) const fn slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// Sets the window during fast recovery.
    pub(super) fn set_window(&mut self, window: u64) {
        self.window = window.clamp(self.mss, MAX_WINDOW);
    }

    /// Data was acknowledged while the window was in full use.
    pub(super) fn on_ack(&mut self, acked: &Acked) {
        let mut bytes = acked.bytes;
        if self.slow_start() {
            if self.cubic.is_some() && self.hystart.is_over(acked, self.window, self.mss) {
                self.threshold = self.window;
            } else {
                let grown = (self.window + bytes).min(self.threshold);
                bytes -= grown - self.window;
                self.window = grown;
                if bytes == 0 {
                    return;
                }
            }
        }
        self.window = match &mut self.cubic {
            Some(cubic) => cubic.on_ack(acked, bytes, self.window, self.mss),
            None => {
                // One segment for each window (RFC 5681 §3.1, RFC 3465).
                self.credit += bytes;
                let full = self.credit >= self.window;
                self.credit -= if full { self.window } else { 0 };
                self.window + if full { self.mss } else { 0 }
            }
        }
        .min(MAX_WINDOW);
    }

    /// A loss was detected: sets the threshold. The window follows during recovery.
    pub(super) fn on_loss(&mut self) {
        let reduced = match &mut self.cubic {
            Some(cubic) => cubic.on_loss(self.window),
            None => self.window / 2,
        };
        self.threshold = (reduced - reduced % self.mss).max(2 * self.mss);
        self.credit = 0;
    }

    /// The retransmission timer expired. `again` when it did so before without progress between.
    pub(super) fn on_timeout(&mut self, again: bool) {
        if !again {
            self.on_loss();
        }
        self.window = self.mss;
        self.hystart = HyStart::default();
    }

    /// Nothing was sent for `idle`, which is longer than the timeout `rto` (RFC 2861 §3).
    pub(super) fn on_idle(&mut self, idle: u64, rto: u64) {
        let halvings = u32::try_from(idle / rto.max(1)).map_or(63, |n| n.min(63));
        let restart = (INITIAL * self.mss).min(self.window);
        self.threshold = self.threshold.max(self.window * 3 / 4);
        self.window = (self.window >> halvings).max(restart);
        if let Some(cubic) = &mut self.cubic {
            cubic.restart();
        }
    }

    /// The peer has told how long segments are, before any was sent.
    pub(super) const fn set_mss(&mut self, mss: u64) {
        self.mss = mss;
        self.window = INITIAL * mss;
    }
}

#[cfg(test)]
mod tests;
