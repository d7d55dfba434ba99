//! Plans the events of a scenario in its world.

use std::collections::BTreeMap;

use super::built::{Built, at};
use crate::{
    link::{LinkConfig, region::Region},
    scenario::model::{Action, Event, Scenario, links},
    world,
};

/// Plans events, which are in order of time.
pub(super) fn plan(built: &mut Built, s: &Scenario, events: &[Event]) {
    let mut renumbered = 0;
    let mut links = Links::default();
    for event in events {
        let node = |name: &String| built.node(name);
        let mut actions = Vec::new();
        match &event.action {
            Action::Reboot(r) => actions.push(world::Action::Reboot(node(r))),
            Action::Cut(n) => actions.push(world::Action::Cut(node(n))),
            Action::Unplug { node: n, keep } => actions.push(world::Action::Unplug {
                device: node(n),
                keep: *keep,
            }),
            Action::Mend(n) => actions.push(world::Action::Mend(node(n))),
            Action::Link(n, link) => {
                let link = links.set(n, links::config(link));
                actions.push(world::Action::SetLink(node(n), link));
            }
            Action::Change(n, link) => {
                let mut config = links.present(s, n);
                // It was checked when the scenario was read.
                let _ = links::change(&mut config, link);
                let link = links.set(n, config);
                actions.push(world::Action::SetLink(node(n), link));
            }
            Action::Renumber { router, keep, .. } => {
                actions.push(world::Action::Renumber {
                    router: node(router),
                    wan: built.plan.renumbered(renumbered).to_vec(),
                    keep: *keep,
                });
                renumbered += 1;
            }
            Action::Part(a, b) => {
                let pairs = pairs(a, b.as_deref());
                actions.extend(pairs.map(|(a, b)| world::Action::Part(a, b)));
            }
            Action::Join(a, b) => {
                let pairs = pairs(a, b.as_deref());
                actions.extend(pairs.map(|(a, b)| world::Action::Join(a, b)));
            }
            Action::Off(h) => actions.push(world::Action::SwitchOff(node(h))),
            Action::On(h) => actions.push(world::Action::SwitchOn(node(h))),
            // The sending host has its own list.
            Action::Send { .. } | Action::Map { .. } => {}
        }
        for action in actions {
            built.world.at(at(event.at), action);
        }
    }
}

/// The two regions, or the region and each other one.
fn pairs(a: &str, b: Option<&str>) -> impl Iterator<Item = (Region, Region)> {
    // Names were checked when the scenario was read.
    let a = Region::by_name(a).unwrap_or_default();
    let others: Vec<Region> = match b.and_then(Region::by_name) {
        Some(b) => vec![b],
        None => Region::ALL.iter().copied().filter(|r| *r != a).collect(),
    };
    others.into_iter().map(move |b| (a, b))
}

/// The links that events have changed, by the name of what is below them.
#[derive(Default)]
struct Links(BTreeMap<String, LinkConfig>);

impl Links {
    fn set(&mut self, name: &str, link: LinkConfig) -> LinkConfig {
        self.0.insert(name.into(), link.clone());
        link
    }

    fn present(&self, s: &Scenario, name: &str) -> LinkConfig {
        if let Some(link) = self.0.get(name) {
            return link.clone();
        }
        let router = s.routers.iter().find(|r| r.name == name).map(|r| &r.link);
        let host = || s.hosts.iter().find(|h| h.name == name).map(|h| &h.link);
        router
            .or_else(host)
            .map(links::config)
            .unwrap_or_else(LinkConfig::lan)
    }
}
