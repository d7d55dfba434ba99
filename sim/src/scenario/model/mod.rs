//! The content of a scenario, after it was checked.

pub(crate) mod gateway;
pub(crate) mod kinds;
pub(crate) mod links;
pub(crate) mod plan;
pub(crate) mod presets;
pub(crate) mod random;

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use super::syntax::{document::Document, error::ScenarioErrors};

pub use links::{Limit, Link, QueueKind, Side};

use crate::{
    host::{
        engine::Lifetime, gateway::GatewayProfile, punch::LEAD, service::DnsAnswer,
        stack::tcp::Algorithm,
    },
    middlebox::{
        firewall::FirewallConfig,
        nat::{Filtering, Mapping, NatConfig},
    },
    packet::{Proto, verdict::Rule},
};

/// A network, what happens in it, and what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name; that of the file when the scenario names none.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// The default seed.
    pub seed: u64,
    /// How long it runs.
    pub duration: Duration,
    /// The torrent that engine hosts share.
    pub torrent: Torrent,
    /// The routers, each after the one that it is behind.
    pub routers: Vec<Router>,
    /// The names of the hosts.
    pub hosts: Vec<Host>,
    /// The events, in order of time.
    pub events: Vec<Event>,
    /// Random events.
    pub random: Option<Random>,
    /// The expectations.
    pub expects: Vec<Expect>,
    /// The members of each group of routers and hosts, in the order of the file.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What it was read from, if its populations depend on the seed.
    pub(crate) drawn_from: Option<Arc<Document>>,
}

impl Scenario {
    /// The scenario with what its populations draw with this seed.
    ///
    /// # Errors
    /// When what is drawn contradicts itself, such as a host without NAT and the address of another.
    pub fn drawn(&self, seed: u64) -> Result<Cow<'_, Self>, ScenarioErrors> {
        match &self.drawn_from {
            Some(doc) if seed != self.seed => Self::drawn_from(doc, seed).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(self)),
        }
    }

    /// The members of a group, or the one router or host of this name.
    pub(crate) fn members<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        match self.groups.get(name) {
            Some(members) => members.iter().map(String::as_str).collect(),
            None => vec![name],
        }
    }

    /// Returns `true` when delays through the core depend on regions.
    pub(crate) fn has_regions(&self) -> bool {
        self.routers.iter().any(|r| r.region.is_some())
            || self.hosts.iter().any(|h| h.region.is_some())
    }
}

/// The torrent of the engine hosts. Its content is derived from the seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torrent {
    /// The length in bytes.
    pub size: u64,
    /// The length of a piece in bytes.
    pub piece: u64,
}

/// A router with its box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Router {
    /// The name, which is unique among routers and hosts.
    pub name: String,
    /// The router above it; `None` for the core of the internet.
    pub behind: Option<String>,
    /// The NAT; `None` when the router does not translate.
    pub nat: Option<NatConfig>,
    /// The preset of the NAT.
    pub nat_name: String,
    /// The firewall; `None` when the router does not filter.
    pub firewall: Option<FirewallConfig>,
    /// The preset of the firewall.
    pub firewall_name: String,
    /// Its addresses on the upper side; chosen automatically when empty.
    pub wan: Vec<IpAddr>,
    /// The number of addresses to choose.
    pub wan_count: u16,
    /// The port mappings that were made by hand.
    pub forwards: Vec<PortForward>,
    /// Its region, if it is directly below the core.
    pub region: Option<String>,
    /// The services that it offers to the hosts behind it.
    pub gateway: Option<GatewayProfile>,
    /// The inner address of its gateway; chosen automatically when `None`.
    pub gateway_address: Option<IpAddr>,
    /// The link to the device above it.
    pub link: Link,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
}

/// A port mapping that was made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortForward {
    /// UDP or TCP; `None` for both.
    pub proto: Option<Proto>,
    /// The outer port.
    pub port: u16,
    /// The host.
    pub host: String,
    /// The port of the host.
    pub to: u16,
}

impl PortForward {
    /// The protocols.
    #[must_use]
    pub const fn protos(&self) -> &'static [Proto] {
        match self.proto {
            None => &[Proto::Udp, Proto::Tcp],
            Some(Proto::Tcp) => &[Proto::Tcp],
            Some(_) => &[Proto::Udp],
        }
    }
}

