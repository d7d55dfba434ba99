//! The messages of the peer, and what they mean.

use alloc::vec::Vec;

use super::{MAX_REPLIES, Peer, PeerEvent, PeerFault};
use crate::wire::extension::{Metadata, Pex, ours};
use crate::wire::peer::{MAX_PIECES, Message, id};
use crate::{BLOCK_LEN, Bitfield, BlockRef, Instant};

/// The most allowed-fast pieces kept in each direction. BEP 6 suggests ten.
pub(super) const MAX_FAST: usize = 64;
/// The most haves kept while the number of pieces is not known. Later ones are dropped; then those pieces
/// are not requested from this peer.
const MAX_EARLY: usize = 4096;
/// The most metadata requests that wait: all pieces of the largest metadata that clients fetch.
const MAX_METADATA_WANTED: usize = 1024;
/// The bytes of metadata that are buffered ahead of the stream; further requests wait as numbers.
const METADATA_AHEAD: usize = 4 * BLOCK_LEN;
/// The unwanted payload that is tolerated, in bytes, in addition to a quarter of what was requested. A
/// choke or a slow cancel makes a correct peer send some.
const UNWANTED_GRACE: u64 = 16 * 1024 * 1024;

/// The pieces of the peer before the number of pieces is known.
#[derive(Debug, Default)]
pub(super) struct Early {
    all: bool,
    bits: Option<Vec<u8>>,
    haves: Vec<u32>,
    /// Something could not be kept.
    lost: bool,
}

impl Early {
    pub(super) const fn is_all(&self) -> bool {
        self.all
    }

    fn replace(&mut self, all: bool, bits: Option<Vec<u8>>) {
        *self = Self {
            all,
            bits,
            haves: Vec::new(),
            lost: false,
        };
    }

    /// The peer sent what cannot be kept: drops what it sent before.
    pub(super) fn lose(&mut self) {
        self.replace(false, None);
        self.lost = true;
    }

    /// `None` if it does not fit the torrent.
    fn interpret(self, count: u32) -> Option<Bitfield> {
        let mut has = match self.bits {
            Some(bits) => Bitfield::from_peer(&bits, count)?.0,
            None if self.all => Bitfield::full(count),
            None => Bitfield::new(count),
        };
        for piece in self.haves {
            if piece >= count {
                return None;
            }
            has.set(piece);
        }
        Some(has)
    }
}

impl Peer {
    /// Sets the number of pieces of the torrent. What the peer sent about its pieces before is interpreted
    /// now.
    pub fn set_pieces(&mut self, count: u32) {
        if !self.has.is_empty() {
            return;
        }
        let early = core::mem::take(&mut self.early);
        if early.lost {
            return self.fail(PeerFault::SaidTooEarly);
        }
        match early.interpret(count) {
            Some(has) => {
                let changed = has.count() > 0;
                self.has = has;
                self.allowed_fast.retain(|&piece| piece < count);
                if changed {
                    self.events.push_back(PeerEvent::HasChanged);
                }
            }
            None => self.fail(PeerFault::BadBitfield),
        }
    }

