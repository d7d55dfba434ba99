//! ICMP messages (RFC 792, RFC 4443), and what a NAT needs to translate them (RFC 5508).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    Flow, IPV4_HEADER, IPV6_HEADER, Packet, Proto, TcpFlags, UDP_HEADER, ip_header, never_none,
    patch,
};

/// The longest error message over IPv4 and over IPv6 (RFC 1812 §4.3.2.3, RFC 4443 §2.4).
const MAX_ERROR: (usize, usize) = (576, 1_280);

/// The errors that boxes and routers report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Nothing listens on the port.
    PortUnreachable,
    /// The host does not speak the transport protocol.
    ProtocolUnreachable,
    /// A firewall forbids the packet.
    Prohibited,
    /// There is no route to the address.
    NoRoute,
    /// The hop limit ran out on the way.
    HopLimit,
    /// The packet is longer than this many bytes and may not be split.
    TooBig(u16),
}

/// Tells ICMP queries of one identifier apart: echoes from timestamps, and what is asked from
/// inside from what is asked from outside.
fn query(v4: bool, kind: u8, out: bool) -> u16 {
    let (what, asks) = match (v4, kind) {
        (true, 13 | 14) => (13, kind == 13),
        (true, _) => (0, kind == 8),
        (false, _) => (0, kind == 128),
    };
    what + u16::from(asks != out)
}

impl Packet {
    /// Creates an echo request or reply.
    ///
    /// # Panics
    /// When the addresses are of different families, or the payload does not fit.
    #[must_use]
    pub fn echo(src: IpAddr, dst: IpAddr, reply: bool, id: u16, seq: u16, payload: &[u8]) -> Self {
        let kind = match (src.is_ipv4(), reply) {
            (true, true) => 0,
            (true, false) => 8,
            (false, true) => 129,
            (false, false) => 128,
        };
        let [a, b] = id.to_be_bytes();
        let [c, d] = seq.to_be_bytes();
        let (src, dst) = (SocketAddr::new(src, id), SocketAddr::new(dst, id));
        Self::icmp(src, dst, [kind, 0, a, b, c, d], payload)
    }

    /// Creates an ICMP message of IPv4 that asks for, or gives, a timestamp (RFC 792).
    #[must_use]
    pub fn timestamp(src: Ipv4Addr, dst: Ipv4Addr, reply: bool, id: u16, seq: u16) -> Self {
        let [a, b] = id.to_be_bytes();
        let [c, d] = seq.to_be_bytes();
        let (src, dst) = ((src, id).into(), (dst, id).into());
        let kind = if reply { 14 } else { 13 };
        Self::icmp(src, dst, [kind, 0, a, b, c, d], &[0; 12])
    }

    /// Creates an ICMP message of any type that quotes a packet, from its type and code; the other
    /// four bytes of its header are zero. It is addressed to the sender of that packet.
    ///
    /// # Panics
    /// When `from` is of another family than the packet.
    #[must_use]
    pub fn icmp_about(from: IpAddr, kind: u8, code: u8, about: &Self) -> Self {
        let room = MAX_ERROR.0 - IPV4_HEADER - UDP_HEADER;
        let quote = &about.bytes[..about.bytes.len().min(room)];
        let to = SocketAddr::new(about.flow.src.ip(), 0);
        let from = SocketAddr::new(from, 0);
        Self::icmp(from, to, [kind, code, 0, 0, 0, 0], quote)
    }

    /// Creates an error about a packet, addressed to that packet's sender.
    ///
    /// # Panics
    /// When `from` is of another family than the packet.
    #[must_use]
    pub fn icmp_error(from: IpAddr, error: IcmpError, about: &Self) -> Self {
        let v4 = from.is_ipv4();
        let (kind, code) = match (error, v4) {
            (IcmpError::PortUnreachable, true) => (3, 3),
            (IcmpError::PortUnreachable, false) => (1, 4),
            (IcmpError::ProtocolUnreachable, true) => (3, 2),
            (IcmpError::ProtocolUnreachable, false) => (4, 1),
            (IcmpError::Prohibited, true) => (3, 13),
            (IcmpError::Prohibited, false) => (1, 1),
            (IcmpError::NoRoute, true) => (3, 0),
            (IcmpError::NoRoute, false) => (1, 0),
            (IcmpError::HopLimit, true) => (11, 0),
            (IcmpError::HopLimit, false) => (3, 0),
            (IcmpError::TooBig(_), true) => (3, 4),
            (IcmpError::TooBig(_), false) => (2, 0),
        };
        let [c, d] = match error {
            IcmpError::TooBig(mtu) => mtu.to_be_bytes(),
            _ => [0, 0],
        };
        let room = if v4 {
            MAX_ERROR.0 - IPV4_HEADER
        } else {
            MAX_ERROR.1 - IPV6_HEADER
        };
        let quote = &about.bytes[..about.bytes.len().min(room - UDP_HEADER)];
        let (src, dst) = (
            SocketAddr::new(from, 0),
            SocketAddr::new(about.flow.src.ip(), 0),
        );
        Self::icmp(src, dst, [kind, code, 0, 0, c, d], quote)
    }

