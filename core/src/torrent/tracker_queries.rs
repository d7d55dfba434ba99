//! The queries to UDP trackers that are not answered yet.

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use crate::net::Family;
use crate::scope::is_unicast;
use crate::tracker::{AnnounceConfig, Query, QueryId, QueryKey, QueryKind, UdpConfig, UdpTrackers};
use crate::wire::tracker::{Answer, TrackerError, encoded, parse_url};
use crate::{Config, Cx, InfoHash, Machine, TorrentId};

/// The queries to trackers that are not answered yet.
#[derive(Debug)]
pub(crate) struct Trackers {
    pub(crate) udp: UdpTrackers,
    /// Transactions with UDP trackers.
    asked: BTreeMap<QueryId, (TorrentId, QueryKey)>,
    /// Queries to UDP trackers whose names are being looked up.
    resolving: BTreeMap<(TorrentId, QueryKey), Query>,
}

/// The torrent for which a UDP tracker is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) torrent: TorrentId,
    pub(crate) info_hash: InfoHash,
    /// Whether this machine has IPv4 and IPv6.
    pub(crate) families: (bool, bool),
}

impl Trackers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            udp: UdpTrackers::new(udp_config(config)),
            asked: BTreeMap::new(),
            resolving: BTreeMap::new(),
        }
    }

    /// Keeps a query while the name of its tracker is looked up.
    pub(crate) fn hold(&mut self, torrent: TorrentId, query: Query) {
        self.resolving.insert((torrent, query.key), query);
    }

    /// Returns the query whose tracker's name was looked up.
    pub(crate) fn release(&mut self, torrent: TorrentId, key: QueryKey) -> Option<Query> {
        self.resolving.remove(&(torrent, key))
    }

    /// Sends a query to the tracker that has these addresses.
    ///
    /// # Errors
    /// If no address can be used, or too many queries are not answered.
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        query: &Query,
        addrs: &[IpAddr],
    ) -> Result<(), TrackerError> {
        let url = parse_url(&query.url)?;
        let fits = |ip: &&IpAddr| match query.family {
            Some(Family::V4) => ip.is_ipv4(),
            Some(Family::V6) => ip.is_ipv6(),
            None if ip.is_ipv4() => asker.families.0,
            None => asker.families.1,
        };
        // A torrent may name any address. A local one is harmless: until a tracker has answered the connect request (BEP 15),
        // nothing is sent that the torrent chose.
        let fits = |ip: &&IpAddr| fits(ip) && is_unicast(**ip) && url.port != 0;
        let mut fitting: Vec<SocketAddr> = addrs
            .iter()
            .filter(fits)
            .map(|ip| SocketAddr::new(*ip, url.port))
            .collect();
        // An address that has answered before is asked first: the others may be silent.
        fitting.sort_by_key(|at| !self.udp.has_answered(at));
        let (&dst, others) = fitting.split_first().ok_or(TrackerError::NoAddress)?;
        let sent = match query.kind {
            QueryKind::Announce(request) => {
                let path = encoded(url.path);
                self.udp.announce(cx, dst, &path, request)
            }
            QueryKind::Scrape => self.udp.scrape(cx, dst, &[asker.info_hash]),
        };
        let sent = sent.map_err(|_| TrackerError::Busy)?;
        self.udp.set_alternatives(sent, others);
        self.asked.insert(sent, (asker.torrent, query.key));
        Ok(())
    }

    /// Returns the next result of a query, with the torrent that asked.
    pub(crate) fn poll_answer(
        &mut self,
    ) -> Option<(TorrentId, QueryKey, Result<Answer, TrackerError>)> {
        while let Some(event) = self.udp.poll_event() {
            if let Some((torrent, key)) = self.asked.remove(&event.id) {
                return Some((torrent, key, event.result));
            }
        }
        None
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
