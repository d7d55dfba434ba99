//! When the node runs: modes, sockets, timers, what is saved.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use super::super::event::{Level, What};
use super::super::ops::Purpose;
use super::super::sweep::Why;
use super::super::timers::Timer;
use super::super::torrent::Torrent;
use super::super::{Engine, Stop, cx};
use super::{Names, Owner, Server, State};
use crate::dht::{Cause, Dht, DhtEvent, DhtLog, Failure, LookupReport};
use crate::net::Ports;
use crate::op::SocketKind;
use crate::throttle::Direction;
use crate::tracker::SERVER_DOWN;
use crate::wire::tracker::TrackerError;
use crate::{DhtMode, Instant, Op, OpError, OpErrorKind, Outcome, SocketId, TorrentId};

/// Time between looks at the node while it knows few others (rTorrent's).
const UPDATE_EARLY: Duration = Duration::from_secs(60);
/// And afterwards (rTorrent's).
const UPDATE: Duration = Duration::from_secs(15 * 60);
/// How long the node goes on for nobody, in mode `auto` (rTorrent's).
const LINGER: Duration = Duration::from_secs(15 * 60);
/// Time between saves (rTorrent's interval for its session).
const SAVE: Duration = Duration::from_secs(1200);
/// The least time between saves.
const SAVE_SOON: Duration = Duration::from_secs(60);
/// Cycle of a node that is done with bootstrapping.
const BOOTSTRAPPED: u32 = 2;

impl Engine {
    // ---- commands ----

    /// Changes the DHT's mode. `Off` stops the node, `On` starts it, `Auto` changes nothing now:
    /// the next torrent that starts, and is not private, starts it. After `Disable` there is no
    /// DHT any more, whatever is commanded later. Returns whether there is one.
    pub fn set_dht(&mut self, now: Instant, mode: DhtMode) -> bool {
        self.tick(now);
        let Some(server) = &mut self.dht else {
            return false;
        };
        server.mode = mode;
        match mode {
            DhtMode::On => self.dht_start(),
            DhtMode::Off => self.dht_stop(),
            DhtMode::Auto => {}
            DhtMode::Disable => {
                self.dht_stop();
                self.dht = None;
                let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
                for id in ids {
                    self.dht_tracker(id);
                }
            }
        }
        self.dht.is_some()
    }

    /// The application is about to use the DHT: in mode `auto` that starts the node, as a torrent
    /// would. Returns whether it runs, or is about to.
    pub fn dht_want(&mut self, now: Instant) -> bool {
        self.tick(now);
        if self.dht_mode() == DhtMode::Auto {
            self.dht_start();
        }
        let off = |s: &Server| matches!(s.state, State::Off);
        self.dht.as_deref().is_some_and(|s| !off(s))
    }

    /// Changes the UDP port for the next start; see [`Config::dht_port`](crate::Config::dht_port).
    pub fn set_dht_port(&mut self, now: Instant, port: Option<u16>) {
        self.tick(now);
        if let Some(server) = &mut self.dht {
            server.port = port;
        }
    }

    // ---- starting ----

    /// What follows from the configuration.
    pub(in super::super) fn dht_begin(&mut self) {
        match self.config.dht {
            DhtMode::On if self.dht.is_some() => self.dht_start(),
            DhtMode::On | DhtMode::Auto if self.dht.is_none() => {
                self.out
                    .notice(None, None, Level::Info, What::DhtNeedsSession);
            }
            _ => {}
        }
    }

    /// A torrent starts: in mode `auto` that may start the node, and keeps it going.
    pub(in super::super) fn dht_wanted(&mut self, id: TorrentId) {
        let Some(server) = &self.dht else {
            return;
        };
        if server.mode == DhtMode::Auto && !self.torrents.get(&id).is_none_or(Torrent::is_private) {
            self.dht_start();
        }
    }

