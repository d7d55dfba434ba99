//! Time in the engine: an argument of every call, never read from a clock.

use core::{
    num::NonZeroU64,
    ops::{Add, AddAssign},
    time::Duration,
};

/// A point in time, in microseconds since an origin that the driver chooses.
///
/// Arithmetic saturates. There is no operator that subtracts two instants, so a wrong order cannot become a
/// huge duration: use [`Instant::saturating_since`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The earliest instant.
    pub const ORIGIN: Self = Self(NonZeroU64::MIN);

    /// The instant `micros` microseconds after the origin; 0 counts as 1.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        match NonZeroU64::new(micros) {
            Some(n) => Self(n),
            None => Self::ORIGIN,
        }
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0.get()
    }

    /// Time from `earlier` to `self`; zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let late = Instant::from_micros(u64::MAX - 1);
        assert_eq!((late + Duration::MAX).as_micros(), u64::MAX);
        assert_eq!(Instant::ORIGIN.saturating_since(late), Duration::ZERO);
    }

    #[test]
    fn an_optional_instant_costs_no_extra_byte() {
        assert_eq!(size_of::<Option<Instant>>(), 8);
    }
}
