//! Links: delay, bandwidth with a finite queue, loss, reordering, duplication, corruption, MTU.
//!
//! A link has two directions that share no state. All arithmetic is in integers: what a direction
//! does to a packet follows from its configuration, its state and its own random numbers, and is
//! the same on every machine. A queue needs no events, because its length follows from the time at
//! which the line falls idle.
//!
//! [`region`] adds the distances of the core, between the regions of the world.

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

/// The link between a device and its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// From the device to its parent.
    pub up: Direction,
    /// From the parent to the device.
    pub down: Direction,
}

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direction {
    /// The time of propagation.
    pub delay: Delay,
    /// The bandwidth. Without one, packets take no time to be sent and never queue.
    pub rate: Option<Rate>,
    /// Loss by chance.
    pub loss: Loss,
    /// The number of packets in a million that are delayed by up to `reorder_by` more, so that
    /// others may overtake them. All other packets stay in order, whatever the distribution of the
    /// delay.
    pub reorder_ppm: u32,
    /// The longest additional delay of a reordered packet.
    pub reorder_by: Duration,
    /// The number of packets in a million that arrive twice.
    pub duplicate_ppm: u32,
    /// The number of packets in a million that arrive with one bit changed, behind the ports.
    pub corrupt_ppm: u32,
    /// The longest packet in bytes. A longer one is split if that is allowed (IPv4 without "don't
    /// fragment"; a fragment is not split again), and otherwise answered with an ICMP error.
    pub mtu: u32,
}

/// A bandwidth and the queue before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bits per second; 0 counts as 1.
    pub bits_per_second: u64,
    /// The bytes that may wait. A packet that does not fit is dropped (drop-tail); an idle line
    /// always accepts a packet.
    pub queue: u32,
}

impl Rate {
    /// Creates a rate whose queue holds what is sent in `buffer`, and at least ten full packets.
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

    /// The nanoseconds that sending `bytes` takes.
    const fn time_of(&self, bytes: u64) -> u64 {
        let rate = if self.bits_per_second == 0 {
            1
        } else {
            self.bits_per_second
        };
        (bytes * 8).saturating_mul(1_000_000_000).div_ceil(rate)
    }

    /// The bytes that are sent in `nanos` nanoseconds.
    const fn bytes_in(&self, nanos: u64) -> u64 {
        (nanos as u128 * self.bits_per_second as u128 / 8_000_000_000) as u64
    }
}

/// How packets are lost by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// No loss.
    #[default]
    None,
    /// Each packet is lost independently, with this chance in a million.
    Random(u32),
    /// Losses in bursts, after Gilbert (1960) and Elliott (1963): a good and a bad state, each left
    /// with its own chance before each packet. All chances are in a million.
    Burst {
        /// The chance of going from the good state to the bad one.
        worsen: u32,
        /// The chance of going from the bad state to the good one.
        mend: u32,
        /// The chance of loss in the good state.
        good: u32,
        /// The chance of loss in the bad state.
        bad: u32,
    },
}

impl Direction {
    /// A direction that only delays packets: no limit and no faults.
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

    /// The delay, if that is all that this direction does to a packet that fits.
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

/// The MTU of Ethernet.
const ETHERNET_MTU: u32 = 1_500;

/// A change of a line's rate: the bytes that wait stay, and take another time to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// The time of the change, in nanoseconds.
    now: u64,
    /// The bits per second before the change.
    old: u64,
    /// The bits per second after the change; `None` means unlimited.
    new: Option<u64>,
}

impl Pace {
    /// The time, in nanoseconds, at which a packet is sent that was to be sent at `left` before the
    /// change.
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
    /// When everything that was accepted will have been sent, in nanoseconds.
    idle_at: u64,
    /// When the last packet that kept its order arrives.
    last_arrival: Instant,
    dice: SplitMix64,
    /// The line is in the bad state of [`Loss::Burst`].
    bad: bool,
}

/// What happens to a packet that is put on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The packet does not arrive.
    Dropped(Rule),
    /// The packet arrives.
    Arrives {
        /// The time of arrival.
        at: Instant,
        /// When its last bit was sent, in nanoseconds; 0 when no rate is set.
        sent: u64,
        /// The time at which a duplicate arrives, if there is one.
        again: Option<Instant>,
        /// The packet arrives with one bit changed, and this number selects which.
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

    /// Returns `true` with a chance of `ppm` in a million.
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
        // A packet that is lost has used the line all the same.
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

    /// Changes the rate of the line. Returns how that affects the packets on it, if any wait.
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

    /// Keeps the order after packets on the line were planned again: the last of them arrives at
    /// `last`.
    pub(crate) const fn keep_order_from(&mut self, last: Instant) {
        self.last_arrival = last;
    }

    /// The bytes that wait.
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
