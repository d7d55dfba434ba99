//! The DHT node in the engine: when it runs, what it is told, what becomes of what it finds.
//!
//! ```text
//!   Off ──start──▶ Waiting (main sockets) ──▶ On ──stop──▶ Off
//!        └───────▶ Binding (own sockets) ───▲
//! ```
//!
//! [`Server`] exists unless the mode was `disable`, or nothing is kept between sessions: then there
//! is not a DHT at all.

mod commands;
mod contacts;
mod lifecycle;
mod status;
mod tracker;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
};
use core::net::SocketAddr;

pub(super) use contacts::Wanted;
pub use status::{DhtNodeError, DhtStatus, StatValue, ThrottleInUse};
pub(super) use tracker::PeerSearch;

use super::Engine;
use super::event::{Level, What};
use super::sweep::Why;
use super::timers::Timer;
use crate::dht::{Dht, DhtEvent, DhtLog, LookupId, PingId, Saved};
use crate::metainfo::HostPort;
use crate::net::Ports;
use crate::throttle::{BucketId, Direction, Throttle};
use crate::{
    Config, Cx, DhtMode, Handled, Instant, Machine, OpError, RecvMeta, SocketId, TorrentId,
    Transmit,
};

/// Who waits at the rate limit, as the throttle's token: no connection has this number.
pub(super) const THROTTLE_TOKEN: u32 = u32::MAX;
/// What a datagram is taken to need of the rate limit: the largest that the node sends as a rule.
const DATAGRAM: u32 = 600;
/// First byte of every message of the DHT: it is a dictionary.
const FIRST_BYTE: u8 = b'd';

/// The node, and what the engine knows of it.
#[derive(Debug)]
pub(super) struct Server {
    /// Made when it is started first.
    node: Option<Box<Dht>>,
    mode: DhtMode,
    port: Option<u16>,
    throttle: String,
    bucket: BucketId,
    /// Waits for its turn at the rate limit.
    throttled: bool,
    state: State,
    /// Counts the starts, so that sockets of an earlier one are told apart.
    epoch: u32,
    /// From the last session, for the first start.
    saved: Option<Saved>,
    /// Nodes to begin with whose names were not looked up yet.
    contacts: VecDeque<HostPort>,
    names: Names,
    lookups: BTreeMap<LookupId, Owner>,
    pings: BTreeSet<PingId>,
    /// The application asked for samples.
    samples: u32,
    /// Torrents that wait for a search to end, so that theirs can begin.
    waiting: VecDeque<TorrentId>,
    /// For the application.
    events: VecDeque<DhtEvent>,
    /// A search failed because nobody was known, or nobody answered yet.
    starved: bool,
    /// Its events are being dealt with.
    draining: bool,
}

/// Names of nodes to begin with, since the start.
#[derive(Clone, Copy, Debug, Default)]
struct Names {
    asked: u32,
    answered: u32,
    found: u32,
}

/// Who wants a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Torrent(TorrentId),
    Application,
}

/// Where the server stands.
#[derive(Debug, Default)]
enum State {
    #[default]
    Off,
    /// The main sockets are not bound yet.
    Waiting,
    /// Its own sockets are not bound yet.
    Binding {
        left: u8,
        bound: Ports,
        error: Option<OpError>,
    },
    On {
        /// Where its sockets are bound, or those it shares.
        ports: Ports,
        /// It has sockets of its own.
        own: bool,
    },
}

impl Server {
    /// The server of an engine with this configuration, if it has one.
    pub(super) fn new(
        config: &mut Config,
        session: bool,
        throttle: &mut Throttle,
        now: Instant,
    ) -> Option<Box<Self>> {
        let saved = config.dht_saved.take();
        if config.dht == DhtMode::Disable || !(session || saved.is_some()) {
            return None;
        }
        let bucket = throttle.add(BucketId::ROOT);
        throttle.set_rate(now, bucket, Direction::Up, config.dht_limit_up);
        Some(Box::new(Self {
            node: None,
            mode: config.dht,
            port: config.dht_port,
            throttle: config.dht_throttle.clone(),
            bucket,
            throttled: false,
            state: State::Off,
            epoch: 0,
            saved,
            contacts: VecDeque::new(),
            names: Names::default(),
            lookups: BTreeMap::new(),
            pings: BTreeSet::new(),
            samples: 0,
            waiting: VecDeque::new(),
            events: VecDeque::new(),
            starved: false,
            draining: false,
        }))
    }

