//! Gateways: routers on which clients make port mappings themselves, over UPnP IGD 1 and 2, NAT-PMP
//! (RFC 6886) and PCP (RFC 6887).
//!
//! A [`Gateway`] lives inside the box of a router ([`World::set_gateway`](crate::World)) and answers
//! at the box's inner addresses. What it maps is mapped in the box's NAT, and what it lets through
//! by IPv6 is let through by its firewall, so real traffic follows. Which protocols it speaks, its
//! limits, and in what it deviates from the specifications is its [`GatewayProfile`].
//!
//! The restart of the router restarts the gateway, and [`World::renumber`](crate::World::renumber)
//! wakes it: it announces the new address. [`Gateway::refresh`] does the same for who changes the NAT
//! itself.
//!
//! Where the model stops: nothing subscribes to events, PCP's PEER and FILTER are unknown, and the
//! description lists no devices but those that lead to port mappings.

mod announce;
mod description;
mod http;
mod natpmp;
mod pcp;
mod pinholes;
mod profile;
mod quirks;
mod soap;
mod ssdp;
mod table;
#[cfg(test)]
mod tests;
mod wan;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dunlin_core::{Instant, wire::natpmp as wire};

use self::{
    announce::Announcer,
    pinholes::Pinholes,
    ssdp::Ssdp,
    table::{Limits, Mappings, Refused, Wanted},
};
pub use self::{
    profile::{ELSEWHERE, GatewayPreset, GatewayProfile, Igd, Manner},
    quirks::{Quirk, Quirks},
    table::{Owner, PortMapping},
};
use super::{
    Host, HostCx,
    stack::{MTU, TcpServer},
};
use crate::{
    middlebox::nat::Nat,
    packet::{Packet, Proto},
};

/// What a gateway has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GatewayStats {
    /// Answers to NAT-PMP and PCP requests.
    pub answers: u64,
    /// Answers to SSDP searches.
    pub searches: u64,
    /// HTTP requests that were answered.
    pub requests: u64,
}

/// The services of a router. See the [module](self).
pub struct Gateway {
    profile: GatewayProfile,
    addrs: Vec<IpAddr>,
    mappings: Mappings,
    pinholes: Pinholes,
    announcer: Announcer,
    ssdp: Ssdp,
    web: Option<TcpServer>,
    /// The epoch of NAT-PMP and PCP: when the mappings were last lost.
    epoch: Instant,
    booted: Instant,
    /// The outer address that clients know.
    wan: Option<Ipv4Addr>,
    /// The restarts of the box that it knows of; `None` before it was switched on.
    restarts: Option<u64>,
    stats: GatewayStats,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("profile", &self.profile)
            .field("addrs", &self.addrs)
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// Creates a gateway that answers at `addrs`, inner addresses of its box. The first one of IPv4
    /// is the one that clients are told.
    #[must_use]
    pub fn new(addrs: &[IpAddr], profile: GatewayProfile) -> Self {
        Self {
            ssdp: Ssdp::default(),
            addrs: addrs.to_vec(),
            profile,
            mappings: Mappings::default(),
            pinholes: Pinholes::default(),
            announcer: Announcer::default(),
            web: None,
            epoch: Instant::ORIGIN,
            booted: Instant::ORIGIN,
            wan: None,
            restarts: None,
            stats: GatewayStats::default(),
        }
    }

    /// The profile.
    #[must_use]
    pub const fn profile(&self) -> &GatewayProfile {
        &self.profile
    }

    /// The counters.
    #[must_use]
    pub const fn stats(&self) -> GatewayStats {
        self.stats
    }

    /// The port mappings, by protocol and external port, including those that have ended since the
    /// last request.
    pub fn mappings(&self) -> impl Iterator<Item = &PortMapping> {
        self.mappings.iter()
    }

    /// Looks whether the outer address has changed, or the box has restarted, and tells the clients.
    pub fn refresh(&mut self, cx: &mut HostCx<'_>) {
        let restarts = nat_of(cx).map_or(0, |nat| nat.stats().reboots);
        if self.restarts != Some(restarts) {
            self.boot(cx);
            return;
        }
        let wan = outer(cx);
        if wan != self.wan {
            self.wan = wan;
            self.epoch = cx.now;
            self.mappings.restore(cx.now, nat_of(cx));
            self.announcer.begin(cx.now);
        }
    }

    /// Says goodbye to SSDP clients, as a gateway does that is switched off properly.
    pub fn leave(&self, cx: &mut HostCx<'_>) {
        self.notify(cx, false);
    }

    fn boot(&mut self, cx: &mut HostCx<'_>) {
        let (boot, restarts) = nat_of(cx).map_or_else(Default::default, |nat| {
            (nat.config().boot, nat.stats().reboots)
        });
        let first = self.restarts.is_none();
        self.restarts = Some(restarts);
        let ready = if first { cx.now } else { cx.now + boot };
        self.wan = outer(cx);
        self.booted = ready;
        self.pinholes = Pinholes::default();
        if first || self.profile.has(Quirk::ForgetsMappings) {
            self.epoch = ready;
            self.mappings.clear(cx.now, nat_of(cx));
        } else {
            self.mappings.restore(cx.now, nat_of(cx));
        }
        if let Some(nat) = nat_of(cx)
            && self.profile.has(Quirk::ForgetsMappings)
        {
            nat.expose(None);
        }
        self.announcer.begin(ready);
        self.ssdp.begin(ready);
        self.web = None;
        if self.profile.igd.is_some() {
            let seed = cx.rng.next_u64();
            let port = self.profile.http_port;
            self.web = Some(TcpServer::new(&self.addrs, port, MTU, seed));
        }
    }

