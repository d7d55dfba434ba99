//! Opening a torrent's files, and finding out which pieces are on disk.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use super::assembly::Assembly;
use super::resume::Record;
use super::selection::{Selection, prioritise};
use super::verifier::{Judgement, Verifier};
use super::{Checking, Content, Known, Opening, Store};
use crate::metainfo::{FileKind, Info};
use crate::op::{FileStat, HashJob};
use crate::sync::Arc;
use crate::torrent::conn::Conn;
use crate::torrent::conn::end::End;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::torrent::picker::{Picker, Sequential};
use crate::torrent::status::{FilePriority, PeerSource};
use crate::torrent::{Check, Existing};
use crate::torrent::{Torrent, Wants};
use crate::{Bitfield, ConnId, Hasher, Instant, Op, OpError, OpErrorKind, Outcome};

/// Sequential order from the first piece to the last.
pub(crate) const WHOLE: Sequential = Sequential {
    from: 0,
    window: u32::MAX,
};
/// How many pieces a check hashes at once.
const CHECKS_IN_FLIGHT: usize = 16;
/// The maximum number of `have` messages to a peer that connected before the metadata was known. With more pieces, connecting
/// again is cheaper for both sides.
const MAX_LATE_HAVES: u32 = 1000;

impl Torrent {
    /// The metadata is known: opens the files next.
    pub(crate) fn open_files(&mut self, io: &mut Io<'_>, info: Arc<Info>) {
        self.wanted.selection = Selection::default();
        self.wanted.priorities.truncate(info.files().len());
        self.content = Content::known(info);
        self.change(io, Changes::STATE);
        self.want(io, Wants::DHT_TRACKER);
        self.forget_strangers(io);
        self.open_when_quiet(io);
    }

    /// A private torrent takes peers from its trackers only (BEP 27). Drops those that the DHT and other peers told of before a
    /// magnet's metadata was known, whatever their state.
    fn forget_strangers(&mut self, io: &mut Io<'_>) {
        const STRANGERS: [PeerSource; 2] = [PeerSource::Pex, PeerSource::Dht];
        if !self.is_private() {
            return;
        }
        // Done before their places become free, and again for those that were just disconnected.
        STRANGERS
            .iter()
            .for_each(|source| self.peer_list.forget(*source));
        let end = "the torrent is private";
        let strangers = self
            .members
            .iter()
            .filter(|m| STRANGERS.contains(&m.source));
        let strangers: Vec<MemberId> = strangers.map(|m| m.id).collect();
        for id in strangers {
            self.close_member(io, id, End::Finished(end));
        }
        let unfinished: Vec<ConnId> = self.members.unfinished().collect();
        for conn in unfinished {
            let source = io.conns.get(conn).and_then(Conn::source);
            if source.is_some_and(|source| STRANGERS.contains(&source)) {
                self.close_conn(io, conn, End::Finished(end));
            }
        }
        STRANGERS
            .iter()
            .for_each(|source| self.peer_list.forget(*source));
    }

