//! The keys of a link: those of both directions, and each of them again for one direction.

use std::time::Duration;

use super::keys::Key;
use crate::{
    link::{CodelConfig, Loss, RedConfig},
    scenario::{
        model::{Limit, Link, QueueKind, Side},
        syntax::{
            document::Value,
            value::{self, Wrong},
        },
    },
};

/// Builds the table: the keys of the whole link, then those of a direction for both, for `up-` and
/// for `down-`.
macro_rules! link_keys {
    (whole { $($whole:literal, $wtakes:literal, $wexample:literal, $wdoc:literal
       => |$l:ident, $wv:ident| $wset:expr;)+ }
     each { $($name:literal, $takes:literal, $example:literal, $doc:literal
       => |$s:ident, $v:ident| $set:expr;)+ }) => {
        &[
            $(Key {
                name: $whole,
                takes: $wtakes,
                default: "the preset's",
                example: $wexample,
                doc: $wdoc,
                set: |$l: &mut Link, $wv| { $wset; Ok(()) },
            },)+
            $(Key {
                name: $name,
                takes: $takes,
                default: "the preset's",
                example: $example,
                doc: $doc,
                set: |link: &mut Link, $v| { let $s: &mut Side = &mut link.both; $set; Ok(()) },
            },)+
            $(Key {
                name: concat!("up-", $name),
                takes: "the same",
                default: "the same",
                example: $example,
                doc: concat!("`", $name, "` towards the core only."),
                set: |link: &mut Link, $v| { let $s: &mut Side = &mut link.upwards; $set; Ok(()) },
            },)+
            $(Key {
                name: concat!("down-", $name),
                takes: "the same",
                default: "the same",
                example: $example,
                doc: concat!("`", $name, "` towards the host only."),
                set: |link: &mut Link, $v| { let $s: &mut Side = &mut link.downwards; $set; Ok(()) },
            },)+
        ]
    };
}

/// The keys of a link, in a router, a host or an event.
pub(crate) const LINK: &[Key<Link>] = link_keys! {
    whole {
        "down", "rate", "\"50 Mbit/s\"", "Bandwidth towards the host."
            => |s, v| s.down = Some(value::rate(v)?);
        "up", "rate", "\"10 Mbit/s\"", "Bandwidth towards the core."
            => |s, v| s.up = Some(value::rate(v)?);
        "mtu", "whole number", "1400", "The longest packet in bytes, at least 576."
            => |s, v| s.mtu = Some(value::short(v, 576, u16::MAX)?);
    }
    each {
        "delay", "time", "\"20ms\"", "The one-way delay."
            => |s, v| s.delay = Some(value::duration(v)?);
        "jitter", "time", "\"5ms\"", "The largest additional delay, evenly distributed. Packets stay in order: one that would overtake another arrives together with it."
            => |s, v| s.jitter = Some(value::duration(v)?);
        "overtaking", "true or false", "true", "Packets with a shorter delay overtake others, so that jitter reorders them."
            => |s, v| s.overtaking = Some(value::switch(v)?);
        "queue", "size, time or packets", "\"64 KiB\"", "What may wait for the link: `\"64 KiB\"`, what is sent in `\"200ms\"`, or `\"100 packets\"` besides the one that is being sent. Further packets are dropped."
            => |s, v| s.queue = Some(limit(v)?);
        "discipline", "drop-tail, red, codel or fq-codel", "\"codel\"", "Which packets the queue drops and sends. `\"codel(5ms, 100ms)\"` and `\"fq-codel(5ms, 100ms)\"` with another target and interval (RFC 8289, RFC 8290), `\"red(30 KB, 90 KB, 10%)\"` with other thresholds and another chance at the upper one (Floyd and Jacobson 1993, gentle) than a sixth and a half of the queue and 10 %."
            => |s, v| s.discipline = Some(discipline(v)?);
        "loss", "share, or gilbert-elliott(p, r, good, bad)", "\"1%\"", "The share of packets that are lost: each by itself, or in bursts of the mean length `loss-burst`. Or the four chances of Gilbert and Elliott, such as `\"gilbert-elliott(0.1%, 10%, 0%, 30%)\"`: of going from the good state to the bad one and back before each packet, and of loss in the good state and in the bad one."
            => |s, v| s.loss = Some(loss(v)?);
        "loss-burst", "whole number", "8", "The mean number of packets that are lost in a row, from 1 to 10000; all between two bursts arrive (Gilbert)."
            => |s, v| s.burst = Some(value::word(v, 1, 10_000)?);
        "reorder", "share", "\"0.5%\"", "The share of packets that others overtake."
            => |s, v| s.reorder = Some(value::share(v)?);
        "reorder-by", "time", "\"30ms\"", "The largest additional delay of those packets: 20ms unless it is given."
            => |s, v| s.reorder_by = Some(value::duration(v)?);
        "duplicate", "share", "\"0.1%\"", "The share of packets that arrive twice."
            => |s, v| s.duplicate = Some(value::share(v)?);
        "corrupt", "share", "\"0.01%\"", "The share of packets that have a bit changed."
            => |s, v| s.corrupt = Some(value::share(v)?);
    }
};

