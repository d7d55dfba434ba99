//! The DHT node, composed of its parts.
//!
//! ```text
//!  mod.rs      what the owner sees, and the timers
//!  server.rs   queries of others ──▶ answers
//!  client.rs   our queries ──▶ replies, errors, timeouts        queries.rs  those under way
//!  searches.rs goals ──▶ steps ──▶ stores
//!  upkeep.rs   bootstrap, refresh, housekeeping                 monitor.rs  statistics and warnings
//!  side.rs     what belongs to one family                       liveness.rs whether anybody answers there
//! ```

mod client;
mod items;
mod liveness;
mod monitor;
mod queries;
mod searches;
mod server;
mod side;
#[cfg(test)]
mod tests;
mod upkeep;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
};
use core::net::SocketAddr;
use core::time::Duration;

use self::liveness::Liveness;
use self::monitor::Monitor;
use self::queries::{Queries, Task};
use self::searches::{Requester, Search};
use self::server::Answer;
use self::side::Side;
use super::budget::Budget;
use super::estimate;
use super::guard::{self, Guard, GuardLimits};
use super::rtt::Rtt;
use super::store::{ItemStore, PeerLimits, PeerStore};
use super::token::Tokens;
use super::vote::Vote;
use super::{
    Contact, DhtConfig, DhtEvent, DhtLog, DhtStats, Goal, LookupId, PingId, ReadOnly, Saved,
};
use crate::metainfo::HostPort;
use crate::net::Family;
use crate::wire::krpc::{self, Body};
use crate::{Cx, Handled, Instant, Machine, NodeId, RecvMeta, Transmit};

/// Most nodes to begin with that are kept (S15).
const MAX_CONTACTS: usize = 64;
/// The most unknown nodes that are pinged at once.
const MAX_VERIFYING: usize = 32;
/// The most large answers that wait for a querier to prove its address.
const MAX_WITHHELD: usize = 8;
/// Upkeep looks at the clock at least this often while the node runs.
const UPKEEP: Duration = Duration::from_secs(60);

/// Room that a queue has from the start: with little memory that is all it ever has, and it is never
/// there twice while it grows.
fn few(max: u16) -> usize {
    usize::from(max.min(8))
}

/// The limit was reached: see [`DhtConfig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A DHT node.
#[derive(Debug)]
pub struct Dht {
    config: DhtConfig,
    active: bool,
    port: u16,
    /// IPv4, IPv6.
    sides: [Option<Side>; 2],
    votes: Vote,
    peers: PeerStore,
    items: ItemStore,
    tokens: Tokens,
    guard: Guard,
    budget: Budget,
    rtt: Rtt,
    monitor: Monitor,

    queries: Queries,
    /// Stores to be sent; then pings and refreshes.
    urgent: VecDeque<u16>,
    outbox: VecDeque<u16>,
    /// No query is sent before this time.
    held_until: Option<Instant>,
    answers: VecDeque<Answer>,
    /// Large answers, to be sent once the querier has proved its address.
    withheld: heapless::Deque<Answer, MAX_WITHHELD>,
    verifying: heapless::Vec<SocketAddr, MAX_VERIFYING>,

    searches: BTreeMap<LookupId, Box<Search>>,
    /// Searches that may have something to ask.
    ready: VecDeque<LookupId>,
    /// When a search may go on without a reply.
    stall: Option<Instant>,
    next_id: u32,

    upkeep_at: Option<Instant>,
    /// When the last datagram arrived.
    heard: Instant,
    limited: u64,
    held_back: u64,
    events: VecDeque<DhtEvent>,
}

