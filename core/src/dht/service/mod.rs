//! A DHT node with its policy: when it runs, which nodes it begins with, who owns a search, and when its table is saved.
//!
//! ```text
//!         ┌──────────────── not_bound (the mode is Off then) ─┐
//!         ▼                                                   │
//!        Off ──start──▶ Starting ──bound──▶ On                │
//!         ▲    Bind        │ └────────────────────────────────┘
//!         └────── stop ◀───┴───────────────┘
//!                 Unbind
//! ```
//!
//! [`Service`] is a [`Machine`]. It requests I/O with a [`ServiceEvent`]: sockets to bind, names to look up, a table to save.
//! The engine owns a service for its torrents and its application; a node that runs alone owns one for its handles. `T`
//! is the type by which the owner of the service tells the owners of searches apart.

mod contacts;
mod event;
mod requests;
mod schedule;
#[cfg(test)]
mod tests;

use alloc::{boxed::Box, collections::VecDeque};
use core::net::{IpAddr, SocketAddr};

pub use self::event::{ServiceConfig, ServiceEvent, Wanted};

use self::contacts::Contacts;
use self::requests::Requests;
use self::schedule::Schedule;
use super::{
    Cause, Dht, DhtEvent, DhtLog, DhtMode, Failure, Full, Goal, LookupId, LookupReport, PingId,
    Saved,
};
use crate::metainfo::HostPort;
use crate::net::Ports;
use crate::{Cx, Handled, Instant, Machine, NodeId, RecvMeta, Transmit};

/// The state of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    /// The sockets are not bound yet.
    Starting,
    /// The node runs; its sockets are bound to these ports.
    On(Ports),
}

/// A DHT node with its policy: when it runs, which nodes it begins with, who owns a search, and when its table is saved.
#[derive(Debug)]
pub struct Service<T> {
    config: ServiceConfig,
    mode: DhtMode,
    state: State,
    /// Whether it may start.
    startable: bool,
    /// Made at the first start; it keeps its table while it does not run.
    node: Option<Box<Dht>>,
    contacts: Contacts,
    requests: Requests<T>,
    /// A search failed because nobody was known, or nobody had answered yet.
    starved: bool,
    schedule: Schedule,
    events: VecDeque<ServiceEvent<T>>,
}

impl<T: Copy + PartialEq> Service<T> {
    /// A service whose node does not run: [`Service::begin`] does what the mode says.
    #[must_use]
    pub const fn new(config: ServiceConfig) -> Self {
        Self {
            mode: config.mode,
            state: State::Off,
            startable: true,
            node: None,
            contacts: Contacts::new(),
            requests: Requests::new(config.gather),
            starved: false,
            schedule: Schedule::EMPTY,
            events: VecDeque::new(),
            config,
        }
    }

    // ---- modes ----

    /// The mode.
    #[must_use]
    pub const fn mode(&self) -> DhtMode {
        self.mode
    }

    /// Starts the node if the mode is `on`.
    pub fn begin(&mut self) {
        if self.mode == DhtMode::On {
            self.start();
        }
    }

    /// Changes the mode. `Off` and `Disable` stop the node, `On` starts it, `Auto` changes nothing now.
    pub(crate) fn set_mode(&mut self, cx: &mut Cx<'_>, mode: DhtMode) {
        self.mode = mode;
        match mode {
            DhtMode::On => self.start(),
            DhtMode::Auto => {}
            DhtMode::Off | DhtMode::Disable => self.stop(cx),
        }
    }

    /// Something needs the node: in mode `auto` that starts it, and keeps it going.
    pub fn want(&mut self) {
        if self.mode == DhtMode::Auto {
            self.start();
        }
    }

    /// Whether the node runs, or is about to.
    #[must_use]
    pub(crate) fn is_on(&self) -> bool {
        self.state != State::Off
    }

    /// Nothing needs the node, which is the answer to [`ServiceEvent::IsUsed`].
    pub fn unused(&mut self, now: Instant) {
        if matches!(self.state, State::On(_)) {
            self.schedule.unused(now);
        }
    }

    /// Whether the node may start from now on; it may at first.
    pub(crate) const fn set_startable(&mut self, startable: bool) {
        self.startable = startable;
    }

    fn start(&mut self) {
        // A reason to start it is a reason to keep it.
        self.schedule.used();
        if self.state == State::Off && self.startable {
            self.state = State::Starting;
            self.events.push_back(ServiceEvent::Bind);
        }
    }

