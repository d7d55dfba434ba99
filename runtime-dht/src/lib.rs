//! A DHT node that runs alone: its sockets, its thread, and a handle, without torrents.
//!
//! ```no_run
//! use dunlin_dht::{Answer, Node, NodeConfig};
//! use dunlin_core::{InfoHash, dht::Goal};
//!
//! # fn main() -> std::io::Result<()> {
//! let node = Node::start(NodeConfig::default(), Box::new(|event| println!("{event}")))?;
//! let goal = Goal::Peers { hash: InfoHash([7; 20]), announce: None, scrape: false };
//! let (tell, answers) = std::sync::mpsc::channel();
//! node.search(goal, Box::new(move |answer| drop(tell.send(answer))));
//! for answer in answers {
//!     match answer {
//!         Answer::Peers(peers) => println!("{peers:?}"),
//!         Answer::Done(report) => println!("{} nodes replied", report.replied),
//!         _ => {}
//!     }
//! }
//! node.stop();
//! # Ok(())
//! # }
//! ```
//!
//! It is a driver of [`dht::Service`](dunlin_core::dht::Service), as others are drivers of the engine, and needs no engine
//! and no runtime. The thread sleeps until datagrams come or a timer is due. It receives them in batches and sends
//! the answers in batches: one system call for up to 64 datagrams in each direction if the platform has such a call. No
//! memory is allocated for a datagram.

mod batch;
mod net;
mod node;
mod requests;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use dunlin_core::{
    InfoHash, NodeId,
    dht::{DhtConfig, DhtLog, DhtStats, FoundItem, LookupReport},
    metainfo::HostPort,
};

pub use node::Node;
pub use requests::RequestId;

use dunlin_std::{net::socket::Egress, routers::routers};

/// The configuration of a node.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where to bind, at most one address of a family; the families of the DHT follow from it.
    pub listen: Vec<SocketAddr>,
    /// Source addresses and interface.
    pub egress: Egress,
    /// The limits and behaviour of the node; `ipv4` and `ipv6` follow from [`NodeConfig::listen`].
    pub dht: DhtConfig,
    /// The session folder with the table's cache; `None` keeps nothing.
    pub folder: Option<PathBuf>,
    /// The cache is read for its nodes only: its id belongs to the process that owns the folder, and nodes are
    /// added to those that it holds. For a command that ends soon.
    pub guest: bool,
    /// Nodes to begin with, asked at once.
    pub bootstrap: Vec<HostPort>,
    /// Nodes to begin with, asked if no node of the cache answers.
    pub routers: Vec<HostPort>,
    /// The upload limit in bytes per second; `None` means unlimited.
    pub limit_up: Option<u64>,
}

impl Default for NodeConfig {
    /// IPv4 on a port that the system chooses, with the public routers; keeps nothing.
    fn default() -> Self {
        Self {
            listen: vec![(Ipv4Addr::UNSPECIFIED, 0).into()],
            egress: Egress::default(),
            dht: DhtConfig::default(),
            folder: None,
            guest: false,
            bootstrap: Vec::new(),
            routers: routers(),
            limit_up: None,
        }
    }
}

/// The events of a node. `Display` gives a line for a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeEvent {
    /// A line for the log, with the text of the "Using DHT" page.
    Log(DhtLog),
    /// Our address, on which enough other nodes agree.
    External(IpAddr),
    /// A node to begin with has no address.
    Unresolved {
        /// Its name and port.
        host: HostPort,
        /// The reason, to be shown to the user.
        reason: String,
    },
    /// The cache could not be used or written; the reason, to be shown to the user.
    Cache(String),
    /// The node has stopped because of an error.
    Failed(String),
}

impl fmt::Display for NodeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(log) => log.fmt(f),
            Self::External(ip) => write!(f, "other nodes see us at {ip}"),
            Self::Unresolved { host, reason } => {
                write!(f, "cannot begin with the DHT node {host}: {reason}")
            }
            Self::Cache(note) => f.write_str(note),
            Self::Failed(why) => write!(f, "DHT error: {why}"),
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Peers that a search found; more may come.
    Peers(Vec<SocketAddr>),
    /// An item that a search found; a newer one may come.
    Item(FoundItem),
    /// The search is over. The last answer.
    Done(Box<LookupReport>),
    /// The node that was pinged answered. The last answer.
    Pong {
        /// The node's address.
        addr: SocketAddr,
        /// The node's id.
        id: NodeId,
        /// The round-trip time.
        rtt: Duration,
        /// The node's version (`v`); zeros if it does not send one.
        version: [u8; 4],
    },
    /// The info-hashes that the node returned. The last answer.
    Samples {
        /// The node's address.
        addr: SocketAddr,
        /// Some of the info-hashes that it knows.
        hashes: Vec<InfoHash>,
        /// How many info-hashes it knows.
        num: u64,
        /// The time after which it will return others.
        interval: Duration,
    },
    /// The node did not answer, or its reply does not answer the question. The last answer.
    Silent(SocketAddr),
    /// The name has no address; the reason. The last answer.
    Unresolved(String),
    /// The node's address is not public, and this node does not run in a private network. The
    /// last answer.
    NotPublic(SocketAddr),
    /// Too many requests are under way. The last answer.
    Full,
}

/// Takes the answers to a request, on the node's thread: it must not block. It is dropped after
/// the last answer, or without one if the node stops.
pub type Sink = Box<dyn FnMut(Answer) + Send>;

/// The state of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Counters and state.
    pub stats: DhtStats,
    /// The id in the IPv4 DHT, if it takes part.
    pub id: Option<NodeId>,
    /// The id in the IPv6 DHT, if it takes part.
    pub id6: Option<NodeId>,
    /// The addresses to which it is bound.
    pub local: Vec<SocketAddr>,
    /// Its address, on which enough other nodes agree.
    pub external: Option<IpAddr>,
    /// Time since the start.
    pub uptime: Duration,
    /// The thread's counters.
    pub calls: Calls,
}

/// Counters of the node's thread since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Times it woke.
    pub wakeups: u64,
    /// Batches received.
    pub batches: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams sent.
    pub datagrams_out: u64,
    /// Datagrams that the platform refused to send.
    pub refused: u64,
}
