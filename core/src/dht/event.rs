//! The requests to a node, and its events.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::Contact;
use crate::net::{Family, Ports};
use crate::tracker::NO_PORT;
use crate::{InfoHash, NodeId};

/// Names a search; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LookupId(pub u32);

/// Names a ping that the owner asked for; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PingId(pub u32);

/// How to announce ourselves once the nodes closest to an info-hash are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The ports peers should connect to. In a family without one we are not announced.
    pub ports: Ports,
    /// Peers should connect to the source port of our datagrams instead.
    pub implied: bool,
    /// We have everything (BEP 33).
    pub seed: bool,
}

impl Goal {
    /// Whether something is stored at nodes of a family once they are found.
    pub(crate) fn stores(&self, v6: bool) -> bool {
        match self {
            Self::Peers { announce, .. } => announce.is_some_and(|a| a.port(v6).is_some()),
            Self::PutImmutable(_) | Self::PutMutable { .. } => true,
            Self::Nodes(_) | Self::Immutable(_) | Self::Mutable { .. } => false,
        }
    }
}

impl Announce {
    /// The port to announce in a family; `None` if we are not announced there. An implied port is
    /// ignored by the receiver, but has to be present (BEP 5).
    pub(crate) fn port(&self, v6: bool) -> Option<u16> {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let port = self.ports.of(family);
        port.or_else(|| self.implied.then(|| self.ports.any().unwrap_or(NO_PORT)))
    }
}

/// The goals of searches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The nodes closest to an id.
    Nodes(NodeId),
    /// Peers of a torrent; then to announce ourselves, if wanted.
    Peers {
        /// The torrent.
        hash: InfoHash,
        /// How to announce ourselves to the 8 closest nodes; `None` does not.
        announce: Option<Announce>,
        /// Ask for the size of the swarm too (BEP 33).
        scrape: bool,
    },
    /// An immutable item (BEP 44).
    Immutable(NodeId),
    /// A mutable item: the newest version that is found (BEP 44).
    Mutable {
        /// Its public key.
        key: [u8; 32],
        /// Its salt, at most 64 bytes.
        salt: Vec<u8>,
    },
    /// To store an immutable item: its value, as bencode, at most 1000 bytes (BEP 44).
    PutImmutable(Vec<u8>),
    /// To store a mutable item that was signed already (BEP 44).
    PutMutable {
        /// Value, as bencode.
        value: Vec<u8>,
        /// Public key.
        key: [u8; 32],
        /// At most 64 bytes.
        salt: Vec<u8>,
        /// Version, not negative.
        seq: i64,
        /// The version it must replace, if any (`cas`).
        cas: Option<i64>,
        /// Signature.
        sig: [u8; 64],
    },
}

/// An item that a search found; its hash or signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundItem {
    /// The value, as bencode.
    pub value: Vec<u8>,
    /// Version and signature of a mutable one.
    pub version: Option<(i64, [u8; 64])>,
}

/// Why a search failed; the texts are those of rTorrent's "Using DHT" page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no node to ask.
    NoNodes,
    /// No node answered.
    NoReplies,
    /// The nodes that we announced to did not answer.
    AnnounceFailed,
}

impl Failure {
    /// The text of the page.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoNodes => "No DHT nodes available for peer search.",
            Self::NoReplies => "DHT search unsuccessful.",
            Self::AnnounceFailed => "Announce failed.",
        }
    }
}

impl core::fmt::Display for Failure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.words())
    }
}

/// The reason of a failure or a warning, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// No node is known, and no contact to begin with.
    NoContacts,
    /// The names of the nodes to begin with could not be looked up.
    Dns,
    /// The platform refused to send most of the DHT's queries since the last reply.
    Send,
    /// Datagrams were sent, but none came back: a firewall, or no network.
    NoReplies,
    /// Replies arrive, but no queries: the port is not forwarded to us.
    NotForwarded,
    /// Others see us under another port than the one we bound.
    PortMangled {
        /// The port they see.
        observed: u16,
    },
    /// The nodes that were asked are gone.
    NodesGone,
}

