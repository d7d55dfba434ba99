//! The search for a piece to open, in what [`Order::refresh`] has put right: by rarity through
//! the buckets, and where these promise little, by the peer's bitfield.

use super::{Bucket, Order};
use crate::{Bitfield, Cx};

/// Pieces and empty buckets looked at before the search turns from the buckets to the peer's
/// bitfield: enough that a peer with a tenth of the pieces nearly always finds a rarest one.
const PROBES: u32 = 48;
/// Pieces weighed when searching by bitfield: the rarest of these is rare enough.
const SAMPLE: u32 = 48;
/// Set bits of the wrong class looked at before a search by bitfield ends without a verdict.
const INSPECT: u32 = 4096;

/// Outcome of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::torrent::picker) enum Search {
    Found(u32),
    /// The peer has no open piece of this class.
    Nothing,
    /// None found within the bound on work.
    Unknown,
}

impl Order {
    /// A rarest open piece of `class` that is in `has`, ties broken at random.
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
            // Pieces that only seeds have.
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

    /// The rarest of the first [`SAMPLE`] open pieces of `class` in `has`, from piece `from` on
    /// and around. 64 pieces are compared at a time.
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

    /// The first open piece of `class` in `has` within `from..to`.
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

    /// Open pieces in `has` within `from..to`, ascending.
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
