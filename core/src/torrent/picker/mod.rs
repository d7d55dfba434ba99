//! The piece picker: which blocks to request from which peer.
//!
//! ```text
//!  Open ──first block requested──▶ Partial ──last block──▶ Complete ──verified──▶ on disk
//!    ▲                               │                        │
//!    └──nothing left of it───────────┴────────failed──────────┘
//! ```
//!
//! The order of preference for a peer: its current piece; pieces with deadlines, nearest first; pieces that it suggested
//! (a torrent does not pass these at present);
//! then, for each priority, partial pieces that are as rare as the rarest new one, the next piece of the sequential window
//! or a rarest new piece, other partial pieces; then pieces that a fast peer downloads alone; and if no wanted block is
//! free, blocks that were requested from others (endgame). A fast peer gets a piece of its own, and slow peers download
//! shared pieces together, so that no slow peer delays a piece alone.
//!
//! Costs: a block of the current piece is O(1). Opening a piece is usually O(1), and at most one scan of the bitfield, 64
//! pieces at a time. A `have` is O(1).

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

/// The engine's id of a peer, below 2³⁰ − 1. Nothing is indexed by it, so it may contain a generation: a key must not name
/// another peer while [`Picker::contributors`] may return it.
pub type PeerKey = u32;

/// The priority of a piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not wanted.
    Skip,
    /// Requested after all others.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Requested before all others.
    High,
}

/// In-order picking, for streaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequential {
    /// The first piece. Earlier ones come last.
    pub from: u32,
    /// How many pieces from the first missing one on are picked in order. Pieces beyond them are picked rarest first. With
    /// `u32::MAX` all pieces are picked in order.
    pub window: u32,
}

/// What the engine tells the picker about a peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickHint<'a> {
    /// `Some` if the peer chokes us: only these pieces may be requested (BEP 6 *allowed fast*).
    pub choked_allowed: Option<&'a [u32]>,
    /// Pieces that the peer suggested (BEP 6 *suggest piece*).
    pub suggested: &'a [u32],
    /// Whether it is fast enough to download whole pieces alone, and to help slower peers in the endgame.
    pub fast: bool,
    /// How many pieces this call may open. `None` means as many as `count` blocks need.
    pub max_new_pieces: Option<u32>,
}

/// What the picker remembers about a peer. The engine stores it with the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct PickState {
    /// Its current piece.
    current: Option<u32>,
    /// The picker's epoch and the peer's number of pieces when no piece could be opened for it.
    dry: Option<(u32, u32)>,
    /// When there was no block to request a second time from it, and until when that is assumed, see [`pick`].
    spent: Option<((u32, u32, bool), Instant)>,
}

impl PickState {
    /// The peer's set of pieces was replaced: a search that failed may succeed now.
    pub const fn pieces_changed(&mut self) {
        self.dry = None;
        self.spent = None;
    }
}

/// The result of receiving a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It is new and has to be written.
    Fresh {
        /// Whether it was the last block of its piece, which has to be hashed now.
        piece_complete: bool,
    },
    /// It was received before.
    Duplicate,
    /// There is no such block, its piece is not wanted, or there is no room for it.
    Unwanted,
}

/// A partial piece.
#[derive(Clone, Copy, Debug)]
pub struct PartialPiece<'a>(&'a partial::Partial);

impl PartialPiece<'_> {
    /// Its index.
    #[must_use]
    pub const fn piece(&self) -> u32 {
        self.0.piece
    }

    /// The number of its blocks.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        self.0.len()
    }

    /// The number of received blocks.
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.0.received
    }

    /// The number of requested blocks.
    #[must_use]
    pub const fn requested(&self) -> u32 {
        self.0.asked()
    }

    /// Whether block number `block` was received.
    #[must_use]
    pub fn has(&self, block: u32) -> bool {
        self.0.has(block)
    }

    /// The received blocks as a set over `0..blocks()`.
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

/// The sizes of pieces and blocks.
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

    /// Block number `block`, which has to exist, of a piece of `size` bytes.
    fn block(piece: u32, size: u32, block: u32) -> BlockRef {
        let begin = block * BLOCK_LEN as u32;
        BlockRef {
            piece,
            begin,
            len: (size - begin).min(BLOCK_LEN as u32),
        }
    }

    /// The number of the block that is exactly `at`.
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
    /// The number of wanted pieces that are not on disk, and of their missing bytes.
    missing: u32,
    left: u64,
    /// The same as a set, high bit first.
    wanted: Vec<u64>,
    /// Pieces that failed with blocks of several peers, and the peer that downloads each alone now.
    doubted: BTreeMap<u32, PeerKey>,
}

