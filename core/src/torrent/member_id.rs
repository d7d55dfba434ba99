//! Names of the peers of a torrent.

use super::picker::PeerKey;

/// Bits of a [`PeerKey`] that name the slot; the rest carry its generation, so that a piece in
/// the making does not blame a successor.
const KEY_BITS: u32 = 20;

/// Names one peer of a torrent; a stale name is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId {
    index: u32,
    generation: u32,
}

impl MemberId {
    /// The user of a slot.
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Its slot.
    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    /// How many had the slot before.
    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The slot that the picker's name stands for.
    pub(crate) const fn slot(key: PeerKey) -> usize {
        (key & ((1 << KEY_BITS) - 1)) as usize
    }

    /// The picker's name for it.
    pub(crate) const fn key(self) -> PeerKey {
        (self.generation & 0x1ff) << KEY_BITS | (self.index & ((1 << KEY_BITS) - 1))
    }

    /// One that stands for the peer number `n` in a test.
    #[cfg(test)]
    pub(crate) const fn numbered(n: u32) -> Self {
        Self::new(n, 0)
    }
}
