//! Random scripts: few hosts, ports and remotes, so that they get in each other's way.

use dunlin_sim::TcpFlags;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::body::Body;
use super::model::{MARGIN, Model};
use super::rare::Rare;
use super::script::{Event, FAR, Local, Remote, Script, Send, Wan};

/// Latest event, in milliseconds.
const LONGEST: u32 = 14_400;
/// Times are multiples of this many milliseconds.
const GRID: u32 = 400;
/// Inside ports; the first ones are taken most often.
const PORTS: [u16; 6] = [40_000, 40_001, 40_002, 6881, 500, 49_151];
const REMOTE_PORTS: [u16; 3] = [3478, 3479, 40_000];
const REMOTE_HOSTS: u8 = 3;
/// No inside endpoint has it.
const UNUSED_PORT: u16 = 5;
/// No remote endpoint with connections has it.
const STRANGER_PORT: u16 = 9;

const FIN: u8 = TcpFlags::FIN.0;
const SYN: u8 = TcpFlags::SYN.0;
const RST: u8 = TcpFlags::RST.0;
const PSH: u8 = TcpFlags::PSH.0;
const ACK: u8 = TcpFlags::ACK.0;

/// The script that `seed` makes for a model.
pub fn script(model: &Model, seed: u64) -> Script {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
    let times = times(&mut dice, &model.thresholds);
    let mut writer = Writer {
        hosts: *dice.of(&[1, 2, 2, 3, 3]),
        ports: *dice.of(&[1, 1, 2, 2, 3, PORTS.len()]),
        remotes: *dice.of(&[
            (1, 1),
            (1, 2),
            (2, 1),
            (2, 2),
            (REMOTE_HOSTS, REMOTE_PORTS.len()),
        ]),
        // Of a hundred packets, how many are datagrams.
        udp: *dice.of(&[100, 100, 0, 0, 50]),
        events: Vec::new(),
        talks: Vec::new(),
        rare: Rare::new(model, &mut dice),
        model: model.clone(),
        dice,
    };
    for at in times {
        let event = writer.event(at);
        writer.events.push(event);
    }
    Script {
        model: model.name.to_owned(),
        seed,
        events: writer.events,
    }
}

/// When the events happen: bursts, with pauses such that no two events are as far apart as any
/// threshold of the kernel, give or take [`MARGIN`].
fn times(dice: &mut Dice, thresholds: &[u32]) -> Vec<u32> {
    let mut bursts = vec![0];
    if dice.in_hundred(70) {
        let tries = 4 + dice.below(12);
        for _ in 0..tries {
            let last = bursts[bursts.len() - 1];
            let next = last + GRID * (1 + dice.below(24));
            if next <= LONGEST && bursts.iter().all(|b| clear(thresholds, next - b)) {
                bursts.push(next);
            }
        }
    }
    let count = 10 + dice.below(20) as usize;
    let mut times: Vec<u32> = (0..count).map(|_| *dice.of(&bursts)).collect();
    times.sort_unstable();
    times
}

/// Whether a pause is far from every threshold.
fn clear(thresholds: &[u32], pause: u32) -> bool {
    thresholds.iter().all(|t| pause.abs_diff(*t) >= MARGIN)
}

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    pub(super) fn in_hundred(&mut self, n: u32) -> bool {
        self.below(100) < n
    }

    pub(super) fn of<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }
}

/// A TCP connection as its two ends would see it if every segment arrived.
#[derive(Clone, Copy)]
struct Talk {
    local: Local,
    remote: Remote,
    /// The last event that went out for it.
    out: Option<usize>,
    /// What each end sends next; inside, outside.
    next: [u32; 2],
    /// Which ends have sent SYN, or FIN.
    syn: [bool; 2],
    fin: [bool; 2],
    /// Whether an end has sent SYN and ACK in one.
    accepted: bool,
    /// Whether anything was sent for it.
    known: bool,
}

