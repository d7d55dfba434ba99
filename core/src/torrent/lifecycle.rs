//! How a torrent starts, pauses, fails, resumes and stops. A torrent that stops writes the blocks that it has received, saves its
//! record, tells its trackers, and releases its files.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use super::blame::Blame;
use super::conn::Conn;
use super::conn::end::End;
use super::conn::members::Members;
use super::content::assembly::Assembly;
use super::content::durability::Durability;
use super::content::fetch::Fetch;
use super::content::files::Files;
use super::content::open::Access;
use super::content::resume::{MAX_PEERS, Record};
use super::content::selection::Selection;
use super::content::wanted::Wanted;
use super::content::{Content, Opening, Store};
use super::intents::Intents;
use super::io::Io;
use super::member_id::MemberId;
use super::outbox::event::{Changes, Level, What};
use super::outbox::ops::Purpose;
use super::outbox::timers::{Timer, TorrentTimer};
use super::peer_list::PeerList;
use super::peers::upload_slots::UploadSlots;
use super::picker::Picker;
use super::smart_ban::SmartBan;
use super::sources::Sources;
use super::standing::{Standing, Step, Stopping};
use super::status::PeerSource;
use super::traffic::Traffic;
use super::{AddTorrent, Check, Source, cx};
use super::{Torrent, Wants};
use crate::metainfo::Info;
use crate::sync::Arc;
use crate::throttle::BucketId;
use crate::{BlockPool, ConnId, InfoHash, Op, OpErrorKind, Outcome, TorrentId};

impl Torrent {
    /// Creates a torrent whose last resume record is `resume`. [`Torrent::begin`] starts it.
    pub(crate) fn new(
        io: &mut Io<'_>,
        id: TorrentId,
        (info_hash, name): (InfoHash, Option<String>),
        resume: Option<Record>,
        add: &mut AddTorrent,
    ) -> Self {
        let sources = Sources::new(io, id, info_hash, add, resume.as_ref());
        let bucket = io.throttle.add(BucketId::ROOT);
        let priorities = match &resume {
            Some(record) if add.priorities.is_empty() => record.priorities.clone(),
            _ => core::mem::take(&mut add.priorities),
        };
        let smart_ban = SmartBan::new(Blame::new(&mut cx!(io)));
        Self {
            id,
            info_hash,
            dn: name,
            content: Content::Unknown(Fetch::default()),
            wanted: Wanted::new(priorities, add.sequential),
            files: Files::new(add.existing, add.check),
            durability: Durability::new(),
            standing: Standing::Well,
            paused: add.paused,
            sources,
            peer_list: PeerList::new(io.peer_limits(), io.rng.next_u32()),
            members: Members::default(),
            upload_slots: UploadSlots::new(id, &io.setup.config),
            smart_ban,
            bucket,
            traffic: Traffic::new(io.now, resume.as_ref()),
            intents: Intents::new(id),
            last_record: resume,
        }
    }

    /// It was added, as the application asked: opens its files, and looks for peers.
    pub(crate) fn begin(&mut self, io: &mut Io<'_>, add: AddTorrent) {
        let remembered = self.last_record.as_ref().map(|record| record.peers.clone());
        self.change(io, Changes::STATE);
        if let Source::Info(info) = add.source {
            self.open_files(io, info);
        }
        self.start(io);
        self.learn(io, add.peers, PeerSource::Manual);
        self.learn(io, remembered.unwrap_or_default(), PeerSource::Resume);
    }

    // ---- starting and pausing ----

    /// Starts to ask trackers and to connect to peers, if the torrent is to run.
    pub(crate) fn start(&mut self, io: &mut Io<'_>) {
        if !self.is_running() {
            return;
        }
        self.sources.announcer.start(&mut cx!(io));
        self.want(io, Wants::DHT);
        io.out.timers.arm(
            Timer::Torrent(self.id, TorrentTimer::Save),
            io.now + io.setup.config.save_interval,
        );
        if self.is_done() && !self.is_confirmed() {
            self.confirm(io, None);
        }
        self.answer_waiting(io);
        self.want(io, Wants::TRACKERS | Wants::PLACES);
    }