/// A machine at the end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The name, which is unique among routers and hosts.
    pub name: String,
    /// The router above it; `None` for the core of the internet.
    pub behind: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// Its addresses; chosen automatically when empty.
    pub addresses: Vec<IpAddr>,
    /// The number of addresses to choose, of each version.
    pub address_count: u16,
    /// The IP versions of the addresses to choose.
    pub ip: IpVersions,
    /// Its region, if it is directly below the core.
    pub region: Option<String>,
    /// The link to the device above it.
    pub link: Link,
    /// The options of its kind.
    pub options: Options,
    /// The groups that it belongs to.
    pub groups: Vec<String>,
}

/// The population of which a router or host is a member: the one of its groups from which its name is
/// made.
pub(crate) fn population<'a>(name: &str, groups: &'a [String]) -> Option<&'a str> {
    let numbers = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '-');
    let names = |group: &&String| {
        let rest = name.strip_prefix(group.as_str());
        rest.is_some_and(|rest| rest.starts_with('-') && numbers(rest))
    };
    groups.iter().find(names).map(String::as_str)
}

impl Router {
    /// The population of which it is a member.
    #[must_use]
    pub fn population(&self) -> Option<&str> {
        population(&self.name, &self.groups)
    }
}

impl Host {
    /// The population of which it is a member.
    #[must_use]
    pub fn population(&self) -> Option<&str> {
        population(&self.name, &self.groups)
    }

    /// The host's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port.unwrap_or(self.kind.info().port)
    }
}

/// The IP versions of a host whose addresses are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpVersions {
    /// IPv4 only.
    #[default]
    V4,
    /// IPv6 only.
    V6,
    /// One address of each.
    Both,
}

/// When an end that punches holes also tells its own address, beside the one that the rendezvous sees
/// (a host candidate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Advertise {
    /// If it is behind a NAT, and the other end can send to it there.
    #[default]
    Useful,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Sends only when an event says so, and counts what it receives.
    Manual,
    /// Sends every datagram back.
    Echo,
    /// Sends datagrams at a steady pace and expects each of them back, like a call or a game.
    Steady,
    /// Opens one flow after another.
    Flood,
    /// Introduces peers to each other.
    Rendezvous,
    /// Connects to another host over UDP hole punching.
    UdpPunch,
    /// Connects to another host over TCP hole punching.
    TcpPunch,
    /// Runs a tracker.
    Tracker,
    /// Runs a STUN server.
    Stun,
    /// Finds out how a NAT behaves.
    StunClient,
    /// Runs a name server.
    Dns,
    /// Runs a node of the DHT.
    Dht,
    /// Runs the engine with the complete torrent.
    EngineSeed,
    /// Runs the engine without any of the torrent.
    EngineLeech,
}

/// The options of hosts. [`KINDS`](super::KINDS) says which kind takes which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The host's port; `None` for the kind's default.
    pub port: Option<u16>,
    /// The host that it sends to or connects to.
    pub to: Option<String>,
    /// The port of that host.
    pub to_port: Option<u16>,
    /// The rendezvous server.
    pub via: Option<String>,
    /// How long a rendezvous waits, after all its hosts have registered, before it introduces them.
    pub lead: Duration,
    /// How much later than the others it is introduced.
    pub told_after: Duration,
    /// When an end also tells its own address.
    pub advertise: Advertise,
    /// The interval at which an end that punches over UDP sends to its peer afterwards.
    pub keepalive: Option<Duration>,
    /// How long an engine takes part.
    pub lifetime: Lifetime,
    /// When it begins.
    pub start: Duration,
    /// When it ends; `None` for never.
    pub stop: Option<Duration>,
    /// The time between two datagrams.
    pub every: Duration,
    /// How long a datagram is kept before it is sent back.
    pub reply_after: Duration,
    /// New flows per second.
    pub flows: u32,
    /// The bytes of data in each datagram.
    pub size: u16,
    /// The names of the trackers to which an engine announces.
    pub trackers: Vec<String>,
    /// The addresses of trackers to which an engine announces, too.
    pub tracker_urls: Vec<String>,
    /// The name servers of an engine.
    pub dns: Vec<String>,
    /// What a name server knows.
    pub names: Vec<NameEntry>,
    /// The nodes from which a node joins the DHT.
    pub bootstrap: Vec<String>,
    /// The hosts whose addresses it is given.
    pub peers: Vec<String>,
    /// The upload limit in bytes per second; `None` means unlimited.
    pub upload: Option<u64>,
    /// The number of peers that it uploads to at once; `None` for the engine's default, 0 for a
    /// free rider.
    pub upload_slots: Option<u32>,
    /// The download limit in bytes per second.
    pub download: Option<u64>,
    /// The congestion control of an engine's TCP; `None` for the firmware's TCP.
    pub tcp: Option<Algorithm>,
    /// The time that each operation of its disk takes.
    pub disk_delay: Option<Duration>,
}