impl Talk {
    /// Nothing sent yet, with these sequence numbers.
    fn begin(&mut self, next: [u32; 2]) {
        self.next = next;
        (self.syn, self.fin, self.accepted) = ([false; 2], [false; 2], false);
    }
}

pub(super) struct Writer {
    hosts: u8,
    ports: usize,
    /// How many addresses outside, and how many ports of each.
    remotes: (u8, usize),
    udp: u32,
    pub(super) events: Vec<Event>,
    talks: Vec<Talk>,
    pub(super) dice: Dice,
    pub(super) rare: Rare,
    model: Model,
}

impl Writer {
    fn event(&mut self, at: u32) -> Event {
        // A router without a NAT takes the hop before its firewall looks, in the simulator only.
        let ttl = match self.dice.in_hundred(2) && !self.model.v6 {
            true => 1,
            false => FAR,
        };
        let (send, body) = match self.rarer() {
            Some(rare) => rare,
            None if self.dice.below(100) < self.udp => self.datagram(),
            None => self.segment(),
        };
        let send = match send {
            // Without translation, a host is reached from inside without the router; and the rules
            // that turn packets back are for datagrams.
            Send::Hairpin(local, _) if !self.model.has_hairpin(body.proto()) => {
                Send::Out(local, self.remote())
            }
            other => other,
        };
        Event {
            at,
            ttl,
            send,
            body,
        }
    }

    pub(super) fn local(&mut self) -> Local {
        let ports = &PORTS[..self.ports];
        Local {
            host: 1 + self.dice.below(self.hosts.into()) as u8,
            port: *self.dice.of(ports),
        }
    }

    pub(super) fn remote(&mut self) -> Remote {
        let (hosts, ports) = self.remotes;
        Remote {
            host: 1 + self.dice.below(hosts.into()) as u8,
            port: *self.dice.of(&REMOTE_PORTS[..ports]),
        }
    }

    /// A remote endpoint without a connection: its segments fit no sequence.
    fn stranger(&mut self) -> Remote {
        Remote {
            port: STRANGER_PORT,
            ..self.remote()
        }
    }

    /// An earlier datagram or segment that went out.
    pub(super) fn earlier(&mut self, udp: bool) -> Option<(usize, Local, Remote)> {
        let sent: Vec<_> = self
            .events
            .iter()
            .enumerate()
            .filter(|(_, e)| match e.body {
                Body::Udp => udp,
                Body::Tcp { .. } => !udp,
                _ => false,
            })
            .filter_map(|(i, e)| match e.send {
                Send::Out(local, remote) => Some((i, local, remote)),
                Send::In(..) | Send::Hairpin(..) => None,
            })
            .collect();
        (!sent.is_empty()).then(|| *self.dice.of(&sent))
    }

    /// An endpoint of the public address, most often one that was seen.
    fn wan(&mut self, udp: bool) -> Wan {
        match self.earlier(udp) {
            Some((k, ..)) if self.dice.in_hundred(85) => Wan::Seen(k),
            _ => Wan::Port(*self.dice.of(&PORTS)),
        }
    }

    /// The same address by another port, another address, or the same endpoint.
    fn like(&mut self, remote: Remote) -> Remote {
        match self.dice.below(100) {
            0..55 => remote,
            55..75 => Remote {
                port: *self.dice.of(&REMOTE_PORTS),
                ..remote
            },
            _ => self.remote(),
        }
    }

    fn datagram(&mut self) -> (Send, Body) {
        let send = match self.dice.below(100) {
            0..40 => Send::Out(self.local(), self.remote()),
            40..55 => match self.earlier(true) {
                Some((_, local, remote)) => Send::Out(local, self.like(remote)),
                None => Send::Out(self.local(), self.remote()),
            },
            55..93 => match self.earlier(true) {
                Some((k, _, remote)) if self.dice.in_hundred(85) => {
                    Send::In(self.like(remote), Wan::Seen(k))
                }
                _ => Send::In(self.remote(), self.wan(true)),
            },
            _ => Send::Hairpin(self.local(), self.wan(true)),
        };
        (send, Body::Udp)
    }

