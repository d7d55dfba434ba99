//! Whether a torrent works, whatever it knows of its files.

use crate::{Instant, OpError};

/// How a torrent stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing is wrong with it.
    Well,
    /// It rests because of an error, and tries again by itself or when it is woken.
    Failed(OpError),
    /// It has tried again, and whether the error is over has not shown yet.
    Retrying(OpError),
    /// It is on its way out.
    Stopping(Stopping),
}

impl Standing {
    /// Whether it works, if the application lets it.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self, Self::Well | Self::Retrying(_))
    }

    /// The error that it met last, unless that is over.
    pub(crate) const fn error(&self) -> Option<&OpError> {
        match self {
            Self::Failed(error) | Self::Retrying(error) => Some(error),
            Self::Well | Self::Stopping(_) => None,
        }
    }

    /// It tries again.
    pub(crate) fn retry(&mut self) {
        *self = match core::mem::replace(self, Self::Well) {
            Self::Failed(error) => Self::Retrying(error),
            other => other,
        };
    }

    /// The error is over: the same one later is news.
    pub(crate) fn recovered(&mut self) {
        if let Self::Retrying(_) = self {
            *self = Self::Well;
        }
    }
}

/// How far a torrent's end has come.
#[derive(Debug)]
pub(crate) struct Stopping {
    /// Trackers are not waited for beyond this.
    pub(crate) until: Instant,
    /// Nor beyond this, if none of them answers anyway.
    pub(crate) silent_until: Instant,
    /// Delete the content.
    pub(crate) delete: bool,
    pub(crate) stage: StopStage,
}

/// What the end of a torrent waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopStage {
    /// What was received is written; then its record is saved.
    Writing,
    /// Trackers hear `stopped`.
    Telling,
    /// Its files are released.
    Releasing,
}
