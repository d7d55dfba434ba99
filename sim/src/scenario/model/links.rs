//! Links: from a preset and changes to a configuration, and descriptions of configurations.

use std::time::Duration;

use crate::{
    link::{
        CodelConfig, Delay, Direction, Discipline, FqCodelConfig, LinkConfig, Loss, Rate, RedConfig,
    },
    report::units,
};

/// The time that a queue holds when only the bandwidth is given.
const BUFFER: Duration = Duration::from_millis(100);
/// The largest additional delay of a packet that others overtake.
const REORDER_BY: Duration = Duration::from_millis(20);
/// The bytes for which a packet counts where a queue is limited by packets.
const FULL_PACKET: u32 = 1_500;

/// The preset of links that name none.
const DEFAULT: &str = "lan";

/// A link: a preset and changes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// The name of the preset; `None` for the default.
    pub preset: Option<String>,
    /// Bits per second towards the leaf; the inner `None` means unlimited.
    pub down: Option<Option<u64>>,
    /// Bits per second towards the core.
    pub up: Option<Option<u64>>,
    /// The longest packet in bytes.
    pub mtu: Option<u16>,
    /// What applies to both directions.
    pub both: Side,
    /// What applies towards the core instead.
    pub upwards: Side,
    /// What applies towards the leaf instead.
    pub downwards: Side,
}

/// Changes to one direction of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The one-way delay.
    pub delay: Option<Duration>,
    /// The largest additional delay, evenly distributed.
    pub jitter: Option<Duration>,
    /// Packets with a shorter delay overtake others.
    pub overtaking: Option<bool>,
    /// What may wait before the link.
    pub queue: Option<Limit>,
    /// The discipline of the queue.
    pub discipline: Option<QueueKind>,
    /// The packets that are lost.
    pub loss: Option<Loss>,
    /// The mean number of packets that are lost in a row.
    pub burst: Option<u32>,
    /// The packets in a million that are reordered.
    pub reorder: Option<u32>,
    /// The largest additional delay of a reordered packet.
    pub reorder_by: Option<Duration>,
    /// The packets in a million that are duplicated.
    pub duplicate: Option<u32>,
    /// The packets in a million that have a bit changed.
    pub corrupt: Option<u32>,
}

/// The limit of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Bytes.
    Bytes(u64),
    /// The bytes that are sent in this time.
    Time(Duration),
    /// Packets.
    Packets(u32),
}

/// The discipline of a queue, before its length is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Packets that do not fit are dropped.
    DropTail,
    /// Random early detection; without thresholds, those that suit the queue.
    Red(Option<RedConfig>),
    /// Controlled delay.
    Codel(CodelConfig),
    /// Fair queues with controlled delay.
    FqCodel(CodelConfig),
}

