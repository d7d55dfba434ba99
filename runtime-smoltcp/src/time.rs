//! One time for the engine and the stack: microseconds since the same origin.

use core::time::Duration;

use dunlin_core::Instant;

/// The engine's instant as the stack's. Beyond 292 000 years it saturates.
#[must_use]
pub fn to_stack(at: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// The stack's instant as the engine's; what lies before the origin is the origin.
#[must_use]
pub fn to_engine(at: smoltcp::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
}

/// A span of time as the stack has it.
#[must_use]
pub fn to_stack_duration(span: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// How long a board may sleep: until the earlier of the engine's and the stack's deadline; zero
/// if one has passed, `None` if there is none.
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
