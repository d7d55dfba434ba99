//! What follows for a torrent from the outcomes of its disk jobs. Those of flushes and saves are in `lifecycle`, and that of a
//! piece that was read back for the smart ban is in `transfers`.

use alloc::{boxed::Box, format, vec::Vec};
use core::time::Duration;

use super::checking::{Checked, Checking};
use super::files::{Expected, Judged};
use super::open::{Access, Look, Open};
use super::{Content, Known, Opening, Store};
use crate::op::{Claim, FileStat};
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::ops::DiskJob;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::picker::Picker;
use crate::torrent::standing::Standing;
use crate::torrent::{Check, Torrent, Wants};
use crate::{Bitfield, BlockRef, Hasher, OpError, OpErrorKind, Outcome};

/// How long after a disk error a torrent retries by itself, unless something is in the way of a file.
pub const DISK_RETRY: Duration = Duration::from_secs(30);

impl Torrent {
    /// Handles the outcome of a disk job.
    pub(crate) fn handle_disk(&mut self, io: &mut Io<'_>, job: DiskJob, outcome: Outcome) {
        match job {
            DiskJob::Open => self.opened(io, outcome),
            DiskJob::Claim(claim) => self.claimed(io, claim, outcome),
            DiskJob::Upload { member, wanted } => self.upload_read(io, member, wanted, outcome),
            DiskJob::Write { piece, serial, .. } | DiskJob::Verify { piece, serial }
                if !self.is_assembling(piece, serial) =>
            {
                self.too_late(io, outcome);
            }
            DiskJob::Write {
                piece, begin, len, ..
            } => match outcome {
                Outcome::Written { blocks, hasher } => {
                    io.pool.give_all(blocks);
                    self.written(io, piece, begin..begin + len, hasher);
                }
                other => self.piece_lost(io, piece, other),
            },
            DiskJob::Verify { piece, .. } => match outcome {
                Outcome::Hashed(hasher) => self.judge(io, piece, hasher.finish()),
                other => self.piece_lost(io, piece, other),
            },
            DiskJob::Check { piece } => self.checked(io, piece, outcome),
            DiskJob::Blame { piece, passed } => self.read_back(io, piece, passed, outcome),
            DiskJob::Confirm => self.confirmed(io, outcome),
            DiskJob::Flush => self.flushed(io, outcome),
            DiskJob::Save => self.saved(io, &outcome),
            DiskJob::Select => self.selected(io, &outcome),
        }
        self.want(io, Wants::PROCEED);
    }

    /// Whether the assembly that requested an op still exists.
    fn is_assembling(&mut self, piece: u32, serial: u64) -> bool {
        let downloads = self.content.downloads(self.id);
        downloads.is_some_and(|downloads| downloads.is_assembling(piece, serial))
    }

    // ---- opening and checking ----

