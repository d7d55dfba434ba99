//! The piece picker: which blocks to request from which peer.
//!
//! ```text
//!  Open ──first block requested──▶ Partial ──last block──▶ Complete ──verified──▶ on disk
//!    ▲                               │                        │
//!    └──nothing left of it───────────┴────────failed──────────┘
//! ```
//!
//! Order of preference for a peer: the piece it is on; deadlines, nearest first; what it
//! suggested; then per priority pieces that others began and that are as rare as the rarest new
//! one, the next of the sequential window or a rarest new piece, other pieces that were begun;
//! then pieces that a fast peer began for itself; and when no wanted block is free, blocks that
//! others were asked for (endgame). A fast peer gets a piece of its own, slow
//! ones fill shared pieces together, so no slow peer holds up a piece alone.
//!
//! Costs: a block of the current piece is O(1); opening a piece is O(1) in the usual case and
//! bounded by one pass over the bitfield, 64 pieces at a step, in the worst. A `have` is O(1).

#[cfg(test)]
mod behaviour;
mod order;
mod outcome;
mod partial;
mod pick;
#[cfg(test)]
mod tests;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use self::{
    order::{Order, Stand, class_of},
    partial::{MAX_PARTIALS, NOBODY, Partials},
};
use crate::{BLOCK_LEN, Bitfield, BlockRef, Instant, metainfo::Info};

/// The engine's name for a connection, below 2³⁰ − 1. Nothing is indexed by it, so it may carry a
/// generation: a key should not name another peer while [`Picker::contributors`] still may.
pub type PeerKey = u32;

/// How much a piece is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// After all others.
    Low,
    /// The usual.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// In-order picking for someone who reads along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequential {
    /// The first piece; earlier ones come last.
    pub from: u32,
    /// How many pieces from the first missing one on are picked in order; what is beyond them
    /// is picked rarest first. `u32::MAX`: all are.
    pub window: u32,
}

/// What the engine knows of a peer when it picks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickHint<'a> {
    /// We are choked: only these pieces may be requested (BEP 6 *allowed fast*).
    pub choked_allowed: Option<&'a [u32]>,
    /// Pieces the peer holds in memory (BEP 6 *suggest piece*).
    pub suggested: &'a [u32],
    /// Fast enough to fill whole pieces alone and to help slower peers in the endgame.
    pub fast: bool,
    /// Most pieces this call may open; `None` for as many as `count` needs.
    pub max_new_pieces: Option<u32>,
}

/// What the picker remembers of one peer. The engine keeps it beside the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickState {
    /// The piece it is on.
    current: Option<u32>,
    /// When nothing could be opened for it: the picker's epoch and its number of pieces.
    dry: Option<(u32, u32)>,
    /// When there was no block to ask it for a second time, and until when that is believed:
    /// see [`pick`].
    spent: Option<((u32, u32, bool), Instant)>,
}

impl PickState {
    /// The peer's pieces changed other than by gaining some: what was searched for in vain may
    /// be found now.
    pub const fn pieces_changed(&mut self) {
        self.dry = None;
        self.spent = None;
    }
}

/// What a received block was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// New: write it. `piece_complete`: it was the last of its piece, which wants hashing.
    Fresh {
        /// The piece has all its blocks.
        piece_complete: bool,
    },
    /// We have it.
    Duplicate,
    /// No such block, a piece that is not wanted, or no room for it.
    Unwanted,
}

/// A piece in the making.
#[derive(Clone, Copy, Debug)]
pub struct PartialPiece<'a>(&'a partial::Partial);

impl PartialPiece<'_> {
    /// Its index.
    #[must_use]
    pub const fn piece(&self) -> u32 {
        self.0.piece
    }

    /// How many blocks it has in all.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.0.len()
    }

    /// How many were received.
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.0.received
    }

    /// How many are requested.
    #[must_use]
    pub const fn requested(&self) -> u32 {
        self.0.asked()
    }

    /// Whether block number `block` was received.
    #[must_use]
    pub fn has(&self, block: u32) -> bool {
        self.0.has(block)
    }

    /// The received blocks as a set over `0..blocks()`, for the resume record.
    #[must_use]
    pub fn to_bitfield(&self) -> Bitfield {
        let mut set = Bitfield::new(self.blocks());
        for block in 0..self.blocks() {
            if self.has(block) {
                set.set(block);
            }
        }
        set
    }
}

