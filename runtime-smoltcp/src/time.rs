//! The time of the engine and of the stack: microseconds since the same origin.

use core::time::Duration;

use dunlin_core::Instant;

/// Converts the engine's instant to the stack's. Saturates beyond 292 000 years.
#[must_use]
pub fn to_stack(at: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// Converts the stack's instant to the engine's. Times before the origin become the origin.
#[must_use]
pub fn to_engine(at: smoltcp::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
}

/// Converts a duration to the stack's type.
#[must_use]
pub fn to_stack_duration(span: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// How long a board may sleep: until the earlier deadline of the engine and the stack. Zero when
/// one has passed, and `None` when there is none.
#[must_use]
pub fn sleep(
    now: Instant,
    engine: Option<Instant>,
    stack: Option<smoltcp::time::Instant>,
) -> Option<Duration> {
    let stack = stack.map(to_engine);
    let next = engine.into_iter().chain(stack).min()?;
    Some(next.saturating_since(now))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn the_earlier_deadline_counts_and_a_past_one_is_now() {
        let at = Instant::from_micros;
        let stack = |n| Some(smoltcp::time::Instant::from_micros(n));
        assert_eq!(sleep(at(10), None, None), None);
        assert_eq!(
            sleep(at(10), Some(at(30)), stack(25)),
            Some(Duration::from_micros(15))
        );
        assert_eq!(sleep(at(10), Some(at(30)), stack(4)), Some(Duration::ZERO));
    }

    quickcheck! {
        fn times_survive_the_round_trip(micros: u64) -> bool {
            let at = Instant::from_micros(micros >> 1);
            to_engine(to_stack(at)) == at
        }
    }
}
