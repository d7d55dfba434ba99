use quickcheck::quickcheck;

use super::*;

fn addr(n: u64, v6: bool) -> SocketAddr {
    let ip = if v6 {
        IpAddr::V6(Ipv6Addr::from(u128::from(n) << 40))
    } else {
        IpAddr::V4(Ipv4Addr::from((n >> 16) as u32))
    };
    SocketAddr::new(ip, n as u16)
}

quickcheck! {
    fn a_packet_is_what_its_bytes_say(a: u64, b: u64, v6: bool, tcp: bool, data: Vec<u8>) -> bool {
        let (src, dst) = (addr(a, v6), addr(b, v6));
        let packet = if tcp {
            Packet::tcp(src, dst, TcpFlags::SYN, 1, 2, &data)
        } else {
            Packet::udp(src, dst, &data)
        };
        packet.checksums_hold()
            && packet.payload() == data
            && Packet::parse(packet.bytes().to_vec()) == Ok(packet)
    }

    fn rewriting_keeps_the_checksums(a: u64, b: u64, c: u64, v6: bool, tcp: bool, data: Vec<u8>) -> bool {
        let (src, dst, new) = (addr(a, v6), addr(b, v6), addr(c, v6));
        let mut packet = if tcp {
            Packet::tcp(src, dst, TcpFlags::ACK, 1, 2, &data)
        } else {
            Packet::udp(src, dst, &data)
        };
        packet.set_src(new);
        packet.set_dst(src);
        let hopped = packet.hop();
        let again = Packet::parse(packet.bytes().to_vec());
        hopped && packet.checksums_hold() && again.as_ref() == Ok(&packet) && packet.flow().src == new
    }

    /// A checksum of zero would mean that there is none (RFC 768): wherever it would come to that, in a packet and in
    /// the quote of an error, it is sent as 0xffff.
    fn a_computed_checksum_never_becomes_none(a: u64, b: u64, c: u64) -> bool {
        let (src, dst, new) = (addr(a, false), addr(b, false), addr(c, false));
        // What makes the sum zero once the sender is rewritten: the checksum of the same packet without it.
        let without = Packet::udp(new, dst, &[0, 0]);
        let word = [without.transport()[6], without.transport()[7]];
        let mut packet = Packet::udp(src, dst, &word);
        let mut error = Packet::icmp_error(dst.ip(), IcmpError::PortUnreachable, &packet);
        packet.set_src(new);
        error.set_quoted_src(new);
        packet.transport()[6..8] == [0xff, 0xff]
            && packet.checksums_hold()
            && error.checksums_hold()
            && error.payload() == packet.bytes()
    }

    fn no_bytes_panic(bytes: Vec<u8>, head: u8) -> bool {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = if head & 1 == 0 { 0x45 } else { 0x60 };
        }
        if let Ok(packet) = Packet::parse(bytes) {
            let _ = packet.payload();
        }
        true
    }
}