    /// Builds a message; `head` is the type, the code, and the four bytes that follow the checksum.
    fn icmp(src: SocketAddr, dst: SocketAddr, head: [u8; 6], payload: &[u8]) -> Self {
        let number = if src.is_ipv4() { 1 } else { 58 };
        let len = UDP_HEADER + payload.len();
        let mut bytes = ip_header(Vec::new(), number, src.ip(), dst.ip(), len);
        bytes.extend_from_slice(&[head[0], head[1], 0, 0]);
        bytes.extend_from_slice(&head[2..]);
        bytes.extend_from_slice(payload);
        Self::finish(bytes, Proto::Icmp, src, dst, TcpFlags::default())
    }

    /// The reset that answers a segment for which there is no connection (RFC 9293 §3.10.7.1).
    /// Returns `None` when the packet is a reset itself, or not a segment.
    #[must_use]
    pub fn reset(&self) -> Option<Self> {
        let (seq, ack) = self.tcp_numbers()?;
        let Flow {
            src, dst, flags, ..
        } = self.flow;
        if flags.has(TcpFlags::RST) {
            return None;
        }
        Some(if flags.has(TcpFlags::ACK) {
            Self::tcp(dst, src, TcpFlags::RST, ack, 0, b"")
        } else {
            let control = u32::from(flags.has(TcpFlags::SYN)) + u32::from(flags.has(TcpFlags::FIN));
            let ack = seq.wrapping_add(self.payload().len() as u32 + control);
            Self::tcp(dst, src, TcpFlags::RST.with(TcpFlags::ACK), 0, ack, b"")
        })
    }

    /// `Some(false)` for an ICMP query, which is an echo request or asks for a timestamp,
    /// `Some(true)` for the answer to one, `None` for any other packet.
    #[must_use]
    pub fn is_icmp_reply(&self) -> Option<bool> {
        if self.flow.proto != Proto::Icmp || self.is_later_fragment() {
            return None;
        }
        match (self.flow.src.is_ipv4(), self.transport().first()?) {
            (true, 8 | 13) | (false, 128) => Some(false),
            (true, 0 | 14) | (false, 129) => Some(true),
            _ => None,
        }
    }

    /// What tells queries of one identifier apart; see [`query`]. `out` is `true` for a packet from
    /// inside.
    pub(crate) fn icmp_query(&self, out: bool) -> u16 {
        let kind = self.transport().first();
        kind.map_or(0, |kind| query(self.flow.src.is_ipv4(), *kind, out))
    }

    /// What tells a quoted query apart from others, as in [`Packet::icmp_query`]. `out` is `true`
    /// for an error from inside, so that the quoted packet came from outside.
    pub(crate) fn quoted_query(&self, out: bool) -> u16 {
        match self.quoted_transport() {
            Some((at, Proto::Icmp)) => query(self.flow.src.is_ipv4(), self.bytes[at], !out),
            _ => 0,
        }
    }

