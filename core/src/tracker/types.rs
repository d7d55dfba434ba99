//! The inputs and outputs of an [`Announcer`](super::Announcer).

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    id::PeerId,
    net::{Family, Ports},
    time::Instant,
    wire::tracker::{AnnounceRequest, Crypto, TrackerError},
};

/// The URL of the DHT's pseudo-tracker.
pub const DHT_URL: &str = "dht://";
/// Why it cannot be asked while the node does not run, in rTorrent's words.
pub const SERVER_DOWN: &str = "DHT server not active.";

/// The maximum number of trackers of one torrent. Some magnets have over a hundred.
pub const MAX_TRACKERS: usize = 256;

/// The port that is announced over an address family that accepts no connections. Many trackers refuse port 0, and would not
/// return peers. Usually no program listens on port 1, so peers are not sent to another program.
pub const NO_PORT: u16 = 1;

/// The id of a tracker of an announcer. It is never reused, whatever is added, removed or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackerId(pub u32);

/// The id of a query of an announcer. It is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryKey(pub u64);

/// The address families over which a tracker is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// One announce over each, so that the tracker learns both of our addresses (BEP 7).
    #[default]
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// One announce over a family that the platform chooses, as through a proxy.
    Any,
}

/// Which trackers are announced to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The first one that works (BEP 12).
    #[default]
    First,
    /// The first one that works in each tier.
    EachTier,
    /// All of them.
    All,
}

/// The configuration of an announcer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// The address families.
    pub families: Families,
    /// The trackers to announce to.
    pub reach: Reach,
    /// The maximum number of queries that are not answered.
    pub max_queries: u16,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self {
            families: Families::default(),
            reach: Reach::default(),
            max_queries: 16,
        }
    }
}

/// The present state of the torrent, for an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The payload bytes sent so far. Each tracker is told those since its `started`.
    pub uploaded: u64,
    /// The payload bytes received so far.
    pub downloaded: u64,
    /// The missing bytes of the whole torrent, wanted or not. 0 makes us a seed, so a magnet without metadata needs another
    /// value.
    pub left: u64,
    /// Whether the torrent is a partial seed (BEP 21): it has every wanted piece, but not every piece.
    pub partial: bool,
    /// The ports that accept connections. Over a family without one, [`NO_PORT`] is announced.
    pub ports: Ports,
    /// Our peer id.
    pub peer_id: PeerId,
    /// A secret by which the tracker recognises us after our address changed (`key`).
    pub key: u32,
    /// How many peers we want. `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// Our encryption policy.
    pub crypto: Crypto,
    /// Our IPv4 address, if it has to be told.
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, if it has to be told.
    pub ipv6: Option<Ipv6Addr>,
}

/// A query to a tracker. It has to be answered exactly once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The id for the answer.
    pub key: QueryKey,
    /// The tracker to query.
    pub tracker: TrackerId,
    /// The address family. `None` leaves it to the platform.
    pub family: Option<Family>,
    /// The kind of query.
    pub kind: QueryKind,
    /// For `http` and `https`, the complete URL to GET. For `udp`, the tracker's URL.
    pub url: String,
}

/// The kind of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// An announce. Over HTTP, the URL contains all of it.
    Announce(AnnounceRequest),
    /// A scrape of the torrent.
    Scrape,
}

