//! The rarer packets of random scripts: datagrams in pieces, ICMP, and protocols beside UDP and TCP.

use dunlin_sim::Proto;

use super::body::{Body, PIECES};
use super::generate::{Dice, Writer};
use super::model::Model;
use super::script::{Event, Local, Remote, Send, Wan};

/// Of a hundred packets, how many are rarer ones, at most.
const SHARE: [u32; 5] = [0, 0, 10, 40, 80];
/// Where datagrams are cut.
const CUTS: [&[u8]; 5] = [&[4], &[1], &[8], &[3, 6], &[2, 3, 7]];
/// The chunks of an SCTP association, with the end that sends each.
const CHUNKS: [(u8, bool); 12] = [
    (1, true),
    (2, false),
    (10, true),
    (11, false),
    (0, true),
    (0, false),
    (4, true),
    (5, false),
    (7, true),
    (8, false),
    (14, true),
    (6, false),
];

/// What the rarer packets of a script are drawn from.
pub(super) struct Rare {
    share: u32,
    /// More than fragments.
    all_protocols: bool,
    v6: bool,
    /// Pieces that are still to be sent.
    pieces: Vec<(Send, Body)>,
    /// Datagrams that were begun.
    datagrams: u16,
    /// How far the association of each endpoint is.
    associations: Vec<(Local, Remote, usize)>,
}

impl Rare {
    pub(super) fn new(model: &Model, dice: &mut Dice) -> Self {
        Self {
            share: *dice.of(&SHARE),
            all_protocols: model.all_protocols,
            v6: model.v6,
            pieces: Vec::new(),
            datagrams: 0,
            associations: Vec::new(),
        }
    }
}

impl Writer {
    /// One of the rarer packets, or none.
    pub(super) fn rarer(&mut self) -> Option<(Send, Body)> {
        if !self.rare.pieces.is_empty() && self.dice.in_hundred(70) {
            return Some(self.rare.pieces.remove(0));
        }
        if !self.dice.in_hundred(self.rare.share) {
            return None;
        }
        let kind = if self.rare.all_protocols {
            self.dice.below(100)
        } else {
            0
        };
        match kind {
            0..25 if !self.rare.v6 => self.pieces(),
            0..55 => self.query(),
            55..80 => self.error(),
            80..90 => self.sctp(),
            _ => self.other(),
        }
    }

    /// Cuts a datagram, and sends its first piece.
    fn pieces(&mut self) -> Option<(Send, Body)> {
        self.rare.datagrams += 1;
        let of = self.rare.datagrams;
        let send = match self.earlier(true) {
            Some((k, _, remote)) if self.dice.in_hundred(50) => Send::In(remote, Wan::Seen(k)),
            Some((_, local, remote)) if self.dice.in_hundred(50) => Send::Out(local, remote),
            _ => Send::Out(self.local(), self.remote()),
        };
        let cuts = *self.dice.of(&CUTS);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([PIECES]);
        let mut pieces: Vec<(u8, u8)> = starts.zip(ends).collect();
        match self.dice.below(100) {
            0..40 => {}
            40..75 => {
                let n = pieces.len() as u32;
                pieces.swap(0, self.dice.below(n) as usize);
            }
            // One again, one that is missing, one that overlaps others.
            75..83 => {
                let again = *self.dice.of(&pieces);
                let at = self.dice.below(pieces.len() as u32 + 1) as usize;
                pieces.insert(at, again);
            }
            83..90 => {
                let n = pieces.len() as u32;
                pieces.remove(self.dice.below(n) as usize);
            }
            _ => {
                let from = self.dice.below(8) as u8;
                let to = from + 1 + self.dice.below(u32::from(PIECES - from)) as u8;
                let at = self.dice.below(pieces.len() as u32 + 1) as usize;
                pieces.insert(at, (from, to));
            }
        }
        let piece = |(from, to)| (send, Body::Piece { of, from, to });
        self.rare.pieces.extend(pieces.into_iter().map(piece));
        Some(self.rare.pieces.remove(0))
    }

