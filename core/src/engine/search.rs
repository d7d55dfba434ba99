//! How a torrent's search of the DHT stands.

use super::event::What;
use crate::dht::{Cause, Failure, LookupId};
use crate::tracker::QueryKey;
use crate::wire::tracker::TrackerError;

/// A torrent's search, and what came of the last one.
#[derive(Debug, Default)]
pub(super) struct PeerSearch {
    /// What the announcer waits for.
    pub(super) key: Option<QueryKey>,
    /// Under way; without it, `key` waits for its turn.
    pub(super) lookup: Option<LookupId>,
    pub(super) replied: u32,
    pub(super) contacted: u32,
    pub(super) failure: Option<(Failure, Cause)>,
}

impl PeerSearch {
    /// What an announce that failed for `error` is told as.
    pub(super) fn told_as(&self, error: &TrackerError) -> Option<What> {
        let TrackerError::Dht(words) = error else {
            return None;
        };
        let (failure, cause) = self.failure?;
        (failure.words() == *words).then_some(What::DhtFailed { failure, cause })
    }
}