    /// Its IPv4 address on the inner side.
    fn lan(&self) -> Option<Ipv4Addr> {
        self.addrs.iter().find_map(|addr| match addr {
            IpAddr::V4(v4) if *v4 != ELSEWHERE => Some(*v4),
            _ => None,
        })
    }

    fn epoch(&self, now: Instant) -> u32 {
        let secs = now.saturating_since(self.epoch).as_secs();
        u32::try_from(secs).unwrap_or(u32::MAX)
    }

    /// The external address that clients are told; `None` when the box has none.
    fn told_address(&self, cx: &mut HostCx<'_>) -> Option<Ipv4Addr> {
        let lies = [
            (Quirk::AddressUnspecified, Ipv4Addr::UNSPECIFIED),
            (Quirk::AddressLoopback, Ipv4Addr::LOCALHOST),
            (Quirk::AddressPrivate, Ipv4Addr::new(192, 168, 100, 2)),
        ];
        let lie = lies.iter().find(|(quirk, _)| self.profile.has(*quirk));
        lie.map(|(_, addr)| *addr).or_else(|| outer(cx))
    }

    fn limits(&self) -> Limits {
        Limits {
            total: self.profile.max_mappings as usize,
            per_client: self.profile.max_per_client,
        }
    }

    fn may_map(&self, port: u16) -> bool {
        (self.profile.ports.0..=self.profile.ports.1).contains(&port)
    }

    /// Returns `true` when a mapping of `owner` may be renewed or deleted by way of `by`.
    fn shares(&self, owner: Owner, by: Owner) -> bool {
        owner.is_like(by) || !self.profile.has(Quirk::SeparateMappings)
    }

    /// Makes a mapping of the port that is wanted. Another one of the same client is replaced.
    fn map(&mut self, cx: &mut HostCx<'_>, wanted: Wanted) -> Result<(), Refused> {
        let owned = self.mappings.get(wanted.proto, wanted.external);
        if owned.is_some_and(|m| {
            m.internal.ip() != wanted.internal.ip() || !self.shares(m.owner, wanted.owner)
        }) {
            return Err(Refused::Taken);
        }
        let limits = self.limits();
        self.mappings.put(cx.now, nat_of(cx), limits, wanted)
    }

    /// Makes a mapping of the port that is wanted, or of the next one that is free. Returns the
    /// port. With `exactly_inside`, ports of other mappings of the client are not free either.
    fn map_near(
        &mut self,
        cx: &mut HostCx<'_>,
        mut wanted: Wanted,
        exactly_inside: bool,
    ) -> Result<u16, Refused> {
        let (low, high) = self.profile.ports;
        let range = u32::from(high.saturating_sub(low)) + 1;
        let mut port = wanted.external.max(low);
        for _ in 0..range {
            if port > high || port < low {
                port = low;
            }
            wanted.external = port;
            let other = self.mappings.get(wanted.proto, port);
            let other = other.is_some_and(|m| exactly_inside && m.internal != wanted.internal);
            if !other {
                match self.map(cx, wanted.clone()) {
                    Err(Refused::Taken | Refused::ByHand) => {}
                    Err(why) => return Err(why),
                    Ok(()) => return Ok(port),
                }
            }
            port = port.wrapping_add(1);
        }
        Err(Refused::Full)
    }

    /// Handles a datagram of NAT-PMP or PCP, which share a port.
    fn port_control(&mut self, cx: &mut HostCx<'_>, packet: &Packet) {
        let (from, to) = (packet.flow().src, packet.flow().dst);
        let data = packet.payload();
        let Some(version) = data.first() else { return };
        let answer = match (from, version) {
            (SocketAddr::V4(from), 0) if self.profile.nat_pmp => self.nat_pmp(cx, from, data),
            _ if self.profile.pcp => self.pcp(cx, from, data),
            (SocketAddr::V4(from), _) if self.profile.nat_pmp => self.nat_pmp(cx, from, data),
            _ => None,
        };
        if let Some(answer) = answer {
            self.stats.answers += 1;
            cx.send_udp(to, from, &answer);
        }
    }

    fn is_up(&self, now: Instant) -> bool {
        self.restarts.is_some() && now >= self.booted
    }
}

impl Host for Gateway {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.boot(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        self.refresh(cx);
        let flow = *packet.flow();
        let own = self.addrs.contains(&flow.dst.ip());
        if !self.is_up(cx.now) || !(own || flow.dst.ip().is_multicast()) {
            return cx.recycle(packet);
        }
        self.mappings.expire(cx.now);
        self.pinholes.expire(cx.now);
        match (flow.proto, flow.dst.port()) {
            (Proto::Tcp, _) if own && self.web.is_some() => {
                if let Some(web) = &mut self.web {
                    web.arrive(packet);
                }
                return self.serve(cx);
            }
            (Proto::Udp, wire::PORT) if own => self.port_control(cx, &packet),
            (Proto::Udp, ssdp::PORT) => self.search(cx, &packet),
            _ => {}
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.refresh(cx);
        if self.is_up(cx.now) {
            self.announce(cx);
            self.speak(cx);
            self.serve(cx);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let igd = self.profile.igd.is_some();
        let times = [
            self.announcer.next(),
            self.ssdp.next().filter(|_| igd),
            self.web.as_ref().and_then(TcpServer::next_wake),
        ];
        times.into_iter().flatten().min()
    }
}

fn nat_of<'a>(cx: &'a mut HostCx<'_>) -> Option<&'a mut Nat> {
    cx.middlebox.as_deref_mut()?.nat_mut()
}

/// The outer address of the box.
fn outer(cx: &mut HostCx<'_>) -> Option<Ipv4Addr> {
    let first = nat_of(cx)?.public().first().copied();
    first.filter(|addr| !addr.is_unspecified())
}
