//! The presets that a scenario may name, in one place: each with a sentence about it.

use crate::{
    link::{LinkConfig, region::Region},
    middlebox::{
        firewall::{self, FirewallConfig},
        nat::{self, NatConfig},
    },
};

/// A NAT by its name.
pub(crate) fn nat(name: &str) -> Option<NatConfig> {
    nat::presets::find(name).ok().map(|p| (p.make)())
}

/// The NATs and what each is like.
pub(crate) fn nats() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    nat::presets::all().iter().map(|p| (p.name, p.about))
}

/// A firewall by its name.
pub(crate) fn firewall(name: &str) -> Option<FirewallConfig> {
    firewall::presets::find(name).map(|p| (p.make)())
}

/// The firewalls.
pub(crate) fn firewalls() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    firewall::presets::all().iter().map(|p| (p.name, p.about))
}

/// The links.
pub(crate) fn links() -> impl Iterator<Item = (&'static str, String)> + Clone {
    let presets = LinkConfig::PRESETS.iter();
    presets.map(|(name, preset)| (*name, super::links::about(&preset())))
}

/// The regions.
pub(crate) fn regions() -> impl Iterator<Item = &'static str> + Clone {
    Region::ALL.iter().map(|r| r.name())
}