/// Sizes of pieces and blocks.
#[derive(Clone, Copy, Debug)]
struct Layout {
    total: u64,
    piece_len: u32,
    pieces: u32,
}

impl Layout {
    fn piece_size(self, piece: u32) -> u32 {
        let start = u64::from(piece) * u64::from(self.piece_len);
        self.total
            .saturating_sub(start)
            .min(u64::from(self.piece_len)) as u32
    }

    fn blocks_in(self, piece: u32) -> u32 {
        self.piece_size(piece).div_ceil(BLOCK_LEN as u32)
    }

    /// Block `block` of a piece of `size` bytes; `block` is in range.
    fn block(piece: u32, size: u32, block: u32) -> BlockRef {
        let begin = block * BLOCK_LEN as u32;
        BlockRef {
            piece,
            begin,
            len: (size - begin).min(BLOCK_LEN as u32),
        }
    }

    /// The number of the block that `at` names exactly.
    fn number(self, at: BlockRef) -> Option<u32> {
        let size = self.piece_size(at.piece);
        let block = at.begin / BLOCK_LEN as u32;
        (at.begin < size && Self::block(at.piece, size, block) == at).then_some(block)
    }
}

/// Decides which blocks of a torrent to request from which peer.
#[derive(Clone, Debug)]
pub struct Picker {
    layout: Layout,
    have: Bitfield,
    order: Order,
    partials: Partials,
    sequential: Option<Sequential>,
    /// No wanted piece from `sequential.from` on is before this one.
    floor: u32,
    deadlines: BTreeSet<(Instant, u32)>,
    /// Wanted pieces that are not on disk, and the bytes they lack.
    missing: u32,
    left: u64,
    /// The same as a set, high bit first.
    wanted: Vec<u64>,
    /// Pieces that several peers made wrong together, and who fetches each alone now.
    doubted: BTreeMap<u32, PeerKey>,
}

impl Picker {
    /// A picker for a torrent of which the pieces `have` are on disk; everything is wanted at
    /// normal priority. A `have` of another size counts as empty.
    #[must_use]
    pub fn new(info: &Info, have: Bitfield) -> Self {
        Self::with_sizes(info.total_len(), info.piece_len(), have)
    }

