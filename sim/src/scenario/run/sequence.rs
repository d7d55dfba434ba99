//! Makes the sequence chart of two hosts from the paths of packets.

use std::{collections::BTreeSet, net::SocketAddr};

use super::built::{Built, at};
use crate::{
    id::DeviceId,
    packet::verdict::Rule,
    report::{Hop, Lifeline, MAX_STEPS, Sequence, Step},
    scenario::model::{Action, Check, Scenario},
    world::trace::{Filter, Journey},
};

/// Returns `true` when a packet goes no further after this rule.
pub(crate) const fn ends(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::NatNoHairpin
            | Rule::NatNoMapping
            | Rule::NatFiltered
            | Rule::NatExpired
            | Rule::NatTableFull
            | Rule::NatHostLimit
            | Rule::NatNoPort
            | Rule::NatUnsolicitedSyn
            | Rule::NatRebooted
            | Rule::NatIcmpUnknown
            | Rule::NatFragment
            | Rule::NatProtocol
            | Rule::BoxFragmentBad
            | Rule::FirewallUnsolicited
            | Rule::FirewallUdpBlocked
            | Rule::FirewallPortBlocked
            | Rule::FirewallTableFull
            | Rule::NoRoute
            | Rule::HopLimit
            | Rule::LinkQueueFull
            | Rule::LinkManaged
            | Rule::FirewallRule
            | Rule::NatFlushed
            | Rule::LinkLost
            | Rule::LinkTooBig
            | Rule::LinkDown
            | Rule::HostOff
            | Rule::Checksum
            | Rule::PlantedFault
    )
}

/// The two hosts to draw: those of the first expectation that names two, or the first two that send
/// to each other.
fn pair(s: &Scenario) -> Option<(String, String)> {
    fn of(s: &Scenario, check: &Check) -> Option<(String, String)> {
        match check {
            Check::Of(quota) => quota.checks.iter().find_map(|c| of(s, c)),
            Check::Connected { a, b, .. } | Check::NotConnected { a, b } => {
                Some((a.clone(), b.clone()))
            }
            Check::Delivered { from, to, .. } => Some((from.clone(), to.clone())),
            Check::Unbroken { host, .. } | Check::Broken { host, .. } => {
                let host = s.hosts.iter().find(|h| h.name == *host)?;
                Some((host.name.clone(), host.options.to.clone()?))
            }
            _ => None,
        }
    }
    let expected = s.expects.iter().find_map(|e| of(s, &e.check));
    let sent = || {
        s.events.iter().find_map(|e| match &e.action {
            Action::Send { from, to, .. } => Some((from.clone(), to.clone())),
            _ => None,
        })
    };
    let speaks = || {
        let host = s.hosts.iter().find(|h| h.options.to.is_some())?;
        Some((host.name.clone(), host.options.to.clone()?))
    };
    let engines = || {
        let mut engines = s.hosts.iter().filter(|h| h.kind.is_engine());
        Some((engines.next()?.name.clone(), engines.next()?.name.clone()))
    };
    let drawn = || {
        let random = s.random.as_ref()?;
        Some((
            random.senders.first()?.clone(),
            random.receivers.first()?.clone(),
        ))
    };
    let found = expected.or_else(sent).or_else(drawn);
    found.or_else(speaks).or_else(engines)
}

/// The packets between two hosts.
pub(crate) fn draw(s: &Scenario, built: &Built, wanted: Option<&(String, String)>) -> Sequence {
    let Some((a, b)) = wanted.cloned().or_else(|| pair(s)) else {
        return Sequence::default();
    };
    let line = path(built, built.node(&a), built.node(&b));
    let lifelines = line.iter().map(|id| lifeline(s, built, *id)).collect();
    let mut sequence = Sequence {
        lifelines,
        ..Sequence::default()
    };
    let journeys = built.world.explain(&Filter::default(), usize::MAX);
    let engines = [&a, &b].iter().all(|n| {
        let host = s.hosts.iter().find(|h| h.name == **n);
        host.is_some_and(|h| h.kind.is_engine())
    });
    let of_pair = PairFilter::new([built.node(&a), built.node(&b)], engines, &journeys);
    for journey in journeys.iter().filter(|j| of_pair.has(j)) {
        let Some(step) = step(built, &line, journey) else {
            continue;
        };
        if sequence.steps.len() < MAX_STEPS {
            sequence.steps.push(step);
        } else {
            sequence.left_out += 1;
        }
    }
    sequence
}

/// Selects the packets of a pair.
struct PairFilter {
    pair: [DeviceId; 2],
    /// Only packets from one of the two to the other, because engines send to many hosts.
    strict: bool,
    /// The endpoints under which their packets were seen.
    endpoints: BTreeSet<SocketAddr>,
}