    fn dht_start(&mut self) {
        // Whoever starts it wants it to stay.
        self.out.timers.set(Timer::DhtLinger, None);
        let Some(server) = &mut self.dht else {
            return;
        };
        if !matches!(server.state, State::Off)
            || self.stop != Stop::Running
            || server.port == Some(0)
        {
            return;
        }
        let main = |port: u16| {
            let bound = self.udp_bound.values().any(|a| a.port() == port);
            bound || self.config.listen.iter().any(|a| a.port() == port)
        };
        let shares = server.port.map_or(!self.config.listen.is_empty(), main);
        if shares {
            server.state = State::Waiting;
            if self.binding == 0 {
                self.dht_share();
            }
            return;
        }
        let port = server.port.unwrap_or(0);
        server.epoch += 1;
        let epoch = server.epoch;
        let families = self.dht_families();
        if families.is_empty() {
            return self.dht_error(OpError {
                kind: OpErrorKind::Unsupported,
                detail: String::from("neither IPv4 nor IPv6 is to be used"),
            });
        }
        if let Some(server) = &mut self.dht {
            server.state = State::Binding {
                left: families.len() as u8,
                bound: Ports::default(),
                error: None,
            };
        }
        if port != 0 {
            self.dht_starting(port);
        }
        for ip in families {
            let socket = match ip {
                IpAddr::V4(_) => SocketId::DHT_V4,
                IpAddr::V6(_) => SocketId::DHT_V6,
            };
            let (kind, local) = (SocketKind::Udp, SocketAddr::new(ip, port));
            self.out.ops.job(Purpose::DhtBind(epoch), |op| Op::Bind {
                op,
                socket,
                kind,
                local,
            });
        }
    }

    /// Where its own sockets are bound: the addresses that are listened on, if any are.
    fn dht_families(&self) -> heapless::Vec<IpAddr, 2> {
        let config = &self.config.dht_config;
        let wanted = [
            (
                config.ipv4 && self.caps.ipv4,
                IpAddr::from(Ipv4Addr::UNSPECIFIED),
            ),
            (
                config.ipv6 && self.caps.ipv6,
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
            ),
        ];
        let wanted = wanted.iter().filter(|(wanted, _)| *wanted);
        let listened = |any: IpAddr| {
            let mut listen = self.config.listen.iter().map(SocketAddr::ip);
            listen
                .find(|ip| ip.is_ipv4() == any.is_ipv4())
                .unwrap_or(any)
        };
        wanted.map(|(_, any)| listened(*any)).collect()
    }

    /// The DHT's own sockets and where they are bound; none while it shares the main ones.
    pub(in super::super) fn dht_own_sockets(&self) -> heapless::Vec<(SocketId, SocketAddr), 2> {
        let Some(State::On { ports, own: true }) = self.dht.as_ref().map(|s| &s.state) else {
            return heapless::Vec::new();
        };
        let families = self.dht_families();
        let bound = families.iter().filter_map(|ip| {
            let socket = match ip {
                IpAddr::V4(_) => SocketId::DHT_V4,
                IpAddr::V6(_) => SocketId::DHT_V6,
            };
            Some((socket, SocketAddr::new(*ip, ports.towards(*ip)?)))
        });
        bound.collect()
    }

    fn dht_starting(&mut self, port: u16) {
        let log = What::Dht(DhtLog::Starting { port });
        self.out.notice(None, None, Level::Info, log);
    }

    /// The main sockets are bound, or could not be.
    pub(in super::super) fn dht_share(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        if !matches!(server.state, State::Waiting) {
            return;
        }
        let configured = server
            .port
            .or_else(|| Some(self.config.listen.first()?.port()));
        let ports = Ports::bound(self.udp_bound.values());
        match ports.any() {
            Some(port) => {
                self.dht_starting(port);
                self.dht_run(port, ports, false);
            }
            None => {
                self.dht_starting(configured.unwrap_or(0));
                self.dht_error(OpError {
                    kind: OpErrorKind::Denied,
                    detail: String::from("the UDP port is in use or invalid"),
                });
            }
        }
    }

