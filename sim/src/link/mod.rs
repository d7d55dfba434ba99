//! Links: delay, bandwidth with a finite queue, loss, reordering, duplication, corruption, MTU.
//!
//! A link has two directions that share nothing. Everything is in integers: what a direction does
//! to a packet follows from its configuration, its state and its own random numbers, the same on
//! every machine. A queue needs no events: how full it is follows from when the line falls idle.

mod delay;
mod presets;
pub mod region;

use std::time::Duration;

use dunlin_core::Instant;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use crate::packet::verdict::Rule;

pub use delay::{Delay, Tail};
pub use presets::Preset;

/// A link between a node and its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// From the node to its parent.
    pub up: Direction,
    /// From the parent to the node.
    pub down: Direction,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Propagation.
    pub delay: Delay,
    /// Bandwidth; without it packets take no time to be sent and never queue.
    pub rate: Option<Rate>,
    /// See [`Loss`].
    pub loss: Loss,
    /// So many packets of a million are late by up to `reorder_by`, and may be overtaken. Without
    /// it packets stay in order, whatever the delay's distribution.
    pub reorder_ppm: u32,
    /// See `reorder_ppm`.
    pub reorder_by: Duration,
    /// So many packets of a million arrive twice.
    pub duplicate_ppm: u32,
    /// So many packets of a million arrive with one bit changed, behind their ports.
    pub corrupt_ppm: u32,
    /// Longest packet, in bytes. A longer one is split if that is allowed (IPv4 without "don't
    /// fragment"; a fragment is not split again), else answered with an ICMP error.
    pub mtu: u32,
}

/// Bandwidth and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second; 0 counts as 1.
    pub bits_per_second: u64,
    /// What may wait, in bytes. A packet that does not fit is dropped (drop-tail). A packet is
    /// always sent when the line is idle.
    pub queue: u32,
}

impl Rate {
    /// With a queue that holds `buffer` of sending, and at least ten full packets.
    #[must_use]
    pub const fn buffered(bits_per_second: u64, buffer: Duration) -> Self {
        let bytes = bits_per_second as u128 * buffer.as_micros() / 8_000_000;
        let queue = if bytes < 15_000 {
            15_000
        } else if bytes > u32::MAX as u128 {
            u32::MAX
        } else {
            bytes as u32
        };
        Self {
            bits_per_second,
            queue,
        }
    }

    /// Nanoseconds that `bytes` take.
    const fn time_of(&self, bytes: u64) -> u64 {
        let rate = if self.bits_per_second == 0 {
            1
        } else {
            self.bits_per_second
        };
        (bytes * 8).saturating_mul(1_000_000_000).div_ceil(rate)
    }

    /// Bytes that `nanos` send.
    const fn bytes_in(&self, nanos: u64) -> u64 {
        (nanos as u128 * self.bits_per_second as u128 / 8_000_000_000) as u64
    }
}

/// How packets are lost by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// Never.
    #[default]
    None,
    /// Each for itself, so many of a million.
    Random(u32),
    /// In bursts, after Gilbert (1960) and Elliott (1963): a good and a bad state, each left
    /// with its own chance before each packet. All of a million.
    Burst {
        /// From good to bad.
        worsen: u32,
        /// From bad to good.
        mend: u32,
        /// Lost while good.
        good: u32,
        /// Lost while bad.
        bad: u32,
    },
}

impl Direction {
    /// Nothing but a delay: no limit, no fault.
    #[must_use]
    pub const fn delayed(delay: Duration) -> Self {
        Self {
            delay: Delay::Fixed(delay),
            rate: None,
            loss: Loss::None,
            reorder_ppm: 0,
            reorder_by: Duration::ZERO,
            duplicate_ppm: 0,
            corrupt_ppm: 0,
            mtu: ETHERNET_MTU,
        }
    }

    /// The delay, if that is all this direction does to a packet that fits.
    pub(crate) const fn steady(&self) -> Option<Duration> {
        match (self.delay, self.rate, self.loss) {
            (Delay::Fixed(delay), None, Loss::None)
                if self.reorder_ppm | self.duplicate_ppm | self.corrupt_ppm == 0 =>
            {
                Some(delay)
            }
            _ => None,
        }
    }
}

/// What Ethernet carries.
const ETHERNET_MTU: u32 = 1_500;

/// How what waits on a line is affected by a change of its rate: the bytes stay, and take another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// When it changes, in nanoseconds.
    now: u64,
    /// Bits per second until then.
    old: u64,
    /// And from then on; `None`: no limit.
    new: Option<u64>,
}

