//! A table by [`TorrentId`].

use alloc::{boxed::Box, vec::Vec};

use crate::TorrentId;

/// Values by torrent, in the order of the torrents' ids.
///
/// Ids are assigned in ascending order, so a sorted list suffices: a new entry goes to its end. The last entry that was
/// looked up is found without a search, as handling one block looks up the same torrent several times.
#[derive(Debug)]
pub(super) struct Table<T> {
    sorted: Vec<(TorrentId, Box<T>)>,
    /// The index of the last entry that was looked up.
    last: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            sorted: Vec::new(),
            last: 0,
        }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, id: TorrentId, torrent: T) {
        let at = self.sorted.partition_point(|(other, _)| *other < id);
        self.sorted.insert(at, (id, Box::new(torrent)));
    }

    pub(super) fn remove(&mut self, id: TorrentId) -> Option<T> {
        let at = self.at(id)?;
        let (_, torrent) = self.sorted.remove(at);
        Some(*torrent)
    }

    pub(super) fn get(&self, id: TorrentId) -> Option<&T> {
        let at = self.at(id)?;
        Some(&self.sorted[at].1)
    }

    pub(super) fn get_mut(&mut self, id: TorrentId) -> Option<&mut T> {
        self.last = self.at(id)?;
        Some(&mut self.sorted[self.last].1)
    }

    /// The index of an entry.
    fn at(&self, id: TorrentId) -> Option<usize> {
        match self.sorted.get(self.last) {
            Some((last, _)) if *last == id => Some(self.last),
            _ => self.sorted.binary_search_by_key(&id, |(id, _)| *id).ok(),
        }
    }

    /// The ids after `id`, or all ids.
    pub(super) fn ids_after(&self, id: Option<TorrentId>) -> impl Iterator<Item = TorrentId> {
        let from = id.map_or(0, |id| self.sorted.partition_point(|(at, _)| *at <= id));
        self.sorted[from..].iter().map(|(id, _)| *id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.sorted.iter().map(|(_, torrent)| &**torrent)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.sorted.iter_mut().map(|(_, torrent)| &mut **torrent)
    }

    pub(super) const fn len(&self) -> usize {
        self.sorted.len()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn agrees_with_a_map(steps: Vec<(u8, u32)>) -> bool {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (what, n) in steps {
                let id = TorrentId(n % 12);
                match what % 4 {
                    0 if !model.contains_key(&id) => {
                        table.insert(id, n);
                        model.insert(id, n);
                    }
                    1 => assert_eq!(table.remove(id), model.remove(&id)),
                    2 => assert_eq!(table.get_mut(id), model.get_mut(&id)),
                    _ => assert_eq!(table.get(id), model.get(&id)),
                }
                let after = model.keys().copied().filter(|other| *other > id);
                assert!(table.ids_after(Some(id)).eq(after));
            }
            table.len() == model.len()
                && table.ids_after(None).eq(model.keys().copied())
                && table.values().eq(model.values())
                && table.values_mut().eq(model.values_mut())
        }
    }
}
