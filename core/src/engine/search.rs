//! How a torrent's search of the DHT stands.

use crate::dht::{Cause, Failure, LookupId};
use crate::tracker::QueryKey;

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
