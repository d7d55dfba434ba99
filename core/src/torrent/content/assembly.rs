//! One piece on its way to the disk: blocks that wait, and how far the hash has come.
//!
//! Blocks are written in runs, at most one op at a time for a piece: while one run is being
//! written, the next one gathers. A run that continues where the hash stands is hashed by the
//! same op, while its bytes are warm; what arrived out of order is hashed from the disk at the end.

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
    /// Nothing, until something else happens.
    Wait,
    /// This written.
    Write(Run),
    /// The rest, from here on, hashed from the disk.
    Hash(u32, Hasher),
    /// To be judged.
    Judge([u8; 20]),
}

/// One piece being assembled.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Tells it from an earlier one of the same piece whose ops are still out.
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
    /// A piece of `size` bytes of which nothing has come yet.
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

    /// Named so.
    pub(crate) fn with_serial(self, serial: u64) -> Self {
        Self { serial, ..self }
    }

    /// A piece some of whose blocks are on disk already.
    pub(crate) fn restored(size: u32, written: Bitfield) -> Self {
        Self {
            written,
            ..Self::new(size)
        }
    }

    /// A block came. `complete` says that it was the last one missing.
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

    /// Whether blocks wait.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether an op of this piece is out.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// The blocks that are on disk.
    pub(crate) const fn written(&self) -> &Bitfield {
        &self.written
    }

    /// Bytes from `from` in `waiting` that can go out in one op of at most `most` blocks.
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

    /// What to do next. A run shorter than `least` blocks waits for more, unless the piece is
    /// complete; `most` bounds one op.
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

    /// A run is on disk; `hasher` comes back if it went along.
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

    /// Gives up: the blocks that wait go home.
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
