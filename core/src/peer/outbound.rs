//! What waits to be sent: control bytes and blocks, in stream order.
//!
//! Control messages and the headers of blocks share one byte buffer; blocks stay where they
//! are. A gather list alternates between the two.

use alloc::{collections::VecDeque, vec::Vec};

use super::{MAX_IOV, Totals, crypto::Rc4Stream};
use crate::{Block, BlockPool, BlockRef, wire::peer::piece_header};

/// Sent control bytes are cut off once there are this many, and more than half are sent.
const COMPACT: usize = 4096;
/// Memory an empty queue keeps.
const KEEP: usize = 4096;

#[derive(Debug)]
enum Run {
    /// This many bytes of the control buffer.
    Control(usize),
    Block {
        block: Block,
        len: usize,
        sent: usize,
    },
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    control: Vec<u8>,
    /// Bytes of `control` that are sent.
    sent: usize,
    runs: VecDeque<Run>,
    /// Bytes of blocks that wait.
    payload: usize,
    cipher: Option<Rc4Stream>,
}

impl Outbound {
    /// Bytes from here on are encrypted.
    pub(super) fn encrypt(&mut self, cipher: Rc4Stream) {
        self.cipher = Some(cipher);
    }

    /// Queues what `write` appends.
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.control.len();
        write(&mut self.control);
        let Some(new) = self.control.get_mut(start..) else {
            return;
        };
        let len = new.len();
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(new);
        }
        match self.runs.back_mut() {
            Some(Run::Control(run)) => *run += len,
            _ if len > 0 => self.runs.push_back(Run::Control(len)),
            _ => {}
        }
    }

    /// Queues a `piece` message.
    pub(super) fn block(&mut self, at: BlockRef, mut block: Block) {
        let len = (at.len as usize).min(block.len());
        self.control(|out| out.extend_from_slice(&piece_header(at)));
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut block[..len]);
        }
        self.payload += len;
        self.runs.push_back(Run::Block {
            block,
            len,
            sent: 0,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Control bytes that wait.
    pub(super) fn control_bytes(&self) -> usize {
        self.control.len() - self.sent
    }

    /// All bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.control_bytes() + self.payload
    }

    pub(super) fn gather<'a>(&'a self, limit: usize, out: &mut heapless::Vec<&'a [u8], MAX_IOV>) {
        let (mut at, mut left) = (self.sent, limit);
        for run in &self.runs {
            if left == 0 || out.is_full() {
                return;
            }
            let slice = match run {
                Run::Control(len) => {
                    let slice = self.control.get(at..at + len).unwrap_or_default();
                    at += len;
                    slice
                }
                Run::Block { block, len, sent } => &block[*sent..*len],
            };
            let slice = &slice[..slice.len().min(left)];
            left -= slice.len();
            let _ = out.push(slice);
        }
    }

    /// The first `n` bytes are sent.
    pub(super) fn written(&mut self, mut n: usize, pool: &mut BlockPool, totals: &mut Totals) {
        while n > 0 {
            match self.runs.front_mut() {
                None => break,
                Some(Run::Control(len)) => {
                    let step = n.min(*len);
                    *len -= step;
                    n -= step;
                    self.sent += step;
                    totals.protocol_up += step as u64;
                    if *len > 0 {
                        break;
                    }
                    self.runs.pop_front();
                }
                Some(Run::Block { len, sent, .. }) => {
                    let step = n.min(*len - *sent);
                    *sent += step;
                    n -= step;
                    self.payload -= step;
                    totals.payload_up += step as u64;
                    if sent < len {
                        break;
                    }
                    if let Some(Run::Block { block, .. }) = self.runs.pop_front() {
                        pool.give(block);
                    }
                }
            }
        }
        self.compact();
    }

    fn compact(&mut self) {
        if self.sent == self.control.len() {
            self.control.clear();
            self.control.shrink_to(KEEP);
            self.sent = 0;
        } else if self.sent >= COMPACT && self.sent > self.control.len() / 2 {
            self.control.drain(..self.sent);
            self.sent = 0;
        }
    }

    pub(super) fn close(&mut self, pool: &mut BlockPool) {
        for run in self.runs.drain(..) {
            if let Run::Block { block, .. } = run {
                pool.give(block);
            }
        }
        self.control = Vec::new();
        (self.sent, self.payload) = (0, 0);
    }
}
