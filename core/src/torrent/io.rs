//! The context of a torrent during a call: the time, the configuration, and what it shares with other torrents.

use alloc::vec::Vec;

use rand_core::Rng;

use super::conn::link::Link;
use super::conn::member::Member;
use super::conn::stream::Flow;
use super::conn::table::{Conns, max_conns};
use super::conn::{Conn, Dialing, Holding};
use super::endpoints::Endpoints;
use super::outbox::Outbox;
use super::outbox::event::{Level, What};
use super::outbox::ops::Purpose;
use super::outbox::timers::{Timer, TorrentTimer};
use super::peer_list::Limits;
use super::prefix::Prefix;
use super::setup::Setup;
use super::tracker_queries::Trackers;
use crate::net::Ports;
use crate::op::{Close, SocketKind};
use crate::throttle::Throttle;
use crate::{BlockPool, BlockRef, ConnId, Instant, Op, OpError, Outcome, SocketId, TorrentId};
use core::net::IpAddr;

/// The state of the DHT as far as torrents depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DhtState {
    /// The engine has a DHT, although its node may not run.
    pub(crate) exists: bool,
    /// Its node runs, or starts when it is needed.
    pub(crate) wanted: bool,
    /// Its node runs.
    pub(crate) active: bool,
    /// The ports to tell peers, if other nodes can reach ours.
    pub(crate) reachable: Option<Ports>,
}

/// Everything outside a torrent that it may read or change. A torrent never sees another torrent: it leaves what concerns
/// others in the [`Outbox`], and the engine handles that before the call returns.
pub(crate) struct Io<'a> {
    pub(crate) now: Instant,
    pub(crate) rng: &'a mut (dyn Rng + Send),
    pub(crate) setup: &'a Setup,
    pub(crate) endpoints: &'a mut Endpoints,
    pub(crate) dht: DhtState,
    pub(crate) pool: &'a mut BlockPool,
    pub(crate) throttle: &'a mut Throttle,
    pub(crate) conns: &'a mut Conns,
    pub(crate) trackers: &'a mut Trackers,
    pub(crate) out: &'a mut Outbox,
    /// A buffer that the picker reuses, so that picking blocks does not allocate.
    pub(crate) picked: &'a mut Vec<BlockRef>,
}

