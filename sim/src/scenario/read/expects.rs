//! Reads expectations.

use std::time::Duration;

use super::{
    entry::{fill, goes_together, one_of},
    keys_parts::{CHECKS, EXPECT, ExpectDraft},
    names::Names,
};
use crate::scenario::{
    model::{Bound, Check, Expect},
    syntax::{
        document::{Document, Entry},
        error::Errors,
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
    let at = what.value.at.clone();
    let bound = if draft.bound == Bound::default() {
        Bound {
            at_least: Some(1),
            at_most: None,
        }
    } else {
        draft.bound
    };
    if let (Some(low), Some(high)) = (bound.at_least, bound.at_most)
        && low > high
    {
        let message = "`at-least` is greater than `at-most`";
        let help = format!("at least {low}");
        errors.keep::<()>(Err(doc.error(entry.place("at-most"), message, help)));
    }
    let gap = draft.gap.unwrap_or(DEFAULT_GAP);
    let within = draft.within;
    let check = if let Some((a, b)) = draft.connected {
        errors.keep(names.puncher(doc, at.clone(), &a));
        errors.keep(names.puncher(doc, at.clone(), &b));
        Check::Connected { a, b, within }
    } else if let Some((a, b)) = draft.not_connected {
        errors.keep(names.puncher(doc, at.clone(), &a));
        errors.keep(names.puncher(doc, at.clone(), &b));
        Check::NotConnected { a, b }
    } else if let Some(hosts) = draft.completed {
        for host in &hosts {
            errors.keep(names.engine(doc, at.clone(), host));
        }
        Check::Completed { hosts, within }
    } else if let Some(hosts) = draft.not_completed {
        for host in &hosts {
            errors.keep(names.engine(doc, at.clone(), host));
        }
        Check::NotCompleted { hosts }
    } else if let Some((first, second)) = draft.sooner {
        errors.keep(names.engine(doc, at.clone(), &first));
        errors.keep(names.engine(doc, at.clone(), &second));
        Check::Sooner { first, second }
    } else if let Some(rule) = draft.rule {
        if let Some(node) = &draft.at {
            errors.keep(names.node(doc, entry.place("at"), node));
        }
        let node = draft.at;
        Check::Rule { rule, node, bound }
    } else if let Some((from, to)) = draft.delivered {
        errors.keep(names.host(doc, at.clone(), &from));
        errors.keep(names.host(doc, at, &to));
        Check::Delivered { from, to, bound }
    } else if let Some(host) = draft.answered {
        errors.keep(names.asker(doc, at.clone(), &host));
        Check::Answered { host }
    } else if let Some(host) = draft.unbroken {
        errors.keep(names.steady(doc, at.clone(), &host));
        Check::Unbroken { host, gap }
    } else if let Some(host) = draft.broken {
        errors.keep(names.steady(doc, at.clone(), &host));
        Check::Broken { host, gap }
    } else {
        Check::Trace(draft.trace.unwrap_or_default())
    };
    let line = doc.error(what.at.clone(), "", "").line;
    (errors.len() == before).then_some(Expect { check, line })
}
