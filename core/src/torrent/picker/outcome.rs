//! The results of requests: blocks that were received or will not be, pieces that passed or failed, and blocks of an earlier
//! session.

use super::{
    Layout, PartialPiece, PeerKey, PickState, Picker, Priority, Received,
    order::{CLASSES, Stand},
    partial::{Block, NOBODY},
};
use crate::{BLOCK_LEN, Bitfield, BlockRef, Instant};

impl Picker {
    // ---- results of requests ----

    /// A block was received from `peer`, perhaps late. The caller has checked that it was requested from this peer at some
    /// time.
    pub fn received(&mut self, now: Instant, at: BlockRef, peer: PeerKey) -> Received {
        let Some(block) = self.layout.number(at) else {
            return Received::Unwanted;
        };
        if self.have.get(at.piece) {
            return Received::Duplicate;
        }
        let slot = match self.partials.slot(at.piece) {
            Some(slot) => slot,
            None if self.order.is_open(at.piece) => match self.open(at.piece, NOBODY, now) {
                Some(slot) => slot,
                None => return Received::Unwanted,
            },
            None => return Received::Unwanted,
        };
        if !self.partials.receive(slot, block, peer, now) {
            return Received::Duplicate;
        }
        let part = self.partials.get(slot);
        if part.class < CLASSES {
            self.left -= u64::from(at.len);
        }
        Received::Fresh {
            piece_complete: part.is_complete(),
        }
    }

    /// The other peers from which a block was requested: after it was received, they are sent a cancel, followed by
    /// [`Picker::aborted`] once that is settled.
    pub fn also_requested(&self, at: BlockRef) -> impl Iterator<Item = PeerKey> + '_ {
        self.partials
            .also_asked(at.piece, at.begin / BLOCK_LEN as u32)
    }

    /// `peer` will not send a block, or not soon (rejected, choked, closed, timed out): the block is free again, unless it
    /// was received, or requested from others. It is still accepted if it arrives.
    pub fn aborted(&mut self, at: BlockRef, peer: PeerKey) {
        if let Some(alone) = self.doubted.get_mut(&at.piece).filter(|p| **p == peer) {
            *alone = NOBODY;
        }
        if let Some(block) = self.layout.number(at)
            && let Some(slot) = self.partials.slot(at.piece)
            && self.partials.abort(slot, block, peer)
        {
            self.abandon(slot);
        }
    }

    /// `peer` disconnected or choked us: the piece that it downloaded alone is shared. Its requests in flight are taken back
    /// one by one with [`Picker::aborted`].
    pub fn peer_gone(&mut self, peer: PeerKey, state: &mut PickState) {
        if let Some(slot) = state
            .current
            .take()
            .and_then(|piece| self.partials.slot(piece))
            && self.partials.get(slot).owner == peer
        {
            self.partials.share(slot);
        }
        state.dry = None;
    }

    // ---- results of hashing ----

    /// The sender of each block of a partial piece. `None` for blocks of an earlier session, and for those that were not
    /// received.
    pub fn contributors(
        &self,
        piece: u32,
    ) -> impl Iterator<Item = (BlockRef, Option<PeerKey>)> + '_ {
        let cells = self
            .partials
            .slot(piece)
            .map_or(&[][..], |slot| &self.partials.get(slot).cells);
        let size = self.layout.piece_size(piece);
        cells.iter().enumerate().map(move |(block, cell)| {
            let sender = match cell.block() {
                Block::Received(peer) if peer != NOBODY => Some(peer),
                _ => None,
            };
            (Layout::block(piece, size, block as u32), sender)
        })
    }

    /// `piece` is on disk and its hash matches, whether it was downloaded now or found there.
    pub fn verified(&mut self, piece: u32) {
        if piece >= self.layout.pieces || self.have.get(piece) {
            return;
        }
        if self.order.priority(piece) != Priority::Skip {
            self.want(piece, false);
        }
        if let Some(slot) = self.partials.slot(piece) {
            self.partials.close(slot);
        }
        self.doubted.remove(&piece);
        self.have.set(piece);
        self.order.set_stand(piece, Stand::Done);
        if !self.deadlines.is_empty() {
            self.set_deadline(piece, None);
        }
    }

    /// `piece` failed with blocks of several peers: from now on one peer at a time downloads it, so that it passes or shows
    /// who sends bad data.
    pub fn doubt(&mut self, piece: u32) {
        if piece < self.layout.pieces && !self.have.get(piece) {
            self.doubted.insert(piece, NOBODY);
        }
    }

    /// The hash of `piece` does not match: all of its blocks are free again. Also for a piece on disk that failed a recheck.
    pub fn failed(&mut self, piece: u32) {
        if let Some(slot) = self.partials.slot(piece) {
            self.abandon(slot);
        } else if self.have.clear(piece) {
            self.order.set_stand(piece, Stand::Open);
            if self.order.priority(piece) != Priority::Skip {
                self.want(piece, true);
            }
        }
    }

    // ---- resume ----

    /// Marks blocks that an earlier session wrote. Returns whether the piece has all of its blocks and has to be hashed.
    /// Does nothing if the piece is partial or on disk, if there is no room, or if the set has another size.
    pub fn restore_partial(&mut self, now: Instant, piece: u32, blocks: &Bitfield) -> bool {
        let fits = piece < self.layout.pieces
            && blocks.len() == self.layout.blocks_in(piece)
            && blocks.count() > 0;
        if !fits || self.have.get(piece) || self.partials.slot(piece).is_some() {
            return false;
        }
        if !self.partials.has_room(blocks.len()) {
            return false;
        }
        let Some(slot) = self.open(piece, NOBODY, now) else {
            return false;
        };
        let size = self.layout.piece_size(piece);
        for block in blocks.iter() {
            if self.partials.receive(slot, block, NOBODY, now)
                && self.partials.get(slot).class < CLASSES
            {
                self.left -= u64::from(Layout::block(piece, size, block).len);
            }
        }
        self.partials.get(slot).is_complete()
    }

    /// The partial pieces, for the resume record and statistics.
    pub fn partials(&self) -> impl Iterator<Item = PartialPiece<'_>> {
        self.partials.iter().map(PartialPiece)
    }

    /// The partial piece `piece`, if it is one.
    #[must_use]
    pub fn partial(&self, piece: u32) -> Option<PartialPiece<'_>> {
        self.partials
            .slot(piece)
            .map(|slot| PartialPiece(self.partials.get(slot)))
    }

    /// Returns a piece whose blocks were dropped because there were too many partial pieces. The caller drops its own state
    /// of it.
    pub fn poll_evicted(&mut self) -> Option<u32> {
        self.partials.evicted.pop_front()
    }
}
