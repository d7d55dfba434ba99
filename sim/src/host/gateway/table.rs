//! The port mappings of a gateway, and how they get into the NAT of its box.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, SocketAddrV4},
    time::Duration,
};

use dunlin_core::{Instant, wire::pcp::Nonce};

use crate::{
    middlebox::nat::{ForwardError, Nat},
    packet::Proto,
};

/// The protocol that made a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// UPnP.
    Upnp,
    /// NAT-PMP.
    NatPmp,
    /// PCP, with the nonce of its client.
    Pcp(Nonce),
}

impl Owner {
    /// Returns `true` when both are of one protocol.
    pub(super) const fn is_like(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::Upnp, Self::Upnp) | (Self::NatPmp, Self::NatPmp) | (Self::Pcp(_), Self::Pcp(_))
        )
    }
}

/// A port mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// UDP or TCP.
    pub proto: Proto,
    /// The port outside.
    pub external: u16,
    /// The endpoint inside.
    pub internal: SocketAddrV4,
    /// The mapping is in force. One that is not is only listed.
    pub enabled: bool,
    /// The description that the client gave.
    pub description: String,
    /// When it ends; `None` for never.
    pub expires: Option<Instant>,
    /// The protocol that made it.
    pub owner: Owner,
    /// Mappings are numbered in the order in which they were made.
    pub(super) number: u64,
    /// Where it is in force.
    pub(super) at: Option<SocketAddr>,
}

impl PortMapping {
    /// The rest of the lease in seconds, rounded up; 0 for one that never ends.
    pub(super) fn left(&self, now: Instant) -> u32 {
        let left = self.expires.map(|at| at.saturating_since(now));
        left.map_or(0, |left| {
            u32::try_from(left.as_micros().div_ceil(1_000_000)).unwrap_or(u32::MAX)
        })
    }
}

/// The reasons why a mapping is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The port belongs to another client, or to a flow of one.
    Taken,
    /// The port is forwarded by hand.
    ByHand,
    /// The box has no room for another mapping.
    Full,
    /// The client has as many mappings as it may have.
    Quota,
    /// The box translates nothing.
    NoAddress,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) proto: Proto,
    pub(super) external: u16,
    pub(super) internal: SocketAddrV4,
    pub(super) enabled: bool,
    pub(super) description: String,
    pub(super) lease: Option<Duration>,
    pub(super) owner: Owner,
}

/// The limits of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) total: usize,
    pub(super) per_client: Option<u32>,
}

/// The port mappings, by protocol and external port.
#[derive(Clone, Debug, Default)]
pub(super) struct Mappings {
    by_port: BTreeMap<(Proto, u16), PortMapping>,
    made: u64,
}

impl Mappings {
    pub(super) fn iter(&self) -> impl Iterator<Item = &PortMapping> {
        self.by_port.values()
    }

    /// The mappings in the order in which they were made.
    pub(super) fn in_order(&self) -> Vec<&PortMapping> {
        let mut all: Vec<&PortMapping> = self.iter().collect();
        all.sort_by_key(|m| m.number);
        all
    }

    pub(super) fn get(&self, proto: Proto, external: u16) -> Option<&PortMapping> {
        self.by_port.get(&(proto, external))
    }

    /// The oldest mapping of an internal endpoint that satisfies a condition.
    pub(super) fn of(
        &self,
        proto: Proto,
        internal: SocketAddrV4,
        fits: impl Fn(Owner) -> bool,
    ) -> Option<&PortMapping> {
        self.iter()
            .filter(|m| m.proto == proto && m.internal == internal && fits(m.owner))
            .min_by_key(|m| m.number)
    }

    /// Removes what has ended. The NAT has removed it itself.
    pub(super) fn expire(&mut self, now: Instant) {
        self.by_port
            .retain(|_, m| m.expires.is_none_or(|at| at > now));
    }