    /// The sockets are bound to these ports, one at least: the node runs from now on.
    pub fn bound(&mut self, cx: &mut Cx<'_>, ports: Ports) {
        let Some(port) = ports.any() else {
            return self.not_bound();
        };
        if self.state != State::Starting {
            return;
        }
        let node = self.node.get_or_insert_with(|| {
            let mut config = self.config.node.clone();
            config.ipv4 &= ports.v4.is_some();
            config.ipv6 &= ports.v6.is_some();
            Box::new(Dht::new(cx, config))
        });
        let mut contacts = self.config.bootstrap.clone();
        if let Some(saved) = self.config.saved.take() {
            node.restore(cx, &saved);
            contacts.extend(saved.contacts);
        }
        node.start(cx, port);
        self.state = State::On(ports);
        self.contacts.start();
        self.starved = false;
        self.schedule = Schedule::started(cx.now);
        self.add_contacts(cx, contacts);
        self.events.push_back(ServiceEvent::Started);
    }

    /// The sockets could not be bound: the mode is `off` from now on.
    #[doc(hidden)]
    pub fn not_bound(&mut self) {
        if self.state == State::Starting {
            (self.state, self.mode) = (State::Off, DhtMode::Off);
        }
    }

    /// Stops the node, whatever the mode: its table is saved, and searches end.
    pub fn stop(&mut self, cx: &mut Cx<'_>) {
        self.schedule = Schedule::EMPTY;
        match core::mem::replace(&mut self.state, State::Off) {
            State::Off => return,
            State::Starting => {}
            State::On(_) => {
                if let Some(node) = &mut self.node {
                    node.stop(cx);
                }
                // The events of the stop, and those that were left before it.
                while let Some(event) = self.node.as_mut().and_then(|node| node.poll_event()) {
                    self.on_event(cx, event);
                }
                self.events.push_back(ServiceEvent::Stopped);
                for (lookup, owner) in self.requests.stop() {
                    let report = LookupReport::failed(Failure::NoReplies, Cause::NoContacts);
                    let event = DhtEvent::Done { lookup, report };
                    self.events.push_back(ServiceEvent::Answer { owner, event });
                }
                let saved = self.saved(cx.now);
                self.events.extend(saved.map(ServiceEvent::Save));
            }
        }
        self.events.push_back(ServiceEvent::Unbind);
    }

    // ---- the node ----

    /// The node, to look at, once it was started.
    #[must_use]
    pub fn node(&self) -> Option<&Dht> {
        self.node.as_deref()
    }

    /// The ports of the node, while it runs.
    #[must_use]
    pub const fn ports(&self) -> Option<Ports> {
        match self.state {
            State::On(ports) => Some(ports),
            State::Off | State::Starting => None,
        }
    }

    /// The ports to tell peers: those of a node that runs, is reached by others, and answers.
    #[must_use]
    pub(crate) fn reachable_ports(&self) -> Option<Ports> {
        let reachable = self.node.as_ref().is_some_and(|node| node.is_reachable());
        self.ports().filter(|_| reachable)
    }

    fn running(&mut self) -> Option<&mut Dht> {
        self.ports()?;
        self.node.as_deref_mut()
    }