    /// Opens the files once no disk job is in flight, so that the outcome of an earlier job is not taken for one of the check,
    /// and no write happens during it.
    pub(crate) fn open_when_quiet(&mut self, io: &mut Io<'_>) {
        let Content::Known(Known {
            info,
            store: Store::Opening(opening @ Opening::Due),
            ..
        }) = &mut self.content
        else {
            return;
        };
        if io.out.ops.disk_jobs(self.id) > 0 {
            return;
        }
        *opening = Opening::Asked;
        let info = info.clone();
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Open), |op| Op::Open {
                op,
                torrent: self.id,
                info,
            });
    }

    pub(crate) fn opened(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let Content::Known(Known {
            info,
            store: Store::Opening(Opening::Asked),
            ..
        }) = &self.content
        else {
            return;
        };
        if !self.standing.is_up() {
            return;
        }
        let files = match outcome {
            Outcome::Opened(files) => files,
            Outcome::Failed { error, .. } => {
                self.disk_failed(io, error);
                return;
            }
            other => {
                io.take_home(other);
                return;
            }
        };
        let info = info.clone();
        if let Some(record) = self.resume.as_mut().filter(|_| self.durability.is_lost()) {
            // They were written to since the last successful flush, so there is nothing to compare with.
            record.files.clone_from(&files);
        }
        let Judged {
            have,
            doubted,
            steady,
            vouched,
        } = judge_files(self, &info, &files, io.setup.config.boot);
        self.files.vouched = vouched;
        self.files.stats = files;
        self.files.before.doubted.clear();
        let mut durable = Bitfield::new(info.piece_count());
        if let Some(record) = &mut self.resume {
            record.partial.retain(|piece, _| steady.get(*piece));
            let flushed = record.flushed(info.piece_count());
            let kept = |piece: &u32| flushed.as_ref().is_some_and(|f| f.get(*piece));
            have.iter().filter(kept).for_each(|piece| {
                durable.set(piece);
            });
        }
        self.durability.opened(durable);
        if !doubted.is_empty() && self.resume.as_ref().is_some_and(|r| r.clean) {
            let pieces = doubted.len() as u32;
            io.out.notice(
                Some(self.id),
                None,
                Level::Info,
                What::Rechecking { pieces },
            );
        }
        self.select(io);
        self.check(io, Checking::new(have, doubted));
    }

    /// Queues a check, which starts when it is its turn.
    pub(crate) fn check(&mut self, io: &mut Io<'_>, checking: Checking) {
        let nothing_to_do = checking.queue.is_empty();
        if let Some(store) = self.content.store_mut() {
            *store = Store::Checking(checking);
        }
        self.change(io, Changes::STATE);
        if nothing_to_do {
            self.checks_done(io);
        } else {
            io.out.checks.push_back(self.id);
            io.out.next_check = true;
        }
    }

    /// Continues a check. Returns `false` if there is nothing to hash.
    pub(crate) fn check_on(&mut self, io: &mut Io<'_>) -> bool {
        let Content::Known(Known {
            info,
            store: Store::Checking(checking),
            ..
        }) = &mut self.content
        else {
            return false;
        };
        if !self.standing.is_up() {
            return false;
        }
        while checking.out.len() < CHECKS_IN_FLIGHT {
            let Some(piece) = checking.queue.pop_front() else {
                break;
            };
            checking.out.insert(piece);
            let (at, len) = (info.piece_offset(piece), u64::from(info.piece_size(piece)));
            let torrent = self.id;
            let purpose = Purpose::Disk(torrent, DiskJob::Check { piece });
            io.out.ops.job(purpose, |op| {
                Op::Hash(HashJob::new(op, torrent, at, len, Hasher::sha1()))
            });
        }
        true
    }

    pub(crate) fn checked(&mut self, io: &mut Io<'_>, piece: u32, outcome: Outcome) {
        let Content::Known(Known {
            info,
            store: Store::Checking(checking),
            ..
        }) = &mut self.content
        else {
            return;
        };
        if !self.standing.is_up() || !checking.out.contains(&piece) {
            // The check was interrupted, and has requested this hash again.
            return;
        }
        let there = match outcome {
            Outcome::Hashed(hasher) => {
                Verifier::new(info).judge(piece, hasher.finish()) == Judgement::Passed
            }
            // The file is missing or ends early, so the piece is missing. Any other error says nothing about the piece: it must
            // not be downloaded again because, say, the process may not open more files.
            Outcome::Failed { error, .. }
                if !matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated) =>
            {
                self.halt_check(io, error);
                return;
            }
            _ => false,
        };
        if there {
            checking.have.set(piece);
        }
        checking.out.remove(&piece);
        checking.done += 1;
        let finished = checking.queue.is_empty() && checking.out.is_empty();
        self.change(io, Changes::PROGRESS);
        if finished {
            io.out.checks.retain(|c| *c != self.id);
            self.checks_done(io);
        }
        io.out.next_check = true;
    }

    /// Interrupts a check because of an error. Its results are kept until the disk works again.
    fn halt_check(&mut self, io: &mut Io<'_>, error: OpError) {
        let store = self.content.store_mut();
        let store = store.map(|store| core::mem::replace(store, Store::Closed));
        self.disk_failed(io, error);
        if let (Some(Store::Checking(mut checking)), Some(store)) =
            (store, self.content.store_mut())
        {
            checking.halt();
            *store = Store::Halted(checking);
        }
    }

    fn checks_done(&mut self, io: &mut Io<'_>) {
        let Content::Known(Known { info, store, .. }) = &mut self.content else {
            return;
        };
        let have = match core::mem::replace(store, Store::Closed) {
            Store::Checking(checking) => checking.have,
            other => {
                *store = other;
                return;
            }
        };
        let mut picker = Picker::new(info, have);
        picker.set_sequential(self.wanted.sequential.then_some(WHOLE));
        let read_only = self.files.existing == Existing::ReadOnly;
        prioritise(&mut picker, info, &self.wanted.priorities, read_only);
        *store = Store::Claiming(Box::new(picker));
        self.files.check = Check::Doubted;
        self.claim(io);
    }

    /// Starts to exchange pieces with the peers that connected before the metadata was known.
    pub(crate) fn meet_peers(&mut self, io: &mut Io<'_>) {
        let Some(pieces) = self.content.info().map(|i| i.piece_count()) else {
            return;
        };
        for id in self.members.ids() {
            let Some(remote) = self.members.get(id).map(|member| member.stream.remote) else {
                continue;
            };
            let local = self.local(io, remote);
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            let peer = &mut member.stream.peer;
            peer.set_pieces(pieces);
            let have = self.content.picker().map(Picker::have);
            if have.is_some_and(|have| have.count() > MAX_LATE_HAVES) {
                let end = End::Resting("it has to hear what we have anew");
                self.close_member(io, id, end);
                continue;
            }
            // A bitfield may only be sent first, so pieces of an earlier session are announced one by one.
            if let Some(have) = have {
                have.iter().for_each(|piece| peer.have(piece));
            }
            // We can serve the metadata now.
            peer.send_extended(&local);
            // It may have told its pieces while the files were being opened.
            self.on_has_changed(io, id);
            self.handle_peer(io, id);
        }
    }
}

