//! Downloading: requests out, blocks in, pieces written, judged and announced.

use alloc::vec::Vec;
use core::time::Duration;

use super::assembly::{Assembly, Step};
use super::conns::key;
use super::event::{Changes, Level, What};
use super::ops::Purpose;
use super::timers::Timer;
use super::torrent::{Held, Phase, Torrent};
use super::{Engine, cx};
use crate::metainfo::{FileKind, Info};
use crate::throttle::Direction;
use crate::torrent::blame::Verdict;
use crate::torrent::picker::{PeerKey, PickHint, Received};
use crate::{Block, BlockRef, ConnId, Op, OpError, Outcome, TorrentId};

/// Most blocks written by one op.
const MAX_RUN: usize = 64;
/// Bytes per second from which on a peer counts as fast: it fills whole pieces alone.
const FAST: u64 = 64 << 10;
/// Most senders of bad pieces whose addresses are kept.
const MAX_SUSPECTS: usize = 1024;
/// How long a torrent that met a disk error rests before it tries again by itself.
pub const DISK_RETRY: Duration = Duration::from_secs(30);

impl Engine {
    // ---- requests ----

    /// Asks a peer for as many blocks as its pipeline wants.
    pub(super) fn refill(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(torrent), Some(peer)) = (conn.torrent, &mut conn.peer) else {
            return;
        };
        if conn.established.is_none() || !peer.am_interested() {
            return;
        }
        // What a stop would hold is not asked for: it would stand before what may pass.
        let bucket = conn.bucket;
        if bucket.is_some_and(|b| self.throttle.is_stopped(b, Direction::Down)) {
            return;
        }
        // A slow disk shows as blocks out on loan: nothing new is asked for until they return.
        if self.pool.available() == 0 {
            if !core::mem::replace(&mut conn.starved, true) {
                self.pool_waiters.push_back(id);
            }
            // Blocks that wait for longer runs are wanted more than the runs.
            self.flush_pieces(torrent);
            return;
        }
        let allowed_fast = peer.allowed_fast();
        let choked = peer.peer_choking();
        if choked && allowed_fast.is_empty() {
            return;
        }
        let room = peer.request_room(self.now);
        if room == 0 {
            return;
        }
        let Some(t) = self.torrents.get_mut(&torrent) else {
            return;
        };
        // Nothing is asked for that could not be written.
        if !t.is_exchanging() || t.claim != Held::Write {
            return;
        }
        let Some(picker) = &mut t.picker else {
            return;
        };
        let hint = PickHint {
            choked_allowed: choked.then_some(allowed_fast),
            suggested: &[],
            fast: peer.rate_down(self.now) >= FAST,
            max_new_pieces: None,
        };
        self.picked.clear();
        let out = &mut self.picked;
        picker.pick(
            &mut cx!(self),
            key(id),
            &mut conn.pick,
            peer.has(),
            hint,
            room,
            out,
        );
        while let Some(piece) = picker.poll_evicted() {
            if let Some(assembly) = t.assemblies.remove(&piece) {
                self.pool.give_all(assembly.abandon());
            }
        }
        if self.picked.is_empty() {
            if peer.in_flight_len() == 0 && !picker.is_interesting(peer.has()) {
                peer.set_interested(false);
            }
            return;
        }
        conn.useful = self.now;
        for at in &self.picked {
            peer.request(&mut cx!(self), *at);
        }
    }

    /// Blocks became free again: idle peers may want them.
    pub(super) fn refill_all(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        for i in 0..t.conns.len() {
            let Some(conn) = self
                .torrents
                .get(&id)
                .and_then(|t| t.conns.get(i))
                .and_then(|i| self.conn_at(*i))
            else {
                break;
            };
            let conn = conn.id;
            self.refill(conn);
            self.conns.refresh(conn);
        }
    }

    pub(super) fn on_rejected(&mut self, id: ConnId, at: BlockRef) {
        let Some(torrent) = self.conns.get(id).and_then(|c| c.torrent) else {
            return;
        };
        if let Some(picker) = self
            .torrents
            .get_mut(&torrent)
            .and_then(|t| t.picker.as_mut())
        {
            picker.aborted(at, key(id));
        }
        if let Some(t) = self.torrents.get_mut(&torrent) {
            t.freed = true;
        }
    }

    // ---- blocks ----

    pub(super) fn on_block(&mut self, id: ConnId, at: BlockRef, mut block: Block) {
        let Some(conn) = self.conns.get_mut(id) else {
            self.pool.give(block);
            return;
        };
        conn.useful = self.now;
        let Some(t) = conn.torrent.and_then(|t| self.torrents.get_mut(&t)) else {
            self.pool.give(block);
            return;
        };
        let torrent = t.id;
        t.downloaded += u64::from(at.len);
        t.down.add(self.now, u64::from(at.len));
        let (Some(picker), Some(info), Phase::Ready) = (&mut t.picker, &t.info, &t.phase) else {
            self.pool.give(block);
            return;
        };
        let received = picker.received(self.now, at, key(id));
        while let Some(piece) = picker.poll_evicted() {
            if let Some(assembly) = t.assemblies.remove(&piece) {
                self.pool.give_all(assembly.abandon());
            }
        }
        let Received::Fresh { piece_complete } = received else {
            t.wasted += u64::from(at.len);
            self.pool.give(block);
            return;
        };
        if t.padded {
            blank_padding(info, at, &mut block);
        }
        let size = info.piece_size(at.piece);
        let assembled = &mut t.assembled;
        let assembly = t.assemblies.entry(at.piece).or_insert_with(|| {
            *assembled += 1;
            Assembly::new(size).with_serial(*assembled)
        });
        assembly.add(at, block, piece_complete);
        t.unsaved = true;
        self.cancel_elsewhere(torrent, id, at);
        self.pump_piece(torrent, at.piece, false);
        if piece_complete {
            self.change(torrent, Changes::PROGRESS);
        }
    }

    /// Endgame: whoever else was asked for this block need not send it.
    fn cancel_elsewhere(&mut self, torrent: TorrentId, from: ConnId, at: BlockRef) {
        let Some(picker) = self.torrents.get(&torrent).and_then(|t| t.picker.as_ref()) else {
            return;
        };
        let others: heapless::Vec<u32, 8> = picker
            .also_requested(at)
            .filter(|k| *k != key(from))
            .take(8)
            .collect();
        for asked in others {
            let Some(other) = self.conns.by_key(asked).map(|c| c.id) else {
                continue;
            };
            if let Some(peer) = self.conns.get_mut(other).and_then(|c| c.peer.as_mut()) {
                peer.cancel(&mut cx!(self), at);
            }
            if let Some(picker) = self
                .torrents
                .get_mut(&torrent)
                .and_then(|t| t.picker.as_mut())
            {
                picker.aborted(at, asked);
            }
            self.refill(other);
            self.conns.refresh(other);
        }
    }

    /// Moves a piece on: writes a run, hashes the rest, or judges. `force` writes short runs too.
    pub(super) fn pump_piece(&mut self, id: TorrentId, piece: u32, force: bool) {
        // While blocks are scarce, waiting for longer runs would hold the swarm up.
        let scarce = self.pool.available() < self.pool.cap() / 4;
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Some(info), Some(assembly)) = (&t.info, t.assemblies.get_mut(&piece)) else {
            return;
        };
        let least = if force || scarce {
            1
        } else {
            self.config.write_run.max(1) as usize
        };
        let at = info.piece_offset(piece);
        match assembly.step(least, MAX_RUN) {
            Step::Wait => {}
            Step::Write(run) => {
                let purpose = Purpose::Write(id, piece, assembly.serial, run.begin, run.len);
                self.out.ops.job(purpose, |op| Op::Write {
                    op,
                    torrent: id,
                    at: at + u64::from(run.begin),
                    len: run.len,
                    blocks: run.blocks,
                    hasher: run.hasher,
                });
            }
            Step::Hash(from, hasher) => {
                let len = u64::from(info.piece_size(piece) - from);
                let purpose = Purpose::Verify(id, piece, assembly.serial);
                self.out.ops.job(purpose, |op| Op::Hash {
                    op,
                    torrent: id,
                    at: at + u64::from(from),
                    len,
                    hasher,
                });
            }
            Step::Judge(digest) => self.judge(id, piece, digest),
        }
    }

    /// Writes whatever waits, however short: before a save, at a stop, when blocks are scarce.
    pub(super) fn flush_pieces(&mut self, id: TorrentId) {
        let pieces: Vec<u32> = self
            .torrents
            .get(&id)
            .map(|t| {
                t.assemblies
                    .iter()
                    .filter(|(_, a)| a.has_waiting())
                    .map(|(p, _)| *p)
                    .collect()
            })
            .unwrap_or_default();
        for piece in pieces {
            self.pump_piece(id, piece, true);
        }
    }

    // ---- outcomes ----

    pub(super) fn written(
        &mut self,
        id: TorrentId,
        piece: u32,
        begin: u32,
        len: u32,
        outcome: Outcome,
    ) {
        let stopping = !self.torrents.get(&id).is_some_and(Torrent::is_exchanging);
        match outcome {
            Outcome::Written { blocks, hasher } => {
                self.pool.give_all(blocks);
                if let Some(t) = self.torrents.get_mut(&id) {
                    t.saving.wrote();
                    if let Some(a) = t.assemblies.get_mut(&piece) {
                        a.wrote(begin, len, hasher);
                    }
                }
                self.pump_piece(id, piece, stopping);
            }
            other => self.piece_lost(id, piece, other),
        }
    }

    /// Whether an assembly is still the one that asked for an op.
    pub(super) fn is_assembling(&self, id: TorrentId, piece: u32, serial: u64) -> bool {
        let t = self.torrents.get(&id);
        t.and_then(|t| t.assemblies.get(&piece))
            .is_some_and(|a| a.serial == serial)
    }

    /// An op of an assembly that was given up came back.
    pub(super) fn too_late(&mut self, id: TorrentId, outcome: Outcome) {
        if let Some(t) = self.torrents.get_mut(&id) {
            t.saving.wrote();
        }
        match outcome {
            Outcome::Failed { error, blocks } => {
                self.pool.give_all(blocks);
                self.disk_trouble(id, error);
            }
            other => self.take_home(other),
        }
    }

    /// The rest of a piece was hashed from the disk.
    pub(super) fn hashed(&mut self, id: TorrentId, piece: u32, outcome: Outcome) {
        match outcome {
            Outcome::Hashed(hasher) => self.judge(id, piece, hasher.finish()),
            other => self.piece_lost(id, piece, other),
        }
    }

    /// A disk op of a piece failed: the piece starts again, and the torrent rests.
    fn piece_lost(&mut self, id: TorrentId, piece: u32, outcome: Outcome) {
        let error = match outcome {
            Outcome::Failed { error, blocks } => {
                self.pool.give_all(blocks);
                Some(error)
            }
            other => {
                self.take_home(other);
                None
            }
        };
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        // A write that failed half-way changed the file too.
        t.saving.wrote();
        t.unsaved = true;
        if let Some(assembly) = t.assemblies.remove(&piece) {
            self.pool.give_all(assembly.abandon());
        }
        if let Some(picker) = &mut t.picker {
            picker.failed(piece);
        }
        if let Some(error) = error {
            self.disk_trouble(id, error);
        }
    }

    /// A torrent cannot use its files: it rests, says why, and tries again in a while.
    pub(super) fn disk_failed(&mut self, id: TorrentId, error: OpError) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if matches!(t.phase, Phase::Failed(_) | Phase::Stopping(_)) {
            return;
        }
        let message = error.detail.clone();
        // Metadata that is of no use will not be of more use in a while, and what stands in the
        // way is somebody's to move.
        let again = t.info.is_some() && !error.kind.is_obstruction();
        let told = t.failing.as_ref() == Some(&error);
        t.failing = Some(error.clone());
        t.phase = Phase::Failed(error);
        t.confirming = false;
        (t.trouble, t.unreadable) = (None, Vec::new());
        self.check_queue.retain(|c| *c != id);
        if !told {
            self.out
                .notice(Some(id), None, Level::Error, What::Disk { message });
        }
        self.change(id, Changes::STATE);
        self.rest(id, "its torrent met a disk error");
        if again {
            self.out
                .timers
                .set(Timer::Round(id), Some(self.now + DISK_RETRY));
        }
        self.next_check();
    }

    /// All bytes of a piece are on disk and hashed.
    fn judge(&mut self, id: TorrentId, piece: u32, digest: [u8; 20]) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Some(info), Some(picker)) = (&t.info, &mut t.picker) else {
            return;
        };
        t.assemblies.remove(&piece);
        if info.piece_hash(piece) != Some(digest) {
            self.piece_failed(id, piece);
            return;
        }
        picker.verified(piece);
        let done = picker.is_done();
        let suspected = t.blame.is_suspect(piece);
        t.unsaved = true;
        t.saving.wrote();
        if suspected {
            self.read_for_blame(id, piece, true);
        }
        self.change(id, Changes::PROGRESS);
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        for i in 0..t.conns.len() {
            let Some(index) = self.torrents.get(&id).and_then(|t| t.conns.get(i).copied()) else {
                break;
            };
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let conn_id = conn.id;
            if let Some(peer) = conn.peer.as_mut().filter(|_| conn.established.is_some()) {
                peer.have(piece);
                self.conns.refresh(conn_id);
            }
        }
        if done {
            self.confirm(id);
        }
    }

    fn piece_failed(&mut self, id: TorrentId, piece: u32) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Some(info), Some(picker)) = (&t.info, &mut t.picker) else {
            return;
        };
        t.wasted += u64::from(info.piece_size(piece));
        let senders: Vec<Option<PeerKey>> = picker
            .contributors(piece)
            .map(|(_, sender)| sender)
            .collect();
        let verdict = t.blame.failed(piece, senders.iter().copied());
        if !matches!(verdict, Verdict::Guilty(_)) {
            // Or a liar could spoil it again and again in company.
            picker.doubt(piece);
        }
        // Slots are reused before a piece is fetched again: what is kept is the address.
        for sender in senders.into_iter().flatten() {
            let here = self.conns.by_key(sender);
            let addr = here.map(|c| c.listen.unwrap_or(c.remote)).or_else(|| {
                let mut gone = t.departed.iter().rev();
                gone.find(|(k, _)| *k == sender).map(|(_, addr)| *addr)
            });
            if let Some(addr) = addr {
                if t.suspects.len() >= MAX_SUSPECTS {
                    t.suspects.pop_first();
                }
                t.suspects.insert(sender, addr);
            }
        }
        self.out
            .notice(Some(id), None, Level::Warning, What::PieceFailed(piece));
        match verdict {
            Verdict::Guilty(sender) => {
                self.fetch_again(id, piece);
                self.convict(id, &[sender]);
            }
            Verdict::Remember => self.read_for_blame(id, piece, false),
            Verdict::Unknown => self.fetch_again(id, piece),
        }
    }

    /// A failed piece is free to be requested anew.
    fn fetch_again(&mut self, id: TorrentId, piece: u32) {
        if let Some(picker) = self.torrents.get_mut(&id).and_then(|t| t.picker.as_mut()) {
            picker.failed(piece);
        }
        self.refill_all(id);
    }

    /// Bans the senders of bad blocks.
    fn convict(&mut self, id: TorrentId, guilty: &[PeerKey]) {
        for sender in guilty {
            let addr = self
                .torrents
                .get_mut(&id)
                .and_then(|t| t.suspects.remove(sender));
            if let Some(addr) = addr {
                self.ban(id, addr);
            }
        }
    }

    /// Reads a piece back, so that its blocks can be compared (smart ban).
    fn read_for_blame(&mut self, id: TorrentId, piece: u32, passed: bool) {
        let Some(info) = self.torrents.get(&id).and_then(|t| t.info.as_ref()) else {
            return;
        };
        let (at, len, count) = (
            info.piece_offset(piece),
            info.piece_size(piece),
            info.blocks_in(piece) as usize,
        );
        // Evidence is worth less than progress: a piece that would take half the pool is let go.
        if count > self.pool.cap() / 2 || self.pool.available() < count {
            if let Some(t) = self.torrents.get_mut(&id) {
                t.blame.forget(piece);
            }
            if !passed {
                self.fetch_again(id, piece);
            }
            return;
        }
        let blocks: Vec<Block> = (0..count).map_while(|_| self.pool.take()).collect();
        self.out
            .ops
            .job(Purpose::Blame(id, piece, passed), |op| Op::Read {
                op,
                torrent: id,
                at,
                len,
                blocks,
            });
    }

    pub(super) fn blamed(&mut self, id: TorrentId, piece: u32, passed: bool, outcome: Outcome) {
        let mut guilty: Vec<PeerKey> = Vec::new();
        match (outcome, self.torrents.get_mut(&id)) {
            (Outcome::Read(blocks), Some(t)) => {
                let (Some(info), Some(picker)) = (&t.info, &t.picker) else {
                    self.pool.give_all(blocks);
                    return;
                };
                let data =
                    |n: u32| Some(&blocks.get(n as usize)?[..info.block(piece, n)?.len as usize]);
                if passed {
                    for n in 0..info.blocks_in(piece) {
                        guilty.extend(
                            data(n)
                                .into_iter()
                                .flat_map(|good| t.blame.compare(piece, n, good)),
                        );
                    }
                    t.blame.forget(piece);
                } else {
                    for (n, (_, sender)) in (0..).zip(picker.contributors(piece)) {
                        if let (Some(bytes), Some(sender)) = (data(n), sender) {
                            t.blame.note(piece, n, sender, bytes);
                        }
                    }
                }
                self.pool.give_all(blocks);
            }
            (other, _) => self.take_home(other),
        }
        if !passed {
            self.fetch_again(id, piece);
        }
        guilty.sort_unstable();
        guilty.dedup();
        self.convict(id, &guilty);
    }

    /// Everything wanted is here, and its files were looked at.
    pub(super) fn finished(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        // A wanted file may not be at its place yet.
        if t.finished || !t.selection.is_settled() {
            return;
        }
        t.finished = true;
        if !t.is_seed() {
            // Trackers learn soon that this is a partial seed (BEP 21).
            t.announcer.need_peers(&mut cx!(self));
        } else if t.downloaded > 0 {
            t.announcer.completed(&mut cx!(self));
        }
        let conns = t.conns.clone();
        self.out.notice(Some(id), None, Level::Info, What::Finished);
        self.change(id, Changes::FINISHED | Changes::STATE | Changes::PROGRESS);
        for index in conns {
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let conn_id = conn.id;
            if let Some(peer) = conn.peer.as_mut().filter(|_| conn.established.is_some()) {
                peer.set_interested(false);
                self.check_usefulness(conn_id);
                self.conns.refresh(conn_id);
            }
        }
        self.pump_trackers(id);
        self.save(id);
    }
}

/// Sets to zero what of a block is padding (BEP 47). Padding is kept nowhere and reads as zeros, so
/// it is hashed as zeros too, whatever a peer sent: else a piece would be verified once, and never
/// again when it is checked.
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