impl Io<'_> {
    /// A peer, a tracker or a node told our external address.
    pub(crate) fn learn_external(&mut self, torrent: Option<TorrentId>, ip: IpAddr) {
        if self.endpoints.external != Some(ip) {
            self.endpoints.external = Some(ip);
            let what = What::ExternalAddress(ip);
            self.out.notice(torrent, None, Level::Detail, what);
        }
    }

    /// The maximum number of connections of all torrents.
    pub(crate) fn max_conns(&self) -> usize {
        max_conns(&self.setup.config)
    }

    /// Returns whether one more connection may be opened. Accepted connections that have not sent a handshake make way.
    pub(crate) fn has_place(&self) -> bool {
        let free = self.conns.len() < self.max_conns();
        let place = free || self.conns.unclaimed().len() > 0;
        place && self.conns.half_open() < self.setup.config.max_half_open.max(1)
    }

    /// Makes room for one more incoming connection, and returns whether there is room. The oldest connection that has not
    /// named its torrent makes way: one from the same address if that address has its share, else any.
    pub(crate) fn make_room_for(&mut self, ip: IpAddr) -> bool {
        let config = &self.setup.config;
        let prefix = Prefix::of(ip);
        let mut own = self.conns.unclaimed_from(prefix);
        let oldest = own.next();
        let silent = own.count() + usize::from(oldest.is_some());
        let silent_is_enough = silent >= config.max_connections_per_ip.max(1) as usize;
        let silent_room = config.max_handshaking.max(1) as usize;
        let leaver =
            if silent_is_enough || self.conns.count_from(prefix) >= config.max_per_ip_in_all() {
                oldest
            } else if self.conns.unclaimed().len() >= silent_room
                || self.conns.len() >= self.max_conns()
            {
                self.conns.unclaimed().next()
            } else {
                return true;
            };
        let Some(leaver) = leaver else {
            return false;
        };
        self.dismiss(leaver, Close::Abort);
        true
    }

    /// Closes the connections that belong to no torrent.
    pub(crate) fn dismiss_unclaimed(&mut self) {
        let silent: Vec<ConnId> = self.conns.unclaimed().collect();
        for conn in silent {
            self.dismiss(conn, Close::Flush);
        }
    }

    /// Asks the driver to bind the configured sockets.
    pub(crate) fn bind_all(&mut self) {
        for &local in &self.setup.config.listen {
            let socket = SocketId::for_addr(&local);
            for kind in [SocketKind::TcpListener, SocketKind::Udp] {
                self.endpoints.binding += 1;
                self.out
                    .ops
                    .job(Purpose::Bind(socket, kind), |op| Op::Bind {
                        op,
                        socket,
                        kind,
                        local,
                    });
            }
        }
    }

    /// Handles the outcome of binding a socket. Returns whether it was the last one.
    pub(crate) fn bound(&mut self, socket: SocketId, kind: SocketKind, outcome: Outcome) -> bool {
        self.endpoints.binding = self.endpoints.binding.saturating_sub(1);
        match (outcome, kind) {
            (Outcome::Bound(addr), SocketKind::TcpListener) => {
                self.endpoints.listening.insert(socket, addr);
            }
            (Outcome::Bound(addr), SocketKind::Udp) => {
                self.endpoints.udp_bound.insert(socket, addr);
            }
            (Outcome::Failed { error, .. }, _) => {
                let message = error.detail;
                self.out
                    .notice(None, None, Level::Warning, What::Bind { message });
            }
            _ => {}
        }
        self.endpoints.binding == 0
    }

    /// Forgets the tracker queries of a torrent that was removed.
    pub(crate) fn forget_queries(&mut self, id: TorrentId) {
        let home = self.out.ops.cancel_queries(id);
        self.pool.give_all(home);
        self.trackers.forget(id);
        self.out
            .timers
            .set(Timer::Torrent(id, TorrentTimer::Trackers), None);
    }

    /// The limits of each torrent's peer list.
    pub(crate) const fn peer_limits(&self) -> Limits {
        Limits {
            known: self.setup.config.max_known_peers as usize,
            per_ip: self.setup.config.max_connections_per_ip as usize,
            families: (self.setup.caps.ipv4, self.setup.caps.ipv6),
        }
    }

    /// To be called after something was done with a peer: counts the blocks that it holds, and lists its stream for the
    /// driver if its readiness changed.
    pub(crate) fn refresh(&mut self, member: &mut Member) {
        self.count_blocks(member);
        member.stream.refresh(self.out);
    }

    /// Counts the blocks that a peer holds.
    pub(crate) fn count_blocks(&mut self, member: &mut Member) {
        let now = member.holding();
        self.conns
            .recount(member.stream.remote, &mut member.holds, now);
    }

    /// Starts to connect to an address. The oldest accepted connection that has not named its torrent makes way if necessary.
    pub(crate) fn dial(&mut self, dialing: Dialing) -> ConnId {
        if self.conns.len() >= self.max_conns() {
            let silent = self.conns.unclaimed().next();
            silent.inspect(|id| self.dismiss(*id, Close::Abort));
        }
        let (torrent, addr) = (dialing.torrent, dialing.addr);
        let out = &mut *self.out;
        let id = self
            .conns
            .insert(addr, |id| Conn::Dialing(dialing, Link::open(out, id, addr)));
        let patience = self.now + self.setup.config.connect_timeout;
        self.out.timers.set(Timer::Conn(id), Some(patience));
        self.out
            .notice(Some(torrent), Some(addr), Level::Detail, What::Connecting);
        id
    }

    /// What a stream needs to move bytes.
    pub(crate) fn flow(&mut self) -> Flow<'_> {
        Flow {
            now: self.now,
            pool: self.pool,
            throttle: self.throttle,
            out: self.out,
        }
    }

    /// Closes the link of a connection that has not completed its handshakes.
    pub(crate) fn close_link(&mut self, id: ConnId, how: Close) {
        if let Some(link) = self.conns.get(id).and_then(Conn::link) {
            link.close(self.out, id, how);
        }
    }

    /// Closes a connection that belongs to no torrent, and forgets it.
    pub(crate) fn dismiss(&mut self, id: ConnId, how: Close) {
        self.close_link(id, how);
        self.forget(id);
    }

    /// Forgets a connection that has not completed its handshakes.
    pub(crate) fn forget(&mut self, id: ConnId) -> Option<Conn> {
        self.out.timers.set(Timer::Conn(id), None);
        let mut conn = self.conns.remove(id)?;
        if let Conn::Greeting(greeting) = &mut conn {
            greeting.stream.forget(self.out);
            greeting.stream.peer.close(self.pool);
        }
        self.out.places = true;
        Some(conn)
    }

    /// Forgets the connection of a former member. The blocks that it holds return to the pool when its peer is closed.
    pub(crate) fn forget_member(&mut self, member: &mut Member) {
        let stream = &member.stream;
        self.conns.remove(stream.id);
        self.conns
            .recount(stream.remote, &mut member.holds, Holding::default());
        self.out.timers.set(Timer::Conn(stream.id), None);
        self.throttle.remove(self.now, member.bucket);
    }

    /// Returns the blocks of an outcome that is not the expected one to the pool. Returns the error, if the op failed.
    pub(crate) fn failure(&mut self, outcome: Outcome) -> Option<OpError> {
        if let Outcome::Failed { error, blocks } = outcome {
            self.pool.give_all(blocks);
            return Some(error);
        }
        self.take_home(outcome);
        None
    }

    /// Returns the blocks of an outcome that nobody needs to the pool.
    pub(crate) fn take_home(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Read(blocks)
            | Outcome::Fetched(blocks)
            | Outcome::Written { blocks, .. }
            | Outcome::Failed { blocks, .. } => {
                self.pool.give_all(blocks);
            }
            _ => {}
        }
    }
}
