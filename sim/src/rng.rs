//! The random numbers of a host, a box or a link.

use std::convert::Infallible;

use rand_core::{SeedableRng, TryRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A small, fast generator: 32 bytes of state, and the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct SimRng(Xoshiro256PlusPlus);

impl SimRng {
    /// Creates a generator from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Creates the generator of part number `n` of something that was seeded with `seed`. Parts
    /// share no state, so adding or removing a part changes no other.
    #[must_use]
    pub fn part(seed: u64, n: u64) -> Self {
        // SplitMix64's increment separates neighbouring seeds before they are expanded.
        Self::new(seed ^ n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl TryRng for SimRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(into)
    }
}

#[cfg(test)]
mod tests {
    use rand_core::Rng;

    use super::*;

    #[test]
    fn parts_differ_and_repeat() {
        let draw = |seed, n| SimRng::part(seed, n).next_u64();
        assert_eq!(draw(1, 2), draw(1, 2));
        let mut all: Vec<u64> = (0..10)
            .flat_map(|s| (0..10).map(move |n| draw(s, n)))
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 100);
    }
}
