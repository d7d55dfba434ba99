//! What waits to be sent: control messages and blocks.
//!
//! ```text
//!  control messages ──┐
//!                     ├─▶ fixed: the order of the stream ──▶ written
//!  blocks ────────────┘
//! ```
//!
//! A control message goes out before every block that has not begun: our own requests and `have`s
//! must not wait behind seconds of payload. The order is fixed when a gather list is built; what
//! was fixed and not begun is free again when the next list is built, unless it is encrypted by
//! then. Control bytes share one buffer; blocks stay where they are.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use super::{MAX_IOV, Totals, crypto::Rc4Stream};
use crate::wire::peer::{PIECE_HEADER_LEN, piece_header};
use crate::{Block, BlockPool, BlockRef};

/// Sent control bytes are cut off once there are this many, and more than half are sent.
const COMPACT: usize = 4096;
/// Memory an empty queue keeps.
const KEEP: usize = 4096;
/// Most blocks and control bytes before them fixed at once: what a gather list has room for, two
/// slices for a block.
const MAX_FIXED: usize = MAX_IOV / 2;
/// The same on an encrypted stream, in bytes: what is encrypted keeps its place before later
/// control messages.
const MAX_SEALED: usize = 64 * 1024;

#[derive(Debug)]
struct Message {
    at: BlockRef,
    header: [u8; PIECE_HEADER_LEN],
    block: Block,
    len: usize,
    /// Bytes of header and block that are sent.
    sent: usize,
    /// Control bytes that are fixed behind it, before the next block.
    control_behind: u32,
}

impl Message {
    const fn left(&self) -> usize {
        PIECE_HEADER_LEN + self.len - self.sent
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    control: Vec<u8>,
    /// Bytes of `control` that are sent.
    sent: usize,
    /// Bytes of `control` whose place in the stream is fixed; the sent ones are among them.
    placed: usize,
    /// Control bytes sent since the stream began.
    control_sent: u64,
    /// Control bytes that go out next.
    lead: usize,
    /// The blocks that go out after those, in this order, with the control bytes between them.
    fixed: VecDeque<Message>,
    /// Bytes whose order is fixed.
    fixed_bytes: usize,
    /// Blocks that wait behind `fixed` and the control messages.
    blocks: VecDeque<Message>,
    /// Bytes of blocks that wait, headers included.
    block_bytes: usize,
    /// Blocks that were taken out again and have to go home.
    dropped: Vec<Block>,
    /// A kilobyte that most connections do without.
    cipher: Option<Box<Rc4Stream>>,
}

impl Outbound {
    /// Bytes from here on are encrypted.
    pub(super) fn encrypt(&mut self, cipher: Rc4Stream) {
        // What was queued so far goes out as it is.
        self.fix_control();
        self.cipher = Some(Box::new(cipher));
    }

    /// Queues what `write` appends; returns the position in the stream of control bytes after it,
    /// to be compared with [`Outbound::control_sent`].
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        write(&mut self.control);
        self.control_sent + self.control_bytes() as u64
    }

    /// Whether a block keeps its place before later control messages: part of it is sent, or it
    /// is encrypted.
    pub(super) fn has_begun(&self) -> bool {
        let first = self.fixed.front();
        first.is_some_and(|m| m.sent > 0 || self.cipher.is_some())
    }

    /// Control bytes sent since the stream began.
    pub(super) const fn control_sent(&self) -> u64 {
        self.control_sent
    }

    /// Queues a `piece` message.
    pub(super) fn block(&mut self, at: BlockRef, block: Block) {
        let len = (at.len as usize).min(block.len());
        let message = Message {
            at,
            header: piece_header(at),
            block,
            len,
            sent: 0,
            control_behind: 0,
        };
        self.block_bytes += message.left();
        self.blocks.push_back(message);
    }

    /// Takes the blocks that have not begun and that `keep` does not want out again; calls `each`
    /// with them. [`Outbound::reclaim`] gives them back.
    pub(super) fn drop_blocks(
        &mut self,
        mut keep: impl FnMut(BlockRef) -> bool,
        mut each: impl FnMut(BlockRef),
    ) {
        self.unfix();
        for _ in 0..self.blocks.len() {
            let Some(message) = self.blocks.pop_front() else {
                break;
            };
            if keep(message.at) {
                self.blocks.push_back(message);
            } else {
                self.block_bytes -= message.left();
                each(message.at);
                self.dropped.push(message.block);
            }
        }
    }

    /// Gives blocks that were taken out again back.
    pub(super) fn reclaim(&mut self, pool: &mut BlockPool) {
        pool.give_all(self.dropped.drain(..));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.block_bytes == 0 && self.control_bytes() == 0
    }

    /// Control bytes that wait.
    pub(super) const fn control_bytes(&self) -> usize {
        self.control.len() - self.sent
    }

