//! Receiving: where the kernel reads to, and what the bytes mean.
//!
//! ```text
//! scatter list   [rest of block | rest of message] ([header 13][block])* [tail]
//! ```
//!
//! Headers and blocks are guessed from the requests in flight. Only lengths matter, since any leased block
//! will do; the header says which one it is. After a wrong guess, the bytes are copied to where they
//! belong.

use alloc::{boxed::Box, vec, vec::Vec};

use super::{MAX_IOV, MAX_READ_AHEAD, Peer, Phase, SkeyLookup};
use super::{crypto::Rc4Stream, requests::Asked};
use crate::wire::peer::{PIECE_HEADER_LEN, id, parse_piece_header};
use crate::{Block, BlockPool, BlockRef, Cx, Instant};

mod framing;

/// The buffer for control messages in bytes: 120 requests, or a few haves and a PEX message.
const TAIL: usize = 2048;
/// The memory that the buffer for an unfinished message keeps, in bytes.
const HEAD: usize = 128;

/// The kind of the next byte of the stream.
#[derive(Debug)]
pub(super) enum Stage {
    /// Part of a message that is collected in `head`.
    Head,
    /// Payload of a block that was requested.
    Payload(Payload),
    /// The rest of a message that is dropped.
    Skip(u32),
}

#[derive(Debug)]
pub(super) struct Payload {
    pub(super) at: BlockRef,
    block: Block,
    filled: usize,
    /// When its header arrived, or reading continued after a pause of ours.
    begun: Instant,
    /// When it had taken too long: it was reported as rejected, but is accepted if it arrives.
    pub(super) given_up: Option<Instant>,
}

#[derive(Debug)]
struct Ahead {
    header: [u8; PIECE_HEADER_LEN],
    block: Block,
    len: usize,
}

#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) stage: Stage,
    /// The first `have` bytes of the unfinished message, including the length prefix.
    head: Vec<u8>,
    have: usize,
    ahead: Vec<Ahead>,
    /// The bytes of the first header slot that are in `head` already.
    skew: usize,
    /// The bytes lent for the rest of the message in `head`.
    head_rest: usize,
    /// The bytes lent in total.
    lent: usize,
    tail: Vec<u8>,
    /// The number of blocks lent ahead.
    depth: usize,
    /// Bytes that were read but not parsed yet: the pool was empty, or the torrent is not known.
    backlog: Vec<u8>,
    /// Boxed: a kilobyte that most connections do not need.
    cipher: Option<Box<Rc4Stream>>,
    /// The payload bytes of the current call, and the blocks they completed.
    payload: usize,
    blocks: usize,
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Head,
            head: Vec::new(),
            have: 0,
            ahead: Vec::new(),
            skew: 0,
            head_rest: 0,
            lent: 0,
            tail: vec![0; TAIL],
            depth: 1,
            backlog: Vec::new(),
            cipher: None,
            payload: 0,
            blocks: 0,
        }
    }

    pub(super) const fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    pub(super) const fn stalled(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Gives back blocks that were lent ahead.
    pub(super) fn release(&mut self, pool: &mut BlockPool) {
        pool.give_all(self.ahead.drain(..).map(|a| a.block));
        self.lent = 0;
    }

    pub(super) fn close(&mut self, pool: &mut BlockPool) {
        self.release(pool);
        if let Stage::Payload(p) = core::mem::replace(&mut self.stage, Stage::Head) {
            pool.give(p.block);
        }
        (self.head, self.tail, self.backlog) = (Vec::new(), Vec::new(), Vec::new());
        self.have = 0;
    }

    /// The length of the message in `head`, without its prefix.
    fn message_len(&self) -> Option<u32> {
        let prefix = self.head.get(..self.have)?.first_chunk()?;
        Some(u32::from_be_bytes(*prefix))
    }

    fn message_id(&self) -> Option<u8> {
        self.head.get(..self.have)?.get(4).copied()
    }

    /// How many bytes `head` must have before more of the message is known.
    fn need(&self) -> usize {
        match (self.message_len(), self.message_id()) {
            (None, _) | (Some(0), _) => 4,
            (Some(_), None) => 5,
            (Some(_), Some(id::PIECE)) => PIECE_HEADER_LEN,
            (Some(len), Some(_)) => (len as usize).saturating_add(4),
        }
    }

    fn push_head(&mut self, data: &[u8]) {
        self.head.truncate(self.have);
        self.head.extend_from_slice(data);
        self.have = self.head.len();
    }

    pub(super) fn clear_head(&mut self) {
        self.have = 0;
        self.head.clear();
        self.head.shrink_to(HEAD);
    }

    /// Collects bytes until there are `total`; returns the rest.
    pub(super) fn collect<'a>(&mut self, data: &'a [u8], total: usize) -> &'a [u8] {
        let (new, rest) = data.split_at(data.len().min(total.saturating_sub(self.have)));
        self.push_head(new);
        rest
    }

    pub(super) fn collected(&self) -> &[u8] {
        self.head.get(..self.have).unwrap_or_default()
    }

    pub(super) fn take_collected(&mut self) -> Vec<u8> {
        let all = self.collected().to_vec();
        self.clear_head();
        all
    }

    /// Keeps bytes for later.
    pub(super) fn defer(&mut self, data: &[u8]) {
        self.backlog.extend_from_slice(data);
    }

    /// Bytes read from here on are encrypted.
    pub(super) fn decrypt_with(&mut self, cipher: Rc4Stream) {
        self.cipher = Some(Box::new(cipher));
    }

    /// Whether `head` can become the header of a piece of `len` bytes.
    fn may_be_piece(&self, len: usize) -> bool {
        self.have < PIECE_HEADER_LEN
            && self.message_id().is_none_or(|id| id == id::PIECE)
            && self.message_len().is_none_or(|n| n as usize == len + 9)
    }
}