/// A contradiction among the keys of a link: the key, what is wrong, what would be right.
pub(crate) type Wrong = (&'static str, String, String);

impl Link {
    /// Returns `true` when nothing is specified.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Side {
    /// These changes, and where there are none those of `other`.
    fn or(&self, other: &Self) -> Self {
        Self {
            delay: self.delay.or(other.delay),
            jitter: self.jitter.or(other.jitter),
            overtaking: self.overtaking.or(other.overtaking),
            queue: self.queue.or(other.queue),
            discipline: self.discipline.or(other.discipline),
            loss: self.loss.or(other.loss),
            burst: self.burst.or(other.burst),
            reorder: self.reorder.or(other.reorder),
            reorder_by: self.reorder_by.or(other.reorder_by),
            duplicate: self.duplicate.or(other.duplicate),
            corrupt: self.corrupt.or(other.corrupt),
        }
    }

    /// Applies the changes, with a new rate if there is one.
    fn apply(&self, direction: &mut Direction, rate: Option<Option<u64>>) -> Result<(), Wrong> {
        if self.delay.is_some() || self.jitter.is_some() {
            let from = self.delay.unwrap_or_else(|| direction.delay.least());
            direction.delay = match self.jitter {
                Some(jitter) if !jitter.is_zero() => Delay::Uniform {
                    from,
                    to: from + jitter,
                },
                _ => Delay::Fixed(from),
            };
        }
        if let Some(overtaking) = self.overtaking {
            direction.overtaking = overtaking;
        }
        match rate {
            None => {}
            Some(None) => direction.rate = None,
            Some(Some(bits)) => direction.rate = Some(Rate::buffered(bits, BUFFER)),
        }
        self.limit(direction);
        self.discipline(direction)?;
        self.lose(direction)?;
        if let Some(ppm) = self.reorder {
            direction.reorder_ppm = ppm;
            direction.reorder_by = direction.reorder_by.max(REORDER_BY);
        }
        if let Some(by) = self.reorder_by {
            direction.reorder_by = by;
        }
        if let Some(ppm) = self.duplicate {
            direction.duplicate_ppm = ppm;
        }
        if let Some(ppm) = self.corrupt {
            direction.corrupt_ppm = ppm;
        }
        Ok(())
    }

    fn limit(&self, direction: &mut Direction) {
        let (Some(limit), Some(rate)) = (self.queue, &mut direction.rate) else {
            return;
        };
        direction.packets = None;
        match limit {
            Limit::Bytes(bytes) => rate.queue = u32::try_from(bytes).unwrap_or(u32::MAX),
            Limit::Time(time) => {
                let bits = u128::from(rate.bits_per_second) * time.as_micros() / 1_000_000;
                rate.queue = u32::try_from(bits / 8).unwrap_or(u32::MAX);
            }
            Limit::Packets(packets) => {
                rate.queue = u32::MAX;
                direction.packets = Some(packets);
            }
        }
    }

    fn discipline(&self, direction: &mut Direction) -> Result<(), Wrong> {
        let Some(kind) = self.discipline else {
            return Ok(());
        };
        let Some(rate) = direction.rate else {
            if kind == QueueKind::DropTail {
                return Ok(());
            }
            return Err((
                "discipline",
                "packets never wait for this link".into(),
                "give it a bandwidth, such as `up = \"10 Mbit/s\"`".into(),
            ));
        };
        let packets = direction.packets;
        direction.discipline = match kind {
            QueueKind::DropTail => Discipline::DropTail,
            QueueKind::Red(config) => Discipline::Red(config.unwrap_or_else(|| {
                let queue = packets.map_or(rate.queue, |n| n.saturating_mul(FULL_PACKET));
                RedConfig::of(queue)
            })),
            QueueKind::Codel(config) => Discipline::Codel(config),
            QueueKind::FqCodel(codel) => Discipline::FqCodel(FqCodelConfig {
                codel,
                ..FqCodelConfig::default()
            }),
        };
        Ok(())
    }

    fn lose(&self, direction: &mut Direction) -> Result<(), Wrong> {
        if let Some(loss) = self.loss {
            direction.loss = loss;
        }
        let Some(burst) = self.burst else {
            return Ok(());
        };
        let wrong = |what: String, help: &str| Err(("loss-burst", what, help.to_owned()));
        if matches!(self.loss, Some(Loss::Burst { .. })) {
            let help = "leave one of them out: `loss` says it all";
            return wrong("`loss` gives the length of bursts already".into(), help);
        }
        let mean = direction.loss.mean();
        match Loss::bursts(mean, burst) {
            Some(loss) if mean > 0 => direction.loss = loss,
            Some(_) => {
                return wrong("nothing is lost on this link".into(), "add `loss = \"1%\"`");
            }
            None => {
                let what = format!(
                    "a loss of {} % is not possible in bursts of {burst}",
                    f64::from(mean) / 10_000.0
                );
                return wrong(what, "more loss needs longer bursts, and less shorter ones");
            }
        }
        Ok(())
    }
}

/// The configuration of a link, or what is wrong with it.
pub(crate) fn checked(link: &Link) -> Result<LinkConfig, Wrong> {
    let name = link.preset.as_deref().unwrap_or(DEFAULT);
    // Names were checked when the scenario was read.
    let mut config = LinkConfig::preset(name).unwrap_or_else(LinkConfig::lan);
    change(&mut config, link)?;
    Ok(config)
}

/// The configuration of a link, which was checked when the scenario was read.
pub(crate) fn config(link: &Link) -> LinkConfig {
    checked(link).unwrap_or_else(|_| LinkConfig::lan())
}

/// Changes a link, whatever its preset. Stops at what is wrong.
pub(crate) fn change(config: &mut LinkConfig, link: &Link) -> Result<(), Wrong> {
    if let Some(mtu) = link.mtu {
        config.up.mtu = mtu.into();
        config.down.mtu = mtu.into();
    }
    (link.upwards.or(&link.both)).apply(&mut config.up, link.up)?;
    (link.downwards.or(&link.both)).apply(&mut config.down, link.down)
}

/// Describes a link: `10 ms; 50 Mbit/s down, 10 Mbit/s up`.
pub(crate) fn about(link: &LinkConfig) -> String {
    let rate = |d: &Direction| {
        d.rate
            .map_or_else(|| "no limit".into(), |r| units::rate(r.bits_per_second))
    };
    let loss = match link.down.loss {
        Loss::None => "",
        Loss::Random(_) | Loss::Burst { .. } => "; loses packets",
    };
    let varies = match link.down.delay {
        Delay::Fixed(_) => "",
        _ => " and more",
    };
    format!(
        "{}{varies} one way; {} down, {} up{loss}",
        units::time(link.down.delay.least()),
        rate(&link.down),
        rate(&link.up)
    )
}
