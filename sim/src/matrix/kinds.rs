//! The kinds of ends that a matrix has by default.

use crate::{
    BoxConfig,
    nat::{
        Clash, Filtering, Hairpin, Mapping, NatConfig, PortPolicy, UnsolicitedSyn, WanInput,
        presets,
    },
    oracle::End,
};

/// The port of BitTorrent's ends, where nothing else is said.
const PORT: u16 = 6881;

/// An end with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name: that of a preset, `a>b` for a chain from the host outwards, `+mapped` for a port
    /// that is forwarded.
    pub name: String,
    /// What it is.
    pub end: End,
}

impl Kind {
    /// A host behind these boxes, from the host to the core.
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

    /// The same with its port forwarded by every box.
    #[must_use]
    pub fn mapped(mut self) -> Self {
        self.name.push_str("+mapped");
        self.end.forwarded = true;
        self
    }

    /// The same at another port.
    #[must_use]
    pub fn at(mut self, port: u16) -> Self {
        self.name = format!("{}:{port}", self.name);
        self.end.port = port;
        self
    }

    fn nat(name: &str, nat: NatConfig) -> Self {
        Self::new(name, vec![alone(nat)])
    }
}

/// A NAT by itself.
fn alone(nat: NatConfig) -> BoxConfig {
    BoxConfig {
        nat: Some(nat),
        ..BoxConfig::default()
    }
}

/// A public host, every NAT, chains of NATs, and hosts whose port is forwarded.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let mut all = vec![Kind::new("open", Vec::new())];
    let nats = nats();
    all.extend(nats.iter().map(|(name, nat)| Kind::nat(name, nat.clone())));
    let chain = |inner: &str, outer: &str| {
        let find = |name: &str| {
            let found = nats.iter().find(|(n, _)| n == name);
            found.map(|(_, nat)| alone(nat.clone()))
        };
        Some(Kind::new(
            format!("{inner}>{outer}"),
            vec![find(inner)?, find(outer)?],
        ))
    };
    let chains = [
        ("linux", "eim-eif-block"),
        ("linux", "apdm-apdf-random"),
        ("eim-eif-preserve", "linux"),
        ("apdm-apdf-random", "eim-eif-preserve"),
        ("linux-accept", "eim-eif-block"),
    ];
    all.extend(
        chains
            .iter()
            .filter_map(|(inner, outer)| chain(inner, outer)),
    );
    for (name, nat) in &nats {
        if ["linux", "apdm-apdf-random"].contains(&name.as_str()) {
            all.push(Kind::nat(name, nat.clone()).mapped());
        }
    }
    all.extend(chain("linux", "eim-apdf-random").map(Kind::mapped));
    all
}

type Change = fn(&mut NatConfig);

/// Each mapping with each filtering, and Linux with what makes a difference to who can connect.
fn nats() -> Vec<(String, NatConfig)> {
    let mut all = vec![("linux".to_owned(), presets::linux())];
    let mappings = [
        (Mapping::EndpointIndependent, "eim"),
        (Mapping::AddressDependent, "adm"),
        (Mapping::AddressAndPortDependent, "apdm"),
    ];
    let filterings = [
        (Filtering::EndpointIndependent, "eif"),
        (Filtering::AddressDependent, "adf"),
        (Filtering::AddressAndPortDependent, "apdf"),
    ];
    let ports = [
        (PortPolicy::Preserve, Clash::Random, "preserve"),
        (PortPolicy::Random, Clash::Random, "random"),
    ];
    for (mapping, m) in mappings {
        for (filtering, f) in filterings {
            for (policy, clash, p) in ports {
                let nat = presets::with(mapping, filtering, policy, clash);
                all.push((format!("{m}-{f}-{p}"), nat));
            }
        }
    }
    let policies = [
        (PortPolicy::PreserveParity, Clash::Next, "parity"),
        (PortPolicy::Sequential(1), Clash::Next, "sequential"),
        (PortPolicy::Block(64), Clash::Random, "block"),
        (PortPolicy::Hash, Clash::Random, "hash"),
        (PortPolicy::Preserve, Clash::Overload, "overload"),
        (PortPolicy::Preserve, Clash::Drop, "rigid"),
    ];
    for (policy, clash, p) in policies {
        let (eim, apdm) = (mappings[0].0, mappings[2].0);
        let (eif, apdf) = (filterings[0].0, filterings[2].0);
        all.push((
            format!("eim-eif-{p}"),
            presets::with(eim, eif, policy, clash),
        ));
        all.push((
            format!("apdm-apdf-{p}"),
            presets::with(apdm, apdf, policy, clash),
        ));
    }
    let linux = |change: Change| {
        let mut nat = presets::linux();
        change(&mut nat);
        nat
    };
    let variants: [(&str, Change); 7] = [
        ("accept", |n| {
            n.wan_input = WanInput::Accept;
        }),
        ("reject", |n| {
            n.wan_input = WanInput::Reject;
        }),
        ("reset", |n| {
            n.unsolicited_syn = UnsolicitedSyn::Reset;
        }),
        ("icmp", |n| {
            n.unsolicited_syn = UnsolicitedSyn::Icmp;
        }),
        ("delayed", |n| {
            n.unsolicited_syn = UnsolicitedSyn::DelayedIcmp;
        }),
        ("hairpin", |n| {
            n.hairpin = Hairpin::ExternalSource;
        }),
        ("hairpin-inside", |n| {
            n.hairpin = Hairpin::InternalSource;
        }),
    ];
    all.extend(variants.map(|(name, change)| (format!("linux-{name}"), linux(change))));
    all
}
