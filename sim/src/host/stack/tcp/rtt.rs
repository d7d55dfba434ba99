//! Round-trip times and the retransmission timeout (RFC 6298).

/// The timeout before the first sample (RFC 6298 §2.1), in microseconds.
pub(super) const FIRST_RTO: u64 = 1_000_000;
/// The least that the variance contributes. Linux uses 200 ms in place of the RFC's timeout of at
/// least one second.
const MIN_VARIANCE: u64 = 200_000;
/// The longest timeout (RFC 6298 §2.5 allows a limit of 60 s or more).
const MAX_RTO: u64 = 120_000_000;
/// How long the smallest round-trip time counts.
const MIN_LASTS: u64 = 300_000_000;

/// The estimate of one connection. All times are in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    /// The smoothed round-trip time, times 8; 0 before the first sample.
    smooth8: u64,
    /// The mean deviation, times 4.
    deviation4: u64,
    /// The smallest sample, and its time.
    least: Option<(u64, u64)>,
}

impl Rtt {
    /// Adds a sample.
    pub(super) fn sample(&mut self, now: u64, rtt: u64) {
        let rtt = rtt.max(1);
        if self.smooth8 == 0 {
            self.smooth8 = rtt * 8;
            self.deviation4 = rtt * 2;
        } else {
            let error = rtt.abs_diff(self.smooth8 / 8);
            self.deviation4 = self.deviation4 - self.deviation4 / 4 + error;
            self.smooth8 = self.smooth8 - self.smooth8 / 8 + rtt;
        }
        match self.least {
            Some((least, at)) if least < rtt && now < at + MIN_LASTS => {}
            _ => self.least = Some((rtt, now)),
        }
    }

    /// The smoothed round-trip time.
    pub(super) const fn smoothed(&self) -> Option<u64> {
        match self.smooth8 {
            0 => None,
            n => Some(n / 8),
        }
    }

    /// The smallest sample of the last minutes.
    pub(super) fn least(&self) -> Option<u64> {
        self.least.map(|(rtt, _)| rtt)
    }

    /// The retransmission timeout after `backoff` timeouts in a row.
    pub(super) fn timeout(&self, backoff: u32) -> u64 {
        let base = match self.smoothed() {
            None => FIRST_RTO,
            Some(smooth) => smooth + self.deviation4.max(MIN_VARIANCE),
        };
        base.saturating_mul(1 << backoff.min(20)).min(MAX_RTO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_samples_and_doubles() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(0), 1_000_000);
        rtt.sample(0, 100_000);
        assert_eq!(rtt.timeout(0), 300_000);
        for n in 0..100 {
            rtt.sample(n, 100_000);
        }
        assert_eq!(rtt.timeout(0), 300_000, "the variance has a floor");
        assert_eq!(rtt.timeout(3), 2_400_000);
        assert_eq!(rtt.timeout(30), MAX_RTO);
        rtt.sample(200, 900_000);
        assert!(rtt.timeout(0) > 900_000);
        assert_eq!(rtt.least(), Some(100_000));
        rtt.sample(MIN_LASTS + 200, 150_000);
        assert_eq!(rtt.least(), Some(150_000), "the path may have changed");
    }
}
