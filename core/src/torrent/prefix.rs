//! The part of an address that limits per address count.

use core::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::ops::RangeInclusive;

/// The part of an IP address that one subscriber cannot change at will: all of an IPv4 address,
/// the first 64 bits of an IPv6 address (RFC 4291 §2.5.4: the rest names interfaces of one link).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix(IpAddr);

impl Prefix {
    pub(crate) const fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// All socket addresses with this prefix.
    pub(crate) fn addresses(self) -> RangeInclusive<SocketAddr> {
        match self.0 {
            IpAddr::V4(_) => SocketAddr::new(self.0, 0)..=SocketAddr::new(self.0, u16::MAX),
            IpAddr::V6(first) => {
                let last = Ipv6Addr::from_bits(first.to_bits() | u128::from(u64::MAX));
                let last = SocketAddrV6::new(last, u16::MAX, u32::MAX, u32::MAX);
                SocketAddr::new(self.0, 0)..=SocketAddr::V6(last)
            }
        }
    }

    /// A hash of the prefix and `salt` that reveals neither.
    pub(crate) fn scramble(self, salt: u32) -> u32 {
        let bits = match self.0 {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        // This is the finalizer of SplitMix64.
        let mut x = bits ^ u64::from(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv4_address_or_one_ipv6_64_counts_as_one() {
        let prefix = |ip: &str| Prefix::of(ip.parse().unwrap());
        assert_ne!(prefix("10.0.0.1"), prefix("10.0.0.2"));
        assert_eq!(prefix("::ffff:10.0.0.1"), prefix("10.0.0.1"));
        assert_eq!(prefix("2001:db8::1"), prefix("2001:db8::ffff:1:2:3"));
        assert_ne!(prefix("2001:db8::1"), prefix("2001:db8:0:1::1"));
    }

    #[test]
    fn the_range_holds_its_own_addresses_and_no_others() {
        for (ip, inside, outside) in [
            ("10.0.0.1", "10.0.0.1:65535", "10.0.0.2:0"),
            (
                "2001:db8::5",
                "[2001:db8::ffff:ffff:ffff:ffff]:65535",
                "[2001:db8:0:1::]:0",
            ),
        ] {
            let range = Prefix::of(ip.parse().unwrap()).addresses();
            assert!(range.contains(&inside.parse().unwrap()), "{inside}");
            assert!(!range.contains(&outside.parse().unwrap()), "{outside}");
        }
    }
}
