//! Moves bytes between the engine's buffers and the sockets' rings, with one copy in each
//! direction.

use dunlin_core::engine::{Engine, ReadBufs, WriteBufs};
use dunlin_core::op::Close;
use dunlin_core::{CloseReason, ConnId, Instant};
use smoltcp::socket::tcp::{self, State};

use super::pool::{Owner, Pool};
use super::{Net, socket_addr};
use crate::stats::Stats;

/// The most buffer lists for one direction of a stream in one visit.
const LISTS_PER_VISIT: usize = 4;

/// The result of a visit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    /// The socket becomes ready when there is more to do.
    Waits,
    /// There is more to do at once.
    More,
    /// The stream has ended.
    Over(CloseReason),
}

/// Offers a stream whose handshake is finished to the engine.
pub(crate) fn accept(
    pool: &mut Pool,
    net: &mut Net,
    engine: &mut Engine,
    now: Instant,
    index: usize,
    stats: &mut Stats,
) {
    let remote = net.tcp(pool.handle(index)).remote_endpoint();
    match remote.and_then(|r| engine.accept(now, socket_addr(r))) {
        Some(id) => {
            stats.accepted += 1;
            pool.own(net, now, index, id);
            pool.slot_mut(index).open = true;
            // Its first bytes may have arrived already.
            pool.enqueue(index);
        }
        None => {
            stats.refused += 1;
            pool.abort(net, now, index);
        }
    }
}

/// Visits a stream: opens it, writes, reads, or ends it.
pub(crate) fn visit(
    pool: &mut Pool,
    net: &mut Net,
    engine: &mut Engine,
    now: Instant,
    index: usize,
    stats: &mut Stats,
) {
    let Owner::Peer(id) = pool.slot(index).owner else {
        return;
    };
    let mut result = open(pool, net, engine, now, index, id);
    if result == Visit::More {
        let written = write(pool, net, engine, now, index, id, stats);
        let read = read(pool, net, engine, now, index, id, stats);
        result = match (written, read) {
            (_, over @ Visit::Over(_)) => over,
            (Visit::More, _) | (_, Visit::More) => Visit::More,
            _ => Visit::Waits,
        };
    }
    match result {
        Visit::Waits => {}
        Visit::More => pool.enqueue(index),
        Visit::Over(why) => {
            engine.handle_closed(now, id, why);
            let how = match why {
                CloseReason::Eof => Close::Flush,
                _ => Close::Abort,
            };
            pool.close(net, now, index, how);
        }
    }
}

/// Tells the engine once that a stream is open. Returns `More` when it is.
fn open(
    pool: &mut Pool,
    net: &mut Net,
    engine: &mut Engine,
    now: Instant,
    index: usize,
    id: ConnId,
) -> Visit {
    let slot = pool.slot_mut(index);
    if slot.open {
        return Visit::More;
    }
    let cause = slot.cause;
    match net.tcp(pool.handle(index)).state() {
        State::SynSent | State::SynReceived => Visit::Waits,
        State::Closed => Visit::Over(cause.unwrap_or(CloseReason::Io)),
        _ => {
            pool.slot_mut(index).open = true;
            engine.handle_connected(now, id);
            Visit::More
        }
    }
}

/// Writes until nothing is left or the socket's ring is full.
fn write(
    pool: &mut Pool,
    net: &mut Net,
    engine: &mut Engine,
    now: Instant,
    index: usize,
    id: ConnId,
    stats: &mut Stats,
) -> Visit {
    let Net { sockets, dirty, .. } = net;
    let socket = sockets.get_mut::<tcp::Socket<'_>>(pool.handle(index));
    let readiness = &mut pool.slot_mut(index).readiness.write;
    for _ in 0..LISTS_PER_VISIT {
        if !*readiness || !socket.can_send() {
            return Visit::Waits;
        }
        let mut done = 0;
        {
            let mut bufs = WriteBufs::new();
            engine.write_bufs(now, id, &mut bufs);
            if bufs.iter().all(|buf| buf.is_empty()) {
                // The engine has nothing to write until it says otherwise.
                *readiness = false;
                return Visit::Waits;
            }
            for buf in &bufs {
                let taken = socket.send_slice(buf).unwrap_or(0);
                done += taken;
                if taken < buf.len() {
                    break;
                }
            }
        }
        *dirty = true;
        stats.written_bytes += done as u64;
        engine.handle_written(now, id, done);
    }
    Visit::More
}

/// Reads until the socket's ring is empty or the engine wants no more.
fn read(
    pool: &mut Pool,
    net: &mut Net,
    engine: &mut Engine,
    now: Instant,
    index: usize,
    id: ConnId,
    stats: &mut Stats,
) -> Visit {
    let Net { sockets, dirty, .. } = net;
    let socket = sockets.get_mut::<tcp::Socket<'_>>(pool.handle(index));
    let slot = pool.slot_mut(index);
    let cause = slot.cause;
    let readiness = &mut slot.readiness.read;
    for _ in 0..LISTS_PER_VISIT {
        if socket.state() == State::Closed && (!socket.can_recv() || !*readiness) {
            return Visit::Over(cause.unwrap_or(CloseReason::Reset));
        }
        if !*readiness {
            return Visit::Waits;
        }
        if !socket.can_recv() {
            // The `FIN` is reported only when everything before it was read.
            return match socket.may_recv() || socket.state() == State::Established {
                true => Visit::Waits,
                false => Visit::Over(CloseReason::Eof),
            };
        }
        let mut done = 0;
        {
            let mut bufs = ReadBufs::new();
            engine.read_bufs(now, id, &mut bufs);
            if bufs.iter().all(|buf| buf.is_empty()) {
                *readiness = false;
                continue;
            }
            for buf in &mut bufs {
                let given = socket.recv_slice(buf).unwrap_or(0);
                done += given;
                if given < buf.len() {
                    break;
                }
            }
        }
        // Reading may have opened the window.
        *dirty = true;
        stats.read_bytes += done as u64;
        engine.handle_read(now, id, done);
    }
    Visit::More
}
