//! Uploading: requests of peers, read from disk in runs, sent as they come back.

use alloc::vec::Vec;

use crate::op::ReadJob;
use crate::throttle::Direction;
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::{BLOCK_LEN, Block, BlockRef, Op, OpError, OpErrorKind, Outcome};

/// Most blocks read by one op.
const MAX_RUN: usize = 16;
/// Blocks ready to be sent to a peer that are enough for now: what it takes in half a second, so
/// that a slow peer pins few, within these bounds. Two, so that one is there when the other has
/// left; at most 16, as what is in the cache when it is read should still be there when it is
/// sent.
const READY: core::ops::RangeInclusive<u64> = 2..=16;
/// Blocks ready and being read for a peer, in shares of those that are enough: keeps a fast stream
/// busy while the disk works.
const AHEAD: usize = 3;
/// What all uploads share, once it is half used: this part of the pool, in equal parts.
const SHARED: usize = 2;
/// What the peers of one address have of it at most: this part of the pool.
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

    /// Reads ahead for a peer: runs of neighbouring blocks become one op.
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
            // A stop would only pin the blocks.
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
            // Never the last blocks: downloads must be able to go on.
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

    /// How many blocks a peer may have ready and being read: where they are scarce no more than
    /// its part, so that peers that ask for much and read little leave some to others.
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

    /// A peer takes nothing of the blocks that wait for it: they go home, and are read again when
    /// it goes on.
    pub(crate) fn take_back(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let waiting = member.stream.peer.take_back(io.pool);
        for at in waiting.into_iter().rev() {
            member.uploads.push_front(at);
        }
    }

    /// The disk has answered a read for a peer: the peer hears of it, and what waits is read next.
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

    /// Blocks for a peer came from the disk.
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

    /// Blocks for a peer could not be read.
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
