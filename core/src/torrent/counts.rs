//! Counters by key.

use alloc::collections::BTreeMap;

/// How many there are of each key. A key of which there is none takes no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts<K>(BTreeMap<K, u32>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    /// How many there are of `key`.
    pub(crate) fn of(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// `count` more of `key`.
    pub(crate) fn add(&mut self, key: K, count: u32) {
        if count > 0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    /// `count` less of `key`; no less than none.
    pub(crate) fn remove(&mut self, key: &K, count: u32) {
        if let Some(held) = self.0.get_mut(key) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.0.remove(key);
            }
        }
    }

    /// All counts; none is zero.
    #[cfg(test)]
    pub(crate) fn values(&self) -> impl Iterator<Item = u32> {
        self.0.values().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_takes_no_memory() {
        let mut counts = Counts::default();
        counts.add('a', 2);
        counts.add('b', 0);
        counts.add('a', 1);
        assert_eq!((counts.of(&'a'), counts.of(&'b')), (3, 0));
        counts.remove(&'a', 1);
        counts.remove(&'b', 1);
        assert_eq!(counts.values().collect::<alloc::vec::Vec<_>>(), [2]);
        counts.remove(&'a', 5);
        assert_eq!(counts, Counts::default());
    }
}