    /// One of its own sockets is bound, or could not be.
    pub(in super::super) fn dht_bound(&mut self, epoch: u32, outcome: Outcome) {
        let stale = || {
            let server = self.dht.as_ref().filter(|s| s.epoch == epoch);
            !server.is_some_and(|s| matches!(s.state, State::Binding { .. }))
        };
        if stale() {
            // It was stopped meanwhile, and the socket may serve a later start already: if it
            // does not, its closing was asked for when that stop came.
            return;
        }
        let Some(server) = &mut self.dht else {
            return;
        };
        let State::Binding { left, bound, error } = &mut server.state else {
            return;
        };
        *left = left.saturating_sub(1);
        let failed = match outcome {
            Outcome::Bound(addr) => {
                bound.set(addr);
                None
            }
            Outcome::Failed { error, .. } => Some(error),
            _ => None,
        };
        if let Some(failed) = failed {
            error.get_or_insert(failed);
        }
        if *left > 0 {
            return;
        }
        let (ports, configured) = (*bound, server.port);
        let error = error.take();
        match ports.any() {
            Some(port) => {
                if configured.is_none() {
                    self.dht_starting(port);
                }
                if let Some(OpError { detail, .. }) = error {
                    let message = detail;
                    self.out
                        .notice(None, None, Level::Warning, What::Bind { message });
                }
                self.dht_run(port, ports, true);
            }
            None => self.dht_error(error.unwrap_or(OpError {
                kind: OpErrorKind::Io,
                detail: String::from("no UDP socket could be bound"),
            })),
        }
    }

    /// It could not be started.
    fn dht_error(&mut self, error: OpError) {
        if let Some(server) = &mut self.dht {
            server.state = State::Off;
            server.mode = DhtMode::Off;
        }
        let (message, cause) = (error.detail, error.kind);
        let what = What::DhtError { message, cause };
        self.out.notice(None, None, Level::Error, what);
    }

