//! Uploading: blocks that peers requested are read from the disk in runs, and sent.

use alloc::vec::Vec;

use super::Content;
use crate::metainfo::Info;
use crate::op::ReadJob;
use crate::peer::PeerEvent;
use crate::throttle::Direction;
use crate::torrent::conn::member::Member;
use crate::torrent::io::Io;
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::{BLOCK_LEN, Bitfield, Block, BlockRef, Instant, Op, OpError, Outcome, TorrentId};

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

/// The uploads to one peer.
pub(crate) struct Uploads<'a> {
    torrent: TorrentId,
    info: Option<&'a Info>,
    /// The pieces that may be requested: those that we have, if the torrent exchanges pieces.
    have: Option<&'a Bitfield>,
    member: &'a mut Member,
}

impl Content {
    /// The uploads to a peer of the torrent whose content this is. `exchanging` says whether the torrent exchanges pieces.
    pub(crate) fn uploads<'a>(
        &'a self,
        torrent: TorrentId,
        exchanging: bool,
        member: &'a mut Member,
    ) -> Uploads<'a> {
        let open = self.open().filter(|_| exchanging);
        Uploads {
            torrent,
            info: self.info().map(|info| &**info),
            have: open.map(|(_, open)| open.picker.have()),
            member,
        }
    }
}

impl Uploads<'_> {
    /// The next event of the peer that concerns more than its uploads. Its requests and cancels are handled here, so that a batch
    /// of them costs one look-up of the member.
    pub(crate) fn poll_event(&mut self, now: Instant) -> Option<PeerEvent> {
        loop {
            match self.member.stream.peer.poll_event()? {
                PeerEvent::Requested(at) => self.requested(at),
                PeerEvent::Cancelled(at) => self.member.uploads.retain(|r| *r != at),
                event => {
                    if let PeerEvent::Block { .. } = event {
                        self.member.useful = now;
                    }
                    return Some(event);
                }
            }
        }
    }

    /// The peer requests a block.
    fn requested(&mut self, at: BlockRef) {
        let within = self.info.is_some_and(|i| {
            at.begin
                .checked_add(at.len)
                .is_some_and(|end| end <= i.piece_size(at.piece))
        });
        let have = self.have.is_some_and(|have| have.get(at.piece));
        if !within || !have || at.len == 0 || at.len as usize > BLOCK_LEN {
            self.member.stream.peer.reject(at);
        } else {
            self.member.uploads.push_back(at);
        }
    }

    /// Reads ahead for the peer. Adjacent blocks are read by one op.
    pub(crate) fn pump(&mut self, io: &mut Io<'_>) {
        let Some(info) = self.info else {
            return;
        };
        while !self.member.uploads.is_empty() {
            let share = self.share(io);
            let member = &mut *self.member;
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
            let torrent = self.torrent;
            let purpose = Purpose::Disk(
                torrent,
                DiskJob::Upload {
                    member: member.id,
                    wanted,
                },
            );
            let ops = &mut io.out.ops;
            ops.job(purpose, |op| {
                Op::Read(ReadJob::new(op, torrent, at, len, blocks))
            });
        }
    }

    /// How many blocks the peer may have ready and being read. Where blocks are scarce it is an equal share, so that peers that
    /// request much and read little leave some to others.
    fn share(&mut self, io: &mut Io<'_>) -> usize {
        let cap = io.pool.cap();
        if io.pool.available() * SHARED >= cap {
            return usize::MAX;
        }
        let member = &mut *self.member;
        io.count_blocks(member);
        let (peers, all) = io.conns.uploading_beside(member.stream.remote);
        let neighbours = all - member.holds.blocks;
        let part = cap / SHARED / peers.max(1) as usize;
        part.min((cap / ONE_ADDRESS).saturating_sub(neighbours as usize))
            .max(1)
    }

    /// The peer does not read the blocks that wait for it: they return to the pool, and are read again when it continues.
    pub(crate) fn take_back(&mut self, io: &mut Io<'_>) {
        let waiting = self.member.stream.peer.take_back(io.pool);
        self.wait_again(waiting);
    }

    /// Handles the outcome of a read for the peer: sends the blocks, or rejects the requests.
    ///
    /// # Errors
    /// The disk's error.
    pub(crate) fn handle_read(
        &mut self,
        io: &mut Io<'_>,
        wanted: Vec<BlockRef>,
        outcome: Outcome,
    ) -> Result<(), OpError> {
        self.member.reading = self.member.reading.saturating_sub(wanted.len() as u32);
        if let Outcome::Read(blocks) = outcome {
            self.send(io, wanted, blocks);
            return Ok(());
        }
        let failure = io.failure(outcome);
        for at in wanted {
            self.member.stream.peer.reject(at);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Sends blocks that were read from the disk.
    fn send(&mut self, io: &mut Io<'_>, wanted: Vec<BlockRef>, blocks: Vec<Block>) {
        let peer = &mut self.member.stream.peer;
        if peer.takes_nothing() {
            io.pool.give_all(blocks);
            self.wait_again(wanted);
            return;
        }
        let mut blocks = blocks.into_iter();
        for at in wanted {
            match blocks.next() {
                Some(block) => io.pool.give_all(peer.send_block(at, block)),
                None => peer.reject(at),
            }
        }
        io.pool.give_all(blocks);
        peer.blocks_wait(io.now);
        self.member.stream.rearm(io.out);
    }

    /// Puts requests back to the front of the queue.
    fn wait_again(&mut self, requests: Vec<BlockRef>) {
        for at in requests.into_iter().rev() {
            self.member.uploads.push_front(at);
        }
    }

    /// To be called when all that the peer said was handled: reads ahead, and updates its timer and its readiness.
    pub(crate) fn finish(mut self, io: &mut Io<'_>) {
        self.pump(io);
        self.member.stream.rearm(io.out);
        self.refresh(io);
    }

    /// To be called when this is done: updates the peer's readiness.
    pub(crate) fn refresh(self, io: &mut Io<'_>) {
        io.refresh(self.member);
    }
}
