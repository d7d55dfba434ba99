//! The life of a torrent: added, opened, checked, at work, at rest, gone.

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use super::deadlines::Deadlines;
use super::dht::PeerSearch;
use super::event::{Changes, Level, What};
use super::fetch::Fetch;
use super::ops::Purpose;
use super::resume::Record;
use super::saving::Saving;
use super::status::{FilePriority, PeerSource};
use super::swarm::Swarm;
use super::timers::Timer;
use super::torrent::{Held, Phase, Selection, Torrent};
use super::{AddError, AddTorrent, Check, Engine, Existing, Source, Stop, cx};
use crate::metainfo::FileKind;
use crate::peer::crypto::req2;
use crate::rate::Rate;
use crate::throttle::{BucketId, Direction};
use crate::torrent::blame::Blame;
use crate::torrent::choker::{Choker, Slots};
use crate::torrent::picker::Priority;
use crate::tracker::{AnnounceConfig, Announcer, Families, Reach};
use crate::{Instant, Op, OpErrorKind, Outcome, TorrentId};

impl Engine {
    /// Adds a torrent.
    ///
    /// # Errors
    /// See [`AddError`].
    pub fn add(&mut self, now: Instant, add: AddTorrent) -> Result<TorrentId, AddError> {
        self.tick(now);
        if self.stop != Stop::Running {
            return Err(AddError::Stopping);
        }
        let (info, info_hash, dn) = match add.source {
            Source::Info(info) => {
                let hash = info.info_hash();
                (Some(info), hash, None)
            }
            Source::Hash { info_hash, name } => (None, info_hash, name),
        };
        if let Some(id) = self.by_hash.get(&info_hash) {
            return Err(AddError::Duplicate(*id));
        }
        if self.torrents.len() >= self.config.max_torrents as usize {
            return Err(AddError::Full);
        }
        self.next_torrent += 1;
        let id = TorrentId(self.next_torrent);
        let resume = add
            .resume
            .as_deref()
            .and_then(|bytes| self.read_record(id, bytes, info_hash));
        let announce = AnnounceConfig {
            families: match (self.caps.ipv4, self.caps.ipv6) {
                _ if self.caps.proxied => Families::Any,
                (true, true) => Families::Both,
                (false, true) => Families::V6,
                _ => Families::V4,
            },
            reach: if self.config.announce_to_all {
                Reach::All
            } else {
                Reach::First
            },
            ..AnnounceConfig::default()
        };
        let mut announcer = Announcer::new(&mut cx!(self), info_hash, &add.trackers, announce);
        let private = info.as_ref().is_some_and(|i| i.private());
        let dht_up = self.dht_is_active();
        if self.dht.is_some() && !private {
            announcer.add_dht(&mut cx!(self), dht_up);
        }
        if let Some(record) = &resume {
            announcer.restore(&mut cx!(self), &record.trackers);
        }
        let bucket = self.throttle.add(BucketId::ROOT);
        let priorities = match &resume {
            Some(record) if add.priorities.is_empty() => record.priorities.clone(),
            _ => add.priorities,
        };
        let torrent = Torrent {
            id,
            info_hash,
            dn,
            info: None,
            padded: false,
            phase: Phase::Metadata,
            to_open: false,
            paused: add.paused,
            check: add.check,
            halted: None,
            picker: None,
            assemblies: BTreeMap::new(),
            assembled: 0,
            freed: false,
            blame: Blame::new(&mut cx!(self)),
            suspects: BTreeMap::new(),
            departed: VecDeque::new(),
            fetch: Fetch::default(),
            priorities,
            selection: Selection::default(),
            sequential: add.sequential,
            deadlines: Deadlines::default(),
            announcer,
            dht: PeerSearch::default(),
            swarm: Swarm::new(self.peer_limits(), self.rng.next_u32()),
            conns: Vec::new(),
            connecting: 0,
            dialling: false,
            choker: Choker::new(self.config.upload_slots.map_or(Slots::Auto, Slots::Fixed)),
            bucket,
            existing: add.existing,
            claim: Held::No,
            ours: Vec::new(),
            wrote: false,
            vouched: Vec::new(),
            confirming: false,
            trouble: None,
            unreadable: Vec::new(),
            doubted: Vec::new(),
            failing: None,
            files: Vec::new(),
            unsaved: false,
            saving: Saving::new(),
            wanted: 0,
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            downloaded_before: resume.as_ref().map_or(0, |r| r.downloaded),
            uploaded_before: resume.as_ref().map_or(0, |r| r.uploaded),
            down: Rate::new(self.now),
            up: Rate::new(self.now),
            finished: false,
            changes: Changes::default(),
            resume,
        };
        self.torrents.insert(id, torrent);
        self.by_hash.insert(info_hash, id);
        self.by_req2.insert(req2(&info_hash), info_hash);
        self.limit_torrent(id, add.limit_down, add.limit_up);
        self.change(id, Changes::STATE);
        if let Some(info) = info {
            self.open_files(id, info);
        }
        self.start(id);
        self.learn(id, add.peers, PeerSource::Manual);
        let remembered = self
            .torrents
            .get(&id)
            .and_then(|t| t.resume.as_ref())
            .map(|r| r.peers.clone());
        self.learn(id, remembered.unwrap_or_default(), PeerSource::Resume);
        if !private {
            self.dht_contacts(add.nodes);
        }
        self.note_no_trackers(id);
        Ok(id)
    }

