//! Blocks: the 16 KiB buffers that payload lives in from the socket to the disk, and their pool.

use alloc::{boxed::Box, vec, vec::Vec};
use core::ops::{Deref, DerefMut};

/// Size of a block on the wire and in the pool (BEP 3: peers request 2^14 bytes).
pub const BLOCK_LEN: usize = 16 * 1024;

/// A range of one piece: what requests, cancels and rejects name (BEP 3, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockRef {
    /// Piece index.
    pub piece: u32,
    /// Offset in the piece, in bytes.
    pub begin: u32,
    /// Bytes.
    pub len: u32,
}

/// One leased buffer of [`BLOCK_LEN`] bytes. It is moved, never copied, and goes home to the
/// [`BlockPool`] it came from.
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

/// A bounded, recycling pool. Last in, first out: the block that is lent next is the one most
/// likely still in the processor's cache.
#[derive(Debug)]
pub struct BlockPool {
    free: Vec<Block>,
    lent: usize,
    cap: usize,
    /// Blocks that were taken back so far.
    given: u64,
}

impl BlockPool {
    /// A pool that lends at most `cap` blocks; memory is taken when first needed.
    #[must_use]
    pub const fn new(cap: usize) -> Self {
        Self {
            free: Vec::new(),
            lent: 0,
            cap,
            given: 0,
        }
    }

    /// Lends a block with unspecified content; `None` while `cap` blocks are out.
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

    /// Takes a block back.
    pub fn give(&mut self, block: Block) {
        self.lent = self.lent.saturating_sub(1);
        self.given = self.given.wrapping_add(1);
        if self.free.len() < self.cap {
            self.free.push(block);
        }
    }

    /// Takes blocks back.
    pub fn give_all(&mut self, blocks: impl IntoIterator<Item = Block>) {
        for block in blocks {
            self.give(block);
        }
    }

    /// Counts the blocks that were taken back: more can be lent only if it has moved on.
    pub(crate) const fn given(&self) -> u64 {
        self.given
    }

    /// Blocks that can be lent now.
    #[must_use]
    pub const fn available(&self) -> usize {
        self.cap - self.lent
    }

    /// Blocks on loan.
    #[must_use]
    pub const fn lent(&self) -> usize {
        self.lent
    }

    /// Most blocks that may be on loan at once.
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
