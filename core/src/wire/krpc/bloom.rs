//! Bloom filters of addresses (BEP 33): they give the size of a swarm, but not its members.
//!
//! 2048 bits, two for each address. Filters are combined by OR, so that the answers of several nodes
//! can be added up without counting a peer twice.

use core::net::IpAddr;

use super::BLOOM_LEN;
use crate::hash::sha1;

/// Bits of a filter (BEP 33 `m`).
const BITS: u32 = (BLOOM_LEN * 8) as u32;
/// Binary digits after the point of the logarithms here.
const FRACTION: u32 = 40;
/// 2·log₂(2048 ÷ 2047) with [`FRACTION`] digits: how much one address adds to the logarithm of
/// the share of bits still clear (BEP 33: two hash functions).
const PER_ADDRESS: u64 = 1_549_460_322;

/// Adds an address.
pub fn insert(filter: &mut [u8; BLOOM_LEN], ip: IpAddr) {
    let hash = match ip {
        IpAddr::V4(ip) => sha1(&ip.octets()),
        IpAddr::V6(ip) => sha1(&ip.octets()),
    };
    let [a, b, c, d, ..] = hash;
    for index in [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])] {
        let index = usize::from(index) % (BLOOM_LEN * 8);
        if let Some(byte) = filter.get_mut(index / 8) {
            *byte |= 1 << (index % 8);
        }
    }
}

/// Adds the addresses of `other`.
pub fn unite(filter: &mut [u8; BLOOM_LEN], other: &[u8; BLOOM_LEN]) {
    for (byte, more) in filter.iter_mut().zip(other) {
        *byte |= more;
    }
}

/// How many addresses were added, about: log(clear ÷ m) ÷ 2·log(1 − 1/m), rounded (BEP 33). Good
/// to a few percent up to some 6000; a full filter counts as one with a single clear bit: 7806.
#[must_use]
pub fn estimate(filter: &[u8; BLOOM_LEN]) -> u32 {
    let clear: u32 = filter.iter().map(|byte| byte.count_zeros()).sum();
    if clear == BITS {
        return 0;
    }
    let share = (u64::from(BITS.ilog2()) << FRACTION) - log2(clear.max(1));
    ((share + PER_ADDRESS / 2) / PER_ADDRESS) as u32
}

/// log₂ of `n` ≥ 1, with [`FRACTION`] binary digits: squaring the mantissa tells one at a time.
fn log2(n: u32) -> u64 {
    let whole = n.ilog2();
    let mut result = u64::from(whole) << FRACTION;
    // In [1, 2), with 31 binary digits; the square has 62.
    let mut mantissa = u64::from(n) << (31 - whole);
    for digit in (0..FRACTION).rev() {
        mantissa = (mantissa * mantissa) >> 31;
        if mantissa >> 32 != 0 {
            mantissa >>= 1;
            result |= 1 << digit;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::NodeId;

    #[test]
    fn bep33_filter_and_estimate() {
        let mut filter = [0; BLOOM_LEN];
        assert_eq!(estimate(&filter), 0);
        for i in 0..=255 {
            insert(&mut filter, IpAddr::from([192, 0, 2, i]));
        }
        let mut other = [0; BLOOM_LEN];
        for i in 0..0x3e8 {
            let ip = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, i]);
            insert(&mut other, ip);
        }
        unite(&mut filter, &other);
        let hash = sha1(&filter);
        assert_eq!(
            format!("{}", NodeId(hash)),
            "e4dabf3c822dcd0030ee21df8369bfef2594b52b"
        );
        assert_eq!(filter.iter().map(|b| b.count_zeros()).sum::<u32>(), 619);
        // 1224.9308 by the formula.
        assert_eq!(estimate(&filter), 1225);
        assert_eq!(estimate(&[0xff; BLOOM_LEN]), 7806);
    }

    #[test]
    fn bep33_estimate_follows_the_formula_for_every_filling() {
        let mut filter = [0u8; BLOOM_LEN];
        let mut before = 0;
        for set in 1..2048u32 {
            filter[(set as usize - 1) / 8] |= 1 << ((set - 1) % 8);
            let now = estimate(&filter);
            assert!(now >= before, "{set}");
            before = now;
            // Each address sets at most two bits.
            assert!(now * 2 + 1 >= set, "{set}: {now}");
        }
        assert_eq!(before, 7806);
    }
}
