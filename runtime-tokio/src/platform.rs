//! The clock.

use std::time::Duration;

/// The engine's clock: microseconds since the driver began. It is tokio's, so that a test that
/// pauses the runtime's time pauses the engine's too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(tokio::time::Instant);

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// Now.
    pub(crate) fn now(&self) -> dunlin_core::Instant {
        let micros = u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX);
        dunlin_core::Instant::from_micros(micros.saturating_add(1))
    }

    /// The platform's name for `at`; far futures are cut to a day, which only means to look
    /// again then.
    pub(crate) fn deadline(&self, at: dunlin_core::Instant) -> tokio::time::Instant {
        const DAY: Duration = Duration::from_secs(86_400);
        let from_start = Duration::from_micros(at.as_micros().saturating_sub(1));
        self.0 + from_start.min(self.0.elapsed() + DAY)
    }
}