    pub(super) fn limit_torrent(&mut self, id: TorrentId, down: Option<u64>, up: Option<u64>) {
        if let Some(t) = self.torrents.get(&id) {
            self.throttle
                .set_rate(self.now, t.bucket, Direction::Down, down);
            self.throttle
                .set_rate(self.now, t.bucket, Direction::Up, up);
            self.limits_changed([id]);
        }
    }

    fn read_record(
        &mut self,
        id: TorrentId,
        bytes: &[u8],
        info_hash: crate::InfoHash,
    ) -> Option<Record> {
        let problem = match Record::decode(bytes) {
            Ok(record) if record.info_hash == info_hash => return Some(record),
            Ok(_) => "it belongs to another torrent",
            Err(problem) => problem,
        };
        let message = alloc::format!(
            "the resume record is not used: {problem}; the files are checked instead"
        );
        self.out
            .notice(Some(id), None, Level::Warning, What::Disk { message });
        None
    }

    // ---- at work and at rest ----

    /// Sets trackers and peers going, if the torrent is to run.
    pub(super) fn start(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !t.is_running() {
            return;
        }
        t.announcer.start(&mut cx!(self));
        self.dht_wanted(id);
        if !self.out.timers.is_armed(Timer::Save(id)) {
            self.out
                .timers
                .set(Timer::Save(id), Some(self.now + self.config.save_interval));
        }
        if self
            .torrents
            .get(&id)
            .is_some_and(|t| t.is_done() && !t.is_confirmed())
        {
            self.confirm(id);
        }
        self.answer_waiting(id);
        self.pump_trackers(id);
        self.connect_more(id);
    }

    /// Lets peers and trackers go and writes what waits.
    pub(super) fn rest(&mut self, id: TorrentId, why: &'static str) {
        for timer in [
            Timer::Connect(id),
            Timer::Unchoke(id),
            Timer::Pex(id),
            Timer::Save(id),
            Timer::Round(id),
            Timer::Enough(id),
        ] {
            self.out.timers.set(timer, None);
        }
        self.close_all(id, why);
        self.answer_waiting(id);
        self.flush_pieces(id);
        // A torrent at rest is checked all the same.
        let checking = matches!(
            self.torrents.get(&id).map(|t| &t.phase),
            Some(Phase::Checking(_))
        );
        let home = self.out.ops.drop_reads(id, !checking);
        self.pool.give_all(home);
        if let Some(t) = self.torrents.get_mut(&id) {
            t.announcer.stop(&mut cx!(self));
        }
        self.dht_drop_search(id);
        self.pump_trackers(id);
    }

