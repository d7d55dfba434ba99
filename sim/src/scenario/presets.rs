//! The presets that a scenario may name, in one place: each with a sentence about it.

use crate::{
    firewall, firewall::FirewallConfig, link::LinkConfig, nat, nat::NatConfig, region::Region,
};

/// A NAT by its name.
pub(super) fn nat(name: &str) -> Option<NatConfig> {
    nat::presets::find(name).ok().map(|p| (p.make)())
}

/// The NATs and what each is like.
pub(super) fn nats() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    nat::presets::all().iter().map(|p| (p.name, p.about))
}

/// A firewall by its name.
pub(super) fn firewall(name: &str) -> Option<FirewallConfig> {
    firewall::presets::find(name).map(|p| (p.make)())
}

/// The firewalls.
pub(super) fn firewalls() -> impl Iterator<Item = (&'static str, &'static str)> + Clone {
    firewall::presets::all().iter().map(|p| (p.name, p.about))
}

/// The links.
pub(super) fn links() -> impl Iterator<Item = (&'static str, String)> + Clone {
    let presets = LinkConfig::PRESETS.iter();
    presets.map(|(name, preset)| (*name, super::links::about(&preset())))
}

/// The regions.
pub(super) fn regions() -> impl Iterator<Item = &'static str> + Clone {
    Region::ALL.iter().map(|r| r.name())
}