    /// Makes a mapping of exactly this port, or replaces that of the same client.
    pub(super) fn put(
        &mut self,
        now: Instant,
        nat: Option<&mut Nat>,
        limits: Limits,
        wanted: Wanted,
    ) -> Result<(), Refused> {
        let nat = nat.ok_or(Refused::NoAddress)?;
        let place = (wanted.proto, wanted.external);
        let known = self.by_port.get(&place).map(|m| (m.number, m.at));
        let same = self.by_port.get(&place).map(|m| m.internal) == Some(wanted.internal);
        if known.is_none() {
            let public = nat.public().to_vec();
            if public.into_iter().any(|ip| {
                let external = SocketAddr::new(ip.into(), wanted.external);
                nat.forward_at(now, wanted.proto, external).is_some()
            }) {
                return Err(Refused::ByHand);
            }
            if self.by_port.len() >= limits.total {
                return Err(Refused::Full);
            }
            let same = |m: &&PortMapping| m.internal.ip() == wanted.internal.ip();
            let of_client = self.iter().filter(same).count();
            if limits
                .per_client
                .is_some_and(|most| of_client >= most as usize)
            {
                return Err(Refused::Quota);
            }
        } else if let Some(at) = known.and_then(|(_, at)| at) {
            nat.unforward(now, wanted.proto, at);
        }
        let at = if wanted.enabled && wanted.internal.port() != 0 {
            let internal = wanted.internal.into();
            match nat.forward(now, wanted.proto, wanted.external, internal, wanted.lease) {
                Ok(at) => Some(at),
                Err(why) => {
                    // What it would have replaced is not in force any more.
                    self.by_port.remove(&place);
                    return Err(match why {
                        ForwardError::Full => Refused::Full,
                        ForwardError::Taken | ForwardError::Unsupported => Refused::Taken,
                    });
                }
            }
        } else {
            None
        };
        // Who changes a mapping makes another one.
        let number = known
            .filter(|_| same)
            .map_or(self.made, |(number, _)| number);
        self.made += 1;
        let mapping = PortMapping {
            proto: wanted.proto,
            external: wanted.external,
            internal: wanted.internal,
            enabled: wanted.enabled,
            description: wanted.description,
            expires: wanted.lease.map(|lease| now + lease),
            owner: wanted.owner,
            number,
            at,
        };
        self.by_port.insert(place, mapping);
        Ok(())
    }

    /// Ends a mapping.
    pub(super) fn remove(
        &mut self,
        now: Instant,
        nat: Option<&mut Nat>,
        proto: Proto,
        external: u16,
    ) -> Option<PortMapping> {
        let gone = self.by_port.remove(&(proto, external))?;
        if let (Some(nat), Some(at)) = (nat, gone.at) {
            nat.unforward(now, proto, at);
        }
        Some(gone)
    }

    /// Ends all mappings.
    pub(super) fn clear(&mut self, now: Instant, mut nat: Option<&mut Nat>) {
        let all: Vec<_> = self.by_port.keys().copied().collect();
        for (proto, external) in all {
            self.remove(now, nat.as_deref_mut(), proto, external);
        }
    }

    /// Brings all mappings into force again, after a restart or under a new address. What cannot be
    /// restored is forgotten.
    pub(super) fn restore(&mut self, now: Instant, mut nat: Option<&mut Nat>) {
        self.expire(now);
        for mut mapping in std::mem::take(&mut self.by_port).into_values() {
            if let Some(nat) = nat.as_deref_mut() {
                if let Some(old) = mapping.at.take() {
                    nat.unforward(now, mapping.proto, old);
                }
                if mapping.enabled && mapping.internal.port() != 0 {
                    let left = mapping.expires.map(|at| at.saturating_since(now));
                    let internal = mapping.internal.into();
                    let made = nat.forward(now, mapping.proto, mapping.external, internal, left);
                    let Ok(at) = made else { continue };
                    mapping.at = Some(at);
                }
            }
            self.by_port
                .insert((mapping.proto, mapping.external), mapping);
        }
    }
}
