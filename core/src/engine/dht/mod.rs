//! The DHT service in the engine: its sockets, its rate limit, and what becomes of what it finds.
//!
//! When the node runs, whom it begins with and whose searches it has is decided by
//! [`Service`](crate::dht::Service); what that asks for becomes ops here. [`Server`] exists unless the mode was `disable`,
//! or nothing is kept between sessions: then there is no DHT at all.

mod commands;
mod sockets;
mod status;
mod tracker;

use alloc::{boxed::Box, collections::VecDeque, string::String};

pub use status::{DhtNodeError, DhtStatus, StatValue, ThrottleInUse};

use self::sockets::Sockets;
use super::event::{Level, What};
use super::io::DhtState;
use super::ops::Purpose;
use super::sweep::Why;
use super::timers::Timer;
use super::torrent::Torrent;
use super::{Engine, cx};
use crate::dht::service::Wanted;
use crate::dht::{DhtEvent, DhtLog, Saved, Service, ServiceConfig, ServiceEvent};
use crate::metainfo::HostPort;
use crate::throttle::{BucketId, Direction, Throttle, Waiter};
use crate::{
    Caps, Config, Cx, DhtMode, Handled, Instant, Machine, Op, Outcome, RecvMeta, TorrentId,
    Transmit,
};

/// The bytes that a datagram is assumed to need of the rate limit: the largest that the node usually sends.
const DATAGRAM: u32 = 600;
/// First byte of every message of the DHT: it is a dictionary.
const FIRST_BYTE: u8 = b'd';

/// Who wants a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Torrent(TorrentId),
    Application,
}

/// The service, its sockets and its rate limit.
#[derive(Debug)]
pub(super) struct Server {
    service: Service<Owner>,
    /// The UDP port for the next start; see [`Config::dht_port`].
    port: Option<u16>,
    sockets: Sockets,
    /// What the rate limit is called.
    throttle: String,
    bucket: BucketId,
    /// Whether it waits for its turn at the rate limit.
    throttled: bool,
    /// For the application.
    events: VecDeque<DhtEvent>,
    /// Whether its events are being handled.
    draining: bool,
}

impl Server {
    /// The server of an engine with this configuration, if it has one.
    pub(super) fn new(
        config: &mut Config,
        caps: &Caps,
        throttle: &mut Throttle,
        now: Instant,
    ) -> Option<Box<Self>> {
        let saved = config.dht_saved.take();
        if config.dht == DhtMode::Disable || !(caps.session || saved.is_some()) {
            return None;
        }
        let bucket = throttle.add(BucketId::ROOT);
        throttle.set_rate(now, bucket, Direction::Up, config.dht_limit_up);
        let mut node = config.dht_config.clone();
        node.ipv4 &= caps.ipv4;
        node.ipv6 &= caps.ipv6;
        let mut server = Self {
            service: Service::new(ServiceConfig {
                node,
                mode: config.dht,
                // Asked at each start, whatever the table holds: so does rTorrent.
                bootstrap: config.dht_routers.clone(),
                routers: config.dht_routers.clone(),
                saved,
                resolve: caps.resolve,
                gather: false,
            }),
            port: None,
            sockets: Sockets::default(),
            throttle: config.dht_throttle.clone(),
            bucket,
            throttled: false,
            events: VecDeque::new(),
            draining: false,
        };
        server.set_port(config.dht_port);
        Some(Box::new(server))
    }

    /// With port 0 the node never starts.
    const fn set_port(&mut self, port: Option<u16>) {
        self.port = port;
        self.service.set_startable(!matches!(port, Some(0)));
    }

    /// The port, while the node runs.
    pub(super) fn active(&self) -> Option<u16> {
        self.service.ports()?.any()
    }

    /// What torrents have to know.
    pub(super) fn state_for_torrents(&self) -> DhtState {
        DhtState {
            exists: true,
            wanted: matches!(self.service.mode(), DhtMode::Auto | DhtMode::On),
            active: self.active().is_some(),
            reachable: self.service.reachable_ports(),
        }
    }