/// The result of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupReport {
    /// Nodes that were asked.
    pub contacted: u32,
    /// Nodes that answered.
    pub replied: u32,
    /// Distinct peers found.
    pub peers: u32,
    /// Nodes that we announced to, or put an item to.
    pub stores: u32,
    /// Those of them that confirmed it.
    pub stored: u32,
    /// Time from the start to the last reply to one of its queries.
    pub took: Duration,
    /// Why it failed, with the probable cause if one is known; `None` if it succeeded.
    pub failure: Option<(Failure, Cause)>,
    /// Seeds and leeches estimated from bloom filters, if asked for (BEP 33).
    pub swarm: Option<(u32, u32)>,
    /// The closest nodes that answered, closest first; at most 8 of each family.
    pub closest: Vec<Contact>,
    /// The answers do not fit the size of the network: some nodes may lie about which nodes are close.
    pub suspicious: bool,
}

impl LookupReport {
    /// The report of a search that did not ask anybody.
    pub(crate) const fn failed(failure: Failure, cause: Cause) -> Self {
        Self {
            contacted: 0,
            replied: 0,
            peers: 0,
            stores: 0,
            stored: 0,
            took: Duration::ZERO,
            failure: Some((failure, cause)),
            swarm: None,
            closest: Vec::new(),
            suspicious: false,
        }
    }
}

/// The events of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DhtEvent {
    /// New peers of a torrent, as replies arrive; never empty.
    Peers {
        /// The search that found them.
        lookup: LookupId,
        /// Their addresses, which may include our own.
        peers: Vec<SocketAddr>,
    },
    /// An item was found; a mutable one may be followed by a newer version.
    Item {
        /// The search that found it.
        lookup: LookupId,
        /// The item that was found.
        item: FoundItem,
    },
    /// A search is over.
    Done {
        /// The search that is over.
        lookup: LookupId,
        /// Its result.
        report: LookupReport,
    },
    /// A ping of [`Dht::ping`](super::Dht::ping) was answered, or not.
    Ping {
        /// The ping that was answered, or was not.
        ping: PingId,
        /// The node's address.
        addr: SocketAddr,
        /// Its id, round trip and version (`v`), if it answered.
        answer: Option<(NodeId, Duration, [u8; 4])>,
    },
    /// A node was asked for some of the info-hashes it knows (BEP 51).
    Samples {
        /// The node's address.
        addr: SocketAddr,
        /// Empty if it did not answer, or has none.
        hashes: Vec<InfoHash>,
        /// How many info-hashes the node knows.
        num: u64,
        /// The time after which the node will return others.
        interval: Duration,
    },
    /// Enough nodes agree on our address (BEP 42).
    External(IpAddr),
    /// A line for the log, with the text of the "Using DHT" page.
    Log(DhtLog),
    /// The table changed enough to be worth saving.
    TableChanged,
    /// A table has no node to begin with, or none that answers: names of routers should be looked
    /// up (again), and given to [`Dht::add_contact`](super::Dht::add_contact). Repeated every
    /// minute while that is so; every quarter of an hour if nodes of the other family answer.
    NeedContacts {
        /// Whether it is the IPv6 table.
        v6: bool,
    },
}

/// The log of the "Using DHT" page: `Display` gives its exact words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DhtLog {
    /// The node was started.
    Starting {
        /// The UDP port.
        port: u16,
    },
    /// The node was stopped.
    Stopping,
    /// The table has enough nodes to be used.
    Bootstrapped {
        /// The number of nodes in the table.
        nodes: u32,
        /// The number of buckets.
        buckets: u32,
    },
    /// After 15 minutes, then every 2 hours, and at the end. Counts are since the last one.
    Statistics {
        /// Queries received.
        queries_in: u64,
        /// Queries sent.
        queries_out: u64,
        /// Replies received.
        replies: u64,
        /// Bytes received.
        bytes_in: u64,
        /// Bytes sent.
        bytes_out: u64,
        /// Nodes known now.
        nodes: u32,
        /// The number of buckets.
        buckets: u32,
        /// Peers kept now.
        peers: u32,
        /// Most peers kept so far.
        peers_max: u32,
        /// Torrents with such peers now.
        torrents: u32,
    },
    /// Replies arrive, queries do not.
    Unreachable(Cause),
    /// Neither queries nor replies arrive.
    Firewalled(Cause),
}

