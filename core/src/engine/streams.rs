//! Streams: the calls of a driver about TCP streams.

use core::net::SocketAddr;

use super::{Engine, ReadBufs, Readiness, Stop, WriteBufs, cx};
use crate::op::Close;
use crate::peer::crypto::Encryption;
use crate::peer::{Blame, Peer, PeerEvent};
use crate::throttle::Waiter;
use crate::torrent::conn::end::End;
use crate::torrent::conn::link::Link;
use crate::torrent::conn::stream::{Flow, Stream};
use crate::torrent::conn::{Conn, Greeting, Opened};
use crate::torrent::outbox::timers::Timer;
use crate::torrent::peer_list::canonical;
use crate::{CloseReason, ConnId, EncryptionPolicy, Instant};

/// How many blocks have to be free before a waiting connection is woken.
const MIN_BLOCKS_FREE: usize = 4;
/// The same as a fraction (one quarter) of a small pool.
const MIN_FREE_SHARE: usize = 4;

impl Engine {
    /// A stream was accepted. Returns `None` if there is no room for it, and the driver has to close it.
    pub fn accept(&mut self, now: Instant, remote: SocketAddr) -> Option<ConnId> {
        self.tick(now);
        let remote = canonical(remote);
        if self.stop != Stop::Running
            || self.torrents.is_empty()
            || !self.parts().2.make_room_for(remote.ip())
        {
            return None;
        }
        let policy = match self.setup.config.encryption {
            EncryptionPolicy::Off => Encryption::Off,
            EncryptionPolicy::Allowed | EncryptionPolicy::Preferred => Encryption::Preferred,
            EncryptionPolicy::Required => Encryption::Required,
        };
        let peer = Peer::incoming(&mut cx!(self), &self.setup.peer_config, policy);
        let id = self.conns.insert(remote, |id| {
            let stream = Stream::new(id, remote, peer, Link::accepted());
            let opened = Opened::ByPeer(None);
            Conn::Greeting(Greeting { stream, opened }.into())
        });
        self.deliver(id);
        self.settle();
        Some(id)
    }

    /// The stream of an [`Op::TcpConnect`](crate::Op::TcpConnect) is open.
    pub fn handle_connected(&mut self, now: Instant, id: ConnId) {
        self.tick(now);
        if let Some(Conn::Dialing(dialing, link)) = self.conns.get(id)
            && let (dialing, link) = (*dialing, *link)
            && let Some((t, mut io)) = self.at(dialing.torrent)
        {
            t.greet(&mut io, id, dialing, link);
        }
        self.deliver(id);
        self.settle();
    }

    /// A stream ended, or could not be opened. Stale ids are ignored.
    pub fn handle_closed(&mut self, now: Instant, id: ConnId, why: CloseReason) {
        self.tick(now);
        self.drop_conn(id, End::Stream(why));
        self.settle();
    }

    /// Returns a stream, and what it needs to move bytes.
    fn stream(&mut self, id: ConnId) -> Option<(&mut Stream, Flow<'_>)> {
        let stream = match self.conns.get_mut(id)? {
            Conn::Dialing(..) => return None,
            Conn::Greeting(greeting) => &mut greeting.stream,
            Conn::Member(torrent, member) => {
                let t = self.torrents.get_mut(torrent)?;
                &mut t.members.get_mut(*member)?.stream
            }
        };
        let flow = Flow {
            now: self.now,
            pool: &mut self.pool,
            throttle: &mut self.throttle,
            out: &mut self.out,
        };
        Some((stream, flow))
    }

    /// Returns the next stream whose readiness changed. It is valid until the next change: the driver reads while `read` is
    /// set and the stream is readable, and writes while `write` is set and the stream is writable.
    pub fn poll_interest(&mut self) -> Option<(ConnId, Readiness)> {
        loop {
            let id = self.out.streams.pop_front()?;
            let stream = self.stream(id);
            if let Some(news) = stream.and_then(|(stream, _)| stream.poll_interest()) {
                return Some((id, news));
            }
        }
    }

