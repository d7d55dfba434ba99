//! Streams: what a driver does with them, and when they may read and write.

use core::net::SocketAddr;

use super::conns::{Allowances, Conn};
use super::dht::THROTTLE_TOKEN;
use super::peers::End;
use super::swarm::canonical;
use super::timers::Timer;
use super::{Engine, ReadBufs, Stop, WriteBufs, cx};
use crate::op::Close;
use crate::peer::Peer;
use crate::peer::crypto::Encryption;
use crate::throttle::Direction;
use crate::torrent::pace::Pace;
use crate::{CloseReason, ConnId, EncryptionPolicy, InfoHash, Instant, Op, TorrentId};

/// Longest read or write in one go, in bytes, where no rate limit says less.
const TURN: u32 = 1 << 20;
/// Free blocks that are worth waking a waiting connection for.
const MIN_BLOCKS_FREE: usize = 4;
/// The same as a share of a small pool.
const MIN_FREE_SHARE: usize = 4;

impl Engine {
    /// A stream was accepted. `None`: close it, there is no room.
    pub fn accept(&mut self, now: Instant, remote: SocketAddr) -> Option<ConnId> {
        self.tick(now);
        let remote = canonical(remote);
        if self.stop != Stop::Running
            || self.torrents.is_empty()
            || !self.make_room_for(remote.ip())
        {
            return None;
        }
        let id = self.conns.accept(self.now, remote);
        let policy = self.encryption();
        let peer = Peer::incoming(&mut cx!(self), &self.peer_config, policy);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.peer = Some(peer);
        }
        self.rearm(id);
        self.conns.refresh(id);
        Some(id)
    }

    /// What incoming connections may do.
    pub(super) const fn encryption(&self) -> Encryption {
        match self.config.encryption {
            EncryptionPolicy::Off => Encryption::Off,
            EncryptionPolicy::Allowed | EncryptionPolicy::Preferred => Encryption::Preferred,
            EncryptionPolicy::Required => Encryption::Required,
        }
    }

    /// The stream of an [`Op::TcpConnect`] is open.
    pub fn handle_connected(&mut self, now: Instant, id: ConnId) {
        self.tick(now);
        self.greet(id);
        self.rearm(id);
        self.conns.refresh(id);
    }

    /// A stream ended, or could not be opened. Stale ids are ignored.
    pub fn handle_closed(&mut self, now: Instant, id: ConnId, why: CloseReason) {
        self.tick(now);
        self.drop_conn(id, End::Stream(why));
    }

    /// Where the next bytes of a stream go: a list for one `readv`, in order. Empty: do not
    /// read until [`Engine::poll_interest`] names the stream again. The list stays valid until the next
    /// call to the engine, and [`Engine::handle_read`] says how much of it was filled.
    pub fn read_bufs<'a>(&'a mut self, now: Instant, id: ConnId, out: &mut ReadBufs<'a>) {
        self.tick(now);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(peer) = &mut conn.peer else {
            return;
        };
        let mut limit = TURN;
        if let Some(bucket) = conn.bucket {
            limit = self
                .throttle
                .available(self.now, bucket, Direction::Down, TURN);
            if limit == 0 {
                // A stop holds payload only: without the requests of others nothing could be
                // sent either.
                let free = if self.throttle.is_stopped(bucket, Direction::Down) {
                    TURN
                } else {
                    conn.allowance.down.dry()
                };
                peer.read_control(&mut self.pool, free as usize, out);
                if out.is_empty() {
                    self.throttle
                        .wait(self.now, bucket, Direction::Down, id.index);
                    self.out
                        .timers
                        .set(Timer::Throttle, self.throttle.poll_timeout());
                }
                return;
            }
            conn.allowance.down.turn();
        }
        peer.read_bufs(&mut self.pool, limit as usize, out);
        if out.is_empty() {
            if !core::mem::replace(&mut conn.starved, true) {
                self.pool_waiters.push_back(id);
            }
            // Others may use its turn meanwhile.
            if let Some(bucket) = conn.bucket {
                self.throttle.release(self.now, bucket, Direction::Down);
                if self.throttle.is_limited(bucket, Direction::Down) {
                    self.out
                        .timers
                        .set(Timer::Throttle, self.throttle.poll_timeout());
                }
            }
        }
    }

    /// `len` bytes were read into the list that [`Engine::read_bufs`] lent last.
    pub fn handle_read(&mut self, now: Instant, id: ConnId, len: usize) {
        self.tick(now);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(peer) = &mut conn.peer else {
            return;
        };
        if let Some(bucket) = conn.bucket {
            conn.allowance.down.passed(len as u32);
            self.throttle
                .consume(self.now, bucket, Direction::Down, len as u32);
            // A read that falls short has drained the stream: what is left of the turn is for
            // others.
            if !peer.fills_read(len) {
                self.throttle.release(self.now, bucket, Direction::Down);
            }
            if self.throttle.is_limited(bucket, Direction::Down) {
                self.out
                    .timers
                    .set(Timer::Throttle, self.throttle.poll_timeout());
            }
        }
        let by_req2 = &self.by_req2;
        let skeys = |req2: &[u8; 20]| -> Option<InfoHash> { by_req2.get(req2).copied() };
        peer.handle_read(&mut cx!(self), &mut self.pool, len, &skeys);
        self.drain(id);
        self.feed_pool_waiters();
    }

    /// The next bytes to send: a list for one `writev`. Empty: do not write until
    /// [`Engine::poll_interest`] names the stream again.
    pub fn write_bufs<'a>(&'a mut self, now: Instant, id: ConnId, out: &mut WriteBufs<'a>) {
        self.tick(now);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(peer) = &mut conn.peer else {
            return;
        };
        if !peer.wants_write() {
            conn.told.write = false;
            return;
        }
        let mut limit = TURN;
        if let Some(bucket) = conn.bucket {
            limit = self
                .throttle
                .available(self.now, bucket, Direction::Up, TURN);
            if limit == 0 {
                let stopped = self.throttle.is_stopped(bucket, Direction::Up);
                let free = if stopped {
                    TURN
                } else {
                    conn.allowance.up.dry()
                };
                if free == 0 || !peer.control_waits(stopped) {
                    peer.hold_writing();
                    conn.allowance.held = Some(stopped);
                    conn.told.write = false;
                    let payload = peer.queued_payload() > 0;
                    let turn = conn
                        .torrent
                        .filter(|_| payload)
                        .and_then(|t| self.torrents.get(&t)?.pace(&self.throttle))
                        .map_or(0, Pace::stint);
                    self.throttle
                        .wait_long(self.now, bucket, Direction::Up, id.index, turn);
                    self.out
                        .timers
                        .set(Timer::Throttle, self.throttle.poll_timeout());
                    return;
                }
                peer.write_control(free as usize, stopped, out);
                return;
            }
            conn.allowance.up.turn();
        }
        conn.allowance.held = None;
        peer.write_bufs(limit as usize, out);
    }

    /// `len` bytes of the list were sent.
    pub fn handle_written(&mut self, now: Instant, id: ConnId, len: usize) {
        self.tick(now);
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(peer) = &mut conn.peer else {
            return;
        };
        let before = peer.totals().payload_up;
        peer.handle_written(&mut cx!(self), &mut self.pool, len);
        let sent = peer.totals().payload_up - before;
        let more = peer.wants_write();
        if let Some(bucket) = conn.bucket {
            conn.allowance.up.passed(len as u32);
            self.throttle
                .consume(self.now, bucket, Direction::Up, len as u32);
            if !more {
                self.throttle.release(self.now, bucket, Direction::Up);
            }
            if self.throttle.is_limited(bucket, Direction::Up) {
                self.out
                    .timers
                    .set(Timer::Throttle, self.throttle.poll_timeout());
            }
        }
        // The driver goes on by itself while there is more.
        conn.told.write = more;
        if sent > 0 {
            conn.useful = self.now;
            if let Some(t) = conn.torrent.and_then(|t| self.torrents.get_mut(&t)) {
                t.uploaded += sent;
                t.unsaved = true;
                t.up.add(self.now, sent);
            }
        }
        self.drain(id);
        if sent > 0 {
            self.end_turn(id, sent);
        }
        self.feed_pool_waiters();
    }

    /// Deals with what a peer's machine has to say, then with what follows from it.
    pub(super) fn drain(&mut self, id: ConnId) {
        while let Some(event) = self
            .conns
            .get_mut(id)
            .and_then(|c| c.peer.as_mut())
            .and_then(Peer::poll_event)
        {
            self.on_peer_event(id, event);
        }
        if let Some(torrent) = self.conns.get(id).and_then(|c| c.torrent)
            && let Some(t) = self.torrents.get_mut(&torrent)
            && core::mem::take(&mut t.freed)
        {
            self.refill_all(torrent);
        }
        self.refill(id);
        self.pump_uploads(id);
        self.rearm(id);
        self.conns.refresh(id);
    }

    /// Brings a connection's timer up to date. Later deadlines are left to the early one,
    /// which finds out: the hot path moves no timers.
    pub(super) fn rearm(&mut self, id: ConnId) {
        let at = self
            .conns
            .get(id)
            .and_then(|c| c.peer.as_ref())
            .and_then(Peer::poll_timeout);
        if let Some(at) = at {
            self.out.timers.at_latest(Timer::Conn(id.index), at);
        }
    }

    /// A connection's own timers.
    pub(super) fn conn_timeout(&mut self, index: u32) {
        let Some(conn) = self.conns.at_mut(index) else {
            return;
        };
        let id = conn.id;
        match &mut conn.peer {
            Some(peer) => {
                peer.handle_timeout(&mut cx!(self));
                self.drain(id);
            }
            // Still connecting.
            None => self.close_conn(id, End::Stream(CloseReason::TimedOut)),
        }
    }

    /// Rate buckets have refilled: those that waited may go on.
    pub(super) fn throttle_ready(&mut self) {
        while let Some((index, direction)) = self.throttle.poll_ready(self.now) {
            if index == THROTTLE_TOKEN {
                if let Some(server) = &mut self.dht {
                    server.throttle_ready();
                }
                continue;
            }
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            // The driver gave up on it: it has to be told anew.
            match direction {
                Direction::Down => conn.told.read = false,
                Direction::Up => {
                    conn.told.write = false;
                    conn.allowance.held = None;
                }
            }
            let id = conn.id;
            self.conns.refresh(id);
        }
        self.out
            .timers
            .set(Timer::Throttle, self.throttle.poll_timeout());
    }

    /// Limits are others now: whoever waited asks again, and pieces are asked for again where
    /// a stop was lifted.
    pub(super) fn limits_changed(&mut self, now_passing: impl IntoIterator<Item = TorrentId>) {
        self.throttle_ready();
        for torrent in now_passing {
            let conns = self.torrents.get(&torrent).map(|t| t.conns.clone());
            for index in conns.unwrap_or_default() {
                let Some(conn) = self.conns.at_mut(index) else {
                    continue;
                };
                let id = conn.id;
                (conn.told.read, conn.told.write) = (false, false);
                conn.allowance = Allowances::default();
                self.refill(id);
                self.pump_uploads(id);
                self.conns.refresh(id);
            }
        }
    }

    /// Blocks came home: those that waited for them may go on, oldest first.
    pub(super) fn feed_pool_waiters(&mut self) {
        if self.pool_waiters.is_empty() {
            return;
        }
        // What is freed on the way is dealt with here, not in calls within calls.
        if core::mem::replace(&mut self.feeding, true) {
            return;
        }
        let least = (self.pool.cap() / MIN_FREE_SHARE).clamp(1, MIN_BLOCKS_FREE);
        // One that still finds too few queues again behind the others: each gets one try.
        for _ in 0..self.pool_waiters.len() {
            if self.pool.available() < least {
                break;
            }
            let Some(id) = self.pool_waiters.pop_front() else {
                break;
            };
            let Some(conn) = self.conns.get_mut(id) else {
                continue;
            };
            // The driver gave up on it: it has to be told anew.
            conn.told.read = false;
            conn.starved = false;
            if let Some(peer) = conn.peer.as_mut().filter(|p| p.stalled()) {
                peer.handle_read(&mut cx!(self), &mut self.pool, 0, &|_| None);
            }
            self.drain(id);
        }
        self.feeding = false;
    }

    /// Closes a stream and forgets it.
    pub(super) fn close_conn(&mut self, id: ConnId, why: End) {
        if self.conns.get(id).is_some() {
            let how = if matches!(why, End::Finished(_) | End::Resting(_)) {
                Close::Flush
            } else {
                Close::Abort
            };
            self.out.ops.stream(Op::TcpClose { conn: id, how });
            self.drop_conn(id, why);
        }
    }

    /// The connection in a slot.
    pub(super) fn conn_at(&self, index: u32) -> Option<&Conn> {
        self.conns.at(index)
    }
}