fn decrypt(cipher: &mut Option<Box<Rc4Stream>>, data: &mut [u8]) {
    if let Some(cipher) = cipher {
        cipher.apply(data);
    }
}

impl Peer {
    /// The scatter list for one read from the stream, at most `limit` bytes. Empty while the stream must
    /// not be read: the pool is empty, [`Peer::stalled`], [`Peer::welcome`] is awaited, or the machine is
    /// dead. After every non-empty list, [`Peer::handle_read`] has to be called, with 0 if nothing was
    /// read.
    ///
    /// A limit of 0 pauses reading; the peer is not blamed for the silence.
    pub fn read_bufs<'a>(
        &'a mut self,
        pool: &mut BlockPool,
        limit: usize,
        out: &mut heapless::Vec<&'a mut [u8], MAX_IOV>,
    ) {
        out.clear();
        self.inb.release(pool);
        self.paused = true;
        if limit == 0 || self.inb.stalled() || matches!(self.phase, Phase::Dead | Phase::Waiting) {
            return;
        }
        let tail = self.plan(pool, limit);
        let Inbound {
            stage,
            head,
            have,
            ahead,
            skew,
            head_rest,
            lent,
            tail: tail_buf,
            ..
        } = &mut self.inb;
        let mut left = limit;
        let mut lend = |slot: &'a mut [u8]| {
            let n = slot.len().min(left);
            if n > 0 && out.push(&mut slot[..n]).is_ok() {
                left -= n;
                *lent += n;
            }
        };
        if let Stage::Payload(p) = stage {
            lend(&mut p.block[p.filled..p.at.len as usize]);
        } else if *head_rest > 0 {
            lend(&mut head[*have..*have + *head_rest]);
        }
        let mut skew = *skew;
        for a in ahead {
            lend(&mut a.header[skew..]);
            lend(&mut a.block[..a.len]);
            skew = 0;
        }
        if tail {
            lend(tail_buf);
        }
        self.paused = *lent == 0;
    }

    /// The same without payload, for a stream that must not read any now: control messages, up to the
    /// length and type of the next block. Empty if payload comes next.
    pub fn read_control<'a>(
        &'a mut self,
        pool: &mut BlockPool,
        limit: usize,
        out: &mut heapless::Vec<&'a mut [u8], MAX_IOV>,
    ) {
        out.clear();
        self.inb.release(pool);
        self.paused = true;
        if self.inb.stalled() || matches!(self.phase, Phase::Dead | Phase::Waiting) {
            return;
        }
        let inb = &mut self.inb;
        (inb.skew, inb.head_rest) = (0, 0);
        if !matches!(inb.stage, Stage::Head) {
            return;
        }
        let slot = if inb.have > 4 {
            if inb.message_id() == Some(id::PIECE) {
                return;
            }
            inb.head_rest = (inb.need() - inb.have).min(limit);
            let end = inb.have + inb.head_rest;
            inb.head.resize(end, 0);
            &mut inb.head[inb.have..end]
        } else if self.phase.is_open() && self.reqs.may_be_answered() {
            &mut inb.tail[..(5 - inb.have).min(limit)]
        } else {
            let len = inb.tail.len().min(limit);
            &mut inb.tail[..len]
        };
        if !slot.is_empty() && out.push(slot).is_ok() {
            inb.lent = out.iter().map(|slot| slot.len()).sum();
            self.paused = false;
        }
    }

    /// Whether `len` bytes are everything that was lent last: then there may be more to read.
    #[must_use]
    pub const fn fills_read(&self, len: usize) -> bool {
        len >= self.inb.lent
    }

    /// Leases blocks for what is expected; returns whether the tail is to be lent as well.
    fn plan(&mut self, pool: &mut BlockPool, limit: usize) -> bool {
        let inb = &mut self.inb;
        (inb.skew, inb.head_rest) = (0, 0);
        let mut expected = if self.phase.is_open() {
            self.reqs.len()
        } else {
            0
        };
        let mut left = limit;
        match &inb.stage {
            Stage::Payload(p) => left = left.saturating_sub(p.at.len as usize - p.filled),
            Stage::Skip(_) => expected = 0,
            Stage::Head if self.phase.is_open() && inb.have > 0 => {
                let next = self.reqs.iter().next();
                if next.is_some_and(|at| inb.may_be_piece(at.len as usize)) {
                    inb.skew = inb.have;
                } else if inb.have > 4 && inb.message_id() != Some(id::PIECE) {
                    inb.head_rest = inb.need() - inb.have;
                    inb.head.resize(inb.need(), 0);
                    left = left.saturating_sub(inb.head_rest);
                } else {
                    expected = 0;
                }
            }
            Stage::Head => {}
        }
        for at in self.reqs.iter().take(inb.depth.min(expected)) {
            if left == 0 {
                break;
            }
            let Some(block) = pool.take() else {
                break;
            };
            let len = at.len as usize;
            left = left.saturating_sub(PIECE_HEADER_LEN + len);
            inb.ahead.push(Ahead {
                header: [0; PIECE_HEADER_LEN],
                block,
                len,
            });
        }
        if let (Some(first), Some(have)) = (inb.ahead.first_mut(), inb.head.get(..inb.skew)) {
            first.header[..have.len()].copy_from_slice(have);
        }
        // More payload than the list has room for would be read into the tail and have to be copied.
        inb.ahead.len() == expected
    }

    /// `len` bytes were read into the list of [`Peer::read_bufs`]. `skeys` maps the hash of a torrent's
    /// name in an encrypted handshake ([`super::crypto::req2`]) to the torrent.
    ///
    /// With a `len` of 0 it continues with what had to wait for a block ([`Peer::stalled`]), and gives back
    /// unused leases.
    pub fn handle_read(
        &mut self,
        cx: &mut Cx<'_>,
        pool: &mut BlockPool,
        len: usize,
        skeys: SkeyLookup<'_>,
    ) {
        let lent = core::mem::take(&mut self.inb.lent);
        let len = len.min(lent);
        if self.inb.stalled() {
            let backlog = core::mem::take(&mut self.inb.backlog);
            self.feed(cx, pool, &backlog, skeys);
        }
        let mut left = len;
        if self.phase.is_open() {
            left = self.take_first(cx.now, left);
        }
        left = self.take_ahead(cx.now, pool, left, len == lent);
        if left > 0 {
            let mut tail = core::mem::take(&mut self.inb.tail);
            let filled = left.min(tail.len());
            decrypt(&mut self.inb.cipher, &mut tail[..filled]);
            self.feed(cx, pool, &tail[..filled], skeys);
            self.inb.tail = tail;
        }
        self.account(cx.now, len);
    }

    fn account(&mut self, now: Instant, len: usize) {
        let payload = core::mem::take(&mut self.inb.payload);
        let blocks = core::mem::take(&mut self.inb.blocks);
        self.totals.payload_down += payload as u64;
        self.totals.protocol_down =
            (self.totals.protocol_down + len as u64).saturating_sub(payload as u64);
        if len > 0 {
            self.last_read = now;
        }
        if payload > 0 {
            self.down.add(now, payload as u64);
            if blocks > 0 {
                self.reqs.progress(now);
            }
            self.reqs.tick(now, self.down.get(now));
        }
    }

    /// Handles what was read into the first slot: the rest of a block or of a message.
    fn take_first(&mut self, now: Instant, left: usize) -> usize {
        let inb = &mut self.inb;
        if let Stage::Payload(p) = &mut inb.stage {
            let n = left.min(p.at.len as usize - p.filled);
            decrypt(&mut inb.cipher, &mut p.block[p.filled..p.filled + n]);
            p.filled += n;
            inb.payload += n;
            self.finish_block();
            return left - n;
        }
        let n = left.min(core::mem::take(&mut inb.head_rest));
        if n > 0 {
            decrypt(&mut inb.cipher, &mut inb.head[inb.have..inb.have + n]);
            inb.have += n;
            if inb.have == inb.need() {
                self.finish_head(now);
            }
        }
        left - n
    }

    /// Handles what was read into the header and block slots.
    fn take_ahead(
        &mut self,
        now: Instant,
        pool: &mut BlockPool,
        mut left: usize,
        full: bool,
    ) -> usize {
        let mut ahead = core::mem::take(&mut self.inb.ahead);
        let mut skew = core::mem::take(&mut self.inb.skew);
        let (lent, mut used, mut right) = (ahead.len(), 0, true);
        for mut a in ahead.drain(..) {
            let start = core::mem::take(&mut skew);
            let header = left.min(PIECE_HEADER_LEN - start);
            if header == 0 {
                pool.give(a.block);
                continue;
            }
            used += 1;
            let header_end = start + header;
            let payload = (left - header).min(a.len);
            left -= header + payload;
            decrypt(&mut self.inb.cipher, &mut a.header[start..header_end]);
            decrypt(&mut self.inb.cipher, &mut a.block[..payload]);
            let at = (right && header_end == PIECE_HEADER_LEN)
                .then(|| parse_piece_header(&a.header))
                .flatten()
                .filter(|at| at.len as usize == a.len && self.phase.is_open());
            if let Some(at) = at
                && self.reqs.answer(now, at) != Asked::No
            {
                self.inb.clear_head();
                self.inb.payload += payload;
                self.inb.stage = Stage::Payload(Payload {
                    at,
                    block: a.block,
                    filled: payload,
                    begun: now,
                    given_up: None,
                });
                self.finish_block();
                continue;
            }
            if right {
                // `header` includes the bytes of `head`.
                self.inb.clear_head();
                right = false;
            }
            self.feed_open(now, pool, &a.header[..header_end]);
            self.feed_open(now, pool, &a.block[..payload]);
            pool.give(a.block);
        }
        self.inb.ahead = ahead;
        if lent > 0 {
            self.adapt(lent, used, full);
        }
        left
    }

    /// Lends more ahead while reads fill everything, and less when they do not.
    fn adapt(&mut self, lent: usize, used: usize, full: bool) {
        let depth = &mut self.inb.depth;
        if full {
            *depth = (*depth * 2).min(MAX_READ_AHEAD);
        } else if used * 2 <= lent {
            *depth = (*depth / 2).max(1);
        }
    }
}
