//! The commands of the owner to the peer.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::{Local, Peer, messages::MAX_FAST};
use crate::wire::extension::{Metadata, Pex, PexFlags, ours};
use crate::wire::peer::Message;
use crate::{BLOCK_LEN, Bitfield, Block, BlockPool, BlockRef, Cx, Instant};

impl Peer {
    fn say(&mut self, message: Message<'_>) {
        if self.phase.is_open() {
            self.emit(message);
        }
    }

    /// Stops answering requests. Those that are not answered yet are void, also if their block is queued
    /// and not begun: with the fast extension they are rejected one by one, except for allowed-fast pieces.
    pub fn choke(&mut self, pool: &mut BlockPool) {
        if self.me.choking || !self.phase.is_open() {
            return;
        }
        self.me.choking = true;
        self.emit(Message::Choke);
        let granted = core::mem::take(&mut self.granted_fast);
        self.drop_queued(pool, |at| granted.contains(&at.piece));
        for _ in 0..self.asked.len() {
            let Some(at) = self.asked.pop_front() else {
                break;
            };
            if self.fast && granted.contains(&at.piece) {
                self.asked.push_back(at);
            } else if self.fast {
                self.emit(Message::Reject(at));
            }
        }
        self.granted_fast = granted;
    }

    /// Removes queued blocks that have not begun, except those that `keep` wants, and rejects their
    /// requests if there is a message for it.
    pub(super) fn drop_queued(&mut self, pool: &mut BlockPool, keep: impl FnMut(BlockRef) -> bool) {
        let mut dropped = Vec::new();
        self.out.drop_blocks(keep, |at| dropped.push(at));
        self.out.reclaim(pool);
        for at in dropped {
            if self.fast {
                self.emit(Message::Reject(at));
            }
        }
    }

    /// Takes back the queued blocks that have not begun; the peer still waits for them. Returns their
    /// requests.
    pub fn take_back(&mut self, pool: &mut BlockPool) -> Vec<BlockRef> {
        let mut back = Vec::new();
        self.out.drop_blocks(|_| false, |at| back.push(at));
        self.out.reclaim(pool);
        for at in back.iter().rev() {
            self.asked.push_front(*at);
        }
        back
    }

    /// Starts the timer of blocks that were queued just now, if it is not running.
    pub fn blocks_wait(&mut self, now: Instant) {
        if !self.takes_nothing && self.out.block_bytes() > 0 {
            self.blocks_wait.get_or_insert(now);
        }
    }

    /// Answers requests from now on.
    pub fn unchoke(&mut self) {
        if self.me.choking && self.phase.is_open() {
            self.me.choking = false;
            self.emit(Message::Unchoke);
        }
    }

    /// Tells the peer whether we want what it has, if that changed.
    pub fn set_interested(&mut self, interested: bool) {
        if self.me.interested != interested && self.phase.is_open() {
            self.me.interested = interested;
            self.emit(if interested {
                Message::Interested
            } else {
                Message::NotInterested
            });
        }
    }

    /// Tells the peer that we have a piece.
    pub fn have(&mut self, piece: u32) {
        self.say(Message::Have(piece));
    }

    /// Tells the peer that we no longer have a piece (BEP 54); does nothing if the peer would not
    /// understand.
    pub fn dont_have(&mut self, piece: u32) {
        let id = self.ext.as_ref().map_or(0, |e| e.ids.lt_donthave);
        self.say_extended(id, &piece.to_be_bytes());
    }

    /// Sends the pieces that we have; due right after [`super::PeerEvent::Established`], and only then.
    pub fn bitfield(&mut self, have: &Bitfield) {
        match have.count() {
            0 if self.fast => self.say(Message::HaveNone),
            0 => {}
            _ if self.fast && have.is_full() => self.say(Message::HaveAll),
            _ => self.say(Message::Bitfield(&have.as_wire())),
        }
    }

    /// Requests a block of at most 16 KiB.
    pub fn request(&mut self, cx: &mut Cx<'_>, at: BlockRef) {
        let legal = at.len > 0 && at.len as usize <= BLOCK_LEN;
        debug_assert!(legal, "a request is for 1 byte to one block");
        if legal && self.phase.is_open() {
            let end = self.emit(Message::Request(at));
            self.reqs.push(cx.now, at, end);
        }
    }

