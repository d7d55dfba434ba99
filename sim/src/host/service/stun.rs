//! A STUN server with two addresses and two ports, which tells clients their external endpoint and
//! lets them discover the behaviour of their NAT (RFC 8489, RFC 5780).

use std::net::{IpAddr, SocketAddr};

use dunlin_core::{
    Instant,
    wire::stun::{self, Attribute, Builder, ChangeRequest, Class, Message, UnknownAttributes},
};

use crate::{
    host::{Host, HostCx},
    packet::{Packet, Proto},
};

/// The most unknown attributes that an error response lists.
const MAX_UNKNOWN: usize = 8;
/// The longest response.
const MAX_RESPONSE: usize = 548;

/// A STUN server.
#[derive(Clone, Debug)]
pub struct StunServer {
    addrs: [IpAddr; 2],
    ports: [u16; 2],
    /// The number of requests answered.
    pub answered: u64,
}

impl StunServer {
    /// Creates a server on two addresses of one family, on the default port and the one after it.
    /// With the same address twice it is a plain STUN server, without the discovery of RFC 5780.
    #[must_use]
    pub const fn new(addrs: [IpAddr; 2]) -> Self {
        Self {
            addrs,
            ports: [stun::PORT, stun::PORT + 1],
            answered: 0,
        }
    }

    /// The same server on this port and the one after it.
    #[must_use]
    pub const fn on(mut self, port: u16) -> Self {
        self.ports = [port, if port == u16::MAX { 1 } else { port + 1 }];
        self
    }

    /// Writes the response to a request. Returns its source, destination and length.
    fn answer(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
        buf: &mut [u8],
    ) -> Option<(SocketAddr, SocketAddr, usize)> {
        let request = Message::parse(data).filter(|m| m.class == Class::Request)?;
        let mut unknown: Vec<[u8; 2]> = request.unknown_required().map(u16::to_be_bytes).collect();
        unknown.truncate(MAX_UNKNOWN);
        if !unknown.is_empty() {
            let refusal = Builder::new(buf, Class::Error, request.transaction)?
                .attribute(&Attribute::ErrorCode {
                    code: 420,
                    reason: "Unknown Attribute",
                })?
                .attribute(&Attribute::UnknownAttributes(UnknownAttributes::new(
                    &unknown,
                )))?;
            return Some((to, from, refusal.finish_with_fingerprint()?));
        }
        let (mut change, mut answer_to) = (ChangeRequest::default(), from);
        for attribute in request.attributes() {
            match attribute {
                Attribute::ChangeRequest(asked) => change = asked,
                Attribute::ResponsePort(port) => answer_to.set_port(port),
                _ => {}
            }
        }
        let other = SocketAddr::new(self.other_addr(to.ip()), self.other_port(to.port()));
        let origin = SocketAddr::new(
            if change.ip { other.ip() } else { to.ip() },
            if change.port { other.port() } else { to.port() },
        );
        let mut response = Builder::new(buf, Class::Success, request.transaction)?
            .attribute(&Attribute::XorMappedAddress(from))?
            .attribute(&Attribute::MappedAddress(from))?
            .attribute(&Attribute::ResponseOrigin(origin))?;
        if self.addrs[0] != self.addrs[1] {
            response = response.attribute(&Attribute::OtherAddress(other))?;
        }
        Some((origin, answer_to, response.finish_with_fingerprint()?))
    }

    fn other_addr(&self, addr: IpAddr) -> IpAddr {
        self.addrs[usize::from(addr == self.addrs[0])]
    }

    fn other_port(&self, port: u16) -> u16 {
        self.ports[usize::from(port == self.ports[0])]
    }
}

impl Host for StunServer {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let asked = flow.proto == Proto::Udp && self.ports.contains(&flow.dst.port());
        let mut buf = [0; MAX_RESPONSE];
        if asked
            && packet.checksums_hold()
            && let Some((src, dst, len)) =
                self.answer(flow.src, flow.dst, packet.payload(), &mut buf)
        {
            self.answered += 1;
            cx.send_udp(src, dst, &buf[..len]);
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, _: &mut HostCx<'_>) {}

    fn next_wake(&self) -> Option<Instant> {
        None
    }
}

#[cfg(test)]
mod tests {
    use dunlin_core::wire::stun::TransactionId;

    use super::*;

    fn request(attributes: &[Attribute<'_>]) -> Vec<u8> {
        let mut buf = vec![0; 200];
        let mut message = Builder::new(&mut buf, Class::Request, TransactionId([9; 12])).unwrap();
        for attribute in attributes {
            message = message.attribute(attribute).unwrap();
        }
        let len = message.finish_with_fingerprint().unwrap();
        buf.truncate(len);
        buf
    }

    fn addr(ip: [u8; 4], port: u16) -> SocketAddr {
        SocketAddr::from((ip, port))
    }

    #[test]
    fn it_answers_from_where_it_is_asked_to() {
        let server = StunServer::new([[5, 0, 0, 1].into(), [5, 0, 0, 2].into()]);
        let (client, to) = (addr([9, 9, 9, 9], 4_000), addr([5, 0, 0, 1], 3_478));
        for (address, port, origin) in [
            (false, false, to),
            (false, true, addr([5, 0, 0, 1], 3_479)),
            (true, true, addr([5, 0, 0, 2], 3_479)),
        ] {
            let asked = request(&[Attribute::ChangeRequest(ChangeRequest {
                ip: address,
                port,
            })]);
            let mut buf = [0; MAX_RESPONSE];
            let (src, dst, len) = server.answer(client, to, &asked, &mut buf).unwrap();
            assert_eq!((src, dst), (origin, client));
            let response = Message::parse(&buf[..len]).unwrap();
            assert_eq!(response.mapped_address(), Some(client));
            let other = Attribute::OtherAddress(addr([5, 0, 0, 2], 3_479));
            assert!(response.attributes().any(|a| a == other));
        }
    }

    #[test]
    fn another_port_may_be_answered_and_what_is_unknown_is_refused() {
        let server = StunServer::new([[5, 0, 0, 1].into(), [5, 0, 0, 2].into()]);
        let (client, to) = (addr([9, 9, 9, 9], 4_000), addr([5, 0, 0, 1], 3_478));
        let mut buf = [0; MAX_RESPONSE];
        let asked = request(&[Attribute::ResponsePort(4_100)]);
        let (_, dst, _) = server.answer(client, to, &asked, &mut buf).unwrap();
        assert_eq!(dst, addr([9, 9, 9, 9], 4_100));

        let strange = Attribute::Other {
            kind: 0x7abc,
            value: b"abcd",
        };
        let (_, dst, len) = server
            .answer(client, to, &request(&[strange]), &mut buf)
            .unwrap();
        let refusal = Message::parse(&buf[..len]).unwrap();
        assert_eq!((refusal.class, dst), (Class::Error, client));
        // A response is not a request.
        let response = buf[..len].to_vec();
        assert!(
            server
                .answer(client, to, &response, &mut [0; MAX_RESPONSE])
                .is_none()
        );
    }
}
