//! A set of piece indices, in the layout of the wire: high bit first (BEP 3).

use alloc::{vec, vec::Vec};

/// A fixed-size set of piece indices that knows how many it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

impl Bitfield {
    /// The empty set over `0..len`.
    #[must_use]
    pub fn new(len: u32) -> Self {
        Self {
            bytes: vec![0; len.div_ceil(8) as usize],
            len,
            ones: 0,
        }
    }

    /// The full set over `0..len`.
    #[must_use]
    pub fn full(len: u32) -> Self {
        let mut all = Self {
            bytes: vec![0xff; len.div_ceil(8) as usize],
            len,
            ones: len,
        };
        if let (Some(last), true) = (all.bytes.last_mut(), !len.is_multiple_of(8)) {
            *last = 0xff << (8 - len % 8);
        }
        all
    }

    /// Reads the wire form; `None` if the size is wrong or a spare bit is set (BEP 3: "clients
    /// should drop the connection").
    #[must_use]
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let spare = (bytes.len() as u32 * 8 - len) as u8;
        if spare > 0
            && bytes
                .last()
                .is_some_and(|b| b.trailing_zeros() < u32::from(spare))
        {
            return None;
        }
        let ones = bytes.iter().map(|b| b.count_ones()).sum();
        Some(Self {
            bytes: bytes.to_vec(),
            len,
            ones,
        })
    }

    /// The wire form.
    #[must_use]
    pub fn as_wire(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `index` is in the set; `false` beyond its range.
    #[must_use]
    pub fn get(&self, index: u32) -> bool {
        index < self.len && self.bytes[index as usize / 8] & (0x80 >> (index % 8)) != 0
    }

    /// Adds `index`; returns whether that changed the set. Beyond the range: `false`.
    pub fn set(&mut self, index: u32) -> bool {
        let fresh = index < self.len && !self.get(index);
        if fresh {
            self.bytes[index as usize / 8] |= 0x80 >> (index % 8);
            self.ones += 1;
        }
        fresh
    }

    /// Removes `index`; returns whether that changed the set.
    pub fn clear(&mut self, index: u32) -> bool {
        let had = self.get(index);
        if had {
            self.bytes[index as usize / 8] &= !(0x80 >> (index % 8));
            self.ones -= 1;
        }
        had
    }

    /// The range is `0..len()`.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the range is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many are in the set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every index of the range is in the set.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// The indices in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes.iter().enumerate().flat_map(|(i, &byte)| {
            let mut rest = byte;
            core::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                (bit < 8).then(|| {
                    rest &= !(0x80 >> bit);
                    i as u32 * 8 + bit
                })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    #[test]
    fn a_spare_bit_or_a_wrong_size_is_refused() {
        assert!(Bitfield::from_wire(&[0b1010_0000], 3).is_some());
        assert!(Bitfield::from_wire(&[0b1011_0000], 3).is_none());
        assert!(Bitfield::from_wire(&[0, 0], 3).is_none());
        assert!(Bitfield::from_wire(&[], 0).is_some());
    }

    quickcheck! {
        fn agrees_with_a_set(len: u16, ops: Vec<(u16, bool)>) -> bool {
            let len = u32::from(len);
            let (mut bits, mut model) = (Bitfield::new(len), alloc::collections::BTreeSet::new());
            for (i, add) in ops {
                let i = u32::from(i);
                let changed = if add { bits.set(i) } else { bits.clear(i) };
                let expected = i < len && if add { model.insert(i) } else { model.remove(&i) };
                if changed != expected { return false; }
            }
            bits.count() as usize == model.len() && bits.iter().eq(model.iter().copied())
                && Bitfield::from_wire(bits.as_wire(), len) == Some(bits)
        }

        fn full_is_every_index(len: u16) -> bool {
            let full = Bitfield::full(u32::from(len));
            full.is_full() && full.iter().eq(0..u32::from(len))
                && Bitfield::from_wire(full.as_wire(), u32::from(len)).is_some()
        }
    }
}