impl Dht {
    /// A node that does nothing until [`Dht::start`].
    #[must_use]
    pub fn new(cx: &mut Cx<'_>, config: DhtConfig) -> Self {
        let mut key = || (cx.rng.next_u64(), cx.rng.next_u64());
        let limits = PeerLimits {
            max_hashes: config.max_hashes,
            max_peers: config.max_peers,
            max_per_hash: config.max_peers_per_hash,
        };
        let query_key = key();
        let peers = PeerStore::new(key(), limits);
        let limits = GuardLimits {
            max_sources: config.max_sources,
            local: config.local,
            rate: config.source_rate,
            burst: config.source_burst,
        };
        let guard = Guard::new(key(), limits);
        let items = ItemStore::new(key(), config.max_items);
        let budget = Budget::new(
            key(),
            config.new_remote_budget,
            config.new_remote_burst,
            config.remote_memory,
            config.max_remotes,
        );
        let mut id = config.id;
        let mut side = |family| {
            let mut drawn = NodeId([0; 20]);
            cx.rng.fill_bytes(&mut drawn.0);
            Side::new(family, id.take().unwrap_or(drawn), &config)
        };
        let v4 = config.ipv4.then(|| side(Family::V4));
        let v6 = config.ipv6.then(|| side(Family::V6));
        let mut dht = Self {
            active: false,
            port: 0,
            sides: [v4, v6],
            votes: Vote::new(),
            peers,
            items,
            tokens: Tokens::new(cx),
            guard,
            budget,
            rtt: Rtt::new(),
            monitor: Monitor::new(),
            queries: Queries::new(query_key, config.max_queries),
            urgent: VecDeque::new(),
            outbox: VecDeque::new(),
            held_until: None,
            answers: VecDeque::with_capacity(few(config.max_replies)),
            withheld: heapless::Deque::new(),
            verifying: heapless::Vec::new(),
            searches: BTreeMap::new(),
            ready: VecDeque::new(),
            stall: None,
            next_id: 0,
            upkeep_at: None,
            heard: cx.now,
            limited: 0,
            held_back: 0,
            events: VecDeque::with_capacity(few(config.max_events)),
            config,
        };
        dht.own_changed();
        dht
    }

    /// Tells the stores our id: they evict what is farthest from it.
    fn own_changed(&mut self) {
        if let Some(side) = self.sides.iter().flatten().next() {
            let own = *side.routes.own();
            self.peers.set_own(own);
            self.items.set_own(own);
        }
    }

    /// Starts the node; `port` is the port of the bound sockets. Counters start at 0.
    pub fn start(&mut self, cx: &mut Cx<'_>, port: u16) {
        if self.active {
            return;
        }
        (self.active, self.port) = (true, port);
        self.heard = cx.now;
        (self.limited, self.held_back) = (0, 0);
        self.tell(DhtEvent::Log(DhtLog::Starting { port }));
        let nodes = self.sides.iter().flatten().map(|s| s.routes.len()).sum();
        self.monitor.start(cx.now, nodes);
        for side in self.sides.iter_mut().flatten() {
            side.routes.hurry(cx.now);
            side.liveness = Liveness::new();
            (side.rounds, side.round) = (0, Some(cx.now));
            side.pause = side::FIRST_ROUND;
        }
        self.upkeep_at = Some(cx.now);
    }

    /// Stops the node: searches end without an event; table, peers and items are kept.
    pub fn stop(&mut self, cx: &mut Cx<'_>) {
        let _ = cx.now;
        if !self.active {
            return;
        }
        let gauges = self.gauges();
        if let Some(line) = self.monitor.stop(&gauges) {
            self.tell(DhtEvent::Log(line));
        }
        self.tell(DhtEvent::Log(DhtLog::Stopping));
        self.active = false;
        self.queries.clear();
        self.urgent.clear();
        self.outbox.clear();
        self.answers.clear();
        self.withheld.clear();
        self.verifying.clear();
        self.searches.clear();
        self.ready.clear();
        (self.stall, self.upkeep_at, self.held_until) = (None, None, None);
        for side in self.sides.iter_mut().flatten() {
            (side.searching, side.round) = (false, None);
        }
    }

    /// Our id in the IPv4 DHT, or in the IPv6 one; zero if we do not take part in it.
    #[must_use]
    pub fn id(&self, v6: bool) -> NodeId {
        let side = self.sides[usize::from(v6)].as_ref();
        side.map_or(NodeId([0; 20]), |s| *s.routes.own())
    }