    /// The flow of the packet that an ICMP error quotes; `None` when this packet is not an error,
    /// or quotes too little. Both ports of a quoted query are its identifier. The flags of a quoted
    /// segment are not given.
    #[must_use]
    pub fn quoted(&self) -> Option<Flow> {
        let v4 = self.flow.src.is_ipv4();
        let kind = *self.transport().first()?;
        let error = match v4 {
            true => matches!(kind, 3 | 4 | 11 | 12),
            false => kind < 128,
        };
        if self.flow.proto != Proto::Icmp || !error {
            return None;
        }
        let (at, proto) = self.quoted_transport()?;
        let word = |i: usize| u16::from_be_bytes([self.bytes[at + i], self.bytes[at + i + 1]]);
        let (from, to) = match proto {
            Proto::Icmp => (word(4), word(4)),
            Proto::Udp | Proto::Tcp | Proto::Sctp | Proto::UdpLite => (word(0), word(2)),
            Proto::Gre | Proto::Esp => (0, 0),
        };
        let inner = usize::from(self.transport) + UDP_HEADER;
        let address = |offset: usize| match v4 {
            true => IpAddr::from([0, 1, 2, 3].map(|i| self.bytes[inner + offset + i])),
            false => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&self.bytes[inner + offset..][..16]);
                IpAddr::from(octets)
            }
        };
        let (src, dst) = if v4 {
            (address(12), address(16))
        } else {
            (address(8), address(24))
        };
        Some(Flow {
            proto,
            src: SocketAddr::new(src, from),
            dst: SocketAddr::new(dst, to),
            flags: TcpFlags::default(),
        })
    }

    /// The offset of the quoted transport header, of which at least eight bytes are present.
    fn quoted_transport(&self) -> Option<(usize, Proto)> {
        let inner = usize::from(self.transport) + UDP_HEADER;
        let quote = self.bytes.get(inner..)?;
        let first = *quote.first()?;
        let (head, number) = match first >> 4 {
            4 if self.flow.src.is_ipv4() => (usize::from(first & 15) * 4, *quote.get(9)?),
            6 if !self.flow.src.is_ipv4() => (IPV6_HEADER, *quote.get(6)?),
            _ => return None,
        };
        let least = if first >> 4 == 4 { IPV4_HEADER } else { head };
        let later = first >> 4 == 4 && (quote.get(6)? & 0x1f, *quote.get(7)?) != (0, 0);
        if head < least || quote.len() < head + 8 || later {
            return None;
        }
        Some((inner + head, Proto::from_number(number)?))
    }

    /// Rewrites the sender of the IPv4 packet that an error quotes, and all checksums (RFC 5508
    /// REQ-4). Does nothing when there is no such packet.
    pub fn set_quoted_src(&mut self, to: SocketAddr) {
        self.set_quoted(to, 12, 0);
    }

    /// Rewrites the quoted receiver, like [`Packet::set_quoted_src`].
    pub fn set_quoted_dst(&mut self, to: SocketAddr) {
        self.set_quoted(to, 16, 2);
    }

    fn set_quoted(&mut self, to: SocketAddr, address_at: usize, port_at: usize) {
        let (Some((at, proto)), IpAddr::V4(ip)) = (self.quoted_transport(), to.ip()) else {
            return;
        };
        let inner = usize::from(self.transport) + UDP_HEADER;
        // A TCP checksum is 18 bytes into the header, if it is quoted at all. The rest does not
        // change.
        let end = inner + ((self.bytes.len().min(at + 18) - inner) & !1);
        let before = self.bytes[inner..end].to_vec();
        let old_ip: [u8; 4] = [0, 1, 2, 3].map(|i| self.bytes[inner + address_at + i]);
        self.bytes[inner + address_at..][..4].copy_from_slice(&ip.octets());
        patch(&mut self.bytes, inner + 10, &old_ip, &ip.octets());
        let (port_at, check) = match (proto, proto.checksum_at()) {
            (Proto::Icmp, _) => (at + 4, at + 2),
            (_, Some(check)) => (at + port_at, at + check),
            // The CRC of SCTP is not quoted, and the others have neither ports nor a checksum.
            (_, None) => (at + port_at, end),
        };
        let old_port = [self.bytes[port_at], self.bytes[port_at + 1]];
        let port = match proto {
            Proto::Gre | Proto::Esp => old_port,
            _ => to.port().to_be_bytes(),
        };
        self.bytes[port_at..port_at + 2].copy_from_slice(&port);
        let there = check + 2 <= end;
        let none = proto == Proto::Udp && self.bytes[check..check + 2] == [0, 0];
        if there && !none {
            if proto != Proto::Icmp {
                patch(&mut self.bytes, check, &old_ip, &ip.octets());
            }
            patch(&mut self.bytes, check, &old_port, &port);
            if proto == Proto::Udp {
                never_none(&mut self.bytes, check);
            }
        }
        let after = self.bytes[inner..end].to_vec();
        patch(
            &mut self.bytes,
            usize::from(self.transport) + 2,
            &before,
            &after,
        );
    }

    /// Replaces `old` by `new`, of the same length, wherever it occurs in the payload of a datagram
    /// or segment, and corrects the checksum. Returns the number of replacements.
    pub fn replace(&mut self, old: &[u8], new: &[u8]) -> usize {
        let len = self.payload().len();
        let from = self.bytes.len() - len;
        if old.len() != new.len() || old.is_empty() || old == new {
            return 0;
        }
        let transport = usize::from(self.transport);
        let check = match self.flow.proto {
            Proto::Udp => transport + 6,
            Proto::Tcp => transport + 16,
            _ => return 0,
        };
        let none = self.flow.proto == Proto::Udp && self.bytes[check..check + 2] == [0, 0];
        let (mut at, mut times) = (from, 0);
        while at + old.len() <= self.bytes.len() {
            if &self.bytes[at..at + old.len()] != old {
                at += 1;
                continue;
            }
            // The checksum counts words from the transport header, so the range begins at an even
            // offset from it; its last word may be half a word.
            let start = at - (at - transport) % 2;
            let end = (at + old.len()).next_multiple_of(2).max(start) + 1;
            let words = |bytes: &[u8]| {
                let mut some = bytes[start..end.min(bytes.len())].to_vec();
                some.resize(some.len().next_multiple_of(2), 0);
                some
            };
            let before = words(&self.bytes);
            self.bytes[at..at + old.len()].copy_from_slice(new);
            let after = words(&self.bytes);
            if !none {
                patch(&mut self.bytes, check, &before, &after);
            }
            at += old.len();
            times += 1;
        }
        if !none {
            self.keep_checksum(check);
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn addr(n: u32) -> SocketAddr {
        let [a, b, c, d] = n.to_be_bytes();
        SocketAddr::new(IpAddr::from([a, b, c, d]), n as u16 | 1)
    }

    quickcheck! {
        fn an_error_tells_what_it_is_about(a: u32, b: u32, tcp: bool, v6: bool, data: Vec<u8>) -> bool {
            let (mut src, mut dst) = (addr(a), addr(b));
            if v6 {
                src.set_ip([a as u16; 8].into());
                dst.set_ip([b as u16; 8].into());
            }
            let about = match tcp {
                true => Packet::tcp(src, dst, TcpFlags::SYN, 1, 0, &data),
                false => Packet::udp(src, dst, &data),
            };
            let error = Packet::icmp_error(dst.ip(), IcmpError::PortUnreachable, &about);
            let quoted = error.quoted().expect("an error quotes");
            error.checksums_hold()
                && error.flow().dst.ip() == src.ip()
                && (quoted.src, quoted.dst, quoted.proto) == (src, dst, about.flow().proto)
                && Packet::parse(error.bytes().to_vec()).as_ref() == Ok(&error)
        }

        fn a_quote_is_rewritten_as_the_packet_would_be(a: u32, b: u32, c: u32, tcp: bool, back: bool, data: Vec<u8>) -> bool {
            let make = |src, dst| match tcp {
                true => Packet::tcp(src, dst, TcpFlags::SYN, 1, 0, &data),
                false => Packet::udp(src, dst, &data),
            };
            let (from, before) = (addr(a).ip(), make(addr(a), addr(b)));
            let mut about = before.clone();
            let mut error = Packet::icmp_error(from, IcmpError::TooBig(9), &before);
            if back {
                about.set_dst(addr(c));
                error.set_quoted_dst(addr(c));
            } else {
                about.set_src(addr(c));
                error.set_quoted_src(addr(c));
            }
            error.checksums_hold() && about.bytes().starts_with(error.payload())
        }

        fn replacing_keeps_the_checksum(before: Vec<u8>, after: Vec<u8>, old: u32, new: u32, tcp: bool) -> bool {
            let mut data = before.clone();
            data.extend_from_slice(&old.to_be_bytes());
            data.extend_from_slice(&after);
            let mut packet = match tcp {
                true => Packet::tcp(addr(1), addr(2), TcpFlags::ACK, 1, 0, &data),
                false => Packet::udp(addr(1), addr(2), &data),
            };
            let times = packet.replace(&old.to_be_bytes(), &new.to_be_bytes());
            packet.checksums_hold() && (times > 0 || old == new) && packet.payload().len() == data.len()
        }

        fn no_quote_panics(bytes: Vec<u8>, kind: u8) -> bool {
            let mut packet = Packet::icmp(addr(1), addr(2), [kind % 13, 0, 0, 0, 0, 0], &bytes);
            let quoted = packet.quoted().is_some();
            packet.set_quoted_src(addr(7));
            packet.checksums_hold() && (!quoted || bytes.len() >= 28)
        }
    }

    #[test]
    fn a_reset_answers_what_was_acknowledged() {
        let syn = Packet::tcp(addr(1), addr(2), TcpFlags::SYN, 7, 0, b"");
        let reset = syn.reset().expect("answered");
        assert_eq!(reset.tcp_numbers(), Some((0, 8)));
        assert_eq!(reset.flow().flags, TcpFlags::RST.with(TcpFlags::ACK));
        let ack = Packet::tcp(addr(1), addr(2), TcpFlags::ACK, 7, 9, b"x");
        assert_eq!(ack.reset().and_then(|r| r.tcp_numbers()), Some((9, 0)));
        assert_eq!(reset.reset(), None);
        assert_eq!(Packet::udp(addr(1), addr(2), b"").reset(), None);
    }
}
