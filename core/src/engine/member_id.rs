//! The names of a torrent's peers.

use crate::torrent::picker::PeerKey;

/// Bits of a [`PeerKey`] that name the slot; the rest carry its generation, so that a piece in
/// the making does not blame a successor.
const KEY_BITS: u32 = 20;

/// Names one peer of a torrent; a stale name is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// The slot of the peer that the picker calls by this name.
pub(super) const fn index_of(key: PeerKey) -> usize {
    (key & ((1 << KEY_BITS) - 1)) as usize
}

impl MemberId {
    /// The picker's name for it.
    pub(super) const fn key(self) -> PeerKey {
        (self.generation & 0x1ff) << KEY_BITS | (self.index & ((1 << KEY_BITS) - 1))
    }

    /// One that stands for the peer number `n` in a test.
    #[cfg(test)]
    pub(super) const fn numbered(n: u32) -> Self {
        Self {
            index: n,
            generation: 0,
        }
    }
}
