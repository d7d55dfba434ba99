//! Downloading: blocks are requested and received, pieces are written, verified and announced.

use alloc::vec::Vec;
use core::time::Duration;

use super::assembly::{Assembly, Step};
use super::verifier::{Judgement, Verifier};
use super::{Access, Content, Known, Look, Open, Store};
use crate::metainfo::{FileKind, Info};
use crate::op::{HashJob, ReadJob, WriteJob};
use crate::throttle::Direction;
use crate::torrent::blame::Verdict;
use crate::torrent::conn::member::Member;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::picker::{PeerKey, PickHint, Received};
use crate::torrent::standing::Standing;
use crate::torrent::{Torrent, Wants};
use crate::{Block, BlockRef, Op, OpError, Outcome};

/// The maximum number of blocks that one op writes.
const MAX_RUN: usize = 64;
/// The rate in bytes per second from which a peer counts as fast. A fast peer downloads whole pieces alone.
const FAST: u64 = 64 << 10;
/// The maximum number of suspects whose addresses are kept.
const MAX_SUSPECT_ADDRESSES: usize = 1024;
/// How long after a disk error a torrent retries by itself.
pub const DISK_RETRY: Duration = Duration::from_secs(30);

impl Torrent {
    // ---- requests ----

    /// Requests as many blocks from a peer as its pipeline has room for.
    pub(crate) fn refill(&mut self, io: &mut Io<'_>, id: MemberId) {
        // A block that could not be written is not requested.
        if !self.is_exchanging() || !self.has_access(Access::Write) {
            return;
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &mut member.stream.peer;
        if !peer.am_interested() {
            return;
        }
        // A limit of 0 would hold the blocks back, and with them the messages behind them.
        if io.throttle.is_stopped(member.bucket, Direction::Down) {
            return;
        }
        // A slow disk keeps blocks in use: nothing new is requested until they return to the pool.
        if io.pool.available() == 0 {
            member.stream.starve(io.out, 1);
            // Blocks are needed more than longer runs of writes.
            self.flush_pieces(io);
            return;
        }
        let allowed_fast = peer.allowed_fast();
        let choked = peer.peer_choking();
        if choked && allowed_fast.is_empty() {
            return;
        }
        let room = peer.request_room(io.now);
        if room == 0 {
            return;
        }
        let Some((
            _,
            Open {
                picker, assemblies, ..
            },
        )) = self.content.open_mut()
        else {
            return;
        };
        let hint = PickHint {
            choked_allowed: choked.then_some(allowed_fast),
            suggested: &[],
            fast: peer.rate_down(io.now) >= FAST,
            max_new_pieces: None,
        };
        io.picked.clear();
        let out = &mut *io.picked;
        picker.pick(
            &mut cx!(io),
            id.key(),
            &mut member.pick,
            peer.has(),
            hint,
            room,
            out,
        );
        while let Some(piece) = picker.poll_evicted() {
            if let Some(assembly) = assemblies.remove(&piece) {
                io.pool.give_all(assembly.abandon());
            }
        }
        if io.picked.is_empty() {
            if peer.in_flight_len() == 0 && !picker.is_interesting(peer.has()) {
                peer.set_interested(false);
            }
            return;
        }
        member.useful = io.now;
        for at in io.picked.iter() {
            peer.request(&mut cx!(io), *at);
        }
    }

    /// Requests blocks from all peers after requests were freed or blocks returned to the pool.
    pub(crate) fn refill_all(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            self.refill(io, id);
            self.refresh(io, id);
        }
    }

    // ---- blocks ----

    pub(crate) fn on_block(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        at: BlockRef,
        mut block: Block,
    ) {
        if let Some(member) = self.members.get_mut(id) {
            member.useful = io.now;
        }
        self.traffic.downloaded += u64::from(at.len);
        self.traffic.down.add(io.now, u64::from(at.len));
        let Content::Known(Known {
            info,
            padded,
            store: Store::Open(open),
        }) = &mut self.content
        else {
            io.pool.give(block);
            return;
        };
        if !self.standing.is_up() {
            io.pool.give(block);
            return;
        }
        let Open {
            picker,
            assemblies,
            assembled,
            ..
        } = &mut **open;
        let received = picker.received(io.now, at, id.key());
        while let Some(piece) = picker.poll_evicted() {
            if let Some(assembly) = assemblies.remove(&piece) {
                io.pool.give_all(assembly.abandon());
            }
        }
        let Received::Fresh { piece_complete } = received else {
            self.traffic.wasted += u64::from(at.len);
            io.pool.give(block);
            return;
        };
        if *padded {
            blank_padding(info, at, &mut block);
        }
        let size = info.piece_size(at.piece);
        let assembly = assemblies.entry(at.piece).or_insert_with(|| {
            *assembled += 1;
            Assembly::new(size).with_serial(*assembled)
        });
        assembly.add(at, block, piece_complete);
        self.durability.unsaved = true;
        self.cancel_elsewhere(io, id, at);
        self.pump_piece(io, at.piece, false);
        if piece_complete {
            self.change(io, Changes::PROGRESS);
        }
    }

