//! The search for blocks to request, in the order of preference of the [picker](super).

use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Layout, PeerKey, PickHint, PickState, Picker, Sequential,
    order::{CLASSES, Search, class_of},
    partial::{Again, Asker, Cell, NOBODY, OWNED},
};
use crate::{Bitfield, BlockRef, Cx, Instant};

/// A torrent with fewer partial and verified pieces than this picks at random: it needs a piece to trade soon, and the
/// rarest piece is the slowest to download.
pub(super) const RANDOM_FIRST: u32 = 4;
/// How many partial pieces are examined to find one that the peer has.
const SHARED_PROBES: usize = 128;
/// With more shared pieces with free blocks than this, these are completed before others are opened, however common they
/// are, as their blocks may wait in memory for adjacent ones. A swarm of 30 has about 20 without this limit.
const MAX_SHARED: usize = 64;
/// How many blocks are examined to find one to request twice. The next search continues where one ended, so larger pieces
/// take more searches.
const ENDGAME_PROBES: usize = 2048;
/// A piece without progress for this long may be completed by any peer. The value is our choice: well above the round-trip
/// time of a deep request queue.
pub(super) const STALLED: Duration = Duration::from_secs(20);
/// In the endgame, blocks of a piece without progress for this long may be requested from slow peers although they were
/// requested from fast ones. A fast peer sends several blocks per second. Under an upload limit it is only fast during its
/// turn, and its next turn may be ten seconds later.
const WAITS: Duration = Duration::from_secs(2);
/// How long after a search for a block to request twice failed the next search is made, as pieces may have stalled in the
/// meantime.
const SPENT: Duration = Duration::from_secs(5);
/// How many pieces are examined for [`STALLED`] ones whenever a peer finds no piece to open, or a fast one opens one.
const STALL_PROBES: usize = 4;
/// If a deadline is this near, fast peers request blocks a second time.
const LATE: Duration = Duration::from_secs(3);
/// How many deadlines are examined by one pick.
const DEADLINE_PROBES: usize = 32;
/// How many entries of a peer's lists (allowed fast, suggested) are examined by one pick.
const MAX_HINTED: usize = 64;

/// One call of [`Picker::pick`].
struct Job<'a> {
    peer: PeerKey,
    has: &'a Bitfield,
    fast: bool,
    now: Instant,
    /// The number of blocks that are still to be picked.
    left: u32,
    /// The number of pieces that may still be opened.
    new_left: u32,
    out: &'a mut Vec<BlockRef>,
}

