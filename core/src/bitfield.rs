//! A set of piece indices, in the layout of the wire: high bit first (BEP 3).

use alloc::{borrow::Cow, vec, vec::Vec};

/// The list of changed bytes is kept while it has fewer entries than one for this many indices: beyond
/// that, scanning the whole set is cheaper.
const CHANGES: u32 = 512;

/// A fixed-size set of piece indices that knows how many it holds.
///
/// It is stored as its difference from the empty or the full set, so that filling and emptying it
/// costs what was changed since the last time, not what the set could hold. A full or empty set
/// that was never changed has no storage.
#[derive(Clone, Debug)]
pub struct Bitfield {
    /// The indices that differ from the base, high bit first; empty if none ever did. Spare bits are zero.
    bytes: Vec<u8>,
    len: u32,
    /// The base is the full set.
    inverted: bool,
    /// The number of indices that differ from the base.
    differing: u32,
    /// Every byte that is not zero, some more than once; `None` if there were too many.
    changed: Option<Vec<u32>>,
}

impl PartialEq for Bitfield {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self.count() == other.count()
            && (0..self.words()).all(|i| self.word(i) == other.word(i))
    }
}

impl Eq for Bitfield {}

impl Bitfield {
    /// The empty set over `0..len`.
    #[must_use]
    pub const fn new(len: u32) -> Self {
        Self {
            bytes: Vec::new(),
            len,
            inverted: false,
            differing: 0,
            changed: Some(Vec::new()),
        }
    }

    /// The full set over `0..len`.
    #[must_use]
    pub const fn full(len: u32) -> Self {
        Self {
            bytes: Vec::new(),
            len,
            inverted: true,
            differing: 0,
            changed: Some(Vec::new()),
        }
    }