    /// The port, while it runs.
    pub(super) const fn active(&self) -> Option<u16> {
        match self.state {
            State::On { ports, .. } => ports.any(),
            _ => None,
        }
    }

    /// The node, while it runs.
    fn running(&mut self) -> Option<&mut Dht> {
        self.active()?;
        self.node.as_deref_mut()
    }

    /// The ports to tell peers, if others reach them.
    pub(super) fn reachable_ports(&self) -> Option<Ports> {
        let State::On { ports, .. } = self.state else {
            return None;
        };
        let node = self.node.as_ref()?;
        node.is_reachable().then_some(ports)
    }

    /// Whether datagrams wait that may leave.
    pub(super) fn has_transmit(&self) -> bool {
        let runs = self.active().is_some() && !self.throttled;
        runs && self.node.as_ref().is_some_and(|node| node.has_transmit())
    }

    /// Whether datagrams or events wait.
    pub(super) fn has_output(&self) -> bool {
        self.has_transmit() || !self.events.is_empty()
    }

    pub(super) fn poll_event(&mut self) -> Option<DhtEvent> {
        self.events.pop_front()
    }

    /// Its turn at the rate limit has come.
    pub(super) const fn throttle_ready(&mut self) {
        self.throttled = false;
    }

    /// Whether the datagrams of a socket are the node's.
    fn listens_on(&self, socket: SocketId) -> bool {
        let own_socket = socket == SocketId::DHT_V4 || socket == SocketId::DHT_V6;
        matches!(self.state, State::On { own, .. } if own == own_socket)
    }

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        if data.first() != Some(&FIRST_BYTE) || !self.listens_on(meta.socket) {
            return Handled::NotMine;
        }
        match &mut self.node {
            Some(node) => node.handle_datagram(cx, meta, data),
            None => Handled::NotMine,
        }
    }

    fn poll_transmit(
        &mut self,
        cx: &mut Cx<'_>,
        throttle: &mut Throttle,
        buf: &mut [u8],
    ) -> Option<Transmit> {
        if !self.has_transmit() {
            return None;
        }
        let State::On { own, .. } = self.state else {
            return None;
        };
        let node = self.node.as_mut()?;
        if throttle.available(cx.now, self.bucket, Direction::Up, DATAGRAM) == 0 {
            self.throttled = true;
            throttle.wait(cx.now, self.bucket, Direction::Up, THROTTLE_TOKEN);
            return None;
        }
        let transmit = node.poll_transmit(cx, buf);
        if let Some(transmit) = &transmit {
            let len = u32::try_from(transmit.len).unwrap_or(u32::MAX);
            throttle.consume(cx.now, self.bucket, Direction::Up, len);
        }
        if !node.has_transmit() {
            throttle.release(cx.now, self.bucket, Direction::Up);
        }
        let socket = |t: &Transmit| match t.dst {
            SocketAddr::V4(_) => SocketId::DHT_V4,
            SocketAddr::V6(_) => SocketId::DHT_V6,
        };
        transmit.map(|t| match own {
            true => Transmit {
                socket: socket(&t),
                ..t
            },
            false => t,
        })
    }
}

impl Engine {
    /// Offers a datagram to the DHT.
    pub(super) fn dht_datagram(&mut self, meta: &RecvMeta, data: &[u8]) -> Handled {
        let Some(server) = &mut self.dht else {
            return Handled::NotMine;
        };
        let mut cx = super::cx!(self);
        let handled = server.handle_datagram(&mut cx, meta, data);
        if handled == Handled::Consumed {
            self.after_dht();
        }
        handled
    }