    /// Takes a message other than `piece`, without its length prefix and not empty.
    pub(super) fn on_message(&mut self, now: Instant, message: &[u8]) {
        let id = message.first().copied().unwrap_or_default();
        let parsed = match Message::parse(message) {
            Ok(parsed) => parsed,
            // The exchange of blocks does not need them.
            Err(bad) if matches!(bad.id, id::PORT | id::EXTENDED) => {
                return self.pass_over(bad.id);
            }
            Err(bad) => {
                let (id, len) = (bad.id, bad.len);
                return self.fail(PeerFault::BadMessage { id, len });
            }
        };
        if matches!(id, id::SUGGEST..=id::ALLOWED_FAST) && !self.fast {
            return self.fail(PeerFault::FastNotAgreed(id));
        }
        let says_nothing = matches!(
            parsed,
            Message::KeepAlive | Message::Extended { .. } | Message::Unknown { .. }
        );
        if !says_nothing {
            self.slips.end();
        }
        match parsed {
            Message::Choke => self.on_choke(now),
            Message::Unchoke => {
                self.reqs.unchoked(now);
                if core::mem::take(&mut self.it.choking) {
                    self.events.push_back(PeerEvent::Unchoked);
                }
            }
            Message::Interested => {
                if !core::mem::replace(&mut self.it.interested, true) {
                    self.events.push_back(PeerEvent::Interested);
                }
            }
            Message::NotInterested => {
                if core::mem::take(&mut self.it.interested) {
                    self.events.push_back(PeerEvent::NotInterested);
                }
            }
            Message::Have(piece) => self.on_have(piece),
            Message::Bitfield(bits) => self.on_bitfield(bits),
            Message::HaveAll => self.on_all(true),
            Message::HaveNone => self.on_all(false),
            Message::Request(at) => self.on_request(at),
            Message::Cancel(at) => {
                let mut queued = false;
                self.out.drop_blocks(|b| b != at, |_| queued = true);
                if queued {
                    self.refuse(at);
                } else if self.take_asked(at) {
                    self.events.push_back(PeerEvent::Cancelled(at));
                    self.refuse(at);
                }
            }
            Message::Reject(at) => {
                if self.reqs.reject(at) {
                    if self.it.choking {
                        // If it were requested again, it would be rejected again.
                        self.allowed_fast.retain(|piece| *piece != at.piece);
                    } else {
                        self.reqs.refused(now);
                    }
                    self.events.push_back(PeerEvent::Rejected(at));
                }
            }
            Message::Suggest(piece) => {
                if self.known_piece(piece) {
                    self.events.push_back(PeerEvent::Suggested(piece));
                }
            }
            Message::AllowedFast(piece) => self.on_allowed_fast(piece),
            Message::Port(port) => self.events.push_back(PeerEvent::DhtPort(port)),
            Message::Extended { id, payload } => self.on_extended(id, payload),
            Message::KeepAlive | Message::Piece { .. } | Message::Unknown { .. } => {}
        }
    }

    fn on_choke(&mut self, now: Instant) {
        if core::mem::replace(&mut self.it.choking, true) {
            return;
        }
        self.events.push_back(PeerEvent::Choked);
        if self.reqs.len() > 0 && !self.reqs.progressed() {
            // The peer unchoked us for nothing, and may do so every round trip.
            self.reqs.refused(now);
        }
        // With the fast extension every request is still answered by itself (BEP 6).
        while !self.fast
            && let Some(at) = self.reqs.give_up(now)
        {
            self.events.push_back(PeerEvent::Rejected(at));
        }
    }

    /// Whether the index is possible; if not, ends the connection.
    fn known_piece(&mut self, piece: u32) -> bool {
        let known = if self.has.is_empty() {
            piece < MAX_PIECES
        } else {
            piece < self.has.len()
        };
        if !known {
            self.fail(PeerFault::BadPiece(piece));
        }
        known
    }

    fn on_have(&mut self, piece: u32) {
        if !self.known_piece(piece) {
            return;
        }
        if self.has.is_empty() {
            let most = (self.cfg.max_early / size_of::<u32>()).min(MAX_EARLY);
            if self.early.haves.len() < most {
                self.early.haves.push(piece);
            }
        } else if self.has.set(piece) {
            self.events.push_back(PeerEvent::Have(piece));
        }
    }

    fn on_bitfield(&mut self, bits: &[u8]) {
        if self.has.is_empty() {
            return match bits.len() <= self.cfg.max_early {
                true => self.early.replace(false, Some(bits.to_vec())),
                false => self.early.lose(),
            };
        }
        let Some((has, spare)) = Bitfield::from_peer(bits, self.has.len()) else {
            return self.fail(PeerFault::BadBitfield);
        };
        if spare {
            self.forgive();
        }
        if self.has != has {
            self.has = has;
            self.events.push_back(PeerEvent::HasChanged);
        }
    }

    fn on_all(&mut self, all: bool) {
        if self.has.is_empty() {
            return self.early.replace(all, None);
        }
        let before = self.has.count();
        if all {
            self.has.fill();
        } else {
            self.has.empty();
        }
        if self.has.count() != before {
            self.events.push_back(if all {
                PeerEvent::HasAll
            } else {
                PeerEvent::HasNone
            });
        }
    }

