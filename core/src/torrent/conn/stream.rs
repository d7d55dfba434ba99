//! An open stream and the peer at its end: what a driver does with it, and when it may read and
//! write.

use core::net::SocketAddr;

use super::link::Link;
use crate::peer::Peer;
use crate::throttle::{BucketId, Direction, Throttle, Waiter};
use crate::torrent::outbox::Outbox;
use crate::torrent::outbox::timers::Timer;
use crate::torrent::pace::Pace;
use crate::torrent::{ReadBufs, Readiness, WriteBufs};
use crate::{BlockPool, ConnId, Instant};

/// Longest read or write in one go, in bytes, where no rate limit says less.
const TURN: u32 = 1 << 20;
/// Most bytes of control messages that pass one way while the bucket is dry, from one turn to the
/// next: 120 requests. They are charged all the same. Without it a `have` of 9 bytes would wait as
/// long as the 16 KiB of others before it; without a bound a flood would take it all.
const ALLOWANCE: u32 = 2048;

/// What bytes pass through: blocks, rate limits and the outbox.
pub(crate) struct Flow<'a> {
    pub(crate) now: Instant,
    pub(crate) pool: &'a mut BlockPool,
    pub(crate) throttle: &'a mut Throttle,
    pub(crate) out: &'a mut Outbox,
}

impl Flow<'_> {
    fn rearm_throttle(&mut self) {
        let at = self.throttle.poll_timeout();
        self.out.timers.set(Timer::Throttle, at);
    }
}

/// What may pass a dry bucket one way.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    used: u32,
    /// The list that the driver has is for control messages only.
    active: bool,
}

impl Allowance {
    /// It is its turn: the bucket was not dry.
    const fn turn(&mut self) {
        *self = Self {
            used: 0,
            active: false,
        };
    }

    /// The bucket is dry: how many bytes of control messages may pass.
    const fn dry(&mut self) -> u32 {
        self.active = true;
        self.left()
    }

    const fn left(&self) -> u32 {
        ALLOWANCE.saturating_sub(self.used)
    }

    /// Takes note of bytes that passed.
    const fn passed(&mut self, bytes: u32) {
        if self.active {
            self.used = self.used.saturating_add(bytes);
        }
    }
}

/// An open stream, and the peer at its end.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: ConnId,
    /// Whom it leads to.
    pub(crate) remote: SocketAddr,
    pub(crate) peer: Peer,
    /// What carries its bytes.
    pub(crate) link: Link,
    /// Node of the throttle tree; `None` during the handshakes, which no limit holds.
    pub(crate) bucket: Option<BucketId>,
    down: Allowance,
    up: Allowance,
    /// Payload waits for the bucket; whether for good, because the limit is 0.
    waits_for_rate: Option<bool>,
    /// Waits for blocks of the pool.
    starved: bool,
}

impl Stream {
    pub(crate) fn new(id: ConnId, remote: SocketAddr, peer: Peer, link: Link) -> Self {
        Self {
            id,
            remote,
            peer,
            link,
            bucket: None,
            down: Allowance::default(),
            up: Allowance::default(),
            waits_for_rate: None,
            starved: false,
        }
    }

