//! Jobs with buffers. Each job owns its buffers and makes its own [`Outcome`], so that a buffer cannot be left out of it
//! (law 1): a driver can use the buffers, but cannot take them out.

use alloc::{boxed::Box, vec::Vec};

use crate::block::{BLOCK_LEN, Block};
use crate::hash::Hasher;
use crate::http::HttpRequest;
use crate::id::{OpId, TorrentId};
use crate::outcome::{OpError, Outcome};

/// Read bytes of one piece from a torrent's files into blocks.
#[derive(Debug)]
#[must_use = "its blocks come home with its answer"]
pub struct ReadJob {
    /// Its id.
    pub op: OpId,
    /// The torrent.
    pub torrent: TorrentId,
    /// The offset in the torrent's content, in bytes.
    pub at: u64,
    /// The number of bytes. Every block but the last is full.
    pub len: u32,
    blocks: Vec<Block>,
}

impl ReadJob {
    /// Creates a job with `blocks` for `len` bytes.
    #[doc(hidden)]
    pub const fn new(op: OpId, torrent: TorrentId, at: u64, len: u32, blocks: Vec<Block>) -> Self {
        Self {
            op,
            torrent,
            at,
            len,
            blocks,
        }
    }

    /// The blocks to fill.
    pub fn blocks(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    /// The buffers for the bytes, block by block.
    pub fn parts(&mut self) -> impl Iterator<Item = &mut [u8]> {
        parts_mut(&mut self.blocks, self.len)
    }

    /// The outcome after all bytes were read.
    #[must_use]
    pub fn done(self) -> Outcome {
        Outcome::Read(self.blocks)
    }

    /// The outcome after an error.
    #[must_use]
    pub fn fail(self, error: OpError) -> Outcome {
        failed(error, self.blocks)
    }

    /// Takes back the blocks of a job that was not passed to the driver.
    pub(crate) fn recall(&mut self) -> Vec<Block> {
        core::mem::take(&mut self.blocks)
    }
}

/// Write blocks of one piece to a torrent's files.
#[derive(Debug)]
#[must_use = "its blocks come home with its answer"]
pub struct WriteJob {
    /// Its id.
    pub op: OpId,
    /// The torrent.
    pub torrent: TorrentId,
    /// The offset in the torrent's content, in bytes.
    pub at: u64,
    /// The number of bytes. Every block but the last is full.
    pub len: u32,
    blocks: Vec<Block>,
    hasher: Option<Hasher>,
}

impl WriteJob {
    /// Creates a job that writes `len` bytes of `blocks`, and hashes them if there is a `hasher`.
    #[doc(hidden)]
    pub const fn new(
        op: OpId,
        torrent: TorrentId,
        at: u64,
        len: u32,
        blocks: Vec<Block>,
        hasher: Option<Hasher>,
    ) -> Self {
        Self {
            op,
            torrent,
            at,
            len,
            blocks,
            hasher,
        }
    }

    /// The blocks to write. Only [`WriteJob::len`] bytes of them are written.
    #[must_use]
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The bytes to write, block by block.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let parts = self.blocks.iter().zip(part_lens(self.len));
        parts.map(|(block, len)| &block[..len])
    }

    /// Hashes the bytes, if there is a hasher. It has to be called once, best while the bytes are in the CPU's cache.
    pub fn feed(&mut self) {
        if let Some(hasher) = &mut self.hasher {
            for (block, len) in self.blocks.iter().zip(part_lens(self.len)) {
                hasher.update(&block[..len]);
            }
        }
    }

    /// The outcome after all bytes were written.
    #[must_use]
    pub fn done(self) -> Outcome {
        Outcome::Written {
            blocks: self.blocks,
            hasher: self.hasher,
        }
    }

    /// The outcome after an error.
    #[must_use]
    pub fn fail(self, error: OpError) -> Outcome {
        failed(error, self.blocks)
    }
}