impl core::fmt::Display for DhtLog {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Starting { port } => write!(f, "Starting DHT server on port {port}."),
            Self::Stopping => f.write_str("Stopping DHT server."),
            Self::Bootstrapped { nodes, buckets } => {
                write!(
                    f,
                    "DHT bootstrap complete, have {nodes} nodes in {buckets} buckets."
                )
            }
            Self::Statistics {
                queries_in,
                queries_out,
                replies,
                bytes_in,
                bytes_out,
                nodes,
                buckets,
                peers,
                peers_max,
                torrents,
            } => write!(
                f,
                "DHT statistics: {queries_in} queries in, {queries_out} queries out, \
                 {replies} replies received, {bytes_in} bytes read, {bytes_out} bytes sent, \
                 {nodes} known nodes in {buckets} buckets, \
                 {peers} peers (highest: {peers_max}) tracked in {torrents} torrents."
            ),
            Self::Unreachable(_) => {
                f.write_str("Warning: DHT port appears to be unreachable, no queries received.")
            }
            Self::Firewalled(_) => {
                f.write_str("Warning: DHT port appears to be firewalled, no replies received.")
            }
        }
    }
}

/// Counters since the start and the present state: rTorrent's `dht_statistics`, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// Whether the node runs. What follows is 0 while it does not.
    pub active: bool,
    /// 0 inactive, 1 bootstrapping, 2 after that, then one more every 15 minutes.
    pub cycle: u32,
    /// Queries received.
    pub queries_received: u64,
    /// Queries sent.
    pub queries_sent: u64,
    /// Replies received to them.
    pub replies_received: u64,
    /// Errors that others sent us.
    pub errors_received: u64,
    /// Datagrams that were malformed or unexpected.
    pub errors_caught: u64,
    /// Bytes received.
    pub bytes_read: u64,
    /// Bytes sent.
    pub bytes_written: u64,
    /// Nodes in the tables.
    pub nodes: u32,
    /// Buckets of the tables.
    pub buckets: u32,
    /// Peers kept for others.
    pub peers: u32,
    /// The most peers kept at one time.
    pub peers_max: u32,
    /// Info-hashes for which peers are kept.
    pub torrents: u32,
    /// Items kept for others (BEP 44).
    pub items: u32,
    /// Nodes that did not fail since they last answered.
    pub good_nodes: u32,
    /// Queries of ours that await a reply.
    pub pending: u32,
    /// Searches under way.
    pub lookups: u32,
    /// Queries that were not answered because their source exceeds its limit.
    pub limited: u64,
    /// Queries or replies that waited, or were given up, to spare the NAT.
    pub held_back: u64,
    /// Whether queries of others reach us.
    pub reachable: bool,
    /// 4·2ⁿ for n buckets: the estimate of the "Using DHT" page.
    pub size_by_buckets: u64,
    /// The estimate from the density of nodes near what was searched for; 0 without any.
    pub size_by_lookups: u64,
    /// Our port as others report it; 0 if they do not.
    pub observed_port: u16,
}

impl DhtStats {
    /// The counts of rTorrent's `dht_statistics`: its keys, in its order; none while the node does
    /// not run.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("cycle", u64::from(self.cycle)),
            ("queries_received", self.queries_received),
            ("queries_sent", self.queries_sent),
            ("replies_received", self.replies_received),
            ("errors_received", self.errors_received),
            ("errors_caught", self.errors_caught),
            ("bytes_read", self.bytes_read),
            ("bytes_written", self.bytes_written),
            ("nodes", u64::from(self.nodes)),
            ("buckets", u64::from(self.buckets)),
            ("peers", u64::from(self.peers)),
            ("peers_max", u64::from(self.peers_max)),
            ("torrents", u64::from(self.torrents)),
        ];
        let active = self.active;
        counts.into_iter().filter(move |_| active)
    }
}
