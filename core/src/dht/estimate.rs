//! An estimate of the number of nodes in the network.
//!
//! Ids are spread evenly over the key space, so the distance to the i-th closest node of any
//! target is i gaps on average, and one gap is the key space divided by the number of nodes. Each
//! finished search measures the gap by least squares over the nodes it found; the mean of the
//! gaps of many searches gives the size. Distances are cut to their first 64 bits.

use crate::NodeId;

/// The most nodes of one search that count. Our choice: a search does not look for all nodes beyond these.
const MAX_NODES: usize = 16;
/// The fewest nodes of a search that are a measurement.
const MIN_NODES: usize = 4;
/// About how many searches the mean covers. Our choice: one hour of a busy client, with a spread of 5 %.
const MEMORY: u64 = 64;
/// Searches after which one that differs a lot counts for less.
const SETTLED: u64 = 8;
/// The factor by which one search may differ then: somebody who simulates many nodes at one target must not
/// change the estimate much.
const MAX_FACTOR: u64 = 8;

/// The rule of thumb of the "Using DHT" page: 4·2ⁿ nodes for `n` buckets (S34).
#[must_use]
pub const fn by_buckets(n: u32) -> u64 {
    match 4u64.checked_shl(n) {
        Some(size) if n < 62 => size,
        _ => u64::MAX,
    }
}

/// The first 64 bits of the distance between two ids.
#[must_use]
pub fn distance64(a: &NodeId, b: &NodeId) -> u64 {
    top64(&a.distance(b))
}

