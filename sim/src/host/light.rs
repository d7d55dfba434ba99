//! Hosts without an IP stack: one that runs a datagram machine of the core, and one that follows a
//! script.

use std::{collections::VecDeque, net::SocketAddr};

use dunlin_core::{Cx, Ecn, Handled, Instant, Machine, RecvMeta, SocketId};

use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// The longest datagram that a light host sends: Ethernet's MTU without the headers of IPv6 and
/// UDP.
const MAX_DATAGRAM: usize = 1_452;
/// The default limit of events that are kept until somebody takes them. The oldest are dropped.
const MAX_EVENTS: usize = 1_024;
/// The most datagrams that a machine sends in a row before others get their turn.
const MAX_BURST: usize = 4_096;

/// Runs a datagram machine of the core directly on the network, so that a DHT of 10^5 nodes fits in
/// memory.
pub struct Light<M: Machine> {
    machine: M,
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    events: VecDeque<M::Event>,
    max_events: usize,
    /// The machine had more to send.
    more: bool,
    not_mine: u64,
}

impl<M: Machine> Light<M> {
    /// Creates a host with one socket. It neither sends nor receives datagrams of the other family.
    #[must_use]
    pub const fn new(machine: M, local: SocketAddr) -> Self {
        let (v4, v6) = match local {
            SocketAddr::V4(_) => (Some(local), None),
            SocketAddr::V6(_) => (None, Some(local)),
        };
        Self {
            machine,
            v4,
            v6,
            events: VecDeque::new(),
            max_events: MAX_EVENTS,
            more: false,
            not_mine: 0,
        }
    }

    /// Adds a second socket, of the other family.
    #[must_use]
    pub const fn and(mut self, local: SocketAddr) -> Self {
        match local {
            SocketAddr::V4(_) => self.v4 = Some(local),
            SocketAddr::V6(_) => self.v6 = Some(local),
        }
        self
    }

    /// Limits the events that are kept to `most`, which counts as at least one.
    #[must_use]
    pub const fn keeping(mut self, most: usize) -> Self {
        self.max_events = if most > 0 { most } else { 1 };
        self
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Calls the machine, and sends the datagrams that it then has.
    pub fn with<R>(
        &mut self,
        cx: &mut HostCx<'_>,
        act: impl FnOnce(&mut M, &mut Cx<'_>) -> R,
    ) -> R {
        let mut inner = Cx {
            now: cx.now,
            rng: &mut *cx.rng,
        };
        let result = act(&mut self.machine, &mut inner);
        self.flush(cx);
        result
    }

    /// The oldest event that was not taken yet.
    pub fn take_event(&mut self) -> Option<M::Event> {
        self.events.pop_front()
    }

    /// The number of events that were not taken yet.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// The number of datagrams that the machine did not consume.
    #[must_use]
    pub const fn not_mine(&self) -> u64 {
        self.not_mine
    }

    fn flush(&mut self, cx: &mut HostCx<'_>) {
        let mut buf = [0; MAX_DATAGRAM];
        self.more = true;
        for _ in 0..MAX_BURST {
            let mut inner = Cx {
                now: cx.now,
                rng: &mut *cx.rng,
            };
            let Some(transmit) = self.machine.poll_transmit(&mut inner, &mut buf) else {
                self.more = false;
                break;
            };
            let local = match transmit.dst {
                SocketAddr::V4(_) => self.v4,
                SocketAddr::V6(_) => self.v6,
            };
            // There is no route of that family, so the datagram is lost.
            let Some(local) = local else { continue };
            let train = &buf[..transmit.len];
            let each = transmit.segment.map_or(train.len(), usize::from).max(1);
            if train.is_empty() {
                cx.send_udp(local, transmit.dst, &[]);
            }
            for datagram in train.chunks(each) {
                cx.send_udp(local, transmit.dst, datagram);
            }
        }
        while let Some(event) = self.machine.poll_event() {
            if self.events.len() >= self.max_events {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }
}

impl<M: Machine + 'static> Host for Light<M> {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.wake(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = packet.flow();
        if flow.proto == Proto::Udp && [self.v4, self.v6].contains(&Some(flow.dst)) {
            let meta = RecvMeta {
                socket: SocketId::for_addr(&flow.dst),
                from: flow.src,
                local: Some(flow.dst.ip()),
                ecn: Ecn::NotEct,
            };
            let mut inner = Cx {
                now: cx.now,
                rng: &mut *cx.rng,
            };
            let handled = self
                .machine
                .handle_datagram(&mut inner, &meta, packet.payload());
            if handled == Handled::NotMine {
                self.not_mine += 1;
            }
        }
        cx.recycle(packet);
        self.flush(cx);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        let mut inner = Cx {
            now: cx.now,
            rng: &mut *cx.rng,
        };
        self.machine.handle_timeout(&mut inner);
        self.flush(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        if self.more {
            return Some(Instant::ORIGIN);
        }
        self.machine.poll_timeout()
    }
}

/// Computes the answer of a [`Scripted`] host to a packet.
type Reply = Box<dyn FnMut(&Packet) -> Option<Packet>>;

/// Sends given packets at given times, and keeps what it receives with the times of arrival.
#[derive(Default)]
pub struct Scripted {
    /// In order of time; packets of one time are in the order of the script.
    script: VecDeque<(Instant, Packet)>,
    received: Vec<(Instant, Packet)>,
    reply: Option<Reply>,
}

impl Scripted {
    /// Creates a host that only listens.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a host that sends every datagram back.
    #[must_use]
    pub fn echo() -> Self {
        Self::new().replying(|packet| {
            let flow = packet.flow();
            let udp = flow.proto == Proto::Udp;
            udp.then(|| Packet::udp(flow.dst, flow.src, packet.payload()))
        })
    }

    /// Answers each packet with what `reply` returns.
    #[must_use]
    pub fn replying(mut self, reply: impl FnMut(&Packet) -> Option<Packet> + 'static) -> Self {
        self.reply = Some(Box::new(reply));
        self
    }

    /// Sends a packet at a time.
    #[must_use]
    pub fn send(mut self, at: Instant, packet: Packet) -> Self {
        self.plan(at, packet);
        self
    }

    /// Adds a packet to the script while the world runs, by way of
    /// [`World::call`](crate::world::World::call).
    pub fn plan(&mut self, at: Instant, packet: Packet) {
        let place = self.script.partition_point(|(t, _)| *t <= at);
        self.script.insert(place, (at, packet));
    }

    /// The packets that arrived, with their times.
    #[must_use]
    pub fn received(&self) -> &[(Instant, Packet)] {
        &self.received
    }

    /// Takes the packets that arrived.
    pub fn take_received(&mut self) -> Vec<(Instant, Packet)> {
        std::mem::take(&mut self.received)
    }

    /// The number of packets that are still to be sent.
    #[must_use]
    pub fn left(&self) -> usize {
        self.script.len()
    }
}

impl Host for Scripted {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        if let Some(answer) = self.reply.as_mut().and_then(|reply| reply(&packet)) {
            cx.send(answer);
        }
        self.received.push((cx.now, packet));
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        let due = self.script.partition_point(|(at, _)| *at <= cx.now);
        for (_, packet) in self.script.drain(..due) {
            cx.send(packet);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.script.front().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
