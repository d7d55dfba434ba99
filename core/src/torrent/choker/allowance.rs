//! How much choked peers may be promised.

/// The share (one eighth) of the upload that choked peers may have, like that of the optimistic slots of a seed.
const SHARE: u64 = 8;

/// The upload that choked peers may have: what uploads have earned, and was not promised yet.
///
/// What choked peers take is at the expense of those with slots, as nothing tells when the uplink is idle. They take the
/// pieces of a set (BEP 6 *allowed fast*) and not the rarest ones, and the peers of one /24 have the same set: without a limit,
/// a crowd from one network gets many copies of few pieces from a seed, and the others leave it too late.
#[derive(Debug)]
pub(super) struct Allowance {
    /// The bytes uploaded for which it was credited.
    credited: u64,
    left: u64,
}

impl Allowance {
    pub(super) const fn new() -> Self {
        Self {
            credited: 0,
            left: 0,
        }
    }

    /// Takes `bytes`, and returns whether they were left. `uploaded` is what was uploaded so far. At most `most` bytes
    /// accumulate, so that a seed that was busy for a long time is not at the mercy of the next crowd.
    pub(super) const fn take(&mut self, uploaded: u64, bytes: u64, most: u64) -> bool {
        let earned = uploaded.saturating_sub(self.credited) / SHARE;
        self.credited = self.credited.saturating_add(earned.saturating_mul(SHARE));
        self.left = self.left.saturating_add(earned);
        if self.left > most {
            self.left = most;
        }
        let enough = bytes <= self.left;
        if enough {
            self.left -= bytes;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eighth_of_what_was_uploaded_may_be_promised() {
        let mut allowance = Allowance::new();
        assert!(!allowance.take(0, 1, 100));
        assert!(!allowance.take(79, 10, 100));
        assert!(allowance.take(80, 10, 100));
        assert!(!allowance.take(80, 1, 100));
        // What does not make a whole byte is not lost.
        for uploaded in 81..160 {
            assert!(!allowance.take(uploaded, 10, 100));
        }
        assert!(allowance.take(160, 10, 100));
    }

    #[test]
    fn a_long_upload_does_not_pay_for_a_crowd() {
        let mut allowance = Allowance::new();
        let granted = (0..50).filter(|_| allowance.take(1 << 40, 10, 25)).count();
        assert_eq!(granted, 2);
        assert!(!allowance.take(u64::MAX, u64::MAX, 25));
    }
}
