//! Rarity order: which piece to open next.
//!
//! ```text
//!  order:  | High: 0 1 2 … | Normal: 0 1 2 … | Low: 0 1 2 … | parked |
//!  bucket:   start ──open── mid ──closed── next bucket's start
//! ```
//!
//! One array holds every piece. It is cut into buckets by (priority, availability), and each
//! bucket into pieces that may be opened and pieces that may not (being fetched). A change of
//! availability by one swaps the piece over one border: O(1), no allocation. Pieces that are
//! skipped or on disk are parked behind the buckets. What would move many pieces at once (a
//! bitfield, a priority) only marks the array dirty; a counting sort puts it right before the
//! next pick.

use alloc::{vec, vec::Vec};

use super::Priority;
use crate::Bitfield;

mod search;
pub(super) use search::Search;

/// Priority classes that are fetched: High, Normal, Low.
pub(super) const CLASSES: usize = 3;
/// A bitfield with more than one in this many pieces is counted in bulk.
const BULK: u32 = 8;

/// Where a piece stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nothing of it is requested or received.
    Open,
    /// Being fetched or hashed.
    Busy,
    /// On disk, verified.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Rank {
    /// Index in `order`.
    pos: u32,
    /// Peers that have it, seeds not counted.
    avail: u16,
    priority: Priority,
    stand: Stand,
}

impl Rank {
    fn class(self) -> usize {
        class_of(self.priority)
    }
}