    /// Limits and habits.
    #[must_use]
    pub const fn config(&self) -> &DhtConfig {
        &self.config
    }

    /// Restores saved nodes and ids, before the start or at any time.
    pub fn restore(&mut self, cx: &mut Cx<'_>, saved: &Saved) {
        for (side, id) in self.sides.iter_mut().zip([saved.id, saved.id6]) {
            if let (Some(side), Some(id)) = (side, id.filter(|_| self.config.id.is_none())) {
                side.routes.set_own(cx.now, id);
            }
        }
        self.own_changed();
        for (contact, age) in &saved.nodes {
            if guard::is_martian(&contact.addr, self.config.local) {
                continue;
            }
            if let Some(side) = &mut self.sides[usize::from(contact.addr.is_ipv6())] {
                side.routes
                    .restore(cx.now, contact, Duration::from_secs((*age).into()));
            }
        }
        for addr in saved.contacts.iter().filter_map(HostPort::addr) {
            self.add_contact(cx, addr);
        }
        if self.active {
            self.upkeep_at = Some(cx.now);
        }
    }

    /// The state to save for the next session.
    #[must_use]
    pub fn save(&self, now: Instant) -> Saved {
        let [v4, v6] = &self.sides;
        let each = || self.sides.iter().flatten();
        let nodes = each().flat_map(|s| s.routes.nodes(now));
        let seconds = |age: Duration| u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let contacts = each()
            .flat_map(|s| &s.contacts)
            .map(|addr| HostPort::from(*addr));
        Saved {
            id: v4.as_ref().map(|s| *s.routes.own()),
            id6: v6.as_ref().map(|s| *s.routes.own()),
            nodes: nodes
                .map(|(contact, age, _)| (contact, seconds(age)))
                .collect(),
            contacts: contacts.collect(),
        }
    }

    /// A node to begin with, from a torrent file or a router; tried only while the table is
    /// short of nodes or nobody of its family answers. At most 64 are kept, the newest (S15).
    pub fn add_contact(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let Some(side) = self.sides[usize::from(addr.is_ipv6())].as_mut() else {
            return;
        };
        if guard::is_martian(&addr, self.config.local) || side.contacts.contains(&addr) {
            return;
        }
        if side.contacts.len() >= MAX_CONTACTS {
            side.contacts.pop_front();
        }
        side.contacts.push_back(addr);
        let heard = side.liveness.is_heard();
        let wanted = !heard || side.routes.good() < monitor::ENOUGH_NODES;
        if !self.active || !wanted {
            return;
        }
        if side.searching {
            // The nodes that the search asks may all be gone, so its end is not waited for.
            if !heard {
                self.probe(cx, addr);
            }
        } else {
            side.round = Some(cx.now);
            self.upkeep_at = Some(cx.now);
        }
    }

    /// Whether nodes to start from are needed: too few nodes are known, or no node answers in a family in
    /// which one could.
    #[must_use]
    pub(crate) fn wants_contacts(&self, now: Instant) -> bool {
        let unheard = |v6: &bool| {
            let side = self.sides[usize::from(*v6)].as_ref();
            side.is_some_and(|s| !s.liveness.is_heard()) && !self.is_resting(now, *v6)
        };
        self.active && (self.monitor.is_bootstrapping() || [false, true].iter().any(unheard))
    }

    /// Whether nodes answer, in either family.
    #[must_use]
    #[doc(hidden)]
    pub fn is_heard(&self) -> bool {
        self.active && self.sides.iter().flatten().any(|s| s.liveness.is_heard())
    }

    /// Pings a node, which joins the table if that has space (PORT messages, `dht_add_node`).
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, or the node is not running.
    pub fn ping(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) -> Result<PingId, Full> {
        if !self.can_ask(&addr) {
            return Err(Full);
        }
        let id = PingId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let queued = self.enqueue(cx, Task::Ping(Some(id)), addr, None);
        queued.then_some(id).ok_or(Full)
    }

