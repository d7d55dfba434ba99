//! Uploading: requests of peers, read from disk in runs, sent as they come back.

use alloc::vec::Vec;

use super::Engine;
use super::ops::Purpose;
use crate::throttle::Direction;
use crate::{BLOCK_LEN, Block, BlockRef, ConnId, Op, OpErrorKind, Outcome, TorrentId};

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

impl Engine {
    pub(super) fn on_request(&mut self, id: ConnId, at: BlockRef) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(t), Some(peer)) = (
            conn.torrent.and_then(|t| self.torrents.get(&t)),
            &mut conn.peer,
        ) else {
            return;
        };
        let within = t.info.as_ref().is_some_and(|i| {
            at.begin
                .checked_add(at.len)
                .is_some_and(|end| end <= i.piece_size(at.piece))
        });
        let have = t.is_exchanging() && t.picker.as_ref().is_some_and(|p| p.have().get(at.piece));
        if !within || !have || at.len == 0 || at.len as usize > BLOCK_LEN {
            peer.reject(at);
            return;
        }
        conn.uploads.push_back(at);
    }

    /// Reads ahead for a peer: runs of neighbouring blocks become one op.
    pub(super) fn pump_uploads(&mut self, id: ConnId) {
        loop {
            let share = self.upload_share(id);
            let Some(conn) = self.conns.get_mut(id) else {
                return;
            };
            let (Some(torrent), Some(peer), Some(&first)) =
                (conn.torrent, &mut conn.peer, conn.uploads.front())
            else {
                return;
            };
            if peer.takes_nothing() {
                return;
            }
            // A stop would only pin the blocks.
            let bucket = conn.bucket;
            if bucket.is_some_and(|b| self.throttle.is_stopped(b, Direction::Up)) {
                return;
            }
            let ready = peer.queued_payload() / BLOCK_LEN;
            let half_second = peer.rate_up(self.now) / 2 / BLOCK_LEN as u64;
            let enough = half_second.clamp(*READY.start(), *READY.end()) as usize;
            let most = share.min(enough * AHEAD);
            let room = most.saturating_sub(ready + conn.reading as usize);
            if ready >= enough || room == 0 {
                return;
            }
            let Some(info) = self.torrents.get(&torrent).and_then(|t| t.info.as_ref()) else {
                return;
            };
            let run = 1 + conn
                .uploads
                .iter()
                .zip(conn.uploads.iter().skip(1))
                .take(MAX_RUN - 1)
                .take_while(|(a, b)| {
                    a.len as usize == BLOCK_LEN && a.piece == b.piece && a.begin + a.len == b.begin
                })
                .count();
            // Never the last blocks: downloads must be able to go on.
            let spare = self.pool.available().saturating_sub(self.pool.cap() / 8);
            let run = run.min(spare).min(room);
            if run == 0 && self.pool.lent() > 0 {
                if !conn.starved {
                    conn.starved = true;
                    self.pool_waiters.push_back(id);
                }
                return;
            }
            let run = run.max(1);
            let blocks: Vec<Block> = (0..run).map_while(|_| self.pool.take()).collect();
            let wanted: Vec<BlockRef> = conn.uploads.drain(..blocks.len()).collect();
            if wanted.is_empty() {
                return;
            }
            conn.reading += wanted.len() as u32;
            let at = info.piece_offset(first.piece) + u64::from(first.begin);
            let len = wanted.iter().map(|r| r.len).sum();
            self.out
                .ops
                .job(Purpose::Upload(id, torrent, wanted), |op| Op::Read {
                    op,
                    torrent,
                    at,
                    len,
                    blocks,
                });
        }
    }

    /// How many blocks a peer may have ready and being read: where they are scarce no more than
    /// its part, so that peers that ask for much and read little leave some to others.
    fn upload_share(&mut self, id: ConnId) -> usize {
        let cap = self.pool.cap();
        if self.pool.available() * SHARED >= cap {
            return usize::MAX;
        }
        self.conns.settle(id);
        let Some((peers, neighbours)) = self.conns.uploading_beside(id) else {
            return usize::MAX;
        };
        let part = cap / SHARED / peers.max(1) as usize;
        part.min((cap / ONE_ADDRESS).saturating_sub(neighbours as usize))
            .max(1)
    }

    /// A peer takes nothing of the blocks that wait for it: they go home, and are read again when
    /// it goes on.
    pub(super) fn take_back(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if let Some(peer) = &mut conn.peer {
            for at in peer.take_back(&mut self.pool).into_iter().rev() {
                conn.uploads.push_front(at);
            }
        }
        self.feed_pool_waiters();
    }

    /// Blocks for a peer came from the disk.
    pub(super) fn upload_read(
        &mut self,
        id: ConnId,
        torrent: TorrentId,
        wanted: Vec<BlockRef>,
        outcome: Outcome,
    ) {
        let (blocks, error) = match outcome {
            Outcome::Read(blocks) => (blocks, None),
            Outcome::Failed { error, blocks } => (blocks, Some(error)),
            other => {
                self.take_home(other);
                return;
            }
        };
        let Some(conn) = self.conns.get_mut(id) else {
            self.pool.give_all(blocks);
            return;
        };
        conn.reading = conn.reading.saturating_sub(wanted.len() as u32);
        let Some(peer) = &mut conn.peer else {
            self.pool.give_all(blocks);
            return;
        };
        if let Some(error) = error {
            self.pool.give_all(blocks);
            let piece = wanted.first().map_or(0, |at| at.piece);
            for at in wanted {
                peer.reject(at);
            }
            match error.kind {
                OpErrorKind::Cancelled => {}
                OpErrorKind::NotFound
                | OpErrorKind::Truncated
                | OpErrorKind::Exists
                | OpErrorKind::InUse
                | OpErrorKind::NotAFile
                | OpErrorKind::Io => self.unreadable(torrent, piece, error),
                _ => self.disk_failed(torrent, error),
            }
            return;
        }
        if peer.takes_nothing() {
            self.pool.give_all(blocks);
            for at in wanted.into_iter().rev() {
                conn.uploads.push_front(at);
            }
            return;
        }
        for (at, block) in wanted.into_iter().zip(blocks) {
            if let Some(block) = peer.send_block(at, block) {
                self.pool.give(block);
            }
        }
        peer.blocks_wait(self.now);
        self.rearm(id);
        self.pump_uploads(id);
        self.conns.refresh(id);
    }
}