/// A name, and what a name server says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEntry {
    /// The name.
    pub name: String,
    /// The answer.
    pub answer: NameAnswer,
}

/// What a name server says about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameAnswer {
    /// The addresses of this router or host.
    Node(String),
    /// Something else.
    Other(DnsAnswer),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: None,
            to: None,
            to_port: None,
            via: None,
            lead: LEAD,
            told_after: Duration::ZERO,
            advertise: Advertise::Useful,
            keepalive: None,
            lifetime: Lifetime::default(),
            start: Duration::ZERO,
            stop: None,
            every: Duration::from_secs(1),
            reply_after: Duration::ZERO,
            flows: 100,
            size: 64,
            trackers: Vec::new(),
            tracker_urls: Vec::new(),
            dns: Vec::new(),
            names: Vec::new(),
            bootstrap: Vec::new(),
            peers: Vec::new(),
            upload: None,
            upload_slots: None,
            download: None,
            tcp: Some(Algorithm::Cubic),
            disk_delay: None,
        }
    }
}

/// A change of the network, or a datagram, at a given time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The time of the event, from the start of the scenario.
    pub at: Duration,
    /// What happens at that time.
    pub action: Action,
}

/// What an event does. Routers and hosts are given by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A router restarts and forgets every flow.
    Reboot(String),
    /// The link above a router or host is cut.
    Cut(String),
    /// The link above a router or host is cut, and it notices.
    Unplug {
        /// The router or host.
        node: String,
        /// A NAT keeps its flows.
        keep: bool,
    },
    /// The link above a router or host is mended.
    Mend(String),
    /// A router gets other addresses on its upper side.
    Renumber {
        /// The router.
        router: String,
        /// The addresses; as many as it has are chosen when empty.
        wan: Vec<IpAddr>,
        /// A NAT keeps its flows.
        keep: bool,
    },
    /// Two regions, or one region and all others, no longer reach each other.
    Part(String, Option<String>),
    /// They reach each other again.
    Join(String, Option<String>),
    /// The link above a router or host is replaced.
    Link(String, Link),
    /// Some properties of the link above a router or host change.
    Change(String, Link),
    /// A host is switched off.
    Off(String),
    /// A host is switched on, and starts again.
    On(String),
    /// A host asks its gateway for a port mapping.
    Map {
        /// The host that asks.
        host: String,
        /// The host that gets the mapping.
        client: String,
        /// What it asks for.
        wanted: gateway::WantedMapping,
    },
    /// A host sends a datagram.
    Send {
        /// The sending host.
        from: String,
        /// The port from which it sends.
        port: u16,
        /// The receiving host or router.
        to: String,
        /// The port of the receiver.
        to_port: u16,
        /// The bytes of data.
        size: u16,
    },
}

/// Events that are derived from the seed: `count` datagrams between hosts at random times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    /// The number of datagrams.
    pub count: u32,
    /// The earliest time.
    pub from: Duration,
    /// The latest time; `None` for the end of the scenario.
    pub until: Option<Duration>,
    /// The names of the sending hosts.
    pub senders: Vec<String>,
    /// The names of the receiving hosts.
    pub receivers: Vec<String>,
    /// The number of source ports, counted from 40000.
    pub ports: u16,
    /// The receivers' port; `None` for each receiver's own.
    pub to_port: Option<u16>,
}

/// A condition that the scenario expects to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The condition that must hold.
    pub check: Check,
    /// The line in the file.
    pub line: usize,
}

/// Bounds of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The lower bound.
    pub at_least: Option<u64>,
    /// The upper bound.
    pub at_most: Option<u64>,
}

