//! Pieces in the making: who was asked for each block, and who sent it.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec,
    vec::Vec,
};

use super::{PeerKey, order::CLASSES};
use crate::Instant;

/// Most pieces in the making at once; the count must fit a slot number.
pub(super) const MAX_PARTIALS: usize = 4096;
/// Most blocks (4 bytes of state each) in all pieces in the making; 4 GiB of payload. One
/// piece is always allowed, however large.
pub(super) const MAX_PARTIAL_BLOCKS: usize = 1 << 18;
/// Most peers asked for the same block.
pub(super) const MAX_ASKED: usize = 3;
/// Slots looked at when a full table must give up a piece.
const EVICT_PROBES: usize = 256;
/// Stands for "no slot".
const NO_SLOT: u16 = u16::MAX;
/// Stands for "nobody": the sender of a block that came from disk, the owner of a shared piece.
pub(super) const NOBODY: PeerKey = (1 << 30) - 1;

/// A block's state in 4 bytes: two bits of kind, thirty of peer.
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

/// The list of [`Partials::lists`] for pieces that a fast peer fills alone.
pub(super) const OWNED: usize = CLASSES;

/// From whom blocks are taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    FromTheSlow,
    FromAnyone,
}

/// Who asks for blocks that others were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub(super) peer: PeerKey,
    pub(super) fast: bool,
    pub(super) again: Again,
    /// The piece has made no progress for long.
    pub(super) stalled: bool,
    /// It has made none for a moment.
    pub(super) waits: bool,
}

/// One piece in the making. An idle slot has no cells.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    pub(super) piece: u32,
    pub(super) cells: Vec<Cell>,
    pub(super) received: u32,
    /// Blocks that nobody was asked for.
    pub(super) free: u32,
    /// No free block before this one.
    next: u32,
    /// Where the last search for a block to ask for again ended, for either [`Again`].
    again: [u32; 2],
    /// The fast peer that fills it alone, or [`NOBODY`].
    pub(super) owner: PeerKey,
    /// Last request or receipt.
    pub(super) touched: Instant,
    /// Priority class; [`CLASSES`] while skipped.
    pub(super) class: usize,
    /// Which list it stands in and where, if it has free blocks.
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
    /// Per piece, its slot in `table`.
    slots: Vec<u16>,
    table: Vec<Partial>,
    idle: Vec<u16>,
    live: u32,
    /// Live blocks in `table`.
    blocks: usize,
    /// Slots with free blocks: shared ones by class, then the owned ones.
    lists: [Vec<u16>; CLASSES + 1],
    /// Further peers asked for a block, beyond the one its cell names: (piece, block, peer).
    extra: BTreeSet<(u32, u32, PeerKey)>,
    /// Pieces given up for room, for the owner to hear of.
    pub(super) evicted: VecDeque<u32>,
    /// Where the last walk over the table ended.
    pub(super) cursor: usize,
    /// The same for walks that look for blocks to ask for again, for either [`Again`].
    pub(super) again: [usize; 2],
    /// Counts what may let a block be asked for again that could not be before: requests made
    /// and taken back, and changes of class. Receiving a block and asking again only take away.
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

    /// Slots in use or once used.
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

    /// Opens a piece: all its blocks are free.
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

    /// Forgets a piece and every request for it. Its buffer is kept for the next piece.
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

    /// A live piece with no request out and the fewest blocks received, to make room.
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

    /// Takes the piece from its owner: others may fill it too.
    pub(super) fn share(&mut self, slot: u16) {
        self.table[usize::from(slot)].owner = NOBODY;
        self.relist(slot);
    }

    /// Puts a slot into the list where it belongs, or into none.
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

    /// Marks up to `count` free blocks as asked from `peer`, in order; calls `each` with the
    /// number of each.
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

    /// Asks one more peer for blocks that are out, `count` at most; calls `each` with the number
    /// of each. Looks at no more than `probes` blocks, from where the last search ended, and
    /// takes those from `probes`.
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

    /// Asks one more peer for a block that is out. `false` if that would be pointless or too many.
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
        // A slow peer takes over only from slow peers, and from others whose piece has stopped: what
        // a fast one is about to send would come twice, and what waits there for a turn may be late.
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

    /// The peers asked for a block beyond the one in its cell.
    pub(super) fn also_asked(&self, piece: u32, block: u32) -> impl Iterator<Item = PeerKey> + '_ {
        let range = (!self.extra.is_empty()).then(|| {
            self.extra
                .range((piece, block, 0)..=(piece, block, PeerKey::MAX))
        });
        range.into_iter().flatten().map(|&(_, _, peer)| peer)
    }

    /// Marks a block as received; `false` if it already was. Others asked stay marked until they
    /// answer or are aborted.
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

    /// Takes back a request. Returns whether nothing of the piece is left, requested or received.
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
