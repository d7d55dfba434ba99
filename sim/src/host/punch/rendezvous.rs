//! The public host through which two others find each other.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use super::{
    message::Message,
    tcp::{Event, Stack},
};
use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// The time between the last registration and the introductions, in which packets under way arrive,
/// unless [`Rendezvous::lead`] sets another.
pub const LEAD: Duration = Duration::from_millis(100);
/// The most ends that can register.
const MAX_ENDS: usize = 64;

/// One end to be told about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The end that is told.
    pub to: u8,
    /// The end that it is told about.
    pub about: u8,
    /// How long after the tick it is told.
    pub after: Duration,
}

/// An end that has registered.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: u8,
    observed: SocketAddr,
    advertised: Option<SocketAddr>,
    by: Proto,
}

/// A rendezvous over UDP and TCP at one port. It makes its introductions when every end that they
/// name has registered; all that are due at one time are made in one tick, like those of a BEP 55
/// relay.
#[derive(Debug)]
pub struct Rendezvous {
    local: SocketAddr,
    known: Vec<Known>,
    introductions: Vec<Introduction>,
    lead: Duration,
    /// The time of the first introductions.
    tick: Option<Instant>,
    /// The number of introductions made.
    made: usize,
    stack: Stack,
}

impl Rendezvous {
    /// Creates a rendezvous at an endpoint with these introductions to make.
    #[must_use]
    pub fn new(local: SocketAddr, mut introductions: Vec<Introduction>) -> Self {
        introductions.sort_by_key(|i| i.after);
        Self {
            local,
            known: Vec::new(),
            introductions,
            lead: LEAD,
            tick: None,
            made: 0,
            stack: Stack::new(local),
        }
    }

    /// Sets the time between the last registration and the introductions.
    #[must_use]
    pub const fn lead(mut self, lead: Duration) -> Self {
        self.lead = lead;
        self
    }

    /// The tick at which introductions were made or will be made.
    #[must_use]
    pub const fn tick(&self) -> Option<Instant> {
        self.tick
    }

    /// The endpoint from which an end was last heard.
    #[must_use]
    pub fn observed(&self, name: u8) -> Option<SocketAddr> {
        Some(self.find(name)?.observed)
    }

    fn find(&self, name: u8) -> Option<&Known> {
        self.known.iter().find(|k| k.name == name)
    }

    fn register(&mut self, now: Instant, end: Known) {
        match self.known.iter().position(|k| k.name == end.name) {
            Some(n) => self.known[n] = end,
            None if self.known.len() < MAX_ENDS => self.known.push(end),
            None => return,
        }
        let ready = |i: &Introduction| [i.to, i.about].iter().all(|n| self.find(*n).is_some());
        if self.tick.is_none() && self.introductions.iter().all(ready) {
            self.tick = Some(now + self.lead);
        }
    }

    fn due(&self) -> Option<Instant> {
        Some(self.tick? + self.introductions.get(self.made)?.after)
    }

    fn tell(&mut self, cx: &mut HostCx<'_>) {
        while self.due().is_some_and(|at| at <= cx.now) {
            let introduction = self.introductions[self.made];
            self.made += 1;
            let (Some(to), Some(about)) =
                (self.find(introduction.to), self.find(introduction.about))
            else {
                continue;
            };
            let mut endpoints = vec![about.observed];
            endpoints.extend(about.advertised.filter(|at| *at != about.observed));
            let tell = Message::Tell { endpoints }.emit();
            let (by, to) = (to.by, to.observed);
            match by {
                Proto::Tcp => self.stack.send(cx, to, &tell),
                _ => cx.send_udp(self.local, to, &tell),
            }
        }
    }

    fn heard(&mut self, now: Instant, from: SocketAddr, by: Proto, bytes: &[u8]) {
        if let Some(Message::Register { name, advertised }) = Message::parse(bytes) {
            let end = Known {
                name,
                observed: from,
                advertised,
                by,
            };
            self.register(now, end);
        }
    }
}

impl Host for Rendezvous {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        if flow.dst == self.local {
            match flow.proto {
                Proto::Udp => self.heard(cx.now, flow.src, Proto::Udp, packet.payload()),
                Proto::Tcp => {
                    if let Some(Event::Data(from, bytes)) = self.stack.packet(cx, &packet) {
                        self.heard(cx.now, from, Proto::Tcp, &bytes);
                    }
                }
                _ => {}
            }
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.stack.wake(cx);
        self.tell(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        [self.due(), self.stack.next_wake()]
            .into_iter()
            .flatten()
            .min()
    }
}