/// `64 KiB`, `200ms` or `100 packets`.
fn limit(v: &Value) -> Result<Limit, Wrong> {
    if let Ok(bytes) = value::size(v) {
        return Ok(Limit::Bytes(bytes));
    }
    if let Ok(time) = value::duration(v) {
        return Ok(Limit::Time(time));
    }
    let packets = value::text(v).and_then(|text| {
        let count = text.strip_suffix("packets").or(text.strip_suffix("packet"));
        count?.trim().parse().ok()
    });
    let wrong = || "a size, a time or packets, such as \"64 KiB\", \"200ms\" or \"100 packets\"";
    packets.map(Limit::Packets).ok_or_else(|| wrong().into())
}

fn discipline(v: &Value) -> Result<QueueKind, Wrong> {
    const WHAT: &str = "\"drop-tail\", \"codel\", \"fq-codel\", \"red\", or one of the last three \
                        with values: \"codel(5ms, 100ms)\", \"red(30 KB, 90 KB, 10%)\"";
    let (name, values) = value::arguments(v).ok_or(WHAT)?;
    let codel = || match &values[..] {
        [] => Ok(CodelConfig::default()),
        [target, interval] => {
            let (target, interval) = (value::duration(target)?, value::duration(interval)?);
            if target >= interval || interval > Duration::from_secs(60) {
                return Err("a target below the interval, and an interval of at most 60s".into());
            }
            Ok(CodelConfig { target, interval })
        }
        _ => Err("a target and an interval, such as \"codel(5ms, 100ms)\"".into()),
    };
    match name.as_str() {
        "drop-tail" if values.is_empty() => Ok(QueueKind::DropTail),
        "codel" => codel().map(QueueKind::Codel),
        "fq-codel" => codel().map(QueueKind::FqCodel),
        "red" => match &values[..] {
            [] => Ok(QueueKind::Red(None)),
            [min, max, chance] => {
                let bytes = |v| value::size(v).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
                let (min, max, chance) = (bytes(min)?, bytes(max)?, value::share(chance)?);
                if min >= max || chance == 0 {
                    return Err("a lower threshold below the upper one, and a chance".into());
                }
                let config = RedConfig {
                    min,
                    max,
                    chance,
                    ..RedConfig::of(0)
                };
                Ok(QueueKind::Red(Some(config)))
            }
            _ => Err("two thresholds and a chance, such as \"red(30 KB, 90 KB, 10%)\"".into()),
        },
        _ => Err(WHAT.into()),
    }
}

fn loss(v: &Value) -> Result<Loss, Wrong> {
    if let Some((name, values)) = value::arguments(v).filter(|(_, values)| !values.is_empty()) {
        let what = "four shares: \"gilbert-elliott(0.1%, 10%, 0%, 30%)\"";
        let [p, r, good, bad] = &values[..] else {
            return Err(what.into());
        };
        if name != "gilbert-elliott" {
            return Err(what.into());
        }
        return Ok(Loss::Burst {
            worsen: value::share(p)?,
            mend: value::share(r)?,
            good: value::share(good)?,
            bad: value::share(bad)?,
        });
    }
    Ok(match value::share(v)? {
        0 => Loss::None,
        ppm => Loss::Random(ppm),
    })
}