    /// See [`Engine::read_bufs`](crate::engine::Engine::read_bufs).
    pub(crate) fn read_bufs<'a>(&'a mut self, flow: &mut Flow<'_>, out: &mut ReadBufs<'a>) {
        let mut limit = TURN;
        if let Some(bucket) = self.bucket {
            let way = Direction::Down;
            limit = flow.throttle.available(flow.now, bucket, way, TURN);
            if limit == 0 {
                // A stop holds payload only: without the requests of others nothing could be
                // sent either.
                let free = match flow.throttle.is_stopped(bucket, way) {
                    true => TURN,
                    false => self.down.dry(),
                };
                self.peer.read_control(flow.pool, free as usize, out);
                if out.is_empty() {
                    flow.throttle
                        .wait(flow.now, bucket, way, Waiter::Conn(self.id));
                    flow.rearm_throttle();
                }
                return;
            }
            self.down.turn();
        }
        self.peer.read_bufs(flow.pool, limit as usize, out);
        if out.is_empty() {
            if !core::mem::replace(&mut self.starved, true) {
                flow.out.starving.push_back((self.id, 1));
            }
            // Others may use its turn meanwhile.
            if let Some(bucket) = self.bucket {
                flow.throttle.release(flow.now, bucket, Direction::Down);
                if flow.throttle.is_limited(bucket, Direction::Down) {
                    flow.rearm_throttle();
                }
            }
        }
    }

    /// `len` bytes are about to be handed to the peer.
    pub(crate) fn charge_read(&mut self, flow: &mut Flow<'_>, len: usize) {
        let Some(bucket) = self.bucket else {
            return;
        };
        let way = Direction::Down;
        self.down.passed(len as u32);
        flow.throttle.consume(flow.now, bucket, way, len as u32);
        // A read that falls short has drained the stream: what is left of the turn is for
        // others.
        if !self.peer.fills_read(len) {
            flow.throttle.release(flow.now, bucket, way);
        }
        if flow.throttle.is_limited(bucket, way) {
            flow.rearm_throttle();
        }
    }

    /// See [`Engine::write_bufs`](crate::engine::Engine::write_bufs). `pace`: how the torrent's uploads
    /// share their limit.
    pub(crate) fn write_bufs<'a>(
        &'a mut self,
        flow: &mut Flow<'_>,
        pace: Option<Pace>,
        out: &mut WriteBufs<'a>,
    ) {
        if !self.peer.wants_write() {
            self.link.rests(Direction::Up);
            return;
        }
        let mut limit = TURN;
        if let Some(bucket) = self.bucket {
            let way = Direction::Up;
            limit = flow.throttle.available(flow.now, bucket, way, TURN);
            if limit == 0 {
                let stopped = flow.throttle.is_stopped(bucket, way);
                let free = if stopped { TURN } else { self.up.dry() };
                if free == 0 || !self.peer.control_waits(stopped) {
                    self.peer.hold_writing();
                    self.waits_for_rate = Some(stopped);
                    self.link.rests(way);
                    let pace = pace.filter(|_| self.peer.queued_payload() > 0);
                    let turn = pace.map_or(0, Pace::stint);
                    flow.throttle
                        .wait_long(flow.now, bucket, way, Waiter::Conn(self.id), turn);
                    flow.rearm_throttle();
                    return;
                }
                self.peer.write_control(free as usize, stopped, out);
                return;
            }
            self.up.turn();
        }
        self.waits_for_rate = None;
        self.peer.write_bufs(limit as usize, out);
    }

    /// `len` bytes were sent.
    pub(crate) fn charge_written(&mut self, flow: &mut Flow<'_>, len: usize) {
        let more = self.peer.wants_write();
        if let Some(bucket) = self.bucket {
            let way = Direction::Up;
            self.up.passed(len as u32);
            flow.throttle.consume(flow.now, bucket, way, len as u32);
            if !more {
                flow.throttle.release(flow.now, bucket, way);
            }
            if flow.throttle.is_limited(bucket, way) {
                flow.rearm_throttle();
            }
        }
        self.link.wrote(more);
    }

    /// Its turn at a rate limit has come.
    pub(crate) const fn throttle_ready(&mut self, direction: Direction) {
        self.link.rests(direction);
        if matches!(direction, Direction::Up) {
            self.waits_for_rate = None;
        }
    }

    /// Limits are others now: whatever it waited for, it asks again.
    pub(crate) fn limits_changed(&mut self) {
        self.link.rests(Direction::Down);
        self.link.rests(Direction::Up);
        (self.down, self.up) = (Allowance::default(), Allowance::default());
        self.waits_for_rate = None;
    }

    /// It is gone, and waits for no blocks any more.
    pub(crate) fn forget(&self, out: &mut Outbox) {
        if self.starved {
            out.starving.retain(|(id, _)| *id != self.id);
        }
    }

    /// It waits until `need` blocks of the pool are free.
    pub(crate) fn starve(&mut self, out: &mut Outbox, need: usize) {
        if !core::mem::replace(&mut self.starved, true) {
            out.starving.push_back((self.id, need));
        }
    }

    /// Blocks came home.
    pub(crate) const fn fed(&mut self) {
        self.link.rests(Direction::Down);
        self.starved = false;
    }

    /// Brings its timer up to date. Later deadlines are left to the early one, which finds out: the
    /// hot path moves no timers.
    pub(crate) fn rearm(&self, out: &mut Outbox) {
        if let Some(at) = self.peer.poll_timeout() {
            out.timers.at_latest(Timer::Conn(self.id), at);
        }
    }

    /// Something was done with it: who moves its bytes hears of it if there is news.
    pub(crate) fn refresh(&mut self, out: &mut Outbox) {
        let now = self.readiness();
        self.link.refresh(out, self.id, now);
    }

    /// Whether the driver knows what can be done, or will hear of it.
    pub(crate) fn is_told_or_listed(&self) -> bool {
        self.link.is_told_or_listed(self.readiness())
    }

    /// The news for the driver, once it asks; `None` if they are old by now.
    pub(crate) fn poll_interest(&mut self) -> Option<Readiness> {
        let now = self.readiness();
        self.link.poll(now)
    }

    /// What it can do.
    fn readiness(&self) -> Readiness {
        let control =
            |stopped: bool| self.peer.control_waits(stopped) && (stopped || self.up.left() > 0);
        Readiness {
            read: !self.peer.awaits_welcome(),
            write: self
                .waits_for_rate
                .map_or_else(|| self.peer.wants_write(), control),
        }
    }
}
