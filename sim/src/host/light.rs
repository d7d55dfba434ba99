//! Hosts without an IP stack: a core machine that speaks datagrams, and a script.

use std::{collections::VecDeque, net::SocketAddr};

use dunlin_core::{Cx, Ecn, Handled, Instant, Machine, RecvMeta, SocketId};

use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// Longest datagram that a light host sends: Ethernet's MTU without the headers of IPv6 and UDP.
const MAX_DATAGRAM: usize = 1_452;
/// Events that are kept until somebody takes them, unless fewer are asked for; then the oldest go.
const MAX_EVENTS: usize = 1_024;
/// Datagrams that a machine may send in a row before others have their turn.
const MAX_BURST: usize = 4_096;

/// Runs a datagram machine of the core straight on the network: a DHT of 10^5 nodes fits in memory.
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
    /// A machine with one socket; it sends and hears nothing of the other family.
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

    /// With a second socket, of the other family.
    #[must_use]
    pub const fn and(mut self, local: SocketAddr) -> Self {
        match local {
            SocketAddr::V4(_) => self.v4 = Some(local),
            SocketAddr::V6(_) => self.v6 = Some(local),
        }
        self
    }

    /// Keeps no more than `most` events, and at least one.
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

    /// Does something to the machine, and sends what it then wants sent.
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

    /// The next thing that the machine reported.
    pub fn take_event(&mut self) -> Option<M::Event> {
        self.events.pop_front()
    }

    /// How many things that it reported wait to be taken.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// Datagrams that the machine did not take.
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
            // No route of that family: as if lost.
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

/// What a [`Scripted`] host answers to a packet.
type Reply = Box<dyn FnMut(&Packet) -> Option<Packet>>;

/// Sends given packets at given times and keeps what it receives, with times.
#[derive(Default)]
pub struct Scripted {
    /// In the order of time; those of one time in the order of the script.
    script: VecDeque<(Instant, Packet)>,
    received: Vec<(Instant, Packet)>,
    reply: Option<Reply>,
}

impl Scripted {
    /// Does nothing but listen.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends every datagram back.
    #[must_use]
    pub fn echo() -> Self {
        Self::new().replying(|packet| {
            let flow = packet.flow();
            let udp = flow.proto == Proto::Udp;
            udp.then(|| Packet::udp(flow.dst, flow.src, packet.payload()))
        })
    }

    /// Sends what `reply` makes of each packet that arrives.
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

    /// As [`Scripted::send`], by way of [`World::call`](crate::world::World::call).
    pub fn plan(&mut self, at: Instant, packet: Packet) {
        let place = self.script.partition_point(|(t, _)| *t <= at);
        self.script.insert(place, (at, packet));
    }

    /// What arrived, with when.
    #[must_use]
    pub fn received(&self) -> &[(Instant, Packet)] {
        &self.received
    }

    /// Takes what arrived.
    pub fn take_received(&mut self) -> Vec<(Instant, Packet)> {
        std::mem::take(&mut self.received)
    }

    /// Packets that are still to be sent.
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
