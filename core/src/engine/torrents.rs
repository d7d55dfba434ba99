//! The torrents of an engine, by id and by hash.

use alloc::{
    collections::{BTreeMap, VecDeque, btree_map},
    vec::Vec,
};
use core::ops::Bound;

use super::torrent::Torrent;
use crate::peer::crypto::req2;
use crate::{InfoHash, TorrentId};

/// All torrents.
#[derive(Debug, Default)]
pub(super) struct Torrents {
    all: BTreeMap<TorrentId, Torrent>,
    /// Torrents that there have been.
    count: u32,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// What an encrypted handshake names a torrent by.
    by_req2: BTreeMap<[u8; 20], InfoHash>,
    /// Those with addresses to connect to; they take turns.
    pub(super) diallers: VecDeque<TorrentId>,
}

impl Torrents {
    /// The id of the next torrent.
    pub(super) const fn next_id(&mut self) -> TorrentId {
        self.count += 1;
        TorrentId(self.count)
    }

    pub(super) fn insert(&mut self, torrent: Torrent) {
        self.by_hash.insert(torrent.info_hash, torrent.id);
        let hash = torrent.info_hash;
        self.by_req2.insert(req2(&hash), hash);
        self.all.insert(torrent.id, torrent);
    }

    pub(super) fn remove(&mut self, id: TorrentId) -> Option<Torrent> {
        let torrent = self.all.remove(&id)?;
        self.diallers.retain(|dialler| *dialler != id);
        self.by_hash.remove(&torrent.info_hash);
        self.by_req2.remove(&req2(&torrent.info_hash));
        Some(torrent)
    }

    pub(super) fn get(&self, id: &TorrentId) -> Option<&Torrent> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &TorrentId) -> Option<&mut Torrent> {
        self.all.get_mut(id)
    }

    /// The torrent with a hash.
    pub(super) fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.by_hash.get(info_hash).copied()
    }

    /// The torrent that an encrypted handshake names.
    pub(super) fn find_req2(&self, req2: &[u8; 20]) -> Option<InfoHash> {
        self.by_req2.get(req2).copied()
    }

    /// Their ids, oldest first.
    pub(super) fn ids(&self) -> impl Iterator<Item = TorrentId> {
        self.all.keys().copied()
    }

    /// Their ids, for those who may lose some on the way.
    pub(super) fn all_ids(&self) -> Vec<TorrentId> {
        self.ids().collect()
    }

    /// Ids of those that were added after `id`.
    pub(super) fn ids_after(&self, id: Option<TorrentId>) -> impl Iterator<Item = TorrentId> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.all.range((from, Bound::Unbounded));
        later.map(|(id, _)| *id)
    }

    pub(super) fn values(&self) -> btree_map::Values<'_, TorrentId, Torrent> {
        self.all.values()
    }

    pub(super) fn values_mut(&mut self) -> btree_map::ValuesMut<'_, TorrentId, Torrent> {
        self.all.values_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}