    /// Parses the content of a `bitfield` message; `None` if its length is wrong or a spare bit is set.
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
        Some(Self::from_sound(bytes.to_vec(), len))
    }

    /// Parses the content of a peer's `bitfield` message and clears spare bits; returns whether any was
    /// set. `None` if its length is wrong.
    #[must_use]
    pub(crate) fn from_peer(bytes: &[u8], len: u32) -> Option<(Self, bool)> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut bytes = bytes.to_vec();
        let spare = (bytes.len() as u32 * 8 - len) as u8;
        let last = bytes.last_mut();
        let set = last.is_some_and(|last| {
            let sent = *last;
            *last &= 0xff << spare;
            *last != sent
        });
        Some((Self::from_sound(bytes, len), set))
    }

    /// Takes bytes of the right number without spare bits.
    fn from_sound(bytes: Vec<u8>, len: u32) -> Self {
        let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
        if ones == len {
            return Self::full(len);
        }
        Self {
            bytes,
            len,
            inverted: false,
            differing: ones,
            changed: None,
        }
    }

    /// The content of a `bitfield` message.
    #[must_use]
    pub(crate) fn as_wire(&self) -> Cow<'_, [u8]> {
        let size = self.len.div_ceil(8) as usize;
        if !self.inverted && self.bytes.len() == size {
            return Cow::Borrowed(&self.bytes);
        }
        let words = (0..self.words()).flat_map(|i| self.word(i).to_be_bytes());
        Cow::Owned(words.take(size).collect())
    }

    /// The number of words of [`Bitfield::word`].
    #[must_use]
    pub(crate) const fn words(&self) -> usize {
        self.len.div_ceil(64) as usize
    }

    /// The number of indices that are in exactly one of two sets.
    #[must_use]
    pub(crate) fn distance(&self, other: &Self) -> u32 {
        let words = 0..self.words().max(other.words());
        words
            .map(|i| (self.word(i) ^ other.word(i)).count_ones())
            .sum()
    }

    /// The word of the indices from `64 * i` on, high bit first; zeros beyond the range.
    #[must_use]
    pub(crate) fn word(&self, i: usize) -> u64 {
        let rest = self.bytes.get(i * 8..).unwrap_or_default();
        let word = match rest.first_chunk() {
            Some(chunk) => u64::from_be_bytes(*chunk),
            None => padded(rest),
        };
        if !self.inverted {
            return word;
        }
        let left = u64::from(self.len).saturating_sub(i as u64 * 64);
        match left {
            0 => 0,
            1..64 => !word & !(u64::MAX >> left),
            _ => !word,
        }
    }

    /// Whether `index` is in the set; `false` beyond its range.
    #[must_use]
    pub fn get(&self, index: u32) -> bool {
        index < self.len && self.differs(index) != self.inverted
    }

    fn differs(&self, index: u32) -> bool {
        let byte = self.bytes.get(index as usize / 8);
        byte.is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
    }

    /// Adds `index`; returns whether that changed the set. Returns `false` beyond the range.
    pub fn set(&mut self, index: u32) -> bool {
        self.put(index, true)
    }

    /// Removes `index`; returns whether that changed the set.
    pub fn clear(&mut self, index: u32) -> bool {
        self.put(index, false)
    }

    /// Adds or removes an index; returns whether that changed the set.
    fn put(&mut self, index: u32, member: bool) -> bool {
        let (at, bit) = (index / 8, 0x80 >> (index % 8));
        let Some(byte) = self.bytes.get_mut(at as usize) else {
            return self.put_first(index, member);
        };
        let differs = *byte & bit != 0;
        if index >= self.len || differs != (member == self.inverted) {
            return false;
        }
        let fresh = *byte == 0;
        *byte ^= bit;
        if differs {
            self.differing -= 1;
        } else {
            self.differing += 1;
        }
        if self.changed.is_some() && fresh {
            self.list_change(at);
        }
        true
    }

    /// The same for a set that has no storage yet.
    #[cold]
    fn put_first(&mut self, index: u32, member: bool) -> bool {
        if index >= self.len || member == self.inverted {
            return false;
        }
        self.bytes = vec![0; self.len.div_ceil(8) as usize];
        self.bytes[index as usize / 8] = 0x80 >> (index % 8);
        self.differing = 1;
        self.list_change(index / 8);
        true
    }

    #[cold]
    fn list_change(&mut self, at: u32) {
        if let Some(changed) = &mut self.changed {
            if changed.len() < (self.len / CHANGES) as usize + 1 {
                changed.push(at);
            } else {
                self.changed = None;
            }
        }
    }

    /// Adds every index. Returns the number of bytes touched.
    pub(crate) fn fill(&mut self) -> usize {
        self.rebase(true)
    }

    /// Removes every index. Returns the number of bytes touched.
    pub(crate) fn empty(&mut self) -> usize {
        self.rebase(false)
    }

    fn rebase(&mut self, inverted: bool) -> usize {
        self.inverted = inverted;
        self.differing = 0;
        match &mut self.changed {
            Some(changed) => {
                let touched = changed.len();
                for at in changed.drain(..) {
                    self.bytes[at as usize] = 0;
                }
                touched
            }
            None => {
                self.changed = Some(Vec::new());
                self.bytes.fill(0);
                self.bytes.len()
            }
        }
    }

    /// Whether the set is stored as its difference from the full set.
    #[must_use]
    pub(crate) const fn is_inverted(&self) -> bool {
        self.inverted
    }

    /// The number of indices that [`Bitfield::for_each_difference`] yields.
    #[must_use]
    pub(crate) const fn differing(&self) -> u32 {
        self.differing
    }

    /// Calls `each` with the indices, in ascending order, that the set has and the empty set has not, or,
    /// if it [is inverted](Bitfield::is_inverted), that the full set has and this one has not. The cost is
    /// proportional to what was changed since the set was last full or empty.
    pub(crate) fn for_each_difference(&self, mut each: impl FnMut(u32)) {
        if let Some(changed) = &self.changed {
            let mut listed = changed.clone();
            listed.sort_unstable();
            listed.dedup();
            for at in listed {
                for_each_bit(at * 8, u64::from(self.bytes[at as usize]) << 56, &mut each);
            }
            return;
        }
        let (words, rest) = self.bytes.as_chunks();
        for (i, word) in words.iter().enumerate() {
            for_each_bit(i as u32 * 64, u64::from_be_bytes(*word), &mut each);
        }
        for_each_bit(words.len() as u32 * 64, padded(rest), &mut each);
    }

    /// The number of indices that are also in another set, which has `count` of them and is given in the
    /// words of [`Bitfield::word`]. Costs nothing for a full or an empty set.
    #[must_use]
    pub(crate) fn count_common(&self, other: &[u64], count: u32) -> u32 {
        let mut common = 0;
        if self.differing > 0 {
            let (words, rest) = self.bytes.as_chunks();
            let both = other.iter().zip(words);
            common = both
                .map(|(other, word)| (other & u64::from_be_bytes(*word)).count_ones())
                .sum();
            common += other
                .get(words.len())
                .map_or(0, |other| (other & padded(rest)).count_ones());
        }
        if self.inverted {
            count - common
        } else {
            common
        }
    }

    /// The stored bytes of [`Bitfield::for_each_difference`]; may be empty if there is no difference.
    #[must_use]
    pub(crate) fn difference_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The size of the range `0..len()`.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the range is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of indices in the set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        if self.inverted {
            self.len - self.differing
        } else {
            self.differing
        }
    }

    /// Whether every index of the range is in the set.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// The indices in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.words()).flat_map(|i| {
            let mut rest = self.word(i);
            core::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                (bit < 64).then(|| {
                    rest &= !(1 << 63 >> bit);
                    i as u32 * 64 + bit
                })
            })
        })
    }
}

