//! An address in 18 bytes, and which parts of it must not repeat within a search.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IP address and port; IPv4 as mapped into IPv6. Flow and scope of IPv6 are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    ip: [u8; 16],
    port: u16,
}

impl Endpoint {
    pub(super) fn new(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self {
            ip: ip.octets(),
            port: addr.port(),
        }
    }

    pub(super) fn ip(&self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    const fn v4(&self) -> Option<Ipv4Addr> {
        Ipv6Addr::from_octets(self.ip).to_ipv4_mapped()
    }

    /// Equal for endpoints of which a search contacts only one: those of one IPv4 address or of
    /// one IPv6 /64, which is what one customer gets. In a `local` network, the same endpoint.
    /// Never 0.
    pub(super) fn owner(&self, local: bool) -> u32 {
        let owner = match self.v4() {
            Some(ip) if !local => ip.to_bits(),
            _ => {
                let [high, low] = [self.half(0), self.half(8)];
                if local {
                    mix(high ^ mix64(low) ^ (u64::from(self.port) << 48))
                } else {
                    mix(high)
                }
            }
        };
        owner.max(1)
    }

    /// Equal for endpoints of one /24 (IPv6: /48), of which a search trusts only a few.
    pub(super) fn subnet(&self) -> u64 {
        self.v4().map_or_else(
            || self.half(0) >> 16,
            |ip| u64::from(ip.to_bits() >> 8) | 1 << 63,
        )
    }

    fn half(&self, at: usize) -> u64 {
        self.ip
            .get(at..at + 8)
            .and_then(|half| half.first_chunk::<8>())
            .map_or(0, |half| u64::from_be_bytes(*half))
    }
}

/// Spreads the bits of `n` (a round of splitmix64).
const fn mix64(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n ^ (n >> 27)
}

const fn mix(n: u64) -> u32 {
    (mix64(n).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(addr: &str) -> Endpoint {
        Endpoint::new(addr.parse().unwrap())
    }

    #[test]
    fn addresses_survive() {
        for addr in ["1.2.3.4:5", "[2001:db8::7]:65535"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(Endpoint::new(addr).addr(), addr);
        }
    }

    #[test]
    fn one_contact_per_address_and_per_customer() {
        let owner = |addr| at(addr).owner(false);
        assert_eq!(owner("1.2.3.4:5"), owner("1.2.3.4:6"));
        assert_ne!(owner("1.2.3.4:5"), owner("1.2.3.5:5"));
        assert_eq!(owner("[2001:db8:1:2::1]:5"), owner("[2001:db8:1:2::9]:6"));
        assert_ne!(owner("[2001:db8:1:2::1]:5"), owner("[2001:db8:1:3::1]:5"));
        let owner = |addr| at(addr).owner(true);
        assert_ne!(owner("127.0.0.1:5"), owner("127.0.0.1:6"));
        assert_ne!(owner("[::1]:5"), owner("[::1]:6"));
        assert_ne!(owner("[fe80::1]:5"), owner("[fe80::2]:5"));
    }

    #[test]
    fn subnets_are_slash_24_and_slash_48() {
        let subnet = |addr| at(addr).subnet();
        assert_eq!(subnet("1.2.3.4:5"), subnet("1.2.3.200:6"));
        assert_ne!(subnet("1.2.3.4:5"), subnet("1.2.4.4:5"));
        assert_eq!(subnet("[2001:db8:1:2::1]:5"), subnet("[2001:db8:1:3::1]:5"));
        assert_ne!(subnet("[2001:db8:1::1]:5"), subnet("[2001:db8:2::1]:5"));
    }
}
