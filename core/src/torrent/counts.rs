//! Counters by key.

use alloc::collections::BTreeMap;

/// The count of each key. A key with a count of 0 takes no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counts<K>(BTreeMap<K, u32>);

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counts<K> {
    /// The count of `key`.
    pub(crate) fn of(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or(0)
    }

    /// Adds `count` to the count of `key`.
    pub(crate) fn add(&mut self, key: K, count: u32) {
        if count > 0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    /// Subtracts `count` from the count of `key`, down to 0.
    pub(crate) fn remove(&mut self, key: &K, count: u32) {
        if let Some(held) = self.0.get_mut(key) {
            *held = held.saturating_sub(count);
            if *held == 0 {
                self.0.remove(key);
            }
        }
    }

    /// All counts that are not 0.
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