    /// Endgame: cancels the requests for this block at other peers.
    fn cancel_elsewhere(&mut self, io: &mut Io<'_>, from: MemberId, at: BlockRef) {
        let Some(picker) = self.content.picker() else {
            return;
        };
        let others: heapless::Vec<PeerKey, 8> = picker
            .also_requested(at)
            .filter(|k| *k != from.key())
            .take(8)
            .collect();
        for asked in others {
            let Some(other) = self.members.by_key(asked).map(|member| member.id) else {
                continue;
            };
            if let Some(member) = self.members.get_mut(other) {
                member.stream.peer.cancel(&mut cx!(io), at);
            }
            if let Some(picker) = self.content.picker_mut() {
                picker.aborted(at, asked);
            }
            self.refill(io, other);
            self.refresh(io, other);
        }
    }

    /// Takes the next step of a piece: writes a run, hashes the rest, or verifies it. `force` writes short runs too.
    pub(crate) fn pump_piece(&mut self, io: &mut Io<'_>, piece: u32, force: bool) {
        // While blocks are scarce, waiting for longer runs would stall the peers.
        let scarce = io.pool.available() < io.pool.cap() / 4;
        let Some((info, open)) = self.content.open_mut() else {
            return;
        };
        let Some(assembly) = open.assemblies.get_mut(&piece) else {
            return;
        };
        let least = if force || scarce {
            1
        } else {
            io.setup.config.write_run.max(1) as usize
        };
        let at = info.piece_offset(piece);
        match assembly.step(least, MAX_RUN) {
            Step::Wait => {}
            Step::Write(run) => {
                let job = DiskJob::Write {
                    piece,
                    serial: assembly.serial,
                    begin: run.begin,
                    len: run.len,
                };
                let purpose = Purpose::Disk(self.id, job);
                let (id, at) = (self.id, at + u64::from(run.begin));
                io.out.ops.job(purpose, |op| {
                    Op::Write(WriteJob::new(op, id, at, run.len, run.blocks, run.hasher))
                });
            }
            Step::Hash(from, hasher) => {
                let len = u64::from(info.piece_size(piece) - from);
                let serial = assembly.serial;
                let purpose = Purpose::Disk(self.id, DiskJob::Verify { piece, serial });
                let (id, at) = (self.id, at + u64::from(from));
                let ops = &mut io.out.ops;
                ops.job(purpose, |op| {
                    Op::Hash(HashJob::new(op, id, at, len, hasher))
                });
            }
            Step::Judge(digest) => self.judge(io, piece, digest),
        }
    }

    /// Writes all blocks that wait, also in short runs: before a save, at a stop, or when blocks are scarce.
    pub(crate) fn flush_pieces(&mut self, io: &mut Io<'_>) {
        let Some((_, open)) = self.content.open() else {
            return;
        };
        let waiting = open.assemblies.iter().filter(|(_, a)| a.has_waiting());
        let pieces: Vec<u32> = waiting.map(|(piece, _)| *piece).collect();
        for piece in pieces {
            self.pump_piece(io, piece, true);
        }
    }

    // ---- outcomes ----

    pub(crate) fn written(
        &mut self,
        io: &mut Io<'_>,
        piece: u32,
        begin: u32,
        len: u32,
        outcome: Outcome,
    ) {
        let stopping = !self.is_exchanging();
        match outcome {
            Outcome::Written { blocks, hasher } => {
                io.pool.give_all(blocks);
                self.durability.files_changed();
                if let Some((_, open)) = self.content.open_mut() {
                    // The disk works again.
                    self.standing.recovered();
                    if let Some(assembly) = open.assemblies.get_mut(&piece) {
                        assembly.run_written(begin, len, hasher);
                    }
                }
                self.pump_piece(io, piece, stopping);
            }
            other => self.piece_lost(io, piece, other),
        }
    }

    /// Whether the assembly that requested an op still exists.
    pub(crate) fn is_assembling(&self, piece: u32, serial: u64) -> bool {
        let open = self.content.open();
        let assembly = open.and_then(|(_, open)| open.assemblies.get(&piece));
        assembly.is_some_and(|a| a.serial == serial)
    }

