//! How the queue before a link decides which packets it drops and sends.
//!
//! Drop-tail and RED decide when a packet arrives, so that the time at which it is sent is known at
//! once and a queue needs no events. [`codel`] and [`fq_codel`] decide when the line falls idle,
//! and keep the packets until then.

pub(crate) mod codel;
pub(crate) mod fq_codel;
pub(crate) mod red;

use std::time::Duration;

use self::{codel::Codel, fq_codel::FqCodel};

/// The discipline of a queue. Queues drop packets; they do not mark them (ECN).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// Packets that do not fit are dropped.
    #[default]
    DropTail,
    /// Random early detection (Floyd and Jacobson, 1993).
    Red(RedConfig),
    /// Controlled delay (RFC 8289).
    Codel(CodelConfig),
    /// Fair queues for flows, each with controlled delay (RFC 8290).
    FqCodel(FqCodelConfig),
}

impl Discipline {
    /// Returns `true` when packets are chosen at the time at which they are sent.
    pub(crate) const fn keeps_packets(&self) -> bool {
        matches!(self, Self::Codel(_) | Self::FqCodel(_))
    }
}

/// Random early detection in its gentle variant: below `min` nothing is dropped; from `min` to
/// `max` the chance of a drop rises from 0 to `chance`; from `max` to twice as much it rises to 1.
/// What counts is the average of the bytes that wait, and drops are spread evenly, as in the
/// paper. The chance does not depend on the length of a packet (RFC 7141).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedConfig {
    /// The average, in bytes, from which packets are dropped.
    pub min: u32,
    /// The average, in bytes, at which the chance of a drop is `chance`.
    pub max: u32,
    /// The chance of a drop when the average is `max`, in a million.
    pub chance: u32,
    /// The weight of the latest packet in the average is 2 to the power of minus this.
    pub weight: u8,
}

impl RedConfig {
    /// The thresholds for a queue of `queue` bytes: a sixth and a half of it, so that `max` is three
    /// times `min` as the authors advise, and all is dropped when the average reaches the length
    /// of the queue. The chance is 10 % and the weight 1/512, as they advise, too.
    #[must_use]
    pub const fn of(queue: u32) -> Self {
        Self {
            min: queue / 6,
            max: queue / 2,
            chance: 100_000,
            weight: 9,
        }
    }
}

/// Controlled delay (RFC 8289).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodelConfig {
    /// The delay that is acceptable for longer than `interval`.
    pub target: Duration,
    /// How long the delay may be above the target: a round trip of most connections.
    pub interval: Duration,
}

impl Default for CodelConfig {
    /// The values of RFC 8289 §4.2 and §4.3: 5 ms and 100 ms.
    fn default() -> Self {
        Self {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
        }
    }
}

/// Fair queues, each with controlled delay (RFC 8290).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FqCodelConfig {
    /// The controlled delay of each queue.
    pub codel: CodelConfig,
    /// The number of queues, among which flows are distributed by a hash.
    pub queues: u16,
    /// The bytes that a queue sends in one turn.
    pub quantum: u32,
    /// The packets that may wait in all queues together.
    pub packets: u32,
}

impl Default for FqCodelConfig {
    /// The values of RFC 8290 §5.2: 1 024 queues, a quantum of 1 514 bytes, 10 240 packets.
    fn default() -> Self {
        Self {
            codel: CodelConfig::default(),
            queues: 1_024,
            quantum: 1_514,
            packets: 10_240,
        }
    }
}

/// A packet that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting<T> {
    pub(crate) item: T,
    pub(crate) len: u32,
    /// When it came, in nanoseconds.
    pub(crate) since: u64,
}

/// What a queue that keeps packets did with some of them.
#[derive(Debug)]
pub(crate) enum Gone<T> {
    /// There was no room.
    Full(T),
    /// The discipline dropped the packet to keep the queue short.
    Managed(T),
}

/// A queue that keeps its packets until they are sent.
#[derive(Clone, Debug)]
pub(crate) enum Managed<T> {
    Codel(Codel<T>),
    FqCodel(Box<FqCodel<T>>),
}

impl<T> Managed<T> {
    /// The empty queue of a discipline; `None` for one that does not keep packets.
    pub(crate) fn new(discipline: &Discipline) -> Option<Self> {
        match discipline {
            Discipline::DropTail | Discipline::Red(_) => None,
            Discipline::Codel(config) => Some(Self::Codel(Codel::new(*config))),
            Discipline::FqCodel(config) => Some(Self::FqCodel(Box::new(FqCodel::new(*config)))),
        }
    }

    /// Returns `true` when this is the queue of such a discipline.
    pub(crate) fn is_of(&self, discipline: &Discipline) -> bool {
        match (self, discipline) {
            (Self::Codel(queue), Discipline::Codel(config)) => queue.config() == config,
            (Self::FqCodel(queue), Discipline::FqCodel(config)) => queue.config() == config,
            _ => false,
        }
    }

    /// Adds a packet of the flow with this hash. `gone` receives the packets for which there was no
    /// room.
    pub(crate) fn push(
        &mut self,
        packet: Waiting<T>,
        flow: u64,
        limit: Limit,
        gone: &mut Vec<Gone<T>>,
    ) {
        let (bytes, packets) = (self.bytes(), self.len() as u64);
        let over = bytes > 0 && bytes + u64::from(packet.len) > u64::from(limit.bytes);
        if over || packets > 0 && packets >= u64::from(limit.packets) {
            return gone.push(Gone::Full(packet.item));
        }
        match self {
            Self::Codel(queue) => queue.push(packet),
            Self::FqCodel(queue) => queue.push(packet, flow, gone),
        }
    }

    /// Takes the packet that is sent next, at `now` in nanoseconds. `gone` receives the packets
    /// that were dropped before it.
    pub(crate) fn pop(&mut self, now: u64, gone: &mut Vec<Gone<T>>) -> Option<Waiting<T>> {
        match self {
            Self::Codel(queue) => queue.pop(now, gone),
            Self::FqCodel(queue) => queue.pop(now, gone),
        }
    }

    /// Takes every packet, in the order in which they came.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        match self {
            Self::Codel(queue) => queue.drain(),
            Self::FqCodel(queue) => queue.drain(),
        }
    }

    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Codel(queue) => queue.bytes(),
            Self::FqCodel(queue) => queue.bytes(),
        }
    }

    /// The number of packets that wait.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Codel(queue) => queue.len(),
            Self::FqCodel(queue) => queue.len(),
        }
    }
}

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) bytes: u32,
    pub(crate) packets: u32,
}
