//! The DHT in the engine: its sockets, its rate limit, and what is done with its results.
//!
//! [`Service`](crate::dht::Service) decides when the node runs, which nodes it starts from and who owns its searches. What
//! it requests becomes ops here. There is no [`Server`] if the mode was `disable`, or if there is no session folder.

mod commands;
mod sockets;
mod status;
mod tracker;

use alloc::{boxed::Box, collections::VecDeque, string::String};
use core::net::SocketAddr;

pub use status::{DhtRef, DhtStatus, StatValue, ThrottleInUse};

use self::sockets::Sockets;
use super::torrents::{Torrents, Why};
use crate::dht::Wanted;
use crate::dht::{DhtEvent, DhtLog, Saved, Service, ServiceConfig, ServiceEvent};
use crate::metainfo::HostPort;
use crate::throttle::{BucketId, Direction, Throttle, Waiter};
use crate::torrent::cx;
use crate::torrent::io::{DhtState, Io};
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::outbox::ops::Purpose;
use crate::torrent::outbox::timers::Timer;
use crate::torrent::{Torrent, Wants};
use crate::{
    Caps, Config, Cx, DhtMode, Handled, Instant, Machine, Op, Outcome, RecvMeta, TorrentId,
    Transmit,
};

/// The length in bytes that a datagram is assumed to have when the rate limit is checked: the largest that the node usually
/// sends.
const DATAGRAM: u32 = 600;

/// The owner of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Torrent(TorrentId),
    Application,
}

/// The service, its sockets and its rate limit.
#[derive(Debug)]
pub(super) struct Server {
    service: Service<Owner>,
    /// The UDP port for the next start, see [`Config::dht_port`].
    port: Option<u16>,
    sockets: Sockets,
    /// The name of the rate limit.
    throttle: String,
    bucket: BucketId,
    /// Whether it waits for its turn at the rate limit.
    throttled: bool,
    /// Events for the application.
    events: VecDeque<DhtEvent>,
}

