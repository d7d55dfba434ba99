//! Fragments that arrive in any order (RFC 791 §3.2, RFC 4787 REQ-14): a box keeps them until it has
//! the whole datagram, looks at that, and cuts it again where its sender had cut it.
//!
//! As in Linux, a fragment that came before is ignored, and one that overlaps others ends its
//! datagram (RFC 5722 for IPv6, which Linux applies to IPv4). Not modelled: the ICMP error that a
//! box sends when a datagram for itself remains incomplete.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    ops::Range,
    time::Duration,
};

use dunlin_core::Instant;

use crate::packet::{MAX_PACKET, Packet, Proto};

/// How long the rest of a datagram is waited for, since its first fragment to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most datagrams that are incomplete at one time. Fragments of others are dropped.
const MAX_DATAGRAMS: usize = 256;
/// The most bytes of all incomplete datagrams.
const MAX_BYTES: usize = 1 << 20;

/// What the fragments of one datagram have in common (RFC 791 §3.2), and where they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    out: bool,
    src: IpAddr,
    dst: IpAddr,
    proto: Proto,
    id: u16,
}

#[derive(Clone, Debug)]
struct Datagram {
    name: Name,
    since: Instant,
    /// The fragments by where they begin.
    parts: BTreeMap<usize, Packet>,
    /// Stretches of fragments of which each arrived right after the one before it.
    runs: Vec<Range<usize>>,
    /// The end of what is known, and whether that is the end of the datagram.
    end: usize,
    ended: bool,
}

/// A datagram whose fragments have all arrived.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    pub(super) packet: Packet,
    pub(super) cuts: Cuts,
}

/// Where a datagram was cut.
#[derive(Clone, Debug)]
pub(super) struct Cuts {
    id: u16,
    starts: Vec<usize>,
}

/// What a fragment does.
#[derive(Clone, Debug)]
pub(super) enum Added {
    Held,
    /// It is dropped, because it does not fit or there is no room.
    Bad,
    Complete(Box<Whole>),
}

/// The datagrams that are incomplete, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Reassembly {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
}

impl Reassembly {
    /// Takes a fragment, which is moved out of `packet` if it is kept.
    pub(super) fn add(&mut self, now: Instant, out: bool, packet: &Packet) -> Added {
        self.expire(now);
        let (Some(fragment), flow) = (packet.fragment(), packet.flow()) else {
            return Added::Bad;
        };
        let name = Name {
            out,
            src: flow.src.ip(),
            dst: flow.dst.ip(),
            proto: flow.proto,
            id: fragment.id,
        };
        let len = packet.transport().len();
        let known = self.datagrams.iter().position(|d| d.name == name);
        let full = self.datagrams.len() >= MAX_DATAGRAMS && known.is_none();
        if full || self.bytes + len > MAX_BYTES {
            return Added::Bad;
        }
        let at = known.unwrap_or_else(|| {
            self.datagrams.push_back(Datagram::new(name, now));
            self.datagrams.len() - 1
        });
        match self.datagrams[at].add(fragment.offset.into(), fragment.more, packet) {
            Fit::Again => Added::Bad,
            Fit::Broken => {
                self.remove(at);
                Added::Bad
            }
            Fit::Added(kept) => {
                self.bytes += kept;
                if !self.datagrams[at].is_complete() {
                    return Added::Held;
                }
                match self.remove(at).and_then(Datagram::join) {
                    Some(whole) => Added::Complete(Box::new(whole)),
                    None => Added::Bad,
                }
            }
        }
    }

    fn remove(&mut self, at: usize) -> Option<Datagram> {
        let datagram = self.datagrams.remove(at)?;
        self.bytes -= datagram.bytes();
        Some(datagram)
    }