    /// Bytes of blocks that wait, headers included.
    pub(super) const fn block_bytes(&self) -> usize {
        self.block_bytes
    }

    /// All bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.control_bytes() + self.block_bytes
    }

    // ---- order ----

    /// Frees what is fixed and has not begun.
    fn unfix(&mut self) {
        if self.cipher.is_some() {
            return;
        }
        while let Some(message) = self.fixed.back()
            && (message.sent, message.control_behind) == (0, 0)
            && let Some(message) = self.fixed.pop_back()
        {
            self.fixed_bytes -= message.left();
            self.blocks.push_front(message);
        }
    }

    fn fix_control(&mut self) {
        let new = self.control.get_mut(self.placed..).unwrap_or_default();
        let len = new.len();
        if len == 0 {
            return;
        }
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(new);
        }
        self.placed += len;
        self.fixed_bytes += len;
        match self.fixed.back_mut() {
            Some(message) => message.control_behind += len as u32,
            None => self.lead += len,
        }
    }

    /// Fixes the order of at least `limit` bytes, if there are as many.
    fn fix(&mut self, limit: usize) {
        self.unfix();
        self.fix_control();
        let most = match self.cipher {
            Some(_) => limit.min(MAX_SEALED),
            None => limit,
        };
        let room = MAX_FIXED - usize::from(self.lead > 0);
        while self.fixed_bytes < most && self.fixed.len() < room {
            let Some(mut message) = self.blocks.pop_front() else {
                break;
            };
            if let Some(cipher) = &mut self.cipher {
                cipher.apply(&mut message.header);
                cipher.apply(&mut message.block[..message.len]);
            }
            self.fixed_bytes += message.left();
            self.fixed.push_back(message);
        }
    }

    /// The bytes that may be sent now, at most `limit`.
    pub(super) fn gather<'a>(
        &'a mut self,
        limit: usize,
        out: &mut heapless::Vec<&'a [u8], MAX_IOV>,
    ) {
        self.fix(limit);
        self.list(limit, out);
    }

    /// The same without blocks: nothing while one has begun. `finish` sends what is left of that
    /// block as well, if control messages wait behind it.
    pub(super) fn gather_control<'a>(
        &'a mut self,
        limit: usize,
        finish: bool,
        out: &mut heapless::Vec<&'a [u8], MAX_IOV>,
    ) {
        self.unfix();
        let begun = self.has_begun();
        if self.control_bytes() == 0 || begun && !finish {
            return;
        }
        self.fix_control();
        let limit = if begun { self.fixed_bytes } else { limit };
        self.list(limit, out);
    }

    fn list<'a>(&'a self, limit: usize, out: &mut heapless::Vec<&'a [u8], MAX_IOV>) {
        let (mut at, mut left) = (self.sent, limit);
        let mut push = |slice: &'a [u8]| {
            let slice = &slice[..slice.len().min(left)];
            if !slice.is_empty() && out.push(slice).is_ok() {
                left -= slice.len();
            }
        };
        let mut control = |len: usize| {
            at += len;
            self.control.get(at - len..at).unwrap_or_default()
        };
        push(control(self.lead));
        for m in &self.fixed {
            let header = m.sent.min(PIECE_HEADER_LEN);
            push(&m.header[header..]);
            push(&m.block[m.sent - header..m.len]);
            push(control(m.control_behind as usize));
        }
    }

    // ---- progress ----

    /// The first `n` bytes are sent.
    pub(super) fn written(&mut self, mut n: usize, pool: &mut BlockPool, totals: &mut Totals) {
        while n > 0 {
            let control = n.min(self.lead);
            self.lead -= control;
            self.sent += control;
            self.control_sent += control as u64;
            self.fixed_bytes -= control;
            totals.protocol_up += control as u64;
            n -= control;
            let Some(message) = self.fixed.front_mut().filter(|_| self.lead == 0) else {
                break;
            };
            let step = n.min(message.left());
            let header = step.min(PIECE_HEADER_LEN.saturating_sub(message.sent));
            message.sent += step;
            n -= step;
            self.fixed_bytes -= step;
            self.block_bytes -= step;
            totals.protocol_up += header as u64;
            totals.payload_up += (step - header) as u64;
            if message.left() == 0
                && let Some(message) = self.fixed.pop_front()
            {
                self.lead = message.control_behind as usize;
                pool.give(message.block);
            }
        }
        self.compact();
    }

    fn compact(&mut self) {
        if self.sent == self.control.len() {
            self.control.clear();
            self.control.shrink_to(KEEP);
            (self.sent, self.placed) = (0, 0);
        } else if self.sent >= COMPACT && self.sent > self.control.len() / 2 {
            self.control.drain(..self.sent);
            self.placed -= self.sent;
            self.sent = 0;
        }
    }

    pub(super) fn close(&mut self, pool: &mut BlockPool) {
        let all = self.fixed.drain(..).chain(self.blocks.drain(..));
        pool.give_all(all.map(|m| m.block));
        self.reclaim(pool);
        self.control = Vec::new();
        (self.sent, self.placed) = (0, 0);
        (self.lead, self.fixed_bytes, self.block_bytes) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::BLOCK_LEN;

    fn at(piece: u32) -> BlockRef {
        BlockRef {
            piece,
            begin: 0,
            len: BLOCK_LEN as u32,
        }
    }

    /// Control messages are `have`s, so that the stream can be read back.
    fn have(out: &mut Outbound, piece: u32) -> u64 {
        out.control(|out| {
            out.extend_from_slice(&[0, 0, 0, 5, 4]);
            out.extend_from_slice(&piece.to_be_bytes());
        })
    }

    fn send(out: &mut Outbound, pool: &mut BlockPool, limit: usize, most: usize) -> Vec<u8> {
        let mut list = heapless::Vec::new();
        out.gather(limit, &mut list);
        let mut bytes = list.concat();
        assert!(bytes.len() <= limit);
        bytes.truncate(most);
        drop(list);
        out.written(bytes.len(), pool, &mut Totals::default());
        bytes
    }

    #[test]
    fn a_control_message_goes_before_every_block_that_has_not_begun() {
        let mut pool = BlockPool::new(8);
        let mut out = Outbound::default();
        for piece in 0..3 {
            out.block(at(piece), pool.take().unwrap());
        }
        let begun = send(&mut out, &mut pool, usize::MAX, 100);
        let end = have(&mut out, 7);
        assert_eq!(out.control_sent(), 0);
        let rest = send(&mut out, &mut pool, usize::MAX, usize::MAX);
        let first = PIECE_HEADER_LEN + BLOCK_LEN - begun.len();
        assert_eq!(rest[first..first + 9], [0, 0, 0, 5, 4, 0, 0, 0, 7]);
        assert_eq!(rest[first + 9..][..PIECE_HEADER_LEN], piece_header(at(1)));
        assert_eq!((out.control_sent(), out.bytes(), pool.lent()), (end, 0, 0));
    }

    #[test]
    fn a_dry_bucket_lets_control_messages_pass_between_blocks_only() {
        let mut pool = BlockPool::new(8);
        let mut out = Outbound::default();
        out.block(at(0), pool.take().unwrap());
        have(&mut out, 1);
        let control = |out: &mut Outbound, finish| {
            let mut list = heapless::Vec::new();
            out.gather_control(usize::MAX, finish, &mut list);
            list.concat().len()
        };
        assert_eq!(control(&mut out, false), 9);
        send(&mut out, &mut pool, usize::MAX, 109);
        have(&mut out, 2);
        assert_eq!(control(&mut out, false), 0);
        assert_eq!(
            control(&mut out, true),
            PIECE_HEADER_LEN + BLOCK_LEN - 100 + 9
        );
        out.close(&mut pool);
        assert_eq!(pool.lent(), 0);
    }

    quickcheck! {
        /// Whatever is queued, written in parts and taken out again: every message is whole,
        /// those of a kind come in order, and what is encrypted reads back.
        fn the_stream_is_made_of_whole_messages(steps: Vec<(u8, u16)>, encrypted: bool) -> bool {
            let mut pool = BlockPool::new(1000);
            let mut out = Outbound::default();
            let cipher = || Rc4Stream::new(&[1; 20]);
            if encrypted {
                out.encrypt(cipher());
            }
            let (mut stream, mut haves, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
            for (i, (step, n)) in (0..).zip(steps) {
                match step % 4 {
                    0 => {
                        have(&mut out, i);
                        haves.push(i);
                    }
                    1 => {
                        let mut block = pool.take().unwrap();
                        block.fill(i as u8);
                        out.block(at(i), block);
                        blocks.push(i);
                    }
                    2 => {
                        let most = usize::from(n);
                        stream.extend(send(&mut out, &mut pool, most * 2, most));
                    }
                    _ => {
                        out.drop_blocks(
                            |b| b.piece % 3 > 0,
                            |b| blocks.retain(|piece| *piece != b.piece),
                        );
                        out.reclaim(&mut pool);
                    }
                }
            }
            while !out.is_empty() {
                stream.extend(send(&mut out, &mut pool, usize::MAX, usize::MAX));
            }
            if encrypted {
                cipher().apply(&mut stream);
            }
            let (mut had, mut got, mut rest) = (Vec::new(), Vec::new(), &stream[..]);
            while let Some((head, tail)) = rest.split_at_checked(9) {
                let piece = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if head[4] == 4 {
                    had.push(piece);
                    rest = tail;
                } else {
                    let (block, tail) = tail[4..].split_at(BLOCK_LEN);
                    assert!(block.iter().all(|b| *b == piece as u8));
                    got.push(piece);
                    rest = tail;
                }
            }
            rest.is_empty() && had == haves && got == blocks && pool.lent() == 0
        }
    }
}