    /// The next datagram of the DHT.
    pub(super) fn dht_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        let server = self.dht.as_mut()?;
        let mut cx = super::cx!(self);
        let transmit = server.poll_transmit(&mut cx, &mut self.throttle, buf);
        if transmit.is_some() || server.throttled {
            self.out
                .timers
                .set(Timer::Throttle, self.throttle.poll_timeout());
            self.after_dht();
        }
        transmit
    }

    /// A timer of the node.
    pub(super) fn dht_timeout(&mut self) {
        if let Some(node) = self.dht.as_mut().and_then(|s| s.running()) {
            node.handle_timeout(&mut super::cx!(self));
        }
        self.after_dht();
    }

    /// Whatever was done to the node: deals with what it has to say, and with its timer.
    fn after_dht(&mut self) {
        // What follows from an event is dealt with here, not in calls within calls.
        let Some(server) = self.dht.as_mut().filter(|s| !s.draining) else {
            return;
        };
        server.draining = true;
        while let Some(event) = self.dht_event() {
            self.on_dht_event(event);
        }
        let Some(server) = &mut self.dht else {
            return;
        };
        server.draining = false;
        let starved = server.starved;
        let Some(node) = server.running() else {
            return;
        };
        // Later deadlines are left to the early one, which finds out.
        if let Some(at) = node.poll_timeout() {
            self.out.timers.at_latest(Timer::Dht, at);
        }
        if starved && node.is_heard() {
            server.starved = false;
            self.sweep_trackers(Why::DhtKnowsOthers);
        }
    }

    fn dht_event(&mut self) -> Option<DhtEvent> {
        self.dht.as_mut()?.node.as_mut()?.poll_event()
    }

    fn on_dht_event(&mut self, event: DhtEvent) {
        match event {
            DhtEvent::Log(log) => self.dht_log(log),
            DhtEvent::External(ip) => self.learn_external(None, ip),
            DhtEvent::TableChanged => self.save_dht_soon(),
            DhtEvent::NeedContacts { .. } => self.dht_contacts(self.config.dht_routers.clone()),
            DhtEvent::Peers { lookup, peers } => match self.dht_owner(lookup) {
                Some(Owner::Torrent(id)) => self.dht_peers(id, peers),
                Some(Owner::Application) => self.dht_tell(DhtEvent::Peers { lookup, peers }),
                None => {}
            },
            DhtEvent::Done { lookup, report } => {
                let owner = self.dht.as_mut().and_then(|s| s.lookups.remove(&lookup));
                match owner {
                    Some(Owner::Torrent(id)) => self.dht_done(id, &report),
                    Some(Owner::Application) => self.dht_tell(DhtEvent::Done { lookup, report }),
                    None => {}
                }
                self.next_search();
            }
            DhtEvent::Item { lookup, .. } => {
                if self.dht_owner(lookup) == Some(Owner::Application) {
                    self.dht_tell(event);
                }
            }
            DhtEvent::Ping { ping, .. } => {
                if self.dht.as_mut().is_some_and(|s| s.pings.remove(&ping)) {
                    self.dht_tell(event);
                }
            }
            DhtEvent::Samples { .. } => {
                if let Some(server) = self.dht.as_mut().filter(|s| s.samples > 0) {
                    server.samples -= 1;
                    self.dht_tell(event);
                }
            }
        }
    }

    fn dht_owner(&self, lookup: LookupId) -> Option<Owner> {
        self.dht.as_ref()?.lookups.get(&lookup).copied()
    }

    /// Keeps an event for the application, within bounds: the oldest make way.
    fn dht_tell(&mut self, event: DhtEvent) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let most = self.config.dht_config.max_events.max(1);
        while server.events.len() >= usize::from(most) {
            server.events.pop_front();
            self.out.lost += 1;
        }
        server.events.push_back(event);
    }

    fn dht_log(&mut self, log: DhtLog) {
        let level = match log {
            // Said before the sockets are bound, as in rTorrent.
            DhtLog::Starting { .. } => return,
            DhtLog::Unreachable(_) | DhtLog::Firewalled(_) => Level::Warning,
            _ => Level::Info,
        };
        self.out.notice(None, None, level, What::Dht(log));
        if matches!(log, DhtLog::Bootstrapped { .. }) {
            self.save_dht_soon();
            self.sweep_trackers(Why::DhtKnowsOthers);
        }
    }
}
