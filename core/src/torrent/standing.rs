//! Whether a torrent may run, has failed, or is stopping.

use crate::{Instant, OpError};

/// Whether a torrent may run, has failed, or is stopping.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It may run.
    Well,
    /// It failed. It retries by itself, or when it is resumed.
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
    pub(crate) until: Instant,
    /// When to stop waiting if none of the trackers has ever answered.
    pub(crate) silent_until: Instant,
    /// Whether to delete the content.
    pub(crate) delete: bool,
    pub(crate) stage: StopStage,
}

/// What the shutdown of a torrent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopStage {
    /// The received blocks to be written, then its record to be saved.
    Writing,
    /// The trackers to be told `stopped`.
    Telling,
    /// Its files to be released.
    Releasing,
}
