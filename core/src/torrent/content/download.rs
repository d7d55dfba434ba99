//! Downloading: blocks are requested and received, and pieces are written and verified.

use alloc::vec::Vec;
use core::ops::Range;

use super::assembly::{Assembly, Run, Step};
use super::open::{Access, Open};
use super::verifier::{Judgement, Verifier};
use super::{Content, Known, Store};
use crate::metainfo::{FileKind, Info};
use crate::op::{HashJob, ReadJob, WriteJob};
use crate::throttle::Direction;
use crate::torrent::conn::member::Member;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::torrent::picker::{PeerKey, PickHint, Received};
use crate::{Block, BlockRef, Hasher, Op, TorrentId};

/// The maximum number of blocks that one op writes.
const MAX_RUN: usize = 64;
/// The rate in bytes per second from which a peer counts as fast. A fast peer downloads whole pieces alone.
const FAST: u64 = 64 << 10;

/// The pieces that are being downloaded.
pub(crate) struct Downloads<'a> {
    torrent: TorrentId,
    info: &'a Info,
    padded: bool,
    open: &'a mut Open,
}

/// How an attempt to request blocks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refill {
    Done,
    /// No block of the pool is free: those that wait should be written.
    Scarce,
}

impl Content {
    /// The pieces that are being downloaded, if the files are open. `torrent` is whose content this is.
    pub(crate) fn downloads(&mut self, torrent: TorrentId) -> Option<Downloads<'_>> {
        match self {
            Self::Known(Known {
                info,
                padded,
                store: Store::Open(open),
            }) => Some(Downloads {
                torrent,
                info,
                padded: *padded,
                open,
            }),
            _ => None,
        }
    }
}