impl Pace {
    /// When that is sent which was to be sent at `left`, in nanoseconds.
    pub(crate) fn sent(&self, left: u64) -> u64 {
        let waits = u128::from(left.saturating_sub(self.now)) * u128::from(self.old);
        match self.new {
            _ if left <= self.now => left,
            None => self.now,
            Some(new) => {
                let waits = waits.div_ceil(u128::from(new));
                (self.now).saturating_add(u64::try_from(waits).unwrap_or(u64::MAX))
            }
        }
    }
}

/// The state of one direction.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When all that was accepted will have been sent, in nanoseconds.
    idle_at: u64,
    /// When the last packet that kept its place arrives.
    last_arrival: Instant,
    dice: SplitMix64,
    /// The bad state of [`Loss::Burst`].
    bad: bool,
}

/// What becomes of a packet that is put on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It does not arrive.
    Dropped(Rule),
    /// It arrives.
    Arrives {
        /// When.
        at: Instant,
        /// When its last bit was sent, in nanoseconds; 0 where no rate is set.
        sent: u64,
        /// And once more, then.
        again: Option<Instant>,
        /// With one bit changed; which, follows from this number.
        flip: Option<u32>,
    },
}

impl Line {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            idle_at: 0,
            last_arrival: Instant::ORIGIN,
            dice: SplitMix64::seed_from_u64(seed),
            bad: false,
        }
    }

    /// Whether one in a million, `ppm` times over, it does.
    fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && (u64::from(self.dice.next_u32()) * 1_000_000) >> 32 < u64::from(ppm)
    }

    fn lost(&mut self, loss: Loss) -> bool {
        match loss {
            Loss::None => false,
            Loss::Random(ppm) => self.chance(ppm),
            Loss::Burst {
                worsen,
                mend,
                good,
                bad,
            } => {
                let flip = if self.bad { mend } else { worsen };
                self.bad ^= self.chance(flip);
                self.chance(if self.bad { bad } else { good })
            }
        }
    }

    /// Puts a packet of `len` bytes on the line.
    pub(crate) fn offer(&mut self, config: &Direction, now: Instant, len: usize) -> Fate {
        if len as u64 > u64::from(config.mtu) {
            return Fate::Dropped(Rule::LinkTooBig);
        }
        let (mut sent, mut sent_nanos) = (now, 0);
        if let Some(rate) = &config.rate {
            let now = now.as_micros().saturating_mul(1_000);
            let waiting = rate.bytes_in(self.idle_at.saturating_sub(now));
            if waiting > 0 && waiting + len as u64 > u64::from(rate.queue) {
                return Fate::Dropped(Rule::LinkQueueFull);
            }
            let begin = self.idle_at.max(now);
            self.idle_at = begin.saturating_add(rate.time_of(len as u64));
            sent = Instant::from_micros(self.idle_at.div_ceil(1_000));
            sent_nanos = self.idle_at;
        }
        // What is lost was sent all the same.
        if self.lost(config.loss) {
            return Fate::Dropped(Rule::LinkLost);
        }
        let mut at = sent + config.delay.sample(&mut self.dice);
        if self.chance(config.reorder_ppm) {
            at += below(&mut self.dice, config.reorder_by);
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let again = self
            .chance(config.duplicate_ppm)
            .then(|| at + below(&mut self.dice, Duration::from_millis(10)));
        let flip = self
            .chance(config.corrupt_ppm)
            .then(|| self.dice.next_u32());
        Fate::Arrives {
            at,
            sent: sent_nanos,
            again,
            flip,
        }
    }

    /// Changes the rate of the line; how that affects the packets on it, if it does.
    pub(crate) fn change(
        &mut self,
        old: Option<Rate>,
        new: Option<Rate>,
        now: Instant,
    ) -> Option<Pace> {
        let bits = |rate: Rate| rate.bits_per_second.max(1);
        let (old, new) = (old.map(bits)?, new.map(bits));
        let now = now.as_micros().saturating_mul(1_000);
        if Some(old) == new || self.idle_at <= now {
            return None;
        }
        let pace = Pace { now, old, new };
        self.idle_at = pace.sent(self.idle_at);
        Some(pace)
    }

    /// What is on the line arrives at other times now: the last of it, in order, at `last`.
    pub(crate) const fn keep_order_from(&mut self, last: Instant) {
        self.last_arrival = last;
    }

    /// Bytes that wait.
    pub(crate) fn backlog(&self, config: &Direction, now: Instant) -> u64 {
        config.rate.map_or(0, |rate| {
            rate.bytes_in(
                self.idle_at
                    .saturating_sub(now.as_micros().saturating_mul(1_000)),
            )
        })
    }
}

/// A random time up to `most`, in whole microseconds.
fn below(dice: &mut SplitMix64, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
    let wide = u128::from(dice.next_u64()) * (u128::from(most) + 1);
    Duration::from_micros((wide >> 64) as u64)
}

#[cfg(test)]
mod tests;