/// 0 for High, 2 for Low, 3 for Skip.
pub(super) const fn class_of(priority: Priority) -> usize {
    Priority::High as usize - priority as usize
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    start: u32,
    /// Open pieces are `start..mid`.
    mid: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Order {
    ranks: Vec<Rank>,
    order: Vec<u32>,
    /// `CLASSES * stride` buckets, then one whose start is where the parked pieces begin.
    buckets: Vec<Bucket>,
    /// Buckets of one class: the highest availability they can hold, plus one.
    stride: u32,
    /// Per class: no open piece is in a bucket before this one.
    floor: [u32; CLASSES],
    /// Open pieces per class.
    open: [u32; CLASSES],
    /// The open pieces of all classes, high bit first.
    open_bits: Vec<u64>,
    seeds: u32,
    highest: u16,
    dirty: bool,
    /// Changes whenever a peer that had nothing to open may have something now, other than by
    /// its set growing.
    epoch: u32,
}

impl Order {
    pub(super) fn new(have: &Bitfield) -> Self {
        let len = have.len();
        let mut this = Self {
            ranks: vec![
                Rank {
                    pos: 0,
                    avail: 0,
                    priority: Priority::Normal,
                    stand: Stand::Open,
                };
                len as usize
            ],
            order: vec![0; len as usize],
            buckets: Vec::new(),
            stride: 0,
            floor: [0; CLASSES],
            open: [0; CLASSES],
            open_bits: vec![0; len.div_ceil(64) as usize],
            seeds: 0,
            highest: 0,
            dirty: true,
            epoch: 0,
        };
        for piece in 0..len {
            if have.get(piece) {
                this.ranks[piece as usize].stand = Stand::Done;
            } else {
                this.open[class_of(Priority::Normal)] += 1;
                this.flip(piece);
            }
        }
        this
    }

    // ---- availability ----

    pub(super) fn availability(&self, piece: u32) -> u32 {
        self.ranks
            .get(piece as usize)
            .map_or(0, |r| self.seeds + u32::from(r.avail))
    }

    pub(super) const fn seeds(&self) -> u32 {
        self.seeds
    }

    pub(super) const fn add_seed(&mut self) {
        self.seeds += 1;
    }

    pub(super) const fn remove_seed(&mut self) {
        self.seeds = self.seeds.saturating_sub(1);
    }

    /// Counts all pieces of a bitfield, up or down.
    pub(super) fn count_all(&mut self, has: &Bitfield, up: bool) {
        if has.count() <= has.len() / BULK && !self.dirty {
            for piece in has.iter() {
                self.count(piece, up);
            }
            return;
        }
        self.dirty = true;
        for (ranks, &byte) in self.ranks.chunks_mut(8).zip(has.as_wire()) {
            for (i, rank) in ranks.iter_mut().enumerate() {
                let bit = u16::from(byte >> (7 - i) & 1);
                rank.avail = if up {
                    rank.avail.saturating_add(bit)
                } else {
                    rank.avail.saturating_sub(bit)
                };
                self.highest = self.highest.max(rank.avail);
            }
        }
    }

    /// Counts one piece, up or down. Out of range: nothing.
    pub(super) fn count(&mut self, piece: u32, up: bool) {
        let Some(rank) = self.ranks.get_mut(piece as usize) else {
            return;
        };
        let old = *rank;
        let Some(avail) = (if up {
            old.avail.checked_add(1)
        } else {
            old.avail.checked_sub(1)
        }) else {
            return;
        };
        rank.avail = avail;
        self.highest = self.highest.max(avail);
        if u32::from(avail) >= self.stride {
            self.dirty = true;
        }
        if self.dirty || old.pos >= self.parked() {
            return;
        }
        let bucket = self.bucket_of(old);
        if up {
            self.move_up(old, bucket);
        } else {
            self.move_down(old, bucket);
        }
    }

    fn move_up(&mut self, rank: Rank, bucket: usize) {
        let mut pos = rank.pos;
        let open = rank.stand == Stand::Open;
        if open {
            self.buckets[bucket].mid -= 1;
            pos = self.swap(pos, self.buckets[bucket].mid);
        }
        self.buckets[bucket + 1].start -= 1;
        pos = self.swap(pos, self.buckets[bucket + 1].start);
        if !open {
            self.buckets[bucket + 1].mid -= 1;
            self.swap(pos, self.buckets[bucket + 1].mid);
        }
    }

    fn move_down(&mut self, rank: Rank, bucket: usize) {
        let mut pos = rank.pos;
        let open = rank.stand == Stand::Open;
        if !open {
            pos = self.swap(pos, self.buckets[bucket].mid);
            self.buckets[bucket].mid += 1;
        }
        pos = self.swap(pos, self.buckets[bucket].start);
        self.buckets[bucket].start += 1;
        if open {
            self.swap(pos, self.buckets[bucket - 1].mid);
            self.buckets[bucket - 1].mid += 1;
            self.lower_floor(rank.class(), bucket - 1);
        }
    }

    /// Exchanges two places; returns the second, where the first one's piece now is.
    fn swap(&mut self, a: u32, b: u32) -> u32 {
        if a != b {
            self.order.swap(a as usize, b as usize);
            let (at_a, at_b) = (self.order[a as usize], self.order[b as usize]);
            self.ranks[at_a as usize].pos = a;
            self.ranks[at_b as usize].pos = b;
        }
        b
    }

    fn bucket_of(&self, rank: Rank) -> usize {
        rank.class() * self.stride as usize + usize::from(rank.avail)
    }

    fn parked(&self) -> u32 {
        self.buckets.last().map_or(0, |b| b.start)
    }

    fn lower_floor(&mut self, class: usize, bucket: usize) {
        self.floor[class] = self.floor[class].min(bucket as u32);
    }

    // ---- standing and priority ----

    pub(super) fn priority(&self, piece: u32) -> Priority {
        self.ranks
            .get(piece as usize)
            .map_or(Priority::Skip, |r| r.priority)
    }

    pub(super) fn is_open(&self, piece: u32) -> bool {
        self.ranks
            .get(piece as usize)
            .is_some_and(|r| r.stand == Stand::Open && r.priority != Priority::Skip)
    }

    pub(super) const fn open_in(&self, class: usize) -> u32 {
        self.open[class]
    }

    pub(super) fn open_total(&self) -> u32 {
        self.open.iter().sum()
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn stir(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Changes where a piece stands.
    pub(super) fn set_stand(&mut self, piece: u32, stand: Stand) {
        let Some(rank) = self.ranks.get_mut(piece as usize) else {
            return;
        };
        let old = *rank;
        rank.stand = stand;
        let (was, is) = (old.stand == Stand::Open, stand == Stand::Open);
        if was == is || old.priority == Priority::Skip {
            return;
        }
        self.tally(piece, old.class(), is);
        if self.dirty {
            return;
        }
        if old.pos >= self.parked() {
            self.dirty = true;
            return;
        }
        let bucket = self.bucket_of(old);
        if is {
            self.swap(old.pos, self.buckets[bucket].mid);
            self.buckets[bucket].mid += 1;
            self.lower_floor(old.class(), bucket);
        } else {
            self.buckets[bucket].mid -= 1;
            self.swap(old.pos, self.buckets[bucket].mid);
        }
    }

    /// Changes a priority; returns the old one.
    pub(super) fn set_priority(&mut self, piece: u32, priority: Priority) -> Priority {
        let Some(rank) = self.ranks.get_mut(piece as usize) else {
            return Priority::Skip;
        };
        let old = *rank;
        if old.priority == priority {
            return priority;
        }
        rank.priority = priority;
        self.dirty = true;
        if old.stand == Stand::Open {
            if old.priority != Priority::Skip {
                self.tally(piece, old.class(), false);
            }
            if priority != Priority::Skip {
                self.tally(piece, class_of(priority), true);
            }
        }
        old.priority
    }

    fn tally(&mut self, piece: u32, class: usize, open: bool) {
        if open {
            self.open[class] += 1;
            self.stir();
        } else {
            self.open[class] -= 1;
        }
        self.flip(piece);
    }

    fn flip(&mut self, piece: u32) {
        self.open_bits[piece as usize / 64] ^= 1 << 63 >> (piece % 64);
    }

    // ---- sorting ----

    /// Puts the array right if something marked it dirty: O(pieces), otherwise free.
    pub(super) fn refresh(&mut self) {
        if self.dirty {
            self.dirty = false;
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        let highest = self.ranks.iter().map(|r| r.avail).max().unwrap_or(0);
        // Room for as many again, so that a growing swarm seldom comes back here.
        if u32::from(highest) >= self.stride || u32::from(highest) * 4 < self.stride {
            self.stride = (u32::from(highest) + 1) * 2;
        }
        self.highest = highest;
        self.buckets.clear();
        self.buckets
            .resize(CLASSES * self.stride as usize + 1, Bucket::default());
        let last = self.buckets.len() - 1;
        // Count: all in `start`, the open ones also in `mid`.
        for rank in &self.ranks {
            let bucket = &mut self.buckets[Self::home(*rank, self.stride, last)];
            bucket.start += 1;
            bucket.mid += u32::from(rank.stand == Stand::Open);
        }
        let mut next = 0;
        for bucket in &mut self.buckets {
            let (all, open) = (bucket.start, bucket.mid);
            *bucket = Bucket {
                start: next,
                mid: next + open,
            };
            next += all;
        }
        // Place: open ones from the start, the others from the middle, counting up.
        let starts: Vec<Bucket> = self.buckets.clone();
        for (piece, rank) in self.ranks.iter_mut().enumerate() {
            let bucket = &mut self.buckets[Self::home(*rank, self.stride, last)];
            let place = if rank.stand == Stand::Open {
                &mut bucket.start
            } else {
                &mut bucket.mid
            };
            rank.pos = *place;
            self.order[*place as usize] = piece as u32;
            *place += 1;
        }
        self.buckets = starts;
        for class in 0..CLASSES {
            self.floor[class] = class as u32 * self.stride;
        }
    }

    fn home(rank: Rank, stride: u32, parked: usize) -> usize {
        if rank.stand == Stand::Done || rank.priority == Priority::Skip {
            parked
        } else {
            rank.class() * stride as usize + usize::from(rank.avail)
        }
    }

    /// Availability of the rarest piece, how many pieces have more copies, and how many there are.
    pub(super) fn copies(&self) -> (u32, u32, u32) {
        let least = self.ranks.iter().map(|r| r.avail).min().unwrap_or(0);
        let more = self.ranks.iter().filter(|r| r.avail > least).count();
        (
            self.seeds + u32::from(least),
            more as u32,
            self.ranks.len() as u32,
        )
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        for class in 0..CLASSES {
            let open = self
                .ranks
                .iter()
                .filter(|r| r.stand == Stand::Open && r.class() == class);
            assert_eq!(open.count() as u32, self.open[class]);
        }
        for piece in 0..self.ranks.len() as u32 {
            let bit = self.open_bits[piece as usize / 64] & (1 << 63 >> (piece % 64)) != 0;
            assert_eq!(bit, self.is_open(piece));
        }
        if self.dirty {
            return;
        }
        for (piece, rank) in self.ranks.iter().enumerate() {
            assert_eq!(self.order[rank.pos as usize] as usize, piece);
            if rank.pos >= self.parked() {
                continue;
            }
            let bucket = self.bucket_of(*rank);
            let Bucket { start, mid } = self.buckets[bucket];
            let range = if rank.stand == Stand::Open {
                assert!(self.floor[rank.class()] as usize <= bucket);
                start..mid
            } else {
                mid..self.buckets[bucket + 1].start
            };
            assert!(range.contains(&rank.pos));
        }
    }
}

/// Bits `64 * index ..` of a bitfield in wire order; zeros beyond its end.
pub(super) fn word_at(bytes: &[u8], index: usize) -> u64 {
    let rest = bytes.get(index * 8..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk[..rest.len()].copy_from_slice(rest);
            u64::from_be_bytes(chunk)
        }
    }
}