impl Picker {
    /// Creates a picker for a torrent of which the pieces `have` are on disk. All pieces have normal priority. A `have` of
    /// another size counts as empty.
    #[must_use]
    pub fn new(info: &Info, have: Bitfield) -> Self {
        Self::with_sizes(info.total_len(), info.piece_len(), have)
    }

    /// The same from sizes in bytes, for at most `u32::MAX` pieces.
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

    /// A peer told its pieces. To be called before the first pick for it, and to be followed by exactly one
    /// [`Picker::peer_left`].
    pub fn peer_joined(&mut self, has: &Bitfield) {
        self.order.count_peer(has, true);
    }

    /// A peer with the pieces `has` disconnected. Its requests are taken back with [`Picker::aborted`] and
    /// [`Picker::peer_gone`].
    pub fn peer_left(&mut self, has: &Bitfield) {
        self.order.count_peer(has, false);
    }

    /// A peer with the pieces `has` has all pieces now, or none. `has` is changed accordingly. The cost is proportional to
    /// what changed since the peer last had all or none.
    pub fn peer_reset(&mut self, has: &mut Bitfield, all: bool) {
        self.order.count_peer(has, false);
        let touched = if all { has.fill() } else { has.empty() };
        self.order.note_work(touched);
        self.order.count_peer(has, true);
    }

    /// A peer with the pieces `has` has the pieces `has_now`. `has` is changed accordingly. The cost is a scan of both sets,
    /// and what changed.
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

    /// A peer has `piece` now, which it did not have before. `has_now` is its set with the piece.
    pub fn peer_has(&mut self, piece: u32, has_now: &Bitfield) {
        self.order.count_one(piece, has_now, true);
    }

    /// A peer does not have `piece` any more (BEP 54). `has_now` is its set without the piece.
    pub fn peer_lost(&mut self, piece: u32, has_now: &Bitfield) {
        self.order.count_one(piece, has_now, false);
    }

    /// How many entries the counting of availability has touched so far. Tests use it to measure the cost of a message.
    #[doc(hidden)]
    #[must_use]
    pub const fn availability_work(&self) -> u64 {
        self.order.work()
    }

    /// The number of peers that have `piece`.
    #[must_use]
    pub fn availability(&self, piece: u32) -> u32 {
        self.order.availability(piece)
    }

    /// The distributed copies, for statistics: the number of whole copies among the peers, and the thousandths of the pieces
    /// of which there is one more copy. O(pieces).
    #[must_use]
    pub fn distributed_copies(&self) -> (u32, u32) {
        let (least, more, all) = self.order.copies();
        (
            least,
            (u64::from(more) * 1000 / u64::from(all.max(1))) as u32,
        )
    }

    // ---- what is wanted ----

    /// Sets the priority of `piece`. A partial piece that is skipped keeps its blocks.
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

    /// The priority of `piece`. [`Priority::Skip`] beyond the last piece.
    #[must_use]
    pub fn priority(&self, piece: u32) -> Priority {
        self.order.priority(piece)
    }

    /// Enables or disables in-order picking.
    pub fn set_sequential(&mut self, sequential: Option<Sequential>) {
        self.sequential = sequential;
        self.floor = sequential.map_or(0, |s| s.from);
    }

    /// Sets or clears the deadline of `piece`. Pieces with a deadline come first, nearest first, whatever their priority,
    /// unless that is [`Priority::Skip`]. Clearing is O(deadlines).
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

    /// The pieces with a deadline, nearest first.
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

    /// The bytes of `piece` that were not received.
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

    // ---- partial pieces ----

    /// Opens a piece. `None` if there is no room for it.
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

    /// Forgets the blocks of a partial piece: it may be opened again.
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

    // ---- progress ----

    /// Whether a peer with these pieces has a wanted piece that is not on disk. O(pieces / 64).
    #[must_use]
    pub fn is_interesting(&self, has: &Bitfield) -> bool {
        if self.missing == 0 || has.count() == 0 {
            return false;
        }
        // A peer with that many pieces certainly has one of them.
        if has.count() > self.layout.pieces - self.missing {
            return true;
        }
        let mut words = self.wanted.iter().enumerate();
        words.any(|(i, &word)| word != 0 && word & has.word(i) != 0)
    }

    /// The number of wanted pieces in `has` that are not on disk. O(pieces / 64), and O(1) for a seed. A caller can keep the
    /// number up to date with [`Picker::wants`] for each `have`, and by subtracting one for each verified piece.
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

    /// The bytes of wanted pieces that were not received.
    #[must_use]
    pub const fn bytes_left(&self) -> u64 {
        self.left
    }

    /// Whether every wanted piece is on disk.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.missing == 0
    }

    /// The number of partial pieces, including those that are being hashed.
    #[must_use]
    pub const fn partial_count(&self) -> u32 {
        self.partials.live()
    }

    /// Whether every wanted block is received or requested, so that only duplicates can be requested.
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
