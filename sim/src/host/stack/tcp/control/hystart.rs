//! HyStart: leaves slow start before the queue overflows (Ha and Rhee, "Taming the Elephants: New
//! TCP Slow Start", Computer Networks 55, 2011). Linux does so for CUBIC.

use super::Acked;

/// Below this window, in segments, slow start goes on.
const LOW_WINDOW: u64 = 16;
/// The samples of a round that count towards its delay.
const SAMPLES: u8 = 8;
/// Acknowledgements that are not further apart belong to one train.
const TRAIN_GAP: u64 = 2_000;
/// The bounds of the delay that ends slow start.
const MIN_DELAY: u64 = 4_000;
const MAX_DELAY: u64 = 16_000;

/// The state of one slow start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HyStart {
    /// The round ends when everything before this offset is acknowledged.
    round_end: u64,
    /// When the round began.
    began: u64,
    /// The last acknowledgement of the train that began with the round.
    train: u64,
    samples: u8,
    /// The smallest round-trip time of this round.
    round_rtt: Option<u64>,
    /// The smallest round-trip time of the connection.
    least: Option<u64>,
}

impl HyStart {
    /// Returns `true` when slow start should end.
    pub(super) fn is_over(&mut self, acked: &Acked, window: u64, mss: u64) -> bool {
        let now = acked.now;
        if let Some(rtt) = acked.rtt {
            self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        }
        if acked.una > self.round_end {
            self.round_end = acked.nxt;
            (self.began, self.train) = (now, now);
            (self.samples, self.round_rtt) = (0, None);
        }
        let Some(least) = self.least else {
            return false;
        };
        if window < LOW_WINDOW * mss {
            return false;
        }
        // The window is acknowledged back to back for half a round trip: the path is full.
        if now - self.train <= TRAIN_GAP {
            self.train = now;
            if now - self.began > least / 2 {
                return true;
            }
        }
        if let Some(rtt) = acked.rtt
            && self.samples < SAMPLES
        {
            self.samples += 1;
            self.round_rtt = Some(self.round_rtt.map_or(rtt, |min| min.min(rtt)));
        }
        let queued = (least / 8).clamp(MIN_DELAY, MAX_DELAY);
        self.samples >= SAMPLES && self.round_rtt.is_some_and(|rtt| rtt >= least + queued)
    }
}
