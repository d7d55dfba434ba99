//! The choice of the external endpoint for a flow (RFC 4787 §4).

use std::net::Ipv4Addr;

use rand_core::Rng;

use super::{
    Clash, Mapping, Nat, Pooling, PortPolicy,
    key::{End, Key, Kind},
};
use crate::packet::{Proto, verdict::Rule};

/// How many ports are tried that may be shared; about as many as on Linux.
const SHARED_TRIES: u32 = 256;

/// The ports that replace those up to 511, and those from 512 to 1023, where ports below 1024 stay so.
const LOWEST: (u16, u16) = (1, 511);
const LOW: (u16, u16) = (600, 1_023);

impl Nat {
    /// The key that the flows of one mapping share.
    pub(super) fn source_key(&self, proto: Proto, inside: End, remote: End) -> Key {
        let far = match self.translation(proto).mapping {
            Mapping::EndpointIndependent => End::NONE,
            Mapping::AddressDependent => remote.bare(),
            Mapping::AddressAndPortDependent => remote,
        };
        Key::new(Kind::Source, proto, inside, far)
    }

    /// The external endpoint that a new flow to `remote` would share with older flows.
    pub(super) fn shared(&self, proto: Proto, inside: End, remote: End) -> Option<End> {
        let newest = self.table.newest(self.source_key(proto, inside, remote))?;
        let external = self.table.flow(newest).external;
        // The address of an older flow may not be the box's any more.
        self.is_own(external).then_some(external)
    }

    /// Chooses the external endpoint of a new flow. Returns it with the rule that describes the
    /// choice.
    pub(super) fn choose(
        &mut self,
        proto: Proto,
        inside: End,
        remote: End,
    ) -> Result<(End, Rule), Rule> {
        if let Some(external) = self.shared(proto, inside, remote)
            && self.table.find_in(proto, external, remote).is_none()
        {
            return Ok((external, Rule::NatReusedMapping));
        }
        if let Some(external) = self.forwards.external_of(proto, inside)
            && self.table.find_in(proto, external, remote).is_none()
        {
            return Ok((external, Rule::NatNewMapping));
        }
        let key = self.source_key(proto, inside, remote);
        let (policy, clash) = {
            let t = self.translation(proto);
            (t.ports, t.clash)
        };
        let address = match self.config.pooling {
            // A block of ports belongs to one address.
            _ if matches!(policy, PortPolicy::Block(_)) => self.paired(inside),
            Pooling::Paired => self.paired(inside),
            Pooling::Arbitrary if policy == PortPolicy::Hash => {
                let n = key.scatter(!self.seed) % self.public.len() as u64;
                self.public[n as usize]
            }
            Pooling::Arbitrary => {
                let n = self.below(self.public.len() as u32);
                self.public[n as usize]
            }
        };
        let range =
            match policy {
                PortPolicy::Block(size) => self
                    .blocks
                    .of(inside.ip(), address, size, self.config.port_range)
                    .ok_or(Rule::NatNoPort)?,
                _ if proto == Proto::Icmp => (0, u16::MAX),
                PortPolicy::Preserve | PortPolicy::PreserveParity | PortPolicy::Random
                    if self.config.low_ports_stay && inside.port() < 1_024 =>
                {
                    if inside.port() < 512 { LOWEST } else { LOW }
                }
                _ => self.config.port_range,
            };
        let wide = u32::from(range.1) - u32::from(range.0) + 1;
        let wanted = match policy {
            PortPolicy::Preserve | PortPolicy::PreserveParity => inside.port(),
            PortPolicy::Sequential(step) => {
                let last = self.last_port[proto as usize];
                let next = stepped(range, last, step);
                self.last_port[proto as usize] = next;
                next
            }
            PortPolicy::Random | PortPolicy::Block(_) => range.0 + self.below(wide) as u16,
            PortPolicy::Hash => range.0 + (key.scatter(self.seed) % u64::from(wide)) as u16,
        };
        let external = End::new(address, wanted);
        if self.is_free(proto, external, remote) {
            return Ok((external, Rule::NatNewMapping));
        }
        let (from, step) = match clash {
            Clash::Drop => return Err(Rule::NatNoPort),
            Clash::Next => match policy {
                PortPolicy::Sequential(step) => (stepped(range, wanted, step), step),
                _ => (stepped(range, wanted, 1), 1),
            },
            Clash::Random | Clash::Overload => (range.0 + self.below(wide) as u16, 1),
        };
        let parity = (policy == PortPolicy::PreserveParity).then_some(wanted & 1);
        let tries = match clash {
            Clash::Overload => wide.min(SHARED_TRIES),
            _ => wide,
        };
        let mut port = from;
        for pass in [step, 1] {
            for _ in 0..tries {
                let external = End::new(address, port);
                if parity.is_none_or(|p| p == port & 1) && self.is_free(proto, external, remote) {
                    if let PortPolicy::Sequential(_) = policy {
                        self.last_port[proto as usize] = port;
                    }
                    return Ok((external, self.moved(policy)));
                }
                port = stepped(range, port, pass);
            }
            // A step of 1 visits every port; other steps may not, so a second pass uses 1.
            if step == 1 {
                break;
            }
        }
        Err(Rule::NatNoPort)
    }

    /// The rule for a port that is not the first choice. A random port is never a second choice.
    const fn moved(&self, policy: PortPolicy) -> Rule {
        match policy {
            PortPolicy::Random | PortPolicy::Block(_) => Rule::NatNewMapping,
            _ => Rule::NatRemapped,
        }
    }

    /// The public address that is always used for an internal address.
    pub(super) fn paired(&self, inside: End) -> Ipv4Addr {
        let key = Key::new(Kind::Host, Proto::Udp, inside.bare(), End::NONE);
        self.public[(key.scatter(self.seed) % self.public.len() as u64) as usize]
    }

    /// Returns `true` when a new flow to `remote` may use `external`.
    fn is_free(&self, proto: Proto, external: End, remote: End) -> bool {
        let shared = matches!(self.translation(proto).clash, Clash::Overload | Clash::Drop);
        self.table.find_in(proto, external, remote).is_none()
            && (shared
                || (self.forwards.inside_of(proto, external).is_none()
                    && self
                        .table
                        .count(Key::new(Kind::External, proto, external, End::NONE))
                        == 0))
    }

    /// A random number below `n`; 0 when `n` is 0.
    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.rng.next_u32()) * u64::from(n)) >> 32) as u32
    }
}

/// The port `step` after `port`, wrapping around within the range.
fn stepped((low, high): (u16, u16), port: u16, step: i32) -> u16 {
    let wide = i64::from(high) - i64::from(low) + 1;
    let at = (i64::from(port) - i64::from(low) + i64::from(step)).rem_euclid(wide);
    low + at as u16
}