impl Bound {
    /// Returns `true` when `n` is within the bounds.
    #[must_use]
    pub fn holds(self, n: u64) -> bool {
        self.at_least.is_none_or(|low| n >= low) && self.at_most.is_none_or(|high| n <= high)
    }

    /// The bounds in words.
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

/// How many of the members of a group are to meet a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The members, and what they are to do, in words: `leech complete within 1 min`.
    pub what: String,
    /// The condition of each.
    pub checks: Vec<Check>,
    /// How many of them are to hold; all of them without a bound and a share.
    pub bound: Bound,
    /// The smallest share of them that is to hold, in millionths.
    pub share: Option<u32>,
}

impl Quota {
    /// Returns `true` when `n` of the conditions are enough.
    #[must_use]
    pub fn holds(&self, n: usize) -> bool {
        let all = self.checks.len();
        let share = u128::from(self.share.unwrap_or(0)) * all as u128;
        let every = self.bound == Bound::default() && self.share.is_none();
        self.bound.holds(n as u64) && n as u128 * 1_000_000 >= share && (!every || n == all)
    }
}

/// A condition that is checked at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Two hosts have a direct connection in both directions.
    Connected {
        /// The first host.
        a: String,
        /// The second host.
        b: String,
        /// The latest time, from the start of the scenario.
        within: Option<Duration>,
    },
    /// Two hosts have no connection at the end.
    NotConnected {
        /// The first host.
        a: String,
        /// The second host.
        b: String,
    },
    /// Hosts have the complete torrent.
    Completed {
        /// The names of the hosts.
        hosts: Vec<String>,
        /// The latest time, from the start of the scenario.
        within: Option<Duration>,
    },
    /// None of these hosts has the complete torrent at the end.
    NotCompleted {
        /// The names of the hosts.
        hosts: Vec<String>,
    },
    /// One host completes the torrent before another one, or the other never does.
    Sooner {
        /// The host that is faster.
        first: String,
        /// The host that is slower.
        second: String,
    },
    /// A rule decided about packets.
    Rule {
        /// The rule whose packets are counted.
        rule: Rule,
        /// The router or host; `None` for anywhere.
        node: Option<String>,
        /// The number of packets.
        bound: Bound,
    },
    /// Datagrams or segments from one host reached another.
    Delivered {
        /// The name of the sending host.
        from: String,
        /// The name of the receiving host.
        to: String,
        /// The number of packets.
        bound: Bound,
    },
    /// A steady host was never without an answer for longer than `gap`.
    Unbroken {
        /// The name of the host.
        host: String,
        /// The longest time without an answer.
        gap: Duration,
    },
    /// Every datagram that a host sent to an echo host came back in time.
    Answered {
        /// The name of the host.
        host: String,
    },
    /// A steady host was without an answer for longer than `gap` at least once.
    Broken {
        /// The name of the host.
        host: String,
        /// The time without an answer.
        gap: Duration,
    },
    /// Two hosts hear each other from their first connection on.
    StaysConnected {
        /// The first host.
        a: String,
        /// The second host.
        b: String,
        /// The last time at which they are to; `None` for the end.
        until: Option<Duration>,
        /// How much longer than the interval of keepalives a silence may be.
        gap: Duration,
    },
    /// A box loses no mapping that is in use.
    MappingsKept {
        /// The name of the router.
        router: String,
    },
    /// No box loses a flow of a host.
    FlowsKept {
        /// The name of the host.
        host: String,
    },
    /// How many new flows are opened in any second.
    NewFlows {
        /// The name of the host, or of the router through which they go.
        node: String,
        /// Their number.
        bound: Bound,
    },
    /// How long packets wait for the link of a router or host.
    QueueDelay {
        /// The name of the router or host.
        node: String,
        /// Towards the core, and not towards the host.
        up: bool,
        /// The share of packets, in millionths, that is to wait less than `below`.
        quantile: u32,
        /// The time.
        below: Duration,
    },
    /// Enough members of a group meet a condition.
    Of(Quota),
    /// A client of a STUN server found out this behaviour.
    Behaviour {
        /// The name of the host.
        host: String,
        /// How the NATs before it map together.
        mapping: Mapping,
        /// How they filter together.
        filtering: Filtering,
    },
    /// The hash of the trace, with the scenario's own seed.
    Trace(u64),
}
