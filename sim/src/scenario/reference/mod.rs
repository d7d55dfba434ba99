//! Generates the reference in `SCENARIOS.md` from the tables that the parser uses.

pub(crate) mod describe;

use std::fmt::Write;

use super::{
    model::{kinds::KINDS, presets},
    read::{
        keys::{Key, OPTIONS, TOP, TORRENT},
        keys_firewall::FIREWALL,
        keys_gateway::GATEWAY,
        keys_link::LINK,
        keys_nat::NAT,
        keys_parts::{EVENT, EXPECT, HOST, RANDOM, ROUTER},
    },
};
use crate::{
    host::gateway::{GatewayProfile, Quirk},
    packet::verdict::Rule,
};

/// Every table and key, kind, preset and rule, in Markdown.
#[must_use]
pub fn reference() -> String {
    let mut out = String::new();
    section(&mut out, "Before the first table", TOP);
    section(&mut out, "`[[router]]`", ROUTER);
    section(&mut out, "`[[router]]`: changes to its NAT", NAT);
    section(&mut out, "`[[router]]`: changes to its firewall", FIREWALL);
    section(&mut out, "`[[router]]`: changes to its gateway", GATEWAY);
    section(&mut out, "`[[host]]`", HOST);
    section(&mut out, "`[[host]]`: by its kind", OPTIONS);
    section(
        &mut out,
        "`[[router]]`, `[[host]]`, `link` and `change` events: the link above",
        LINK,
    );
    section(&mut out, "`[torrent]`", TORRENT);
    section(&mut out, "`[[event]]`", EVENT);
    section(&mut out, "`[random]`", RANDOM);
    section(&mut out, "`[[expect]]`", EXPECT);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        out,
        "### Kinds of hosts\n\n| kind | needs | takes | port | what it does |\n|---|---|---|---|---|"
    );
    for k in KINDS {
        let list = |keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|o| format!("`{o}`")).collect();
            keys.join(", ")
        };
        let (needs, takes) = (list(k.needs), list(k.takes));
        let _ = writeln!(
            out,
            "| `{}` | {needs} | {takes} | {} | {} |",
            k.name, k.port, k.doc
        );
    }
    list(&mut out, "NAT presets", presets::nats());
    list(&mut out, "Firewall presets", presets::firewalls());
    let gateways = GatewayProfile::PRESETS.iter();
    list(
        &mut out,
        "Gateway presets",
        gateways.map(|(name, about, _)| (*name, *about)),
    );
    let quirks = Quirk::ALL.iter();
    let quirks = quirks.map(|q| (q.name(), format!("{} Source: {}.", q.about(), q.source())));
    list(&mut out, "Quirks of gateways", quirks);
    list(&mut out, "Link presets", presets::links());
    let regions: Vec<String> = presets::regions().map(|r| format!("`{r}`")).collect();
    let _ = writeln!(out, "\n### Regions\n\n{}", regions.join(", "));
    let rules = Rule::ALL.iter().map(|r| (r.name(), r.explain()));
    list(&mut out, "Rules", rules);
    out
}

fn section<S>(out: &mut String, title: &str, keys: &[Key<S>]) {
    let _ = writeln!(
        out,
        "### {title}\n\n| key | takes | default | example | meaning |\n|---|---|---|---|---|"
    );
    for k in keys {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | `{}` | {} |",
            k.name, k.takes, k.default, k.example, k.doc
        );
    }
    out.push('\n');
}

fn list<A: AsRef<str>, B: AsRef<str>>(
    out: &mut String,
    title: &str,
    items: impl Iterator<Item = (A, B)>,
) {
    let _ = writeln!(out, "\n### {title}\n\n| name | meaning |\n|---|---|");
    for (name, about) in items {
        let _ = writeln!(out, "| `{}` | {} |", name.as_ref(), about.as_ref());
    }
}