    /// The files were opened: checks those pieces that the record does not vouch for.
    fn opened(&mut self, io: &mut Io<'_>, outcome: Outcome) {
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
            Outcome::Failed { error, .. } => return self.disk_failed(io, error),
            other => return io.take_home(other),
        };
        if let Some(record) = self
            .last_record
            .as_mut()
            .filter(|_| self.durability.is_lost())
        {
            // They were written to since the last successful flush, so there is nothing to compare with.
            record.files.clone_from(&files);
        }
        let expected = Expected {
            info,
            wanted: &self.wanted,
            record: self.last_record.as_ref(),
        };
        let Judged {
            have,
            doubted,
            steady,
        } = self.files.opened(expected, files, io.setup.config.boot);
        let mut durable = Bitfield::new(info.piece_count());
        if let Some(record) = &mut self.last_record {
            record.partial.retain(|piece, _| steady.get(*piece));
            let flushed = record.flushed(info.piece_count());
            let kept = |piece: &u32| flushed.as_ref().is_some_and(|f| f.get(*piece));
            have.iter().filter(kept).for_each(|piece| {
                durable.set(piece);
            });
        }
        self.durability.opened(durable);
        if !doubted.is_empty() && self.last_record.as_ref().is_some_and(|r| r.clean) {
            let pieces = doubted.len() as u32;
            io.out.notice(
                Some(self.id),
                None,
                Level::Info,
                What::Rechecking { pieces },
            );
        }
        let read_only = self.files.is_read_only();
        self.wanted
            .select(&mut io.out.ops, self.id, info, read_only);
        self.check(io, Checking::new(have, doubted));
    }

    /// Queues a check, which starts when it is its turn.
    pub(crate) fn check(&mut self, io: &mut Io<'_>, checking: Checking) {
        let nothing_to_do = checking.is_finished();
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
        let up = self.standing.is_up();
        if up {
            checking.advance(&mut io.out.ops, self.id, info);
        }
        up
    }

    /// Handles the hash of a doubtful piece.
    fn checked(&mut self, io: &mut Io<'_>, piece: u32, outcome: Outcome) {
        let Content::Known(Known { info, store, .. }) = &mut self.content else {
            return;
        };
        let Store::Checking(checking) = store else {
            return;
        };
        if !self.standing.is_up() {
            return;
        }
        match checking.hashed(info, piece, outcome) {
            Checked::Stale => return,
            Checked::Continues => self.change(io, Changes::PROGRESS),
            Checked::Finished => {
                self.change(io, Changes::PROGRESS);
                io.out.checks.retain(|c| *c != self.id);
                self.checks_done(io);
            }
            Checked::Failed(error) => {
                // What the check has found is kept until the disk works again.
                checking.halt();
                let halted = core::mem::replace(store, Store::Closed);
                self.disk_failed(io, error);
                if let (Store::Checking(halted), Some(store)) = (halted, self.content.store_mut()) {
                    *store = Store::Halted(halted);
                }
                return;
            }
        }
        io.out.next_check = true;
    }

    /// It is known which pieces are on disk: claims the files.
    fn checks_done(&mut self, io: &mut Io<'_>) {
        let Content::Known(Known { info, store, .. }) = &mut self.content else {
            return;
        };
        let have = match core::mem::replace(store, Store::Closed) {
            Store::Checking(checking) => checking.into_have(),
            other => {
                *store = other;
                return;
            }
        };
        let mut picker = Picker::new(info, have);
        picker.set_sequential(self.wanted.order());
        self.wanted
            .prioritise(&mut picker, info, self.files.is_read_only());
        self.files.check = Check::Doubted;
        let expected = Expected {
            info,
            wanted: &self.wanted,
            record: self.last_record.as_ref(),
        };
        self.files
            .claim(&mut io.out.ops, self.id, expected, &picker);
        *store = Store::Claiming(Box::new(picker));
    }

    /// The disk has followed the selection of files, or failed to.
    fn selected(&mut self, io: &mut Io<'_>, outcome: &Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            // The files are opened again before it is retried.
            self.wanted.selection.answered(true);
            self.disk_failed(io, error.clone());
            return;
        }
        self.wanted.selection.answered(false);
        if self.is_done() && self.is_exchanging() && !self.is_confirmed() {
            self.confirm(io, None);
        }
        self.claim_more(io);
        self.change(io, Changes::STATE);
    }

    // ---- claims ----

    /// Handles the outcome of a claim.
    fn claimed(&mut self, io: &mut Io<'_>, claim: Claim, outcome: Outcome) {
        let granted = matches!(outcome, Outcome::Flushed(_) | Outcome::Done);
        if granted {
            self.files.granted();
        }
        let access = match claim {
            _ if !granted => Access::Refused,
            Claim::Read => Access::Read,
            Claim::Write | Claim::Overwrite => Access::Write,
        };
        match self.content.store_mut() {
            Some(Store::Claiming(_)) if self.standing.is_up() => {}
            Some(Store::Open(open)) if open.access == Access::Asked => open.access = access,
            _ => return io.take_home(outcome),
        }
        match outcome {
            Outcome::Flushed(files) => self.files.stats = files,
            Outcome::Done => {}
            Outcome::Failed { error, .. } => return self.disk_failed(io, error),
            other => return io.take_home(other),
        }
        if let Some(store @ Store::Claiming(_)) = self.content.store_mut() {
            if let Store::Claiming(picker) = core::mem::replace(store, Store::Closed) {
                self.ready(io, Open::new(*picker, access));
            }
        } else if self.is_ready() {
            match self.is_done() {
                true => self.confirm(io, None),
                false => self.refill_all(io),
            }
        }
    }

    /// More is wanted than when the files were last claimed or confirmed.
    pub(crate) fn claim_more(&mut self, io: &mut Io<'_>) {
        let up = self.standing.is_up();
        let Some((info, open)) = self.content.open_mut().filter(|_| up) else {
            return;
        };
        let mend = self.files.need_mending(info, &self.wanted);
        let done = open.picker.is_done();
        match open.access {
            Access::Read if !done || mend => {
                open.access = Access::Asked;
                let expected = Expected {
                    info,
                    wanted: &self.wanted,
                    record: self.last_record.as_ref(),
                };
                self.files
                    .claim(&mut io.out.ops, self.id, expected, &open.picker);
            }
            // An empty file has no pieces: it is created when the files are confirmed.
            Access::Write if done && mend => open.confirm(&mut io.out.ops, self.id, None),
            _ => {}
        }
    }

    /// The files are claimed: starts to exchange pieces.
    fn ready(&mut self, io: &mut Io<'_>, mut open: Open) {
        let Content::Known(known) = &mut self.content else {
            return;
        };
        let info = &known.info;
        open.picker.set_sequential(self.wanted.order());
        self.wanted.deadlines.apply(&mut open.picker);
        if let Some(record) = self.last_record.take() {
            open.restore_partial(io.now, info, record);
        }
        self.standing.recovered();
        // The priorities may have been changed meanwhile.
        let read_only = self.files.is_read_only();
        open.wanted_bytes = self.wanted.prioritise(&mut open.picker, info, read_only);
        // Files that were written to are confirmed before the torrent is reported complete.
        let have = open.picker.have();
        let done = open.picker.is_done() && open.access != Access::Write;
        open.finished = done && (!read_only || have.is_full());
        // Some pieces may never have been flushed, by this process or by an earlier one.
        self.durability.holds(have.count());
        let finished = open.finished;
        known.store = Store::Open(Box::new(open));
        self.files.before.writing = false;
        self.durability.unsaved = true;
        self.change(io, Changes::STATE | Changes::PROGRESS);
        if finished {
            self.change(io, Changes::FINISHED);
        }
        self.start(io);
        self.meet_peers(io);
        self.claim_more(io);
    }

    // ---- confirmations ----

    /// Confirms the files by their paths, once at a time: every wanted piece is verified, or an error occurred with a file.
    pub(crate) fn confirm(&mut self, io: &mut Io<'_>, trouble: Option<OpError>) {
        let up = self.standing.is_up();
        if let Some((_, open)) = self.content.open_mut().filter(|_| up) {
            open.confirm(&mut io.out.ops, self.id, trouble);
        }
    }

    /// Handles the outcome of a confirmation: the torrent is complete, or its files are opened again.
    fn confirmed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let Some((info, open)) = self.content.open_mut() else {
            return io.take_home(outcome);
        };
        let trouble = open.confirmed();
        if !self.standing.is_up() {
            return io.take_home(outcome);
        }
        let done = open.picker.is_done();
        let readable = open.unreadable.is_empty();
        let read_only = self.files.is_read_only();
        let (files, lost) = match outcome {
            Outcome::Flushed(files) => {
                let whole = done && trouble.is_none() && !read_only;
                let have = open.picker.have();
                let lost = self.files.lost(info, &self.wanted, &files, have, whole);
                (files, lost)
            }
            // The platform has no files to confirm.
            Outcome::Done => (self.files.stats.clone(), Vec::new()),
            Outcome::Failed { error, .. } => return self.disk_failed(io, error),
            other => return io.take_home(other),
        };
        let trouble = match trouble {
            // The files are as they should be, so it is an error of the disk.
            Some(error) if lost.is_empty() && readable => return self.disk_failed(io, error),
            trouble => trouble,
        };
        let changed = read_only && self.files.stats != files;
        if lost.is_empty() && readable && !changed {
            self.files.stats = files;
            if done && !self.paused && !read_only {
                self.finished(io);
            }
            return;
        }
        if let Some(error) = trouble.filter(|_| lost.is_empty()) {
            let message = format!("{}; it is checked again", error.detail);
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
        }
        self.lose(io, files, &lost);
    }

    /// Reports the files that were changed by others, and opens all files again.
    pub(crate) fn lose(&mut self, io: &mut Io<'_>, files: Vec<Option<FileStat>>, lost: &[usize]) {
        let Some((info, open)) = self.content.open() else {
            return;
        };
        let writing = open.access == Access::Write;
        for message in self.files.lose(info, files, lost, writing) {
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
        }
        self.reopen(io, "its files are looked at again");
    }

    /// A read or write failed. If the error says that a file was changed, the files are confirmed; otherwise the torrent fails.
    pub(crate) fn disk_trouble(&mut self, io: &mut Io<'_>, error: OpError) {
        let vanished = matches!(error.kind, OpErrorKind::NotFound | OpErrorKind::Truncated);
        if vanished && self.is_ready() && !self.content.has_access(Access::Refused) {
            self.confirm(io, Some(error));
        } else {
            self.disk_failed(io, error);
        }
    }

    /// A verified piece could not be read. It is not served until it has been checked.
    pub(crate) fn unreadable(&mut self, io: &mut Io<'_>, piece: u32, error: OpError) {
        let up = self.standing.is_up();
        if let Some((_, open)) = self.content.open_mut().filter(|_| up) {
            open.unreadable(piece);
            open.confirm(&mut io.out.ops, self.id, Some(error));
        }
    }

    // ---- reads for peers ----

    /// Blocks were read for a peer, or could not be.
    fn upload_read(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        wanted: Vec<BlockRef>,
        outcome: Outcome,
    ) {
        let piece = wanted.first().map_or(0, |at| at.piece);
        let Some(mut uploads) = self.uploads(id) else {
            return io.take_home(outcome);
        };
        if let Err(error) = uploads.handle_read(io, wanted, outcome) {
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
        if let Some(mut uploads) = self.uploads(id) {
            uploads.pump(io);
            uploads.refresh(io);
        }
    }

    // ---- writes ----

    /// A run of a piece was written.
    fn written(
        &mut self,
        io: &mut Io<'_>,
        piece: u32,
        run: core::ops::Range<u32>,
        hasher: Option<Hasher>,
    ) {
        // A torrent that stops writes what is left at once.
        let force = !self.is_exchanging();
        self.durability.files_changed();
        if let Some(mut downloads) = self.content.downloads(self.id) {
            // The disk works again.
            self.standing.recovered();
            downloads.written(piece, run, hasher);
        }
        self.advance_piece(io, piece, force);
    }

    /// Handles the outcome of an op whose assembly was dropped.
    fn too_late(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        self.durability.files_changed();
        if let Some(error) = io.failure(outcome) {
            self.disk_trouble(io, error);
        }
    }

    /// A disk op of a piece failed: the piece is downloaded again, and the files are confirmed or the torrent fails.
    fn piece_lost(&mut self, io: &mut Io<'_>, piece: u32, outcome: Outcome) {
        let error = io.failure(outcome);
        // A write that failed may have changed the file.
        self.durability.files_changed();
        self.durability.unsaved = true;
        if let Some(mut downloads) = self.content.downloads(self.id) {
            downloads.lost(io, piece);
        }
        if let Some(error) = error {
            self.disk_trouble(io, error);
        }
    }

    // ---- errors ----

    /// The torrent cannot use its files: it fails, and retries unless a file is in the way, which has to be moved by the user.
    pub(crate) fn disk_failed(&mut self, io: &mut Io<'_>, error: OpError) {
        let message = error.detail.clone();
        if let Standing::Stopping(stopping) = &mut self.standing {
            if error.kind != OpErrorKind::Cancelled && stopping.fails(&error) {
                io.out
                    .notice(Some(self.id), None, Level::Warning, What::Disk { message });
            }
            return;
        }
        // Another op failed first.
        if !self.standing.is_up() {
            return;
        }
        let again = !error.kind.is_obstruction();
        self.fail(
            io,
            error,
            What::Disk { message },
            "its torrent met a disk error",
        );
        if again {
            let timer = Timer::Torrent(self.id, TorrentTimer::Retry);
            io.out.timers.set(timer, Some(io.now + DISK_RETRY));
        }
    }

    /// The torrent, which ran or was being opened, fails: its peers are closed because of `why`.
    pub(crate) fn fail(&mut self, io: &mut Io<'_>, error: OpError, what: What, why: &'static str) {
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
            io.out.notice(Some(self.id), None, Level::Error, what);
        }
        self.change(io, Changes::STATE);
        self.suspend(io, why);
        io.out.next_check = true;
    }
}
