//! Partial pieces: from whom each block was requested, and who sent it.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec,
    vec::Vec,
};

use super::{PeerKey, order::CLASSES};
use crate::Instant;

/// The maximum number of partial pieces. It has to fit a slot number.
pub(super) const MAX_PARTIALS: usize = 4096;
/// The maximum number of blocks (4 bytes of state each) in all partial pieces: 4 GiB of payload. One piece is always
/// allowed, however large.
pub(super) const MAX_PARTIAL_BLOCKS: usize = 1 << 18;
/// The maximum number of peers from which the same block is requested.
pub(super) const MAX_ASKED: usize = 3;
/// How many slots are examined when a full table has to drop a piece.
const EVICT_PROBES: usize = 256;
/// Stands for "no slot".
const NO_SLOT: u16 = u16::MAX;
/// Stands for no peer: the sender of a block of an earlier session, the owner of a shared piece.
pub(super) const NOBODY: PeerKey = (1 << 30) - 1;

/// The state of a block in 4 bytes: two bits for the kind, thirty for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Free,
    Asked { peer: PeerKey, fast: bool },
    Received(PeerKey),
}

impl Cell {
    const FREE: Self = Self(0);

    pub(super) const fn asked(peer: PeerKey, fast: bool) -> Self {
        Self((1 + fast as u32) << 30 | peer & NOBODY)
    }

    const fn received(peer: PeerKey) -> Self {
        Self(3 << 30 | peer & NOBODY)
    }

    pub(super) const fn block(self) -> Block {
        let peer = self.0 & NOBODY;
        match self.0 >> 30 {
            0 => Block::Free,
            3 => Block::Received(peer),
            kind => Block::Asked {
                peer,
                fast: kind == 2,
            },
        }
    }
}

/// The list of [`Partials::lists`] for pieces that a fast peer downloads alone.
pub(super) const OWNED: usize = CLASSES;

/// From which peers blocks are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    FromTheSlow,
    FromAnyone,
}

/// The peer that requests blocks which were requested from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) peer: PeerKey,
    pub(super) fast: bool,
    pub(super) again: Again,
    /// The piece has made no progress for a long time.
    pub(super) stalled: bool,
    /// The piece has made no progress for a short time.
    pub(super) waits: bool,
}

/// A partial piece. An unused slot has no cells.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    pub(super) piece: u32,
    pub(super) cells: Vec<Cell>,
    pub(super) received: u32,
    /// The number of free blocks, which were not requested.
    pub(super) free: u32,
    /// A block before which no block is free.
    next: u32,
    /// Where the last search for a block to request again ended, for each [`Again`].
    again: [u32; 2],
    /// The fast peer that downloads it alone, or [`NOBODY`].
    pub(super) owner: PeerKey,
    /// When a block was last requested or received.
    pub(super) touched: Instant,
    /// Its priority class. [`CLASSES`] while it is skipped.
    pub(super) class: usize,
    /// Its list and its index there, if it has free blocks.
    listed: Option<(usize, u32)>,
}

impl Partial {
    pub(super) const fn is_live(&self) -> bool {
        !self.cells.is_empty()
    }

    pub(super) const fn len(&self) -> u32 {
        self.cells.len() as u32
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.is_live() && self.received == self.len()
    }

    pub(super) fn has(&self, block: u32) -> bool {
        self.cells
            .get(block as usize)
            .is_some_and(|c| matches!(c.block(), Block::Received(_)))
    }

    pub(super) const fn asked(&self) -> u32 {
        self.len() - self.received - self.free
    }
}