    /// The same from bare sizes, in bytes. No more than `u32::MAX` pieces.
    #[must_use]
    pub fn with_sizes(total: u64, piece_len: u32, have: Bitfield) -> Self {
        let piece_len = piece_len.max(1);
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_len))).unwrap_or(u32::MAX);
        let have = if have.len() == pieces {
            have
        } else {
            Bitfield::new(pieces)
        };
        let mut this = Self {
            layout: Layout {
                total,
                piece_len,
                pieces,
            },
            order: Order::new(&have),
            partials: Partials::new(pieces),
            have,
            sequential: None,
            floor: 0,
            deadlines: BTreeSet::new(),
            doubted: BTreeMap::new(),
            missing: 0,
            left: 0,
            wanted: alloc::vec![0; pieces.div_ceil(64) as usize],
        };
        for piece in 0..pieces {
            if !this.have.get(piece) {
                this.want(piece, true);
            }
        }
        this
    }

    // ---- availability ----

    /// A peer told us its pieces; before the first pick for it. Exactly one [`Picker::peer_left`] must follow.
    pub fn peer_joined(&mut self, has: &Bitfield) {
        self.order.count_peer(has, true);
    }

    /// A peer is gone, with the pieces it has told us of. Its requests are taken back with
    /// [`Picker::aborted`] and [`Picker::peer_gone`].
    pub fn peer_left(&mut self, has: &Bitfield) {
        self.order.count_peer(has, false);
    }

    /// A peer that joined with the pieces `has` has all pieces now, or none; `has` is changed
    /// accordingly. Costs what it changed since it last had all or none.
    pub fn peer_reset(&mut self, has: &mut Bitfield, all: bool) {
        self.order.count_peer(has, false);
        let touched = if all { has.fill() } else { has.empty() };
        self.order.note_work(touched);
        self.order.count_peer(has, true);
    }

    /// A peer that joined with the pieces `has` has others now; `has` is changed accordingly.
    /// Costs what changed, beyond a look at both sets.
    pub fn peer_replaced(&mut self, has: &mut Bitfield, has_now: &Bitfield) {
        if has.distance(has_now) > self.order.few() {
            self.order.count_peer(has, false);
            has.clone_from(has_now);
            self.order.count_peer(has, true);
            return;
        }
        for word in 0..has.words() {
            let mut changed = has.word(word) ^ has_now.word(word);
            while changed != 0 {
                let bit = changed.leading_zeros();
                changed &= !(1 << 63 >> bit);
                let piece = word as u32 * 64 + bit;
                let came = has.set(piece);
                if !came {
                    has.clear(piece);
                }
                self.order.count_one(piece, has, came);
            }
        }
    }

    /// A peer got `piece`, which it did not have; `has_now` is its set with the piece.
    pub fn peer_has(&mut self, piece: u32, has_now: &Bitfield) {
        self.order.count_one(piece, has_now, true);
    }

    /// A peer no longer has `piece` (BEP 54); `has_now` is its set without the piece.
    pub fn peer_lost(&mut self, piece: u32, has_now: &Bitfield) {
        self.order.count_one(piece, has_now, false);
    }

    /// How many entries the bookkeeping of availability has touched so far: for tests of what a
    /// message costs.
    #[doc(hidden)]
    #[must_use]
    pub const fn availability_work(&self) -> u64 {
        self.order.work()
    }

    /// Peers that have `piece`.
    #[must_use]
    pub fn availability(&self, piece: u32) -> u32 {
        self.order.availability(piece)
    }

    /// Distributed copies, for statistics: whole copies among the peers, and thousandths of the
    /// pieces of which there is one copy more. O(pieces).
    #[must_use]
    pub fn distributed_copies(&self) -> (u32, u32) {
        let (least, more, all) = self.order.copies();
        (
            least,
            (u64::from(more) * 1000 / u64::from(all.max(1))) as u32,
        )
    }

    // ---- what is wanted ----

    /// Changes how much `piece` is wanted. A piece in the making that is skipped keeps its
    /// blocks.
    pub fn set_priority(&mut self, piece: u32, priority: Priority) {
        let old = self.order.set_priority(piece, priority);
        if let Some(slot) = self.partials.slot(piece) {
            self.partials.set_class(slot, class_of(priority));
        }
        let (was, is) = (old != Priority::Skip, priority != Priority::Skip);
        if piece < self.layout.pieces && was != is && !self.have.get(piece) {
            self.want(piece, is);
        }
    }

    /// How much `piece` is wanted; [`Priority::Skip`] beyond the last.
    #[must_use]
    pub fn priority(&self, piece: u32) -> Priority {
        self.order.priority(piece)
    }

    /// Switches in-order picking on or off.
    pub fn set_sequential(&mut self, sequential: Option<Sequential>) {
        self.sequential = sequential;
        self.floor = sequential.map_or(0, |s| s.from);
    }

    /// Sets or clears the time by which `piece` is needed. Pieces with a deadline come first,
    /// nearest first, whatever their priority, unless that is [`Priority::Skip`]. Clearing is
    /// O(deadlines).
    pub fn set_deadline(&mut self, piece: u32, deadline: Option<Instant>) {
        if !self.deadlines.is_empty() {
            self.deadlines.retain(|&(_, p)| p != piece);
        }
        if let Some(at) = deadline
            && piece < self.layout.pieces
            && !self.have.get(piece)
        {
            self.deadlines.insert((at, piece));
        }
    }

    /// Pieces with a deadline, nearest first.
    pub fn deadlines(&self) -> impl Iterator<Item = (u32, Instant)> + '_ {
        self.deadlines.iter().map(|&(by, piece)| (piece, by))
    }

    fn want(&mut self, piece: u32, wanted: bool) {
        let bytes = u64::from(self.bytes_missing_of(piece));
        if wanted {
            self.missing += 1;
            self.left += bytes;
            if self.sequential.is_some_and(|s| s.from <= piece) {
                self.floor = self.floor.min(piece);
            }
        } else {
            self.missing -= 1;
            self.left -= bytes;
        }
        self.wanted[piece as usize / 64] ^= 1 << 63 >> (piece % 64);
    }

    /// Bytes of `piece` not received.
    fn bytes_missing_of(&self, piece: u32) -> u32 {
        let size = self.layout.piece_size(piece);
        let Some(slot) = self.partials.slot(piece) else {
            return size;
        };
        let part = self.partials.get(slot);
        let received = (0..part.len())
            .filter(|&block| part.has(block))
            .map(|block| Layout::block(piece, size, block).len);
        size - received.sum::<u32>()
    }

    // ---- pieces in the making ----

    /// Opens a piece; `None` if there is no room for it.
    fn open(&mut self, piece: u32, owner: PeerKey, now: Instant) -> Option<u16> {
        let blocks = self.layout.blocks_in(piece);
        if !self.partials.has_room(blocks) {
            let victim = self.partials.victim()?;
            let evicted = self.partials.get(victim).piece;
            self.abandon(victim);
            if self.partials.evicted.len() == MAX_PARTIALS {
                self.partials.evicted.pop_front();
            }
            self.partials.evicted.push_back(evicted);
            if !self.partials.has_room(blocks) {
                return None;
            }
        }
        let class = class_of(self.order.priority(piece));
        self.order.set_stand(piece, Stand::Busy);
        Some(self.partials.open(piece, blocks, class, owner, now))
    }

    /// Forgets what there is of a piece: it is open again.
    fn abandon(&mut self, slot: u16) {
        let piece = self.partials.get(slot).piece;
        if self.order.priority(piece) != Priority::Skip {
            let size = self.layout.piece_size(piece);
            self.left += u64::from(size - self.bytes_missing_of(piece));
        }
        self.partials.close(slot);
        if let Some(alone) = self.doubted.get_mut(&piece) {
            *alone = NOBODY;
        }
        self.order.set_stand(piece, Stand::Open);
    }

    // ---- where we stand ----

    /// Whether a peer with these pieces has one that we want. O(pieces / 64).
    #[must_use]
    pub fn is_interesting(&self, has: &Bitfield) -> bool {
        if self.missing == 0 || has.count() == 0 {
            return false;
        }
        // With so many it has one of them for certain.
        if has.count() > self.layout.pieces - self.missing {
            return true;
        }
        let mut words = self.wanted.iter().enumerate();
        words.any(|(i, &word)| word != 0 && word & has.word(i) != 0)
    }

    /// How many pieces that we want are in `has`. O(pieces / 64), and O(1) for a seed. With
    /// [`Picker::wants`] on each `have`, and one less for each piece verified, a peer's count can
    /// be kept up to date.
    #[must_use]
    pub fn interesting(&self, has: &Bitfield) -> u32 {
        has.count_common(&self.wanted, self.missing)
    }

    /// Whether `piece` is wanted and not on disk.
    #[must_use]
    pub fn wants(&self, piece: u32) -> bool {
        self.wanted
            .get(piece as usize / 64)
            .is_some_and(|word| word & (1 << 63 >> (piece % 64)) != 0)
    }

    /// The pieces on disk.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Wanted pieces that are not on disk.
    #[must_use]
    pub const fn missing(&self) -> u32 {
        self.missing
    }

    /// Bytes of wanted pieces not received.
    #[must_use]
    pub const fn bytes_left(&self) -> u64 {
        self.left
    }

    /// Whether every wanted piece is on disk.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.missing == 0
    }

    /// Pieces in the making, those that wait for their hash included.
    #[must_use]
    pub const fn partial_count(&self) -> u32 {
        self.partials.live()
    }

    /// Whether every wanted block is received or requested, so that only duplicates are left.
    #[must_use]
    pub fn in_endgame(&self) -> bool {
        self.missing > 0 && self.order.open_total() == 0 && !self.partials.has_free()
    }

    #[cfg(test)]
    fn check(&self) {
        self.order.check();
        self.partials.check();
    }
}