/// The first 64 bits of a distance.
pub(crate) fn top64(distance: &[u8; 20]) -> u64 {
    distance
        .first_chunk::<8>()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The size of the network, estimated from the density of nodes near the targets of searches.
#[derive(Clone, Debug, Default)]
pub struct SizeEstimate {
    /// Mean gap between nodes, in 2⁻⁶⁴ of the key space.
    gap: u64,
    /// Searches that count, at most [`MEMORY`].
    searches: u64,
}

impl SizeEstimate {
    /// An estimate without any measurement yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gap: 0,
            searches: 0,
        }
    }

    /// A search for `target` found `closest`, closest first, without omission. Searches that
    /// [look suspicious](super::lookup::Lookup::is_suspicious) should not be added.
    pub fn add(&mut self, target: &NodeId, closest: &[NodeId]) {
        if closest.len() < MIN_NODES {
            return;
        }
        let (mut weighted, mut squares) = (0u128, 0u128);
        for (i, id) in (1u128..).zip(closest.iter().take(MAX_NODES)) {
            weighted += i * u128::from(distance64(target, id));
            squares += i * i;
        }
        let mut gap = u64::try_from(weighted / squares.max(1)).unwrap_or(u64::MAX);
        if self.searches >= SETTLED {
            gap = gap.clamp(self.gap / MAX_FACTOR, self.gap.saturating_mul(MAX_FACTOR));
        }
        self.searches = (self.searches + 1).min(MEMORY);
        self.gap = if gap >= self.gap {
            self.gap + (gap - self.gap) / self.searches
        } else {
            self.gap - (self.gap - gap) / self.searches
        };
    }

    /// Nodes in the network; 0 if nothing is known.
    #[must_use]
    pub const fn get(&self) -> u64 {
        match u64::MAX.checked_div(self.gap) {
            // The inverse of a mean is too large: with 8 nodes a search, by 1/7 of a search.
            Some(nodes) if self.searches > 0 => nodes - nodes / (self.searches * 7),
            _ => 0,
        }
    }

    /// How many searches the estimate is based on, at most 64.
    #[must_use]
    pub const fn searches(&self) -> u64 {
        self.searches
    }

    /// How far from a target its `k`-th closest node is to be expected, as the first 64 bits of
    /// a distance; `None` before a few searches.
    #[must_use]
    pub const fn expected_kth_distance(&self, k: u32) -> Option<u64> {
        if self.searches < SETTLED / 2 || self.gap == 0 {
            return None;
        }
        Some(self.gap.saturating_mul(k as u64))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use quickcheck::quickcheck;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn id(rng: &mut ChaCha8Rng) -> NodeId {
        let mut id = [0; 20];
        rng.fill_bytes(&mut id);
        NodeId(id)
    }

    /// The closest 8 of `nodes`, closest first.
    fn closest(target: &NodeId, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut all: Vec<_> = nodes.to_vec();
        let k = 8.min(all.len() - 1);
        all.select_nth_unstable_by_key(k, |n| n.distance(target));
        all.truncate(k);
        all.sort_by_key(|n| n.distance(target));
        all
    }

    #[test]
    fn s34_the_size_by_buckets_is_four_times_two_to_the_n() {
        assert_eq!(by_buckets(0), 4);
        assert_eq!(by_buckets(10), 4096);
        assert_eq!(by_buckets(61), 1 << 63);
        assert_eq!(by_buckets(62), u64::MAX);
        assert_eq!(by_buckets(200), u64::MAX);
    }

    /// The closest 8 of 12 searches are 96 gaps: their spread is 1/√96 = 10 % at best, so
    /// "within 15 %" is asked of the root mean square.
    #[test]
    fn g12_twelve_searches_estimate_the_size_within_fifteen_percent() {
        const NODES: f64 = 60_000.0;
        const TRIALS: u32 = 1_000;
        let mut rng = ChaCha8Rng::seed_from_u64(12);
        let target = NodeId([0; 20]);
        let (mut squares, mut sum) = (0.0, 0.0);
        for _ in 0..TRIALS {
            let mut size = SizeEstimate::new();
            for _ in 0..12 {
                // Gaps between random points are exponential.
                let mut at = 0.0;
                let near: Vec<_> = (0..8)
                    .map(|_| {
                        let uniform = (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
                        at -= uniform.ln() / NODES;
                        let mut id = [0; 20];
                        let first = (at * 2f64.powi(64)) as u64;
                        id[..8].copy_from_slice(&first.to_be_bytes());
                        NodeId(id)
                    })
                    .collect();
                size.add(&target, &near);
            }
            let off = size.get() as f64 / NODES - 1.0;
            squares += off * off / f64::from(TRIALS);
            sum += off / f64::from(TRIALS);
        }
        assert!(squares.sqrt() < 0.12, "{}", squares.sqrt());
        assert!(sum.abs() < 0.015, "bias {sum}");
    }

    #[test]
    fn nothing_is_known_before_the_first_search() {
        let size = SizeEstimate::new();
        assert_eq!(size.get(), 0);
        assert_eq!(size.expected_kth_distance(8), None);
    }

    #[test]
    fn one_faked_crowd_moves_the_estimate_little() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let nodes: Vec<_> = (0..2_000).map(|_| id(&mut rng)).collect();
        let mut size = SizeEstimate::new();
        for _ in 0..32 {
            let target = id(&mut rng);
            let near = closest(&target, &nodes);
            size.add(&target, &near);
        }
        let before = size.get();
        let target = NodeId([7; 20]);
        size.add(&target, &[target; 8]);
        assert!(size.get() >= before && size.get() < before + before / 20);
    }

    quickcheck! {
        fn any_ids_give_some_size(targets: Vec<u64>, ids: Vec<u64>) -> bool {
            let widen = |n: &u64| {
                let mut id = [0; 20];
                id[..8].copy_from_slice(&n.to_be_bytes());
                NodeId(id)
            };
            let ids: Vec<_> = ids.iter().map(widen).collect();
            let mut size = SizeEstimate::new();
            for target in &targets {
                size.add(&widen(target), &ids);
            }
            size.searches() <= MEMORY && (size.get() == 0 || size.searches() > 0)
        }
    }
}