    /// An ICMP query, from inside or outside, or the answer to one from inside.
    fn query(&mut self) -> Option<(Send, Body)> {
        let bare = |remote| Remote { port: 0, ..remote };
        let sent: Vec<(usize, Remote, u8)> = (self.events.iter().enumerate())
            .filter_map(|(i, e)| match (e.send, e.body) {
                (Send::Out(_, remote), Body::Query { kind }) => Some((i, remote, kind)),
                _ => None,
            })
            .collect();
        let (echo, echoed) = if self.rare.v6 { (128, 129) } else { (8, 0) };
        let kind = match self.rare.v6 || self.dice.in_hundred(70) {
            true => echo,
            false => 13,
        };
        Some(match self.dice.below(100) {
            45..85 if !sent.is_empty() => {
                let (k, remote, kind) = *self.dice.of(&sent);
                let kind = if kind == echo { echoed } else { 14 };
                let remote = match self.dice.in_hundred(85) {
                    true => remote,
                    false => bare(self.remote()),
                };
                (Send::In(remote, Wan::Seen(k)), Body::Query { kind })
            }
            // A stranger's, to the router or to an answer's identifier.
            85..92 => {
                let port = self.local().port;
                (
                    Send::In(bare(self.remote()), Wan::Port(port)),
                    Body::Query { kind },
                )
            }
            92..96 if !self.rare.v6 => {
                let port = self.local().port;
                (
                    Send::Hairpin(self.local(), Wan::Port(port)),
                    Body::Query { kind },
                )
            }
            _ => (
                Send::Out(self.local(), bare(self.remote())),
                Body::Query { kind },
            ),
        })
    }

    /// An ICMP error about an earlier packet, most often from its receiver.
    fn error(&mut self) -> Option<(Send, Body)> {
        let sent: Vec<(usize, Event)> = (self.events.iter().copied().enumerate())
            .filter(|(_, e)| !matches!(e.body, Body::Error { .. } | Body::Piece { .. }))
            .filter(|(_, e)| !matches!(e.send, Send::Hairpin(..)))
            .collect();
        if sent.is_empty() {
            return None;
        }
        let (about, event) = *self.dice.of(&sent);
        let (kind, code) = *self.dice.of(match self.rare.v6 {
            false => &[(3, 3), (3, 1), (3, 4), (11, 0), (12, 0), (4, 0)][..],
            true => &[(1, 4), (1, 0), (2, 0), (3, 0), (4, 0)][..],
        });
        let body = Body::Error { kind, code, about };
        Some(match event.send {
            Send::Out(_, remote) => {
                // A router on the way has another address.
                let from = if self.dice.in_hundred(60) {
                    remote
                } else {
                    self.remote()
                };
                (Send::In(from, Wan::Seen(about)), body)
            }
            Send::In(remote, Wan::Seen(k)) => match self.events[k].send {
                Send::Out(local, _) => (Send::Out(local, remote), body),
                _ => return None,
            },
            Send::In(..) | Send::Hairpin(..) => return None,
        })
    }

    /// The next chunk of an association, or another one.
    fn sctp(&mut self) -> Option<(Send, Body)> {
        let (local, remote) = (self.local(), self.remote());
        let known = (self.rare.associations.iter()).position(|a| (a.0, a.1) == (local, remote));
        let at = known.unwrap_or_else(|| {
            self.rare.associations.push((local, remote, 0));
            self.rare.associations.len() - 1
        });
        let step = self.rare.associations[at].2;
        // Always in order: the simulator does not compare verification tags.
        let (chunk, out) = CHUNKS[step % CHUNKS.len()];
        self.rare.associations[at].2 = step + 1;
        self.there_or_back(local, remote, Body::Sctp { chunk }, out)
    }

    fn other(&mut self) -> Option<(Send, Body)> {
        let proto = *self.dice.of(&[Proto::UdpLite, Proto::Gre, Proto::Esp]);
        let (mut local, mut remote) = (self.local(), self.remote());
        if proto != Proto::UdpLite {
            (local.port, remote.port) = (0, 0);
        }
        // Nothing is to answer UDP-Lite, which does not get out.
        let out = proto == Proto::UdpLite || self.dice.in_hundred(60);
        self.there_or_back(local, remote, Body::Other(proto), out)
    }

    /// A packet from inside, or from outside to what an earlier one came out with.
    fn there_or_back(
        &self,
        local: Local,
        remote: Remote,
        body: Body,
        out: bool,
    ) -> Option<(Send, Body)> {
        if out {
            return Some((Send::Out(local, remote), body));
        }
        let proto = body.proto();
        let sent = (self.events.iter())
            .rposition(|e| e.body.proto() == proto && e.send == Send::Out(local, remote));
        let wan = sent.map_or(Wan::Port(local.port), Wan::Seen);
        Some((Send::In(remote, wan), body))
    }
}
