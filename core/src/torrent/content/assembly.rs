//! One piece that is being written: the blocks that wait, and the state of the hash.
//!
//! Blocks are written in runs, by one op at a time for each piece: while one run is being written, blocks for the next one
//! arrive. A run that starts where the hash ends is hashed by the same op, while its bytes are in the cache. Blocks that
//! arrived out of order are hashed from the disk at the end.

use alloc::vec::Vec;

use crate::{BLOCK_LEN, Bitfield, Block, BlockRef, Hasher};

/// A block that waits to be written.
#[derive(Debug)]
struct Waiting {
    begin: u32,
    len: u32,
    block: Block,
}

/// What to write next.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) begin: u32,
    pub(crate) len: u32,
    pub(crate) blocks: Vec<Block>,
    pub(crate) hasher: Option<Hasher>,
}

/// What a piece needs next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing for now.
    Wait,
    /// To write a run.
    Write(Run),
    /// To hash the rest from the disk, from this offset.
    Hash(u32, Hasher),
    /// To compare the digest with the piece's hash.
    Judge([u8; 20]),
}

/// One piece being assembled.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Distinguishes it from an earlier assembly of the same piece that has ops in flight.
    pub(crate) serial: u64,
    size: u32,
    /// Sorted by offset.
    waiting: Vec<Waiting>,
    busy: bool,
    complete: bool,
    written: Bitfield,
    hasher: Option<Hasher>,
    hashed: u32,
}

