//! NATs: tables with timers, without a network. A NAT is handed one packet at a time and rewrites
//! it in place.
//!
//! The table holds flows, as in Linux's connection tracking. A mapping is the external endpoint
//! that the flows of one internal endpoint share (and, depending on [`Mapping`], of one remote
//! address or endpoint), and lives as long as one of these flows. A flow that began outside is
//! answered from the external endpoint at which it arrived. A packet from outside is dropped when
//! its two ends already have another flow.

mod blocks;
mod config;
mod forward;
mod fragment;
mod icmp;
mod inbound;
mod key;
mod mapping;
mod outbound;
mod ports;
pub mod presets;
mod refusals;
mod refuse;
mod renumber;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, net::Ipv4Addr, net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use blocks::Blocks;
pub use config::{
    Clash, Fault, Filtering, Fragments, Full, Hairpin, Mapping, NatConfig, OtherProtocols, Pooling,
    PortPolicy, Translation, UnsolicitedSyn, WanInput,
};
use forward::Forwards;
pub use forward::{Forward, ForwardError, MAX_FORWARDS};
use fragment::Followed;
use key::{Dir, End, Key, Kind};
use refusals::Refusals;
use table::{Flow, Joins, Origin, Table};

use crate::{
    middlebox::conntrack::{Outcome, Rules},
    packet::{
        self, Fragment, Packet, Proto, Segment,
        verdict::{Rule, Verdict},
    },
    rng::SimRng,
};

/// The most external endpoints that are remembered after their end, to explain why a packet was
/// dropped.
const MAX_ENDED: usize = 1_024;

/// Counters of a NAT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStats {
    /// Flows created.
    pub flows: u64,
    /// Mappings created: flows that share their external endpoint with no older flow.
    pub mappings: u64,
    /// Mappings that did not get the port that they asked for.
    pub remapped: u64,
    /// Flows that expired.
    pub expired: u64,
    /// Flows removed to make room for others.
    pub evicted: u64,
    /// Packets dropped because the table, or the share of one host, was full.
    pub table_full: u64,
    /// Restarts.
    pub reboots: u64,
    /// The most flows at one time.
    pub peak: u64,
}

/// A flow, for inspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protocol.
    pub proto: Proto,
    /// The internal endpoint; `None` for a flow of the box itself.
    pub internal: Option<SocketAddr>,
    /// The external endpoint.
    pub external: SocketAddr,
    /// The remote endpoint.
    pub remote: SocketAddr,
    /// The internal endpoint sent the first packet.
    pub from_inside: bool,
    /// The state of a TCP connection or SCTP association, by the name that Linux has for it in TCP.
    pub state: Option<&'static str>,
    /// When the flow expires if no packet comes.
    pub expires: Instant,
}

/// A NAT. IPv6 packets pass untouched.
#[derive(Clone, Debug)]
pub struct Nat {
    config: NatConfig,
    public: Vec<Ipv4Addr>,
    seed: u64,
    rng: SimRng,
    table: Table,
    forwards: Forwards,
    blocks: Blocks,
    last_port: [u16; Proto::COUNT],
    fragments: Followed,
    delayed: Refusals,
    /// When the restart in progress ends.
    down: Option<Instant>,
    ended: VecDeque<(Proto, End, Rule)>,
    fault: Option<(Instant, Proto, Key)>,
    /// The flows that the planted fault removed.
    forgotten: Vec<(Proto, End, End)>,
    stats: NatStats,
    /// The flows that the last packet created.
    created: Created,
    /// The packet at hand has no hop left.
    spent: bool,
}

/// The flows that one packet created: one, or two if it was hairpinned.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Created([Option<(Proto, End, End)>; 2]);

/// A packet that the box may translate, whichever way it goes. ICMP errors are among them.
struct Entered {
    flow: packet::Flow,
    src: End,
    dst: End,
    /// It is the first fragment of a packet.
    fragment: Option<Fragment>,
}

/// What a packet does to its flow.
enum Use {
    /// The packet belongs to the flow.
    Pass,
    /// The packet must not pass.
    Stop(Rule),
    /// The flow is over, and the packet may begin another.
    Over,
}

