//! Blocks: buffers of 16 KiB that hold payload from the socket to the disk, and their pool.

use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::{Deref, DerefMut};

/// The length of a block on the wire and in the pool (BEP 3: peers request 2^14 bytes).
pub const BLOCK_LEN: usize = 16 * 1024;

/// A range of a piece, as requests, cancels and rejects name it (BEP 3, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRef {
    /// The index of the piece.
    pub piece: u32,
    /// The offset in the piece, in bytes.
    pub begin: u32,
    /// The length in bytes.
    pub len: u32,
}

/// A buffer of [`BLOCK_LEN`] bytes on loan. It is moved, never copied, and goes back to the pool of the engine
/// it came from.
pub struct Block(Box<[u8]>);

impl Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl core::fmt::Debug for Block {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Block")
    }
}

/// A bounded pool of blocks. Last in, first out: the block that is lent next is the most likely one to be
/// in the processor's cache.
#[derive(Debug)]
pub struct BlockPool {
    free: Vec<Block>,
    lent: usize,
    cap: usize,
    /// The number of blocks taken back so far.
    given: u64,
}

impl BlockPool {
    /// A pool that lends at most `cap` blocks; memory is allocated when it is first needed.
    #[must_use]
    pub const fn new(cap: usize) -> Self {
        Self {
            free: Vec::new(),
            lent: 0,
            cap,
            given: 0,
        }
    }

    /// Lends a block with unspecified content; `None` while `cap` blocks are on loan.
    pub fn take(&mut self) -> Option<Block> {
        if self.lent >= self.cap {
            return None;
        }
        self.lent += 1;
        Some(
            self.free
                .pop()
                .unwrap_or_else(|| Block(vec![0; BLOCK_LEN].into_boxed_slice())),
        )
    }

    /// Takes back a block.
    pub fn give(&mut self, block: Block) {
        self.lent = self.lent.saturating_sub(1);
        self.given = self.given.wrapping_add(1);
        if self.free.len() < self.cap {
            self.free.push(block);
        }
    }

    /// Takes back blocks.
    pub fn give_all(&mut self, blocks: impl IntoIterator<Item = Block>) {
        for block in blocks {
            self.give(block);
        }
    }

    /// The number of blocks taken back so far: after a failure, more can be lent only if this has changed.
    pub(crate) const fn given(&self) -> u64 {
        self.given
    }

    /// The number of blocks that can be lent now.
    #[must_use]
    pub const fn available(&self) -> usize {
        self.cap - self.lent
    }

    /// The number of blocks on loan.
    #[must_use]
    pub const fn lent(&self) -> usize {
        self.lent
    }

    /// The most blocks on loan at one time.
    #[must_use]
    pub(crate) const fn cap(&self) -> usize {
        self.cap
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_lends_nothing_until_a_block_comes_home() {
        let mut pool = BlockPool::new(2);
        let (a, _b) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        pool.give(a);
        assert_eq!(pool.available(), 1);
        assert!(pool.take().is_some());
    }
}
