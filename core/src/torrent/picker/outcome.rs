//! What became of requests: blocks that came or will not, pieces that passed or failed, and what
//! an earlier session left.

use super::{
    Layout, PartialPiece, PeerKey, PickState, Picker, Priority, Received,
    order::{CLASSES, Stand},
    partial::{Block, NOBODY},
};
use crate::{BLOCK_LEN, Bitfield, BlockRef, Instant};

impl Picker {
    // ---- what became of requests ----

    /// A block arrived from `peer`, asked for or late. The caller has checked that it asked this
    /// peer for it at some time.
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

    /// The other peers that were asked for a block: after it was received, send them a cancel
    /// and, once that is settled, [`Picker::aborted`].
    pub fn also_requested(&self, at: BlockRef) -> impl Iterator<Item = PeerKey> + '_ {
        self.partials
            .also_asked(at.piece, at.begin / BLOCK_LEN as u32)
    }

    /// `peer` will not send a block, or not soon (rejected, choked, closed, timed out): it is free
    /// again, unless received or asked of others, too. It is still welcome if it comes after all.
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

    /// `peer` stops downloading (closed, or choked): the piece it filled alone is shared. Its
    /// requests in flight are taken back one by one with [`Picker::aborted`].
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

    // ---- outcome of hashing ----

    /// Who sent each block of a piece in the making; `None` for blocks from an earlier session
    /// and for those not received.
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

    /// `piece` is on disk and its hash is right, whether we fetched it now or found it there.
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

    /// Several peers made `piece` wrong together: from now on one peer at a time fetches it, so
    /// that it passes or shows who lies.
    pub fn doubt(&mut self, piece: u32) {
        if piece < self.layout.pieces && !self.have.get(piece) {
            self.doubted.insert(piece, NOBODY);
        }
    }

    /// The hash of `piece` is wrong: all its blocks are free again. Also for a piece on disk that
    /// a recheck found bad.
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

    /// Marks blocks that an earlier session wrote. Returns whether the piece now has all its
    /// blocks and wants hashing. A piece that is begun, on disk, or without room, and a set of
    /// another size, change nothing.
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

    /// The pieces in the making, for the resume record and statistics.
    pub fn partials(&self) -> impl Iterator<Item = PartialPiece<'_>> {
        self.partials.iter().map(PartialPiece)
    }

    /// The piece in the making at `piece`, if there is one.
    #[must_use]
    pub fn partial(&self, piece: u32) -> Option<PartialPiece<'_>> {
        self.partials
            .slot(piece)
            .map(|slot| PartialPiece(self.partials.get(slot)))
    }

    /// A piece whose blocks were given up because the table of pieces in the making was full:
    /// drop what else is kept about it.
    pub fn poll_evicted(&mut self) -> Option<u32> {
        self.partials.evicted.pop_front()
    }
}
