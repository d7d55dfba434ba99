//! Links: delay, bandwidth with a finite queue, loss, reordering, duplication, corruption, MTU.
//!
//! A link has two directions that share no state. All arithmetic is in integers: what a direction
//! does to a packet follows from its configuration, its state and its own random numbers, and is
//! the same on every machine. A queue needs no events, because its length follows from the time at
//! which the line falls idle. The exceptions are the [disciplines](Discipline) that choose a packet
//! when it is sent.
//!
//! ```
//! use std::time::Duration;
//! use dunlin_sim::link::{CodelConfig, Discipline, Direction, LinkConfig, Loss, Rate};
//!
//! let mut link = LinkConfig::delayed(Duration::from_millis(10));
//! // Up: 10 Mbit/s, with a queue of a second that CoDel keeps short.
//! link.up.rate = Some(Rate::buffered(10_000_000, Duration::from_secs(1)));
//! link.up.discipline = Discipline::Codel(CodelConfig::default());
//! // Down: a hundredth of the packets is lost, ten in a row on average.
//! link.down.loss = Loss::bursts(10_000, 10).expect("possible");
//! ```
//!
//! [`region`] adds the distances of the core, between the regions of the world.

mod delay;
mod loss;
mod presets;
pub(crate) mod queue;
pub mod region;

use std::{collections::VecDeque, time::Duration};

use dunlin_core::Instant;
use rand_core::{Rng, SeedableRng};
use rand_xoshiro::SplitMix64;

use crate::packet::verdict::Rule;

pub use delay::{Delay, Tail};
pub use loss::Loss;
pub use presets::Preset;
pub use queue::{CodelConfig, Discipline, FqCodelConfig, RedConfig};