impl Server {
    /// Creates the server of an engine with this configuration. `None` if it has no DHT.
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
                // As in rTorrent, the routers are asked at each start, whatever the table holds.
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
        };
        server.set_port(config.dht_port);
        Some(Box::new(server))
    }

    /// With port 0 the node never starts.
    pub(super) const fn set_port(&mut self, port: Option<u16>) {
        self.port = port;
        self.service.set_startable(!matches!(port, Some(0)));
    }

    /// The port, while the node runs.
    pub(super) fn active(&self) -> Option<u16> {
        self.service.ports()?.any()
    }

    /// The state as far as torrents depend on it.
    pub(super) fn state_for_torrents(&self) -> DhtState {
        DhtState {
            exists: true,
            wanted: matches!(self.service.mode(), DhtMode::Auto | DhtMode::On),
            active: self.active().is_some(),
            reachable: self.service.reachable_ports(),
        }
    }

    /// Whether a datagram can be sent now.
    pub(super) fn has_transmit(&self) -> bool {
        !self.throttled && self.service.has_transmit()
    }

    /// Whether events wait.
    pub(super) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    pub(super) fn poll_event(&mut self) -> Option<DhtEvent> {
        self.events.pop_front()
    }

    /// Its turn at the rate limit has come.
    pub(super) const fn throttle_ready(&mut self) {
        self.throttled = false;
    }

    /// It does not wait for the rate limit any more.
    fn leave_throttle(&mut self, now: Instant, throttle: &mut Throttle) {
        self.throttled = false;
        throttle.cancel_wait(now, self.bucket, Direction::Up);
        throttle.release(now, self.bucket, Direction::Up);
    }

    /// Returns the next datagram, if the rate limit allows it.
    fn next_transmit(
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

/// Events from outside. Each call also does what follows from them, for torrents too, before it returns.
impl Server {
    /// A DHT message was received. It is for the node if it came on one of its sockets.
    pub(super) fn handle_datagram(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        meta: &RecvMeta,
        data: &[u8],
    ) -> Handled {
        if !self.sockets.has(meta.socket) {
            return Handled::NotMine;
        }
        let handled = self.service.handle_datagram(&mut cx!(io), meta, data);
        if handled == Handled::Consumed {
            self.settle(io, torrents);
        }
        handled
    }

    /// Returns the next datagram.
    pub(super) fn poll_transmit(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        buf: &mut [u8],
    ) -> Option<Transmit> {
        let transmit = self.next_transmit(&mut cx!(io), io.throttle, buf);
        if transmit.is_some() || self.throttled {
            io.out
                .timers
                .set(Timer::Throttle, io.throttle.poll_timeout());
            self.settle(io, torrents);
        }
        transmit
    }

    /// A datagram to `addr` could not be sent. If it was a query, the query fails.
    pub(super) fn handle_unsent(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        addr: SocketAddr,
    ) {
        self.service.handle_unsent(&mut cx!(io), addr);
        self.settle(io, torrents);
    }

    /// Handles the timer of the service.
    pub(super) fn handle_timeout(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.handle_timeout(&mut cx!(io));
        self.settle(io, torrents);
    }

    /// Does what follows from the configuration.
    pub(super) fn begin(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.begin();
        self.settle(io, torrents);
    }

    /// The engine shuts down: stops the node for good.
    pub(super) fn shut_down(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.set_startable(false);
        self.service.stop(&mut cx!(io));
        self.settle(io, torrents);
    }

    /// Does what a torrent wants from the DHT.
    pub(super) fn serve(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        id: TorrentId,
        wants: Wants,
    ) {
        if wants.contains(Wants::DHT_TRACKER) {
            self.update_tracker(io, torrents, id);
        }
        if wants.contains(Wants::DHT_END) {
            self.drop_search(io, torrents, id);
        }
        // A torrent starts. In mode `auto`, that may start the node, and keeps it running.
        if wants.contains(Wants::DHT) && torrents.get(&id).is_some_and(|t| !t.is_private()) {
            self.service.want();
            self.settle(io, torrents);
        }
        if wants.contains(Wants::DHT_SEARCH) {
            self.service.request(io.now, Owner::Torrent(id));
            self.settle(io, torrents);
        }
    }

    /// Adds nodes from a torrent.
    pub(super) fn add_contacts(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        nodes: impl IntoIterator<Item = HostPort>,
    ) {
        self.service.add_contacts(&mut cx!(io), nodes);
        self.settle(io, torrents);
    }

    /// Pings a node that a peer told of. Only the routing table needs the answer.
    pub(super) fn ping_quietly(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        addr: SocketAddr,
    ) {
        // If the node has too many queries already, this one is skipped.
        let _ = self.service.ping(&mut cx!(io), None, addr);
        self.settle(io, torrents);
    }

    /// The name of a node was looked up.
    pub(super) fn resolved(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        (port, wanted): (u16, Wanted),
        outcome: &Outcome,
    ) {
        let found = match outcome {
            Outcome::Resolved(ips) => Some(ips.as_slice()),
            _ => None,
        };
        self.service.resolved(&mut cx!(io), port, wanted, found);
        self.settle(io, torrents);
    }

    /// Saves the nodes now, whenever they are due.
    pub(super) fn save(&mut self, io: &mut Io<'_>) {
        if let Some(saved) = self.service.save_now(io.now) {
            save(io, saved);
        }
    }

    /// Handles the events of the service, and sets its timer.
    fn settle(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        while let Some(event) = self.service.poll_event() {
            io.dht = self.state_for_torrents();
            self.on_event(io, torrents, event);
        }
        match self.service.poll_timeout() {
            // A deadline that moved to later keeps the earlier timer, which sets the new one when it fires.
            Some(at) => io.out.timers.at_latest(Timer::Dht, at),
            None => io.out.timers.set(Timer::Dht, None),
        }
    }

    fn on_event(&mut self, io: &mut Io<'_>, torrents: &mut Torrents, event: ServiceEvent<Owner>) {
        match event {
            ServiceEvent::Bind => self.bind(io),
            ServiceEvent::Unbind => self.unbind(io),
            ServiceEvent::Started => torrents.sweep(io, Why::Ready),
            ServiceEvent::Stopped => {
                self.leave_throttle(io.now, io.throttle);
                io.out
                    .timers
                    .set(Timer::Throttle, io.throttle.poll_timeout());
                self.end_searches(io, torrents);
            }
            ServiceEvent::Resolve { name, wanted } => {
                let HostPort { host, port } = name;
                io.out
                    .ops
                    .job(Purpose::DhtName(port, wanted), |op| Op::Resolve {
                        op,
                        host,
                    });
            }
            ServiceEvent::Save(saved) => save(io, saved),
            ServiceEvent::IsUsed => {
                let needs = |t: &Torrent| t.is_running() && !t.is_private();
                if !torrents.values().any(needs) {
                    self.service.unused(io.now);
                }
            }
            ServiceEvent::Ready(Owner::Torrent(id)) => self.search_for(io, torrents, id),
            // The application's searches do not wait.
            ServiceEvent::Ready(Owner::Application) => {}
            ServiceEvent::Heard => torrents.sweep(io, Why::DhtKnowsOthers),
            ServiceEvent::Answer { owner, event } => match owner {
                Owner::Application => self.tell(io, event),
                Owner::Torrent(id) => {
                    if let Some(t) = torrents.get_mut(&id) {
                        Self::tell_torrent(io, t, event);
                    }
                }
            },
            ServiceEvent::External(ip) => io.learn_external(None, ip),
            ServiceEvent::Log(log) => {
                let level = match log {
                    // As in rTorrent, this is logged before the sockets are bound.
                    DhtLog::Starting { .. } => return,
                    DhtLog::Unreachable(_) | DhtLog::Firewalled(_) => Level::Warning,
                    _ => Level::Info,
                };
                io.out.notice(None, None, level, What::Dht(log));
                if matches!(log, DhtLog::Bootstrapped { .. }) {
                    torrents.sweep(io, Why::DhtKnowsOthers);
                }
            }
        }
    }

    /// Adds an event for the application. If there are too many, the oldest is dropped.
    fn tell(&mut self, io: &mut Io<'_>, event: DhtEvent) {
        let most = io.setup.config.dht_config.max_events.max(1);
        while self.events.len() >= usize::from(most) {
            self.events.pop_front();
            io.out.lost += 1;
        }
        self.events.push_back(event);
    }
}

fn save(io: &mut Io<'_>, saved: Saved) {
    io.out
        .ops
        .job(Purpose::DhtQuiet, |op| Op::SaveDht { op, saved });
}

/// Handles the outcome of an op that nobody waits for.
pub(super) fn quietly_done(io: &mut Io<'_>, outcome: &Outcome) {
    if let Outcome::Failed { error, .. } = outcome {
        let message = alloc::format!("the DHT's table was not saved: {error}");
        io.out
            .notice(None, None, Level::Warning, What::Disk { message });
    }
}
