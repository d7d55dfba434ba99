//! What of a torrent's files is on the medium.

use crate::Bitfield;

/// How far a torrent's files and record have reached the medium.
#[derive(Debug)]
pub(super) struct Durability {
    /// Pieces that a flush came after.
    pub(super) durable: Bitfield,
    /// Files were written to, or moved, since the last flush was asked for.
    pub(super) unflushed: bool,
    /// A flush failed. A later one that succeeds proves nothing about what was written before:
    /// systems forget pages that they could not write. So until those pieces are hashed again,
    /// none of them becomes durable and none is recorded.
    pub(super) lost: bool,
    /// Everything written so far is on the medium, blocks of unfinished pieces too.
    pub(super) synced: bool,
    /// A save failed: the next attempt waits for its timer.
    pub(super) held: bool,
    /// A flush or a save is out.
    pub(super) busy: bool,
    /// Pieces verified when the flush in flight was asked for; `None` for one that leaves the
    /// bytes in memory.
    pub(super) flushing: Option<Bitfield>,
}

impl Durability {
    /// Nothing is known to be on the medium.
    pub(super) fn new() -> Self {
        Self {
            durable: Bitfield::new(0),
            unflushed: false,
            lost: false,
            synced: false,
            held: false,
            busy: false,
            flushing: None,
        }
    }

    /// The files were opened: these pieces are known to have been flushed, by whomsoever.
    pub(super) fn opened(&mut self, durable: Bitfield) {
        let busy = self.busy;
        *self = Self::new();
        (self.durable, self.busy) = (durable, busy);
    }

    /// Files changed.
    pub(super) const fn wrote(&mut self) {
        self.unflushed = true;
        self.synced = false;
    }

    /// Whether a save may begin now.
    pub(super) const fn is_free(&self) -> bool {
        !(self.busy || self.held || self.lost)
    }

    pub(super) fn begin_flush(&mut self, have: Option<Bitfield>) {
        self.busy = true;
        self.unflushed = false;
        self.flushing = have;
    }

    /// A flush succeeded; `have` are the pieces verified by now.
    pub(super) fn flushed(&mut self, have: Option<&Bitfield>) {
        let Some(mut durable) = self.flushing.take().filter(|_| !self.lost) else {
            return;
        };
        // A piece may have been withdrawn meanwhile.
        let gone = |piece: &u32| have.is_none_or(|have| !have.get(*piece));
        let withdrawn: alloc::vec::Vec<u32> = durable.iter().filter(gone).collect();
        for piece in withdrawn {
            durable.clear(piece);
        }
        self.durable = durable;
        self.synced = !self.unflushed;
    }

    pub(super) fn flush_failed(&mut self) {
        self.lost |= self.flushing.take().is_some();
        self.wrote();
    }
}