    /// Runs the node on bound sockets. A family without one is left out.
    fn dht_run(&mut self, port: u16, ports: Ports, own: bool) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let mut cx = cx!(self);
        let mut config = self.config.dht_config.clone();
        config.ipv4 &= self.caps.ipv4 && ports.v4.is_some();
        config.ipv6 &= self.caps.ipv6 && ports.v6.is_some();
        let node = server
            .node
            .get_or_insert_with(|| Box::new(Dht::new(&mut cx, config)));
        let mut contacts = self.config.dht_routers.clone();
        if let Some(saved) = server.saved.take() {
            node.restore(&mut cx, &saved);
            contacts.extend(saved.contacts);
        }
        node.start(&mut cx, port);
        server.state = State::On { ports, own };
        server.names = Names::default();
        server.starved = false;
        self.out
            .timers
            .set(Timer::DhtUpdate, Some(self.now + UPDATE_EARLY));
        self.out.timers.set(Timer::DhtSave, Some(self.now + SAVE));
        self.dht_contacts(contacts);
        self.after_dht();
        self.sweep_trackers(Why::Ready);
    }

    /// All torrents at once: a search that outlived its node would wait for ever.
    fn dht_end_searches(&mut self) {
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            if let Some(t) = self.torrents.get_mut(&id) {
                t.announcer.set_dht_up(&mut cx!(self), false);
            }
            self.dht_end_search(id, TrackerError::Dht(SERVER_DOWN));
            self.pump_trackers(id);
        }
    }

    // ---- stopping ----

    pub(in super::super) fn dht_stop(&mut self) {
        for timer in [
            Timer::Dht,
            Timer::DhtUpdate,
            Timer::DhtLinger,
            Timer::DhtSave,
        ] {
            self.out.timers.set(timer, None);
        }
        let Some(server) = &mut self.dht else {
            return;
        };
        let own = match core::mem::take(&mut server.state) {
            State::Off | State::Waiting => return,
            State::Binding { .. } => {
                self.dht_unbind();
                return;
            }
            State::On { own, .. } => own,
        };
        server.waiting.clear();
        server.pings.clear();
        server.samples = 0;
        server.throttled = false;
        self.throttle
            .cancel_wait(self.now, server.bucket, Direction::Up);
        self.throttle
            .release(self.now, server.bucket, Direction::Up);
        self.out
            .timers
            .set(Timer::Throttle, self.throttle.poll_timeout());
        if let Some(node) = &mut server.node {
            node.stop(&mut cx!(self));
        }
        // Its last words.
        self.after_dht();
        self.dht_end_searches();
        self.dht_forget_searches();
        self.dht_save();
        if own {
            self.dht_unbind();
        }
    }

    /// The application's searches end, too.
    fn dht_forget_searches(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        for (lookup, owner) in core::mem::take(&mut server.lookups) {
            if owner == Owner::Application {
                let report = LookupReport {
                    contacted: 0,
                    replied: 0,
                    peers: 0,
                    stores: 0,
                    stored: 0,
                    took: Duration::ZERO,
                    failure: Some((Failure::NoReplies, Cause::NoContacts)),
                    swarm: None,
                    closest: Vec::new(),
                    suspicious: false,
                };
                self.dht_tell(DhtEvent::Done { lookup, report });
            }
        }
    }

    fn dht_unbind(&mut self) {
        for ip in self.dht_families() {
            let socket = match ip {
                IpAddr::V4(_) => SocketId::DHT_V4,
                IpAddr::V6(_) => SocketId::DHT_V6,
            };
            self.out
                .ops
                .job(Purpose::DhtQuiet, |op| Op::Unbind { op, socket });
        }
    }

    // ---- timers ----

    /// A look at the node: whether anybody still needs it.
    pub(in super::super) fn dht_update(&mut self) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let mode = server.mode;
        let Some(node) = server.running() else {
            return;
        };
        let early = node.stats().cycle < BOOTSTRAPPED;
        let needed = |t: &Torrent| t.is_running() && !t.is_private();
        if mode == DhtMode::Auto
            && !self.out.timers.is_armed(Timer::DhtLinger)
            && !self.torrents.values().any(needed)
        {
            self.out
                .timers
                .set(Timer::DhtLinger, Some(self.now + LINGER));
        }
        let pause = if early { UPDATE_EARLY } else { UPDATE };
        self.out
            .timers
            .set(Timer::DhtUpdate, Some(self.now + pause));
        self.dht_try_contacts();
    }

    // ---- saving ----

    pub(super) fn save_dht_soon(&mut self) {
        if self.dht_is_active() {
            self.out
                .timers
                .at_latest(Timer::DhtSave, self.now + SAVE_SOON);
        }
    }

    /// The table is to be saved.
    pub(in super::super) fn dht_save_due(&mut self) {
        if self.dht_is_active() {
            self.out.timers.set(Timer::DhtSave, Some(self.now + SAVE));
            self.dht_save();
        }
    }

    pub(in super::super) fn dht_save(&mut self) {
        let Some(server) = &self.dht else {
            return;
        };
        let Some(node) = &server.node else {
            return;
        };
        let mut saved = node.save(self.now);
        for contact in &server.contacts {
            // Routers come from the configuration again.
            let known = saved.contacts.contains(contact);
            if !known && !self.config.dht_routers.contains(contact) {
                saved.contacts.push(contact.clone());
            }
        }
        self.out
            .ops
            .job(Purpose::DhtQuiet, |op| Op::SaveDht { op, saved });
    }

    /// Something that nobody waits for was done, or not.
    pub(in super::super) fn dht_quietly_done(&mut self, outcome: &Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            let message = alloc::format!("the DHT's table was not saved: {error}");
            self.out
                .notice(None, None, Level::Warning, What::Disk { message });
        }
    }
}
