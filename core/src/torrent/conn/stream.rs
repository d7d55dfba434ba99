//! An open stream and its peer: the calls of a driver, and when it may read and write.

use core::net::SocketAddr;

use super::link::Link;
use crate::peer::Peer;
use crate::throttle::{BucketId, Direction, Throttle, Waiter};
use crate::torrent::outbox::Outbox;
use crate::torrent::outbox::timers::Timer;
use crate::torrent::pace::Pace;
use crate::torrent::{ReadBufs, Readiness, WriteBufs};
use crate::{BlockPool, ConnId, Instant};

/// The maximum length of one read or write in bytes, unless a rate limit allows less.
const MAX_TRANSFER: u32 = 1 << 20;
/// How many bytes of control messages may pass in one direction while the bucket is empty, from one turn to the next: 120
/// requests. They are charged to the bucket. Without this, a `have` of 9 bytes would wait for the 16 KiB blocks of other peers
/// before it; without a maximum, a flood of messages would take the whole rate.
const ALLOWANCE: u32 = 2048;

/// What a stream needs to move bytes: blocks, rate limits and the outbox.
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

/// What may pass an empty bucket in one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    used: u32,
    /// Whether the list that the driver was given is for control messages only.
    active: bool,
}

impl Allowance {
    /// Its turn has come: the bucket was not empty.
    const fn turn(&mut self) {
        *self = Self {
            used: 0,
            active: false,
        };
    }

    /// The bucket is empty: returns how many bytes of control messages may pass.
    const fn dry(&mut self) -> u32 {
        self.active = true;
        self.left()
    }

    const fn left(&self) -> u32 {
        ALLOWANCE.saturating_sub(self.used)
    }

    /// Counts bytes that passed.
    const fn passed(&mut self, bytes: u32) {
        if self.active {
            self.used = self.used.saturating_add(bytes);
        }
    }
}

/// An open stream, and its peer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: ConnId,
    /// The address of the peer.
    pub(crate) remote: SocketAddr,
    pub(crate) peer: Peer,
    /// Its transport.
    pub(crate) link: Link,
    /// Its node of the throttle tree. `None` during the handshakes, which are not limited.
    pub(crate) bucket: Option<BucketId>,
    down: Allowance,
    up: Allowance,
    /// `Some` if payload waits for the bucket; `Some(true)` if the limit is 0, so that it waits until the limit changes.
    waits_for_rate: Option<bool>,
    /// Whether it waits for blocks of the pool.
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
        let mut limit = MAX_TRANSFER;
        if let Some(bucket) = self.bucket {
            let way = Direction::Down;
            limit = flow.throttle.available(flow.now, bucket, way, MAX_TRANSFER);
            if limit == 0 {
                // A limit of 0 holds payload only: without the peers' requests, nothing could be sent either.
                let free = match flow.throttle.is_stopped(bucket, way) {
                    true => MAX_TRANSFER,
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
            // Other connections may use its turn meanwhile.
            if let Some(bucket) = self.bucket {
                flow.throttle.release(flow.now, bucket, Direction::Down);
                if flow.throttle.is_limited(bucket, Direction::Down) {
                    flow.rearm_throttle();
                }
            }
        }
    }

    /// `len` bytes were read, and are about to be passed to the peer.
    pub(crate) fn charge_read(&mut self, flow: &mut Flow<'_>, len: usize) {
        let Some(bucket) = self.bucket else {
            return;
        };
        let way = Direction::Down;
        self.down.passed(len as u32);
        flow.throttle.consume(flow.now, bucket, way, len as u32);
        // A short read has drained the stream, so the rest of its turn goes to other connections.
        if !self.peer.fills_read(len) {
            flow.throttle.release(flow.now, bucket, way);
        }
        if flow.throttle.is_limited(bucket, way) {
            flow.rearm_throttle();
        }
    }

    /// See [`Engine::write_bufs`](crate::engine::Engine::write_bufs). `pace` says how the torrent's uploads share their limit.
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
        let mut limit = MAX_TRANSFER;
        if let Some(bucket) = self.bucket {
            let way = Direction::Up;
            limit = flow.throttle.available(flow.now, bucket, way, MAX_TRANSFER);
            if limit == 0 {
                let stopped = flow.throttle.is_stopped(bucket, way);
                let free = if stopped { MAX_TRANSFER } else { self.up.dry() };
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

    /// The rate limits changed: it does not wait for the old ones any more.
    pub(crate) fn limits_changed(&mut self) {
        self.link.rests(Direction::Down);
        self.link.rests(Direction::Up);
        (self.down, self.up) = (Allowance::default(), Allowance::default());
        self.waits_for_rate = None;
    }

    /// It is closed, and does not wait for blocks any more.
    pub(crate) fn forget(&self, out: &mut Outbox) {
        if self.starved {
            out.starving.retain(|(id, _)| *id != self.id);
        }
    }

    /// Lets it wait until `need` blocks of the pool are free.
    pub(crate) fn starve(&mut self, out: &mut Outbox, need: usize) {
        if !core::mem::replace(&mut self.starved, true) {
            out.starving.push_back((self.id, need));
        }
    }

    /// Blocks returned to the pool.
    pub(crate) const fn fed(&mut self) {
        self.link.rests(Direction::Down);
        self.starved = false;
    }

    /// Updates its timer. A deadline that moved to later keeps the earlier timer, which sets the new one when it fires: the
    /// hot path moves no timers.
    pub(crate) fn rearm(&self, out: &mut Outbox) {
        if let Some(at) = self.peer.poll_timeout() {
            out.timers.at_latest(Timer::Conn(self.id), at);
        }
    }

    /// To be called after something was done with it: lists it for the driver if its readiness changed.
    pub(crate) fn refresh(&mut self, out: &mut Outbox) {
        let now = self.readiness();
        self.link.refresh(out, self.id, now);
    }

    /// Whether the driver was told its readiness, or is about to be told.
    pub(crate) fn is_told_or_listed(&self) -> bool {
        self.link.is_told_or_listed(self.readiness())
    }

    /// Returns its readiness if the driver was told another one.
    pub(crate) fn poll_interest(&mut self) -> Option<Readiness> {
        let now = self.readiness();
        self.link.poll(now)
    }

    /// What the engine is ready to do with it.
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
