//! Compact peer lists (BEP 23 and BEP 7).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Whether `addr` can be connected to: it has a port and a unicast address.
#[must_use]
pub fn dialable(addr: &SocketAddr) -> bool {
    addr.port() != 0
        && match addr.ip() {
            IpAddr::V4(ip) => ip.octets()[0] != 0 && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        }
}

/// Peers of 6 bytes each (BEP 23); an incomplete last one is ignored, as are addresses that cannot be connected to.
pub fn compact_v4(list: &[u8]) -> impl Iterator<Item = SocketAddr> {
    list.as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, p0, p1]| {
            let port = u16::from_be_bytes([p0, p1]);
            SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port)
        })
        .filter(dialable)
}

/// Peers of 18 bytes each (BEP 7); an incomplete last one is ignored, as are addresses that cannot be connected to.
pub fn compact_v6(list: &[u8]) -> impl Iterator<Item = SocketAddr> {
    list.as_chunks::<18>()
        .0
        .iter()
        .map(|peer| {
            let (mut ip, mut port) = ([0; 16], [0; 2]);
            ip.copy_from_slice(&peer[..16]);
            port.copy_from_slice(&peer[16..]);
            // An IPv4-mapped address is connected to over IPv4.
            let ip = IpAddr::V6(Ipv6Addr::from(ip)).to_canonical();
            SocketAddr::new(ip, u16::from_be_bytes(port))
        })
        .filter(dialable)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn compact_lists_skip_what_cannot_be_dialled() {
        let list = [
            10, 0, 0, 1, 0x1a, 0xe1, // good
            10, 0, 0, 2, 0, 0, // no port
            0, 0, 0, 0, 1, 1, // unspecified
            224, 0, 0, 1, 1, 1, // multicast
            10, 0, 0, 3, 0, 1, // good
            9, 9, 9, // torn
        ];
        let peers: Vec<_> = compact_v4(&list).collect();
        assert_eq!(
            peers,
            [
                "10.0.0.1:6881".parse().unwrap(),
                "10.0.0.3:1".parse().unwrap()
            ]
        );
    }

    #[test]
    fn compact_v6_reads_both_plain_and_mapped() {
        let mut list = Vec::new();
        list.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        list.extend([0x1a, 0xe1]);
        list.extend("::ffff:10.0.0.1".parse::<Ipv6Addr>().unwrap().octets());
        list.extend([0, 80, 7]);
        let peers: Vec<_> = compact_v6(&list).collect();
        assert_eq!(
            peers,
            [
                "[2001:db8::1]:6881".parse().unwrap(),
                "10.0.0.1:80".parse().unwrap()
            ]
        );
    }
}
