//! The observable outcome of a run: a hash of everything, counters, marks, and the journeys of
//! packets.
//!
//! The hash covers the bytes of each packet when it is created or changed, and the time, device and
//! rule of each hop. It is a chain of folded 64-bit multiplications: cheap, and the same on 32- and
//! 64-bit machines. It is not cryptographic.

mod journey;

use dunlin_core::Instant;

use crate::{
    id::{DeviceId, PacketId},
    packet::{Packet, verdict::Rule},
};

pub(crate) use journey::Journeys;
pub use journey::{Filter, Hop, Journey, Ports};

/// A line that a host or the timetable wrote into the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The time of the mark.
    pub at: Instant,
    /// The device that wrote it; the core for the timetable.
    pub device: DeviceId,
    /// The line.
    pub text: String,
}

/// The most marks that are kept. Later ones are only part of the hash.
pub const MAX_MARKS: usize = 1 << 20;

/// The trace of a run.
pub struct Trace {
    hash: u64,
    packets: u64,
    totals: [u64; RULES],
    /// The value that stands for each rule in the hash. It is derived from the rule's name, so that
    /// adding a rule does not change old hashes.
    names: [u64; RULES],
    /// Counters by device. Each device has few rules, in the order of their first use.
    by_device: Vec<Vec<(Rule, u64)>>,
    marks: Vec<Mark>,
    pub(crate) journeys: Option<Journeys>,
}

const RULES: usize = Rule::ALL.len();

impl Trace {
    pub(crate) fn new(seed: u64) -> Self {
        let mut names = [0; RULES];
        for (name, rule) in names.iter_mut().zip(Rule::ALL) {
            *name = digest(rule.name().as_bytes());
        }
        Self {
            hash: fold(seed, K[0]),
            packets: 0,
            totals: [0; RULES],
            names,
            by_device: Vec::new(),
            marks: Vec::new(),
            journeys: None,
        }
    }

    /// The hash of everything so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of packets that were created.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.packets
    }

    /// How often a rule decided, anywhere.
    #[must_use]
    pub fn count(&self, rule: Rule) -> u64 {
        self.totals[rule as usize]
    }

    /// How often a rule decided at a device. Events on a link are counted at its lower end.
    #[must_use]
    pub fn count_at(&self, device: DeviceId, rule: Rule) -> u64 {
        let of_device = self.by_device.get(device.index()).into_iter().flatten();
        of_device.filter(|(r, _)| *r == rule).map(|(_, n)| n).sum()
    }

    /// Every rule that decided, with how often, in the order of [`Rule::ALL`].
    pub fn counters(&self) -> impl Iterator<Item = (Rule, u64)> + '_ {
        let all = Rule::ALL.iter().map(|rule| (*rule, self.count(*rule)));
        all.filter(|(_, n)| *n > 0)
    }

    /// Every rule that decided at each device, with how often.
    pub fn counters_by_device(&self) -> impl Iterator<Item = (DeviceId, Rule, u64)> + '_ {
        self.by_device
            .iter()
            .enumerate()
            .flat_map(|(device, rules)| {
                let mut rules = rules.clone();
                rules.sort_unstable();
                rules
                    .into_iter()
                    .map(move |(rule, n)| (DeviceId::at(device), rule, n))
            })
    }

    /// The first [`MAX_MARKS`] lines that hosts and the timetable wrote.
    #[must_use]
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Records a new packet; `digest` is that of its payload.
    pub(crate) fn created(&mut self, at: Instant, id: PacketId, packet: &Packet, digest: u64) {
        self.packets += 1;
        let word = (u64::from(id.number) << 32) ^ id.origin.index() as u64;
        let head = fold(at.as_micros(), word);
        self.hash = fold(self.hash, head ^ headers(packet, digest));
    }

    /// Records that a rule decided about a packet.
    #[inline]
    pub(crate) fn hop(&mut self, at: Instant, device: DeviceId, rule: Rule, body: u64) {
        let place = ((device.index() as u64) << 32) ^ self.names[rule as usize];
        self.hash = fold(self.hash ^ at.as_micros(), place ^ body);
        self.totals[rule as usize] += 1;
        if self.by_device.len() <= device.index() {
            self.by_device.resize_with(device.index() + 1, Vec::new);
        }
        let rules = &mut self.by_device[device.index()];
        match rules.iter_mut().find(|(r, _)| *r == rule) {
            Some((_, n)) => *n += 1,
            None => rules.push((rule, 1)),
        }
    }

    pub(crate) fn mark(&mut self, at: Instant, device: DeviceId, text: String) {
        let word = fold(at.as_micros(), device.index() as u64);
        self.hash = fold(self.hash, word ^ digest(text.as_bytes()));
        if self.marks.len() < MAX_MARKS {
            self.marks.push(Mark { at, device, text });
        }
    }
}

/// Odd constants: the fractional parts of the golden ratio and of the square roots of 2 and 3.
const K: [u64; 3] = [
    0x9e37_79b9_7f4a_7c15,
    0x6a09_e667_f3bc_c909,
    0xbb67_ae85_84ca_a73b,
];

/// The two halves of a product, combined.
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a ^ K[1]) as u128 * (b ^ K[2]) as u128;
    (product as u64) ^ ((product >> 64) as u64)
}

/// The digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let word = |b: &[u8]| {
        let mut w = [0; 8];
        w[..b.len()].copy_from_slice(b);
        u64::from_le_bytes(w)
    };
    // Two independent chains, so that a processor can compute them in parallel.
    let (mut even, mut odd) = (K[0] ^ bytes.len() as u64, K[1]);
    let (pairs, rest) = bytes.as_chunks::<32>();
    for c in pairs {
        even = fold(even ^ word(&c[..8]), word(&c[8..16]));
        odd = fold(odd ^ word(&c[16..24]), word(&c[24..]));
    }
    for c in rest.chunks(8) {
        even = fold(even, word(c));
    }
    fold(even, odd)
}

/// The digest of a packet's headers, combined with the digest of its payload.
pub(crate) fn headers(packet: &Packet, payload: u64) -> u64 {
    let bytes = packet.bytes();
    let head = bytes.len() - packet.payload().len();
    let mut state = payload;
    let (words, rest) = bytes[..head].as_chunks::<8>();
    for w in words {
        state = fold(state, u64::from_le_bytes(*w));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn any_change_changes_the_digest(bytes: Vec<u8>, at: usize, bit: u8) -> bool {
            let mut other = bytes.clone();
            let Some(len) = (!bytes.is_empty()).then_some(bytes.len()) else {
                return digest(&bytes) != digest(&[0]);
            };
            other[at % len] ^= 1 << (bit % 8);
            digest(&bytes) != digest(&other) && digest(&bytes) != digest(&bytes[..len - 1])
        }

        fn headers_count_too(port: u16, data: Vec<u8>) -> bool {
            let packet = |port| Packet::udp(([1, 2, 3, 4], port).into(), ([5, 6, 7, 8], 9).into(), &data);
            let (a, mut b) = (packet(port), packet(port));
            b.hop();
            headers(&a, 1) != headers(&b, 1) && headers(&a, 1) != headers(&a, 2)
        }
    }

    // The digest must be the same on every machine and in every version, or stored hashes no longer
    // hold.
    #[test]
    fn the_digest_is_the_same_everywhere() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(digest(&bytes), 2_617_353_449_123_877_448);
        assert_eq!(digest(b""), 9_519_514_902_809_982_772);
    }
}
