//! A set of offsets, kept as ranges: what was received beyond a gap, or selectively acknowledged.

/// Disjoint ranges `start..end` that do not touch, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `start..end`. Calls `fresh` with each part that was not in the set.
    pub(super) fn insert(&mut self, start: u64, end: u64, mut fresh: impl FnMut(u64, u64)) {
        if start >= end {
            return;
        }
        // The ranges that overlap or touch the new one.
        let first = self.0.partition_point(|r| r.1 < start);
        let last = first + self.0[first..].partition_point(|r| r.0 <= end);
        let mut at = start;
        for (from, to) in &self.0[first..last] {
            if at < *from {
                fresh(at, *from);
            }
            at = at.max(*to);
        }
        if at < end {
            fresh(at, end);
        }
        if first == last {
            self.0.insert(first, (start, end));
        } else {
            self.0[first] = (self.0[first].0.min(start), self.0[last - 1].1.max(end));
            self.0.drain(first + 1..last);
        }
    }

    /// Removes everything before `offset`.
    pub(super) fn remove_before(&mut self, offset: u64) {
        let gone = self.0.partition_point(|r| r.1 <= offset);
        self.0.drain(..gone);
        if let Some(first) = self.0.first_mut() {
            first.0 = first.0.max(offset);
        }
    }

    /// The range that contains `offset`.
    pub(super) fn around(&self, offset: u64) -> Option<(u64, u64)> {
        let range = self.0.get(self.0.partition_point(|r| r.1 <= offset))?;
        (range.0 <= offset).then_some(*range)
    }

    /// The number of ranges.
    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The first offset after the last range.
    pub(super) fn end(&self) -> Option<u64> {
        self.0.last().map(|r| r.1)
    }

    /// The ranges.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Removes everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn the_set_agrees_with_a_set_of_single_offsets(steps: Vec<(u8, u8)>, cut: u8) -> bool {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (start, len) in steps {
                let (start, end) = (u64::from(start), u64::from(start) + u64::from(len % 16));
                let mut fresh = BTreeSet::new();
                ranges.insert(start, end, |a, b| fresh.extend(a..b));
                let expected: BTreeSet<u64> =
                    (start..end).filter(|offset| model.insert(*offset)).collect();
                if fresh != expected {
                    return false;
                }
            }
            ranges.remove_before(u64::from(cut));
            model.retain(|offset| *offset >= u64::from(cut));
            let apart = ranges.0.windows(2).all(|w| w[0].1 < w[1].0);
            let within = (0..300).all(|n| ranges.around(n).is_some() == model.contains(&n));
            apart && within && ranges.end() == model.last().map(|last| last + 1)
        }
    }
}
