//! The queries to UDP trackers that are not answered yet.

use alloc::collections::BTreeMap;

use crate::tracker::{AnnounceConfig, Query, QueryId, QueryKey, UdpConfig, UdpTrackers};
use crate::{Config, TorrentId};

/// The queries to trackers that are not answered yet.
#[derive(Debug)]
pub(crate) struct Trackers {
    pub(crate) udp: UdpTrackers,
    /// Transactions with UDP trackers.
    pub(crate) asked: BTreeMap<QueryId, (TorrentId, QueryKey)>,
    /// Queries to UDP trackers whose names are being looked up.
    pub(crate) resolving: BTreeMap<(TorrentId, QueryKey), Query>,
}

impl Trackers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            udp: UdpTrackers::new(udp_config(config)),
            asked: BTreeMap::new(),
            resolving: BTreeMap::new(),
        }
    }

    /// Cancels the queries of a torrent.
    pub(crate) fn forget(&mut self, id: TorrentId) {
        self.resolving.retain(|(torrent, _), _| *torrent != id);
        let udp = &mut self.udp;
        self.asked.retain(|query, (torrent, _)| {
            let gone = *torrent == id;
            if gone {
                udp.cancel(*query);
            }
            !gone
        });
    }
}

/// The limits of UDP tracker transactions: as many as all torrents could need.
fn udp_config(config: &Config) -> UdpConfig {
    let default = UdpConfig::default();
    let each = usize::from(AnnounceConfig::default().max_queries);
    let most = (config.max_torrents as usize)
        .saturating_mul(each)
        .max(each);
    UdpConfig {
        max_queries: default.max_queries.min(most),
        max_per_tracker: default.max_per_tracker.min(most),
        max_connections: default.max_connections.min(most),
        ..default
    }
}
