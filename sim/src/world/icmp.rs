//! The ICMP errors of routers (RFC 792, RFC 1812 §4.3, RFC 4443).

use std::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;

use super::{World, device};
use crate::{
    id::DeviceId,
    packet::{IcmpError, Packet, Proto},
};

/// The ICMP error about a packet. Returns `None` when there must be no error: about an ICMP error,
/// a multicast or broadcast packet, a later fragment, or a packet whose source is not the address
/// of one host (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)).
pub(super) fn error(from: IpAddr, error: IcmpError, about: &Packet) -> Option<Packet> {
    let flow = about.flow();
    let is_error = flow.proto == Proto::Icmp && about.is_icmp_reply().is_none();
    let later = about.fragment().is_some_and(|f| f.offset > 0);
    let answerable = device::is_answerable(flow.src.ip()) && !device::is_for_many(flow.dst.ip());
    let fits = from.is_ipv4() == flow.src.is_ipv4();
    (fits && answerable && !is_error && !later).then(|| Packet::icmp_error(from, error, about))
}

impl World {
    /// The error that a device sends about a packet. Returns `None` when the device has no address
    /// to send from, or has sent too many errors.
    pub(super) fn icmp_error_from(
        &mut self,
        at: Instant,
        id: DeviceId,
        inward: bool,
        trouble: IcmpError,
        about: &Packet,
    ) -> Option<Packet> {
        let v4 = about.flow().src.is_ipv4();
        let Some(router) = self.devices[id.index()].router_mut() else {
            // A host's own stack reports the error to itself.
            return error(about.flow().src.ip(), trouble, about);
        };
        let guess = match router.lan.is_empty() && inward {
            true => router.inner_address(about.flow().src.ip()),
            false => None,
        };
        let lan = router.lan.iter().filter(|_| inward).chain(&guess);
        let mut own = lan.chain(&router.wan).chain(&router.lan);
        let from = *own.find(|a| a.is_ipv4() == v4)?;
        let packet = error(from, trouble, about)?;
        let (left, since) = &mut router.errors;
        if at.saturating_since(*since).as_secs() > 0 {
            (*left, *since) = (device::ERRORS_PER_SECOND, at);
        }
        *left = left.checked_sub(1)?;
        Some(packet)
    }

    /// A router's own error, which its NAT has translated: hosts inside get it from its inner address.
    pub(super) fn sent_inward(&self, n: u32, packet: &mut Packet) {
        let (src, dst) = (packet.flow().src, packet.flow().dst.ip());
        if let Some(router) = self.devices[n as usize].router() {
            let guess = router.inner_address(dst);
            let mut lan = router.lan.iter().chain(&guess);
            if let Some(own) = lan.find(|a| a.is_ipv4() == dst.is_ipv4()) {
                packet.set_src(SocketAddr::new(*own, src.port()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dunlin_core::Instant;

    use crate::{
        BoxConfig, LinkConfig, Packet, World, host::light::Scripted, middlebox::nat::presets,
    };

    #[test]
    fn a_nat_tells_hosts_inside_from_its_inner_address() {
        let mut world = World::new(1);
        let core = world.core();
        let config = BoxConfig {
            nat: Some(presets::linux()),
            ..BoxConfig::default()
        };
        let router = world.add_router(core, LinkConfig::perfect(), config, &[[9, 0, 0, 5].into()]);
        let (inside, outside) = (([10, 1, 0, 2], 5).into(), ([9, 0, 0, 1], 7).into());
        let mut bytes = Packet::udp(inside, outside, b"x").into_bytes();
        bytes[8] = 1;
        let mut packet = Packet::parse(bytes).expect("a packet");
        packet.fill_checksums();
        let host = Scripted::new().send(Instant::ORIGIN, packet);
        let host = world.add_host(router, LinkConfig::perfect(), &[inside.ip()], host);
        world.start();
        world.run_for(Duration::from_secs(1));
        let got = world.host::<Scripted>(host).expect("there").received();
        let [(_, error)] = got else {
            panic!("one error: {got:?}");
        };
        assert_eq!(error.transport()[..2], [11, 0]);
        assert_eq!(error.flow().src.ip(), std::net::IpAddr::from([10, 1, 0, 1]));
    }
}