/// Hash bytes of one piece from a torrent's files.
#[derive(Debug)]
#[must_use = "its hasher comes home with its answer"]
pub struct HashJob {
    /// Its id.
    pub op: OpId,
    /// The torrent.
    pub torrent: TorrentId,
    /// The offset in the torrent's content, in bytes.
    pub at: u64,
    /// The number of bytes.
    pub len: u64,
    hasher: Hasher,
}

impl HashJob {
    /// Creates a job that continues from the state of `hasher`.
    #[doc(hidden)]
    pub const fn new(op: OpId, torrent: TorrentId, at: u64, len: u64, hasher: Hasher) -> Self {
        Self {
            op,
            torrent,
            at,
            len,
            hasher,
        }
    }

    /// The hasher, to be given the bytes in order.
    pub const fn hasher(&mut self) -> &mut Hasher {
        &mut self.hasher
    }

    /// The outcome after all bytes were hashed.
    #[must_use]
    pub fn done(self) -> Outcome {
        Outcome::Hashed(self.hasher)
    }

    /// The outcome after an error.
    #[must_use]
    pub fn fail(self, error: OpError) -> Outcome {
        failed(error, Vec::new())
    }
}

/// Download a range of a resource into blocks, as from web seeds (BEP 19). An HTTP GET of a whole resource is
/// [`Op::Http`](crate::Op::Http).
#[derive(Debug)]
#[must_use = "its blocks come home with its answer"]
pub struct FetchJob {
    /// Its id.
    pub op: OpId,
    /// The request. A body that is longer than the range is an error.
    pub request: Box<HttpRequest>,
    /// The offset of the range in the resource.
    pub at: u64,
    /// The number of bytes. Every block but the last is full.
    pub len: u32,
    blocks: Vec<Block>,
}

impl FetchJob {
    /// Creates a job with `blocks` for `len` bytes.
    #[doc(hidden)]
    pub fn new(op: OpId, request: HttpRequest, at: u64, len: u32, blocks: Vec<Block>) -> Self {
        let request = Box::new(HttpRequest {
            max_body: len as usize,
            ..request
        });
        Self {
            op,
            request,
            at,
            len,
            blocks,
        }
    }

    /// The buffers for the bytes, block by block.
    pub fn parts(&mut self) -> impl Iterator<Item = &mut [u8]> {
        parts_mut(&mut self.blocks, self.len)
    }

    /// The outcome after the whole range was received.
    #[must_use]
    pub fn done(self) -> Outcome {
        Outcome::Fetched(self.blocks)
    }

    /// The outcome after an error.
    #[must_use]
    pub fn fail(self, error: OpError) -> Outcome {
        failed(error, self.blocks)
    }

    /// Takes back the blocks of a job that was not passed to the driver.
    pub(crate) fn recall(&mut self) -> Vec<Block> {
        core::mem::take(&mut self.blocks)
    }
}

const fn failed(error: OpError, blocks: Vec<Block>) -> Outcome {
    Outcome::Failed { error, blocks }
}

fn parts_mut(blocks: &mut [Block], len: u32) -> impl Iterator<Item = &mut [u8]> {
    let parts = blocks.iter_mut().zip(part_lens(len));
    parts.map(|(block, len)| &mut block[..len])
}

