//! Fetches of ranges of what a server has: what a driver makes of [`Op::Fetch`](crate::Op::Fetch), until web seeds use it.

use alloc::vec::Vec;

use super::Engine;
use crate::http::HttpRequest;
use crate::op::FetchJob;
use crate::torrent::io::Io;
use crate::torrent::ops::Purpose;
use crate::{BLOCK_LEN, Block, Instant, Op, OpError, Outcome};

impl Engine {
    /// Has a range fetched, and throws away what arrives; `false` if there are not enough blocks. For tests of drivers.
    #[doc(hidden)]
    pub fn fetch(&mut self, now: Instant, request: HttpRequest, at: u64, len: u32) -> bool {
        self.tick(now);
        let count = (len as usize).div_ceil(BLOCK_LEN);
        if self.pool.available() < count {
            return false;
        }
        let blocks: Vec<Block> = (0..count).map_while(|_| self.pool.take()).collect();
        let ops = &mut self.out.ops;
        ops.job(Purpose::Fetch, |op| {
            Op::Fetch(FetchJob::new(op, request, at, len, blocks))
        });
        self.settle();
        true
    }

    /// What came of the last fetch: the bytes of whole blocks that it brought. For tests of drivers.
    #[doc(hidden)]
    pub const fn poll_fetched(&mut self) -> Option<Result<usize, OpError>> {
        self.out.fetched.take()
    }
}

impl Io<'_> {
    /// A fetch is over, one way or the other.
    pub(super) fn fetched(&mut self, outcome: Outcome) {
        self.out.fetched = match &outcome {
            Outcome::Fetched(blocks) => Some(Ok(blocks.len() * BLOCK_LEN)),
            Outcome::Failed { error, .. } => Some(Err(error.clone())),
            _ => None,
        };
        self.take_home(outcome);
    }
}