    /// Cancels a request. The block may arrive nevertheless.
    pub fn cancel(&mut self, cx: &mut Cx<'_>, at: BlockRef) {
        if self.reqs.cancel(cx.now, at) {
            self.say(Message::Cancel(at));
        }
    }

    /// Answers a request. Returns the block if the peer no longer waits for it.
    #[must_use = "a block that is not sent has to go home"]
    pub fn send_block(&mut self, at: BlockRef, block: Block) -> Option<Block> {
        if !self.phase.is_open() || !self.take_asked(at) {
            return Some(block);
        }
        self.out.block(at, block);
        None
    }

    /// Rejects a request. Without the fast extension there is no message for that.
    pub fn reject(&mut self, at: BlockRef) {
        if self.take_asked(at) && self.fast {
            self.say(Message::Reject(at));
        }
    }

    /// Removes a request of the peer; `false` if there was none.
    pub(super) fn take_asked(&mut self, at: BlockRef) -> bool {
        let found = self.asked.iter().position(|a| *a == at);
        found.and_then(|i| self.asked.remove(i)).is_some()
    }

    /// Suggests a piece that is cheap for us to send (BEP 6).
    pub fn suggest(&mut self, piece: u32) {
        if self.fast {
            self.say(Message::Suggest(piece));
        }
    }

    /// Lets the peer have a piece while choked (BEP 6; which ones:
    /// [`crate::wire::peer::allowed_fast_set`]).
    pub fn allow_fast(&mut self, piece: u32) {
        if self.fast && self.granted_fast.len() < MAX_FAST && !self.granted_fast.contains(&piece) {
            self.granted_fast.push(piece);
            self.say(Message::AllowedFast(piece));
        }
    }

    /// Sends another extension handshake, because something in it changed.
    pub fn send_extended(&mut self, local: &Local<'_>) {
        self.pex = local.pex;
        if self.ext.is_some() {
            let payload = local.extended(self.cfg.reqq);
            self.say(Message::Extended {
                id: ours::HANDSHAKE,
                payload: &payload,
            });
        }
    }

    fn say_extended(&mut self, id: u8, payload: &[u8]) {
        if id != 0 {
            self.say(Message::Extended { id, payload });
        }
    }

    fn say_metadata(&mut self, message: Metadata<'_>) {
        let id = self.ext.as_ref().map_or(0, |e| e.ids.ut_metadata);
        self.say_extended(id, &message.emit());
    }

    /// Requests a piece of the metadata; `false` if the peer does not exchange metadata.
    pub fn metadata_request(&mut self, piece: u32) -> bool {
        let id = self.ext.as_ref().map_or(0, |e| e.ids.ut_metadata);
        if id == 0 || !self.phase.is_open() {
            return false;
        }
        if !self.metadata_asked.contains(&piece) {
            self.metadata_asked.push(piece);
        }
        self.say_metadata(Metadata::Request(piece));
        true
    }

    /// Answers a metadata request; `total` is the size of the whole in bytes.
    pub fn metadata_data(&mut self, piece: u32, total: u32, data: &[u8]) {
        self.metadata_owed = self.metadata_owed.saturating_sub(1);
        self.say_metadata(Metadata::Data {
            piece,
            total: Some(total),
            data,
        });
        self.serve_metadata();
    }

    /// Refuses a metadata request.
    pub fn metadata_reject(&mut self, piece: u32) {
        self.metadata_owed = self.metadata_owed.saturating_sub(1);
        self.say_metadata(Metadata::Reject(piece));
        self.serve_metadata();
    }

    /// Sends at most 50 peers of each list (BEP 11: at most once a minute). Returns `false` if the peer
    /// does not support it.
    pub fn pex(&mut self, added: &[(SocketAddr, PexFlags)], dropped: &[SocketAddr]) -> bool {
        let id = self.ext.as_ref().map_or(0, |e| e.ids.ut_pex);
        if id == 0 || !self.pex || !self.phase.is_open() {
            return false;
        }
        self.say_extended(id, &Pex::emit(added, dropped));
        true
    }

    /// Sends the port of our DHT node, if the peer has one as well (BEP 5).
    pub fn port(&mut self, port: u16) {
        if self.reserved().dht() {
            self.say(Message::Port(port));
        }
    }
}