/// The number of bytes in each block when there are `len` bytes in total.
fn part_lens(len: u32) -> impl Iterator<Item = usize> {
    let len = len as usize;
    (0..len)
        .step_by(BLOCK_LEN)
        .map(move |at| (len - at).min(BLOCK_LEN))
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use quickcheck::quickcheck;

    use super::*;
    use crate::block::BlockPool;
    use crate::op::Op;
    use crate::outcome::OpErrorKind;

    const OP: OpId = OpId(5);
    const TORRENT: TorrentId = TorrentId(1);

    fn error() -> OpError {
        OpError {
            kind: OpErrorKind::Io,
            detail: "broken".into(),
        }
    }

    fn request() -> HttpRequest {
        HttpRequest {
            url: "http://w.example/file".into(),
            user_agent: "test".into(),
            family: None,
            max_body: usize::MAX,
            timeout: Duration::from_secs(30),
            origin: crate::http::Origin::Torrent,
        }
    }

    /// Blocks of an outcome.
    fn home(outcome: Outcome) -> Vec<Block> {
        match outcome {
            Outcome::Read(blocks)
            | Outcome::Fetched(blocks)
            | Outcome::Written { blocks, .. }
            | Outcome::Failed { blocks, .. } => blocks,
            other => panic!("no blocks: {other:?}"),
        }
    }

    quickcheck! {
        /// However a job is answered, its blocks come home.
        fn what_was_lent_comes_home(len: u16, ways: Vec<u8>) -> bool {
            let len = u32::from(len);
            let count = len.div_ceil(BLOCK_LEN as u32) as usize;
            let mut pool = BlockPool::new(count);
            for way in ways {
                let blocks: Vec<Block> = (0..count).map_while(|_| pool.take()).collect();
                assert_eq!(blocks.len(), count);
                let read = |blocks| ReadJob::new(OP, TORRENT, 0, len, blocks);
                let write = |blocks| WriteJob::new(OP, TORRENT, 0, len, blocks, None);
                let fetch = |blocks| FetchJob::new(OP, request(), 9, len, blocks);
                pool.give_all(match way % 11 {
                    0 => home(read(blocks).done()),
                    1 => home(read(blocks).fail(error())),
                    2 => home(write(blocks).done()),
                    3 => home(write(blocks).fail(error())),
                    4 => home(Op::Read(read(blocks)).fail(error())),
                    5 => home(Op::Write(write(blocks)).fail(error())),
                    6 => read(blocks).recall(),
                    7 => home(fetch(blocks).done()),
                    8 => home(fetch(blocks).fail(error())),
                    9 => home(Op::Fetch(fetch(blocks)).fail(error())),
                    _ => Op::Fetch(fetch(blocks)).recall(),
                });
                assert_eq!(pool.lent(), 0);
            }
            true
        }

        fn parts_are_as_long_as_the_job(len: u16) -> bool {
            let len = u32::from(len);
            let mut pool = BlockPool::new(8);
            let blocks = core::iter::from_fn(|| pool.take()).collect();
            let job = WriteJob::new(OP, TORRENT, 0, len, blocks, None);
            let parts: Vec<usize> = job.parts().map(<[u8]>::len).collect();
            let (last, others) = parts.split_last().map_or((0, &[][..]), |(l, o)| (*l, o));
            others.iter().all(|part| *part == BLOCK_LEN)
                && others.len() * BLOCK_LEN + last == len as usize
                && (last > 0 || len == 0)
        }
    }

    #[test]
    fn a_hasher_is_fed_with_what_is_written_and_no_more() {
        let mut pool = BlockPool::new(2);
        let mut blocks: Vec<Block> = core::iter::from_fn(|| pool.take()).collect();
        blocks[0].fill(1);
        blocks[1].fill(2);
        let len = BLOCK_LEN as u32 + 9;
        let hasher = Some(Hasher::sha1());
        let mut job = WriteJob::new(OP, TORRENT, 0, len, blocks, hasher);
        job.feed();
        let Outcome::Written { hasher, .. } = job.done() else {
            panic!("not written");
        };
        let written = [[1; BLOCK_LEN].as_slice(), &[2; 9]].concat();
        assert_eq!(
            hasher.map(Hasher::finish),
            Some(crate::hash::sha1(&written))
        );
    }

    #[test]
    fn a_read_fills_its_parts() {
        let mut pool = BlockPool::new(2);
        let mut blocks: Vec<Block> = core::iter::from_fn(|| pool.take()).collect();
        blocks.iter_mut().for_each(|block| block.fill(0));
        let mut job = ReadJob::new(OP, TORRENT, 0, BLOCK_LEN as u32 + 3, blocks);
        job.parts().for_each(|part| part.fill(7));
        let Outcome::Read(blocks) = job.done() else {
            panic!("not read");
        };
        assert!(blocks[0].iter().all(|byte| *byte == 7));
        assert_eq!(&blocks[1][..4], [7, 7, 7, 0]);
    }
}
