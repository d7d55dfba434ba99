//! SCTP (RFC 9260), UDP-Lite (RFC 3828), GRE (RFC 2784) and ESP (RFC 4303): as much of them as a box
//! looks at.

use std::net::SocketAddr;

use super::{Packet, Proto, TcpFlags, UDP_HEADER, ip_header};

/// The polynomial of CRC-32C, lowest bit first (RFC 9260, appendix A).
const CASTAGNOLI: u32 = 0x82f6_3b78;

/// The CRC-32C of SCTP. Few packets have one, so a table does not pay.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |mut crc: u32, byte| {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { CASTAGNOLI } else { 0 };
        }
        crc
    })
}

impl Packet {
    /// Creates a packet of a protocol other than UDP, TCP and ICMP. `body` follows the ports,
    /// checksums and lengths of SCTP and UDP-Lite, and is everything after the IP header for GRE and
    /// ESP. For SCTP it begins with the verification tag, which stands before the checksum.
    ///
    /// # Panics
    /// When the protocol is one of these three, the addresses are of different families, or `body`
    /// is too short or does not fit.
    #[must_use]
    pub fn other(proto: Proto, src: SocketAddr, dst: SocketAddr, body: &[u8]) -> Self {
        assert!(proto.is_other(), "{proto:?} has a constructor of its own");
        let ports = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
        let mut transport = Vec::new();
        match proto {
            Proto::UdpLite => {
                transport.extend_from_slice(&ports);
                // The checksum covers everything.
                transport.extend_from_slice(&[0; 4]);
                transport.extend_from_slice(body);
            }
            Proto::Sctp => {
                let (tag, chunks) = body.split_at(4);
                transport.extend_from_slice(&ports);
                transport.extend_from_slice(tag);
                transport.extend_from_slice(&[0; 4]);
                transport.extend_from_slice(chunks);
            }
            _ => transport.extend_from_slice(body),
        }
        assert!(transport.len() >= proto.header(), "the header is cut off");
        let number = proto.number(src.is_ipv4());
        let mut bytes = ip_header(Vec::new(), number, src.ip(), dst.ip(), transport.len());
        bytes.extend_from_slice(&transport);
        let (src, dst) = match proto {
            Proto::Sctp | Proto::UdpLite => (src, dst),
            _ => (SocketAddr::new(src.ip(), 0), SocketAddr::new(dst.ip(), 0)),
        };
        Self::finish(bytes, proto, src, dst, TcpFlags::default())
    }

    /// Rewrites a port of a packet whose checksum is not a sum.
    pub(super) fn rewrite_port(&mut self, to: SocketAddr, at: usize) {
        if self.flow.proto == Proto::Sctp {
            self.bytes[at..at + 2].copy_from_slice(&to.port().to_be_bytes());
            self.fill_crc();
        }
    }

    /// Computes the checksum of an SCTP packet again.
    pub(super) fn fill_crc(&mut self) {
        if self.flow.proto == Proto::Sctp {
            let at = usize::from(self.transport) + 8;
            let crc = self.crc().to_le_bytes();
            self.bytes[at..at + 4].copy_from_slice(&crc);
        }
    }

    /// Returns `false` when an SCTP packet has a wrong checksum.
    pub(super) fn crc_holds(&self) -> bool {
        self.flow.proto != Proto::Sctp || self.transport()[8..12] == self.crc().to_le_bytes()
    }

    /// The CRC over an SCTP packet, in which its own field counts as zero.
    fn crc(&self) -> u32 {
        let body = self.transport();
        let field = std::iter::repeat_n(0, 4);
        crc32c(
            body[..8]
                .iter()
                .copied()
                .chain(field)
                .chain(body[12..].iter().copied()),
        )
    }

    /// The part of a transport packet that its checksum covers: in UDP-Lite a number of bytes that
    /// the header gives.
    pub(super) fn covered<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        if self.flow.proto != Proto::UdpLite {
            return body;
        }
        match usize::from(u16::from_be_bytes([body[4], body[5]])) {
            0 => body,
            some => &body[..some.clamp(UDP_HEADER, body.len())],
        }
    }

    /// The first chunk of an SCTP packet (RFC 9260 §3.2): its type.
    pub(crate) fn sctp_chunk(&self) -> Option<u8> {
        let there = self.flow.proto == Proto::Sctp && !self.is_later_fragment();
        there.then(|| self.transport().get(12).copied()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::packet::{IPV4_HEADER, IPV6_HEADER};

    const ALL: [Proto; 4] = [Proto::Sctp, Proto::UdpLite, Proto::Gre, Proto::Esp];

    #[test]
    fn crc32c_of_a_known_text() {
        // The check value of CRC-32C.
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }

    #[test]
    fn checksums_hold_after_every_rewriting() {
        let v4 = |n, port| SocketAddr::from(([10, 0, 0, n], port));
        for proto in ALL {
            let mut packet = Packet::other(proto, v4(1, 5), v4(2, 6), &[7; 21]);
            assert_eq!(Packet::parse(packet.bytes().to_vec()), Ok(packet.clone()));
            assert!(packet.checksums_hold(), "{proto:?}");
            packet.set_src(v4(3, 700));
            packet.set_dst(v4(4, 6));
            assert!(packet.checksums_hold(), "{proto:?}");
            let again = Packet::parse(packet.bytes().to_vec()).expect("a packet");
            let ports = matches!(proto, Proto::Sctp | Proto::UdpLite);
            assert_eq!(again.flow().src, v4(3, if ports { 700 } else { 0 }));
            let at = IPV4_HEADER + proto.header();
            let mut broken = packet.into_bytes();
            broken[at] ^= 1;
            let broken = Packet::parse(broken).expect("a packet");
            assert_eq!(broken.checksums_hold(), !ports, "{proto:?}");
        }
    }

    #[test]
    fn udp_lite_covers_what_it_says() {
        let v6 = |n, port| SocketAddr::from(([n, 0, 0, 0, 0, 0, 0, 1], port));
        let packet = Packet::other(Proto::UdpLite, v6(1, 5), v6(2, 6), b"data");
        let mut bytes = packet.into_bytes();
        bytes[IPV6_HEADER + 5] = 8;
        let mut packet = Packet::parse(bytes).expect("a packet");
        packet.fill_checksums();
        let mut bytes = packet.into_bytes();
        *bytes.last_mut().expect("data") ^= 1;
        assert!(Packet::parse(bytes).expect("a packet").checksums_hold());
    }
}
