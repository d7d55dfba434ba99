//! Turns bytes that were not read to where they belong into messages and blocks; and the deadline of a
//! block that is arriving.

use core::time::Duration;

use super::{Inbound, Payload, Stage};
use crate::peer::{Peer, PeerEvent, PeerFault, requests::Asked};
use crate::wire::peer::{MAX_MESSAGE_LEN, Message, id, parse_piece_header};
use crate::{BlockPool, Instant};

/// A block that was given up and is not complete after this many times the patience with a silent peer ends
/// the connection: it would keep a block of the pool forever.
const DRIPS: u32 = 4;

/// The result of an attempt to parse a message.
enum Taken {
    /// This many bytes were used.
    Bytes(usize),
    /// This many bytes were used; the rest has to wait for a block.
    Dry(usize),
}

impl Inbound {
    /// The deadline of the block that is arriving: then it is given up, and later the connection.
    pub(in crate::peer) fn due(&self, patience: Duration) -> Option<Instant> {
        match &self.stage {
            Stage::Payload(p) => Some(match p.given_up {
                None => p.begun + patience,
                // However late we were to give it up.
                Some(at) => (p.begun + patience * DRIPS).max(at + patience),
            }),
            _ => None,
        }
    }

    /// We paused reading.
    pub(in crate::peer) const fn excuse(&mut self, now: Instant) {
        if let Stage::Payload(p) = &mut self.stage {
            p.begun = now;
        }
    }
}

impl Peer {
    /// Takes bytes that were not read to where they belong.
    pub(in crate::peer) fn feed_open(
        &mut self,
        now: Instant,
        pool: &mut BlockPool,
        mut data: &[u8],
    ) {
        if self.inb.stalled() {
            self.inb.defer(data);
            return;
        }
        while !data.is_empty() && self.phase.is_open() {
            let n = match &mut self.inb.stage {
                Stage::Skip(left) => {
                    let n = data.len().min(*left as usize);
                    *left -= n as u32;
                    if *left == 0 {
                        self.inb.stage = Stage::Head;
                    }
                    n
                }
                Stage::Payload(p) => {
                    let n = data.len().min(p.at.len as usize - p.filled);
                    p.block[p.filled..p.filled + n].copy_from_slice(&data[..n]);
                    p.filled += n;
                    self.inb.payload += n;
                    self.finish_block();
                    n
                }
                Stage::Head => match self.take_message(now, pool, data) {
                    Taken::Bytes(n) => n,
                    Taken::Dry(n) => {
                        self.inb.defer(&data[n..]);
                        return;
                    }
                },
            };
            data = &data[n..];
        }
    }

    fn take_message(&mut self, now: Instant, pool: &mut BlockPool, data: &[u8]) -> Taken {
        if self.inb.have == 0
            && let Some((prefix, message)) = data.split_first_chunk()
            && let Some(whole) = message.get(..u32::from_be_bytes(*prefix) as usize)
            && whole.first() != Some(&id::PIECE)
        {
            if !whole.is_empty() {
                self.on_message(now, whole);
            }
            return Taken::Bytes(4 + whole.len());
        }
        let n = data.len() - self.inb.collect(data, self.inb.need()).len();
        if self.inb.have < self.inb.need() {
            self.check_head();
            return Taken::Bytes(n);
        }
        if self.inb.message_id() != Some(id::PIECE) {
            self.finish_head(now);
            return Taken::Bytes(n);
        }
        if self.begin_piece(now, pool) {
            self.inb.clear_head();
            Taken::Bytes(n)
        } else {
            let header = self.inb.take_collected();
            self.inb.defer(&header);
            Taken::Dry(n)
        }
    }

