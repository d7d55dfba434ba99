//! A key space: many ids in order, each with an address.

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
};

use dunlin_core::{NodeId as Key, wire::krpc::COMPACT_V4};
use rand_core::Rng;
use rustc_hash::FxBuildHasher;

use crate::rng::SimRng;

/// The port of every node.
pub const PORT: u16 = 6_881;

/// Nodes in the order of their ids.
#[derive(Clone, Debug, Default)]
pub struct Space {
    keys: Vec<Key>,
    addrs: Vec<Ipv4Addr>,
    /// The index of each address. The map is never iterated.
    places: HashMap<Ipv4Addr, u32, FxBuildHasher>,
}

impl Space {
    /// Creates `count` nodes at random public addresses, no two of them in one /24. Of a million
    /// nodes, `secure_ppm` have ids that are derived from their address (BEP 42), and the others
    /// random ids.
    #[must_use]
    pub fn random(seed: u64, count: u32, secure_ppm: u32) -> Self {
        let mut dice = SimRng::part(seed, 1);
        let mut nets = BTreeSet::new();
        let mut nodes = Vec::with_capacity(count as usize);
        while nodes.len() < count as usize {
            let addr = Ipv4Addr::from(dice.next_u32());
            if !is_public(addr) || !nets.insert(u32::from(addr) >> 8) {
                continue;
            }
            let secure = below(&mut dice, 1_000_000) < secure_ppm;
            nodes.push((key_for(&mut dice, addr, secure), addr));
        }
        Self::of(nodes)
    }

    /// Creates a space of these nodes. Of nodes with the same id or address only one is kept.
    #[must_use]
    pub fn of(mut nodes: Vec<(Key, Ipv4Addr)>) -> Self {
        nodes.sort_unstable();
        nodes.dedup_by_key(|(key, _)| *key);
        let mut space = Self::default();
        for (key, addr) in nodes {
            let place = space.keys.len() as u32;
            if space.places.insert(addr, place).is_none() {
                space.keys.push(key);
                space.addrs.push(addr);
            }
        }
        space
    }

    /// The number of nodes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns `true` when there are no nodes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The id of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn key(&self, n: u32) -> &Key {
        &self.keys[n as usize]
    }

    /// The address of node `n`.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn addr(&self, n: u32) -> SocketAddrV4 {
        SocketAddrV4::new(self.addrs[n as usize], PORT)
    }

    /// The node at an address.
    #[must_use]
    pub fn at(&self, addr: Ipv4Addr) -> Option<u32> {
        self.places.get(&addr).copied()
    }

    /// The nodes that share the first `bits` bits of `target`, as a range of indices.
    #[must_use]
    pub fn branch(&self, target: &Key, bits: u32) -> std::ops::Range<u32> {
        let (mut low, mut high) = (target.0, target.0);
        for (n, (l, h)) in low.iter_mut().zip(&mut high).enumerate() {
            let fixed = bits.saturating_sub(8 * n as u32).min(8);
            let free = (0xff_u16 >> fixed) as u8;
            *l &= !free;
            *h |= free;
        }
        let from = self.keys.partition_point(|k| k.0 < low);
        let to = from + self.keys[from..].partition_point(|k| k.0 <= high);
        from as u32..to as u32
    }

    /// The `most` nodes closest to `target` for which `wanted` returns `true`, closest first.
    #[must_use]
    pub fn closest(&self, target: &Key, most: usize, wanted: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut bits = (self.len() + 1).ilog2() + 4;
        let mut found: Vec<u32> = loop {
            let branch = self.branch(target, bits);
            if bits == 0 || branch.len() >= most {
                let found: Vec<u32> = branch.filter(|n| wanted(*n)).collect();
                if bits == 0 || found.len() >= most {
                    break found;
                }
            }
            bits -= 1;
        };
        found.sort_unstable_by_key(|n| self.key(*n).distance(target));
        found.truncate(most);
        found
    }

    /// Writes a node in the form of `nodes` (BEP 5).
    pub fn write(&self, n: u32, into: &mut Vec<u8>) {
        into.reserve(COMPACT_V4);
        into.extend_from_slice(&self.key(n).0);
        into.extend_from_slice(&self.addr(n).ip().octets());
        into.extend_from_slice(&PORT.to_be_bytes());
    }
}

/// Draws an id, which is derived from the address when it is to be `secure` (BEP 42).
pub fn key_for(dice: &mut SimRng, addr: Ipv4Addr, secure: bool) -> Key {
    let mut key = Key([0; 20]);
    dice.fill_bytes(&mut key.0);
    if secure {
        // The last byte of the id says which of the eight ids of this address it is.
        let r = u32::from(key.0[19] & 7);
        let masked = (u32::from(addr) & 0x030f_3fff) | (r << 29);
        let crc = crc32c(masked.to_be_bytes());
        key.0[0] = (crc >> 24) as u8;
        key.0[1] = (crc >> 16) as u8;
        key.0[2] = ((crc >> 8) as u8 & 0xf8) | (key.0[2] & 7);
    }
    key
}

/// CRC-32C, bit by bit. This is not the engine's implementation, so that a mistake in that one is
/// noticed.
fn crc32c(bytes: [u8; 4]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.into_iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

/// Returns `true` when a node of the internet can have this address.
#[must_use]
pub const fn is_public(addr: Ipv4Addr) -> bool {
    let [a, b, c, d] = addr.octets();
    let special = match (a, b) {
        (0 | 10 | 127 | 224..=255, _) => true,
        (100, 64..=127) | (169, 254) | (172, 16..=31) | (192, 168) => true,
        // Documentation, benchmarks, protocol assignments, 6to4 anycast.
        (192, 0 | 88) | (198, 18..=19 | 51) | (203, 0) => true,
        _ => false,
    };
    let _ = c;
    !special && d != 0 && d != 255
}

/// A random number below `bound`.
pub(super) fn below(dice: &mut dyn Rng, bound: u32) -> u32 {
    ((u64::from(dice.next_u32()) * u64::from(bound)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_are_those_of_a_full_sort() {
        let space = Space::random(3, 500, 500_000);
        let mut dice = SimRng::new(9);
        for _ in 0..200 {
            let target = key_for(&mut dice, Ipv4Addr::LOCALHOST, false);
            let mut all: Vec<u32> = (0..500).filter(|n| n % 3 > 0).collect();
            all.sort_by_key(|n| space.key(*n).distance(&target));
            assert_eq!(space.closest(&target, 8, |n| n % 3 > 0), all[..8]);
        }
    }

    #[test]
    fn ids_follow_from_addresses_as_in_the_examples_of_bep_42() {
        assert_eq!(crc32c([0x20, 0x0f, 0x0b, 0x15]), 0x5fbf_bdb2);
        let mut dice = SimRng::new(2);
        let addr = Ipv4Addr::new(124, 31, 75, 21);
        let key =
            std::iter::repeat_with(|| key_for(&mut dice, addr, true)).find(|k| k.0[19] & 7 == 1);
        let key = key.expect("one in eight");
        assert_eq!((key.0[0], key.0[1], key.0[2] & 0xf8), (0x5f, 0xbf, 0xb8));
    }

    #[test]
    fn a_branch_is_what_shares_a_prefix() {
        let space = Space::random(4, 300, 0);
        let target = *space.key(77);
        for bits in 0..12 {
            let all: Vec<u32> = (0..300)
                .filter(|n| space.key(*n).common_prefix(&target) >= bits)
                .collect();
            assert_eq!(space.branch(&target, bits).collect::<Vec<_>>(), all);
        }
    }
}
