//! Reads expectations.

use std::time::Duration;

use super::{
    entry::{Res, fill, goes_together, need, one_of},
    keys_parts::{CHECKS, EXPECT, ExpectDraft},
    names::Names,
};
use crate::{
    report::units,
    scenario::{
        model::{Bound, Check, Expect, Quota},
        syntax::{
            document::{Document, Entry, Item},
            error::Errors,
        },
    },
};

/// The longest time without an answer for a flow to count as unbroken, unless the scenario says
/// otherwise.
const DEFAULT_GAP: Duration = Duration::from_secs(3);

pub(super) fn expect(
    doc: &Document,
    entry: &Entry,
    names: &Names,
    errors: &mut Errors,
) -> Option<Expect> {
    let mut draft = ExpectDraft::default();
    let before = errors.len();
    if !fill(doc, entry, EXPECT, &mut draft, errors) {
        // What seems to be missing may be the key that is wrong.
        return None;
    }
    let known: Vec<&str> = CHECKS.iter().map(|(name, _)| *name).collect();
    let what = errors.keep(one_of(doc, entry, &known))?;
    let with = CHECKS.iter().find(|(name, _)| *name == what.key);
    let with = with.map_or(&[][..], |(_, with)| *with);
    goes_together(doc, entry, what, &[], with, errors);
    if let (Some(low), Some(high)) = (draft.bound.at_least, draft.bound.at_most)
        && low > high
    {
        let message = "`at-least` is greater than `at-most`";
        let help = format!("at least {low}");
        errors.keep::<()>(Err(doc.error(entry.place("at-most"), message, help)));
    }
    let check = Reader {
        doc,
        entry,
        what,
        names,
        errors,
    }
    .check(draft);
    let line = doc.error(what.at.clone(), "", "").line;
    (errors.len() == before).then_some(Expect {
        check: check?,
        line,
    })
}

/// By how much a time is limited, in words.
pub(in crate::scenario) fn by(within: Option<Duration>) -> String {
    within.map_or_else(String::new, |w| format!(" within {}", units::time(w)))
}

/// Reads one expectation.
struct Reader<'a> {
    doc: &'a Document,
    entry: &'a Entry,
    /// The key that says what is expected.
    what: &'a Item,
    names: &'a Names,
    errors: &'a mut Errors,
}

