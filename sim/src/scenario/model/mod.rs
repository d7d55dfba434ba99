//! What a scenario says, understood and checked.

pub(crate) mod kinds;
pub(crate) mod links;
pub(crate) mod plan;
pub(crate) mod presets;
pub(crate) mod random;

use std::{net::IpAddr, time::Duration};

use crate::{
    middlebox::{firewall::FirewallConfig, nat::NatConfig},
    packet::verdict::Rule,
};

/// A network, what happens in it, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name; that of the file if it says none.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// The seed that is used unless another is asked for.
    pub seed: u64,
    /// How long it runs.
    pub duration: Duration,
    /// The torrent that engine hosts share.
    pub torrent: Torrent,
    /// Routers, parents before what is behind them.
    pub routers: Vec<Router>,
    /// Hosts.
    pub hosts: Vec<Host>,
    /// What happens, in the order of time.
    pub events: Vec<Event>,
    /// Events to be made up.
    pub random: Option<Random>,
    /// What must come true.
    pub expects: Vec<Expect>,
}

/// The torrent of the engine hosts. Its data are made up from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// Bytes.
    pub size: u64,
    /// Bytes of a piece.
    pub piece: u64,
}

/// A box between the core and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// The router above it; `None` is the core of the internet.
    pub behind: Option<String>,
    /// Its NAT.
    pub nat: Option<NatConfig>,
    /// The preset that it came from.
    pub nat_name: String,
    /// Its firewall.
    pub firewall: Option<FirewallConfig>,
    /// The preset that it came from.
    pub firewall_name: String,
    /// Its addresses on the upper side; chosen for it if there are none.
    pub wan: Vec<IpAddr>,
    /// How many to choose.
    pub wan_count: u16,
    /// Its region, if it is right below the core.
    pub region: Option<String>,
    /// The link to what is above it.
    pub link: Link,
}

/// A link: a preset and what differs from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The preset.
    pub preset: Option<String>,
    /// One way.
    pub delay: Option<Duration>,
    /// The delay varies by up to this much, evenly.
    pub jitter: Option<Duration>,
    /// Bits per second towards the leaf; the inner `None` means no limit.
    pub down: Option<Option<u64>>,
    /// Bits per second towards the core.
    pub up: Option<Option<u64>>,
    /// Bytes that wait before the link at most, each way.
    pub queue: Option<u64>,
    /// Share of packets that are lost, in parts per million.
    pub loss: Option<u32>,
    /// … that come later than they should.
    pub reorder: Option<u32>,
    /// … that come twice.
    pub duplicate: Option<u32>,
    /// … that have a bit changed.
    pub corrupt: Option<u32>,
    /// Longest packet, in bytes.
    pub mtu: Option<u16>,
}

impl Link {
    /// Whether nothing is said about it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A machine at the end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The router above it; `None` is the core of the internet.
    pub behind: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// Its addresses; chosen for it if there are none.
    pub addresses: Vec<IpAddr>,
    /// Its region, if it is right below the core.
    pub region: Option<String>,
    /// The link to what is above it.
    pub link: Link,
    /// What its kind takes beside that.
    pub options: Options,
}

impl Host {
    /// Its own port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port.unwrap_or(self.kind.info().port)
    }
}

/// What a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Says nothing unless an event makes it; counts what comes.
    Manual,
    /// Sends every datagram back.
    Echo,
    /// Sends datagrams at a steady pace and expects each back: somebody's call or game.
    Steady,
    /// Opens one flow after another: a client without manners.
    Flood,
    /// Tells peers of each other.
    Rendezvous,
    /// Punches a hole with UDP.
    UdpPunch,
    /// Opens a connection from both sides at once with TCP.
    TcpPunch,
    /// A tracker.
    Tracker,
    /// The engine, with all of the torrent.
    EngineSeed,
    /// The engine, with none of it.
    EngineLeech,
}