    fn segment(&mut self) -> (Send, Body) {
        let syn = Body::Tcp {
            flags: SYN,
            seq: 7,
            ack: 0,
            len: 0,
        };
        match self.dice.below(100) {
            // Strangers.
            0..6 => (Send::In(self.stranger(), self.wan(false)), syn),
            6..10 => (Send::Hairpin(self.local(), self.wan(false)), syn),
            10..14 => {
                let ack = Body::Tcp {
                    flags: ACK,
                    seq: 7,
                    ack: 9,
                    len: 0,
                };
                (Send::In(self.stranger(), self.wan(false)), ack)
            }
            14..40 => {
                let (local, remote) = (self.local(), self.remote());
                let i = self.talk(local, remote);
                self.turn(i)
            }
            _ if self.talks.is_empty() => {
                let (local, remote) = (self.local(), self.remote());
                let i = self.talk(local, remote);
                self.turn(i)
            }
            _ => {
                let i = self.dice.below(self.talks.len() as u32) as usize;
                self.turn(i)
            }
        }
    }

    /// The connection between these two, a new one if there is none.
    fn talk(&mut self, local: Local, remote: Remote) -> usize {
        let known = self
            .talks
            .iter()
            .position(|t| (t.local, t.remote) == (local, remote));
        known.unwrap_or_else(|| {
            let next = self.numbers();
            self.talks.push(Talk {
                local,
                remote,
                out: None,
                next,
                syn: [false; 2],
                fin: [false; 2],
                accepted: false,
                known: false,
            });
            self.talks.len() - 1
        })
    }

    /// Initial sequence numbers.
    fn numbers(&mut self) -> [u32; 2] {
        [0; 2].map(|_: u32| self.dice.0.next_u32())
    }