    /// Whether datagrams wait that may leave.
    pub(super) fn has_transmit(&self) -> bool {
        !self.throttled && self.service.has_transmit()
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

    /// It waits at the rate limit no longer, and needs nothing of it.
    fn leave_throttle(&mut self, now: Instant, throttle: &mut Throttle) {
        self.throttled = false;
        throttle.cancel_wait(now, self.bucket, Direction::Up);
        throttle.release(now, self.bucket, Direction::Up);
    }

    fn handle_datagram(&mut self, cx: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        if data.first() != Some(&FIRST_BYTE) || !self.sockets.has(meta.socket) {
            return Handled::NotMine;
        }
        self.service.handle_datagram(cx, meta, data)
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
        if throttle.available(cx.now, self.bucket, Direction::Up, DATAGRAM) == 0 {
            self.throttled = true;
            throttle.wait(cx.now, self.bucket, Direction::Up, Waiter::Dht);
            return None;
        }
        let transmit = self.service.poll_transmit(cx, buf);
        if let Some(transmit) = &transmit {
            let len = u32::try_from(transmit.len).unwrap_or(u32::MAX);
            throttle.consume(cx.now, self.bucket, Direction::Up, len);
        }
        if !self.service.has_transmit() {
            throttle.release(cx.now, self.bucket, Direction::Up);
        }
        transmit.map(|t| Transmit {
            socket: self.sockets.towards(&t.dst),
            ..t
        })
    }
}

impl Engine {
    /// Offers a datagram to the DHT.
    pub(super) fn dht_datagram(&mut self, meta: &RecvMeta, data: &[u8]) -> Handled {
        let Some(server) = &mut self.dht else {
            return Handled::NotMine;
        };
        let handled = server.handle_datagram(&mut cx!(self), meta, data);
        if handled == Handled::Consumed {
            self.after_dht();
        }
        handled
    }

    /// The next datagram of the DHT.
    pub(super) fn dht_transmit(&mut self, buf: &mut [u8]) -> Option<Transmit> {
        let server = self.dht.as_mut()?;
        let transmit = server.poll_transmit(&mut cx!(self), &mut self.throttle, buf);
        if transmit.is_some() || server.throttled {
            self.out
                .timers
                .set(Timer::Throttle, self.throttle.poll_timeout());
            self.after_dht();
        }
        transmit
    }

    /// A timer of the service.
    pub(super) fn dht_timeout(&mut self) {
        if let Some(server) = &mut self.dht {
            server.service.handle_timeout(&mut cx!(self));
        }
        self.after_dht();
    }

    /// What follows from the configuration.
    pub(super) fn dht_begin(&mut self) {
        match &mut self.dht {
            Some(server) => server.service.begin(),
            None if matches!(self.setup.config.dht, DhtMode::On | DhtMode::Auto) => {
                self.out
                    .notice(None, None, Level::Info, What::DhtNeedsSession);
            }
            None => {}
        }
        self.after_dht();
    }

    /// A torrent starts: in mode `auto` that may start the node, and keeps it going.
    pub(super) fn dht_wanted(&mut self, id: TorrentId) {
        let private = self.torrents.get(&id).is_none_or(Torrent::is_private);
        if let Some(server) = self.dht.as_mut().filter(|_| !private) {
            server.service.want();
            self.after_dht();
        }
    }

    /// The engine shuts down: the node stops, and does not start again.
    pub(super) fn dht_stop(&mut self) {
        if let Some(server) = &mut self.dht {
            server.service.set_startable(false);
            server.service.stop(&mut cx!(self));
            self.after_dht();
        }
    }

    /// Nodes to begin with, from a torrent.
    pub(super) fn dht_contacts(&mut self, nodes: impl IntoIterator<Item = HostPort>) {
        if let Some(server) = &mut self.dht {
            server.service.add_contacts(&mut cx!(self), nodes);
            self.after_dht();
        }
    }

