//! Public addresses for simulated devices, spread over the internet like those of real ones.
//!
//! Much depends on how near two addresses are to each other: the pieces that a choked peer may
//! request (BEP 6) are the same for all of a /24, peers are ranked (BEP 40) and DHT nodes get their
//! ids (BEP 42) by their addresses, and limits count by prefix. Devices that stand for strangers
//! must not be neighbours, unless that is what is simulated.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The first octets that are left out, because a part of their /8 is reserved for a special purpose
/// (RFC 6890 and its registry) or not unicast. None of the others contains a reserved address.
const PARTLY_RESERVED: [u8; 9] = [0, 10, 100, 127, 169, 172, 192, 198, 203];
/// The number of other first octets below 224.
const FIRST: u32 = 224 - PARTLY_RESERVED.len() as u32;
/// The number of addresses in a /8 that end neither in 0 nor in 255.
const IN_EACH: u32 = 254 << 16;
/// Steps about as far apart as they can be, coprime to the size of the set that they walk through, so
/// that they visit all of it.
const FIRST_STEP: u32 = 82;
const STEP: u32 = 10_287_883;
const STEP_V6: u32 = 0x9e37_79b1;

/// The public IPv4 address with this number. No two numbers below 3.5 billion have the same one,
/// successive ones are in different /8s, and all 215 /8s without reserved parts come up equally
/// often.
#[must_use]
pub fn public_v4(n: u32) -> Ipv4Addr {
    let mut first = (u64::from(n) * u64::from(FIRST_STEP) % u64::from(FIRST)) as u8;
    for reserved in PARTLY_RESERVED {
        first += u8::from(first >= reserved);
    }
    let rest = (u64::from(n) * u64::from(STEP) % u64::from(IN_EACH)) as u32;
    let [_, _, second, third] = (rest / 254).to_be_bytes();
    Ipv4Addr::new(first, second, third, 1 + (rest % 254) as u8)
}

/// The public IPv6 address of a host at a site, such as a home, to which a /64 belongs. The sites are
/// spread over the address space of all five regional registries.
#[must_use]
pub fn public_v6(site: u32, host: u16) -> Ipv6Addr {
    // 2400::/12, 2600::/12, 2800::/12, 2a00::/12 and 2c00::/12.
    let registry = 0x2400 + 0x200 * (site % 5) as u16;
    let [a, b, c, d] = site.wrapping_mul(STEP_V6).to_be_bytes();
    let top = registry | u16::from(a >> 4);
    let (second, third) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(top, second, third, 0, 0, 0, 0, host)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn addresses_are_distinct_public_and_of_all_eights() {
        let mut seen = BTreeSet::new();
        let mut eights: BTreeMap<u8, u32> = BTreeMap::new();
        for n in 0..215 * 20 {
            let addr = public_v4(n);
            let [first, _, _, last] = addr.octets();
            assert!((1..224).contains(&first) && (1..255).contains(&last));
            // The registry of special-purpose addresses (RFC 6890) has nothing outside these.
            assert!(
                ![10, 100, 127, 169, 172, 192, 198, 203].contains(&first),
                "{addr}"
            );
            assert!(seen.insert(addr), "{addr} twice");
            *eights.entry(first).or_default() += 1;
        }
        assert_eq!(eights.len(), 215);
        assert!(eights.values().all(|n| *n == 20));
    }

    /// The hosts of a large scenario differ in every /16, and in the bits from which BEP 42 derives
    /// node ids.
    #[test]
    fn no_prefix_is_shared() {
        let count = |key: fn(u32) -> u32| {
            let keys: BTreeSet<u32> = (0..2_000).map(|n| key(public_v4(n).to_bits())).collect();
            keys.len()
        };
        assert_eq!(count(|ip| ip >> 16), 2_000);
        assert_eq!(count(|ip| ip & 0x030f_3fff), 2_000);
    }

    #[test]
    fn sites_are_distinct_and_hosts_of_one_site_share_a_prefix() {
        let prefix = |site| public_v6(site, 1).to_bits() >> 64;
        let sites: BTreeSet<u128> = (0..10_000).map(prefix).collect();
        assert_eq!(sites.len(), 10_000);
        assert_eq!(
            sites.iter().map(|p| p >> 48).collect::<BTreeSet<_>>().len(),
            80
        );
        assert_eq!(
            public_v6(7, 1).to_bits() >> 64,
            public_v6(7, 2).to_bits() >> 64
        );
        assert_ne!(public_v6(7, 1), public_v6(7, 2));
        assert!((0..100).all(|n| public_v6(n, 1).segments()[0] & 0xf1f0 == 0x2000));
    }
}
