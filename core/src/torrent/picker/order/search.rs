//! The search for a piece to open, after [`Order::refresh`]: by rarity through the buckets, and then through the peer's
//! bitfield.

use super::{Bucket, Order};
use crate::{Bitfield, Cx};

/// How many pieces and empty buckets are examined before the search continues in the peer's bitfield: enough that a peer
/// with a tenth of the pieces nearly always finds a rarest one.
const PROBES: u32 = 48;
/// How many pieces are compared when searching the bitfield: the rarest of these is rare enough.
const SAMPLE: u32 = 48;
/// How many pieces of another class are examined before a search of the bitfield ends without a result.
const INSPECT: u32 = 4096;

/// The result of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::torrent::picker) enum Search {
    Found(u32),
    /// The peer has no open piece of this class.
    Nothing,
    /// None was found within the limit of work.
    Unknown,
}

impl Order {
    /// Finds a rarest open piece of `class` in `has`. Ties are broken at random.
    pub(in crate::torrent::picker) fn rarest(
        &mut self,
        cx: &mut Cx<'_>,
        class: usize,
        has: &Bitfield,
    ) -> Search {
        if self.open[class] == 0 {
            return Search::Nothing;
        }
        let base = class as u32 * self.stride;
        let end = base + self.stride;
        while self.floor[class] < end && self.is_bare(self.floor[class]) {
            self.floor[class] += 1;
        }
        let mut probes = PROBES;
        let mut bucket = self.floor[class];
        if bucket == base + self.rise(0) && self.lacking == 0 && !has.is_full() {
            // Only seeds have these pieces.
            bucket += 1;
        }
        while bucket < end {
            let Bucket { start, mid } = self.buckets[bucket as usize];
            let len = mid - start;
            let from = if len > 1 { cx.below(len) } else { 0 };
            for i in 0..len.min(probes) {
                let at = if from + i < len {
                    from + i
                } else {
                    from + i - len
                };
                let piece = self.order[(start + at) as usize];
                if has.get(piece) {
                    return Search::Found(piece);
                }
            }
            probes = probes.saturating_sub(len.max(1));
            if probes == 0 {
                let from = cx.below(self.ranks.len() as u32);
                return self.sample(class, has, from);
            }
            bucket += 1;
        }
        Search::Nothing
    }

    fn is_bare(&self, bucket: u32) -> bool {
        let Bucket { start, mid } = self.buckets[bucket as usize];
        start == mid
    }

    /// Finds the rarest of the first [`SAMPLE`] open pieces of `class` in `has`, from piece `from` on, with wrap-around. 64
    /// pieces are compared at a time.
    fn sample(&self, class: usize, has: &Bitfield, from: u32) -> Search {
        let mut best: Option<(i16, u32)> = None;
        let (mut weighed, mut inspected) = (0, 0);
        let len = self.ranks.len() as u32;
        for piece in self
            .open_and(has, from, len)
            .chain(self.open_and(has, 0, from))
        {
            let rank = self.ranks[piece as usize];
            inspected += 1;
            if rank.class() == class {
                weighed += 1;
                if best.is_none_or(|(avail, _)| rank.avail < avail) {
                    best = Some((rank.avail, piece));
                }
            }
            if weighed == SAMPLE || inspected == INSPECT {
                return best.map_or(Search::Unknown, |(_, piece)| Search::Found(piece));
            }
        }
        best.map_or(Search::Nothing, |(_, piece)| Search::Found(piece))
    }

    /// Finds the first open piece of `class` in `has` within `from..to`.
    pub(in crate::torrent::picker) fn first(
        &self,
        class: usize,
        has: &Bitfield,
        from: u32,
        to: u32,
    ) -> Search {
        if self.open[class] == 0 {
            return Search::Nothing;
        }
        let mut inspected = 0;
        for piece in self.open_and(has, from, to) {
            if self.ranks[piece as usize].class() == class {
                return Search::Found(piece);
            }
            inspected += 1;
            if inspected == INSPECT {
                return Search::Unknown;
            }
        }
        Search::Nothing
    }

    /// The open pieces in `has` within `from..to`, ascending.
    fn open_and<'a>(
        &'a self,
        has: &'a Bitfield,
        from: u32,
        to: u32,
    ) -> impl Iterator<Item = u32> + 'a {
        let to = to.min(self.ranks.len() as u32);
        let mut index = from / 64;
        let last = to.div_ceil(64);
        let fetch = move |index: u32| {
            let mut word = self.open_bits[index as usize];
            if word != 0 {
                word &= has.word(index as usize);
            }
            if index == from / 64 {
                word &= u64::MAX >> (from % 64);
            }
            word
        };
        let mut word = if from < to { fetch(index) } else { 0 };
        core::iter::from_fn(move || {
            if from >= to {
                return None;
            }
            while word == 0 {
                index += 1;
                if index >= last {
                    return None;
                }
                word = fetch(index);
            }
            let bit = word.leading_zeros();
            word &= !(1 << 63 >> bit);
            let piece = index * 64 + bit;
            (piece < to).then_some(piece)
        })
    }
}