    /// The name of a node was looked up.
    pub(super) fn dht_resolved(&mut self, port: u16, wanted: Wanted, outcome: &Outcome) {
        let found = match outcome {
            Outcome::Resolved(ips) => Some(ips.as_slice()),
            _ => None,
        };
        if let Some(server) = &mut self.dht {
            let mut cx = cx!(self);
            server.service.resolved(&mut cx, port, wanted, found);
            self.after_dht();
        }
    }

    /// Saves the table now, whatever the time.
    pub(super) fn dht_save(&mut self) {
        let now = self.now;
        let saved = self.dht.as_mut().and_then(|s| s.service.save_now(now));
        if let Some(saved) = saved {
            self.save_dht(saved);
        }
    }

    fn save_dht(&mut self, saved: Saved) {
        self.out
            .ops
            .job(Purpose::DhtQuiet, |op| Op::SaveDht { op, saved });
    }

    /// Something that nobody waits for was done, or not.
    pub(super) fn dht_quietly_done(&mut self, outcome: &Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            let message = alloc::format!("the DHT's table was not saved: {error}");
            self.out
                .notice(None, None, Level::Warning, What::Disk { message });
        }
    }

    /// Whatever was done to the service: deals with what it has to say, and with its timer.
    fn after_dht(&mut self) {
        // What follows from an event is dealt with here, not in calls within calls.
        let Some(server) = self.dht.as_mut().filter(|s| !s.draining) else {
            return;
        };
        server.draining = true;
        while let Some(event) = self.dht.as_mut().and_then(|s| s.service.poll_event()) {
            self.on_dht_event(event);
        }
        let Some(server) = &mut self.dht else {
            return;
        };
        server.draining = false;
        match server.service.poll_timeout() {
            // Later deadlines are left to the early one, which finds out.
            Some(at) => self.out.timers.at_latest(Timer::Dht, at),
            None => self.out.timers.set(Timer::Dht, None),
        }
    }

    fn on_dht_event(&mut self, event: ServiceEvent<Owner>) {
        match event {
            ServiceEvent::Bind => self.dht_bind(),
            ServiceEvent::Unbind => self.dht_unbind(),
            ServiceEvent::Started => self.sweep_trackers(Why::Ready),
            ServiceEvent::Stopped => self.dht_stopped(),
            ServiceEvent::Resolve { name, wanted } => {
                let HostPort { host, port } = name;
                self.out
                    .ops
                    .job(Purpose::DhtName(port, wanted), |op| Op::Resolve {
                        op,
                        host,
                    });
            }
            ServiceEvent::Save(saved) => self.save_dht(saved),
            ServiceEvent::IsUsed => {
                let needs = |t: &Torrent| t.is_running() && !t.is_private();
                if let Some(server) = &mut self.dht
                    && !self.torrents.values().any(needs)
                {
                    server.service.unused(self.now);
                }
            }
            ServiceEvent::Ready(Owner::Torrent(id)) => self.dht_ready(id),
            // The application's searches do not wait.
            ServiceEvent::Ready(Owner::Application) => {}
            ServiceEvent::Heard => self.sweep_trackers(Why::DhtKnowsOthers),
            ServiceEvent::Answer { owner, event } => match (owner, event) {
                (Owner::Application, event) => self.dht_tell(event),
                (Owner::Torrent(id), DhtEvent::Peers { peers, .. }) => self.dht_peers(id, peers),
                (Owner::Torrent(id), DhtEvent::Done { lookup, report }) => {
                    self.dht_done(id, lookup, &report);
                }
                // A torrent asks for nothing else.
                (Owner::Torrent(_), _) => {}
            },
            ServiceEvent::External(ip) => self.parts().1.learn_external(None, ip),
            ServiceEvent::Log(log) => self.dht_log(log),
        }
    }

    /// Keeps an event for the application, within bounds: the oldest make way.
    fn dht_tell(&mut self, event: DhtEvent) {
        let Some(server) = &mut self.dht else {
            return;
        };
        let most = self.setup.config.dht_config.max_events.max(1);
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
            self.sweep_trackers(Why::DhtKnowsOthers);
        }
    }
}