    /// Whether [`Machine::poll_transmit`] may have something now.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        self.ports().is_some() && self.node.as_ref().is_some_and(|node| node.has_transmit())
    }

    /// The platform refused to send a datagram to `addr`; see [`Dht::send_failed`].
    pub fn handle_unsent(&mut self, cx: &mut Cx<'_>, addr: SocketAddr) {
        if let Some(node) = self.running() {
            node.send_failed(cx, addr);
            self.settle(cx);
        }
    }

    // ---- searches and the like ----

    /// Queues a search: [`ServiceEvent::Ready`] tells when it can begin. An owner has one place in the queue.
    pub fn request(&mut self, now: Instant, owner: T) {
        self.requests.wait(now, owner);
        self.gather(now);
    }

    /// Searches that wait for their turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.waiting()
    }

    /// Begins a search; its answers are [`ServiceEvent::Answer`]s to `owner`.
    ///
    /// # Errors
    /// [`Full`] if too many are under way, or the node does not run.
    pub fn search(&mut self, cx: &mut Cx<'_>, owner: T, goal: Goal) -> Result<LookupId, Full> {
        let lookup = self.running().ok_or(Full)?.search(cx, goal)?;
        self.requests.began(lookup, owner);
        self.settle(cx);
        Ok(lookup)
    }

    /// The owner of a search, while it is under way.
    #[must_use]
    pub fn owner(&self, lookup: LookupId) -> Option<T> {
        self.requests.owner(lookup)
    }

    /// Ends a search without an answer.
    pub fn cancel(&mut self, lookup: LookupId) {
        if let (Some(_), Some(node)) = (self.requests.ended(lookup), &mut self.node) {
            node.cancel(lookup);
        }
    }

    /// Ends the searches of an owner without an answer, also those that wait.
    pub fn withdraw(&mut self, owner: T) {
        for lookup in self.requests.withdraw(owner) {
            if let Some(node) = &mut self.node {
                node.cancel(lookup);
            }
        }
    }

    /// Pings a node, which joins the table if that has space. Without an owner the answer is not reported.
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, the node does not run, or it [does not
    /// admit](Dht::admits) `addr`.
    pub fn ping(
        &mut self,
        cx: &mut Cx<'_>,
        owner: Option<T>,
        addr: SocketAddr,
    ) -> Result<PingId, Full> {
        let full = self.requests.pings() >= usize::from(self.config.node.max_queries);
        let node = self.running().filter(|_| !full).ok_or(Full)?;
        let ping = node.ping(cx, addr)?;
        if let Some(owner) = owner {
            self.requests.pinged(ping, owner);
        }
        self.settle(cx);
        Ok(ping)
    }

    /// Asks a node which info-hashes near `target` it knows (BEP 51).
    ///
    /// # Errors
    /// As [`Service::ping`], and [`Full`] while the same node is being asked.
    pub fn sample(
        &mut self,
        cx: &mut Cx<'_>,
        owner: T,
        addr: SocketAddr,
        target: NodeId,
    ) -> Result<(), Full> {
        let full = self.requests.sampling() >= usize::from(self.config.node.max_queries);
        if full || self.requests.is_sampling(addr) {
            return Err(Full);
        }
        self.running().ok_or(Full)?.sample(cx, addr, target)?;
        self.requests.sampling_at(addr, owner);
        self.settle(cx);
        Ok(())
    }

    // ---- nodes to begin with ----

    /// A node that a person or a peer named: it is pinged, and joins the table if that has space. While the node does not
    /// run it is remembered as one to begin with.
    pub fn add_node(&mut self, cx: &mut Cx<'_>, node: HostPort) {
        if self.ports().is_none() {
            self.contacts.add([node]);
        } else if let Some(addr) = node.addr() {
            // More than the node can watch are not worth waiting for.
            let _ = self.ping(cx, None, addr);
        } else {
            self.resolve(node, Wanted::Ping);
        }
    }

    /// Nodes to begin with, from a torrent or a router. They are tried while the node needs any.
    pub fn add_contacts(&mut self, cx: &mut Cx<'_>, nodes: impl IntoIterator<Item = HostPort>) {
        self.contacts.add(nodes);
        self.try_contacts(cx);
        self.settle(cx);
    }

    /// While the node knows few others, or none that answer: tries those to begin with.
    fn try_contacts(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now;
        let Some(node) = self.running() else {
            return;
        };
        if !node.wants_contacts(now) {
            return self.contacts.clear();
        }
        for addr in self.contacts.take_addresses() {
            if let Some(node) = self.running() {
                node.add_contact(cx, addr);
            }
        }
        for name in self.contacts.next_round() {
            self.resolve(name, Wanted::Contact);
        }
    }

    fn resolve(&mut self, name: HostPort, wanted: Wanted) {
        if self.config.resolve {
            self.contacts.asked();
            self.events
                .push_back(ServiceEvent::Resolve { name, wanted });
        }
    }

    /// The name of a node was looked up; `port` is that of the name, and `None` says that there is no address.
    pub fn resolved(
        &mut self,
        cx: &mut Cx<'_>,
        port: u16,
        wanted: Wanted,
        found: Option<&[IpAddr]>,
    ) {
        self.contacts.answered(found.is_some());
        let Some(node) = self.running() else {
            return;
        };
        for ip in found.unwrap_or_default() {
            let addr = SocketAddr::new(*ip, port);
            match wanted {
                Wanted::Contact => node.add_contact(cx, addr),
                Wanted::Ping => _ = node.ping(cx, addr),
            }
        }
        self.settle(cx);
    }

    // ---- saving ----

    /// The table to save now, whatever the time; `None` while the node does not run.
    pub fn save_now(&mut self, now: Instant) -> Option<Saved> {
        self.ports()?;
        self.schedule.saved(now);
        self.saved(now)
    }

    /// The state to save, without the names that come from the configuration again.
    fn saved(&self, now: Instant) -> Option<Saved> {
        let mut saved = self.node.as_ref()?.save(now);
        let ServiceConfig {
            bootstrap, routers, ..
        } = &self.config;
        for name in self.contacts.iter() {
            let known = [&saved.contacts, bootstrap, routers];
            if !known.iter().any(|names| names.contains(name)) {
                saved.contacts.push(name.clone());
            }
        }
        Some(saved)
    }

    fn save_soon(&mut self, now: Instant) {
        if self.ports().is_some() {
            self.schedule.save_soon(now);
        }
    }

    // ---- after each call ----

    /// Called after every call of the node: takes its events, as far as there is room. The node keeps the rest, within
    /// its own bounds, until the next call: see [`Service::poll_timeout`].
    fn settle(&mut self, cx: &mut Cx<'_>) {
        let most = usize::from(self.config.node.max_events.max(1));
        while self.events.len() < most
            && let Some(event) = self.node.as_mut().and_then(|node| node.poll_event())
        {
            self.on_event(cx, event);
        }
        if self.starved && self.node.as_ref().is_some_and(|node| node.is_heard()) {
            self.starved = false;
            self.events.push_back(ServiceEvent::Heard);
        }
        self.gather(cx.now);
    }

    fn gather(&mut self, now: Instant) {
        let node = self.node.as_deref();
        self.requests
            .gather(now, || node.map_or(0, Dht::good_nodes));
    }

    fn on_event(&mut self, cx: &mut Cx<'_>, event: DhtEvent) {
        let owner = match &event {
            DhtEvent::Peers { lookup, .. } | DhtEvent::Item { lookup, .. } => {
                self.requests.owner(*lookup)
            }
            DhtEvent::Done { lookup, .. } => self.requests.ended(*lookup),
            DhtEvent::Ping { ping, .. } => self.requests.ponged(*ping),
            DhtEvent::Samples { addr, .. } => self.requests.sampled(*addr),
            DhtEvent::External(ip) => return self.events.push_back(ServiceEvent::External(*ip)),
            DhtEvent::TableChanged => return self.save_soon(cx.now),
            DhtEvent::NeedContacts { .. } => {
                self.contacts.add(
                    self.config
                        .bootstrap
                        .iter()
                        .chain(&self.config.routers)
                        .cloned(),
                );
                return self.try_contacts(cx);
            }
            DhtEvent::Log(log) => {
                if matches!(log, DhtLog::Bootstrapped { .. }) {
                    self.save_soon(cx.now);
                }
                return self.events.push_back(ServiceEvent::Log(*log));
            }
        };
        if let Some(owner) = owner {
            let event = self.explain(event);
            self.events.push_back(ServiceEvent::Answer { owner, event });
        }
    }

    /// Adds the cause of a failed search, if it is known here.
    fn explain(&mut self, mut event: DhtEvent) -> DhtEvent {
        if let DhtEvent::Done { report, .. } = &mut event
            && let Some((failure, cause)) = &mut report.failure
        {
            *cause = self.contacts.explain(*cause);
            let unheard = self.node.as_ref().is_some_and(|node| !node.is_heard());
            let nobody = matches!(failure, Failure::NoNodes | Failure::NoReplies);
            // A node that is found later is worth another search.
            self.starved |= unheard && nobody;
        }
        event
    }

    /// Checks whether anything still needs the node, and whether the node needs others.
    fn update(&mut self, cx: &mut Cx<'_>) {
        let early = self
            .node
            .as_ref()
            .is_some_and(|node| node.is_bootstrapping());
        if self.mode == DhtMode::Auto && !self.schedule.is_lingering() {
            self.events.push_back(ServiceEvent::IsUsed);
        }
        self.schedule.checked(cx.now, early);
        self.try_contacts(cx);
    }
}

