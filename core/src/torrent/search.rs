//! The state of a torrent's DHT search.

use super::outbox::event::What;
use crate::dht::{Cause, Failure, LookupId, LookupReport};
use crate::tracker::{DhtProgress, DhtState, QueryKey};
use crate::wire::tracker::TrackerError;

/// A torrent's DHT search, and the result of the last one.
#[derive(Debug, Default)]
pub(crate) struct PeerSearch {
    stage: Stage,
    replied: u32,
    contacted: u32,
    failure: Option<(Failure, Cause)>,
}

/// How far a search has come. The announcer's query is answered when it ends.
#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// It waits for its turn.
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

    /// The search that waited has begun.
    pub(crate) const fn begin(&mut self, lookup: LookupId) {
        if let Stage::Waiting(key) = self.stage {
            self.stage = Stage::UnderWay(key, lookup);
        }
    }

    /// Cancels the search. Returns the query that the announcer waits for.
    pub(crate) const fn end(&mut self) -> Option<QueryKey> {
        match core::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => None,
            Stage::Waiting(key) | Stage::UnderWay(key, _) => Some(key),
        }
    }

    /// A search is over. Returns the query that the announcer waits for, if it belongs to this search.
    pub(crate) fn done(&mut self, lookup: LookupId, report: &LookupReport) -> Option<QueryKey> {
        self.lookup().filter(|current| *current == lookup)?;
        self.replied = report.replied;
        self.contacted = report.contacted;
        self.failure = report.failure;
        self.end()
    }

    /// The running search.
    pub(crate) const fn lookup(&self) -> Option<LookupId> {
        match self.stage {
            Stage::UnderWay(_, lookup) => Some(lookup),
            Stage::Idle | Stage::Waiting(_) => None,
        }
    }

    /// What is reported while no search runs.
    pub(crate) fn last(&self) -> DhtProgress {
        DhtProgress {
            state: DhtState::Idle,
            replied: self.replied,
            contacted: self.contacted,
        }
    }

    /// What is reported of an announce that failed for `error`.
    pub(crate) fn told_as(&self, error: &TrackerError) -> Option<What> {
        let TrackerError::Dht(words) = error else {
            return None;
        };
        let (failure, cause) = self.failure?;
        (failure.words() == *words).then_some(What::DhtFailed { failure, cause })
    }
}