#[derive(Clone, Debug)]
pub(super) struct Partials {
    /// The slot in `table` of each piece.
    slots: Vec<u16>,
    table: Vec<Partial>,
    idle: Vec<u16>,
    live: u32,
    /// The number of blocks in `table`.
    blocks: usize,
    /// The slots with free blocks: the shared ones by class, then those with an owner.
    lists: [Vec<u16>; CLASSES + 1],
    /// Further peers from which a block was requested, beyond the one in its cell: piece, block and peer.
    extra: BTreeSet<(u32, u32, PeerKey)>,
    /// The pieces that were dropped to make room, to be reported to the owner.
    pub(super) evicted: VecDeque<u32>,
    /// Where the last scan of the table ended.
    pub(super) cursor: usize,
    /// The same for scans for blocks to request again, for each [`Again`].
    pub(super) again: [usize; 2],
    /// Counts changes after which a block may be requested again that could not be before: requests that were made or taken
    /// back, and changes of class.
    pub(super) moves: u32,
}

impl Partials {
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            slots: vec![NO_SLOT; pieces as usize],
            table: Vec::new(),
            idle: Vec::new(),
            live: 0,
            blocks: 0,
            lists: Default::default(),
            extra: BTreeSet::new(),
            evicted: VecDeque::new(),
            cursor: 0,
            again: [0; 2],
            moves: 0,
        }
    }

    pub(super) fn slot(&self, piece: u32) -> Option<u16> {
        self.slots
            .get(piece as usize)
            .copied()
            .filter(|&s| s != NO_SLOT)
    }

    pub(super) fn get(&self, slot: u16) -> &Partial {
        &self.table[usize::from(slot)]
    }

    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    /// The number of slots that are or were in use.
    pub(super) const fn table_len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partial> {
        self.table.iter().filter(|p| p.is_live())
    }

    pub(super) fn list(&self, list: usize) -> &[u16] {
        &self.lists[list]
    }

    pub(super) fn has_free(&self) -> bool {
        self.lists.iter().any(|l| !l.is_empty())
    }

    /// Whether a piece of `blocks` blocks can be opened.
    pub(super) const fn has_room(&self, blocks: u32) -> bool {
        self.live == 0
            || (self.live as usize) < MAX_PARTIALS
                && self.blocks + blocks as usize <= MAX_PARTIAL_BLOCKS
    }

    /// Opens a piece. All of its blocks are free.
    pub(super) fn open(
        &mut self,
        piece: u32,
        blocks: u32,
        class: usize,
        owner: PeerKey,
        now: Instant,
    ) -> u16 {
        let slot = self.idle.pop().unwrap_or_else(|| {
            self.table.push(Partial {
                piece,
                cells: Vec::new(),
                received: 0,
                free: 0,
                next: 0,
                again: [0; 2],
                owner: NOBODY,
                touched: now,
                class,
                listed: None,
            });
            (self.table.len() - 1) as u16
        });
        let part = &mut self.table[usize::from(slot)];
        part.piece = piece;
        part.cells.resize(blocks as usize, Cell::FREE);
        part.received = 0;
        part.free = blocks;
        part.next = 0;
        part.again = [0; 2];
        part.owner = owner;
        part.touched = now;
        part.class = class;
        self.slots[piece as usize] = slot;
        self.live += 1;
        self.blocks += blocks as usize;
        self.relist(slot);
        slot
    }

    /// Removes a piece and all requests for it. Its buffer is kept for the next piece.
    pub(super) fn close(&mut self, slot: u16) {
        let part = &mut self.table[usize::from(slot)];
        let piece = part.piece;
        self.blocks -= part.cells.len();
        part.cells.clear();
        part.free = 0;
        part.received = 0;
        self.slots[piece as usize] = NO_SLOT;
        self.live -= 1;
        self.idle.push(slot);
        self.relist(slot);
        while let Some(&mark) = self.extra.range((piece, 0, 0)..(piece + 1, 0, 0)).next() {
            self.extra.remove(&mark);
        }
    }

    /// The piece to drop to make room: one without requests, and with the fewest received blocks.
    pub(super) fn victim(&mut self) -> Option<u16> {
        let len = self.table.len();
        let from = self.cursor;
        self.cursor = from.wrapping_add(EVICT_PROBES);
        (0..len.min(EVICT_PROBES))
            .map(|i| ((from + i) % len) as u16)
            .filter(|&s| {
                let part = self.get(s);
                part.is_live() && !part.is_complete() && part.asked() == 0
            })
            .min_by_key(|&s| self.get(s).received)
    }

    pub(super) fn set_class(&mut self, slot: u16, class: usize) {
        self.table[usize::from(slot)].class = class;
        self.moves = self.moves.wrapping_add(1);
        self.relist(slot);
    }

    /// Removes the owner of a piece: others may download it, too.
    pub(super) fn share(&mut self, slot: u16) {
        self.table[usize::from(slot)].owner = NOBODY;
        self.relist(slot);
    }

    /// Moves a slot to its list, or removes it from all lists.
    fn relist(&mut self, slot: u16) {
        let part = &self.table[usize::from(slot)];
        let wanted = match part.class {
            _ if part.free == 0 => None,
            CLASSES.. => None,
            _ if part.owner != NOBODY => Some(OWNED),
            class => Some(class),
        };
        if part.listed.map(|(list, _)| list) == wanted {
            return;
        }
        if let Some((list, at)) = part.listed {
            self.lists[list].swap_remove(at as usize);
            if let Some(&moved) = self.lists[list].get(at as usize) {
                self.table[usize::from(moved)].listed = Some((list, at));
            }
        }
        self.table[usize::from(slot)].listed = wanted.map(|list| {
            self.lists[list].push(slot);
            (list, self.lists[list].len() as u32 - 1)
        });
    }

    /// Marks up to `count` free blocks as requested from `peer`, in order. Calls `each` with the number of each.
    pub(super) fn take(
        &mut self,
        slot: u16,
        cell: Cell,
        count: u32,
        now: Instant,
        mut each: impl FnMut(u32),
    ) -> u32 {
        let part = &mut self.table[usize::from(slot)];
        let count = count.min(part.free);
        if count == 0 {
            return 0;
        }
        let mut left = count;
        let mut block = part.next;
        while left > 0 {
            let place = &mut part.cells[block as usize];
            if *place == Cell::FREE {
                *place = cell;
                left -= 1;
                each(block);
            }
            block += 1;
        }
        part.next = block;
        part.free -= count;
        part.touched = now;
        self.moves = self.moves.wrapping_add(1);
        if part.free == 0 {
            part.owner = NOBODY;
            self.relist(slot);
        }
        count
    }

    /// Marks up to `count` requested blocks as requested from one more peer. Calls `each` with the number of each. Examines
    /// at most `probes` blocks, from where the last search ended, and subtracts their number from `probes`.
    pub(super) fn take_again(
        &mut self,
        slot: u16,
        asker: Asker,
        count: u32,
        probes: &mut usize,
        mut each: impl FnMut(u32),
    ) -> u32 {
        let part = &mut self.table[usize::from(slot)];
        let (blocks, kind) = (part.len(), asker.again as usize);
        let from = part.again[kind];
        let mut left = count;
        for i in 0..blocks {
            let block = if from + i < blocks {
                from + i
            } else {
                from + i - blocks
            };
            if left == 0 || *probes == 0 {
                self.table[usize::from(slot)].again[kind] = block;
                break;
            }
            *probes -= 1;
            if self.ask_again(slot, block, asker) {
                each(block);
                left -= 1;
            }
        }
        count - left
    }

    /// Marks a requested block as requested from one more peer. Returns `false` if that would be useless or too many.
    fn ask_again(&mut self, slot: u16, block: u32, asker: Asker) -> bool {
        let Asker {
            peer,
            fast,
            again,
            stalled,
            waits,
        } = asker;
        let part = &self.table[usize::from(slot)];
        let piece = part.piece;
        let Block::Asked {
            peer: first,
            fast: holder_is_fast,
        } = part.cells[block as usize].block()
        else {
            return false;
        };
        // A slow peer only takes over from slow peers, and from others whose piece has stalled: a block that a fast peer is
        // about to send would be received twice.
        let yields = stalled || !holder_is_fast || again == Again::FromAnyone && (fast || waits);
        if first == peer || !yields {
            return false;
        }
        let mut asked = 1;
        for other in self.also_asked(piece, block) {
            asked += 1;
            if other == peer {
                return false;
            }
        }
        if asked >= MAX_ASKED {
            return false;
        }
        self.extra.insert((piece, block, peer));
        true
    }

    /// The peers from which a block was requested, beyond the one in its cell.
    pub(super) fn also_asked(&self, piece: u32, block: u32) -> impl Iterator<Item = PeerKey> + '_ {
        let range = (!self.extra.is_empty()).then(|| {
            self.extra
                .range((piece, block, 0)..=(piece, block, PeerKey::MAX))
        });
        range.into_iter().flatten().map(|&(_, _, peer)| peer)
    }

    /// Marks a block as received. Returns `false` if it was received before. Requests to other peers stay marked until they
    /// are answered or aborted.
    pub(super) fn receive(&mut self, slot: u16, block: u32, peer: PeerKey, now: Instant) -> bool {
        let part = &mut self.table[usize::from(slot)];
        let piece = part.piece;
        let cell = &mut part.cells[block as usize];
        let before = cell.block();
        if !self.extra.is_empty() {
            self.extra.remove(&(piece, block, peer));
        }
        match before {
            Block::Received(_) => return false,
            Block::Asked { peer: first, .. } => {
                if first != peer {
                    self.extra.insert((piece, block, first));
                }
                *cell = Cell::received(peer);
            }
            Block::Free => {
                *cell = Cell::received(peer);
                part.free -= 1;
            }
        }
        part.received += 1;
        part.touched = now;
        if before == Block::Free && part.free == 0 {
            part.owner = NOBODY;
            self.relist(slot);
        }
        true
    }

    /// Takes back a request. Returns whether no block of the piece is requested or received.
    pub(super) fn abort(&mut self, slot: u16, block: u32, peer: PeerKey) -> bool {
        let part = &mut self.table[usize::from(slot)];
        let piece = part.piece;
        self.moves = self.moves.wrapping_add(1);
        if !self.extra.is_empty() && self.extra.remove(&(piece, block, peer)) {
            return false;
        }
        let cell = &mut part.cells[block as usize];
        match cell.block() {
            Block::Asked { peer: first, .. } if first == peer => {}
            _ => return false,
        }
        let heir = if self.extra.is_empty() {
            None
        } else {
            self.extra
                .range((piece, block, 0)..=(piece, block, PeerKey::MAX))
                .next()
                .copied()
        };
        if let Some(mark) = heir {
            self.extra.remove(&mark);
            *cell = Cell::asked(mark.2, true);
            return false;
        }
        *cell = Cell::FREE;
        part.free += 1;
        part.next = part.next.min(block);
        if part.owner == peer {
            part.owner = NOBODY;
        }
        let empty = part.free == part.len();
        self.relist(slot);
        empty
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        let mut live = 0;
        for (slot, part) in self.table.iter().enumerate() {
            let count =
                |f: fn(Block) -> bool| part.cells.iter().filter(|c| f(c.block())).count() as u32;
            assert_eq!(part.free, count(|b| b == Block::Free));
            assert_eq!(part.received, count(|b| matches!(b, Block::Received(_))));
            assert!(!part.cells[..part.cells.len().min(part.next as usize)].contains(&Cell::FREE));
            if let Some((list, at)) = part.listed {
                assert!(part.free > 0);
                assert_eq!(usize::from(self.lists[list][at as usize]), slot);
            }
            if part.is_live() {
                live += 1;
                assert_eq!(self.slot(part.piece), Some(slot as u16));
                assert!(part.free == 0 || part.class == CLASSES || part.listed.is_some());
            }
        }
        assert_eq!(live, self.live);
        assert!(self.table.len() <= MAX_PARTIALS);
        for &(piece, block, _) in &self.extra {
            let slot = self
                .slot(piece)
                .expect("a request for a piece that is not live");
            let cell = self.get(slot).cells[block as usize].block();
            assert_ne!(cell, Block::Free);
            assert!(self.also_asked(piece, block).count() <= MAX_ASKED);
        }
    }
}
