//! Links: from a preset and changes to a configuration, and descriptions of configurations.

use std::time::Duration;

use super::Link;
use crate::{
    link::{Delay, Direction, LinkConfig, Loss, Rate},
    report::units,
};

/// The time that a queue holds when only the bandwidth is given.
const BUFFER: Duration = Duration::from_millis(100);
/// The largest additional delay of a packet that others overtake.
const REORDER_BY: Duration = Duration::from_millis(20);

/// The preset of links that name none.
const DEFAULT: &str = "lan";

/// The configuration of a link.
pub(crate) fn config(link: &Link) -> LinkConfig {
    let name = link.preset.as_deref().unwrap_or(DEFAULT);
    // Names were checked when the scenario was read.
    let mut config = LinkConfig::preset(name).unwrap_or_else(LinkConfig::lan);
    change(&mut config.up, link, link.up);
    change(&mut config.down, link, link.down);
    config
}

fn change(direction: &mut Direction, link: &Link, rate: Option<Option<u64>>) {
    if link.delay.is_some() || link.jitter.is_some() {
        let from = link.delay.unwrap_or_else(|| direction.delay.least());
        direction.delay = match link.jitter {
            Some(jitter) if !jitter.is_zero() => Delay::Uniform {
                from,
                to: from + jitter,
            },
            _ => Delay::Fixed(from),
        };
    }
    match rate {
        None => {}
        Some(None) => direction.rate = None,
        Some(Some(bits)) => direction.rate = Some(Rate::buffered(bits, BUFFER)),
    }
    if let (Some(queue), Some(rate)) = (link.queue, &mut direction.rate) {
        rate.queue = u32::try_from(queue).unwrap_or(u32::MAX);
    }
    if let Some(ppm) = link.loss {
        direction.loss = if ppm == 0 {
            Loss::None
        } else {
            Loss::Random(ppm)
        };
    }
    if let Some(ppm) = link.reorder {
        direction.reorder_ppm = ppm;
        direction.reorder_by = direction.reorder_by.max(REORDER_BY);
    }
    if let Some(ppm) = link.duplicate {
        direction.duplicate_ppm = ppm;
    }
    if let Some(ppm) = link.corrupt {
        direction.corrupt_ppm = ppm;
    }
    if let Some(mtu) = link.mtu {
        direction.mtu = mtu.into();
    }
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
