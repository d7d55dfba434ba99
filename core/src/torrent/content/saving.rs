//! Flushing files and saving the resume record.
//!
//! ```text
//!             unsaved                           flushed                  saved
//!   settled ───────────▶ flush, if files changed ───────▶ save the record ─────▶ settled
//!                                │ failed
//!                                ▼
//!               the torrent fails; its files are opened again, and what was written
//!               since the last successful flush is hashed before it is trusted
//! ```
//!
//! What changes while a flush or a save is in flight belongs to the next record: a record never claims more than the flush
//! before it covered.

use alloc::vec::Vec;

use super::Open;
use super::assembly::Assembly;
use super::resume::{MAX_PEERS, Record};
use crate::torrent::Check;
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::outbox::ops::{DiskJob, Purpose};
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::picker::Picker;
use crate::torrent::standing::Standing;
use crate::{Op, Outcome};

impl Torrent {
    /// Flushes the files and saves the record, if anything changed.
    pub(crate) fn save(&mut self, io: &mut Io<'_>) {
        if self.is_running() {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Save),
                Some(io.now + io.setup.config.save_interval),
            );
        }
        self.durability.is_due();
        self.save_changes(io);
    }

    /// Does the same, unless a failed save waits for its retry.
    pub(crate) fn save_changes(&mut self, io: &mut Io<'_>) {
        let due = self.durability.unsaved && self.durability.is_free() && self.can_save();
        if due && !matches!(self.standing, Standing::Stopping(_)) {
            self.flush_and_save(io, true);
        }
    }

    /// Saves what changed before the files are known. Otherwise it would wait for the end of a check, which may take hours.
    pub(crate) fn save_early(&mut self, io: &mut Io<'_>) {
        if self.durability.unsaved
            && self.durability.is_free()
            && !self.can_save()
            && !matches!(self.standing, Standing::Stopping(_))
        {
            self.save_now(io);
        }
    }

    /// Saves the record, after a flush if files were written to. Without `durable` the flush does not wait for the medium, see
    /// [`Op::Flush`].
    pub(crate) fn flush_and_save(&mut self, io: &mut Io<'_>, durable: bool) {
        let picker = self.content.picker();
        let Some(picker) = picker.filter(|_| self.durability.is_unflushed()) else {
            self.save_now(io);
            return;
        };
        let have = durable.then(|| picker.have().clone());
        self.durability.begin_flush(have);
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Flush), |op| Op::Flush {
                op,
                torrent: self.id,
                durable,
            });
    }

    pub(crate) fn flushed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let error = match outcome {
            Outcome::Flushed(files) => {
                // The flush may not cover pieces that were verified meanwhile.
                let lost = match self.durability.flushing() {
                    Some(then) if self.is_ready() => self.lost(&files, then, false),
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
                match other {
                    Outcome::Failed { error, blocks } => {
                        io.pool.give_all(blocks);
                        Some(error)
                    }
                    other => {
                        io.take_home(other);
                        None
                    }
                }
            }
        };
        // Needed after a failure too: an older record may list pieces that are doubtful now.
        self.save_now(io);
        if let Some(error) = error {
            self.disk_failed(io, error);
        }
    }

    /// Saves the record of the present state.
    pub(crate) fn save_now(&mut self, io: &mut Io<'_>) {
        self.durability.begin_save();
        // Unflushed pieces have to be saved again after their flush.
        self.durability.unsaved = self.durability.is_unflushed() && self.content.picker().is_some();
        let record = self.record(io.setup.config.boot).encode();
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Save), |op| Op::Save {
                op,
                torrent: self.id,
                record,
            });
    }

    pub(crate) fn saved(&mut self, io: &mut Io<'_>, outcome: &Outcome) {
        self.durability
            .saved(matches!(outcome, Outcome::Failed { .. }));
        if let Outcome::Failed { error, .. } = outcome {
            self.durability.unsaved = true;
            let again = io.now + io.setup.config.save_interval;
            io.out
                .timers
                .at_latest(Timer::Torrent(self.id, TorrentTimer::Save), again);
            let message = alloc::format!("the resume record was not saved: {error}");
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
            let without = |bytes: &mut [u8]| {
                if let Some(byte) = bytes.get_mut(piece as usize / 8) {
                    *byte &= !(0x80 >> (piece % 8));
                }
            };
            without(&mut record.have);
            without(&mut record.durable);
            self.files.before.doubted.push(piece);
        }
        self.resume = Some(record);
        self.files.check = Check::Doubted;
        self.close_files(io, why);
        self.open_files(io, info);
    }
}

impl Torrent {
    /// The record of the present state.
    pub(crate) fn record(&self, boot: Option<[u8; 16]>) -> Record {
        let (downloaded, uploaded) = (
            self.traffic.downloaded_before + self.traffic.downloaded,
            self.traffic.uploaded_before + self.traffic.uploaded,
        );
        let earlier = match (self.content.open(), &self.resume) {
            // The files were not opened, so the last record knows more about them.
            (None, Some(earlier)) => earlier.clone(),
            (None, None) => Record::unchecked(self.info_hash),
            (Some((_, open)), _) => self.content_record(open, boot),
        };
        Record {
            priorities: self.wanted.priorities.clone(),
            downloaded,
            uploaded,
            peers: self.peer_list.best(MAX_PEERS),
            trackers: self.sources.announcer.save(),
            ..earlier
        }
    }

    /// The part of the record about files that are open.
    fn content_record(&self, open: &Open, boot: Option<[u8; 16]>) -> Record {
        let idle = |a: &Assembly| !a.has_waiting() && !a.is_busy();
        // Nothing will be written after this record, and nothing was written since the files were last examined.
        let at_rest = !self.is_running() || self.is_seed();
        let flushed = !self.durability.is_unflushed() && !self.durability.is_lost();
        let durable = self.durability.durable().as_wire().to_vec();
        let partial = open.assemblies.iter();
        Record {
            boot,
            clean: at_rest && flushed && open.assemblies.values().all(idle),
            synced: self.durability.is_synced(),
            have: match self.durability.is_lost() {
                false => open.picker.have().as_wire().to_vec(),
                true => durable.clone(),
            },
            durable,
            partial: partial
                .filter(|(_, a)| a.written().count() > 0)
                .map(|(piece, a)| (*piece, a.written().as_wire().to_vec()))
                .collect(),
            files: self.own_files(),
            ..Record::unchecked(self.info_hash)
        }
    }
}
