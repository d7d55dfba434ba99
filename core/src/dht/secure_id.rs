//! Ids that are derived from the address (BEP 42): to take a place near an id, a node needs a matching address.

use core::net::IpAddr;

use crc::{CRC_32_ISCSI, Crc};

use crate::{Cx, NodeId};

static CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// The bits of an IPv4 address that count (BEP 42). More of them count further left, because the owner of a
/// large network cannot vary those.
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
/// The same for the first half of an IPv6 address.
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];
/// The leading bits of the id that follow from the address (BEP 42): 21.
const FIXED_BITS: u32 = 0xffff_f800;

/// A random id that suits a node at `ip`.
pub fn secure(cx: &mut Cx<'_>, ip: IpAddr) -> NodeId {
    let mut id = [0; 20];
    cx.rng.fill_bytes(&mut id);
    suit(&mut id, ip);
    NodeId(id)
}

/// Whether `id` suits a node at `ip`. Any id does at an address that is not seen from the outside:
/// private, link-local and loopback (BEP 42).
#[must_use]
pub fn is_secure(id: &NodeId, ip: IpAddr) -> bool {
    let mut suited = id.0;
    suit(&mut suited, ip);
    suited == id.0 || is_local(ip)
}

/// Replaces the leading 21 bits, so that the id suits `ip`; the last byte is what else the
/// checksum covers.
fn suit(id: &mut [u8; 20], ip: IpAddr) {
    let [.., r] = *id;
    let [a, b, c, ..] = id;
    let leading = u32::from_be_bytes([*a, *b, *c, 0]);
    let bits = (leading & !FIXED_BITS) | (checksum(ip, r) & FIXED_BITS);
    [*a, *b, *c, _] = bits.to_be_bytes();
}

fn checksum(ip: IpAddr, r: u8) -> u32 {
    // The low three bits take the place that every mask leaves free.
    let r = (r & 7) << 5;
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let octets = ip.octets();
            let mut masked: [u8; 4] = core::array::from_fn(|i| octets[i] & MASK_V4[i]);
            masked[0] |= r;
            CRC32C.checksum(&masked)
        }
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let mut masked: [u8; 8] = core::array::from_fn(|i| octets[i] & MASK_V6[i]);
            masked[0] |= r;
            CRC32C.checksum(&masked)
        }
    }
}

fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use quickcheck::quickcheck;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;
    use crate::Instant;

    fn id(hex: &str) -> NodeId {
        NodeId(HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap())
    }

    /// The examples of BEP 42, and libtorrent's for IPv6.
    #[test]
    fn bep42_examples() {
        for (ip, r, crc, node) in [
            (
                "124.31.75.21",
                1,
                0x5fbf_bdb2,
                "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401",
            ),
            (
                "21.75.31.124",
                86,
                0x5a3c_e9b0,
                "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256",
            ),
            (
                "65.23.51.170",
                22,
                0xa5d4_344a,
                "a5d43220bc8f112a3d426c84764f8c2a1150e616",
            ),
            (
                "84.124.73.14",
                65,
                0x1b03_217b,
                "1b0321dd1bb1fe518101ceef99462b947a01ff41",
            ),
            (
                "43.213.53.83",
                90,
                0xe56f_6972,
                "e56f6cbf5b7c4be0237986d5243b87aa6d51305a",
            ),
            (
                "2001:b829:2123:be84:e16c:d6ae:5290:49f1",
                4,
                0x0a8a_d1aa,
                "0a8ad123be84e16cd6ae529049f1f1bbe9ebb304",
            ),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(checksum(ip, r), crc, "{ip}");
            assert!(is_secure(&id(node), ip), "{ip}");
            let mut forged = id(node);
            forged.0[2] ^= 8;
            assert!(!is_secure(&forged, ip), "{ip}: bit 21 counts");
            forged.0[2] ^= 8 | 4;
            assert!(is_secure(&forged, ip), "{ip}: bit 22 does not");
        }
    }

    #[test]
    fn bep42_verification() {
        for (ip, node, good) in [
            (
                "124.31.75.21",
                "5fbfbff10c5d7a4ec8a88e4c6ab4c28b95eee401",
                true,
            ),
            (
                "21.75.31.124",
                "5a3ce1c14e7a08645677bbd1cfe7d8f956d53256",
                false,
            ),
            (
                "65.23.51.170",
                "a5d43620bc8f112a3d426c84764f8c2a1150e616",
                true,
            ),
            (
                "84.124.73.14",
                "1b0321dd1bb1fe518101ceef99462b947a01fe01",
                true,
            ),
            (
                "43.213.53.83",
                "e56f6cbf5b7c4be0237986d5243b87aa6d51303e",
                false,
            ),
            (
                "10.213.53.83",
                "e56f6cbf5b7c4be0237986d5243b87aa6d51305a",
                true,
            ),
            (
                "12.213.53.83",
                "e56f6cbf5b7c4be0237986d5243b87aa6d51305a",
                false,
            ),
            (
                "192.168.53.83",
                "e56f6cbf5b7c4be0237986d5243b87aa6d51305a",
                true,
            ),
        ] {
            assert_eq!(is_secure(&id(node), ip.parse().unwrap()), good, "{ip}");
        }
    }

    #[test]
    fn checksums_are_crc32c() {
        for (data, crc) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&core::array::from_fn::<u8, 32, _>(|i| i as u8), 0x46dd_794e),
            (&[0xef, 0xfe, 0xa5, 0x5a], 0x5ee3_b9d5),
        ] {
            assert_eq!(CRC32C.checksum(data), crc);
        }
    }

    #[test]
    fn no_id_is_wrong_where_nobody_looks() {
        for ip in [
            "127.0.0.1",
            "172.16.9.9",
            "169.254.1.1",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_secure(&NodeId([7; 20]), ip.parse().unwrap()), "{ip}");
        }
        assert!(!is_secure(&NodeId([7; 20]), "172.32.0.1".parse().unwrap()));
    }

    quickcheck! {
        fn what_is_made_suits(seed: u64, v4: u32, v6: u128, six: bool) -> bool {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut cx = Cx { now: Instant::ORIGIN, rng: &mut rng };
            let ip = if six {
                IpAddr::from(v6.to_be_bytes())
            } else {
                IpAddr::from(v4.to_be_bytes())
            };
            is_secure(&secure(&mut cx, ip), ip)
        }
    }
}
