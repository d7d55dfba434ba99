//! Opening a torrent's files, and finding out what of it is on disk.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use super::assembly::Assembly;
use super::connect::local;
use super::event::{Changes, Level, What};
use super::ops::Purpose;
use super::peers::End;
use super::resume::Record;
use super::status::{FilePriority, PeerSource};
use super::torrent::{Checking, Held, Phase, Selection, Torrent};
use super::{Check, Engine};
use crate::metainfo::{FileKind, Info};
use crate::op::FileStat;
use crate::sync::Arc;
use crate::torrent::picker::{Picker, Sequential};
use crate::{Bitfield, Hasher, Instant, Op, OpError, OpErrorKind, Outcome, TorrentId};

/// Sequential from the first piece to the last.
pub(super) const WHOLE: Sequential = Sequential {
    from: 0,
    window: u32::MAX,
};
/// Pieces hashed at once while checking.
const CHECKS_IN_FLIGHT: usize = 16;
/// Most pieces told one by one to a peer that connected while the metadata was missing; with
/// more, connecting anew is cheaper for both sides.
const MAX_LATE_HAVES: u32 = 1000;

impl Engine {
    /// The metadata is known: the files come next.
    pub(super) fn open_files(&mut self, id: TorrentId, info: Arc<Info>) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        t.info = Some(info.clone());
        t.padded = info.files().iter().any(|f| f.kind == FileKind::Padding);
        (t.halted, t.selection) = (None, Selection::default());
        t.claim = Held::No;
        t.phase = Phase::Opening;
        t.to_open = true;
        t.priorities.truncate(info.files().len());
        self.change(id, Changes::STATE);
        self.dht_tracker(id);
        self.forget_strangers(id);
        self.open_when_quiet(id);
    }

    /// A private torrent has peers from its trackers only (BEP 27): those that other peers and the
    /// DHT told of while a magnet's metadata was unknown go, whatever state they are in.
    fn forget_strangers(&mut self, id: TorrentId) {
        const STRANGERS: [PeerSource; 2] = [PeerSource::Pex, PeerSource::Dht];
        let Some(t) = self.torrents.get_mut(&id).filter(|t| t.is_private()) else {
            return;
        };
        // Before any place becomes free for them, and again for those that have just lost theirs.
        STRANGERS.iter().for_each(|source| t.swarm.forget(*source));
        for index in t.conns.clone() {
            let stranger = self
                .conns
                .at(index)
                .filter(|c| STRANGERS.contains(&c.source));
            if let Some(conn) = stranger.map(|c| c.id) {
                self.close_conn(conn, End::Finished("the torrent is private"));
            }
        }
        if let Some(t) = self.torrents.get_mut(&id) {
            STRANGERS.iter().for_each(|source| t.swarm.forget(*source));
        }
    }

    /// Opens the files once the disk owes nothing: what an earlier phase asked for is not to be
    /// taken for the next one's, nor to land under its checks.
    pub(super) fn open_when_quiet(&mut self, id: TorrentId) {
        let busy = self.out.ops.disk_jobs(id) > 0;
        let Some(t) = self.torrents.get_mut(&id).filter(|t| t.to_open) else {
            return;
        };
        if !matches!(t.phase, Phase::Opening) {
            t.to_open = false;
            self.settle(id);
            return;
        }
        let Some(info) = t.info.clone().filter(|_| !busy) else {
            return;
        };
        t.to_open = false;
        self.out.ops.job(Purpose::Open(id), |op| Op::Open {
            op,
            torrent: id,
            info,
        });
    }

    pub(super) fn opened(&mut self, id: TorrentId, outcome: Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !matches!(t.phase, Phase::Opening) {
            return;
        }
        let files = match outcome {
            Outcome::Opened(files) => files,
            Outcome::Failed { error, .. } => {
                self.disk_failed(id, error);
                return;
            }
            other => {
                self.take_home(other);
                return;
            }
        };
        let Some(info) = t.info.clone() else {
            return;
        };
        if let Some(record) = t.resume.as_mut().filter(|_| t.saving.lost) {
            // They were written to since the last good flush: there is nothing to compare with.
            record.files.clone_from(&files);
        }
        let Judged {
            have,
            doubted,
            steady,
            vouched,
        } = judge_files(t, &info, &files, self.config.boot);
        t.vouched = vouched;
        t.doubted.clear();
        t.files = files;
        let mut durable = Bitfield::new(info.piece_count());
        if let Some(record) = &mut t.resume {
            record.partial.retain(|piece, _| steady.get(*piece));
            let flushed = record.flushed(info.piece_count());
            let kept = |piece: &u32| flushed.as_ref().is_some_and(|f| f.get(*piece));
            have.iter().filter(kept).for_each(|piece| {
                durable.set(piece);
            });
        }
        t.saving.opened(durable);
        if !doubted.is_empty() && t.resume.as_ref().is_some_and(|r| r.clean) {
            let pieces = doubted.len() as u32;
            self.out
                .notice(Some(id), None, Level::Info, What::Rechecking { pieces });
        }
        self.select(id);
        self.begin_check(id, have, doubted);
    }

    pub(super) fn begin_check(&mut self, id: TorrentId, have: Bitfield, doubted: Vec<u32>) {
        let checking = Checking {
            total: doubted.len() as u32,
            queue: doubted.into(),
            out: BTreeSet::new(),
            done: 0,
            have,
        };
        self.check(id, checking);
    }

    /// Hashes what is in the queue of a check, once its turn has come.
    pub(super) fn check(&mut self, id: TorrentId, checking: Checking) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let nothing_to_do = checking.queue.is_empty();
        t.phase = Phase::Checking(checking);
        self.change(id, Changes::STATE);
        if nothing_to_do {
            self.checks_done(id);
        } else {
            self.check_queue.push_back(id);
            self.next_check();
        }
    }

    /// Hashes on, one torrent at a time: a disk with a moving head would suffer otherwise.
    pub(super) fn next_check(&mut self) {
        while let Some(id) = self.check_queue.front().copied() {
            let Some(t) = self.torrents.get_mut(&id) else {
                self.check_queue.pop_front();
                continue;
            };
            let (Phase::Checking(checking), Some(info)) = (&mut t.phase, &t.info) else {
                self.check_queue.pop_front();
                continue;
            };
            while checking.out.len() < CHECKS_IN_FLIGHT {
                let Some(piece) = checking.queue.pop_front() else {
                    break;
                };
                checking.out.insert(piece);
                let (at, len) = (info.piece_offset(piece), u64::from(info.piece_size(piece)));
                self.out.ops.job(Purpose::Check(id, piece), |op| Op::Hash {
                    op,
                    torrent: id,
                    at,
                    len,
                    hasher: Hasher::sha1(),
                });
            }
            return;
        }
    }

    pub(super) fn checked(&mut self, id: TorrentId, piece: u32, outcome: Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Phase::Checking(checking), Some(info)) = (&mut t.phase, &t.info) else {
            return;
        };
        if !checking.out.contains(&piece) {
            // Asked for before the check was interrupted, and again since.
            return;
        }
        let there = match outcome {
            Outcome::Hashed(hasher) => info.piece_hash(piece) == Some(hasher.finish()),
            // Its file is not there, or ends early, and so the piece is not there. Any other error
            // says nothing about it: to fetch it again because a process may open no more files
            // would be wrong.
            Outcome::Failed { error, .. }
                if !matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated) =>
            {
                self.halt_check(id, error);
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
        self.change(id, Changes::PROGRESS);
        if finished {
            self.check_queue.retain(|c| *c != id);
            self.checks_done(id);
        }
        self.next_check();
    }

    /// A check cannot go on for now: what it found is kept until the disk works again.
    fn halt_check(&mut self, id: TorrentId, error: OpError) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if let Phase::Checking(mut checking) = core::mem::replace(&mut t.phase, Phase::Opening) {
            for piece in core::mem::take(&mut checking.out).into_iter().rev() {
                checking.queue.push_front(piece);
            }
            t.halted = Some(checking);
        }
        self.disk_failed(id, error);
    }

    fn checks_done(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let Some(info) = t.info.clone() else {
            return;
        };
        let Phase::Checking(checking) = core::mem::replace(&mut t.phase, Phase::Claiming(None))
        else {
            return;
        };
        let mut picker = Picker::new(&info, checking.have);
        picker.set_sequential(t.sequential.then_some(WHOLE));
        t.picker = Some(picker);
        t.check = Check::Doubted;
        self.apply_priorities(id);
        self.claim(id);
        if let Some(t) = self.torrents.get_mut(&id) {
            t.phase = Phase::Claiming(t.picker.take().map(Box::new));
        }
    }

    /// Peers that connected while the metadata was missing are taken into the swarm proper.
    pub(super) fn meet_peers(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        let Some(pieces) = t.info.as_ref().map(|i| i.piece_count()) else {
            return;
        };
        let (ports, dht) = (self.ports(), self.dht_is_active());
        for index in t.conns.clone() {
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let conn_id = conn.id;
            let Some(peer) = conn.peer.as_mut().filter(|_| conn.established.is_some()) else {
                continue;
            };
            peer.set_pieces(pieces);
            let Some(t) = self.torrents.get(&id) else {
                return;
            };
            let have = t.picker.as_ref().map(Picker::have);
            if have.is_some_and(|have| have.count() > MAX_LATE_HAVES) {
                self.close_conn(conn_id, End::Resting("it has to hear what we have anew"));
                continue;
            }
            // The bitfield's moment has passed; what an earlier session left is told piece by piece.
            if let Some(have) = have {
                have.iter().for_each(|piece| peer.have(piece));
            }
            // Now there is metadata to be had from us.
            let port = ports.towards(conn.remote.ip());
            let local = local(t, &self.config, self.peer_id, port, dht, conn.remote);
            peer.send_extended(&local);
            // It may have told while the files were being looked at.
            self.on_has_changed(conn_id);
            self.drain(conn_id);
        }
    }
}