impl PairFilter {
    fn new(pair: [DeviceId; 2], strict: bool, journeys: &[Journey]) -> Self {
        let of_pair = journeys.iter().filter(|j| pair.contains(&j.packet.origin));
        let hops = of_pair.flat_map(|j| &j.hops);
        let endpoints = hops.flat_map(|h| [h.before.0, h.after.0]).collect();
        Self {
            pair,
            strict,
            endpoints,
        }
    }

    fn has(&self, journey: &Journey) -> bool {
        let from = self.pair.contains(&journey.packet.origin);
        let arrives = |h: &crate::world::trace::Hop| {
            h.rule == Rule::Delivered && self.pair.contains(&h.device)
        };
        let to = journey.hops.iter().any(arrives);
        let aimed = || {
            journey
                .hops
                .iter()
                .any(|h| self.endpoints.contains(&h.before.1))
        };
        let lost = || journey.hops.iter().any(|h| ends(h.rule));
        match self.strict {
            true => from && (to || lost() && aimed()),
            false => from || to || lost() && aimed(),
        }
    }
}

/// The devices from one host up to where the paths meet, and down to the other host.
fn path(built: &Built, a: DeviceId, b: DeviceId) -> Vec<DeviceId> {
    let up = |from: DeviceId| -> Vec<DeviceId> {
        std::iter::successors(Some(from), |id| built.world.parent(*id)).collect()
    };
    let (up_a, up_b) = (up(a), up(b));
    let common = up_a
        .iter()
        .position(|id| up_b.contains(id))
        .unwrap_or(up_a.len() - 1);
    let top = up_a[common];
    let mut line = up_a[..=common].to_vec();
    let below = up_b.iter().take_while(|id| **id != top);
    let below: Vec<DeviceId> = below.copied().collect();
    line.extend(below.iter().rev());
    line
}

fn lifeline(s: &Scenario, built: &Built, id: DeviceId) -> Lifeline {
    let name = built.world.name(id);
    if id == built.world.core() {
        return Lifeline {
            name: "internet".into(),
            what: "the core".into(),
        };
    }
    let router = s.routers.iter().find(|r| r.name == name);
    let what = match router {
        Some(r) => {
            let parts = [r.nat_name.as_str(), r.firewall_name.as_str()];
            let parts: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
            if parts.is_empty() {
                "router".into()
            } else {
                parts.join(", ")
            }
        }
        None => {
            let host = s.hosts.iter().find(|h| h.name == name);
            host.map_or_else(String::new, |h| h.kind.info().name.into())
        }
    };
    Lifeline { name, what }
}

/// The chart's step for a packet; `None` when the packet does not travel between two of the
/// lifelines.
fn step(built: &Built, line: &[DeviceId], journey: &Journey) -> Option<Step> {
    let place = |id: DeviceId| line.iter().position(|n| *n == id);
    let mut hops = Vec::new();
    let mut here = journey.packet.origin;
    for (n, hop) in journey.hops.iter().enumerate() {
        let lost_on_link = matches!(
            hop.rule,
            Rule::LinkLost
                | Rule::LinkQueueFull
                | Rule::LinkManaged
                | Rule::LinkTooBig
                | Rule::LinkDown
        );
        if hop.rule != Rule::LinkCarried && !lost_on_link {
            continue;
        }
        let above = built.world.parent(hop.device)?;
        let (from, to) = if here == hop.device {
            (hop.device, above)
        } else {
            (above, hop.device)
        };
        here = to;
        let arrival = journey.hops[n + 1..]
            .iter()
            .find(|h| !matches!(h.rule, Rule::LinkCorrupted | Rule::LinkDuplicated))
            .filter(|h| !lost_on_link && (h.device == to || h.rule == Rule::LinkDown));
        let rule = if lost_on_link {
            Some(hop.rule)
        } else {
            arrival.map(|h| h.rule)
        };
        if let (Some(from), Some(to)) = (place(from), place(to)) {
            hops.push(Hop {
                from,
                to,
                label: format!("{} → {}", hop.before.0, hop.before.1),
                rule: rule.map_or_else(String::new, |r| r.name().into()),
                explain: rule.map_or_else(|| "under way at the end".into(), |r| r.explain().into()),
                dropped: rule.is_some_and(ends),
            });
        }
    }
    let first = journey.hops.first()?;
    (!hops.is_empty()).then(|| Step {
        at: first.at.saturating_since(at(std::time::Duration::ZERO)),
        what: format!(
            "{:?}, {} bytes, packet {}",
            journey.proto, journey.len, journey.packet.number
        ),
        hops,
    })
}