    /// Puts a torrent to rest: peers are let go, trackers hear `stopped`.
    pub fn pause(&mut self, now: Instant, id: TorrentId) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        if !t.paused {
            t.paused = true;
            t.unsaved = true;
            self.rest(id, "the torrent is paused");
            self.settle(id);
            self.change(id, Changes::STATE);
        }
        true
    }

    /// Wakes a torrent, also out of [`State::Failed`](super::State::Failed).
    pub fn resume(&mut self, now: Instant, id: TorrentId) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        t.paused = false;
        // A later question is answered with it again.
        t.failing = None;
        t.swarm.hurry(self.now);
        self.retry(id);
        self.start(id);
        self.change(id, Changes::STATE);
        true
    }

    /// Tries again after a disk error.
    pub(super) fn retry(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let Phase::Failed(error) = &t.phase else {
            return;
        };
        // A file that was not what it should be has to be looked at again.
        let vanished = error.kind.is_obstruction()
            || matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        if let Some(halted) = t.halted.take() {
            self.check(id, halted);
            return;
        }
        let anew = vanished || t.saving.lost || t.selection.failed || t.claim == Held::No;
        match (&t.picker, t.info.clone()) {
            (Some(_), Some(_)) if anew => {
                self.reopen(id, "its files are opened anew");
            }
            (Some(_), _) => {
                t.phase = Phase::Ready;
                self.change(id, Changes::STATE);
                self.start(id);
            }
            (None, Some(info)) => self.open_files(id, info),
            (None, None) => {
                t.phase = Phase::Metadata;
                self.change(id, Changes::STATE);
                self.start(id);
            }
        }
    }

    /// Hashes everything that is on disk anew.
    pub fn recheck(&mut self, now: Instant, id: TorrentId) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        let (Phase::Ready | Phase::Failed(_), Some(info)) = (&t.phase, t.info.clone()) else {
            return true;
        };
        t.check = Check::All;
        // Or a stop in the middle would leave a record that is believed.
        (t.resume, t.unsaved) = (None, true);
        self.close_files(id, "the torrent is being checked");
        self.open_files(id, info);
        true
    }

    /// Takes a torrent back to where its files are not known, to be opened again.
    pub(super) fn close_files(&mut self, id: TorrentId, why: &'static str) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        // First of all, or places that become free would be filled again.
        t.phase = Phase::Opening;
        t.wrote = t.claim == Held::Write && !t.finished;
        // Peers that were of no use to a seed may be soon.
        t.swarm.hurry(self.now);
        self.rest(id, why);
        self.discard_assemblies(id);
        if let Some(t) = self.torrents.get_mut(&id) {
            if let Some(picker) = t.picker.take() {
                t.deadlines.keep(&picker);
            }
            t.finished = false;
        }
    }

    pub(super) fn discard_assemblies(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(&id) {
            for assembly in core::mem::take(&mut t.assemblies).into_values() {
                self.pool.give_all(assembly.abandon());
            }
        }
    }

    /// Hands file priorities to the picker and the disk.
    pub(super) fn apply_priorities(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let (Some(info), Some(picker)) = (&t.info, &mut t.picker) else {
            return;
        };
        t.wanted = info.total_len();
        let read_only = t.existing == Existing::ReadOnly;
        if t.priorities.is_empty() {
            if read_only {
                (0..info.piece_count()).for_each(|p| picker.set_priority(p, Priority::Skip));
            }
            return;
        }
        t.wanted = 0;
        // A piece is wanted as much as the most wanted file in it.
        let mut of_piece: BTreeMap<u32, FilePriority> = BTreeMap::new();
        for (file, f) in info.files().iter().enumerate() {
            if f.kind != FileKind::Regular {
                continue;
            }
            let priority = t.priorities.get(file).copied().unwrap_or_default();
            for piece in info.pieces_of(file) {
                let p = of_piece.entry(piece).or_insert(FilePriority::Skip);
                *p = (*p).max(priority);
            }
        }
        for piece in 0..info.piece_count() {
            let priority = of_piece.get(&piece).copied().unwrap_or(FilePriority::Skip);
            if priority != FilePriority::Skip {
                t.wanted += u64::from(info.piece_size(piece));
            }
            picker.set_priority(
                piece,
                match priority {
                    _ if read_only => Priority::Skip,
                    FilePriority::Skip => Priority::Skip,
                    FilePriority::Low => Priority::Low,
                    FilePriority::Normal => Priority::Normal,
                    FilePriority::High => Priority::High,
                },
            );
        }
    }

    /// Tells the disk which files are wanted.
    pub(super) fn select(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        let Some(info) = &t.info else {
            return;
        };
        let read_only = t.existing == Existing::ReadOnly;
        if t.priorities.is_empty() && !read_only {
            return;
        }
        // Where nothing may be written, nothing is put together from a parts file.
        let wanted = (0..info.files().len())
            .map(|f| {
                !read_only && t.priorities.get(f).copied().unwrap_or_default() != FilePriority::Skip
            })
            .collect();
        if let Some(t) = self.torrents.get_mut(&id) {
            t.selection.asked();
        }
        self.out.ops.job(Purpose::Select(id), |op| Op::Select {
            op,
            torrent: id,
            wanted,
        });
    }

    pub(super) fn selected(&mut self, id: TorrentId, outcome: &Outcome) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if let Outcome::Failed { error, .. } = outcome {
            // The files are opened anew before it is tried again.
            t.selection.answered(true);
            self.disk_failed(id, error.clone());
            return;
        }
        t.selection.answered(false);
        if t.is_done() && t.is_exchanging() && !t.is_confirmed() {
            self.confirm(id);
        }
        self.claim_more(id);
        self.change(id, Changes::STATE);
    }
}