impl Assembly {
    /// Creates an assembly of a piece of `size` bytes without any block.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            serial: 0,
            size,
            waiting: Vec::new(),
            busy: false,
            complete: false,
            written: Bitfield::new(size.div_ceil(BLOCK_LEN as u32)),
            hasher: Some(Hasher::sha1()),
            hashed: 0,
        }
    }

    /// Sets its serial number.
    pub(crate) fn with_serial(self, serial: u64) -> Self {
        Self { serial, ..self }
    }

    /// Creates an assembly of a piece of which some blocks are on disk.
    pub(crate) fn restored(size: u32, written: Bitfield) -> Self {
        Self {
            written,
            ..Self::new(size)
        }
    }

    /// Adds a received block. `complete` says that it was the last missing one.
    pub(crate) fn add(&mut self, at: BlockRef, block: Block, complete: bool) {
        let waiting = Waiting {
            begin: at.begin,
            len: at.len,
            block,
        };
        match self.waiting.last() {
            Some(last) if last.begin > at.begin => {
                let i = self.waiting.partition_point(|w| w.begin < at.begin);
                self.waiting.insert(i, waiting);
            }
            _ => self.waiting.push(waiting),
        }
        self.complete |= complete;
    }

    /// Whether blocks wait to be written.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether an op of this piece is in flight.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// The blocks on disk.
    pub(crate) const fn written(&self) -> &Bitfield {
        &self.written
    }

    /// The length of the run that starts at index `from` of `waiting`: at most `most` blocks.
    fn run_at(&self, from: usize, most: usize) -> usize {
        let mut end = from + 1;
        while end < self.waiting.len() && end - from < most {
            let prev = &self.waiting[end - 1];
            if prev.len as usize != BLOCK_LEN || prev.begin + prev.len != self.waiting[end].begin {
                break;
            }
            end += 1;
        }
        end
    }

    /// Returns the next step. A run shorter than `least` blocks waits for more blocks, unless the piece is complete. One op
    /// writes at most `most` blocks.
    pub(crate) fn step(&mut self, least: usize, most: usize) -> Step {
        if self.busy {
            return Step::Wait;
        }
        if self.waiting.is_empty() {
            return if self.complete {
                self.finish()
            } else {
                Step::Wait
            };
        }
        let from = self.waiting.partition_point(|w| w.begin < self.hashed);
        let (from, in_order) = match self.waiting.get(from) {
            Some(w) if w.begin == self.hashed => (from, true),
            _ => (0, false),
        };
        let end = self.run_at(from, most);
        if end - from < least && !self.complete {
            return Step::Wait;
        }
        let begin = self.waiting[from].begin;
        let mut len = 0;
        let blocks = self
            .waiting
            .drain(from..end)
            .map(|w| {
                len += w.len;
                w.block
            })
            .collect();
        self.busy = true;
        Step::Write(Run {
            begin,
            len,
            blocks,
            hasher: if in_order { self.hasher.take() } else { None },
        })
    }

    fn finish(&mut self) -> Step {
        let Some(hasher) = self.hasher.take() else {
            return Step::Wait;
        };
        self.busy = true;
        if self.hashed < self.size {
            return Step::Hash(self.hashed, hasher);
        }
        Step::Judge(hasher.finish())
    }

    /// A run was written. `hasher` is the hasher that was passed with it, if any.
    pub(crate) fn run_written(&mut self, begin: u32, len: u32, hasher: Option<Hasher>) {
        self.busy = false;
        if hasher.is_some() {
            self.hasher = hasher;
            self.hashed = begin + len;
        }
        let block = BLOCK_LEN as u32;
        for index in begin / block..(begin + len).div_ceil(block) {
            self.written.set(index);
        }
    }

    /// Drops the assembly. Returns the blocks that wait.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Block> {
        self.waiting.into_iter().map(|w| w.block)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use quickcheck::quickcheck;

    use super::*;
    use crate::{BlockPool, hash::sha1};

    /// Runs an assembly against a disk in memory; returns the digest it reached.
    fn assemble(data: &[u8], order: &[usize], least: usize, delay: usize) -> [u8; 20] {
        let size = data.len() as u32;
        let mut pool = BlockPool::new(1000);
        let (mut disk, mut asm) = (vec![0; data.len()], Assembly::new(size));
        let blocks = data.len().div_ceil(BLOCK_LEN);
        let mut out: Vec<Run> = Vec::new();
        for (n, &i) in order.iter().enumerate() {
            let begin = i * BLOCK_LEN;
            let len = (data.len() - begin).min(BLOCK_LEN);
            let mut block = pool.take().unwrap();
            block[..len].copy_from_slice(&data[begin..begin + len]);
            let at = BlockRef {
                piece: 0,
                begin: begin as u32,
                len: len as u32,
            };
            asm.add(at, block, n + 1 == blocks);
            loop {
                match asm.step(least, 16) {
                    Step::Wait => break,
                    Step::Write(run) => out.push(run),
                    Step::Hash(from, mut hasher) => {
                        hasher.update(&disk[from as usize..]);
                        return hasher.finish();
                    }
                    Step::Judge(digest) => return digest,
                }
            }
            while out.len() > if n + 1 == blocks { 0 } else { delay } {
                let run = out.remove(0);
                let (mut hasher, mut at) = (run.hasher, run.begin as usize);
                let end = at + run.len as usize;
                for block in run.blocks {
                    let len = (end - at).min(BLOCK_LEN);
                    disk[at..at + len].copy_from_slice(&block[..len]);
                    if let Some(h) = &mut hasher {
                        h.update(&block[..len]);
                    }
                    at += len;
                    pool.give(block);
                }
                asm.run_written(run.begin, run.len, hasher);
                match asm.step(least, 16) {
                    Step::Wait => {}
                    Step::Write(run) => out.push(run),
                    Step::Hash(from, mut hasher) => {
                        hasher.update(&disk[from as usize..]);
                        assert_eq!(pool.lent(), 0);
                        return hasher.finish();
                    }
                    Step::Judge(digest) => {
                        assert_eq!(pool.lent(), 0);
                        return digest;
                    }
                }
            }
        }
        unreachable!("a complete piece is judged");
    }

    quickcheck! {
        /// Whatever the order, run length and delay of the disk, the digest is the piece's.
        fn any_order_gives_the_digest(len: u32, keys: Vec<u16>, least: u8, delay: u8) -> bool {
            let len = len as usize % (40 * BLOCK_LEN) + 1;
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut order: Vec<usize> = (0..len.div_ceil(BLOCK_LEN)).collect();
            order.sort_by_key(|i| keys.get(*i).copied().unwrap_or(0));
            assemble(&data, &order, usize::from(least % 20), usize::from(delay % 2)) == sha1(&data)
        }
    }
}