    /// Closes the peers, stops the announcer and writes the blocks that wait. The announcer still tells `stopped`, so the timer
    /// of the trackers stays armed.
    pub(crate) fn suspend(&mut self, io: &mut Io<'_>, why: &'static str) {
        for timer in [
            Timer::Torrent(self.id, TorrentTimer::Connect),
            Timer::Torrent(self.id, TorrentTimer::Unchoke),
            Timer::Torrent(self.id, TorrentTimer::Pex),
            Timer::Torrent(self.id, TorrentTimer::Save),
            Timer::Torrent(self.id, TorrentTimer::Round),
            Timer::Torrent(self.id, TorrentTimer::Enough),
            Timer::Torrent(self.id, TorrentTimer::Retry),
        ] {
            io.out.timers.set(timer, None);
        }
        self.close_all(io, why);
        self.answer_waiting(io);
        self.flush_pieces(io);
        // A paused torrent is checked all the same.
        let checking = matches!(self.content.store(), Some(Store::Checking(_)));
        let checking = checking && self.standing.is_up();
        let home = io.out.ops.drop_reads(self.id, !checking);
        io.pool.give_all(home);
        self.sources.announcer.stop(&mut cx!(io));
        self.want(io, Wants::DHT_END | Wants::TRACKERS);
    }

    /// Pauses the torrent: its peers are closed, and its trackers are told `stopped`.
    pub(crate) fn pause(&mut self, io: &mut Io<'_>) {
        if !self.paused {
            self.paused = true;
            self.durability.unsaved = true;
            self.suspend(io, "the torrent is paused");
            self.want(io, Wants::PROCEED);
            self.change(io, Changes::STATE);
        }
    }

    /// Resumes the torrent, also out of [`State::Failed`](super::State::Failed).
    pub(crate) fn unpause(&mut self, io: &mut Io<'_>) {
        self.paused = false;
        self.peer_list.hurry(io.now);
        self.retry(io);
        // If the same error comes back, it is reported again.
        self.standing.recovered();
        self.start(io);
        self.change(io, Changes::STATE);
    }

    /// Tries again after an error.
    pub(crate) fn retry(&mut self, io: &mut Io<'_>) {
        let Standing::Failed(error) = &self.standing else {
            return;
        };
        // A file that was not as it should be has to be examined again.
        let vanished = error.kind.is_obstruction()
            || matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        let again = vanished || self.durability.is_lost() || self.wanted.selection.failed;
        self.standing.retry();
        let known = match &mut self.content {
            Content::Known(known) => known,
            Content::Unknown(_) => {
                self.change(io, Changes::STATE);
                self.start(io);
                return;
            }
        };
        match core::mem::replace(&mut known.store, Store::Closed) {
            Store::Halted(check) => self.check(io, check),
            Store::Open(open) => {
                let refused = open.access == Access::Refused;
                known.store = Store::Open(open);
                if again || refused {
                    self.reopen(io, "its files are opened again");
                } else {
                    self.change(io, Changes::STATE);
                    self.start(io);
                }
            }
            _ => {
                let info = known.info.clone();
                self.open_files(io, info);
            }
        }
    }

    /// Hashes everything on disk again.
    pub(crate) fn recheck(&mut self, io: &mut Io<'_>) {
        let Content::Known(known) = &self.content else {
            return;
        };
        let failed = matches!(self.standing, Standing::Failed(_));
        if !failed && !self.is_ready() {
            return;
        }
        let info = known.info.clone();
        self.files.check = Check::All;
        self.standing = Standing::Well;
        // Otherwise, a stop during the check would leave a record that is trusted.
        (self.last_record, self.durability.unsaved) = (None, true);
        self.close_files(io, "the torrent is being checked");
        self.open_files(io, info);
    }

    /// Closes the files of a torrent and opens them again.
    pub(crate) fn close_files(&mut self, io: &mut Io<'_>, why: &'static str) {
        // Peers that a seed could not use may become useful.
        self.peer_list.hurry(io.now);
        self.flush_pieces(io);
        // Set before the peers are closed, or their places would be filled again.
        let store = self.content.store_mut();
        let store = store.map(|store| core::mem::replace(store, Store::Opening(Opening::Due)));
        self.files.before.writing = false;
        if let Some(Store::Open(open)) = store {
            self.files.before.writing = open.access == Access::Write && !open.finished;
            self.wanted.deadlines.keep(&open.picker);
            abandon(open.assemblies, io.pool);
        }
        self.suspend(io, why);
    }

