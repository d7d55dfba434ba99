//! Links of common kinds. Their figures are round ones, of the order that public measurements give
//! for the access line alone, with the long queues ("bufferbloat") for which such lines are known.
//! They were chosen for plausibility and are not measurements.

use std::time::Duration;

use super::{Delay, Direction, LinkConfig, Loss, Rate, Tail};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const MBIT: u64 = 1_000_000;

impl Direction {
    const fn rated(delay: Delay, bits_per_second: u64, buffer: Duration) -> Self {
        let mut direction = Self::delayed(Duration::ZERO);
        direction.delay = delay;
        direction.rate = Some(Rate::buffered(bits_per_second, buffer));
        direction
    }

    const fn with_loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    const fn with_mtu(mut self, mtu: u32) -> Self {
        self.mtu = mtu;
        self
    }
}

/// A function that makes the configuration of a preset.
pub type Preset = fn() -> LinkConfig;

impl LinkConfig {
    /// Every preset with its name in scenario files.
    pub const PRESETS: &'static [(&'static str, Preset)] = &[
        ("perfect", Self::perfect),
        ("lan", Self::lan),
        ("fibre", Self::fibre),
        ("cable", Self::cable),
        ("dsl", Self::dsl),
        ("mobile-4g", Self::mobile_4g),
        ("satellite", Self::satellite),
        ("modem", Self::modem),
    ];

    /// The preset of this name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let found = Self::PRESETS.iter().find(|(n, _)| *n == name);
        found.map(|(_, preset)| preset())
    }

    /// A link that is the same in both directions.
    #[must_use]
    pub fn both(direction: Direction) -> Self {
        Self {
            up: direction.clone(),
            down: direction,
        }
    }

    /// A link with a fixed delay in each direction and nothing else.
    #[must_use]
    pub fn delayed(one_way: Duration) -> Self {
        Self::both(Direction::delayed(one_way))
    }

    /// A link without delay, limit or faults, which carries any packet.
    #[must_use]
    pub fn perfect() -> Self {
        Self::both(Direction::delayed(Duration::ZERO).with_mtu(u32::MAX))
    }

    /// Switched Ethernet at 1 Gbit/s.
    #[must_use]
    pub fn lan() -> Self {
        Self::both(Direction::rated(
            Delay::Fixed(Duration::from_micros(50)),
            1_000 * MBIT,
            ms(4),
        ))
    }

    /// Fibre to the home: 1 Gbit/s down, 500 Mbit/s up.
    #[must_use]
    pub fn fibre() -> Self {
        let delay = Delay::Fixed(ms(2));
        Self {
            up: Direction::rated(delay, 500 * MBIT, ms(10)),
            down: Direction::rated(delay, 1_000 * MBIT, ms(10)),
        }
    }

    /// Cable (DOCSIS): 250 Mbit/s down, 25 Mbit/s up, request-and-grant jitter, a long queue up.
    #[must_use]
    pub fn cable() -> Self {
        let delay = |to| Delay::Uniform {
            from: ms(5),
            to: ms(to),
        };
        Self {
            up: Direction::rated(delay(11), 25 * MBIT, ms(250)),
            down: Direction::rated(delay(8), 250 * MBIT, ms(50)),
        }
    }

    /// VDSL with interleaving and PPPoE: 50 Mbit/s down, 10 Mbit/s up, 1 492 bytes.
    #[must_use]
    pub fn dsl() -> Self {
        let delay = Delay::Fixed(ms(9));
        Self {
            up: Direction::rated(delay, 10 * MBIT, ms(200)).with_mtu(1_492),
            down: Direction::rated(delay, 50 * MBIT, ms(100)).with_mtu(1_492),
        }
    }

    /// LTE: 40 Mbit/s down, 12 Mbit/s up, a heavy tail, losses in bursts at handover, 1 428 bytes
    /// inside the operator's tunnel.
    #[must_use]
    pub fn mobile_4g() -> Self {
        let delay = Delay::Pareto {
            least: ms(18),
            scale: ms(6),
            tail: Tail::Medium,
            most: ms(800),
        };
        let loss = Loss::Burst {
            worsen: 200,
            mend: 100_000,
            good: 100,
            bad: 300_000,
        };
        let line = |rate, queue| {
            Direction::rated(delay, rate, queue)
                .with_loss(loss)
                .with_mtu(1_428)
        };
        Self {
            up: line(12 * MBIT, ms(600)),
            down: line(40 * MBIT, ms(400)),
        }
    }

    /// A geostationary satellite: 20 Mbit/s down, 3 Mbit/s up, 280 ms each way.
    #[must_use]
    pub fn satellite() -> Self {
        let delay = Delay::Normal {
            mean: ms(280),
            deviation: ms(8),
        };
        let line = |rate| Direction::rated(delay, rate, ms(500)).with_loss(Loss::Random(2_000));
        Self {
            up: line(3 * MBIT),
            down: line(20 * MBIT),
        }
    }

    /// A telephone modem (V.90): 53 kbit/s down, 33.6 kbit/s up, 576 bytes.
    #[must_use]
    pub fn modem() -> Self {
        let line = |rate| Direction::rated(Delay::Fixed(ms(60)), rate, ms(2_000)).with_mtu(576);
        Self {
            up: line(33_600),
            down: line(53_000),
        }
    }
}
