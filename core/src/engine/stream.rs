//! An open stream and the peer at its end: what a driver does with it, and when it may read and
//! write.

use core::net::SocketAddr;

use super::outbox::Outbox;
use super::timers::Timer;
use super::{Interest, ReadBufs, WriteBufs};
use crate::peer::Peer;
use crate::throttle::{BucketId, Direction, Throttle, Waiter};
use crate::torrent::pace::Pace;
use crate::{BlockPool, ConnId, Instant};

/// Longest read or write in one go, in bytes, where no rate limit says less.
const TURN: u32 = 1 << 20;
/// Most bytes of control messages that pass one way while the bucket is dry, from one turn to the
/// next: 120 requests. They are charged all the same. Without it a `have` of 9 bytes would wait as
/// long as the 16 KiB of others before it; without a bound a flood would take it all.
const ALLOWANCE: u32 = 2048;

/// What bytes pass through: blocks, rate limits and the outbox.
pub(super) struct Flow<'a> {
    pub(super) now: Instant,
    pub(super) pool: &'a mut BlockPool,
    pub(super) throttle: &'a mut Throttle,
    pub(super) out: &'a mut Outbox,
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
pub(super) struct Stream {
    pub(super) id: ConnId,
    /// Whom it leads to.
    pub(super) remote: SocketAddr,
    pub(super) peer: Peer,
    /// Node of the throttle tree; `None` during the handshakes, which no limit holds.
    pub(super) bucket: Option<BucketId>,
    down: Allowance,
    up: Allowance,
    /// Payload waits for the bucket; whether for good, because the limit is 0.
    held: Option<bool>,
    /// What the driver was told last.
    told: Interest,
    /// In the list of streams the driver should hear of.
    listed: bool,
    /// Waits for blocks of the pool.
    starved: bool,
}

impl Stream {
    pub(super) fn new(id: ConnId, remote: SocketAddr, peer: Peer) -> Self {
        Self {
            id,
            remote,
            peer,
            bucket: None,
            down: Allowance::default(),
            up: Allowance::default(),
            held: None,
            told: Interest::default(),
            listed: false,
            starved: false,
        }
    }

    /// See [`Engine::read_bufs`](super::Engine::read_bufs).
    pub(super) fn read_bufs<'a>(&'a mut self, flow: &mut Flow<'_>, out: &mut ReadBufs<'a>) {
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
    pub(super) fn charge_read(&mut self, flow: &mut Flow<'_>, len: usize) {
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

    /// See [`Engine::write_bufs`](super::Engine::write_bufs). `pace`: how the torrent's uploads
    /// share their limit.
    pub(super) fn write_bufs<'a>(
        &'a mut self,
        flow: &mut Flow<'_>,
        pace: Option<Pace>,
        out: &mut WriteBufs<'a>,
    ) {
        if !self.peer.wants_write() {
            self.told.write = false;
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
                    self.held = Some(stopped);
                    self.told.write = false;
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
        self.held = None;
        self.peer.write_bufs(limit as usize, out);
    }

    /// `len` bytes were sent.
    pub(super) fn charge_written(&mut self, flow: &mut Flow<'_>, len: usize) {
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
        // The driver goes on by itself while there is more.
        self.told.write = more;
    }

    /// Its turn at a rate limit has come. The driver gave up on it: it has to be told anew.
    pub(super) const fn throttle_ready(&mut self, direction: Direction) {
        match direction {
            Direction::Down => self.told.read = false,
            Direction::Up => {
                self.told.write = false;
                self.held = None;
            }
        }
    }

    /// Limits are others now: whatever it waited for, it asks again.
    pub(super) fn limits_changed(&mut self) {
        (self.told.read, self.told.write) = (false, false);
        (self.down, self.up) = (Allowance::default(), Allowance::default());
        self.held = None;
    }

    /// It is gone, and waits for no blocks any more.
    pub(super) fn forget(&self, out: &mut Outbox) {
        if self.starved {
            out.starving.retain(|(id, _)| *id != self.id);
        }
    }

    /// It waits until `need` blocks of the pool are free.
    pub(super) fn starve(&mut self, out: &mut Outbox, need: usize) {
        if !core::mem::replace(&mut self.starved, true) {
            out.starving.push_back((self.id, need));
        }
    }

    /// Blocks came home. The driver gave up on it: it has to be told anew.
    pub(super) const fn fed(&mut self) {
        self.told.read = false;
        self.starved = false;
    }

    /// Brings its timer up to date. Later deadlines are left to the early one, which finds out: the
    /// hot path moves no timers.
    pub(super) fn rearm(&self, out: &mut Outbox) {
        if let Some(at) = self.peer.poll_timeout() {
            out.timers.at_latest(Timer::Conn(self.id), at);
        }
    }

    /// Something was done with it: puts it on the list for the driver if there is news.
    pub(super) fn refresh(&mut self, out: &mut Outbox) {
        if !self.listed && self.interest() != self.told {
            self.listed = true;
            out.streams.push_back(self.id);
        }
    }

    /// Whether the driver knows what can be done, or will hear of it.
    pub(super) fn is_told_or_listed(&self) -> bool {
        self.listed || self.interest() == self.told
    }

    /// The news for the driver, once it asks; `None` if they are old by now.
    pub(super) fn poll_interest(&mut self) -> Option<Interest> {
        self.listed = false;
        let interest = self.interest();
        (interest != self.told).then(|| {
            self.told = interest;
            interest
        })
    }

    /// What the driver should be told.
    fn interest(&self) -> Interest {
        let control =
            |stopped: bool| self.peer.control_waits(stopped) && (stopped || self.up.left() > 0);
        Interest {
            read: !self.peer.awaits_welcome(),
            write: self.held.map_or_else(|| self.peer.wants_write(), control),
        }
    }
}