    fn on_request(&mut self, at: BlockRef) {
        if !self.known_piece(at.piece) {
            return;
        }
        let legal = at.len > 0 && at.len as usize <= BLOCK_LEN;
        let allowed = !self.me.choking || self.granted_fast.contains(&at.piece);
        if legal && allowed && self.asked.len() < self.cfg.reqq as usize {
            self.asked.push_back(at);
            self.events.push_back(PeerEvent::Requested(at));
        } else {
            self.refuse(at);
        }
    }

    /// Rejects a request, if there is a message for it and the peer reads at all.
    fn refuse(&mut self, at: BlockRef) {
        if self.fast && self.may_reply() {
            self.emit(Message::Reject(at));
        }
    }

    fn may_reply(&mut self) -> bool {
        let may = self.out.control_bytes() < MAX_REPLIES;
        if !may {
            self.fail(PeerFault::ReadsNothing);
        }
        may
    }

    fn on_allowed_fast(&mut self, piece: u32) {
        if self.known_piece(piece)
            && self.allowed_fast.len() < MAX_FAST
            && !self.allowed_fast.contains(&piece)
        {
            self.allowed_fast.push(piece);
            self.events.push_back(PeerEvent::AllowedFast(piece));
        }
    }

    /// A `piece` message that was not requested begins.
    pub(super) fn on_unwanted(&mut self, len: u32) {
        self.totals.unwanted += u64::from(len);
        if self.totals.unwanted > UNWANTED_GRACE + self.totals.payload_down / 4 {
            return self.fail(PeerFault::Unsolicited);
        }
        self.events.push_back(PeerEvent::Unwanted { len });
    }

    fn on_extended(&mut self, number: u8, payload: &[u8]) {
        let Some(ext) = &mut self.ext else {
            return;
        };
        let understood = match number {
            ours::HANDSHAKE => {
                let understood = ext.update(payload).is_ok();
                if understood {
                    self.events.push_back(PeerEvent::Extended);
                }
                understood
            }
            ours::UT_METADATA => Metadata::parse(payload)
                .map(|message| {
                    if let Some(message) = message {
                        self.on_metadata(message);
                    }
                })
                .is_ok(),
            ours::UT_PEX if self.pex => Pex::parse(payload)
                .map(|Pex { added, dropped }| {
                    self.events.push_back(PeerEvent::Pex { added, dropped });
                })
                .is_ok(),
            ours::LT_DONTHAVE => <[u8; 4]>::try_from(payload)
                .map(|piece| {
                    let piece = u32::from_be_bytes(piece);
                    if self.has.clear(piece) {
                        self.events.push_back(PeerEvent::DontHave(piece));
                    }
                })
                .is_ok(),
            // This does not say anything about the peer.
            _ => return,
        };
        match understood {
            true => self.slips.end(),
            false => self.pass_over(id::EXTENDED),
        }
    }

    fn on_metadata(&mut self, message: Metadata<'_>) {
        match message {
            Metadata::Request(piece) => {
                // A request beyond the limit is dropped without blame: clients request everything at once.
                if self.metadata_wanted.len() < MAX_METADATA_WANTED
                    && !self.metadata_wanted.contains(&piece)
                {
                    self.metadata_wanted.push_back(piece);
                    self.serve_metadata();
                }
            }
            Metadata::Data { piece, total, data } => {
                if self.take_metadata_asked(piece) {
                    self.events.push_back(PeerEvent::MetadataPiece {
                        index: piece,
                        total,
                        data: data.to_vec(),
                    });
                }
            }
            Metadata::Reject(piece) => {
                if self.take_metadata_asked(piece) {
                    self.events.push_back(PeerEvent::MetadataRejected(piece));
                }
            }
        }
    }

    /// Passes metadata requests to the owner as far as the buffer has drained.
    pub(super) fn serve_metadata(&mut self) {
        while !self.metadata_wanted.is_empty()
            && self.out.control_bytes() + self.metadata_owed as usize * BLOCK_LEN < METADATA_AHEAD
        {
            if let Some(piece) = self.metadata_wanted.pop_front() {
                self.metadata_owed += 1;
                self.events.push_back(PeerEvent::MetadataRequested(piece));
            }
        }
    }

    fn take_metadata_asked(&mut self, piece: u32) -> bool {
        let found = self.metadata_asked.iter().position(|&p| p == piece);
        found.map(|i| self.metadata_asked.swap_remove(i)).is_some()
    }
}