impl Nat {
    /// Creates a NAT with these external addresses. Two boxes with the same seed draw the same
    /// ports.
    ///
    /// # Panics
    /// When there is no external address, or the port range is empty or contains port 0.
    #[must_use]
    pub fn new(config: NatConfig, public: &[Ipv4Addr], seed: u64) -> Self {
        assert!(!public.is_empty(), "a NAT needs an external address");
        let (low, high) = config.port_range;
        assert!(0 < low && low <= high, "the range of ports is empty");
        let mut nat = Self {
            table: Table::new(seed, config.full == Full::EvictOldest),
            public: public.to_vec(),
            seed,
            rng: SimRng::new(seed),
            forwards: Forwards::default(),
            blocks: Blocks::default(),
            last_port: [0; Proto::COUNT],
            fragments: Followed::default(),
            delayed: Refusals::default(),
            down: None,
            ended: VecDeque::new(),
            fault: None,
            forgotten: Vec::new(),
            stats: NatStats::default(),
            created: Created::default(),
            spent: false,
            config,
        };
        nat.start_ports();
        nat
    }

    /// Chooses where sequential allocation begins.
    fn start_ports(&mut self) {
        let (low, high) = self.config.port_range;
        let wide = u64::from(high - low) + 1;
        for (n, last) in self.last_port.iter_mut().enumerate() {
            let key = Key::new(Kind::Host, Proto::Udp, End::NONE, End::NONE);
            *last = low + (key.scatter(self.seed ^ n as u64) % wide) as u16;
        }
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &NatConfig {
        &self.config
    }

    /// The external addresses.
    #[must_use]
    pub fn public(&self) -> &[Ipv4Addr] {
        &self.public
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> NatStats {
        self.stats
    }

    /// The number of flows in the table, including flows that have expired since the last packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns `true` when the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The flows in the table, in an order that depends only on what happened before.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.table.iter().map(|flow| Entry {
            proto: flow.proto,
            internal: (flow.origin != Origin::Stray).then(|| flow.inside.addr()),
            external: flow.external.addr(),
            remote: flow.remote.addr(),
            from_inside: flow.origin == Origin::Inside,
            state: flow.track.state(),
            expires: flow.expires,
        })
    }

    /// The external endpoint from which `internal` sends to `remote`, or would send with a mapping
    /// that exists; `None` when a new mapping would be created.
    pub fn external_of(
        &mut self,
        now: Instant,
        proto: Proto,
        internal: SocketAddr,
        remote: SocketAddr,
    ) -> Option<SocketAddr> {
        self.expire(now);
        let (inside, remote) = (End::of(internal)?, End::of(remote)?);
        let known = self.table.find_out(proto, inside, remote);
        let known = known.map(|slot| self.table.flow(slot).external);
        let shared = || {
            let external = self.shared(proto, inside, remote)?;
            (self.table.find_in(proto, external, remote).is_none()).then_some(external)
        };
        known.or_else(shared).map(End::addr)
    }

    /// Restarts the NAT: flows and leased port mappings are forgotten, and nothing passes for
    /// [`NatConfig::boot`].
    pub fn reboot(&mut self, now: Instant) {
        let ends: Vec<_> = self.table.iter().map(|f| (f.proto, f.external)).collect();
        for (proto, external) in ends {
            self.remember_end(proto, external, Rule::NatRebooted);
        }
        self.table.clear();
        self.forwards.reboot();
        self.blocks = Blocks::default();
        self.fragments = Followed::default();
        self.delayed.clear();
        self.start_ports();
        self.down = Some(now + self.config.boot);
        self.stats.reboots += 1;
    }

    /// How much longer each packet takes at the present fill of the table; see [`Full::Slowdown`].
    #[must_use]
    pub fn penalty(&self) -> Duration {
        let Full::Slowdown(above) = self.config.full else {
            return Duration::ZERO;
        };
        let filled = self.table.len() as u64 * 1_000 / u64::from(self.config.max_entries.max(1));
        Duration::from_millis(filled.saturating_sub(u64::from(above)))
    }

    const fn translation(&self, proto: Proto) -> &Translation {
        match proto {
            Proto::Udp => &self.config.udp,
            Proto::Tcp => &self.config.tcp,
            Proto::Icmp => &config::QUERIES,
            Proto::Sctp if matches!(self.config.other_protocols, OtherProtocols::Ports) => {
                &self.config.udp
            }
            Proto::Sctp | Proto::UdpLite | Proto::Gre | Proto::Esp => &config::ADDRESSES,
        }
    }

    const fn rules(&self) -> Rules<'_> {
        Rules {
            times: &self.config.timeouts,
            loose: self.config.tcp_loose,
            windows: self.config.tcp_windows,
        }
    }

    /// Removes what has expired by `now`.
    fn expire(&mut self, now: Instant) {
        if self.down.is_some_and(|until| until <= now) {
            self.down = None;
        }
        while let Some(slot) = self.table.due(now) {
            self.stats.expired += 1;
            self.forget(slot, Rule::NatExpired);
        }
        self.forwards.expire(now);
        if let Some((at, proto, key)) = self.fault
            && at <= now
        {
            self.fault = None;
            while let Some(slot) = self.table.newest(key) {
                let flow = self.table.remove(slot);
                self.forgotten.push((proto, flow.external, flow.remote));
            }
        }
    }

    /// Removes a flow. If its external endpoint has no other flow, remembers why that ended.
    fn forget(&mut self, slot: u32, why: Rule) {
        let flow = self.table.remove(slot);
        let key = Key::new(Kind::External, flow.proto, flow.external, End::NONE);
        if flow.origin != Origin::Stray && self.table.count(key) == 0 {
            self.remember_end(flow.proto, flow.external, why);
        }
    }

    fn remember_end(&mut self, proto: Proto, external: End, why: Rule) {
        if self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back((proto, external, why));
    }

    /// The rule by which a packet for `external` is dropped.
    fn why_closed(&self, proto: Proto, external: End, remote: End) -> Rule {
        let key = Key::new(Kind::External, proto, external, End::NONE);
        let mapped = self.table.count(key) > 0;
        let same = |f: &&(Proto, End, End)| f.0 == proto && f.1 == external;
        if self
            .forgotten
            .iter()
            .any(|f| same(&f) && (!mapped || f.2 == remote))
        {
            return Rule::PlantedFault;
        }
        if mapped {
            return Rule::NatFiltered;
        }
        let end = (self.ended.iter().rev()).find(|g| g.0 == proto && g.1 == external);
        end.map_or(Rule::NatNoMapping, |g| g.2)
    }

    /// Accounts for a packet of a flow, and returns whether it belongs to the flow.
    fn touch(&mut self, now: Instant, slot: u32, dir: Dir, segment: &Segment) -> Use {
        let times = &self.config.timeouts;
        let flow = self.table.flow_mut(slot);
        let proto = flow.proto;
        let began = (flow.origin == Origin::Inside) == (dir == Dir::Out);
        let keeps = dir == Dir::Out || times.inbound_refresh || flow.origin == Origin::Stray;
        match flow.track.account(times, now, proto, began, segment) {
            Outcome::Lives(life) if keeps || proto != Proto::Udp => {
                self.table.refresh(slot, now + life);
            }
            Outcome::Lives(_) | Outcome::Passes => {}
            Outcome::Invalid => return Use::Stop(Rule::NatTcpState),
            Outcome::Over => return Use::Over,
        }
        Use::Pass
    }

    /// Handles a fragment other than the first.
    fn later_fragment(&self, dir: Dir, fragment: Fragment, packet: &mut Packet) -> Verdict {
        if self.config.fragments != Fragments::Drop && self.fragments.follow(dir, fragment, packet)
        {
            Verdict::Pass(Rule::NatMapped)
        } else {
            Verdict::Drop(Rule::NatFragment)
        }
    }

    /// Checks that there is room for one more flow of `host`, and makes room if the configuration
    /// says so.
    fn make_room(&mut self, now: Instant, host: Option<End>) -> Result<(), Rule> {
        if let (Some(host), Some(cap)) = (host, self.config.max_per_host)
            && self.table.count(host_key(host)) >= cap
        {
            self.stats.table_full += 1;
            return Err(Rule::NatHostLimit);
        }
        if self.table.len() < self.config.max_entries as usize {
            return Ok(());
        }
        match self.config.full {
            Full::EvictOldest => {
                if let Some(slot) = self.table.least_recent() {
                    self.stats.evicted += 1;
                    self.forget(slot, Rule::NatTableFull);
                    return Ok(());
                }
            }
            Full::Crash => self.reboot(now),
            Full::DropNew | Full::Slowdown(_) => {}
        }
        self.stats.table_full += 1;
        Err(Rule::NatTableFull)
    }

    /// Adds a new flow. There must be room, and its two keys must be free.
    fn admit(&mut self, flow: Flow) -> u32 {
        let (proto, inside, external) = (flow.proto, flow.inside, flow.external);
        let own = flow.origin != Origin::Stray;
        let by_address = self.translation(proto).filtering == Filtering::AddressDependent;
        let key = |kind, near, far| Some(Key::new(kind, proto, near, far));
        let joins = Joins {
            source: own.then(|| self.source_key(proto, inside, flow.remote)),
            external: key(Kind::External, external, End::NONE).filter(|_| own),
            permit: key(Kind::Permit, external, flow.remote.bare())
                .filter(|_| by_address && flow.origin == Origin::Inside),
            host: (own && self.config.max_per_host.is_some()).then(|| host_key(inside)),
        };
        let name = (proto, external, flow.remote);
        let slot = self.table.insert(flow, &joins);
        if let Some(place) = self.created.0.iter_mut().find(|f| f.is_none()) {
            *place = Some(name);
        }
        self.stats.flows += 1;
        self.stats.peak = self.stats.peak.max(self.table.len() as u64);
        slot
    }

    /// Does what packets from both sides need first.
    ///
    /// # Errors
    /// The verdict on a packet that is not translated by itself: it passes untouched, is dropped, or is a later fragment.
    fn enter(&mut self, now: Instant, dir: Dir, packet: &mut Packet) -> Result<Entered, Verdict> {
        self.created = Created::default();
        let flow = *packet.flow();
        let (Some(src), Some(dst)) = (End::of(flow.src), End::of(flow.dst)) else {
            return Err(Verdict::Pass(Rule::NatUntouched));
        };
        self.expire(now);
        if self.down.is_some() {
            return Err(Verdict::Drop(Rule::NatRebooted));
        }
        let fragment = packet.fragment();
        if let Some(fragment) = fragment
            && (fragment.offset > 0 || self.config.fragments == Fragments::Drop)
        {
            return Err(self.later_fragment(dir, fragment, packet));
        }
        let (src, dst) = match (flow.proto.is_other(), self.config.other_protocols) {
            (false, _) => (src, dst),
            (true, OtherProtocols::Ports) if flow.proto != Proto::UdpLite => (src, dst),
            (true, OtherProtocols::Addresses) => (src.bare(), dst.bare()),
            (true, OtherProtocols::Drop | OtherProtocols::Ports) => {
                return Err(Verdict::Drop(Rule::NatProtocol));
            }
        };
        Ok(Entered {
            flow,
            src,
            dst,
            fragment,
        })
    }

    /// The flows that the last packet created.
    pub(crate) const fn created(&self) -> Created {
        self.created
    }

    /// Removes flows whose first packet did not get through. Linux does the same: a flow is
    /// confirmed when its packet leaves the box.
    pub(crate) fn forget_created(&mut self, created: Created) {
        for (proto, external, remote) in created.0.into_iter().flatten() {
            if let Some(slot) = self.table.find_in(proto, external, remote) {
                self.table.remove(slot);
                self.stats.flows -= 1;
            }
        }
    }

    /// Takes a hop away from a packet that passes, if the configuration says so. A packet that has
    /// none left has been accounted for all the same, as on Linux, but begins no flow, and is
    /// dropped as it came.
    fn spend_hop(
        &mut self,
        packet: &mut Packet,
        translate: impl FnOnce(&mut Self, &mut Packet) -> Verdict,
    ) -> Verdict {
        self.spent = self.config.decrement_ttl && packet.ttl() <= 1;
        let came = self.spent.then(|| packet.clone());
        let verdict = translate(self, packet);
        let passes = matches!(verdict, Verdict::Pass(_) | Verdict::Hairpin(_));
        if !passes || verdict.rule() == Rule::NatUntouched || !self.config.decrement_ttl {
            return verdict;
        }
        if let Some(came) = came {
            *packet = came;
            return Verdict::Drop(Rule::HopLimit);
        }
        packet.hop();
        verdict
    }
}

const fn host_key(host: End) -> Key {
    // The limit of a host counts all protocols together.
    Key::new(Kind::Host, Proto::Udp, host.bare(), End::NONE)
}
