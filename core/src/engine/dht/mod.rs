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

/// The bytes that a datagram is assumed to need of the rate limit: the largest that the node usually sends.
const DATAGRAM: u32 = 600;

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

    /// It waits at the rate limit no longer, and needs nothing of it.
    fn leave_throttle(&mut self, now: Instant, throttle: &mut Throttle) {
        self.throttled = false;
        throttle.cancel_wait(now, self.bucket, Direction::Up);
        throttle.release(now, self.bucket, Direction::Up);
    }

    /// The next datagram, as far as the rate limit allows.
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

/// What happens to it. Each call deals with all that follows, for torrents too, before it returns.
impl Server {
    /// A message of the DHT came, which is the node's if it came on one of its sockets.
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

    /// The next datagram.
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

    /// A datagram to `addr` could not be sent. If it was a query, that has failed.
    pub(super) fn handle_unsent(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        addr: SocketAddr,
    ) {
        self.service.handle_unsent(&mut cx!(io), addr);
        self.settle(io, torrents);
    }

    /// A timer of the service.
    pub(super) fn handle_timeout(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.handle_timeout(&mut cx!(io));
        self.settle(io, torrents);
    }

    /// Does what follows from the configuration.
    pub(super) fn begin(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.begin();
        self.settle(io, torrents);
    }

    /// The engine shuts down: the node stops, and does not start again.
    pub(super) fn shut_down(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        self.service.set_startable(false);
        self.service.stop(&mut cx!(io));
        self.settle(io, torrents);
    }

    /// A torrent wants something of the DHT.
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
        // A torrent starts: in mode `auto` that may start the node, and keeps it going.
        if wants.contains(Wants::DHT) && torrents.get(&id).is_some_and(|t| !t.is_private()) {
            self.service.want();
            self.settle(io, torrents);
        }
        if wants.contains(Wants::DHT_SEARCH) {
            self.service.request(io.now, Owner::Torrent(id));
            self.settle(io, torrents);
        }
    }

    /// Nodes to begin with, from a torrent.
    pub(super) fn add_contacts(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        nodes: impl IntoIterator<Item = HostPort>,
    ) {
        self.service.add_contacts(&mut cx!(io), nodes);
        self.settle(io, torrents);
    }

    /// Pings a node that a peer named, whose answer is of interest to its table alone.
    pub(super) fn ping_quietly(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        addr: SocketAddr,
    ) {
        // More than the node can watch are not worth waiting for.
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

    /// Saves the table now, whatever the time.
    pub(super) fn save(&mut self, io: &mut Io<'_>) {
        if let Some(saved) = self.service.save_now(io.now) {
            save(io, saved);
        }
    }

    /// Deals with what the service has to say, and with its timer.
    fn settle(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        while let Some(event) = self.service.poll_event() {
            io.dht = self.state_for_torrents();
            self.on_event(io, torrents, event);
        }
        match self.service.poll_timeout() {
            // Later deadlines are left to the early one, which finds out.
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
                        t.dht_answered(io, event);
                    }
                }
            },
            ServiceEvent::External(ip) => io.learn_external(None, ip),
            ServiceEvent::Log(log) => {
                let level = match log {
                    // Said before the sockets are bound, as in rTorrent.
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

    /// Keeps an event for the application, within bounds: the oldest make way.
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

/// Something that nobody waits for was done, or not.
pub(super) fn quietly_done(io: &mut Io<'_>, outcome: &Outcome) {
    if let Outcome::Failed { error, .. } = outcome {
        let message = alloc::format!("the DHT's table was not saved: {error}");
        io.out
            .notice(None, None, Level::Warning, What::Disk { message });
    }
}
