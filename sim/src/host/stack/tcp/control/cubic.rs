//! CUBIC (RFC 9438), with a window of whole segments, as in Linux.

use super::Acked;

/// The multiplicative decrease β is 7/10, and fast convergence multiplies with (1 + β) / 2.
const BETA: (u64, u64) = (7, 10);
const CONVERGENCE: (u64, u64) = (17, 20);
/// The additive increase α of the Reno-friendly region is 3 (1 - β) / (1 + β).
const ALPHA: (u64, u64) = (9, 17);
/// The factor C is 2/5 segments for each cubic second.
const C: (u64, u64) = (2, 5);
/// Without a loss that would say where the limit is, the window grows by at least this fraction in
/// each round trip, as in Linux.
const UNKNOWN_LIMIT: u64 = 20;
/// How long the pace of growth lasts while the window stays as it is, in microseconds. Linux's value.
const PACE_LASTS: u64 = 31_250;

/// The state of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cubic {
    /// The window before the last reduction; 0 before the first.
    last_max: u64,
    /// When congestion avoidance began, in microseconds.
    epoch: Option<u64>,
    /// The window around which the curve is flat.
    origin: u64,
    /// How long after the epoch the curve is flat, in milliseconds (`K`).
    flat: u64,
    /// The window that Reno would have, and the bytes acknowledged since it last grew.
    reno: u64,
    reno_credit: u64,
    /// For how many acknowledged bytes the window grows by a segment; for which window, and since when that holds.
    pace: u64,
    pace_of: u64,
    pace_since: u64,
    /// The bytes acknowledged since the window last grew.
    credit: u64,
}

impl Cubic {
    /// Returns the window after `bytes` more were acknowledged.
    pub(super) fn on_ack(&mut self, acked: &Acked, bytes: u64, window: u64, mss: u64) -> u64 {
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => {
                self.begin(window, mss);
                self.epoch = Some(acked.now);
                acked.now
            }
        };
        self.reno_credit += bytes;
        if window != self.pace_of || acked.now > self.pace_since + PACE_LASTS {
            let age = (acked.now - epoch) / 1_000;
            self.set_pace(age + acked.smoothed / 1_000, window, mss);
            (self.pace_of, self.pace_since) = (window, acked.now);
        }
        let mut grown = window;
        if self.credit >= self.pace {
            // It was collected at a slower pace.
            self.credit = 0;
            grown += mss;
        }
        self.credit += bytes;
        grown += self.credit / self.pace * mss;
        self.credit %= self.pace;
        // The window never grows faster than in slow start.
        grown.min(window + bytes)
    }

    /// Decides how fast the window grows towards that of the curve at `age` milliseconds, or that of Reno.
    fn set_pace(&mut self, age: u64, window: u64, mss: u64) {
        // Linux keeps α where the RFC allows an increase by one segment beyond the old window.
        let each = window * ALPHA.1 / ALPHA.0;
        self.reno += self.reno_credit / each * mss;
        self.reno_credit %= each;
        let target = self.at(age, mss);
        let mut step = target.clamp(window, window + window / 2) - window;
        if self.last_max == 0 {
            step = step.max(window / UNKNOWN_LIMIT);
        }
        step = step.max(self.reno.saturating_sub(window));
        self.pace = match step {
            0 => 100 * window,
            _ => (window * mss / step).max(2 * mss),
        };
    }

    /// Begins congestion avoidance with this window.
    fn begin(&mut self, window: u64, mss: u64) {
        (self.reno, self.reno_credit, self.credit) = (window, 0, 0);
        // The pace is not known.
        self.pace_of = 0;
        if window < self.last_max {
            let segments_cubed = (self.last_max - window) * C.1 * 1_000_000_000 / (C.0 * mss);
            self.flat = cube_root(segments_cubed);
            self.origin = self.last_max;
        } else {
            (self.flat, self.origin) = (0, window);
        }
    }

    /// The window of the curve at `age` milliseconds.
    fn at(&self, age: u64, mss: u64) -> u64 {
        let from_flat = i128::from(age) - i128::from(self.flat);
        let grown = from_flat.pow(3) * i128::from(C.0 * mss) / (i128::from(C.1) * 1_000_000_000);
        u64::try_from(i128::from(self.origin) + grown).unwrap_or(0)
    }

    /// Returns the reduced window after a loss.
    pub(super) fn on_loss(&mut self, window: u64) -> u64 {
        self.last_max = match window < self.last_max {
            true => window * CONVERGENCE.0 / CONVERGENCE.1,
            false => window,
        };
        self.epoch = None;
        window * BETA.0 / BETA.1
    }

    /// Begins the curve anew after an idle period.
    pub(super) fn restart(&mut self) {
        self.epoch = None;
    }
}

/// The integer cube root, rounded down.
pub(super) fn cube_root(n: u64) -> u64 {
    let (mut low, mut high) = (0_u64, 2_642_246_u64);
    while low + 1 < high {
        let middle = low.midpoint(high);
        match middle.pow(3) <= n {
            true => low = middle,
            false => high = middle,
        }
    }
    low
}