/// What kinds of hosts take; which takes which stands in [`super::KINDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its own port; the kind's default if `None`.
    pub port: Option<u16>,
    /// The host that it speaks to.
    pub to: Option<String>,
    /// The port there.
    pub to_port: Option<u16>,
    /// The rendezvous server.
    pub via: Option<String>,
    /// How long after the other it is told, at least.
    pub told_after: Duration,
    /// When it begins.
    pub start: Duration,
    /// When it ends; never if `None`.
    pub stop: Option<Duration>,
    /// Time between two datagrams.
    pub every: Duration,
    /// How long a datagram is kept before it goes back.
    pub reply_after: Duration,
    /// New flows per second.
    pub flows: u32,
    /// Bytes of each datagram's data.
    pub size: u16,
    /// Trackers.
    pub trackers: Vec<String>,
    /// Hosts whose addresses it is told.
    pub peers: Vec<String>,
    /// Upload limit, in bytes per second; `None` means no limit.
    pub upload: Option<u64>,
    /// How many peers it uploads to at once; the engine's own choice if `None`, 0 a free-rider.
    pub upload_slots: Option<u32>,
    /// Download limit, in bytes per second.
    pub download: Option<u64>,
    /// What each operation of its disk takes.
    pub disk_delay: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: None,
            to: None,
            to_port: None,
            via: None,
            told_after: Duration::ZERO,
            start: Duration::ZERO,
            stop: None,
            every: Duration::from_secs(1),
            reply_after: Duration::ZERO,
            flows: 100,
            size: 64,
            trackers: Vec::new(),
            peers: Vec::new(),
            upload: None,
            upload_slots: None,
            download: None,
            disk_delay: None,
        }
    }
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A router restarts and forgets everything.
    Reboot(String),
    /// The link above a node is cut.
    Cut(String),
    /// … and joined again.
    Mend(String),
    /// The link above a node changes.
    Link(String, Link),
    /// A host is switched off.
    Off(String),
    /// … and on again, anew.
    On(String),
    /// A host sends a datagram.
    Send {
        /// Who.
        from: String,
        /// From its port.
        port: u16,
        /// To this host.
        to: String,
        /// And its port.
        to_port: u16,
        /// So many bytes of data.
        size: u16,
    },
}

/// Events to be made up from the seed: `count` datagrams between hosts at random times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    /// How many.
    pub count: u32,
    /// Not before.
    pub from: Duration,
    /// Not after; the scenario's end if `None`.
    pub until: Option<Duration>,
    /// Who sends.
    pub senders: Vec<String>,
    /// To whom.
    pub receivers: Vec<String>,
    /// From one of that many ports, counted from 40000.
    pub ports: u16,
    /// The receivers' port, if not each one's own.
    pub to_port: Option<u16>,
}

/// Something that must come true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// What.
    pub check: Check,
    /// At this line of the file.
    pub line: usize,
}

/// How often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// At least.
    pub at_least: Option<u64>,
    /// At most.
    pub at_most: Option<u64>,
}

impl Bound {
    /// Whether `n` is within.
    #[must_use]
    pub fn holds(self, n: u64) -> bool {
        self.at_least.is_none_or(|low| n >= low) && self.at_most.is_none_or(|high| n <= high)
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> String {
        match (self.at_least, self.at_most) {
            (Some(a), Some(b)) if a == b => format!("exactly {a}"),
            (Some(a), Some(b)) => format!("{a} to {b}"),
            (Some(a), None) => format!("at least {a}"),
            (None, Some(b)) => format!("at most {b}"),
            (None, None) => "any number of".into(),
        }
    }
}

/// What is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Two hosts have a direct connection, both ways.
    Connected {
        /// One.
        a: String,
        /// The other.
        b: String,
        /// This long after the start of the scenario at the latest.
        within: Option<Duration>,
    },
    /// They have none, to the end.
    NotConnected {
        /// One.
        a: String,
        /// The other.
        b: String,
    },
    /// Hosts have the whole torrent.
    Completed {
        /// All of these.
        hosts: Vec<String>,
        /// This long after the start of the scenario at the latest.
        within: Option<Duration>,
    },
    /// They do not have it, to the end.
    NotCompleted {
        /// None of these.
        hosts: Vec<String>,
    },
    /// One host has the torrent before another, or the other never has.
    Sooner {
        /// The quicker one.
        first: String,
        /// The slower one.
        second: String,
    },
    /// Packets met a rule.
    Rule {
        /// The rule.
        rule: Rule,
        /// At this router or host; anywhere if `None`.
        node: Option<String>,
        /// So many.
        bound: Bound,
    },
    /// Datagrams or segments from one host reached another.
    Delivered {
        /// From.
        from: String,
        /// To.
        to: String,
        /// So many.
        bound: Bound,
    },
    /// A steady host was answered all the time: no gap longer than this.
    Unbroken {
        /// The host.
        host: String,
        /// Longest time without an answer.
        gap: Duration,
    },
    /// Every datagram that a host sent to an echo host came back, and was there to be had by the
    /// end.
    Answered {
        /// The host.
        host: String,
    },
    /// A steady host was left without an answer for longer than this at least once.
    Broken {
        /// The host.
        host: String,
        /// That long.
        gap: Duration,
    },
    /// The trace has this hash, with the scenario's own seed.
    Trace(u64),
}
