use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use dunlin_core::Instant;
use quickcheck::quickcheck;

use super::*;
use crate::packet::TcpFlags;

mod handshake;
mod paths;
mod properties;

/// A path in one direction. Chances are in a thousand.
#[derive(Clone, Copy, Debug, Default)]
struct Path {
    delay_us: u64,
    /// Bits per second; 0 means unlimited.
    rate: u64,
    queue: u64,
    loss: u64,
    reorder: u64,
    duplicate: u64,
}

#[derive(Clone, Debug)]
struct Flying {
    to: usize,
    header: Header,
    data: Vec<u8>,
}

/// Two ends and what flies between them.
struct Net {
    now: u64,
    ends: [Conn; 2],
    paths: [Path; 2],
    free_at: [u64; 2],
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    flying: BTreeMap<u64, Flying>,
    sequence: u64,
    dice: u64,
    sent: [u64; 2],
    dropped: u64,
    /// The longest wait in the queue of each direction.
    waited: [u64; 2],
}

const MSS: u16 = 1_460;
const START: u64 = 1_000_000;

impl Net {
    /// Both ends after the first SYN has been sent: end 0 connects to end 1.
    fn new(config: &TcpConfig, paths: [Path; 2], dice: u64) -> Self {
        let now = Instant::from_micros(START);
        let mut a = Conn::connect(config, now, u32::MAX - 5_000, MSS);
        let (syn, _) = a.poll(now).expect("a SYN");
        let mut b = Conn::accept(config, now, MSS, &syn);
        b.admit(77);
        Self {
            now: START,
            ends: [a, b],
            paths,
            free_at: [0; 2],
            heap: BinaryHeap::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            dice: dice | 1,
            sent: [0; 2],
            dropped: 0,
            waited: [0; 2],
        }
    }

    fn at(&self) -> Instant {
        Instant::from_micros(self.now)
    }

    fn roll(&mut self, below: u64) -> u64 {
        // xorshift64
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % below
    }

    fn put(&mut self, from: usize, header: Header, data: Vec<u8>) {
        let path = self.paths[from];
        self.sent[from] += 1;
        if self.roll(1_000) < path.loss {
            self.dropped += 1;
            return;
        }
        let mut leaves = self.now;
        if path.rate > 0 {
            let bytes = data.len() as u64 + 52;
            let free = self.free_at[from].max(self.now);
            let waits = (free - self.now) * path.rate / 8_000_000;
            if waits + bytes > path.queue && waits > 0 {
                self.dropped += 1;
                return;
            }
            self.waited[from] = self.waited[from].max(free - self.now);
            leaves = free + bytes * 8_000_000 / path.rate;
            self.free_at[from] = leaves;
        }
        let copies = if self.roll(1_000) < path.duplicate {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let mut at = leaves + path.delay_us;
            if self.roll(1_000) < path.reorder {
                at += self.roll(path.delay_us.max(1));
            }
            self.sequence += 1;
            self.heap.push(Reverse((at, self.sequence)));
            let to = 1 - from;
            let data = data.clone();
            self.flying
                .insert(self.sequence, Flying { to, header, data });
        }
    }

    /// Sends what both ends have to send.
    fn flush(&mut self) {
        for from in 0..2 {
            let now = self.at();
            while let Some((header, data)) = self.ends[from].poll(now) {
                let data = data.concat();
                self.put(from, header, data);
            }
        }
    }

    /// Goes on to the next event. Returns `false` when there is none before `until`.
    fn step(&mut self, until: u64) -> bool {
        self.flush();
        let arrival = self.heap.peek().map(|Reverse((at, _))| *at);
        let timer = self.ends.iter().filter_map(Conn::deadline).min();
        let timer = timer.map(|at| at.as_micros().max(self.now));
        let Some(next) = arrival
            .into_iter()
            .chain(timer)
            .min()
            .filter(|at| *at <= until)
        else {
            self.now = until;
            return false;
        };
        self.now = next;
        if arrival == Some(next) {
            let Some(Reverse((_, sequence))) = self.heap.pop() else {
                return false;
            };
            let Some(flying) = self.flying.remove(&sequence) else {
                return false;
            };
            let now = self.at();
            self.ends[flying.to].segment(now, &flying.header, &flying.data);
        }
        let now = self.at();
        for end in &mut self.ends {
            if end.deadline().is_some_and(|at| at <= now) {
                end.timeout(now);
            }
        }
        true
    }

    fn write(&mut self, end: usize, bytes: &[u8]) -> usize {
        let now = self.at();
        self.ends[end].write(now, bytes)
    }

    fn read(&mut self, end: usize, most: usize) -> Vec<u8> {
        let now = self.at();
        let bytes = self.ends[end].peek(most).concat();
        self.ends[end].consume(now, bytes.len());
        bytes
    }
}

/// The byte of a stream at an offset.
fn byte(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Sends `bytes` from end 0 to end 1, whose application reads at once. Returns the time at
/// which everything had arrived.
fn transfer(net: &mut Net, bytes: u64, within: Duration) -> Option<u64> {
    let until = net.now + within.as_micros() as u64;
    let (mut written, mut read) = (0, 0);
    while read < bytes {
        while written < bytes {
            let len = (bytes - written).min(net.ends[0].room() as u64);
            if len == 0 {
                break;
            }
            let chunk: Vec<u8> = (written..written + len).map(byte).collect();
            written += net.write(0, &chunk) as u64;
        }
        for got in net.read(1, usize::MAX) {
            assert_eq!(got, byte(read), "byte {read} was lost or reordered");
            read += 1;
        }
        if read < bytes && !net.step(until) {
            return None;
        }
    }
    Some(net.now)
}