    /// Handles the outcome of an op whose assembly was dropped.
    pub(crate) fn too_late(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        self.durability.files_changed();
        match outcome {
            Outcome::Failed { error, blocks } => {
                io.pool.give_all(blocks);
                self.disk_trouble(io, error);
            }
            other => io.take_home(other),
        }
    }

    /// Handles the hash of a piece whose rest was read from the disk.
    pub(crate) fn hashed(&mut self, io: &mut Io<'_>, piece: u32, outcome: Outcome) {
        match outcome {
            Outcome::Hashed(hasher) => self.judge(io, piece, hasher.finish()),
            other => self.piece_lost(io, piece, other),
        }
    }

    /// A disk op of a piece failed: the piece is downloaded again, and the torrent fails.
    fn piece_lost(&mut self, io: &mut Io<'_>, piece: u32, outcome: Outcome) {
        let error = match outcome {
            Outcome::Failed { error, blocks } => {
                io.pool.give_all(blocks);
                Some(error)
            }
            other => {
                io.take_home(other);
                None
            }
        };
        // A write that failed may have changed the file.
        self.durability.files_changed();
        self.durability.unsaved = true;
        if let Some((_, open)) = self.content.open_mut() {
            if let Some(assembly) = open.assemblies.remove(&piece) {
                io.pool.give_all(assembly.abandon());
            }
            open.picker.failed(piece);
        }
        if let Some(error) = error {
            self.disk_trouble(io, error);
        }
    }

