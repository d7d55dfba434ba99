//! Rarity order: which piece to open next.
//!
//! ```text
//!  order:  | High: 0 1 2 … | Normal: 0 1 2 … | Low: 0 1 2 … | parked |
//!  bucket:   start ──open── mid ──closed── next bucket's start
//! ```
//!
//! One array contains all pieces. It is divided into buckets by priority and availability, and each bucket into pieces that
//! may be opened and pieces that may not (being downloaded). A change of the availability by one swaps the piece across one
//! border: O(1), without allocation. Pieces that are skipped or on disk are after the buckets. A change that would move many
//! pieces (a bitfield, a priority) only marks the array as dirty, and a counting sort restores it before the next pick.
//!
//! A peer whose set is stored as its difference from the full set counts as a seed, and each piece that it lacks is
//! subtracted: the cost is proportional to what it lacks. So the availability of a piece, without seeds, may be negative.
//! The first bucket is that of [`Order::lowest`].

use alloc::{vec, vec::Vec};

use super::Priority;
use crate::Bitfield;

mod search;
pub(super) use search::Search;

/// The number of priority classes that are downloaded: High, Normal, Low.
pub(super) const CLASSES: usize = 3;
/// A bitfield with more than one in this many pieces is counted by a sort.
const BULK: u32 = 8;
/// How many empty buckets at the low end of a class are tolerated before a sort.
const SPARE: i32 = 64;

