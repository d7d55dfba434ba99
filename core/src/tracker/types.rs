//! What an [`Announcer`](super::Announcer) is told, asks for and reports.

use alloc::{string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{
    id::PeerId,
    net::{Family, Ports},
    time::Instant,
    wire::tracker::{AnnounceRequest, Crypto, TrackerError},
};

/// What the pseudo-tracker of the DHT has in place of a URL.
pub const DHT_URL: &str = "dht://";
/// Why it cannot be asked while the node does not run; rTorrent's words.
pub const SERVER_DOWN: &str = "DHT server not active.";

/// The most trackers of one torrent; some magnets have over a hundred.
pub const MAX_TRACKERS: usize = 256;

/// What a tracker is told where nothing listens over the family it is asked over. Many trackers
/// refuse an announce of port 0 altogether, and would tell us of no peers then; nothing listens on
/// port 1 either, so nobody is sent to another program.
pub const NO_PORT: u16 = 1;

/// Names a tracker of an announcer; never reused, whatever is added, removed or moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TrackerId(pub u32);

/// Names a query of an announcer; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryKey(pub u64);

/// Which address families a tracker is asked over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// One announce over each, so that the tracker learns both our addresses (BEP 7).
    #[default]
    Both,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
    /// One announce over whatever the platform picks, as through a proxy.
    Any,
}

/// How many trackers are kept informed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The first that works (BEP 12).
    #[default]
    First,
    /// The first that works in each tier.
    EachTier,
    /// All of them.
    All,
}

/// How an announcer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// Families to ask over.
    pub families: Families,
    /// Trackers to ask.
    pub reach: Reach,
    /// Most queries out at once.
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

/// What the torrent is like at this moment; goes into an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Payload bytes sent, ever: each tracker is told those since its `started`.
    pub uploaded: u64,
    /// Payload bytes received, ever.
    pub downloaded: u64,
    /// Bytes still missing of the whole torrent, wanted or not; 0 makes us a seed, so a magnet
    /// without metadata needs another guess.
    pub left: u64,
    /// A partial seed (BEP 21): nothing that is wanted is missing, though not everything is here.
    pub partial: bool,
    /// Ports that peers should connect to. A tracker that is asked over a family without one is
    /// told [`NO_PORT`].
    pub ports: Ports,
    /// Our peer id.
    pub peer_id: PeerId,
    /// Secret that proves we are the same client after an address change.
    pub key: u32,
    /// How many peers we would like; `None` leaves it to the tracker.
    pub numwant: Option<u32>,
    /// Our wish for encryption.
    pub crypto: Crypto,
    /// Our IPv4 address, where it has to be told.
    pub ipv4: Option<Ipv4Addr>,
    /// Our IPv6 address, where it has to be told.
    pub ipv6: Option<Ipv6Addr>,
}

/// Something to ask a tracker; wants exactly one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// For the answer.
    pub key: QueryKey,
    /// The tracker to query.
    pub tracker: TrackerId,
    /// Over which family; `None` leaves it to the platform.
    pub family: Option<Family>,
    /// The kind of query.
    pub kind: QueryKind,
    /// `http`, `https`: the complete URL to GET. `udp`: the tracker's URL.
    pub url: String,
}

/// What to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// An announce; over HTTP the URL says it all.
    Announce(AnnounceRequest),
    /// A scrape of the torrent.
    Scrape,
}

/// What the owner learns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerEvent {
    /// Peers to try.
    Peers {
        /// The tracker that sent them.
        tracker: TrackerId,
        /// Never empty; not free of duplicates or of ourselves.
        peers: Vec<SocketAddr>,
    },
    /// The tracker answered, and has something to say to people.
    Warning {
        /// The tracker that sent it.
        tracker: TrackerId,
        /// The text of the message.
        text: String,
    },
    /// The tracker cannot be used at all; told once, when it is added.
    Unusable {
        /// The tracker that failed.
        tracker: TrackerId,
        /// The reason.
        error: TrackerError,
    },
    /// The tracker did not answer over any family.
    Failed {
        /// The tracker that failed.
        tracker: TrackerId,
        /// The reason.
        error: TrackerError,
        /// When it is asked again; `None` if never by itself.
        next: Option<Instant>,
    },
    /// Our address as a tracker sees it.
    ExternalIp {
        /// Which tracker says so.
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
        /// Times the download was completed.
        downloaded: Option<u32>,
    },
}

/// What a tracker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackerState {
    /// Switched off by the user.
    Disabled,
    /// Cannot be asked: see the error.
    Unusable,
    /// An answer is awaited.
    Asking,
    /// Answered last time, over one family at least.
    Working,
    /// Did not answer last time.
    Failed,
    /// Not needed yet.
    Idle,
}

/// How the search of the DHT pseudo-tracker goes. `Display` gives rTorrent's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtProgress {
    /// What it does.
    pub state: DhtState,
    /// Nodes that answered.
    pub replied: u32,
    /// Nodes that were asked.
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

/// What the search of the DHT pseudo-tracker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DhtState {
    /// Nothing; the numbers are those of the last search.
    #[default]
    Idle,
    /// It looks for peers and for the nodes closest to the info-hash.
    Searching,
    /// It tells those nodes of us.
    Announcing,
}

/// What came of a search of the DHT pseudo-tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtFound {
    /// Peers that were found.
    pub peers: u32,
    /// Seeds and leeches, if that was asked for.
    pub swarm: Option<(u32, u32)>,
}

/// A tracker, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerStatus<'a> {
    /// Identifies the tracker within its torrent.
    pub id: TrackerId,
    /// Its URL.
    pub url: &'a str,
    /// Its tier, 0 first.
    pub tier: u32,
    /// What it is doing.
    pub state: TrackerState,
    /// When it may be asked next; `None` while it is asked, or if it is not used.
    pub next: Option<Instant>,
    /// Why it did not answer last time; also set if it works over the other family only.
    pub error: Option<&'a TrackerError>,
    /// What it had to say last time.
    pub warning: Option<&'a str>,
    /// Failures in a row.
    pub fails: u32,
    /// Seeds it knows.
    pub seeds: Option<u32>,
    /// Leeches it knows.
    pub leeches: Option<u32>,
    /// Times the download was completed.
    pub downloaded: Option<u32>,
    /// Peers it sent last time, over both families.
    pub peers: u32,
    /// Whether it is the DHT pseudo-tracker, and how its search goes.
    pub dht: Option<DhtProgress>,
}

impl TrackerStatus<'_> {
    /// rTorrent's column "Enabled": "yes", " no", or "off" for one that is switched on but cannot
    /// be asked, such as the DHT while its node does not run.
    #[must_use]
    pub const fn enabled(&self) -> &'static str {
        match self.state {
            TrackerState::Disabled => " no",
            TrackerState::Unusable => "off",
            _ => "yes",
        }
    }
}

/// What is worth keeping of a tracker between sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedTracker {
    /// Its URL.
    pub url: String,
    /// Its tier, 0 first.
    pub tier: u32,
    /// Whether it is switched on.
    pub enabled: bool,
    /// To be sent back to it.
    pub tracker_id: Option<Vec<u8>>,
}