    /// What one end of a connection sends next.
    fn turn(&mut self, i: usize) -> (Send, Body) {
        let mut talk = self.talks[i];
        let roll = self.dice.below(100);
        let (end, flags, len) = match (talk.syn, talk.fin) {
            // Not open.
            ([false, false], _) => match roll {
                0..88 => (0, SYN, 0),
                88..94 => (1, SYN, 0),
                // In the middle of a connection that the NAT never saw begin.
                _ if !talk.known => {
                    (talk.syn, talk.accepted) = ([true; 2], true);
                    (usize::from(roll >= 97), ACK, 0)
                }
                _ => (0, SYN, 0),
            },
            // Opened by one end.
            ([true, false], _) => match roll {
                0..65 => (1, SYN | ACK, 0),
                65..75 => (0, SYN, 0),
                75..82 => (1, SYN, 0),
                82..92 => (1, RST | ACK, 0),
                _ => (0, RST, 0),
            },
            ([false, true], _) => match roll {
                0..50 => (0, SYN | ACK, 0),
                50..75 => (0, SYN, 0),
                75..90 => (1, SYN, 0),
                _ => (0, RST | ACK, 0),
            },
            // Opened by both at once: each has to accept.
            ([true, true], _) if !talk.accepted => match roll {
                0..40 => (0, SYN | ACK, 0),
                40..90 => (1, SYN | ACK, 0),
                90..95 => (1, RST | ACK, 0),
                _ => (0, RST | ACK, 0),
            },
            // Open.
            ([true, true], [false, false]) => match roll {
                0..35 => (0, ACK, 0),
                35..50 => (0, ACK | PSH, 10),
                50..70 => (1, ACK | PSH, 10),
                70..76 => (1, ACK, 0),
                76..84 => (0, ACK | FIN, 0),
                84..92 => (1, ACK | FIN, 0),
                92..96 => (0, RST | ACK, 0),
                _ => (1, RST | ACK, 0),
            },
            // Closed by one end.
            ([true, true], [inside, outside]) if inside != outside => {
                let open = usize::from(inside);
                match roll {
                    0..30 => (open, ACK, 0),
                    30..50 => (open, ACK | PSH, 10),
                    50..90 => (open, ACK | FIN, 0),
                    90..95 => (1 - open, ACK, 0),
                    _ => (open, RST | ACK, 0),
                }
            }
            // Closed by both.
            ([true, true], _) => match roll {
                0..35 => (0, ACK, 0),
                35..70 => (1, ACK, 0),
                _ => {
                    // The same endpoints again.
                    talk.begin(self.numbers());
                    (0, SYN, 0)
                }
            },
        };
        let other = 1 - end;
        let mut seq = talk.next[end];
        if flags & SYN != 0 {
            if talk.syn[end] {
                // Once more.
                seq = seq.wrapping_sub(1);
            } else {
                talk.next[end] = seq.wrapping_add(1);
                talk.syn[end] = true;
            }
        }
        talk.next[end] = talk.next[end].wrapping_add(len);
        if flags & FIN != 0 {
            talk.next[end] = talk.next[end].wrapping_add(1);
            talk.fin[end] = true;
        }
        let ack = if flags & ACK == 0 {
            0
        } else {
            talk.next[other]
        };
        talk.accepted |= flags & (SYN | ACK) == SYN | ACK;
        if flags & RST != 0 {
            talk.begin(self.numbers());
        }
        let send = if end == 0 {
            talk.out = Some(self.events.len());
            Send::Out(talk.local, talk.remote)
        } else {
            let wan = match talk.out {
                Some(k) => Wan::Seen(k),
                // Not into a connection that another host may have by this port.
                None if self.talks.iter().any(|other| {
                    other.out.is_some()
                        && (other.remote, other.local.port) == (talk.remote, talk.local.port)
                }) =>
                {
                    Wan::Port(UNUSED_PORT)
                }
                None => Wan::Port(talk.local.port),
            };
            Send::In(talk.remote, wan)
        };
        talk.known = true;
        self.talks[i] = talk;
        let body = Body::Tcp {
            flags,
            seq,
            ack,
            len: len as u8,
        };
        (send, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::model;

    #[test]
    fn no_two_events_are_a_threshold_apart() {
        let model = &model::all()[0];
        let mut pauses = 0;
        for seed in 0..500 {
            let events = script(model, seed).events;
            for (i, event) in events.iter().enumerate() {
                assert!(event.at <= LONGEST);
                for before in &events[..i] {
                    let pause = event.at - before.at;
                    assert!(clear(&model.thresholds, pause), "seed {seed}, event {i}");
                    pauses += usize::from(pause > 8_000);
                }
            }
        }
        assert!(pauses > 1000, "timeouts are seldom passed: {pauses}");
    }

    #[test]
    fn every_kind_of_event_is_made() {
        let model = &model::all()[0];
        let events: Vec<_> = (0..300)
            .flat_map(|seed| script(model, seed).events)
            .collect();
        let share = |f: fn(&Event) -> bool| events.iter().filter(|e| f(e)).count();
        assert!(share(|e| matches!(e.send, Send::Hairpin(..))) > 100);
        assert!(share(|e| matches!(e.send, Send::In(_, Wan::Port(_)))) > 100);
        assert!(share(|e| matches!(e.body, Body::Tcp { flags, .. } if flags == SYN | ACK)) > 100);
        assert!(share(|e| matches!(e.body, Body::Tcp { flags, .. } if flags & FIN != 0)) > 100);
        assert!(share(|e| matches!(e.body, Body::Tcp { flags, .. } if flags & RST != 0)) > 100);
        // Two hosts with one port to one remote: the clash that overloading is about.
        let clashes = (0..300).filter(|seed| {
            let events = script(model, *seed).events;
            let outs: Vec<_> = events
                .iter()
                .filter_map(|e| match e.send {
                    Send::Out(local, remote) => Some((local, remote)),
                    _ => None,
                })
                .collect();
            outs.iter().any(|(a, r)| {
                outs.iter()
                    .any(|(b, s)| a.host != b.host && a.port == b.port && r == s)
            })
        });
        assert!(clashes.count() > 100);
    }
}