/// An event for the owner of an announcer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerEvent {
    /// A tracker returned peers.
    Peers {
        /// The tracker that sent them.
        tracker: TrackerId,
        /// The addresses. Never empty; they may contain duplicates and our own address.
        peers: Vec<SocketAddr>,
    },
    /// A tracker sent a warning message.
    Warning {
        /// The tracker that sent it.
        tracker: TrackerId,
        /// The text of the message.
        text: String,
    },
    /// A tracker cannot be used. Reported once, when it is added.
    Unusable {
        /// The tracker that failed.
        tracker: TrackerId,
        /// The reason.
        error: TrackerError,
    },
    /// A tracker failed over all address families.
    Failed {
        /// The tracker that failed.
        tracker: TrackerId,
        /// The reason.
        error: TrackerError,
        /// When it is asked again. `None` if it is not, unless the user wants it.
        next: Option<Instant>,
    },
    /// Our address as a tracker sees it.
    ExternalIp {
        /// The tracker that told it.
        tracker: TrackerId,
        /// Our address as the tracker sees it.
        ip: IpAddr,
    },
    /// The size of the swarm, from an announce or a scrape.
    Scraped {
        /// The tracker that reported it.
        tracker: TrackerId,
        /// The number of seeds.
        complete: Option<u32>,
        /// The number of leeches.
        incomplete: Option<u32>,
        /// How often the download was completed.
        downloaded: Option<u32>,
    },
}

/// The state of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerState {
    /// It is disabled by the user.
    Disabled,
    /// It cannot be used; the error says why.
    Unusable,
    /// An answer is awaited.
    Asking,
    /// It answered the last time, over at least one address family.
    Working,
    /// It failed the last time.
    Failed,
    /// It was not needed yet.
    Idle,
}

/// The progress of the search of the DHT's pseudo-tracker. `Display` formats it as rTorrent does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtProgress {
    /// The state of the search.
    pub state: DhtState,
    /// The number of nodes that replied.
    pub replied: u32,
    /// The number of nodes that were queried.
    pub contacted: u32,
}

impl core::fmt::Display for DhtProgress {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let state = match self.state {
            DhtState::Idle => "Idle",
            DhtState::Searching => "Searching",
            DhtState::Announcing => "Announcing",
        };
        let (replied, contacted) = (self.replied, self.contacted);
        write!(f, "[{state}: {replied}/{contacted} nodes replied]")
    }
}

/// The state of the search of the DHT's pseudo-tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DhtState {
    /// No search runs; the numbers are those of the last one.
    #[default]
    Idle,
    /// It searches for peers and for the nodes closest to the info-hash.
    Searching,
    /// It announces to those nodes.
    Announcing,
}

/// The result of a search of the DHT's pseudo-tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtFound {
    /// The number of peers that were found.
    pub peers: u32,
    /// The numbers of seeds and leeches, if the search was a scrape (BEP 33).
    pub swarm: Option<(u32, u32)>,
}

/// A snapshot of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerStatus<'a> {
    /// Its id within its torrent.
    pub id: TrackerId,
    /// Its URL.
    pub url: &'a str,
    /// Its tier. Tier 0 is the first.
    pub tier: u32,
    /// Its state.
    pub state: TrackerState,
    /// When it is asked next. `None` while an answer is awaited, or if it is not used.
    pub next: Option<Instant>,
    /// Its last error. It may be set although the tracker works over the other address family.
    pub error: Option<&'a TrackerError>,
    /// Its last warning message.
    pub warning: Option<&'a str>,
    /// The number of failures in a row.
    pub fails: u32,
    /// The number of seeds that it reported.
    pub seeds: Option<u32>,
    /// The number of leeches that it reported.
    pub leeches: Option<u32>,
    /// Times the download was completed.
    pub downloaded: Option<u32>,
    /// The number of peers in its last answers over all address families.
    pub peers: u32,
    /// The progress of its search, if it is the DHT's pseudo-tracker.
    pub dht: Option<DhtProgress>,
}

impl TrackerStatus<'_> {
    /// rTorrent's column "Enabled": "yes", " no", or "off" for a tracker that is enabled but cannot be asked, such as the
    /// DHT while its node does not run.
    #[must_use]
    pub const fn enabled(&self) -> &'static str {
        match self.state {
            TrackerState::Disabled => " no",
            TrackerState::Unusable => "off",
            _ => "yes",
        }
    }
}

/// The state of a tracker that is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTracker {
    /// Its URL.
    pub url: String,
    /// Its tier, 0 first.
    pub tier: u32,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The `trackerid` to send back to it.
    pub tracker_id: Option<Vec<u8>>,
}
