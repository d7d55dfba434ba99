//! The scripted hosts of scenarios.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use dunlin_core::Instant;

use super::mapper::Mapper;
use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// The most datagrams that an echo host delays. Further ones are dropped.
const MAX_KEPT: usize = 65_536;
/// The most datagrams whose answers are awaited. The oldest counts as unanswered.
const MAX_OPEN: usize = 65_536;

/// Data that begin with a number, so that answers can be matched.
fn data(number: u64, size: u16) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    data.resize(usize::from(size).max(8), 0x5a);
    data
}

fn number(data: &[u8]) -> Option<u64> {
    data.first_chunk().map(|n| u64::from_be_bytes(*n))
}

/// Datagrams that were sent and not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The number of datagrams sent.
    pub(crate) sent: u64,
    /// The number of datagrams answered.
    pub(crate) answered: u64,
    open: BTreeMap<u64, Instant>,
    /// The longest time that an answer took.
    longest: Duration,
}

impl Calls {
    fn call(&mut self, now: Instant) -> u64 {
        self.sent += 1;
        if self.open.len() >= MAX_OPEN {
            self.open.pop_first();
        }
        self.open.insert(self.sent, now);
        self.sent
    }

    fn answer(&mut self, now: Instant, packet: &Packet) -> bool {
        let number = number(packet.payload()).filter(|_| packet.flow().proto == Proto::Udp);
        let Some(sent) = number.and_then(|n| self.open.remove(&n)) else {
            return false;
        };
        self.answered += 1;
        self.longest = self.longest.max(now.saturating_since(sent));
        true
    }

    /// The datagrams that may still be answered after `end`, because others took as long.
    pub(crate) fn under_way(&self, end: Instant) -> u64 {
        let may_come = |sent: &&Instant| **sent + self.longest > end;
        self.open.values().filter(may_come).count() as u64
    }
}

/// A datagram that is sent at a given time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned {
    pub(crate) at: Instant,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) size: u16,
}

/// Sends planned datagrams, and counts what it receives.
#[derive(Debug, Default)]
pub(crate) struct Manual {
    plan: VecDeque<Planned>,
    mapper: Mapper,
    pub(crate) calls: Calls,
}

impl Manual {
    /// `plan` must be in order of time.
    pub(crate) fn new(plan: Vec<Planned>) -> Self {
        Self {
            plan: plan.into(),
            mapper: Mapper::default(),
            calls: Calls::default(),
        }
    }

    /// Asks for port mappings, too.
    pub(crate) fn mapping(self, mapper: Mapper) -> Self {
        Self { mapper, ..self }
    }
}

impl Host for Manual {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        // Datagrams that were due while the host was off are not sent.
        while self.plan.front().is_some_and(|p| p.at < cx.now) {
            self.plan.pop_front();
        }
        self.mapper.start(cx.now);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let Some(packet) = self.mapper.packet(cx, packet) else {
            return;
        };
        self.calls.answer(cx.now, &packet);
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        while let Some(p) = self.plan.front().copied().filter(|p| p.at <= cx.now) {
            self.plan.pop_front();
            let n = self.calls.call(cx.now);
            cx.send_udp(p.from, p.to, &data(n, p.size));
        }
        self.mapper.wake(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        let planned = self.plan.front().map(|p| p.at);
        self.mapper.next_wake().into_iter().chain(planned).min()
    }
}

/// Sends every datagram back.
#[derive(Debug)]
pub(crate) struct Echo {
    port: u16,
    after: Duration,
    kept: VecDeque<(Instant, Packet)>,
    mapper: Mapper,
}

impl Echo {
    pub(crate) fn new(port: u16, after: Duration) -> Self {
        Self {
            port,
            after,
            kept: VecDeque::new(),
            mapper: Mapper::default(),
        }
    }

    /// Asks for port mappings, too.
    pub(crate) fn mapping(self, mapper: Mapper) -> Self {
        Self { mapper, ..self }
    }