    /// Asks one node which info-hashes it knows (BEP 51).
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, or the node is not running.
    pub fn sample(
        &mut self,
        cx: &mut Cx<'_>,
        addr: SocketAddr,
        target: NodeId,
    ) -> Result<(), Full> {
        let queued = self.can_ask(&addr) && self.enqueue(cx, Task::Sample { target }, addr, None);
        queued.then_some(()).ok_or(Full)
    }

    /// Whether a node of this network may have the address `addr`: a public one, or any if the
    /// network is a private one.
    #[must_use]
    pub const fn admits(&self, addr: &SocketAddr) -> bool {
        !guard::is_martian(addr, self.config.local)
    }

    fn can_ask(&self, addr: &SocketAddr) -> bool {
        self.active && self.sides[usize::from(addr.is_ipv6())].is_some() && self.admits(addr)
    }

    /// Begins a search.
    ///
    /// # Errors
    /// [`Full`] if too many are under way, or the node is not running.
    pub fn search(&mut self, cx: &mut Cx<'_>, goal: Goal) -> Result<LookupId, Full> {
        let begun = if self.active {
            self.begin(cx, goal, Requester::Owner)
        } else {
            None
        };
        begun.ok_or(Full)
    }

    /// Whether [`Dht::search`] has room for one more.
    #[must_use]
    pub(crate) fn can_search(&self) -> bool {
        self.active && self.has_room()
    }

    /// Ends a search without an event.
    pub fn cancel(&mut self, lookup: LookupId) {
        self.abandon(lookup);
    }

    /// The progress of a search: nodes that replied, nodes asked, and whether it is announcing.
    #[must_use]
    pub fn progress(&self, lookup: LookupId) -> Option<(u32, u32, bool)> {
        let search = self.searches.get(&lookup)?;
        let (contacted, replied) = search.counts();
        Some((replied, contacted, search.is_storing()))
    }

    /// Counters and state.
    #[must_use]
    pub fn stats(&self) -> DhtStats {
        if !self.active {
            return DhtStats::default();
        }
        let (gauges, counters) = (self.gauges(), self.monitor.counters);
        let each = || self.sides.iter().flatten();
        DhtStats {
            active: true,
            cycle: self.monitor.cycle(),
            queries_received: counters.queries_in,
            queries_sent: counters.queries_out,
            replies_received: counters.replies,
            errors_received: counters.errors_received,
            errors_caught: counters.errors_caught,
            bytes_read: counters.bytes_in,
            bytes_written: counters.bytes_out,
            nodes: gauges.nodes,
            buckets: gauges.buckets,
            peers: gauges.peers,
            peers_max: gauges.peers_max,
            torrents: gauges.torrents,
            items: self.items.count(),
            good_nodes: self.good_nodes(),
            pending: self.queries.len().into(),
            lookups: self.searches.len() as u32,
            limited: self.limited,
            held_back: self.held_back,
            reachable: self.is_reachable(),
            size_by_buckets: each()
                .map(|s| estimate::by_buckets(s.routes.buckets()))
                .max()
                .unwrap_or(0),
            size_by_lookups: each().map(|s| s.estimate.get()).max().unwrap_or(0),
            observed_port: self.votes.observed_port().unwrap_or(0),
        }
    }

    /// Nodes that answered and did not fail since.
    #[must_use]
    pub fn good_nodes(&self) -> u32 {
        self.sides.iter().flatten().map(|s| s.routes.good()).sum()
    }

    /// Whether the node runs, and its table has too few nodes yet.
    #[must_use]
    pub(crate) const fn is_bootstrapping(&self) -> bool {
        self.monitor.is_bootstrapping()
    }

    /// Whether queries of others reach us, as far as is known (S17), and are answered.
    #[must_use]
    pub(crate) const fn is_reachable(&self) -> bool {
        self.active && !self.is_read_only() && self.monitor.can_receive()
    }

