//! Checks the expectations after a run.

use std::time::Duration;

use super::{
    built::{Built, at},
    engines::{completed, describe},
    hosts::{Manual, Steady},
    watched,
};
use crate::{
    host::{
        punch::{Connected, TcpEnd, UdpEnd},
        service::StunClient,
    },
    middlebox::nat::{Filtering, Mapping},
    packet::verdict::Rule,
    report::{Outcome, units},
    scenario::{
        model::{Bound, Check, Expect, Quota, Scenario},
        read::expects::by,
    },
    world::trace::Filter,
};

/// The most hops that are recorded for charts, explanations and expectations.
pub const MAX_HOPS: usize = 2_000_000;
/// The most members of a group that are named because they do not meet a condition.
const MAX_NAMED: usize = 3;

/// What is expected, whether it holds, and why.
type Verdict = (String, bool, String);

/// Checks an expectation. Returns `None` when it does not apply to a run with this seed.
pub(crate) fn check(s: &Scenario, built: &Built, seed: u64, expect: &Expect) -> Option<Outcome> {
    let (what, held, why) = judge(s, built, seed, &expect.check)?;
    Some(Outcome {
        place: format!("line {}", expect.line),
        what,
        held,
        why,
    })
}

fn judge(s: &Scenario, built: &Built, seed: u64, check: &Check) -> Option<Verdict> {
    let judge = Judge { s, built };
    let verdict = match check {
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
            let wants_broken = matches!(check, Check::Broken { .. });
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
        Check::Behaviour {
            host,
            mapping,
            filtering,
        } => {
            let client = built.world.host::<StunClient>(built.node(host))?;
            let words = |m: Option<Mapping>, f: Option<Filtering>| {
                let mapping = match m {
                    None => "unknown mapping",
                    Some(Mapping::EndpointIndependent) => "EIM",
                    Some(Mapping::AddressDependent) => "ADM",
                    Some(Mapping::AddressAndPortDependent) => "APDM",
                };
                let filtering = match f {
                    None => "unknown filtering",
                    Some(Filtering::EndpointIndependent) => "EIF",
                    Some(Filtering::AddressDependent) => "ADF",
                    Some(Filtering::AddressAndPortDependent) => "APDF",
                };
                format!("{mapping} and {filtering}")
            };
            let (m, f) = (client.mapping(), client.filtering());
            let what = format!("{host} finds {}", words(Some(*mapping), Some(*filtering)));
            let held = m == Some(*mapping) && f == Some(*filtering);
            (what, held, format!("it found {}", words(m, f)))
        }
        Check::Trace(hash) => {
            if seed != s.seed {
                return None;
            }
            let found = built.world.trace().hash();
            let what = format!("the trace has the hash {hash:016x}");
            (what, found == *hash, format!("{found:016x}"))
        }
        Check::StaysConnected { a, b, until, gap } => {
            let until_text =
                until.map_or_else(String::new, |t| format!(" until {}", units::time(t)));
            let what = format!("{a} and {b} stay connected{until_text}");
            let limit = |name: &str| {
                let host = s.hosts.iter().find(|h| h.name == name);
                host.and_then(|h| h.options.keepalive).unwrap_or_default() + *gap
            };
            let (held, why) = match judge.connected(a, b) {
                // Each hears the other at the other's interval.
                Ok(when) => {
                    let limits = (limit(b), limit(a));
                    watched::stays_connected(built, (a, b), when, *until, limits)
                }
                Err(why) => (false, why),
            };
            (what, held, why)
        }
        Check::MappingsKept { router } => {
            let (held, why) = watched::mappings_kept(built, router);
            (format!("{router} keeps its mappings"), held, why)
        }
        Check::FlowsKept { host } => {
            let (held, why) = watched::flows_kept(built, host);
            (format!("{host} keeps its flows"), held, why)
        }
        Check::NewFlows { node, bound } => {
            let (held, why) = watched::new_flows(built, node, *bound);
            let what = format!("{node} opens {} new flows a second", bound.words());
            (what, held, why)
        }
        Check::QueueDelay {
            node,
            up,
            quantile,
            below,
        } => {
            let (held, why) = watched::queue_delay(built, node, *up, *quantile, *below);
            let share = quantile / 10_000;
            let way = if *up { "up" } else { "down" };
            let what = format!(
                "{share} % of the packets {way} from {node} wait less than {}",
                units::time(*below)
            );
            (what, held, why)
        }
        Check::Of(quota) => judge.enough(seed, quota)?,
    };
    Some(verdict)
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
    s: &'a Scenario,
    built: &'a Built,
}

impl Judge<'_> {
    /// Whether enough members of a group meet a condition.
    fn enough(&self, seed: u64, quota: &Quota) -> Option<Verdict> {
        let all: Option<Vec<Verdict>> = quota
            .checks
            .iter()
            .map(|check| judge(self.s, self.built, seed, check))
            .collect();
        let all = all?;
        let n = all.iter().filter(|(_, held, _)| *held).count();
        let thousandths = n * 1_000 / all.len().max(1);
        let mut why = format!(
            "{n} of {}, {}.{} %",
            all.len(),
            thousandths / 10,
            thousandths % 10
        );
        let others = || all.iter().filter(|(_, held, _)| !held);
        for (what, _, seen) in others().take(MAX_NAMED) {
            why.push_str(&format!("; not that {what}: {seen}"));
        }
        let more = others().count().saturating_sub(MAX_NAMED);
        if more > 0 {
            why.push_str(&format!("; and {more} more"));
        }
        let share = quota.share.map(|ppm| {
            let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
            format!(
                "at least {} %",
                text.trim_end_matches('0').trim_end_matches('.')
            )
        });
        let bound = (quota.bound != Bound::default()).then(|| quota.bound.words());
        let words: Vec<String> = share.into_iter().chain(bound).collect();
        let words = match words.is_empty() {
            true => "all".into(),
            false => words.join(" and "),
        };
        Some((format!("{words} of {}", quota.what), quota.holds(n), why))
    }

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
            Some(name) => {
                let members = self.s.members(name).into_iter();
                members
                    .map(|n| trace.count_at(self.built.node(n), rule))
                    .sum()
            }
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
