//! The clock.

use std::time::Duration;

/// The engine's clock: microseconds since the driver started. It follows tokio's clock, so a test that
/// pauses the runtime's time pauses the engine's as well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(tokio::time::Instant);

impl Clock {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// The current time.
    pub(crate) fn now(&self) -> dunlin_core::Instant {
        let micros = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        dunlin_core::Instant::from_micros(micros.saturating_add(1))
    }

    /// The time `at` on tokio's clock. Later times than in a day are shortened to a day; the driver then
    /// only looks again.
    pub(crate) fn deadline(&self, at: dunlin_core::Instant) -> tokio::time::Instant {
        const DAY: Duration = Duration::from_secs(86_400);
        let from_start = Duration::from_micros(at.as_micros().saturating_sub(1));
        self.0 + from_start.min(self.0.elapsed() + DAY)
    }
}
