//! Uploading: blocks that peers requested are read from the disk in runs, and sent.

use alloc::vec::Vec;

use crate::op::ReadJob;
use crate::throttle::Direction;
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::{BLOCK_LEN, Block, BlockRef, Op, OpError, OpErrorKind, Outcome};

/// The maximum number of blocks that one op reads.
const MAX_RUN: usize = 16;
/// The bounds of the number of blocks that are kept ready for a peer: what it takes in half a second, so that a slow peer
/// holds few blocks. At least two, so that one is ready when the other was sent. At most 16, so that a block is still in the
/// CPU's cache when it is sent.
const READY: core::ops::RangeInclusive<u64> = 2..=16;
/// How many blocks may be ready or being read for a peer, as a multiple of that number. It keeps a fast stream busy while
/// the disk works.
const AHEAD: usize = 3;
/// The fraction (one half) of the pool that uploads share equally once half of the pool is in use.
const SHARED: usize = 2;
/// The fraction (one eighth) of the pool that the peers of one address may have of it.
const ONE_ADDRESS: usize = 8;

impl Torrent {
    pub(crate) fn on_request(&mut self, id: MemberId, at: BlockRef) {
        let within = self.content.info().is_some_and(|i| {
            at.begin
                .checked_add(at.len)
                .is_some_and(|end| end <= i.piece_size(at.piece))
        });
        let picker = self.content.picker();
        let have = self.is_exchanging() && picker.is_some_and(|p| p.have().get(at.piece));
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &mut member.stream.peer;
        if !within || !have || at.len == 0 || at.len as usize > BLOCK_LEN {
            peer.reject(at);
            return;
        }
        member.uploads.push_back(at);
    }

    /// Reads ahead for a peer. Adjacent blocks are read by one op.
    pub(crate) fn pump_uploads(&mut self, io: &mut Io<'_>, id: MemberId) {
        loop {
            let share = self.upload_share(io, id);
            let Some(member) = self.members.get_mut(id) else {
                return;
            };
            let Some(&first) = member.uploads.front() else {
                return;
            };
            let peer = &mut member.stream.peer;
            if peer.takes_nothing() {
                return;
            }
            // A limit of 0 would only keep the blocks in use.
            if io.throttle.is_stopped(member.bucket, Direction::Up) {
                return;
            }
            let ready = peer.queued_payload() / BLOCK_LEN;
            let half_second = peer.rate_up(io.now) / 2 / BLOCK_LEN as u64;
            let enough = half_second.clamp(*READY.start(), *READY.end()) as usize;
            let most = share.min(enough * AHEAD);
            let room = most.saturating_sub(ready + member.reading as usize);
            if ready >= enough || room == 0 {
                return;
            }
            let Some(info) = self.content.info() else {
                return;
            };
            let run = 1 + member
                .uploads
                .iter()
                .zip(member.uploads.iter().skip(1))
                .take(MAX_RUN - 1)
                .take_while(|(a, b)| {
                    a.len as usize == BLOCK_LEN && a.piece == b.piece && a.begin + a.len == b.begin
                })
                .count();
            // The last blocks of the pool are left to downloads.
            let kept = io.pool.cap() / 8;
            let spare = io.pool.available().saturating_sub(kept);
            let run = run.min(spare).min(room);
            if run == 0 && io.pool.lent() > 0 {
                member.stream.starve(io.out, kept + 1);
                return;
            }
            let run = run.max(1);
            let blocks: Vec<Block> = (0..run).map_while(|_| io.pool.take()).collect();
            let wanted: Vec<BlockRef> = member.uploads.drain(..blocks.len()).collect();
            if wanted.is_empty() {
                return;
            }
            member.reading += wanted.len() as u32;
            let at = info.piece_offset(first.piece) + u64::from(first.begin);
            let len = wanted.iter().map(|r| r.len).sum();
            let torrent = self.id;
            let purpose = Purpose::Disk(torrent, DiskJob::Upload { member: id, wanted });
            let ops = &mut io.out.ops;
            ops.job(purpose, |op| {
                Op::Read(ReadJob::new(op, torrent, at, len, blocks))
            });
        }
    }

    /// How many blocks a peer may have ready and being read. Where blocks are scarce it is an equal share, so that peers that
    /// request much and read little leave some to others.
    fn upload_share(&mut self, io: &mut Io<'_>, id: MemberId) -> usize {
        let cap = io.pool.cap();
        if io.pool.available() * SHARED >= cap {
            return usize::MAX;
        }
        let Some(member) = self.members.get_mut(id) else {
            return usize::MAX;
        };
        io.count_blocks(member);
        let (peers, all) = io.conns.uploading_beside(member.stream.remote);
        let neighbours = all - member.holds.blocks;
        let part = cap / SHARED / peers.max(1) as usize;
        part.min((cap / ONE_ADDRESS).saturating_sub(neighbours as usize))
            .max(1)
    }

    /// A peer does not read the blocks that wait for it: they return to the pool, and are read again when it continues.
    pub(crate) fn take_back(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let waiting = member.stream.peer.take_back(io.pool);
        for at in waiting.into_iter().rev() {
            member.uploads.push_front(at);
        }
    }

    /// Handles the outcome of a read for a peer: sends the blocks or rejects the requests, and reads the next ones.
    pub(crate) fn upload_read(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        wanted: Vec<BlockRef>,
        outcome: Outcome,
    ) {
        if let Some(member) = self.members.get_mut(id) {
            member.reading = member.reading.saturating_sub(wanted.len() as u32);
        }
        match outcome {
            Outcome::Read(blocks) => self.send_blocks(io, id, wanted, blocks),
            Outcome::Failed { error, blocks } => {
                io.pool.give_all(blocks);
                self.upload_failed(io, id, wanted, error);
            }
            other => io.take_home(other),
        }
        self.pump_uploads(io, id);
        self.refresh(io, id);
    }

    /// Sends blocks that were read from the disk.
    fn send_blocks(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        wanted: Vec<BlockRef>,
        blocks: Vec<Block>,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            io.pool.give_all(blocks);
            return;
        };
        let peer = &mut member.stream.peer;
        if peer.takes_nothing() {
            io.pool.give_all(blocks);
            for at in wanted.into_iter().rev() {
                member.uploads.push_front(at);
            }
            return;
        }
        for (at, block) in wanted.into_iter().zip(blocks) {
            if let Some(block) = peer.send_block(at, block) {
                io.pool.give(block);
            }
        }
        peer.blocks_wait(io.now);
        member.stream.rearm(io.out);
    }

    /// Rejects the requests for blocks that could not be read.
    fn upload_failed(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        wanted: Vec<BlockRef>,
        error: OpError,
    ) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let piece = wanted.first().map_or(0, |at| at.piece);
        for at in wanted {
            member.stream.peer.reject(at);
        }
        match error.kind {
            OpErrorKind::Cancelled => {}
            OpErrorKind::NotFound
            | OpErrorKind::Truncated
            | OpErrorKind::Exists
            | OpErrorKind::InUse
            | OpErrorKind::NotAFile
            | OpErrorKind::Io => self.unreadable(io, piece, error),
            _ => self.disk_failed(io, error),
        }
    }
}