    fn expire(&mut self, now: Instant) {
        while (self.datagrams.front()).is_some_and(|d| d.since + PATIENCE <= now) {
            self.remove(0);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How a fragment fits the others.
enum Fit {
    /// It adds so many bytes.
    Added(usize),
    /// All of it came before.
    Again,
    /// It contradicts the others.
    Broken,
}

impl Datagram {
    const fn new(name: Name, since: Instant) -> Self {
        Self {
            name,
            since,
            parts: BTreeMap::new(),
            runs: Vec::new(),
            end: 0,
            ended: false,
        }
    }

    fn bytes(&self) -> usize {
        self.parts.values().map(|p| p.transport().len()).sum()
    }

    fn add(&mut self, from: usize, more: bool, packet: &Packet) -> Fit {
        let mut len = packet.transport().len();
        if more {
            // Only the last fragment may end anywhere.
            len &= !7;
        }
        let end = from + len;
        let past = self.ended
            && if more {
                end > self.end
            } else {
                end != self.end
            };
        if len == 0 || past || !more && end < self.end || end > MAX_PACKET {
            return Fit::Broken;
        }
        let overlaps = |run: &&Range<usize>| run.start < end && from < run.end;
        if let Some(run) = self.runs.iter().find(overlaps) {
            return if run.start <= from && end <= run.end {
                Fit::Again
            } else {
                Fit::Broken
            };
        }
        self.ended |= !more;
        // Only what comes right behind everything else prolongs a stretch.
        let last = self.runs.iter_mut().max_by_key(|run| run.end);
        match last {
            Some(last) if last.end == from => last.end = end,
            _ => self.runs.push(from..end),
        }
        self.end = self.end.max(end);
        let kept = packet.transport().len();
        self.parts.insert(from, packet.clone());
        Fit::Added(kept)
    }

    fn is_complete(&self) -> bool {
        let there: usize = self.runs.iter().map(Range::len).sum();
        self.ended && there == self.end
    }

    fn join(self) -> Option<Whole> {
        let mut payload = Vec::with_capacity(self.end);
        let starts: Vec<usize> = self.parts.keys().copied().collect();
        for (n, part) in self.parts.values().enumerate() {
            let end = starts.get(n + 1).copied().unwrap_or(self.end);
            payload.extend_from_slice(part.transport().get(..end - starts[n])?);
        }
        let first = self.parts.get(&0)?;
        Some(Whole {
            packet: first.whole(&payload)?,
            cuts: Cuts {
                id: self.name.id,
                starts,
            },
        })
    }
}

impl Cuts {
    /// Cuts a datagram again.
    pub(super) fn cut(&self, whole: &Packet) -> Option<Vec<Packet>> {
        let len = whole.transport().len();
        let ends = self.starts.iter().skip(1).copied().chain([len]);
        let ranges = self.starts.iter().zip(ends).map(|(from, to)| *from..to);
        ranges
            .map(|range| whole.part(self.id, range, len))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const NOW: Instant = Instant::from_micros(5);

    fn whole(len: usize) -> Packet {
        let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
        Packet::udp(([10, 0, 0, 1], 5).into(), ([10, 0, 0, 2], 6).into(), &data)
    }

    fn parts(len: usize, id: u16) -> Vec<Packet> {
        whole(len).split(60, id).expect("splits")
    }

    fn complete(added: Added) -> Option<Whole> {
        match added {
            Added::Complete(whole) => Some(*whole),
            _ => None,
        }
    }

    quickcheck! {
        /// Any order gives the datagram, and its cuts give the fragments, whose order is put right.
        fn any_order_makes_the_whole(len: u16, swaps: Vec<(u8, u8)>) -> bool {
            let len = 60 + usize::from(len % 1_000);
            let sent = parts(len, 7);
            let mut order = sent.clone();
            for (a, b) in swaps {
                let n = order.len();
                order.swap(usize::from(a) % n, usize::from(b) % n);
            }
            let mut some = Reassembly::default();
            let last = order.pop().expect("parts");
            for part in &order {
                if !matches!(some.add(NOW, true, part), Added::Held) {
                    return false;
                }
            }
            let Some(done) = complete(some.add(NOW, true, &last)) else { return false };
            done.packet.transport() == whole(len).transport()
                && done.packet.checksums_hold()
                && done.cuts.cut(&done.packet) == Some(sent)
                && some.bytes == 0
        }

        fn no_fragments_panic_and_none_are_kept_for_ever(some: Vec<(u8, u8, bool)>) -> bool {
            let mut kept = Reassembly::default();
            let base = whole(2_048);
            for (at, len, more) in some {
                let from = usize::from(at) * 8;
                let to = from + usize::from(len.max(1)) * 8;
                let Some(part) = base.part(1, from..to, if more { 1 << 16 } else { to }) else {
                    continue;
                };
                if let Some(done) = complete(kept.add(NOW, true, &part)) {
                    assert!(done.cuts.cut(&done.packet).is_some());
                }
            }
            kept.expire(NOW + PATIENCE);
            kept.bytes == 0 && kept.datagrams.is_empty()
        }
    }

    #[test]
    fn a_copy_is_ignored_and_an_overlap_ends_the_datagram() {
        let sent = parts(100, 7);
        let mut some = Reassembly::default();
        assert!(matches!(some.add(NOW, true, &sent[0]), Added::Held));
        assert!(matches!(some.add(NOW, true, &sent[0]), Added::Bad));
        assert!(matches!(some.add(NOW, true, &sent[1]), Added::Held));
        assert!(complete(some.add(NOW, true, &sent[2])).is_some());
        let over = whole(100).part(7, 32..72, 108).expect("a part");
        assert!(matches!(some.add(NOW, true, &sent[0]), Added::Held));
        assert!(matches!(some.add(NOW, true, &over), Added::Bad));
        assert!(some.datagrams.is_empty());
    }

    #[test]
    fn the_rest_is_waited_for_and_not_for_ever() {
        let sent = parts(60, 7);
        for (late, comes) in [(PATIENCE / 2, true), (PATIENCE, false)] {
            let mut some = Reassembly::default();
            some.add(NOW, true, &sent[1]);
            assert_eq!(
                complete(some.add(NOW + late, true, &sent[0])).is_some(),
                comes
            );
        }
    }

    #[test]
    fn there_is_a_limit() {
        let mut some = Reassembly::default();
        for id in 0..2_000 {
            some.add(NOW, true, &parts(60, id)[1]);
        }
        assert_eq!(some.datagrams.len(), MAX_DATAGRAMS);
        assert!(matches!(
            some.add(NOW, true, &parts(60, 1_999)[0]),
            Added::Bad
        ));
        assert!(complete(some.add(NOW, true, &parts(60, 0)[0])).is_some());
    }
}