use queue::{Limit, red::Average};

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
    /// The packets that may wait, besides the limit of bytes in `rate`; the one that is being sent
    /// does not count. `None` for any number.
    pub packets: Option<u32>,
    /// Which packets the queue drops and sends.
    pub discipline: Discipline,
    /// Loss by chance.
    pub loss: Loss,
    /// Packets may overtake one another when their delays differ. Otherwise a packet arrives no
    /// earlier than those before it, whatever the distribution of the delay.
    pub overtaking: bool,
    /// The number of packets in a million that are delayed by up to `reorder_by` more, so that
    /// others may overtake them.
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
    pub(crate) const fn time_of(&self, bytes: u64) -> u64 {
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

impl Direction {
    /// A direction that only delays packets: no limit and no faults.
    #[must_use]
    pub const fn delayed(delay: Duration) -> Self {
        Self {
            delay: Delay::Fixed(delay),
            rate: None,
            packets: None,
            discipline: Discipline::DropTail,
            loss: Loss::None,
            overtaking: false,
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

    /// The same direction with another discipline of its queue.
    #[must_use]
    pub const fn with_discipline(mut self, discipline: Discipline) -> Self {
        self.discipline = discipline;
        self
    }

    /// Returns `true` when packets are kept in a queue and chosen when they are sent.
    pub(crate) const fn keeps_packets(&self) -> bool {
        self.rate.is_some() && self.discipline.keeps_packets()
    }

    /// What may wait in a queue that keeps packets.
    pub(crate) fn limit(&self) -> Limit {
        Limit {
            bytes: self.rate.map_or(u32::MAX, |rate| rate.queue),
            packets: self.packets.unwrap_or(u32::MAX),
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
    /// What is needed for a limit of packets or for RED.
    ledger: Option<Box<Ledger>>,
}

/// What only some queues need to know.
#[derive(Clone, Debug)]
struct Ledger {
    average: Average,
    /// When each packet that waits will begin to be sent, in nanoseconds.
    begins: VecDeque<u64>,
}

/// The mean length of the packets for which RED counts how long the line was idle.
const RED_MEAN: u64 = 1_000;

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
            ledger: None,
        }
    }

    /// Puts a packet of `len` bytes on the line.
    pub(crate) fn offer(&mut self, config: &Direction, now: Instant, len: usize) -> Fate {
        if len as u64 > u64::from(config.mtu) {
            return Fate::Dropped(Rule::LinkTooBig);
        }
        let Some(rate) = &config.rate else {
            return self.travel(config, now, 0);
        };
        let now = nanos(now);
        let waiting = rate.bytes_in(self.idle_at.saturating_sub(now));
        if let Discipline::Red(red) = &config.discipline
            && self.drops_early(red, rate, now, waiting)
        {
            return Fate::Dropped(Rule::LinkManaged);
        }
        if waiting > 0 && waiting + len as u64 > u64::from(rate.queue) {
            return Fate::Dropped(Rule::LinkQueueFull);
        }
        if let Some(most) = config.packets
            && !self.takes_packet(now, most)
        {
            return Fate::Dropped(Rule::LinkQueueFull);
        }
        self.send(config, now, len)
    }

    /// Sends a packet of `len` bytes as soon as the line is idle, and no earlier than at `now`, in
    /// nanoseconds.
    pub(crate) fn send(&mut self, config: &Direction, now: u64, len: usize) -> Fate {
        let takes = config.rate.map_or(0, |rate| rate.time_of(len as u64));
        self.idle_at = self.idle_at.max(now).saturating_add(takes);
        let sent = Instant::from_micros(self.idle_at.div_ceil(1_000));
        self.travel(config, sent, self.idle_at)
    }

    /// Decides what happens to a packet after it was sent.
    fn travel(&mut self, config: &Direction, sent: Instant, nanos: u64) -> Fate {
        // A packet that is lost has used the line all the same.
        if config.loss.takes(&mut self.bad, &mut self.dice) {
            return Fate::Dropped(Rule::LinkLost);
        }
        let mut at = sent + config.delay.sample(&mut self.dice);
        if chance(&mut self.dice, config.reorder_ppm) {
            at += below(&mut self.dice, config.reorder_by);
        } else if !config.overtaking {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let again = chance(&mut self.dice, config.duplicate_ppm)
            .then(|| at + below(&mut self.dice, Duration::from_millis(10)));
        let flip = chance(&mut self.dice, config.corrupt_ppm).then(|| self.dice.next_u32());
        Fate::Arrives {
            at,
            sent: nanos,
            again,
            flip,
        }
    }

    fn ledger(&mut self) -> &mut Ledger {
        self.ledger.get_or_insert_with(|| {
            Box::new(Ledger {
                average: Average::new(),
                begins: VecDeque::new(),
            })
        })
    }

    fn drops_early(&mut self, red: &RedConfig, rate: &Rate, now: u64, waiting: u64) -> bool {
        let idle = now.saturating_sub(self.idle_at) / rate.time_of(RED_MEAN).max(1);
        let mut dice = self.dice.clone();
        let drops = (self.ledger().average).drops(red, waiting, idle, &mut dice);
        self.dice = dice;
        drops
    }

    /// Counts a packet, unless `most` packets wait already. One that is sent at once does not wait.
    fn takes_packet(&mut self, now: u64, most: u32) -> bool {
        let begin = self.idle_at;
        let begins = &mut self.ledger().begins;
        while begins.front().is_some_and(|at| *at <= now) {
            begins.pop_front();
        }
        if begin <= now {
            return true;
        }
        let room = begins.len() < most as usize;
        if room {
            begins.push_back(begin);
        }
        room
    }

    /// When the line will be idle, in nanoseconds.
    pub(crate) const fn idle_at(&self) -> u64 {
        self.idle_at
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
        let now = nanos(now);
        if Some(old) == new || self.idle_at <= now {
            return None;
        }
        let pace = Pace { now, old, new };
        self.idle_at = pace.sent(self.idle_at);
        if let Some(ledger) = &mut self.ledger {
            ledger.begins.iter_mut().for_each(|at| *at = pace.sent(*at));
        }
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
            rate.bytes_in(self.idle_at.saturating_sub(nanos(now)))
        })
    }
}

/// A time in nanoseconds.
pub(crate) const fn nanos(time: Instant) -> u64 {
    time.as_micros().saturating_mul(1_000)
}

/// Returns `true` with a chance of `ppm` in a million.
fn chance(dice: &mut SplitMix64, ppm: u32) -> bool {
    ppm > 0 && (u64::from(dice.next_u32()) * 1_000_000) >> 32 < u64::from(ppm)
}

/// A random time up to `most`, in whole microseconds.
fn below(dice: &mut SplitMix64, most: Duration) -> Duration {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX - 1);
    let wide = u128::from(dice.next_u64()) * (u128::from(most) + 1);
    Duration::from_micros((wide >> 64) as u64)
}

#[cfg(test)]
mod tests;
