//! Checks the expectations after a run.

use std::time::Duration;

use super::{
    built::{Built, at},
    engines::{completed, describe},
    hosts::{Manual, Steady},
};
use crate::{
    host::punch::{Connected, TcpEnd, UdpEnd},
    packet::verdict::Rule,
    report::{Outcome, units},
    scenario::model::{Bound, Check, Expect, Scenario},
    world::trace::Filter,
};

/// The most hops that are recorded for charts, explanations and expectations.
pub const MAX_HOPS: usize = 2_000_000;
/// Checks an expectation. Returns `None` when it does not apply to a run with this seed.
pub(crate) fn check(s: &Scenario, built: &Built, seed: u64, expect: &Expect) -> Option<Outcome> {
    let judge = Judge { built };
    let (what, held, why) = match &expect.check {
        Check::Connected { a, b, within } => {
            let what = format!("{a} and {b} connect{}", by(*within));
            let (held, why) = match judge.connected(a, b) {
                Ok(when) => (in_time(when, *within), after(when)),
                Err(why) => (false, why),
            };
            (what, held, why)
        }
        Check::NotConnected { a, b } => {
            let (held, why) = match judge.connected(a, b) {
                Ok(when) => (false, format!("they did, {}", after(when))),
                Err(why) => (true, why),
            };
            (format!("{a} and {b} do not connect"), held, why)
        }
        Check::Completed { hosts, within } => {
            let late: Vec<String> = (hosts.iter())
                .filter(|h| completed(built, h).is_none_or(|t| !in_time(t, *within)))
                .map(|h| describe(built, h))
                .collect();
            let last = hosts.iter().filter_map(|h| completed(built, h)).max();
            let why = match last {
                Some(last) if late.is_empty() => format!("the last {}", after(last)),
                _ => late.join("; "),
            };
            let what = format!("{} complete{}", hosts.join(", "), by(*within));
            (what, late.is_empty(), why)
        }
        Check::NotCompleted { hosts } => {
            let done = hosts.iter().filter(|h| completed(built, h).is_some());
            let held = done.count() == 0;
            let why: Vec<String> = hosts.iter().map(|h| describe(built, h)).collect();
            (
                format!("{} do not complete", hosts.join(", ")),
                held,
                why.join("; "),
            )
        }
        Check::Sooner { first, second } => {
            let (a, b) = (completed(built, first), completed(built, second));
            let held = a.is_some_and(|a| b.is_none_or(|b| a < b));
            let why = format!("{}; {}", describe(built, first), describe(built, second));
            (format!("{first} completes before {second}"), held, why)
        }
        Check::Rule { rule, node, bound } => {
            let n = judge.count(*rule, node.as_deref());
            let place = node.as_ref().map_or(String::new(), |n| format!(" at {n}"));
            let what = format!("{} {}{place}", packets(*bound), rule.name());
            (what, bound.holds(n), format!("{} did", units::count(n)))
        }
        Check::Delivered { from, to, bound } => {
            let (held, why) = match judge.delivered(from, to) {
                Some(n) => (bound.holds(n), format!("{} did", units::count(n))),
                None => (false, "too many packets to tell".into()),
            };
            let what = format!("{} from {from} reach {to}", packets(*bound));
            (what, held, why)
        }
        Check::Answered { host } => {
            let id = built.node(host);
            let manual = built.world.host::<Manual>(id).map(|h| &h.calls);
            let steady = || built.world.host::<Steady>(id).map(|h| &h.calls);
            let calls = manual.or_else(steady)?;
            let open = calls.under_way(built.world.now());
            let mut why = format!("{} of {}", calls.answered, calls.sent - open);
            if open > 0 {
                why.push_str(&format!(", and {open} under way at the end"));
            }
            let what = format!("every datagram of {host} is answered");
            (what, calls.answered == calls.sent - open, why)
        }
        Check::Unbroken { host, gap } | Check::Broken { host, gap } => {
            let caller = built.world.host::<Steady>(built.node(host))?;
            let (longest, end) = caller.longest_gap(built.world.now());
            let end = end.saturating_since(at(Duration::ZERO));
            let broken = longest > *gap;
            let wants_broken = matches!(expect.check, Check::Broken { .. });
            let word = if wants_broken {
                "has to wait"
            } else {
                "never waits"
            };
            let what = format!("{host} {word} longer than {}", units::time(*gap));
            let why = format!(
                "the longest wait was {}, from {} to {}",
                units::exact(longest),
                units::exact(end.saturating_sub(longest)),
                units::exact(end)
            );
            (what, broken == wants_broken, why)
        }
        Check::Trace(hash) => {
            if seed != s.seed {
                return None;
            }
            let found = built.world.trace().hash();
            let what = format!("the trace has the hash {hash:016x}");
            (what, found == *hash, format!("{found:016x}"))
        }
    };
    Some(Outcome {
        place: format!("line {}", expect.line),
        what,
        held,
        why,
    })
}

fn by(within: Option<Duration>) -> String {
    within.map_or_else(String::new, |w| format!(" within {}", units::time(w)))
}

fn after(time: Duration) -> String {
    format!("after {}", units::exact(time))
}

fn in_time(time: Duration, within: Option<Duration>) -> bool {
    within.is_none_or(|w| time <= w)
}

fn packets(bound: Bound) -> String {
    let one = bound.at_least == Some(1) && bound.at_most.is_none_or(|n| n == 1);
    format!("{} packet{}", bound.words(), if one { "" } else { "s" })
}

struct Judge<'a> {
    built: &'a Built,
}

impl Judge<'_> {
    /// The connection of an end, as that end sees it.
    fn end(&self, name: &str) -> Option<Connected> {
        let id = self.built.node(name);
        let udp = self.built.world.host::<UdpEnd>(id).map(UdpEnd::observed);
        let tcp = || self.built.world.host::<TcpEnd>(id).map(TcpEnd::observed);
        udp.or_else(tcp)?.connected
    }

    /// When two ends both had their connection, or what is missing.
    fn connected(&self, a: &str, b: &str) -> Result<Duration, String> {
        match (self.end(a), self.end(b)) {
            (Some(x), Some(y)) => Ok(x.at.max(y.at).saturating_since(at(Duration::ZERO))),
            (None, None) => Err("neither hears the other".into()),
            (Some(_), None) => Err(format!("{b} has no certainty")),
            (None, Some(_)) => Err(format!("{a} has no certainty")),
        }
    }

    fn count(&self, rule: Rule, node: Option<&str>) -> u64 {
        let trace = self.built.world.trace();
        match node {
            Some(name) => trace.count_at(self.built.node(name), rule),
            None => trace.count(rule),
        }
    }

    /// The packets of one host that reached another; `None` when some hops were discarded.
    fn delivered(&self, from: &str, to: &str) -> Option<u64> {
        let (from, to) = (self.built.node(from), self.built.node(to));
        let trace = self.built.world.trace();
        let hops: u64 = trace.counters().map(|(_, n)| n).sum();
        if hops > MAX_HOPS as u64 {
            return None;
        }
        let filter = Filter {
            device: Some(to),
            rule: Some(Rule::Delivered),
            ..Filter::default()
        };
        let journeys = self.built.world.explain(&filter, usize::MAX);
        let arrived = |h: &&crate::world::trace::Hop| h.device == to && h.rule == Rule::Delivered;
        let of_from = journeys.iter().filter(|j| j.packet.origin == from);
        Some(
            of_from
                .map(|j| j.hops.iter().filter(arrived).count() as u64)
                .sum(),
        )
    }
}