    fn send_due(&mut self, cx: &mut HostCx<'_>) {
        while self.kept.front().is_some_and(|(at, _)| *at <= cx.now) {
            if let Some((_, packet)) = self.kept.pop_front() {
                let flow = *packet.flow();
                cx.send_udp(flow.dst, flow.src, packet.payload());
                cx.recycle(packet);
            }
        }
    }
}

impl Host for Echo {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.mapper.start(cx.now);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let Some(packet) = self.mapper.packet(cx, packet) else {
            return;
        };
        let flow = packet.flow();
        if flow.proto == Proto::Udp && flow.dst.port() == self.port && self.kept.len() < MAX_KEPT {
            self.kept.push_back((cx.now + self.after, packet));
            self.send_due(cx);
        } else {
            cx.recycle(packet);
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.send_due(cx);
        self.mapper.wake(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        let kept = self.kept.front().map(|(at, _)| *at);
        self.mapper.next_wake().into_iter().chain(kept).min()
    }
}

/// When and how a host sends on its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) every: Duration,
    pub(crate) start: Instant,
    pub(crate) stop: Option<Instant>,
    pub(crate) size: u16,
}

impl Pace {
    fn due(&self, next: Instant) -> Option<Instant> {
        let next = next.max(self.start);
        self.stop.is_none_or(|stop| next < stop).then_some(next)
    }
}

/// Sends at a steady pace, and expects each datagram back.
#[derive(Debug)]
pub(crate) struct Steady {
    pace: Pace,
    next: Instant,
    pub(crate) calls: Calls,
    /// When it last received an answer, or began.
    heard: Option<Instant>,
    /// The longest time between two answers, and when it ended.
    gap: (Duration, Instant),
    /// The number of answers in each second since the origin.
    pub(crate) per_second: BTreeMap<u64, u64>,
}

impl Steady {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            next: pace.start,
            pace,
            calls: Calls::default(),
            heard: None,
            gap: (Duration::ZERO, pace.start),
            per_second: BTreeMap::new(),
        }
    }

    fn silence(&self, now: Instant) -> Duration {
        let heard = self.heard.unwrap_or(self.pace.start);
        now.saturating_since(heard)
    }

    /// The longest time without an answer up to `now`, and when it ended.
    pub(crate) fn longest_gap(&self, now: Instant) -> (Duration, Instant) {
        // The datagram that was sent last cannot have been answered yet.
        let until = self.pace.stop.map_or(now, |stop| stop.min(now));
        let last = (self.silence(until), until);
        if last.0 > self.gap.0 { last } else { self.gap }
    }
}

impl Host for Steady {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        if self.calls.answer(cx.now, &packet) {
            let silence = self.silence(cx.now);
            if silence > self.gap.0 {
                self.gap = (silence, cx.now);
            }
            self.heard = Some(cx.now);
            *self
                .per_second
                .entry(cx.now.as_micros() / 1_000_000)
                .or_default() += 1;
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if self.pace.due(self.next).is_some_and(|at| at <= cx.now) {
            let n = self.calls.call(cx.now);
            cx.send_udp(self.pace.from, self.pace.to, &data(n, self.pace.size));
            self.next = cx.now + self.pace.every;
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.pace.due(self.next)
    }
}

/// Opens one flow after another.
#[derive(Debug)]
pub(crate) struct Flood {
    pace: Pace,
    next: Instant,
    sent: u16,
}

impl Flood {
    pub(crate) const fn new(pace: Pace) -> Self {
        Self {
            next: pace.start,
            pace,
            sent: 0,
        }
    }
}

impl Host for Flood {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if self.pace.due(self.next).is_some_and(|at| at <= cx.now) {
            let Pace { mut from, to, .. } = self.pace;
            // It uses every port from its first to the last, and then begins again.
            let ports = u16::MAX - from.port();
            from.set_port(from.port() + self.sent % ports.max(1));
            self.sent = self.sent.wrapping_add(1);
            cx.send_udp(from, to, &data(u64::MAX, self.pace.size));
            self.next = cx.now + self.pace.every;
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.pace.due(self.next)
    }
}
