//! The flows through a box, and those that it lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use dunlin_core::Instant;

use super::MAX_KEPT;
use crate::{
    packet::{Flow, Proto, TcpFlags, verdict::Rule},
    world::trace::Ports,
};

/// The most losses that are kept. Further ones are counted.
pub const MAX_LOSSES: usize = 10_000;

/// What a box has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The external endpoint: nobody can send to it any more.
    Mapping,
    /// The flow alone.
    Flow,
}

/// A flow that did not live on, as the first packet showed that met it missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The time of that packet.
    pub at: Instant,
    /// What was lost.
    pub lost: Lost,
    /// The endpoint inside.
    pub inside: SocketAddr,
    /// The endpoint outside.
    pub remote: SocketAddr,
    /// The rule that decided about the packet.
    pub rule: Rule,
}

type Key = (Proto, SocketAddr, SocketAddr);

/// The flows that a box has passed.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// The external endpoint of each flow, by its endpoints inside and outside.
    live: BTreeMap<Key, SocketAddr>,
    /// The flows by external endpoint and remote endpoint.
    by_external: BTreeMap<Key, SocketAddr>,
    /// The flows whose loss was noted already.
    dead: BTreeSet<Key>,
    losses: Vec<Loss>,
    lost: u64,
    overflow: bool,
}

impl Flows {
    pub(super) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    pub(super) fn lost(&self) -> Option<u64> {
        (!self.overflow).then_some(self.lost)
    }

    pub(super) fn decided(
        &mut self,
        at: Instant,
        outward: bool,
        rule: Rule,
        before: Ports,
        flow: &Flow,
    ) {
        if flow.proto == Proto::Icmp {
            return;
        }
        match outward {
            true => self.outward(at, rule, before, flow),
            false => self.inward(at, rule, before, flow),
        }
        let ends = flow.flags.has(TcpFlags::FIN) || flow.flags.has(TcpFlags::RST);
        if flow.proto == Proto::Tcp && ends {
            // What its two hosts have ended is not lost.
            let inside = match outward {
                true => Some((flow.proto, before.0, before.1)),
                false => self.inside_of(flow.proto, before.1, before.0),
            };
            self.forget(inside);
        }
    }

    fn inside_of(&self, proto: Proto, external: SocketAddr, remote: SocketAddr) -> Option<Key> {
        let inside = self.by_external.get(&(proto, external, remote))?;
        Some((proto, *inside, remote))
    }

    fn forget(&mut self, key: Option<Key>) {
        let Some(key) = key else { return };
        self.dead.remove(&key);
        if let Some(external) = self.live.remove(&key) {
            self.by_external.remove(&(key.0, external, key.2));
        }
    }

    fn outward(&mut self, at: Instant, rule: Rule, before: Ports, flow: &Flow) {
        let key = (flow.proto, before.0, before.1);
        let known = self.live.get(&key).copied();
        match rule {
            Rule::NatMapped
            | Rule::NatNewMapping
            | Rule::NatReusedMapping
            | Rule::NatRemapped
            | Rule::NatHairpin
            | Rule::FirewallNew
            | Rule::FirewallEstablished => {
                let lost = match rule {
                    Rule::NatNewMapping | Rule::NatRemapped => Some(Lost::Mapping),
                    Rule::NatReusedMapping | Rule::FirewallNew => Some(Lost::Flow),
                    _ if known.is_some_and(|external| external != flow.src) => Some(Lost::Mapping),
                    _ => None,
                };
                if known.is_some()
                    && let Some(lost) = lost
                {
                    self.note(at, key, lost, rule);
                }
                self.dead.remove(&key);
                self.keep(key, flow.src);
            }
            Rule::NatTableFull | Rule::NatHostLimit | Rule::NatNoPort | Rule::FirewallTableFull
                if known.is_some() =>
            {
                self.note(at, key, Lost::Mapping, rule);
                self.dead.insert(key);
            }
            _ => {}
        }
    }

    fn inward(&mut self, at: Instant, rule: Rule, before: Ports, flow: &Flow) {
        let lost = match rule {
            Rule::NatExpired | Rule::NatRebooted | Rule::NatNoMapping => Lost::Mapping,
            Rule::NatFiltered | Rule::FirewallUnsolicited => Lost::Flow,
            _ => return,
        };
        let (remote, external) = before;
        if let Some(key) = self.inside_of(flow.proto, external, remote) {
            self.note(at, key, lost, rule);
            self.dead.insert(key);
        }
    }

    fn keep(&mut self, key: Key, external: SocketAddr) {
        if self.live.len() >= MAX_KEPT {
            self.overflow |= !self.live.contains_key(&key);
            return;
        }
        if let Some(old) = self.live.insert(key, external)
            && old != external
        {
            self.by_external.remove(&(key.0, old, key.2));
        }
        self.by_external.insert((key.0, external, key.2), key.1);
    }

    /// Notes the loss of a flow, once until it is opened again.
    fn note(&mut self, at: Instant, key: Key, lost: Lost, rule: Rule) {
        if self.dead.contains(&key) {
            return;
        }
        self.lost += 1;
        if self.losses.len() < MAX_LOSSES {
            self.losses.push(Loss {
                at,
                lost,
                inside: key.1,
                remote: key.2,
                rule,
            });
        }
    }
}
