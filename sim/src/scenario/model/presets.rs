//! The presets that a scenario may name, each with a description.

use crate::{
    link::{LinkConfig, region::Region},
    middlebox::{
        firewall::{self, FirewallConfig},
        nat::{self, NatConfig},
    },
};

/// The NAT of this name.
pub(crate) fn nat(name: &str) -> Option<NatConfig> {
    nat::presets::find(name).ok().map(|p| (p.make)())
}

/// The NATs and their descriptions.
pub(crate) fn nats() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    nat::presets::all().iter().map(|p| (p.name, p.about))
}

/// Where the values of the NAT or firewall of this name come from.
pub(crate) fn source(name: &str) -> Option<nat::presets::Source> {
    let nat = nat::presets::find(name).ok().map(|p| p.source);
    nat.or_else(|| firewall::presets::find(name).map(|p| p.source))
}

/// The firewall of this name.
pub(crate) fn firewall(name: &str) -> Option<FirewallConfig> {
    firewall::presets::find(name).map(|p| (p.make)())
}

/// The firewalls and their descriptions.
pub(crate) fn firewalls() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    firewall::presets::all().iter().map(|p| (p.name, p.about))
}

/// The links and their descriptions.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, String)> + Clone {
    let presets = LinkConfig::PRESETS.iter();
    presets.map(|(name, preset)| (*name, super::links::about(&preset())))
}

/// The regions.
pub(crate) fn regions() -> impl Iterator<Item = &'static str> + Clone {
    Region::ALL.iter().map(|r| r.name())
}