/// The word that starts with fewer than eight bytes.
fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_be_bytes(word)
}

/// Calls `each` with the set bits of `word`, whose first bit has the index `from`.
fn for_each_bit(from: u32, mut word: u64, each: &mut impl FnMut(u32)) {
    while word != 0 {
        let bit = word.leading_zeros();
        word &= !(1 << 63 >> bit);
        each(from + bit);
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

    #[test]
    fn spare_bits_that_a_peer_sets_are_cleared() {
        let three = |byte| Bitfield::from_peer(&[byte], 3);
        let sound = Bitfield::from_wire(&[0b1010_0000], 3).unwrap();
        assert_eq!(three(0b1010_0000), Some((sound.clone(), false)));
        assert_eq!(three(0b1011_1111), Some((sound, true)));
        assert_eq!(three(0xff), Some((Bitfield::full(3), true)));
        assert_eq!(Bitfield::from_peer(&[0, 0], 3), None);
        assert_eq!(Bitfield::from_peer(&[], 3), None);
        assert_eq!(
            Bitfield::from_peer(&[0xff], 8),
            Some((Bitfield::full(8), false))
        );
        assert_eq!(
            Bitfield::from_peer(&[], 0),
            Some((Bitfield::full(0), false))
        );
    }

    #[test]
    fn filling_and_emptying_touch_only_what_was_changed() {
        let mut bits = Bitfield::new(1 << 20);
        for _ in 0..100 {
            assert_eq!(bits.fill(), 0);
            bits.clear(5);
            bits.clear(77_777);
            bits.clear(77_778);
            assert_eq!(bits.empty(), 2);
            bits.set(5);
            assert_eq!(bits.fill(), 1);
            assert_eq!(bits.empty(), 0);
        }
        for i in 0..100_000 {
            bits.set(i * 10);
        }
        assert_eq!(bits.fill(), 1 << 17, "more than is listed");
        assert_eq!(bits.empty(), 0);
    }

    quickcheck! {
        fn agrees_with_a_set(len: u16, ops: Vec<(u16, u8)>) -> bool {
            let len = u32::from(len % 3000);
            let (mut bits, mut model) = (Bitfield::new(len), alloc::collections::BTreeSet::new());
            for (i, op) in ops {
                let i = u32::from(i % 3010);
                match op % 32 {
                    0 => {
                        bits.fill();
                        model.extend(0..len);
                    }
                    1 => {
                        bits.empty();
                        model.clear();
                    }
                    op => {
                        let add = op % 2 == 0;
                        let changed = if add { bits.set(i) } else { bits.clear(i) };
                        let expected =
                            i < len && if add { model.insert(i) } else { model.remove(&i) };
                        if changed != expected { return false; }
                    }
                }
                let differs = |i: &u32| model.contains(i) != bits.is_inverted();
                let mut difference = Vec::new();
                bits.for_each_difference(|i| difference.push(i));
                if !difference.iter().copied().eq((0..len).filter(differs))
                    || difference.len() != bits.differing() as usize
                { return false; }
            }
            bits.count() as usize == model.len() && bits.iter().eq(model.iter().copied())
                && (0..len).all(|i| bits.get(i) == model.contains(&i))
                && Bitfield::from_wire(&bits.as_wire(), len) == Some(bits)
        }

        fn what_two_sets_have_in_common_is_counted(a: Vec<u8>, b: Vec<u8>, all: bool) -> bool {
            let len = a.len().min(b.len()) as u32 * 8;
            let set = |bytes: &[u8]| Bitfield::from_wire(&bytes[..len as usize / 8], len);
            let (Some(mut a), Some(b)) = (set(&a), set(&b)) else { return false };
            if all {
                // The same set, as what it lacks.
                let members: Vec<_> = a.iter().collect();
                a.fill();
                (0..len).filter(|i| !members.contains(i)).for_each(|i| _ = a.clear(i));
            }
            let words: Vec<_> = (0..b.words()).map(|i| b.word(i)).collect();
            let common = a.iter().filter(|i| b.get(*i)).count();
            a.count_common(&words, b.count()) as usize == common
        }

        fn full_is_every_index(len: u16) -> bool {
            let full = Bitfield::full(u32::from(len));
            full.is_full() && full.iter().eq(0..u32::from(len))
                && Bitfield::from_wire(&full.as_wire(), u32::from(len)).is_some()
        }
    }
}