impl<T: Copy + PartialEq> Machine for Service<T> {
    type Event = ServiceEvent<T>;

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        let Some(node) = self.running() else {
            return Handled::NotMine;
        };
        let handled = node.handle_datagram(cx, meta, data);
        self.settle(cx);
        handled
    }

    fn handle_timeout(&mut self, cx: &mut Cx<'_>) {
        if self.ports().is_none() {
            return;
        }
        let due = self.schedule.due(cx.now);
        if let Some(node) = &mut self.node {
            node.handle_timeout(cx);
        }
        self.settle(cx);
        if due.check {
            self.update(cx);
            self.settle(cx);
        }
        if due.stop {
            return self.stop(cx);
        }
        if due.save {
            let saved = self.save_now(cx.now);
            self.events.extend(saved.map(ServiceEvent::Save));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let node = self.node.as_ref().filter(|_| self.ports().is_some());
        let node = node.and_then(|node| match node.has_events() {
            // There was no room for these events.
            true => Some(Instant::ORIGIN),
            false => node.poll_timeout(),
        });
        let own = [self.schedule.poll_timeout(), self.requests.poll_timeout()];
        own.into_iter().chain([node]).flatten().min()
    }

    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        let transmit = self.running()?.poll_transmit(cx, buf);
        self.settle(cx);
        transmit
    }

    fn poll_event(&mut self) -> Option<ServiceEvent<T>> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        // If there is no room, the next search that ends makes some.
        let node = self.node.as_ref().filter(|_| self.ports().is_some())?;
        let room = node.can_search();
        room.then(|| self.requests.next())
            .flatten()
            .map(ServiceEvent::Ready)
    }
}
