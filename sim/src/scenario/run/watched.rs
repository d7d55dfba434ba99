//! Expectations over time: what is watched for them, and what was seen.

use std::time::Duration;

use dunlin_core::Instant;

use super::built::{Built, at};
use crate::{
    host::punch::UdpEnd,
    id::DeviceId,
    report::units,
    scenario::model::{Bound, Check, Scenario},
    world::monitor::{Loss, Lost, Monitor},
};

/// Whether an expectation holds, and why.
pub(super) type Seen = (bool, String);

/// What has to be watched for the expectations of a scenario.
pub(super) fn monitor(s: &Scenario, built: &Built) -> Monitor {
    s.expects
        .iter()
        .fold(Monitor::default(), |m, e| watch(m, built, &e.check))
}

fn watch(monitor: Monitor, built: &Built, check: &Check) -> Monitor {
    match check {
        Check::Of(quota) => quota
            .checks
            .iter()
            .fold(monitor, |m, check| watch(m, built, check)),
        Check::MappingsKept { router } => monitor.flows(built.node(router)),
        Check::FlowsKept { host } => above(built, host).into_iter().fold(monitor, Monitor::flows),
        Check::NewFlows { node, .. } => monitor.new_flows(built.node(node)),
        Check::QueueDelay { node, up, .. } => monitor.waits(built.node(node), *up),
        _ => monitor,
    }
}

/// The routers above a host, from the nearest outwards.
fn above(built: &Built, host: &str) -> Vec<DeviceId> {
    let first = built.world.parent(built.node(host));
    let up = std::iter::successors(first, |id| built.world.parent(*id));
    up.filter(|id| *id != DeviceId::CORE).collect()
}

fn since(then: Instant) -> Duration {
    then.saturating_since(at(Duration::ZERO))
}

fn tell(built: &Built, router: DeviceId, loss: &Loss) -> String {
    let what = match loss.lost {
        Lost::Mapping => "the mapping",
        Lost::Flow => "the flow",
    };
    format!(
        "after {}, {} has lost {what} of {} to {} ({})",
        units::exact(since(loss.at)),
        built.world.name(router),
        loss.inside,
        loss.remote,
        loss.rule.name()
    )
}

/// Whether boxes have lost nothing of what `counts`.
fn kept(built: &Built, boxes: &[DeviceId], counts: impl Fn(&Loss) -> bool) -> Seen {
    let Some(monitor) = built.world.monitor() else {
        return (true, "none was lost".into());
    };
    if boxes.iter().any(|b| monitor.lost(*b).is_none()) {
        return (false, "too many flows to tell".into());
    }
    let all = || {
        let of = |b: &DeviceId| {
            monitor
                .losses(*b)
                .iter()
                .map(move |l| (*b, l))
                .collect::<Vec<_>>()
        };
        boxes.iter().flat_map(of).filter(|(_, loss)| counts(loss))
    };
    let Some((router, first)) = all().min_by_key(|(_, loss)| loss.at) else {
        // Beyond those that are kept, others may be of this host.
        let cut = boxes.iter().any(|b| {
            let kept = monitor.losses(*b).len() as u64;
            monitor.lost(*b).is_some_and(|lost| lost > kept)
        });
        return match cut {
            true => (false, "too many losses to tell".into()),
            false => (true, "none was lost".into()),
        };
    };
    let mut why = tell(built, router, first);
    let more = all().count() - 1;
    if more > 0 {
        why.push_str(&format!("; and {more} more losses"));
    }
    (false, why)
}

pub(super) fn mappings_kept(built: &Built, router: &str) -> Seen {
    kept(built, &[built.node(router)], |loss| {
        loss.lost == Lost::Mapping
    })
}

pub(super) fn flows_kept(built: &Built, host: &str) -> Seen {
    let mut boxes = above(built, host);
    // Behind the nearest NAT it has its own address; the next one sees another.
    boxes.truncate(1);
    let own = built.plan.of(host);
    kept(built, &boxes, |loss| own.contains(&loss.inside.ip()))
}

pub(super) fn new_flows(built: &Built, node: &str, bound: Bound) -> Seen {
    let monitor = built.world.monitor();
    let opened = monitor.and_then(|m| m.opened_by(built.node(node)));
    let Some(opened) = opened else {
        return (bound.holds(0), "none".into());
    };
    match opened.most_in_a_second() {
        Err(_) => (false, "too many flows to tell".into()),
        Ok(None) => (bound.holds(0), "none".into()),
        Ok(Some((most, last))) => {
            let end = units::exact(since(last));
            let why = format!("at most {most}, in the second until {end}");
            (bound.holds(most), why)
        }
    }
}

pub(super) fn queue_delay(
    built: &Built,
    node: &str,
    up: bool,
    quantile: u32,
    below: Duration,
) -> Seen {
    let monitor = built.world.monitor();
    let Some(waits) = monitor.and_then(|m| m.waits_of(built.node(node), up)) else {
        return (false, "nothing was watched".into());
    };
    let Some((longest, when)) = waits.longest() else {
        return (false, "no packet, or a link without a rate".into());
    };
    let Some(wait) = waits.quantile(quantile) else {
        return (false, "too many packets to tell".into());
    };
    let why = format!(
        "{}; the longest of {} packets waited {}, from {}",
        units::exact(wait),
        units::count(waits.packets()),
        units::exact(longest),
        units::exact(since(when))
    );
    (wait < below, why)
}

/// Whether two ends hear each other from their first connection on.
pub(super) fn stays_connected(
    built: &Built,
    (a, b): (&str, &str),
    connected: Duration,
    until: Option<Duration>,
    limits: (Duration, Duration),
) -> Seen {
    let now = built.world.now();
    let until = until.map_or(now, at);
    if at(connected) > until {
        return (
            false,
            format!("they connected only after {}", units::exact(connected)),
        );
    }
    for (name, other, every) in [(a, b, limits.0), (b, a, limits.1)] {
        let Some(end) = built.world.host::<UdpEnd>(built.node(name)) else {
            continue;
        };
        let silences = end.silences(now);
        let long = silences
            .iter()
            .find(|(from, to)| *from + every < (*to).min(until));
        if let Some((from, to)) = long {
            let why = format!(
                "{name} did not hear {other} from {} to {}",
                units::exact(since(*from)),
                units::exact(since(*to))
            );
            return (false, why);
        }
    }
    (true, format!("from {} on", units::exact(connected)))
}
