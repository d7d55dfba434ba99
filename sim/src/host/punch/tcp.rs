//! TCP at one endpoint, which listens, dials from the port on which it listens, and opens
//! simultaneously.

use std::{collections::BTreeMap, net::SocketAddr};

use dunlin_core::Instant;

use super::conn::{Conn, Outcome, Reply, Segment};
use crate::{
    host::HostCx,
    packet::{Packet, Proto, TcpFlags},
};

/// The most connections at one time. Further SYNs are not answered.
const MAX_CONNS: usize = 64;

/// An event of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A connection is open.
    Established(SocketAddr),
    /// Bytes have arrived. If they came in the segment that opened the connection, there is no
    /// other event for the opening.
    Data(SocketAddr, Vec<u8>),
    /// A connection that was dialled was reset (`ECONNREFUSED`).
    Refused(SocketAddr),
}

/// The connections of an endpoint, by remote endpoint.
#[derive(Debug)]
pub(super) struct Stack {
    local: SocketAddr,
    conns: BTreeMap<SocketAddr, Conn>,
    /// The earliest timer, or earlier.
    timer: Option<Instant>,
    /// The number of segments sent.
    sent: u64,
}

impl Stack {
    pub(super) const fn new(local: SocketAddr) -> Self {
        Self {
            local,
            conns: BTreeMap::new(),
            timer: None,
            sent: 0,
        }
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// Dials, unless there is a connection.
    pub(super) fn dial(&mut self, cx: &mut HostCx<'_>, to: SocketAddr) {
        if self.conns.contains_key(&to) || self.conns.len() >= MAX_CONNS {
            return;
        }
        let (conn, syn) = Conn::open(cx.now, cx.rng.next_u32());
        self.conns.insert(to, conn);
        self.emit(cx, to, syn);
        self.find_timer();
    }

    /// Sends on a connection; does nothing when there is none.
    pub(super) fn send(&mut self, cx: &mut HostCx<'_>, to: SocketAddr, bytes: &[u8]) {
        let reply = self.conns.get_mut(&to).and_then(|c| c.send(cx.now, bytes));
        if let Some(reply) = reply {
            self.emit(cx, to, reply);
        }
        self.find_timer();
    }

    fn emit(&mut self, cx: &mut HostCx<'_>, to: SocketAddr, reply: Reply) {
        self.sent += 1;
        cx.send(Packet::tcp(
            self.local,
            to,
            reply.flags,
            reply.seq,
            reply.ack,
            &reply.data,
        ));
    }

    /// Handles a packet for the endpoint.
    pub(super) fn packet(&mut self, cx: &mut HostCx<'_>, packet: &Packet) -> Option<Event> {
        let flow = *packet.flow();
        let (seq, ack) = packet.tcp_numbers()?;
        debug_assert_eq!(flow.proto, Proto::Tcp);
        let from = flow.src;
        let segment = Segment {
            flags: flow.flags,
            seq,
            ack,
            data: packet.payload(),
        };
        let Some(conn) = self.conns.get_mut(&from) else {
            self.unknown(cx, from, &segment);
            return None;
        };
        let mut replies = Vec::new();
        let news = conn.segment(cx.now, &segment, &mut replies);
        if let Outcome::Gone { .. } = news {
            self.conns.remove(&from);
        }
        for reply in replies {
            self.emit(cx, from, reply);
        }
        self.find_timer();
        match news {
            Outcome::Established => Some(Event::Established(from)),
            Outcome::Data(bytes) => Some(Event::Data(from, bytes)),
            Outcome::Gone { refused: true } => Some(Event::Refused(from)),
            Outcome::Gone { refused: false } | Outcome::Nothing => None,
        }
    }

    /// Handles a segment that belongs to no connection (RFC 9293 §3.10.7.1, §3.10.7.2).
    fn unknown(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, segment: &Segment<'_>) {
        let flags = segment.flags;
        if flags.has(TcpFlags::RST) {
            return;
        }
        if !flags.has(TcpFlags::SYN) || flags.has(TcpFlags::ACK) {
            self.emit(cx, from, segment.reset());
        } else if self.conns.len() < MAX_CONNS {
            let (conn, reply) = Conn::accept(cx.now, cx.rng.next_u32(), segment);
            self.conns.insert(from, conn);
            self.emit(cx, from, reply);
            self.find_timer();
        }
    }

    pub(super) fn wake(&mut self, cx: &mut HostCx<'_>) {
        if self.timer.is_none_or(|at| at > cx.now) {
            return;
        }
        let mut replies = Vec::new();
        self.conns.retain(|to, conn| {
            if conn.timer().is_none_or(|at| at > cx.now) {
                return true;
            }
            let reply = conn.timeout(cx.now);
            let lives = reply.is_some();
            replies.extend(reply.map(|r| (*to, r)));
            lives
        });
        for (to, reply) in replies {
            self.emit(cx, to, reply);
        }
        self.find_timer();
    }

    fn find_timer(&mut self) {
        self.timer = self.conns.values().filter_map(Conn::timer).min();
    }

    pub(super) const fn next_wake(&self) -> Option<Instant> {
        self.timer
    }
}
