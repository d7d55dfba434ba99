//! How a torrent's search of the DHT stands.

use super::outbox::event::What;
use crate::dht::{Cause, Failure, LookupId, LookupReport};
use crate::tracker::{DhtProgress, DhtState, QueryKey};
use crate::wire::tracker::TrackerError;

/// A torrent's search, and what came of the last one.
#[derive(Debug, Default)]
pub(crate) struct PeerSearch {
    stage: Stage,
    replied: u32,
    contacted: u32,
    failure: Option<(Failure, Cause)>,
}

/// How far a search has come. The announcer waits for the answer to its query.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// For its turn.
    Waiting(QueryKey),
    UnderWay(QueryKey, LookupId),
}

impl PeerSearch {
    /// The announcer wants a search.
    pub(crate) const fn ask(&mut self, key: QueryKey) {
        self.stage = Stage::Waiting(key);
    }

    /// Whether a search is to begin.
    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::Waiting(_))
    }

    /// The search that was waited for has begun.
    pub(crate) const fn begin(&mut self, lookup: LookupId) {
        if let Stage::Waiting(key) = self.stage {
            self.stage = Stage::UnderWay(key, lookup);
        }
    }

    /// Gives the search up; returns what the announcer waits for.
    pub(crate) const fn end(&mut self) -> Option<QueryKey> {
        match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => None,
            Stage::Waiting(key) | Stage::UnderWay(key, _) => Some(key),
        }
    }

    /// A search is over; returns what the announcer waits for, if it is this one.
    pub(crate) fn done(&mut self, lookup: LookupId, report: &LookupReport) -> Option<QueryKey> {
        self.lookup().filter(|current| *current == lookup)?;
        self.replied = report.replied;
        self.contacted = report.contacted;
        self.failure = report.failure;
        self.end()
    }

    /// The search that is under way.
    pub(crate) const fn lookup(&self) -> Option<LookupId> {
        match self.stage {
            Stage::UnderWay(_, lookup) => Some(lookup),
            Stage::Idle | Stage::Waiting(_) => None,
        }
    }

    /// What is told of it while none is under way.
    pub(crate) fn last(&self) -> DhtProgress {
        DhtProgress {
            state: DhtState::Idle,
            replied: self.replied,
            contacted: self.contacted,
        }
    }

    /// What an announce that failed for `error` is told as.
    pub(crate) fn told_as(&self, error: &TrackerError) -> Option<What> {
        let TrackerError::Dht(words) = error else {
            return None;
        };
        let (failure, cause) = self.failure?;
        (failure.words() == *words).then_some(What::DhtFailed { failure, cause })
    }
}