    /// Returns buffers for the next bytes of a stream: a list for one `readv`, in order. If it is empty, the driver must not
    /// read until [`Engine::poll_interest`] returns the stream again. The list is valid until the next call to the engine,
    /// and [`Engine::handle_read`] tells how much of it was filled.
    pub fn read_bufs<'a>(&'a mut self, now: Instant, id: ConnId, out: &mut ReadBufs<'a>) {
        self.tick(now);
        if let Some((stream, mut flow)) = self.stream(id) {
            stream.read_bufs(&mut flow, out);
        }
    }

    /// `len` bytes were read into the last list of [`Engine::read_bufs`].
    pub fn handle_read(&mut self, now: Instant, id: ConnId, len: usize) {
        self.tick(now);
        self.read(id, len);
        self.settle();
    }

    fn read(&mut self, id: ConnId, len: usize) {
        match self.conns.get_mut(id) {
            Some(Conn::Greeting(greeting)) => {
                let torrents = &self.torrents;
                let skeys = |req2: &[u8; 20]| torrents.find_req2(req2);
                let peer = &mut greeting.stream.peer;
                peer.handle_read(&mut cx!(self), &mut self.pool, len, &skeys);
                self.deliver(id);
            }
            Some(Conn::Member(torrent, member)) => {
                let (torrent, member) = (*torrent, *member);
                if let Some((t, mut io)) = self.at(torrent) {
                    t.handle_read(&mut io, member, len);
                }
            }
            _ => {}
        }
    }

    /// Returns the next bytes to send: a list for one `writev`. If it is empty, the driver must not write until
    /// [`Engine::poll_interest`] returns the stream again.
    pub fn write_bufs<'a>(&'a mut self, now: Instant, id: ConnId, out: &mut WriteBufs<'a>) {
        self.tick(now);
        let flow = &mut Flow {
            now: self.now,
            pool: &mut self.pool,
            throttle: &mut self.throttle,
            out: &mut self.out,
        };
        match self.conns.get_mut(id) {
            Some(Conn::Greeting(greeting)) => greeting.stream.write_bufs(flow, None, out),
            Some(Conn::Member(torrent, member)) => {
                if let Some(t) = self.torrents.get_mut(torrent) {
                    let pace = t.pace(flow.throttle);
                    if let Some(member) = t.members.get_mut(*member) {
                        member.stream.write_bufs(flow, pace, out);
                    }
                }
            }
            _ => {}
        }
    }

    /// `len` bytes of the last list of [`Engine::write_bufs`] were sent.
    pub fn handle_written(&mut self, now: Instant, id: ConnId, len: usize) {
        self.tick(now);
        match self.conns.get_mut(id) {
            Some(Conn::Greeting(greeting)) => {
                let peer = &mut greeting.stream.peer;
                peer.handle_written(&mut cx!(self), &mut self.pool, len);
                let flow = &mut Flow {
                    now: self.now,
                    pool: &mut self.pool,
                    throttle: &mut self.throttle,
                    out: &mut self.out,
                };
                greeting.stream.charge_written(flow, len);
                self.deliver(id);
            }
            Some(Conn::Member(torrent, member)) => {
                let (torrent, member) = (*torrent, *member);
                if let Some((t, mut io)) = self.at(torrent) {
                    t.handle_written(&mut io, member, len);
                }
            }
            _ => {}
        }
        self.settle();
    }

    /// Handles the events of a peer.
    pub(super) fn deliver(&mut self, id: ConnId) {
        loop {
            let greeting = match self.conns.get_mut(id) {
                Some(Conn::Greeting(greeting)) => greeting,
                Some(Conn::Member(torrent, member)) => {
                    let (torrent, member) = (*torrent, *member);
                    if let Some((t, mut io)) = self.at(torrent) {
                        t.handle_peer(&mut io, member);
                    }
                    return;
                }
                _ => return,
            };
            let torrent = greeting.torrent();
            let Some(event) = greeting.stream.peer.poll_event() else {
                greeting.stream.rearm(&mut self.out);
                greeting.stream.refresh(&mut self.out);
                return;
            };
            match (event, torrent) {
                (PeerEvent::Handshake { info_hash, peer_id }, None) => {
                    let torrent = self.torrents.find(&info_hash);
                    match torrent.and_then(|torrent| self.at(torrent)) {
                        Some((t, mut io)) => t.welcome(&mut io, id, peer_id),
                        None => self.parts().2.dismiss(id, Close::Flush),
                    }
                }
                (PeerEvent::Established, Some(torrent)) => {
                    if let Some((t, mut io)) = self.at(torrent) {
                        t.take_in(&mut io, id);
                    }
                }
                (PeerEvent::Closed(fault), _) => {
                    self.out.hostile_peers += u64::from(fault.blame() == Blame::Peer);
                    self.close_conn(id, End::Fault(fault));
                }
                (PeerEvent::Forgiven, _) => self.out.forgiven += 1,
                _ => {}
            }
        }
    }

    /// Closes a connection and forgets it.
    fn close_conn(&mut self, id: ConnId, why: End) {
        let (_, torrents, mut io) = self.parts();
        match io.conns.get(id).and_then(Conn::torrent) {
            Some(torrent) => {
                if let Some(t) = torrents.get_mut(&torrent) {
                    t.close_conn(&mut io, id, why);
                }
            }
            None => io.dismiss(id, why.how()),
        }
    }

    /// Forgets a connection that is closed.
    fn drop_conn(&mut self, id: ConnId, why: End) {
        let (_, torrents, mut io) = self.parts();
        match io.conns.get(id).and_then(Conn::torrent) {
            Some(torrent) => {
                if let Some(t) = torrents.get_mut(&torrent) {
                    t.drop_conn(&mut io, id, why);
                }
            }
            None => {
                io.forget(id);
            }
        }
    }

    /// Handles a connection's timer.
    pub(super) fn conn_timeout(&mut self, id: ConnId) {
        if let Some(Conn::Dialing(..)) = self.conns.get(id) {
            self.close_conn(id, End::Stream(CloseReason::TimedOut));
            return;
        }
        let now = self.now;
        let rng = &mut *self.rng;
        let stream = match self.conns.get_mut(id) {
            Some(Conn::Greeting(greeting)) => &mut greeting.stream,
            Some(Conn::Member(torrent, member)) => {
                let t = self.torrents.get_mut(torrent);
                let Some(member) = t.and_then(|t| t.members.get_mut(*member)) else {
                    return;
                };
                &mut member.stream
            }
            _ => return,
        };
        stream.peer.handle_timeout(&mut crate::Cx { now, rng });
        self.deliver(id);
    }

    /// Rate buckets have refilled: connections that waited may continue.
    pub(super) fn throttle_ready(&mut self) {
        while let Some((waiter, direction)) = self.throttle.poll_ready(self.now) {
            match waiter {
                Waiter::Dht => {
                    if let Some(server) = &mut self.dht {
                        server.throttle_ready();
                    }
                }
                Waiter::Conn(id) => {
                    if let Some((stream, flow)) = self.stream(id) {
                        stream.throttle_ready(direction);
                        stream.refresh(flow.out);
                    }
                }
            }
        }
        let at = self.throttle.poll_timeout();
        self.out.timers.set(Timer::Throttle, at);
    }

    /// Blocks returned to the pool: connections that waited for them may continue, oldest first.
    pub(super) fn feed_starving(&mut self) {
        let least = (self.pool.cap() / MIN_FREE_SHARE).clamp(1, MIN_BLOCKS_FREE);
        // A connection that still finds too few waits behind the others, so that each gets one try.
        for _ in 0..self.out.starving.len() {
            if self.pool.available() < least {
                break;
            }
            let Some((id, need)) = self.out.starving.pop_front() else {
                break;
            };
            if self.pool.available() < need {
                self.out.starving.push_back((id, need));
                continue;
            }
            let Some((stream, _)) = self.stream(id) else {
                continue;
            };
            stream.fed();
            match stream.peer.stalled() {
                true => self.read(id, 0),
                false => self.deliver(id),
            }
        }
    }
}
