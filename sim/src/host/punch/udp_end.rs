//! An end that punches over UDP.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use super::{Connected, EndConfig, EndStats, Observed, TRIES, message::Message};
use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// The interval of registrations, which keep the mapping to the rendezvous alive.
const REGISTER: Duration = Duration::from_secs(1);
/// The most endpoints of the peer that are kept, told or heard. Others are answered and not kept.
const MAX_PEERS: usize = 16;

/// A possible endpoint of the peer.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    at: SocketAddr,
    heard: bool,
}

impl Keepalive {
    /// The silence that has lasted until now, if it is one.
    fn silence(&self, now: Instant) -> Option<(Instant, Instant)> {
        (now.saturating_since(self.heard) > self.theirs + LATE).then_some((self.heard, now))
    }
}

/// An end that punches over UDP. Until it is introduced it only answers.
#[derive(Debug)]
pub struct UdpEnd {
    config: EndConfig,
    peers: Vec<Candidate>,
    /// The number of tries made.
    tries: usize,
    register: Instant,
    seen: Observed,
    keepalive: Option<Keepalive>,
}

/// The most silences that are kept.
const MAX_SILENCES: usize = 1_024;
/// A silence is longer than the interval of keepalives by at least this.
const LATE: Duration = Duration::from_millis(100);

/// What an end does and notes to tell whether its connection lives.
#[derive(Debug)]
struct Keepalive {
    every: Duration,
    /// The interval of the peer.
    theirs: Duration,
    next: Instant,
    /// When the peer was heard last.
    heard: Instant,
    silences: Vec<(Instant, Instant)>,
}

impl UdpEnd {
    /// Creates an end that registers as soon as it is switched on.
    #[must_use]
    pub const fn new(config: EndConfig) -> Self {
        Self {
            config,
            peers: Vec::new(),
            tries: 0,
            register: Instant::ORIGIN,
            keepalive: None,
            seen: Observed {
                told: None,
                connected: None,
                stats: EndStats {
                    sent: 0,
                    icmp_errors: 0,
                    refused: 0,
                },
            },
        }
    }

    /// Sends to the peer at this interval while they are connected, and expects to hear it at the interval `theirs`.
    #[must_use]
    pub fn keepalive(mut self, every: Duration, theirs: Duration) -> Self {
        self.keepalive = Some(Keepalive {
            every,
            theirs,
            next: Instant::ORIGIN,
            heard: Instant::ORIGIN,
            silences: Vec::new(),
        });
        self
    }

    /// The times since the connection in which the peer was not heard for longer than the interval of
    /// its keepalives, in order, at most 1024. The last one may go on. Empty without keepalives.
    #[must_use]
    pub fn silences(&self, now: Instant) -> Vec<(Instant, Instant)> {
        let (Some(kept), true) = (&self.keepalive, self.seen.connected.is_some()) else {
            return Vec::new();
        };
        let mut all = kept.silences.clone();
        all.extend(kept.silence(now));
        all
    }

    /// What can be observed at this end.
    #[must_use]
    pub const fn observed(&self) -> Observed {
        self.seen
    }

    fn send(&self, cx: &mut HostCx<'_>, to: SocketAddr, message: &Message) {
        cx.send_udp(self.config.local, to, &message.emit());
    }

    fn probe(&mut self, cx: &mut HostCx<'_>, to: SocketAddr, heard: bool) {
        self.seen.stats.sent += 1;
        self.send(cx, to, &Message::Probe { heard });
    }

    /// The endpoint to which keepalives go, if there are any.
    fn peer_to_keep(&self) -> Option<SocketAddr> {
        self.keepalive.as_ref()?;
        Some(self.seen.connected?.peer)
    }

    fn next_try(&self) -> Option<Instant> {
        if self.seen.connected.is_some() {
            return None;
        }
        Some(self.seen.told? + *TRIES.get(self.tries)?)
    }

    fn try_all(&mut self, cx: &mut HostCx<'_>) {
        while self.next_try().is_some_and(|at| at <= cx.now) {
            self.tries += 1;
            for n in 0..self.peers.len() {
                let Candidate { at, heard } = self.peers[n];
                self.probe(cx, at, heard);
            }
        }
    }

    fn keep(&mut self, at: SocketAddr, heard: bool) {
        match self.peers.iter().position(|p| p.at == at) {
            Some(n) => self.peers[n].heard |= heard,
            None if self.peers.len() < MAX_PEERS => self.peers.push(Candidate { at, heard }),
            None => {}
        }
    }

    fn message(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, message: &Message) {
        match message {
            Message::Tell { endpoints } if from == self.config.rendezvous => {
                for at in endpoints {
                    self.keep(*at, false);
                }
                self.seen.told.get_or_insert(cx.now);
                self.try_all(cx);
            }
            Message::Probe { heard } if from != self.config.rendezvous => {
                self.keep(from, true);
                if let Some(kept) = &mut self.keepalive {
                    if self.seen.connected.is_some() && kept.silences.len() < MAX_SILENCES {
                        kept.silences.extend(kept.silence(cx.now));
                    }
                    kept.heard = cx.now;
                }
                let first = *heard && self.seen.connected.is_none();
                if first {
                    self.seen.connected = Some(Connected {
                        peer: from,
                        at: cx.now,
                    });
                    if let Some(kept) = &mut self.keepalive {
                        kept.next = cx.now + kept.every;
                    }
                }
                // A second answer tells the peer that it was heard.
                if first || !heard {
                    self.probe(cx, from, true);
                }
            }
            _ => {}
        }
    }
}

impl Host for UdpEnd {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.register = cx.now;
        self.wake(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        match flow.proto {
            Proto::Udp if flow.dst == self.config.local => {
                if let Some(message) = Message::parse(packet.payload()) {
                    self.message(cx, flow.src, &message);
                }
            }
            Proto::Icmp => self.seen.stats.icmp_errors += 1,
            _ => {}
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if self.register <= cx.now {
            self.register = cx.now + REGISTER;
            let EndConfig {
                name, advertised, ..
            } = self.config;
            let register = Message::Register { name, advertised };
            self.send(cx, self.config.rendezvous, &register);
        }
        self.try_all(cx);
        if let Some(peer) = self.peer_to_keep()
            && let Some(kept) = &mut self.keepalive
            && kept.next <= cx.now
        {
            kept.next = cx.now + kept.every;
            self.probe(cx, peer, true);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let kept = self.peer_to_keep().and(self.keepalive.as_ref());
        let kept = kept.map(|kept| kept.next);
        let all = [self.next_try(), kept].into_iter().flatten();
        Some(all.fold(self.register, Instant::min))
    }
}
