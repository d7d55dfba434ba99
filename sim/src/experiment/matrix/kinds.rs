//! The kinds of ends that a matrix has by default.

use crate::{
    experiment::oracle::{End, RENDEZVOUS_PORT},
    middlebox::{BoxConfig, firewall, nat},
};

/// The port of an end, unless another is given.
const PORT: u16 = 6881;

/// An end with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name: that of a preset, `a>b` for a chain from the host outwards, with `+mapped` when a
    /// port is forwarded.
    pub name: String,
    /// The end.
    pub end: End,
}

impl Kind {
    /// A host behind these boxes, in order from the host to the core.
    #[must_use]
    pub fn new(name: impl Into<String>, path: Vec<BoxConfig>) -> Self {
        Self {
            name: name.into(),
            end: End {
                path,
                port: PORT,
                forwarded: false,
            },
        }
    }

    /// The same host with its port forwarded by every box.
    #[must_use]
    pub fn mapped(mut self) -> Self {
        self.name.push_str("+mapped");
        self.end.forwarded = true;
        self
    }

    /// The same host at another port.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.name = format!("{}:{port}", self.name);
        self.end.port = port;
        self
    }
}

/// A box with a NAT, a firewall or both, by the names of their presets; `None` when a name is
/// unknown.
fn one(nat: Option<&str>, firewall: Option<&str>) -> Option<BoxConfig> {
    let nat = match nat {
        Some(name) => Some((nat::presets::find(name).ok()?.make)()),
        None => None,
    };
    let firewall = match firewall {
        Some(name) => Some((firewall::presets::find(name)?.make)()),
        None => None,
    };
    Some(BoxConfig {
        nat,
        firewall,
        ..BoxConfig::default()
    })
}

/// Chains of two boxes, the inner one first.
const CHAINS: &[(&str, &str)] = &[
    ("linux", "cgnat-good"),
    ("linux", "cgnat-bad"),
    ("linux-accept", "cgnat-good"),
    ("fritzbox", "cgnat-hash"),
    ("full-cone", "port-restricted"),
    ("symmetric", "full-cone"),
    ("port-restricted", "apdm-eif-random"),
    ("rfc4787", "rfc7857"),
    ("hairpin-internal", "hairpin-external"),
    ("full-cone", "hairpin-internal"),
];

/// Boxes with a NAT and a firewall.
const BOTH: &[(&str, &str)] = &[
    ("linux", "no-inbound"),
    ("full-cone", "no-inbound"),
    ("full-cone", "no-inbound-reset"),
    ("linux", "home6"),
    ("linux", "udp-blocked"),
    ("full-cone", "web-only"),
];

/// NATs at which a port is forwarded.
const MAPPED: &[&str] = &["linux", "symmetric", "pf", "cgnat-good", "tcp-reset"];

/// The kinds for IPv4, in a fixed order: a public host, also at a port that every firewall lets
/// out; every NAT; every firewall; boxes with both; chains; and hosts whose port is forwarded.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let mut all = vec![Kind::new("open", Vec::new())];
    all.push(all[0].clone().at(RENDEZVOUS_PORT));
    for preset in nat::presets::all() {
        let boxed = one(Some(preset.name), None);
        all.extend(boxed.map(|b| Kind::new(preset.name, vec![b])));
    }
    all.extend(firewalls());
    for (nat, wall) in BOTH {
        let boxed = one(Some(nat), Some(wall));
        all.extend(boxed.map(|b| Kind::new(format!("{nat}+{wall}"), vec![b])));
    }
    for (inner, outer) in CHAINS {
        let path = [inner, outer].map(|name| one(Some(name), None));
        let path: Option<Vec<BoxConfig>> = path.into_iter().collect();
        all.extend(path.map(|path| Kind::new(format!("{inner}>{outer}"), path)));
    }
    let mapped: Vec<Kind> = (all.iter())
        .filter(|k| MAPPED.contains(&k.name.as_str()) || k.name == "linux>cgnat-bad")
        .map(|k| k.clone().mapped())
        .collect();
    all.extend(mapped);
    all
}

/// The kinds for IPv6, in a fixed order: a public host, also at a port that every firewall lets
/// out; a host behind a NAT, which does not affect IPv6; and every firewall, also with the port
/// forwarded.
#[must_use]
pub fn kinds_v6() -> Vec<Kind> {
    let mut all = vec![Kind::new("open", Vec::new())];
    all.push(all[0].clone().at(RENDEZVOUS_PORT));
    for (nat, wall) in [("symmetric", None), ("linux", Some("home6"))] {
        let name = [Some(nat), wall].into_iter().flatten().collect::<Vec<_>>();
        let boxed = one(Some(nat), wall);
        all.extend(boxed.map(|b| Kind::new(name.join("+"), vec![b])));
    }
    all.extend(firewalls());
    all.extend(firewalls().map(Kind::mapped));
    all
}

/// The descriptions of the presets in a kind's name, from the host to the core.
#[must_use]
pub fn about(kind: &str) -> String {
    let (kind, mapped) = match kind.strip_suffix("+mapped") {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let preset = |name: &str| match name {
        "open" => Some("no box at all".to_owned()),
        "open:443" => Some("no box at all, at a port that every firewall lets out".to_owned()),
        "firewall-open" => firewall::presets::find("open").map(|p| p.about.to_owned()),
        name => match nat::presets::find(name) {
            Ok(p) => Some(p.about.to_owned()),
            Err(_) => firewall::presets::find(name).map(|p| p.about.to_owned()),
        },
    };
    let boxes = kind.split('>').map(|one| {
        let parts: Vec<String> = one.split('+').filter_map(preset).collect();
        parts.join(", with ")
    });
    let mut text = boxes.collect::<Vec<_>>().join("; above it: ");
    if mapped {
        text.push_str("; the host's port is forwarded");
    }
    text
}

fn firewalls() -> impl Iterator<Item = Kind> {
    (firewall::presets::all().iter()).filter_map(|preset| {
        let boxed = one(None, Some(preset.name))?;
        let name = match preset.name {
            "open" => "firewall-open",
            name => name,
        };
        Some(Kind::new(name, vec![boxed]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_says_what_it_is() {
        for kind in kinds().iter().chain(&kinds_v6()) {
            let boxes = kind.end.path.len().max(1);
            let told = about(&kind.name)
                .split("; above it: ")
                .filter(|s| !s.is_empty())
                .count();
            assert_eq!(told, boxes, "{}", kind.name);
            assert_eq!(about(&kind.name).ends_with("forwarded"), kind.end.forwarded);
        }
    }
}
