//! An end that punches over TCP: it dials from the port on which it listens, so that SYNs can cross
//! (RFC 5128 §3.4).

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use super::{
    Connected, EndConfig, EndStats, Observed,
    message::Message,
    tcp::{Event, Stack},
};
use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// A dial that was refused is repeated at the next multiple of this after the introduction: while
/// punching, `ECONNREFUSED` only means that the peer's box has not seen the peer's SYN yet.
const AGAIN: Duration = Duration::from_secs(1);
/// The most dials to one endpoint.
const MAX_TRIES: u64 = 8;

/// An end that punches over TCP. Until it is introduced it only listens.
#[derive(Debug)]
pub struct TcpEnd {
    config: EndConfig,
    stack: Stack,
    /// The endpoints at which the peer may be, and when each is dialled again.
    peers: BTreeMap<SocketAddr, Option<Instant>>,
    told: Option<Instant>,
    connected: Option<Connected>,
    icmp_errors: u64,
    refused: u64,
    /// The number of segments sent before the introduction.
    before: u64,
}

impl TcpEnd {
    /// Creates an end that registers as soon as it is switched on.
    #[must_use]
    pub const fn new(config: EndConfig) -> Self {
        Self {
            stack: Stack::new(config.local),
            config,
            peers: BTreeMap::new(),
            told: None,
            connected: None,
            icmp_errors: 0,
            refused: 0,
            before: 0,
        }
    }

    /// What can be observed at this end. Segments are counted from the introduction, or from the beginning if there was
    /// none.
    #[must_use]
    pub const fn observed(&self) -> Observed {
        Observed {
            told: self.told,
            connected: self.connected,
            stats: EndStats {
                sent: self.stack.sent() - self.before,
                icmp_errors: self.icmp_errors,
                refused: self.refused,
            },
        }
    }

    fn event(&mut self, cx: &mut HostCx<'_>, event: Event) {
        let server = self.config.rendezvous;
        match event {
            Event::Established(from) if from == server => {
                let EndConfig {
                    name, advertised, ..
                } = self.config;
                let register = Message::Register { name, advertised };
                self.stack.send(cx, server, &register.emit());
            }
            Event::Established(from) => self.probe(cx, from, false),
            Event::Data(from, bytes) => match Message::parse(&bytes) {
                Some(Message::Tell { endpoints }) if from == server => {
                    if self.told.is_none() {
                        self.told = Some(cx.now);
                        self.before = self.stack.sent();
                    }
                    for at in endpoints {
                        self.peers.insert(at, None);
                        self.stack.dial(cx, at);
                    }
                }
                Some(Message::Probe { heard }) if from != server => {
                    let first = heard && self.connected.is_none();
                    if first {
                        self.connected = Some(Connected {
                            peer: from,
                            at: cx.now,
                        });
                        self.peers.clear();
                    }
                    if first || !heard {
                        self.probe(cx, from, true);
                    }
                }
                _ => {}
            },
            Event::Refused(from) => {
                self.refused += 1;
                if let (Some(again), Some(told)) = (self.peers.get_mut(&from), self.told) {
                    let waited = cx.now.saturating_since(told).as_micros() as u64;
                    let tries = waited / AGAIN.as_micros() as u64 + 1;
                    *again = (tries <= MAX_TRIES).then(|| told + AGAIN * tries as u32);
                }
            }
        }
    }

    fn probe(&mut self, cx: &mut HostCx<'_>, to: SocketAddr, heard: bool) {
        self.stack.send(cx, to, &Message::Probe { heard }.emit());
    }
}

impl Host for TcpEnd {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.stack.dial(cx, self.config.rendezvous);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        match flow.proto {
            Proto::Tcp if flow.dst == self.config.local => {
                if let Some(event) = self.stack.packet(cx, &packet) {
                    self.event(cx, event);
                }
            }
            // The error is only a hint: the SYN is sent again (RFC 1122 §4.2.3.9).
            Proto::Icmp => self.icmp_errors += 1,
            _ => {}
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.stack.wake(cx);
        let mut due = Vec::new();
        for (to, again) in &mut self.peers {
            if again.is_some_and(|at| at <= cx.now) {
                *again = None;
                due.push(*to);
            }
        }
        for to in due {
            self.stack.dial(cx, to);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let again = self.peers.values().flatten().min().copied();
        [again, self.stack.next_wake()].into_iter().flatten().min()
    }
}