impl Reader<'_> {
    /// The expectation. Every reference is checked.
    fn check(&mut self, draft: ExpectDraft) -> Option<Check> {
        let gap = draft.gap.unwrap_or(DEFAULT_GAP);
        let within = draft.within;
        let (bound, share) = (draft.bound, draft.share);
        // Without a bound, one packet is enough.
        let some = if bound == Bound::default() {
            Bound {
                at_least: Some(1),
                at_most: None,
            }
        } else {
            bound
        };
        let quota = (bound, share);
        if let Some((a, b)) = draft.connected {
            let pairs = self.pairs(&a, &b, Names::puncher)?;
            let check = |(a, b)| Check::Connected { a, b, within };
            let checks: Vec<Check> = pairs.into_iter().map(check).collect();
            let what = format!("the pairs of {a} and {b} connect{}", by(within));
            self.each(&[a, b], quota, what, checks)
        } else if let Some((a, b)) = draft.not_connected {
            self.hosts(&[a.clone(), b.clone()], Names::puncher);
            Some(Check::NotConnected { a, b })
        } else if let Some(hosts) = draft.completed {
            let all = self.hosts(&self.names.each(&hosts), Names::engine);
            if !self.is_quota(&hosts, quota) {
                return Some(Check::Completed { hosts, within });
            }
            let check = |host| Check::Completed {
                hosts: vec![host],
                within,
            };
            let what = format!("{} complete{}", hosts.join(", "), by(within));
            self.each(&hosts, quota, what, all.into_iter().map(check).collect())
        } else if let Some(hosts) = draft.not_completed {
            let hosts = self.hosts(&self.names.each(&hosts), Names::engine);
            Some(Check::NotCompleted { hosts })
        } else if let Some((first, second)) = draft.sooner {
            self.hosts(&[first.clone(), second.clone()], Names::engine);
            Some(Check::Sooner { first, second })
        } else if let Some(rule) = draft.rule {
            if let Some(node) = &draft.at
                && !self.names.is_group(node)
            {
                let at = self.entry.place("at");
                self.errors.keep(self.names.node(self.doc, at, node));
            }
            Some(Check::Rule {
                rule,
                node: draft.at,
                bound: some,
            })
        } else if let Some((from, to)) = draft.delivered {
            self.hosts(&[from.clone(), to.clone()], |names, doc, at, name| {
                names.host(doc, at, name).map(drop)
            });
            Some(Check::Delivered {
                from,
                to,
                bound: some,
            })
        } else if let Some(name) = draft.answered {
            let what = format!("{name} have every datagram answered");
            self.of_group(name, Names::asker, quota, what, |host| Check::Answered {
                host,
            })
        } else if let Some(name) = draft.unbroken {
            let what = format!("{name} never wait longer than {}", units::time(gap));
            let check = |host| Check::Unbroken { host, gap };
            self.of_group(name, Names::steady, quota, what, check)
        } else if let Some(name) = draft.broken {
            let what = format!("{name} have to wait longer than {}", units::time(gap));
            let check = |host| Check::Broken { host, gap };
            self.of_group(name, Names::steady, quota, what, check)
        } else if let Some((a, b)) = draft.stays_connected {
            let until = draft.until;
            let pairs = self.pairs(&a, &b, Names::lasting)?;
            let check = |(a, b)| Check::StaysConnected { a, b, until, gap };
            let checks = pairs.into_iter().map(check).collect();
            let until = until.map_or_else(String::new, |t| format!(" until {}", units::time(t)));
            let what = format!("the pairs of {a} and {b} stay connected{until}");
            self.each(&[a, b], quota, what, checks)
        } else if let Some(name) = draft.mappings_kept {
            let what = format!("{name} keep their mappings");
            self.nodes(name, true, share, what, |router| Check::MappingsKept {
                router,
            })
        } else if let Some(name) = draft.flows_kept {
            let what = format!("{name} keep their flows");
            let fits =
                |names: &Names, doc: &Document, at, name: &str| names.host(doc, at, name).map(drop);
            let check = |host| Check::FlowsKept { host };
            self.of_group(name, fits, (Bound::default(), share), what, check)
        } else if let Some(node) = draft.new_flows {
            if bound == Bound::default() {
                let message = "this does not say how many";
                let help = "add `at-most = …`";
                let at = self.what.at.clone();
                self.errors
                    .keep::<()>(Err(self.doc.error(at, message, help)));
            }
            let what = format!("{node} open {} new flows a second", bound.words());
            self.nodes(node, false, share, what, |node| Check::NewFlows {
                node,
                bound,
            })
        } else if let Some((host, mapping, filtering)) = draft.behaviour {
            self.hosts(std::slice::from_ref(&host), Names::stun_client);
            Some(Check::Behaviour {
                host,
                mapping,
                filtering,
            })
        } else if let Some(node) = draft.queue_delay {
            self.errors.keep(need(self.doc, self.entry, "below"));
            let below = draft.below.unwrap_or_default();
            let (up, quantile) = (!draft.down, draft.quantile.unwrap_or(950_000));
            let what = format!("{node} let packets wait less than {}", units::time(below));
            self.nodes(node, false, share, what, |node| Check::QueueDelay {
                node,
                up,
                quantile,
                below,
            })
        } else {
            Some(Check::Trace(draft.trace.unwrap_or_default()))
        }
    }

    /// Checks that these are names of hosts that fit.
    fn hosts(
        &mut self,
        hosts: &[String],
        fits: impl Fn(&Names, &Document, std::ops::Range<usize>, &str) -> Res<()>,
    ) -> Vec<String> {
        for host in hosts {
            let at = self.what.value.at.clone();
            self.errors.keep(fits(self.names, self.doc, at, host));
        }
        hosts.to_vec()
    }

    /// The condition of a host, or of the hosts of a group.
    fn of_group(
        &mut self,
        name: String,
        fits: impl Fn(&Names, &Document, std::ops::Range<usize>, &str) -> Res<()>,
        quota: (Bound, Option<u32>),
        what: String,
        check: impl Fn(String) -> Check,
    ) -> Option<Check> {
        let hosts = self.hosts(&self.names.each(std::slice::from_ref(&name)), fits);
        let checks = hosts.into_iter().map(check).collect();
        self.each(&[name], quota, what, checks)
    }

    /// The condition of a router or host, or of the members of a group.
    fn nodes(
        &mut self,
        name: String,
        routers: bool,
        share: Option<u32>,
        what: String,
        check: impl Fn(String) -> Check,
    ) -> Option<Check> {
        let members = self.names.members(&name);
        for member in &members {
            let at = self.what.value.at.clone();
            self.errors.keep(match routers {
                true => self.names.router(self.doc, at, member),
                false => self.names.node(self.doc, at, member),
            });
        }
        let checks = members.into_iter().map(check).collect();
        self.each(&[name], (Bound::default(), share), what, checks)
    }

    /// The pairs of two hosts or groups, number by number.
    fn pairs(
        &mut self,
        a: &str,
        b: &str,
        fits: impl Fn(&Names, &Document, std::ops::Range<usize>, &str) -> Res<()> + Copy,
    ) -> Option<Vec<(String, String)>> {
        let of = |name: &str| self.names.group(name);
        let (left, right) = (of(a), of(b));
        let pairs: Vec<(String, String)> = match (left, right) {
            (None, None) => vec![(a.into(), b.into())],
            (Some(left), None) => left.into_iter().map(|l| (l, b.into())).collect(),
            (None, Some(right)) => right.into_iter().map(|r| (a.into(), r)).collect(),
            (Some(left), Some(right)) if left.len() == right.len() => {
                left.into_iter().zip(right).collect()
            }
            (Some(left), Some(right)) => {
                let message = format!(
                    "there are {} of `{a}` and {} of `{b}`",
                    left.len(),
                    right.len()
                );
                let at = self.what.value.at.clone();
                let help = "as many of both make pairs";
                self.errors
                    .keep::<()>(Err(self.doc.error(at, message, help)));
                return None;
            }
        };
        for (a, b) in &pairs {
            self.hosts(&[a.clone(), b.clone()], fits);
        }
        Some(pairs)
    }

    fn is_quota(&self, names: &[String], (bound, share): (Bound, Option<u32>)) -> bool {
        bound != Bound::default() || share.is_some() || names.iter().any(|n| self.names.is_group(n))
    }

    /// The condition that enough of `checks` hold; the only check when nothing else is said.
    fn each(
        &mut self,
        names: &[String],
        quota: (Bound, Option<u32>),
        what: String,
        mut checks: Vec<Check>,
    ) -> Option<Check> {
        if !self.is_quota(names, quota) {
            return checks.pop();
        }
        let (bound, share) = quota;
        let least = bound.at_least.unwrap_or(0);
        if least > checks.len() as u64 {
            let place = ["at-least", "exactly"].into_iter();
            let key = place.into_iter().find(|k| self.entry.item(k).is_some());
            let at = self.entry.place(key.unwrap_or("at-least"));
            let message = format!("there are only {}", checks.len());
            let help = "no more than there are";
            self.errors
                .keep::<()>(Err(self.doc.error(at, message, help)));
        }
        Some(Check::Of(Quota {
            what,
            checks,
            bound,
            share,
        }))
    }
}