impl Picker {
    /// Appends up to `count` blocks to request from `peer` to `out`, and marks them as requested from it. `state` is the
    /// state of earlier calls for this peer, `has` its set of pieces.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of it changes with every call"
    )]
    pub fn pick(
        &mut self,
        cx: &mut Cx<'_>,
        peer: PeerKey,
        state: &mut PickState,
        has: &Bitfield,
        hint: PickHint<'_>,
        count: u32,
        out: &mut Vec<BlockRef>,
    ) {
        if has.len() != self.layout.pieces {
            return;
        }
        self.order.refresh();
        let mut job = Job {
            peer,
            has,
            fast: hint.fast,
            now: cx.now,
            left: count,
            new_left: hint.max_new_pieces.unwrap_or(u32::MAX),
            out,
        };
        if let Some(allowed) = hint.choked_allowed {
            self.pick_allowed(cx, &mut job, allowed);
            return;
        }
        if !self.deadlines.is_empty() {
            self.pick_deadlines(&mut job);
        }
        self.pick_current(&mut job, *state);
        if job.left > 0 {
            self.pick_other(cx, &mut job, state, hint.suggested);
        }
    }

    /// Picks from the allowed fast set while the peer chokes us: partial pieces, then pieces from a random index on. The set
    /// is derived from our IP address, and peers of one network that all start with its first piece have nothing to trade.
    fn pick_allowed(&mut self, cx: &mut Cx<'_>, job: &mut Job<'_>, allowed: &[u32]) {
        let allowed = &allowed[..allowed.len().min(MAX_HINTED)];
        if allowed.is_empty() {
            return;
        }
        for &piece in allowed {
            if self.partials.slot(piece).is_some() {
                self.pick_piece(job, piece, NOBODY);
            }
        }
        let (later, first) = allowed.split_at(cx.below(allowed.len() as u32) as usize);
        for &piece in first.iter().chain(later) {
            self.pick_piece(job, piece, NOBODY);
        }
    }

    /// Picks from everything except the peer's current piece.
    fn pick_other(
        &mut self,
        cx: &mut Cx<'_>,
        job: &mut Job<'_>,
        state: &mut PickState,
        suggested: &[u32],
    ) {
        for &piece in suggested.iter().take(MAX_HINTED) {
            self.pick_suggested(job, piece);
        }
        let mut dry = state.dry == Some((self.order.epoch(), job.has.count()));
        let was_dry = dry;
        for class in 0..CLASSES {
            if !was_dry {
                dry = self.pick_new(cx, job, state, class) && (class == 0 || dry);
            }
            self.pick_shared(job, class, u32::MAX);
        }
        state.dry = dry.then(|| (self.order.epoch(), job.has.count()));
        self.pick_listed(job, OWNED, u32::MAX);
        let nothing_free = self.order.open_total() == 0 && !self.partials.has_free();
        let full = !self.partials.has_room(self.layout.blocks_in(0));
        if job.left > 0 && (nothing_free || full && job.fast) {
            self.pick_again(job, state);
        } else if job.left > 0 {
            self.pick_stalled(job);
        }
    }

    fn pick_current(&mut self, job: &mut Job<'_>, state: PickState) {
        let Some(slot) = state.current.and_then(|piece| self.partials.slot(piece)) else {
            return;
        };
        let part = self.partials.get(slot);
        let taken = part.owner != job.peer && part.owner != NOBODY;
        if taken || part.class == CLASSES || !job.has.get(part.piece) {
            return;
        }
        if part.owner == job.peer && !job.fast {
            self.partials.share(slot);
        }
        self.take(job, slot);
    }

    fn pick_deadlines(&mut self, job: &mut Job<'_>) {
        let mut near = [(Instant::ORIGIN, 0); DEADLINE_PROBES];
        let mut len = 0;
        for (place, &deadline) in near.iter_mut().zip(&self.deadlines) {
            *place = deadline;
            len += 1;
        }
        for &(at, piece) in &near[..len] {
            if job.left == 0 {
                return;
            }
            self.pick_piece(job, piece, NOBODY);
            if job.fast
                && at <= job.now + LATE
                && job.has.get(piece)
                && let Some(slot) = self.partials.slot(piece)
            {
                let mut probes = ENDGAME_PROBES;
                self.take_again(job, slot, Again::FromAnyone, &mut probes);
            }
        }
    }

    /// Picks a suggested piece, unless there are pieces of a higher priority.
    fn pick_suggested(&mut self, job: &mut Job<'_>, piece: u32) {
        let class = class_of(self.order.priority(piece));
        if class < CLASSES && (0..class).all(|better| self.order.open_in(better) == 0) {
            self.pick_piece(job, piece, NOBODY);
        }
    }

    /// Picks blocks of one piece, and opens it if necessary, unless another peer downloads it alone.
    fn pick_piece(&mut self, job: &mut Job<'_>, piece: u32, owner: PeerKey) {
        if job.left == 0 || !job.has.get(piece) {
            return;
        }
        if let Some(slot) = self.partials.slot(piece) {
            if self.partials.get(slot).class < CLASSES {
                self.take(job, slot);
            }
        } else if self.order.is_open(piece)
            && job.new_left > 0
            && let Some(slot) = self.open(piece, owner, job.now)
        {
            job.new_left -= 1;
            self.take(job, slot);
        }
    }

    /// Picks blocks of shared partial pieces that at most `copies` peers have.
    fn pick_shared(&mut self, job: &mut Job<'_>, class: usize, copies: u32) {
        if job.left > 0 {
            self.pick_listed(job, class, copies);
        }
    }

    fn pick_listed(&mut self, job: &mut Job<'_>, list: usize, copies: u32) {
        let mut probes = SHARED_PROBES;
        let mut at = self.partials.list(list).len();
        // From the end, as a slot that is removed from the list is replaced by one that was examined before.
        while at > 0 && job.left > 0 && probes > 0 {
            at -= 1;
            probes -= 1;
            let slot = self.partials.list(list)[at];
            let piece = self.partials.get(slot).piece;
            if job.has.get(piece)
                && (copies == u32::MAX || self.order.availability(piece) <= copies)
            {
                self.take(job, slot);
            }
        }
    }

    /// Opens pieces of one class, after shared partial pieces that are as rare. What a seed sends of a common piece is lost
    /// for a swarm that waits for the pieces that only the seed has. If the order matters, or there are too many partial
    /// pieces, shared ones come first. Returns whether the peer certainly has no more pieces to open.
    fn pick_new(
        &mut self,
        cx: &mut Cx<'_>,
        job: &mut Job<'_>,
        state: &mut PickState,
        class: usize,
    ) -> bool {
        let begun = self.partials.list(class).len();
        let finish = self.sequential.is_some() || begun > MAX_SHARED;
        if finish {
            self.pick_shared(job, class, u32::MAX);
        }
        while job.left > 0 && job.new_left > 0 {
            let piece = match self.search(cx, job.has, class) {
                Search::Found(piece) => piece,
                Search::Nothing => return true,
                Search::Unknown => return false,
            };
            if begun > 0 && !finish {
                self.pick_shared(job, class, self.order.availability(piece));
                if job.left == 0 {
                    return false;
                }
            }
            let owner = if job.fast { job.peer } else { NOBODY };
            let Some(slot) = self.open(piece, owner, job.now) else {
                return false;
            };
            job.new_left -= 1;
            state.current = Some(piece);
            self.take(job, slot);
            if job.fast {
                self.pick_stalled(job);
            }
        }
        false
    }

    fn search(&mut self, cx: &mut Cx<'_>, has: &Bitfield, class: usize) -> Search {
        let pieces = self.layout.pieces;
        if let Some(Sequential { window, .. }) = self.sequential {
            while self.floor < pieces && !self.wants(self.floor) {
                self.floor += 1;
            }
            let to = self.floor.saturating_add(window);
            if let found @ Search::Found(_) = self.order.first(class, has, self.floor, to) {
                return found;
            }
        }
        if self.have.count() + self.partials.live() < RANDOM_FIRST {
            let from = cx.below(pieces);
            if let found @ Search::Found(_) = self.order.first(class, has, from, pieces) {
                return found;
            }
        }
        self.order.rarest(cx, class, has)
    }

    /// Endgame: picks blocks that were requested from others, those of slow peers first. If there is none for a peer, the
    /// search is not repeated before something changed: near the end, each received block causes a pick for every peer.
    fn pick_again(&mut self, job: &mut Job<'_>, state: &mut PickState) {
        let key = (self.partials.moves, job.has.count(), job.fast);
        if let Some((spent, until)) = state.spent
            && spent == key
            && job.now < until
        {
            return;
        }
        let len = self.partials.table_len();
        let mut all = true;
        for again in [Again::FromTheSlow, Again::FromAnyone] {
            let mut probes = ENDGAME_PROBES;
            let from = self.partials.again[again as usize];
            for i in 0..len {
                if job.left == 0 || probes == 0 {
                    break;
                }
                probes -= 1;
                let at = (from + i) % len;
                self.partials.again[again as usize] = at;
                let part = self.partials.get(at as u16);
                if part.is_live() && part.class < CLASSES && job.has.get(part.piece) {
                    self.take_again(job, at as u16, again, &mut probes);
                }
            }
            // The probes may run out within a piece.
            all &= probes > 0;
        }
        // Whether a piece that failed before is left to one peer also depends on the time.
        if job.left > 0 && all && self.doubted.is_empty() {
            state.spent = Some((key, job.now + SPENT));
        }
    }

    /// Picks blocks of a piece that has made no progress for a long time, if one is found.
    fn pick_stalled(&mut self, job: &mut Job<'_>) {
        let len = self.partials.table_len();
        for _ in 0..STALL_PROBES.min(len) {
            self.partials.cursor = (self.partials.cursor + 1) % len;
            let slot = self.partials.cursor as u16;
            let part = self.partials.get(slot);
            if part.is_live()
                && part.class < CLASSES
                && part.touched + STALLED < job.now
                && job.has.get(part.piece)
            {
                self.take(job, slot);
                let mut probes = ENDGAME_PROBES;
                self.take_again(job, slot, Again::FromAnyone, &mut probes);
            }
        }
    }

    /// Whether another peer downloads a piece alone, and has not stalled.
    fn is_anothers(&self, job: &Job<'_>, slot: u16) -> bool {
        let part = self.partials.get(slot);
        self.doubted
            .get(&part.piece)
            .is_some_and(|alone| *alone != NOBODY && *alone != job.peer)
            && part.touched + STALLED >= job.now
    }

    fn take(&mut self, job: &mut Job<'_>, slot: u16) {
        let piece = self.partials.get(slot).piece;
        if !self.doubted.is_empty() {
            if self.is_anothers(job, slot) {
                return;
            }
            if let Some(alone) = self.doubted.get_mut(&piece) {
                *alone = job.peer;
            }
        }
        let size = self.layout.piece_size(piece);
        let (cell, out) = (Cell::asked(job.peer, job.fast), &mut *job.out);
        job.left -= self.partials.take(slot, cell, job.left, job.now, |block| {
            out.push(Layout::block(piece, size, block));
        });
    }

    fn take_again(&mut self, job: &mut Job<'_>, slot: u16, again: Again, probes: &mut usize) {
        let part = self.partials.get(slot);
        if part.is_complete() || self.is_anothers(job, slot) {
            return;
        }
        let piece = part.piece;
        let asker = Asker {
            peer: job.peer,
            fast: job.fast,
            again,
            stalled: part.touched + STALLED < job.now,
            waits: part.touched + WAITS < job.now,
        };
        let size = self.layout.piece_size(piece);
        let (left, out) = (job.left, &mut *job.out);
        job.left -= self
            .partials
            .take_again(slot, asker, left, probes, |block| {
                out.push(Layout::block(piece, size, block));
            });
    }
}