/// What is to be thought of a torrent's pieces before any is hashed.
struct Judged {
    /// Believed to be there.
    have: Bitfield,
    /// To be hashed.
    doubted: Vec<u32>,
    /// In files that are as they were when the record was saved, so that blocks of partial pieces
    /// are where they were.
    steady: Bitfield,
    /// Files that are known to be this torrent's, whatever they hold.
    vouched: Vec<bool>,
}

impl Torrent {
    /// The pieces that can be checked: the files that they cover are long enough.
    pub(super) fn present(&self, info: &Info, files: &[Option<FileStat>]) -> Bitfield {
        let mut present = Bitfield::full(info.piece_count());
        // A skipped file's bytes may be kept apart, in what is reported behind the files.
        let apart = files.get(info.files().len()).is_some_and(Option::is_some);
        for (i, file) in info.files().iter().enumerate() {
            let skipped = self.priorities.get(i) == Some(&FilePriority::Skip);
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

/// What to believe of the files found, and which pieces to hash. A record is believed of files
/// that are still the same, with their length and time.
fn judge_files(
    t: &Torrent,
    info: &Info,
    files: &[Option<FileStat>],
    boot: Option<[u8; 16]>,
) -> Judged {
    let pieces = info.piece_count();
    let present = t.present(info, files);
    // A skipped file's bytes may be kept apart, in what is reported behind the files.
    let count = info.files().len();
    let apart = files.get(count).copied().flatten();
    let mut changed = Bitfield::new(pieces);
    for piece in &t.doubted {
        changed.set(*piece);
    }
    let mut vouched = Vec::with_capacity(files.len());
    let record = t.resume.as_ref().filter(|_| t.check == Check::Doubted);
    for (i, file) in info.files().iter().enumerate() {
        let found = files.get(i).copied().flatten();
        let then = t.resume.as_ref();
        let then = then.and_then(|r| Some((r.files.get(i).copied().flatten()?, !r.clean)));
        let until_now = t.files.get(i).copied().flatten().filter(|_| t.wrote);
        let until_now = until_now.map(|f| (f, true));
        let vouches = |(then, written_on): (FileStat, bool)| {
            found.is_some_and(|found| {
                // An interrupted process had gone on writing after that record.
                let same = then.id.is_some() && then.id == found.id;
                then.agrees(&found) || written_on && same && then.len <= found.len
            })
        };
        vouched.push(then.is_some_and(vouches) || until_now.is_some_and(vouches));
        if file.kind != FileKind::Regular || file.len == 0 {
            continue;
        }
        let missing = found.map_or(0, |f| f.len) < file.len;
        let skipped = t.priorities.get(i) == Some(&FilePriority::Skip);
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
    if t.check == Check::Nothing {
        return Judged {
            have: present,
            doubted: Vec::new(),
            steady: Bitfield::new(pieces),
            vouched,
        };
    }
    let believed = record.and_then(|r| r.believed(boot, pieces));
    let clean = record.is_some_and(|r| r.clean);
    // Nothing to go by: all that is present is hashed. A clean record is complete: what it does
    // not list is not there. Otherwise pieces may have come after it was written.
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
            // Verified before a reboot, but not flushed.
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

/// Puts the blocks of half-fetched pieces back to use.
pub(super) fn restore_partial(
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