/// The state of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Nothing of it is requested or received.
    Open,
    /// It is being downloaded or hashed.
    Busy,
    /// It is on disk and verified.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Rank {
    /// Its index in `order`.
    pos: u32,
    /// The number of peers that have it, without seeds, minus the number of seeds that lack it.
    avail: i16,
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
    /// `CLASSES * stride` buckets, then one of the parked pieces.
    buckets: Vec<Bucket>,
    /// The index in `order` of the first parked piece.
    parked: u32,
    /// The number of buckets of a class.
    stride: u32,
    /// The availability of the first bucket of a class; at most 0.
    lowest: i16,
    /// For each class, a bucket before which no bucket has an open piece.
    floor: [u32; CLASSES],
    /// The number of open pieces of each class.
    open: [u32; CLASSES],
    /// The open pieces of all classes, high bit first.
    open_bits: Vec<u64>,
    /// The number of peers whose set is stored as what it lacks.
    seeds: u32,
    /// The number of pieces that those lack, counted for each of them.
    lacking: u64,
    dirty: bool,
    /// The number of entries that counting and sorting have touched so far.
    work: u64,
    /// It changes whenever a peer without a piece to open may have one now for another reason than a new piece.
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
            parked: 0,
            stride: 0,
            lowest: 0,
            floor: [0; CLASSES],
            open: [0; CLASSES],
            open_bits: vec![0; len.div_ceil(64) as usize],
            seeds: 0,
            lacking: 0,
            dirty: true,
            work: 0,
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
            .map_or(0, |r| self.seeds.saturating_add_signed(i32::from(r.avail)))
    }

    pub(super) const fn work(&self) -> u64 {
        self.work
    }

    /// Adds the cost of a set of pieces to [`Order::work`].
    pub(super) const fn note_work(&mut self, touched: usize) {
        self.work += touched as u64;
    }

    /// Counts the pieces of a peer that connected or disconnected. The cost is proportional to the difference of its set
    /// from the empty or full set.
    pub(super) fn count_peer(&mut self, has: &Bitfield, came: bool) {
        let differing = u64::from(has.differing());
        let mut up = came;
        if has.is_inverted() {
            up = !came;
            if came {
                self.seeds += 1;
                self.lacking += differing;
            } else {
                self.seeds = self.seeds.saturating_sub(1);
                self.lacking = self.lacking.saturating_sub(differing);
            }
        }
        if has.differing() <= self.few() {
            self.work += differing;
            has.for_each_difference(|piece| self.count(piece, up));
            return;
        }
        self.dirty = true;
        self.work += self.ranks.len() as u64;
        for (ranks, &byte) in self.ranks.chunks_mut(8).zip(has.difference_bytes()) {
            for (i, rank) in ranks.iter_mut().enumerate() {
                let bit = i16::from(byte >> (7 - i) & 1);
                rank.avail = if up {
                    rank.avail.saturating_add(bit)
                } else {
                    rank.avail.saturating_sub(bit)
                };
            }
        }
    }

    /// The maximum number of pieces that are counted one by one.
    pub(super) const fn few(&self) -> u32 {
        self.ranks.len() as u32 / BULK
    }

    /// Counts one piece that a peer gained or lost. `has` is its set afterwards.
    pub(super) fn count_one(&mut self, piece: u32, has: &Bitfield, up: bool) {
        if has.is_inverted() {
            self.lacking = if up {
                self.lacking.saturating_sub(1)
            } else {
                self.lacking + 1
            };
        }
        self.work += 1;
        self.count(piece, up);
    }

    /// Changes the availability of a piece by one. Does nothing if there is no such piece.
    fn count(&mut self, piece: u32, up: bool) {
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
        let rise = self.rise(avail);
        if rise >= self.stride {
            self.dirty = true;
        }
        if self.dirty || old.pos >= self.parked {
            return;
        }
        let bucket = old.class() * self.stride as usize + rise as usize;
        if up {
            self.move_up(old, bucket - 1);
        } else {
            self.move_down(old, bucket + 1);
        }
    }

    /// The bucket of an availability within its class. Beyond all buckets if the availability is below the first one.
    const fn rise(&self, avail: i16) -> u32 {
        (avail as i32 - self.lowest as i32).cast_unsigned()
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

    /// Swaps two entries. Returns the second index, where the first piece is now.
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
        rank.class() * self.stride as usize + self.rise(rank.avail) as usize
    }

    fn lower_floor(&mut self, class: usize, bucket: usize) {
        self.floor[class] = self.floor[class].min(bucket as u32);
    }

    // ---- state and priority ----

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

    /// Changes the state of a piece.
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
        if old.pos >= self.parked {
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

    /// Changes a priority. Returns the old one.
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

    /// Restores the array if it is marked as dirty: O(pieces), otherwise O(1).
    pub(super) fn refresh(&mut self) {
        if self.dirty {
            self.dirty = false;
            self.rebuild();
        }
    }

    fn rebuild(&mut self) {
        self.work += self.ranks.len() as u64;
        let avails = || self.ranks.iter().map(|rank| rank.avail);
        let most = avails().fold(0, i16::max);
        // Only pieces that seeds lack have negative counts.
        let least = if self.lacking > 0 {
            avails().fold(0, i16::min)
        } else {
            0
        };
        // There is room for as many again, so that a growing swarm, or a peer that toggles a piece, seldom causes another sort.
        if least < self.lowest || i32::from(self.lowest) < 4 * i32::from(least) - SPARE {
            self.lowest = least.saturating_mul(2);
        }
        let rise = self.rise(most);
        if rise >= self.stride || rise * 4 < self.stride {
            self.stride = (rise + 1) * 2;
        }
        self.buckets.clear();
        self.buckets
            .resize(CLASSES * self.stride as usize + 1, Bucket::default());
        let last = self.buckets.len() - 1;
        // Count all pieces in `start`, and the open ones also in `mid`.
        for rank in &self.ranks {
            let home = home(*rank, self.stride, self.lowest, last);
            let bucket = &mut self.buckets[home];
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
        // Place the open pieces from the start, and the others from the middle.
        let starts: Vec<Bucket> = self.buckets.clone();
        self.parked = starts[last].start;
        for (piece, rank) in self.ranks.iter_mut().enumerate() {
            let home = home(*rank, self.stride, self.lowest, last);
            let bucket = &mut self.buckets[home];
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

    /// The availability of the rarest piece, the number of pieces with more copies, and the number of pieces.
    pub(super) fn copies(&self) -> (u32, u32, u32) {
        let least = self.ranks.iter().map(|r| r.avail).min().unwrap_or(0);
        let more = self.ranks.iter().filter(|r| r.avail > least).count();
        (
            self.seeds.saturating_add_signed(i32::from(least)),
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
            if rank.pos >= self.parked {
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

/// The bucket of a piece. `parked` is the last one.
fn home(rank: Rank, stride: u32, lowest: i16, parked: usize) -> usize {
    if rank.stand == Stand::Done || rank.priority == Priority::Skip {
        parked
    } else {
        let rise = (i32::from(rank.avail) - i32::from(lowest)).cast_unsigned();
        rank.class() * stride as usize + rise as usize
    }
}