impl Downloads<'_> {
    /// Requests as many blocks from a peer as its pipeline has room for.
    pub(crate) fn refill(&mut self, io: &mut Io<'_>, member: &mut Member) -> Refill {
        let peer = &mut member.stream.peer;
        // A block that could not be written is not requested.
        if self.open.access != Access::Write || !peer.am_interested() {
            return Refill::Done;
        }
        // A limit of 0 would hold the blocks back, and with them the messages behind them.
        if io.throttle.is_stopped(member.bucket, Direction::Down) {
            return Refill::Done;
        }
        // A slow disk keeps blocks in use: nothing new is requested until they return to the pool.
        if io.pool.available() == 0 {
            member.stream.starve(io.out, 1);
            return Refill::Scarce;
        }
        let allowed_fast = peer.allowed_fast();
        let choked = peer.peer_choking();
        if choked && allowed_fast.is_empty() {
            return Refill::Done;
        }
        let room = peer.request_room(io.now);
        if room == 0 {
            return Refill::Done;
        }
        let hint = PickHint {
            choked_allowed: choked.then_some(allowed_fast),
            suggested: &[],
            fast: peer.rate_down(io.now) >= FAST,
            max_new_pieces: None,
        };
        io.picked.clear();
        let out = &mut *io.picked;
        self.open.picker.pick(
            &mut cx!(io),
            member.id.key(),
            &mut member.pick,
            peer.has(),
            hint,
            room,
            out,
        );
        self.drop_evicted(io);
        if io.picked.is_empty() {
            if peer.in_flight_len() == 0 && !self.open.picker.is_interesting(peer.has()) {
                peer.set_interested(false);
            }
            return Refill::Done;
        }
        member.useful = io.now;
        for at in io.picked.iter() {
            peer.request(&mut cx!(io), *at);
        }
        Refill::Done
    }

    /// A block was received from a peer.
    pub(crate) fn received(
        &mut self,
        io: &mut Io<'_>,
        from: PeerKey,
        at: BlockRef,
        mut block: Block,
    ) -> Received {
        let received = self.open.picker.received(io.now, at, from);
        self.drop_evicted(io);
        let Received::Fresh { piece_complete } = received else {
            io.pool.give(block);
            return received;
        };
        if self.padded {
            blank_padding(self.info, at, &mut block);
        }
        let Open {
            assemblies,
            assembled,
            ..
        } = &mut *self.open;
        let size = self.info.piece_size(at.piece);
        let assembly = assemblies.entry(at.piece).or_insert_with(|| {
            *assembled += 1;
            Assembly::new(size).with_serial(*assembled)
        });
        assembly.add(at, block, piece_complete);
        received
    }

    /// Drops what was received of pieces that the picker gave up in favour of others.
    fn drop_evicted(&mut self, io: &mut Io<'_>) {
        while let Some(piece) = self.open.picker.poll_evicted() {
            self.abandon(io, piece);
        }
    }

    /// Drops the blocks of a piece that wait to be written.
    fn abandon(&mut self, io: &mut Io<'_>, piece: u32) {
        if let Some(assembly) = self.open.assemblies.remove(&piece) {
            io.pool.give_all(assembly.abandon());
        }
    }

    /// Takes the next step of a piece: writes a run, hashes the rest, or returns the digest, if all is hashed. `force` writes
    /// short runs too.
    pub(crate) fn advance(&mut self, io: &mut Io<'_>, piece: u32, force: bool) -> Option<[u8; 20]> {
        // While blocks are scarce, waiting for longer runs would stall the peers.
        let scarce = io.pool.available() < io.pool.cap() / 4;
        let least = if force || scarce {
            1
        } else {
            io.setup.config.write_run.max(1) as usize
        };
        let assembly = self.open.assemblies.get_mut(&piece)?;
        let serial = assembly.serial;
        match assembly.step(least, MAX_RUN) {
            Step::Wait => {}
            Step::Write(run) => self.write(io, piece, serial, run),
            Step::Hash(from, hasher) => self.hash_rest(io, piece, serial, from, hasher),
            Step::Judge(digest) => return Some(digest),
        }
        None
    }

    fn write(&self, io: &mut Io<'_>, piece: u32, serial: u64, run: Run) {
        let Run {
            begin,
            len,
            blocks,
            hasher,
        } = run;
        let job = DiskJob::Write {
            piece,
            serial,
            begin,
            len,
        };
        let at = self.info.piece_offset(piece) + u64::from(begin);
        let torrent = self.torrent;
        io.out.ops.job(Purpose::Disk(torrent, job), |op| {
            Op::Write(WriteJob::new(op, torrent, at, len, blocks, hasher))
        });
    }

    fn hash_rest(&self, io: &mut Io<'_>, piece: u32, serial: u64, from: u32, hasher: Hasher) {
        let job = DiskJob::Verify { piece, serial };
        let at = self.info.piece_offset(piece) + u64::from(from);
        let len = u64::from(self.info.piece_size(piece) - from);
        let torrent = self.torrent;
        io.out.ops.job(Purpose::Disk(torrent, job), |op| {
            Op::Hash(HashJob::new(op, torrent, at, len, hasher))
        });
    }

    /// The pieces with blocks that wait to be written.
    pub(crate) fn waiting(&self) -> Vec<u32> {
        let waiting = self.open.assemblies.iter().filter(|(_, a)| a.has_waiting());
        waiting.map(|(piece, _)| *piece).collect()
    }

    /// Whether the assembly that requested an op still exists.
    pub(crate) fn is_assembling(&self, piece: u32, serial: u64) -> bool {
        let assembly = self.open.assemblies.get(&piece);
        assembly.is_some_and(|a| a.serial == serial)
    }

    /// A run was written.
    pub(crate) fn written(&mut self, piece: u32, run: Range<u32>, hasher: Option<Hasher>) {
        if let Some(assembly) = self.open.assemblies.get_mut(&piece) {
            assembly.run_written(run.start, run.end - run.start, hasher);
        }
    }

    /// A disk op of a piece failed: the piece is downloaded again.
    pub(crate) fn lost(&mut self, io: &mut Io<'_>, piece: u32) {
        self.abandon(io, piece);
        self.open.picker.failed(piece);
    }

    /// Verifies a piece whose bytes are all on disk and hashed. Returns whether it passed.
    pub(crate) fn judge(&mut self, piece: u32, digest: [u8; 20]) -> bool {
        self.open.assemblies.remove(&piece);
        match Verifier::new(self.info).judge(piece, digest) {
            Judgement::Passed => {
                self.open.picker.verified(piece);
                true
            }
            // A v1 torrent has the hashes of all of its pieces, and they do not identify bad blocks.
            Judgement::Failed(_) | Judgement::NeedHashes => false,
        }
    }

    /// Reads a piece back, so that its blocks can be compared (smart ban). Returns `false` if there are not enough blocks for
    /// it: progress matters more than evidence, so a piece that would take half of the pool is not read back.
    pub(crate) fn read_back(&self, io: &mut Io<'_>, piece: u32, passed: bool) -> bool {
        let count = self.info.blocks_in(piece) as usize;
        if count > io.pool.cap() / 2 || io.pool.available() < count {
            return false;
        }
        let at = self.info.piece_offset(piece);
        let len = self.info.piece_size(piece);
        let blocks: Vec<Block> = (0..count).map_while(|_| io.pool.take()).collect();
        let torrent = self.torrent;
        let purpose = Purpose::Disk(torrent, DiskJob::Blame { piece, passed });
        io.out.ops.job(purpose, |op| {
            Op::Read(ReadJob::new(op, torrent, at, len, blocks))
        });
        true
    }

    /// Who sent each block of a piece.
    pub(crate) fn senders(&self, piece: u32) -> impl Iterator<Item = Option<PeerKey>> {
        let contributors = self.open.picker.contributors(piece);
        contributors.map(|(_, sender)| sender)
    }

    pub(crate) const fn open(&mut self) -> &mut Open {
        self.open
    }

    pub(crate) const fn info(&self) -> &Info {
        self.info
    }
}

/// Sets the bytes of a block that belong to padding files to zero (BEP 47). Padding is not stored and reads as zeros, so it is
/// hashed as zeros, whatever a peer sent. Otherwise, a piece could pass once and fail every later check.
fn blank_padding(info: &Info, at: BlockRef, block: &mut Block) {
    let start = info.piece_offset(at.piece) + u64::from(at.begin);
    let mut from = 0;
    for extent in info.extents(start, at.len.into()) {
        let to = from + extent.len as usize;
        if info.files()[extent.file].kind == FileKind::Padding {
            block[from..to].fill(0);
        }
        from = to;
    }
}