/// What is known of a torrent's pieces before any of them is hashed.
struct Judged {
    /// The pieces that are trusted.
    have: Bitfield,
    /// The pieces to hash.
    doubted: Vec<u32>,
    /// The pieces in files that are unchanged since the record was saved, so that blocks of partial pieces are still there.
    steady: Bitfield,
    /// The files that are known to belong to this torrent, whatever they hold.
    vouched: Vec<bool>,
}

impl Torrent {
    /// The pieces that can be checked because their files are long enough.
    pub(crate) fn present(&self, info: &Info, files: &[Option<FileStat>]) -> Bitfield {
        let mut present = Bitfield::full(info.piece_count());
        // The bytes of a skipped file may be in the parts file, which is reported after the files.
        let apart = files.get(info.files().len()).is_some_and(Option::is_some);
        for (i, file) in info.files().iter().enumerate() {
            let skipped = self.wanted.priorities.get(i) == Some(&FilePriority::Skip);
            if file.kind != FileKind::Regular || skipped && apart {
                continue;
            }
            let found = files.get(i).copied().flatten().map_or(0, |f| f.len);
            if found < file.len {
                let first = ((file.offset + found) / u64::from(info.piece_len())) as u32;
                for piece in first..info.pieces_of(i).end {
                    present.clear(piece);
                }
            }
        }
        present
    }
}

