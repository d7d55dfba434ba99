//! The ids of a torrent's members.

use super::picker::PeerKey;

/// The number of bits of a [`PeerKey`] that name the slot.
const SLOT_BITS: u32 = 20;
/// The generation in a [`PeerKey`], so that a failed piece does not blame a later user of the slot. Nine bits are left: the picker's
/// keys have 30 bits, the highest of which is reserved.
const GENERATION: u32 = 0x1ff;

/// The id of a member of a torrent. A stale id is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId {
    index: u32,
    generation: u32,
}

impl MemberId {
    /// The id of the user of a slot.
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// Its slot.
    pub(crate) const fn index(self) -> usize {
        self.index as usize
    }

    /// How often the slot was used before.
    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The slot of a picker's key.
    pub(crate) const fn slot(key: PeerKey) -> usize {
        (key & ((1 << SLOT_BITS) - 1)) as usize
    }

    /// Its key in the picker.
    pub(crate) const fn key(self) -> PeerKey {
        (self.generation & GENERATION) << SLOT_BITS | (self.index & ((1 << SLOT_BITS) - 1))
    }

    /// The id of peer number `n` in a test.
    #[cfg(test)]
    pub(crate) const fn numbered(n: u32) -> Self {
        Self::new(n, 0)
    }
}
