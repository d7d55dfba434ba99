//! The regions of the world, and how long packets take from one to another.

use std::time::Duration;

/// A part of the world, named for where its networks meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Virginia, New York.
    NorthAmericaEast,
    /// California, Oregon.
    NorthAmericaWest,
    /// São Paulo.
    SouthAmerica,
    /// Frankfurt, Amsterdam, London, Paris.
    #[default]
    EuropeWest,
    /// Warsaw, Helsinki.
    EuropeEast,
    /// Bahrain, Dubai.
    MiddleEast,
    /// Johannesburg, Cape Town.
    Africa,
    /// Mumbai.
    India,
    /// Singapore.
    SoutheastAsia,
    /// Tokyo, Seoul.
    EastAsia,
    /// Sydney.
    Oceania,
}

const REGIONS: usize = Region::ALL.len();

impl Region {
    /// Every region, in the order of the matrix.
    pub const ALL: &'static [Self] = &[
        Self::NorthAmericaEast,
        Self::NorthAmericaWest,
        Self::SouthAmerica,
        Self::EuropeWest,
        Self::EuropeEast,
        Self::MiddleEast,
        Self::Africa,
        Self::India,
        Self::SoutheastAsia,
        Self::EastAsia,
        Self::Oceania,
    ];

    /// The region's name in scenario files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NorthAmericaEast => "na-east",
            Self::NorthAmericaWest => "na-west",
            Self::SouthAmerica => "sa",
            Self::EuropeWest => "eu-west",
            Self::EuropeEast => "eu-east",
            Self::MiddleEast => "me",
            Self::Africa => "africa",
            Self::India => "india",
            Self::SoutheastAsia => "asia-se",
            Self::EastAsia => "asia-east",
            Self::Oceania => "oceania",
        }
    }

    /// The region of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|r| r.name() == name)
    }
}

/// How long a packet takes through the core from any region to any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionMatrix {
    /// The time one way, in microseconds.
    one_way: [[u32; REGIONS]; REGIONS],
    /// The largest additional time, per mille, evenly distributed.
    jitter: u16,
    /// At least one entry is not zero.
    any: bool,
}

impl RegionMatrix {
    /// No distances: the state of a new world.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            one_way: [[0; REGIONS]; REGIONS],
            jitter: 0,
            any: false,
        }
    }

    /// Distances on earth, without jitter: round figures of the order that public measurements
    /// between such places give. They were chosen for plausibility and are not measurements.
    #[must_use]
    pub fn earth() -> Self {
        // Round-trip times in milliseconds: the lower triangle with the diagonal.
        const ROUND_TRIP: [&[u32]; REGIONS] = [
            &[6],
            &[64, 6],
            &[116, 176, 6],
            &[90, 148, 204, 8],
            &[106, 164, 222, 26, 8],
            &[168, 222, 284, 96, 112, 8],
            &[226, 284, 334, 156, 174, 200, 12],
            &[190, 222, 304, 122, 138, 36, 260, 8],
            &[220, 168, 328, 158, 176, 90, 316, 58, 6],
            &[156, 104, 258, 224, 240, 158, 380, 126, 70, 8],
            &[200, 140, 312, 248, 266, 182, 406, 146, 94, 106, 8],
        ];
        let mut matrix = Self::none();
        for (a, row) in ROUND_TRIP.iter().enumerate() {
            for (b, ms) in row.iter().enumerate() {
                let one_way = Duration::from_micros(u64::from(*ms) * 500);
                matrix.set(Region::ALL[a], Region::ALL[b], one_way);
                matrix.set(Region::ALL[b], Region::ALL[a], one_way);
            }
        }
        matrix
    }

    /// Sets the time one way from `a` to `b`, at most an hour.
    pub fn set(&mut self, a: Region, b: Region, one_way: Duration) {
        let micros = one_way.min(Duration::from_secs(3_600)).as_micros() as u32;
        self.one_way[a as usize][b as usize] = micros;
        self.any = self.one_way.iter().flatten().any(|d| *d > 0);
    }

    /// Lets each packet take up to `per_mille` longer, independently of the packets before it:
    /// packets may overtake one another.
    #[must_use]
    pub const fn with_jitter(mut self, per_mille: u16) -> Self {
        self.jitter = per_mille;
        self
    }

    /// The time one way, without jitter.
    #[must_use]
    pub fn one_way(&self, a: Region, b: Region) -> Duration {
        Duration::from_micros(self.one_way[a as usize][b as usize].into())
    }

    /// The microseconds that one packet takes; `dice` gives a random number for it.
    pub(crate) fn sample(&self, a: Region, b: Region, dice: impl FnOnce() -> u64) -> u64 {
        if !self.any {
            return 0;
        }
        let base = u64::from(self.one_way[a as usize][b as usize]);
        if self.jitter == 0 {
            return base;
        }
        let most = base * u64::from(self.jitter) / 1_000;
        base + dice() % (most + 1)
    }
}

impl Default for RegionMatrix {
    fn default() -> Self {
        Self::none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earth_is_symmetric_and_mostly_obeys_the_triangle() {
        let earth = RegionMatrix::earth();
        for (n, a) in Region::ALL.iter().copied().enumerate() {
            assert_eq!(a as usize, n, "the matrix is in the order of ALL");
            assert_eq!(Region::by_name(a.name()), Some(a));
            for b in Region::ALL.iter().copied() {
                assert_eq!(earth.one_way(a, b), earth.one_way(b, a));
                assert!(earth.one_way(a, b) >= earth.one_way(a, a));
                for c in Region::ALL.iter().copied() {
                    // Real routes make detours, but none that is twice as long.
                    let detour = earth.one_way(a, c) + earth.one_way(c, b);
                    assert!(earth.one_way(a, b) <= detour * 2, "{a:?} {b:?} by {c:?}");
                }
            }
        }
    }

    #[test]
    fn jitter_only_adds() {
        let (a, b) = (Region::Africa, Region::Oceania);
        let matrix = RegionMatrix::earth().with_jitter(100);
        let base = matrix.one_way(a, b).as_micros() as u64;
        let all: Vec<u64> = (0..1_000)
            .map(|n| matrix.sample(a, b, || n * 7_919))
            .collect();
        assert!(all.iter().all(|d| (base..=base * 11 / 10).contains(d)));
        assert!(all.iter().max() > all.iter().min());
        assert_eq!(RegionMatrix::none().sample(a, b, || 5), 0);
    }
}