    const fn is_read_only(&self) -> bool {
        matches!(self.config.read_only, ReadOnly::Always)
    }

    /// The nodes of the tables.
    pub fn nodes(&self) -> impl Iterator<Item = Contact> + '_ {
        let each = self.sides.iter().flatten();
        each.flat_map(|s| s.routes.nodes(Instant::ORIGIN))
            .map(|(contact, ..)| contact)
    }

    /// The platform refused to send a datagram to `addr`: the query that left for it last has
    /// failed. Does nothing if no query is under way there: others may share the socket.
    #[doc(hidden)]
    pub fn send_failed(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        let slot = self.queries.last_to(addr);
        let Some(query) = slot.and_then(|slot| self.queries.close(slot)) else {
            return;
        };
        if let Some(side) = &mut self.sides[usize::from(addr.is_ipv6())] {
            side.liveness.refused();
        }
        self.failed(cx, &query);
    }

    /// Whether [`Machine::poll_transmit`] may have something now.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        let queued = !self.urgent.is_empty() || !self.outbox.is_empty();
        let steps = !self.ready.is_empty() && !self.queries.is_full();
        !self.answers.is_empty() || (self.held_until.is_none() && (queued || steps))
    }

    /// Whether [`Machine::poll_event`] has something.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Queues an event for the owner; the oldest is dropped if the queue is full.
    fn tell(&mut self, event: DhtEvent) {
        if self.events.len() >= usize::from(self.config.max_events.max(1)) {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Machine for Dht {
    type Event = DhtEvent;

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        if !self.active || data.first() != Some(&b'd') {
            return Handled::NotMine;
        }
        let from = meta.from;
        self.monitor.counters.bytes_in += data.len() as u64;
        let banned = || self.guard.is_banned(cx.now, from.ip());
        if guard::is_martian(&from, self.config.local) || banned() {
            return Handled::Consumed;
        }
        let Ok(message) = krpc::parse(data) else {
            self.monitor.counters.errors_caught += 1;
            return Handled::Consumed;
        };
        self.heard = cx.now;
        match &message.body {
            Body::Query(method, args) => {
                self.asked(cx, from, &message, *method, args, data.len());
            }
            Body::Reply(reply) => {
                self.replied(cx, from, message.tid, message.version, message.ip, reply);
            }
            Body::Error(..) => self.refused(cx, from, message.tid),
        }
        Handled::Consumed
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if !self.active {
            return;
        }
        if self.held_until.is_some_and(|at| at <= cx.now) {
            self.held_until = None;
        }
        self.time_out(cx);
        self.stalled(cx.now);
        let sides = || self.sides.iter().flatten();
        let due = sides().filter_map(|s| s.routes.due());
        let rounds = sides().filter(|s| !s.searching).filter_map(|s| s.round);
        let own = [self.upkeep_at, self.monitor.poll_timeout()];
        let due = due.chain(rounds).chain(own.into_iter().flatten()).min();
        if due.is_some_and(|at| at <= cx.now) {
            self.upkeep(cx);
            self.upkeep_at = Some(cx.now + UPKEEP);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.active {
            return None;
        }
        let sides = || self.sides.iter().flatten();
        // A table that waits for a free query is looked at when one times out.
        let due = sides()
            .filter_map(|s| s.routes.due())
            .filter(|_| !self.queries.is_full());
        let rounds = sides().filter(|s| !s.searching).filter_map(|s| s.round);
        let own = [
            self.upkeep_at,
            self.monitor.poll_timeout(),
            self.queries.next_timeout(),
            // A search that may ask already waits for something else.
            self.stall.filter(|_| self.ready.is_empty()),
            self.held_until,
        ];
        due.chain(rounds).chain(own.into_iter().flatten()).min()
    }

    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if !self.active {
            return None;
        }
        // S30: announces first, then our own queries, replies last.
        self.ask(cx, buf).or_else(|| self.answer(cx, buf))
    }

    fn poll_event(&mut self) -> Option<DhtEvent> {
        self.events.pop_front()
    }
}
