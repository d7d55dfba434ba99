//! Whether a torrent may run, has failed, or is stopping.

use core::time::Duration;

use crate::tracker::Announcer;
use crate::{Instant, OpError};

/// How long to wait for trackers that have never answered. One that is about to answer the `started` announce has to be told
/// `stopped`; a dead one must not delay the shutdown. The value is our choice.
const SILENT_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a torrent may run, has failed, or is stopping.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It may run.
    Well,
    /// It failed. It retries when it is resumed and, unless the user has to do something first, by itself.
    Failed(OpError),
    /// It retries; whether the error is over is not known yet.
    Retrying(OpError),
    /// It is stopping.
    Stopping(Stopping),
}

impl Standing {
    /// Whether it runs unless the application has paused it.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self, Self::Well | Self::Retrying(_))
    }

    /// The last error, unless that is over.
    pub(crate) const fn error(&self) -> Option<&OpError> {
        match self {
            Self::Failed(error) | Self::Retrying(error) => Some(error),
            Self::Well | Self::Stopping(_) => None,
        }
    }

    /// Begins a retry.
    pub(crate) fn retry(&mut self) {
        *self = match core::mem::replace(self, Self::Well) {
            Self::Failed(error) => Self::Retrying(error),
            other => other,
        };
    }

    /// The error is over. If it happens again, it is reported again.
    pub(crate) fn recovered(&mut self) {
        if let Self::Retrying(_) = self {
            *self = Self::Well;
        }
    }
}

/// How far a torrent's shutdown has come.
#[derive(Debug)]
pub(crate) struct Stopping {
    /// When to stop waiting for trackers.
    until: Instant,
    /// When to stop waiting if none of the trackers has ever answered.
    pub(crate) silent_until: Instant,
    /// Whether to delete the content.
    pub(crate) delete: bool,
    /// The last disk error that was reported.
    error: Option<OpError>,
    stage: Stage,
}

/// What the shutdown of a torrent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The received blocks to be written, then its record to be saved.
    Writing,
    /// The trackers to be told `stopped`.
    Telling,
    /// Its files to be released.
    Releasing,
}

/// What a torrent that is stopping has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// Save its record.
    Save,
    /// Release its files.
    Release,
}

impl Stopping {
    /// The shutdown begins. Trackers have `timeout` to hear `stopped`. The record is not saved again if it is valid.
    pub(crate) fn new(now: Instant, timeout: Duration, delete: bool, is_saved: bool) -> Self {
        let until = now + timeout;
        Self {
            until,
            silent_until: until.min(now + SILENT_STOP_TIMEOUT),
            delete,
            error: None,
            stage: match is_saved {
                true => Stage::Telling,
                false => Stage::Writing,
            },
        }
    }

    /// A disk job failed. Returns whether that is news.
    pub(crate) fn fails(&mut self, error: &OpError) -> bool {
        let news = self.error.as_ref() != Some(error);
        self.error = Some(error.clone());
        news
    }

    /// Whether its files are being released, which is the last step.
    pub(crate) fn is_releasing(&self) -> bool {
        self.stage == Stage::Releasing
    }

    /// When to stop waiting for trackers.
    pub(crate) fn deadline(&self, announcer: &Announcer) -> Instant {
        match announcer.awaits_stopped() {
            true => self.until,
            false => self.silent_until,
        }
    }

    /// Takes the next step, after all blocks were written and while no disk job is in flight.
    pub(crate) fn step(&mut self, now: Instant, announcer: &Announcer) -> Step {
        if self.is_releasing() {
            return Step::Wait;
        }
        let writing = core::mem::replace(&mut self.stage, Stage::Telling);
        if !self.delete && writing == Stage::Writing {
            return Step::Save;
        }
        if !announcer.all_stopped() && now < self.deadline(announcer) {
            return Step::Wait;
        }
        self.stage = Stage::Releasing;
        Step::Release
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec};

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::net::Ports;
    use crate::tracker::{AnnounceConfig, Families, Query, Stats};
    use crate::wire::tracker::{AnnounceAnswer, Answer, Crypto};
    use crate::{Cx, InfoHash, PeerId};

    const NOW: Instant = Instant::from_micros(10);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn stopping(delete: bool, is_saved: bool) -> Stopping {
        Stopping::new(NOW, TIMEOUT, delete, is_saved)
    }

    /// An announcer with one tracker that was asked, and has answered if `answers`, and was stopped then.
    fn stopped_announcer(answers: bool) -> Announcer {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let cx = &mut Cx {
            now: NOW,
            rng: &mut rng,
        };
        let config = AnnounceConfig {
            families: Families::V4,
            ..AnnounceConfig::default()
        };
        let tiers = [vec![String::from("udp://tracker:1/")]];
        let mut announcer = Announcer::new(cx, InfoHash([1; 20]), &tiers, config);
        announcer.start(cx);
        let stats = Stats {
            uploaded: 0,
            downloaded: 0,
            left: 1,
            partial: false,
            ports: Ports::default(),
            peer_id: PeerId([0; 20]),
            key: 0,
            numwant: None,
            crypto: Crypto::Plain,
            ipv4: None,
            ipv6: None,
        };
        let Query { key, .. } = announcer.poll_query(cx, &stats).unwrap();
        if answers {
            let answer = Answer::Announce(AnnounceAnswer::default());
            announcer.handle_answer(cx, key, Ok(answer));
        }
        announcer.stop(cx);
        announcer
    }

    #[test]
    fn the_record_is_saved_before_the_files_are_released() {
        let announcer = stopped_announcer(true);
        assert!(!announcer.all_stopped(), "it has to be told");
        let mut stop = stopping(false, false);
        assert_eq!(stop.step(NOW, &announcer), Step::Save);
        assert_eq!(stop.step(NOW, &announcer), Step::Wait, "for the tracker");
        assert_eq!(stop.step(NOW + TIMEOUT, &announcer), Step::Release);
        assert!(stop.is_releasing());
        assert_eq!(
            stop.step(NOW + TIMEOUT, &announcer),
            Step::Wait,
            "once is enough"
        );
    }

    #[test]
    fn what_is_valid_or_deleted_is_not_saved() {
        let none = Announcer::new(
            &mut Cx {
                now: NOW,
                rng: &mut ChaCha8Rng::seed_from_u64(1),
            },
            InfoHash([1; 20]),
            &[],
            AnnounceConfig::default(),
        );
        for (delete, is_saved) in [(false, true), (true, false), (true, true)] {
            assert_eq!(stopping(delete, is_saved).step(NOW, &none), Step::Release);
        }
        let mut later = stopping(false, false);
        later.delete = true;
        assert_eq!(later.step(NOW, &none), Step::Release);
    }

    #[test]
    fn a_tracker_that_never_answered_is_not_waited_for_long() {
        let (known, silent) = (stopped_announcer(true), stopped_announcer(false));
        let mut stop = stopping(false, true);
        assert_eq!(stop.deadline(&known), NOW + TIMEOUT);
        assert_eq!(stop.deadline(&silent), NOW + SILENT_STOP_TIMEOUT);
        let soon = NOW + SILENT_STOP_TIMEOUT;
        assert_eq!(stop.step(soon, &known), Step::Wait);
        assert_eq!(stop.step(NOW, &silent), Step::Wait);
        assert_eq!(stop.step(soon, &silent), Step::Release);
    }
}
