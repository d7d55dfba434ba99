//! Where a torrent asks for peers: its trackers, and the DHT.

use super::search::PeerSearch;
use crate::tracker::Announcer;

/// Where a torrent asks for peers.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) announcer: Announcer,
    /// Its DHT search.
    pub(crate) search: PeerSearch,
}