    /// Checks the length and the id of a message before more of it is collected.
    fn check_head(&mut self) {
        let (Some(len), Some(id)) = (self.inb.message_len(), self.inb.message_id()) else {
            return;
        };
        if len > MAX_MESSAGE_LEN {
            return self.fail(PeerFault::TooLong { id, len });
        }
        match id {
            id::BITFIELD if self.has.is_empty() && len as usize <= self.cfg.max_early => {}
            id::BITFIELD if self.has.is_empty() => {
                self.early.lose();
                self.inb.clear_head();
                self.inb.stage = Stage::Skip(len - 1);
            }
            // Longer than anything that we request: an extension that works without an answer.
            id::EXTENDED if len > self.cfg.max_extended => self.skip_junk(id, len),
            id::BITFIELD if len != self.has.len().div_ceil(8) + 1 => {
                self.fail(PeerFault::BadBitfield);
            }
            id::PIECE if len < 9 => self.fail(PeerFault::BadMessage { id, len }),
            id::BITFIELD | id::EXTENDED | id::PIECE => {}
            id::PORT if len > 3 => self.skip_junk(id, len),
            // No other known message is longer than 13 bytes.
            id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST if len > 13 => {
                self.fail(PeerFault::BadMessage { id, len });
            }
            id::CHOKE..=id::PORT | id::SUGGEST..=id::ALLOWED_FAST => {}
            _ => {
                self.inb.clear_head();
                self.inb.stage = Stage::Skip(len - 1);
            }
        }
    }

    /// Skips the rest of a message of which only the length and the id were read.
    fn skip_junk(&mut self, id: u8, len: u32) {
        self.inb.clear_head();
        self.inb.stage = Stage::Skip(len - 1);
        self.pass_over(id);
    }

    /// The message in `head` is complete.
    pub(super) fn finish_head(&mut self, now: Instant) {
        let head = core::mem::take(&mut self.inb.head);
        let message = head.get(4..self.inb.have).unwrap_or_default();
        if !message.is_empty() {
            self.on_message(now, message);
        }
        self.inb.head = head;
        self.inb.clear_head();
    }

    /// The header in `head` is complete; returns `false` if the pool has no block for its payload.
    fn begin_piece(&mut self, now: Instant, pool: &mut BlockPool) -> bool {
        let header = self.inb.head.first_chunk();
        let Some(at) = header.and_then(parse_piece_header) else {
            return true;
        };
        if self.reqs.asked(at) == Asked::No {
            self.inb.stage = if at.len == 0 {
                Stage::Head
            } else {
                Stage::Skip(at.len)
            };
            self.on_unwanted(at.len);
            return true;
        }
        let Some(block) = pool.take() else {
            return false;
        };
        self.reqs.answer(now, at);
        self.inb.stage = Stage::Payload(Payload {
            at,
            block,
            filled: 0,
            begun: now,
            given_up: None,
        });
        true
    }

    /// Reports the block if it is complete.
    pub(super) fn finish_block(&mut self) {
        let whole = |p: &Payload| p.filled == p.at.len as usize;
        if !matches!(&self.inb.stage, Stage::Payload(p) if whole(p)) {
            return;
        }
        if let Stage::Payload(p) = core::mem::replace(&mut self.inb.stage, Stage::Head) {
            self.inb.blocks += 1;
            self.slips.end();
            if p.given_up.is_some() && self.reqs.reject(p.at) {
                // It was requested again meanwhile.
                self.emit(Message::Cancel(p.at));
            }
            self.events.push_back(PeerEvent::Block {
                at: p.at,
                block: p.block,
            });
        }
    }

    /// Gives up the block that is arriving if its time is over, or the connection if the block was given up
    /// long ago: otherwise a peer that sends a few bytes at a time could hold the piece forever.
    pub(in crate::peer) fn check_arrival(&mut self, now: Instant) {
        if self.inb.due(self.cfg.snub).is_none_or(|due| due > now) {
            return;
        }
        let Stage::Payload(p) = &mut self.inb.stage else {
            return;
        };
        if p.given_up.is_some() {
            return self.fail(PeerFault::TooSlow);
        }
        p.given_up = Some(now);
        self.reqs.snub();
        self.events.push_back(PeerEvent::Rejected(p.at));
    }
}