    /// The torrent cannot use its files: it fails with the error, and retries later.
    pub(crate) fn disk_failed(&mut self, io: &mut Io<'_>, error: OpError) {
        if !self.standing.is_up() {
            return;
        }
        let message = error.detail.clone();
        // Unusable metadata stays unusable, and a file in the way has to be moved by the user.
        let again = self.content.info().is_some() && !error.kind.is_obstruction();
        let told = self.standing.error() == Some(&error);
        self.standing = Standing::Failed(error);
        match self.content.store_mut() {
            Some(Store::Open(open)) => (open.look, open.unreadable) = (Look::No, Vec::new()),
            // What is known of the files becomes useless when they are opened again.
            Some(store) => *store = Store::Closed,
            None => {}
        }
        io.out.checks.retain(|c| *c != self.id);
        if !told {
            io.out
                .notice(Some(self.id), None, Level::Error, What::Disk { message });
        }
        self.change(io, Changes::STATE);
        self.rest(io, "its torrent met a disk error");
        if again {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Round),
                Some(io.now + DISK_RETRY),
            );
        }
        io.out.next_check = true;
    }

    /// Verifies a piece whose bytes are all on disk and hashed.
    fn judge(&mut self, io: &mut Io<'_>, piece: u32, digest: [u8; 20]) {
        let Some((
            info,
            Open {
                picker, assemblies, ..
            },
        )) = self.content.open_mut()
        else {
            return;
        };
        assemblies.remove(&piece);
        match Verifier::new(info).judge(piece, digest) {
            Judgement::Passed => {}
            // A v1 torrent has the hashes of all of its pieces, and they do not identify bad blocks.
            Judgement::Failed(_) | Judgement::NeedHashes => {
                self.piece_failed(io, piece);
                return;
            }
        }
        picker.verified(piece);
        let done = picker.is_done();
        let suspected = self.smart_ban.blame.is_suspect(piece);
        self.durability.unsaved = true;
        self.durability.files_changed();
        if suspected {
            self.read_for_blame(io, piece, true);
        }
        self.change(io, Changes::PROGRESS);
        for member in self.members.iter_mut() {
            member.stream.peer.have(piece);
            io.refresh(member);
        }
        if done {
            self.confirm(io, None);
        }
    }

    fn piece_failed(&mut self, io: &mut Io<'_>, piece: u32) {
        let Some((info, Open { picker, .. })) = self.content.open_mut() else {
            return;
        };
        self.traffic.wasted += u64::from(info.piece_size(piece));
        let senders: Vec<Option<PeerKey>> = picker
            .contributors(piece)
            .map(|(_, sender)| sender)
            .collect();
        let verdict = self.smart_ban.blame.failed(piece, senders.iter().copied());
        if !matches!(verdict, Verdict::Guilty(_)) {
            // Otherwise, a peer that sends bad data could spoil it again together with others.
            picker.doubt(piece);
        }
        // A slot may be reused before the piece is downloaded again, so the address is kept.
        for sender in senders.into_iter().flatten() {
            let here = self.members.by_key(sender);
            let addr = here.map(Member::addr).or_else(|| {
                let mut gone = self.smart_ban.departed.iter().rev();
                gone.find(|(k, _)| *k == sender).map(|(_, addr)| *addr)
            });
            if let Some(addr) = addr {
                if self.smart_ban.suspects.len() >= MAX_SUSPECT_ADDRESSES {
                    self.smart_ban.suspects.pop_first();
                }
                self.smart_ban.suspects.insert(sender, addr);
            }
        }
        io.out.notice(
            Some(self.id),
            None,
            Level::Warning,
            What::PieceFailed(piece),
        );
        match verdict {
            Verdict::Guilty(sender) => {
                self.fetch_again(io, piece);
                self.convict(io, &[sender]);
            }
            Verdict::Remember => self.read_for_blame(io, piece, false),
            Verdict::Unknown => self.fetch_again(io, piece),
        }
    }

    /// Lets a failed piece be requested again.
    fn fetch_again(&mut self, io: &mut Io<'_>, piece: u32) {
        if let Some(picker) = self.content.picker_mut() {
            picker.failed(piece);
        }
        self.refill_all(io);
    }

    /// Bans the senders of bad blocks.
    fn convict(&mut self, io: &mut Io<'_>, guilty: &[PeerKey]) {
        for sender in guilty {
            let addr = self.smart_ban.suspects.remove(sender);
            if let Some(addr) = addr {
                self.ban(io, addr);
            }
        }
    }

    /// Reads a piece back, so that its blocks can be compared (smart ban).
    fn read_for_blame(&mut self, io: &mut Io<'_>, piece: u32, passed: bool) {
        let Some(info) = self.content.info() else {
            return;
        };
        let (at, len, count) = (
            info.piece_offset(piece),
            info.piece_size(piece),
            info.blocks_in(piece) as usize,
        );
        // Progress matters more than evidence: a piece that would take half of the pool is not read back.
        if count > io.pool.cap() / 2 || io.pool.available() < count {
            self.smart_ban.blame.forget(piece);
            if !passed {
                self.fetch_again(io, piece);
            }
            return;
        }
        let blocks: Vec<Block> = (0..count).map_while(|_| io.pool.take()).collect();
        let purpose = Purpose::Disk(self.id, DiskJob::Blame { piece, passed });
        let (id, ops) = (self.id, &mut io.out.ops);
        ops.job(purpose, |op| {
            Op::Read(ReadJob::new(op, id, at, len, blocks))
        });
    }

    pub(crate) fn blamed(&mut self, io: &mut Io<'_>, piece: u32, passed: bool, outcome: Outcome) {
        let mut guilty: Vec<PeerKey> = Vec::new();
        match outcome {
            Outcome::Read(blocks) => {
                let Some((info, Open { picker, .. })) = self.content.open() else {
                    io.pool.give_all(blocks);
                    return;
                };
                let data =
                    |n: u32| Some(&blocks.get(n as usize)?[..info.block(piece, n)?.len as usize]);
                if passed {
                    for n in 0..info.blocks_in(piece) {
                        guilty.extend(
                            data(n)
                                .into_iter()
                                .flat_map(|good| self.smart_ban.blame.compare(piece, n, good)),
                        );
                    }
                    self.smart_ban.blame.forget(piece);
                } else {
                    for (n, (_, sender)) in (0..).zip(picker.contributors(piece)) {
                        if let (Some(bytes), Some(sender)) = (data(n), sender) {
                            self.smart_ban.blame.note(piece, n, sender, bytes);
                        }
                    }
                }
                io.pool.give_all(blocks);
            }
            other => io.take_home(other),
        }
        if !passed {
            self.fetch_again(io, piece);
        }
        guilty.sort_unstable();
        guilty.dedup();
        self.convict(io, &guilty);
    }

    /// Every wanted piece is verified, and its files were confirmed.
    pub(crate) fn finished(&mut self, io: &mut Io<'_>) {
        // A wanted file may still be in the parts file.
        let Some((_, open)) = self.content.open_mut() else {
            return;
        };
        if open.finished || !self.wanted.selection.is_applied() {
            return;
        }
        open.finished = true;
        if !self.is_seed() {
            // Tells the trackers soon that this is a partial seed (BEP 21).
            self.sources.announcer.need_peers(&mut cx!(io));
        } else if self.traffic.downloaded > 0 {
            self.sources.announcer.completed(&mut cx!(io));
        }
        io.out
            .notice(Some(self.id), None, Level::Info, What::Finished);
        self.change(io, Changes::FINISHED | Changes::STATE | Changes::PROGRESS);
        for id in self.members.ids() {
            if let Some(member) = self.members.get_mut(id) {
                member.stream.peer.set_interested(false);
                self.check_usefulness(io, id);
                self.refresh(io, id);
            }
        }
        self.want(io, Wants::TRACKERS);
        self.save(io);
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