    /// The metadata is known: opens the files next.
    pub(crate) fn open_files(&mut self, io: &mut Io<'_>, info: Arc<Info>) {
        self.wanted.selection = Selection::default();
        self.wanted.priorities.truncate(info.files().len());
        self.content = Content::known(info);
        self.change(io, Changes::STATE);
        self.want(io, Wants::DHT_TRACKER);
        self.forget_strangers(io);
        self.content.open_when_quiet(&mut io.out.ops, self.id);
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

    /// Opens the files again. Pieces are trusted where the files are unchanged since the last flush, and hashed where they
    /// are not, or where a failed flush may have lost them.
    pub(crate) fn reopen(&mut self, io: &mut Io<'_>, why: &'static str) {
        let mut record = self.record(io.setup.config.boot);
        let Some((info, open)) = self.content.open_mut() else {
            return;
        };
        let info = info.clone();
        record.partial.clear();
        record.clean = true;
        if self.durability.is_lost() {
            // As after a power cut, durable pieces are trusted and the rest is hashed.
            record.boot = None;
            record.have = open.picker.have().as_wire().to_vec();
        }
        for piece in core::mem::take(&mut open.unreadable) {
            record.withdraw(piece);
            self.files.before.doubted.push(piece);
        }
        self.last_record = Some(record);
        self.files.check = Check::Doubted;
        self.close_files(io, why);
        self.open_files(io, info);
    }

    // ---- saving ----

    /// Flushes the files and saves the record, if anything changed.
    pub(crate) fn save(&mut self, io: &mut Io<'_>) {
        if self.is_running() {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Save),
                Some(io.now + io.setup.config.save_interval),
            );
        }
        self.durability.retry();
        self.save_changes(io);
    }

    /// Does the same, unless a failed save waits for its retry.
    pub(crate) fn save_changes(&mut self, io: &mut Io<'_>) {
        let due = self.durability.is_due() && self.can_save();
        if due && !matches!(self.standing, Standing::Stopping(_)) {
            self.flush_and_save(io, true);
        }
    }

    /// Saves what changed before the files are known. Otherwise it would wait for the end of a check, which may take hours.
    pub(crate) fn save_early(&mut self, io: &mut Io<'_>) {
        let due = self.durability.is_due() && !self.can_save();
        if due && !matches!(self.standing, Standing::Stopping(_)) {
            self.save_now(io);
        }
    }

    /// Saves the record, after a flush if files were written to. Without `durable` the flush does not wait for the medium, see
    /// [`Op::Flush`](crate::Op::Flush).
    pub(crate) fn flush_and_save(&mut self, io: &mut Io<'_>, durable: bool) {
        match self.content.picker() {
            Some(picker) if self.durability.is_unflushed() => {
                let have = durable.then(|| picker.have().clone());
                self.durability.flush(&mut io.out.ops, self.id, have);
            }
            _ => self.save_now(io),
        }
    }

    /// Saves the record of the present state.
    pub(crate) fn save_now(&mut self, io: &mut Io<'_>) {
        let record = self.record(io.setup.config.boot);
        let open = self.content.open().is_some();
        self.durability
            .save(&mut io.out.ops, self.id, &record, open);
    }

    /// The record of the present state.
    fn record(&self, boot: Option<[u8; 16]>) -> Record {
        let mut record = match (self.content.open(), &self.last_record) {
            // The files were not opened, so the last record knows more about them.
            (None, Some(earlier)) => earlier.clone(),
            (None, None) => Record::unchecked(self.info_hash),
            (Some((info, open)), _) => {
                let mut record = Record::unchecked(self.info_hash);
                record.boot = boot;
                record.files = self.files.own(info, open.access == Access::Write);
                // Nothing will be written after this record.
                let at_rest = !self.is_running() || self.is_seed();
                self.durability.describe(open, at_rest, &mut record);
                record
            }
        };
        record.priorities.clone_from(&self.wanted.priorities);
        record.downloaded = self.traffic.downloaded_before + self.traffic.downloaded;
        record.uploaded = self.traffic.uploaded_before + self.traffic.uploaded;
        record.peers = self.peer_list.best(MAX_PEERS);
        record.trackers = self.sources.announcer.save();
        record
    }

    /// Handles the outcome of a flush: the record is saved, or the files are opened again.
    pub(crate) fn flushed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let error = match outcome {
            Outcome::Flushed(files) => {
                // The flush may not cover pieces that were verified meanwhile.
                let lost = match (self.durability.flushing(), self.content.info()) {
                    (Some(then), Some(info)) if self.is_ready() => {
                        self.files.lost(info, &self.wanted, &files, then, false)
                    }
                    _ => Vec::new(),
                };
                if !lost.is_empty() {
                    self.durability.flush_in_vain();
                    self.lose(io, files, &lost);
                    return;
                }
                self.files.stats = files;
                self.durability
                    .flushed(self.content.picker().map(Picker::have));
                None
            }
            other => {
                self.durability.flush_failed();
                io.failure(other)
            }
        };
        // Needed after a failure too: an older record may list pieces that are doubtful now.
        self.save_now(io);
        if let Some(error) = error {
            self.disk_failed(io, error);
        }
    }

    /// Handles the outcome of saving the record.
    pub(crate) fn saved(&mut self, io: &mut Io<'_>, outcome: &Outcome) {
        self.durability
            .saved(matches!(outcome, Outcome::Failed { .. }));
        if let Outcome::Failed { error, .. } = outcome {
            self.durability.unsaved = true;
            let again = io.now + io.setup.config.save_interval;
            io.out
                .timers
                .at_latest(Timer::Torrent(self.id, TorrentTimer::Save), again);
            let message = format!("the resume record was not saved: {error}");
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
            return;
        }
        // A complete torrent is not written to any more, so its last pieces are flushed now.
        if self.is_done() && self.durability.is_unflushed() && self.is_running() {
            self.save_changes(io);
        }
        self.save_early(io);
    }

    // ---- stopping ----

    /// Begins to stop: trackers hear `stopped`, what waits is written, files are released.
    pub(crate) fn begin_stop(&mut self, io: &mut Io<'_>, delete: bool) {
        if let Standing::Stopping(stopping) = &mut self.standing {
            stopping.delete |= delete;
            return;
        }
        // While its files are not known, the last record stays valid unless something else changed.
        let is_saved = !self.can_save() && !self.durability.unsaved;
        let timeout = io.setup.config.stop_timeout;
        let stopping = Stopping::new(io.now, timeout, delete, is_saved);
        io.out.timers.at_latest(Timer::Stop, stopping.silent_until);
        // Set before the peers are closed, or their places would be filled again.
        self.standing = Standing::Stopping(stopping);
        io.out.checks.retain(|c| *c != self.id);
        self.suspend(io, "the torrent is stopping");
        self.change(io, Changes::STATE);
        self.want(io, Wants::PROCEED);
        io.out.next_check = true;
    }

    /// Continues once no job of the torrent is in flight: saves a torrent that was paused, and takes the next step of one
    /// that is stopping.
    pub(crate) fn proceed(&mut self, io: &mut Io<'_>) {
        if let Some(Store::Opening(Opening::Due)) = self.content.store()
            && self.standing.is_up()
        {
            self.content.open_when_quiet(&mut io.out.ops, self.id);
            return;
        }
        let failed = matches!(self.standing, Standing::Failed(_));
        let at_rest = self.can_save() && (self.paused || failed);
        let stopping = matches!(self.standing, Standing::Stopping(_));
        let due = at_rest && self.durability.is_due();
        if !(stopping || due) || io.out.ops.disk_jobs(self.id) > 0 {
            return;
        }
        match stopping {
            true => self.stop_on(io),
            false => self.save_changes(io),
        }
    }

    /// Takes the next step of stopping. Waiting blocks are written first, then the record is saved, then the files are
    /// released.
    fn stop_on(&mut self, io: &mut Io<'_>) {
        let Standing::Stopping(stopping) = &self.standing else {
            return;
        };
        let waiting = self.content.open().map(|(_, open)| &open.assemblies);
        if !stopping.is_releasing()
            && waiting.is_some_and(|all| all.values().any(Assembly::has_waiting))
        {
            self.flush_pieces(io);
            if io.out.ops.disk_jobs(self.id) > 0 {
                return;
            }
        }
        let Standing::Stopping(stopping) = &mut self.standing else {
            return;
        };
        match stopping.step(io.now, &self.sources.announcer) {
            Step::Wait => {}
            // Nothing is flushed here, as that would delay every exit on a slow disk. Within one boot the page cache is as
            // good, and the record says what was flushed.
            Step::Save => self.flush_and_save(io, io.setup.config.boot.is_none()),
            Step::Release => {
                let (torrent, delete) = (self.id, stopping.delete);
                io.out.ops.job(Purpose::Release(torrent), |op| Op::Release {
                    op,
                    torrent,
                    delete,
                });
            }
        }
    }

    /// Stops waiting for trackers if their time is over.
    pub(crate) fn stop_overdue(&mut self, io: &mut Io<'_>) {
        let Standing::Stopping(stopping) = &self.standing else {
            return;
        };
        if stopping.is_releasing() {
            return;
        }
        let until = stopping.deadline(&self.sources.announcer);
        if until <= io.now {
            let home = io.out.ops.cancel_queries(self.id);
            io.pool.give_all(home);
            self.want(io, Wants::PROCEED);
        } else {
            io.out.timers.at_latest(Timer::Stop, until);
        }
    }
}

/// Returns the blocks of pieces that will not be completed to the pool.
pub(crate) fn abandon(assemblies: BTreeMap<u32, Assembly>, pool: &mut BlockPool) {
    for assembly in assemblies.into_values() {
        pool.give_all(assembly.abandon());
    }
}
