//! Port mappings that were asked for: by hand, or with UPnP, NAT-PMP or PCP.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use dunlin_core::Instant;

use super::key::End;
use crate::packet::Proto;

/// The most port mappings of one box.
pub const MAX_FORWARDS: usize = 1_024;

/// A port mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// UDP or TCP.
    pub proto: Proto,
    /// The endpoint outside.
    pub external: SocketAddr,
    /// The endpoint inside.
    pub internal: SocketAddr,
    /// When the mapping ends; `None` for a mapping made by hand, which survives a restart.
    pub expires: Option<Instant>,
}

/// The reasons why a port mapping was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// The external port belongs to another internal endpoint.
    Taken,
    /// There are [`MAX_FORWARDS`] already.
    Full,
    /// The protocol is neither UDP nor TCP, the address is not IPv4, or the port is 0.
    Unsupported,
}

type Place = (Proto, u64);

const fn place(proto: Proto, end: End) -> Place {
    (proto, end.bits())
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    inside: End,
    external: End,
    expires: Option<Instant>,
}

/// The port mappings of a box.
#[derive(Clone, Debug, Default)]
pub(super) struct Forwards {
    by_external: BTreeMap<Place, Lease>,
    by_inside: BTreeMap<Place, End>,
    /// The earliest end of a mapping, or earlier.
    next: Option<Instant>,
    /// The host that gets what arrives at a port without a mapping.
    pub(super) exposed: Option<Ipv4Addr>,
}

impl Forwards {
    /// Returns `true` when there are [`MAX_FORWARDS`].
    pub(super) fn is_full(&self) -> bool {
        self.by_external.len() >= MAX_FORWARDS
    }

    /// Makes or renews a mapping.
    pub(super) fn insert(
        &mut self,
        proto: Proto,
        external: End,
        inside: End,
        expires: Option<Instant>,
    ) {
        let lease = Lease {
            inside,
            external,
            expires,
        };
        self.by_external.insert(place(proto, external), lease);
        self.by_inside.insert(place(proto, inside), external);
        self.next = [self.next, expires].into_iter().flatten().min();
    }

    /// All mappings, by protocol and external endpoint.
    pub(super) fn iter(&self) -> impl Iterator<Item = Forward> {
        self.by_external.iter().map(|((proto, _), lease)| Forward {
            proto: *proto,
            external: lease.external.addr(),
            internal: lease.inside.addr(),
            expires: lease.expires,
        })
    }

    pub(super) fn external_of(&self, proto: Proto, inside: End) -> Option<End> {
        // This is called for every new flow, and most boxes have no mappings.
        if self.by_inside.is_empty() {
            return None;
        }
        self.by_inside.get(&place(proto, inside)).copied()
    }

    pub(super) fn inside_of(&self, proto: Proto, external: End) -> Option<End> {
        if self.by_external.is_empty() {
            return None;
        }
        Some(self.by_external.get(&place(proto, external))?.inside)
    }

    pub(super) fn remove(&mut self, proto: Proto, external: End) -> Option<End> {
        let lease = self.by_external.remove(&place(proto, external))?;
        let back = place(proto, lease.inside);
        if self.by_inside.get(&back) == Some(&external) {
            self.by_inside.remove(&back);
        }
        Some(lease.inside)
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        self.retain(|at| at.is_none_or(|at| at > now));
    }

    /// The mapping of an external endpoint.
    pub(super) fn at(&self, proto: Proto, external: End) -> Option<Forward> {
        let lease = self.by_external.get(&place(proto, external))?;
        Some(Forward {
            proto,
            external: lease.external.addr(),
            internal: lease.inside.addr(),
            expires: lease.expires,
        })
    }

    /// Removes the leases, which do not survive a restart.
    pub(super) fn reboot(&mut self) {
        self.retain(|at| at.is_none());
    }

    /// Moves every mapping to the external address that `address` tells for its internal endpoint.
    pub(super) fn move_to(&mut self, address: impl Fn(End) -> Ipv4Addr) {
        self.by_inside.clear();
        self.next = None;
        for ((proto, _), lease) in std::mem::take(&mut self.by_external) {
            let external = End::new(address(lease.inside), lease.external.port());
            self.insert(proto, external, lease.inside, lease.expires);
        }
    }

    fn retain(&mut self, keep: impl Fn(Option<Instant>) -> bool) {
        let gone: Vec<(Proto, End)> = (self.by_external.iter())
            .filter(|(_, lease)| !keep(lease.expires))
            .map(|((proto, _), lease)| (*proto, lease.external))
            .collect();
        for (proto, external) in gone {
            self.remove(proto, external);
        }
        self.next = self.by_external.values().filter_map(|l| l.expires).min();
    }
}