/// Decides which pieces to trust and which to hash. The record is trusted for files that have the same identity, length and
/// modification time.
fn judge_files(
    t: &Torrent,
    info: &Info,
    files: &[Option<FileStat>],
    boot: Option<[u8; 16]>,
) -> Judged {
    let pieces = info.piece_count();
    let present = t.present(info, files);
    // The bytes of a skipped file may be in the parts file, which is reported after the files.
    let count = info.files().len();
    let apart = files.get(count).copied().flatten();
    let mut changed = Bitfield::new(pieces);
    for piece in &t.files.before.doubted {
        changed.set(*piece);
    }
    let mut vouched = Vec::with_capacity(files.len());
    let record = t
        .resume
        .as_ref()
        .filter(|_| t.files.check == Check::Doubted);
    for (i, file) in info.files().iter().enumerate() {
        let found = files.get(i).copied().flatten();
        let then = t.resume.as_ref();
        let then = then.and_then(|r| Some((r.files.get(i).copied().flatten()?, !r.clean)));
        let until_now = t.files.get(i).filter(|_| t.files.before.writing);
        let until_now = until_now.map(|f| (f, true));
        let vouches = |(then, written_on): (FileStat, bool)| {
            found.is_some_and(|found| {
                // The process was interrupted, and had written after that record.
                let same = then.id.is_some() && then.id == found.id;
                then.agrees(&found) || written_on && same && then.len <= found.len
            })
        };
        vouched.push(then.is_some_and(vouches) || until_now.is_some_and(vouches));
        if file.kind != FileKind::Regular || file.len == 0 {
            continue;
        }
        let missing = found.map_or(0, |f| f.len) < file.len;
        let skipped = t.wanted.priorities.get(i) == Some(&FilePriority::Skip);
        let then = |file: usize| record.and_then(|r| r.files.get(file).copied().flatten());
        let agrees = |a: Option<FileStat>, b: Option<FileStat>| match (a, b) {
            (Some(a), Some(b)) => a.agrees(&b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let same = agrees(then(i), found) && !(missing && skipped && !agrees(then(count), apart));
        if record.is_some() && !same {
            info.pieces_of(i).for_each(|p| {
                changed.set(p);
            });
        }
    }
    if t.files.check == Check::Nothing {
        return Judged {
            have: present,
            doubted: Vec::new(),
            steady: Bitfield::new(pieces),
            vouched,
        };
    }
    let believed = record.and_then(|r| r.believed(boot, pieces));
    let clean = record.is_some_and(|r| r.clean);
    // Without a record, everything present is hashed. A clean record is complete: a piece that it does not list is missing.
    // Otherwise, pieces may have been written after it.
    let mut have = Bitfield::new(pieces);
    let mut doubted = Vec::new();
    for piece in 0..pieces {
        let listed = believed.as_ref().is_some_and(|b| b.get(piece));
        if !present.get(piece) {
            continue;
        }
        if listed && !changed.get(piece) {
            have.set(piece);
        } else if believed.is_none() || !clean || changed.get(piece) || listed {
            doubted.push(piece);
        } else if record.is_some_and(|r| r.boot.is_none() || r.boot != boot) && clean {
            // It was verified before a reboot, but not flushed.
            let was_there = record
                .and_then(|r| Bitfield::from_wire(&r.have, pieces))
                .is_some_and(|h| h.get(piece));
            if was_there {
                doubted.push(piece);
            }
        }
    }
    let mut steady = Bitfield::new(pieces);
    if record.is_some_and(|r| r.keeps_partial(boot)) {
        for piece in (0..pieces).filter(|p| present.get(*p) && !changed.get(*p)) {
            steady.set(piece);
        }
    }
    Judged {
        have,
        doubted,
        steady,
        vouched,
    }
}

/// Restores the blocks of partial pieces.
pub(crate) fn restore_partial(
    now: Instant,
    picker: &mut Picker,
    info: &Info,
    record: Record,
) -> BTreeMap<u32, Assembly> {
    let mut assemblies = BTreeMap::new();
    if !record.clean {
        return assemblies;
    }
    for (piece, blocks) in record.partial {
        let count = info.blocks_in(piece);
        let Some(blocks) = Bitfield::from_wire(&blocks, count) else {
            continue;
        };
        if blocks.is_full() || blocks.count() == 0 || picker.have().get(piece) {
            continue;
        }
        picker.restore_partial(now, piece, &blocks);
        if picker.partial(piece).is_some() {
            assemblies.insert(piece, Assembly::restored(info.piece_size(piece), blocks));
        }
    }
    assemblies
}
