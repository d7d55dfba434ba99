//! When files are flushed, and when the resume record is saved.
//!
//! ```text
//!             unsaved                           flushed                  saved
//!   settled ───────────▶ flush, if files changed ───────▶ save the record ─────▶ settled
//!                                │ failed
//!                                ▼
//!               the torrent fails; its files are opened anew, and what was written
//!               since the last good flush is hashed again before it is believed
//! ```
//!
//! What changes while a flush or a save is out belongs to the next record: a record never says
//! more than the flush before it covered.

use super::Check;
use super::event::{Level, What};
use super::io::Io;
use super::ops::{DiskJob, Purpose};
use super::resume::{MAX_PEERS, Record};
use super::timers::{Timer, TorrentTimer};
use super::torrent::{Phase, Torrent};
use crate::torrent::picker::Picker;
use crate::{Bitfield, Op, Outcome};

/// How far a torrent's files and record have reached the medium.
#[derive(Debug)]
pub(super) struct Saving {
    /// Pieces that a flush came after.
    pub(super) durable: Bitfield,
    /// Files were written to, or moved, since the last flush was asked for.
    pub(super) unflushed: bool,
    /// A flush failed. A later one that succeeds proves nothing about what was written before:
    /// systems forget pages that they could not write. So until those pieces are hashed again,
    /// none of them becomes durable and none is recorded.
    pub(super) lost: bool,
    /// Everything written so far is on the medium, blocks of unfinished pieces too.
    synced: bool,
    /// A save failed: the next attempt waits for its timer.
    held: bool,
    /// A flush or a save is out.
    busy: bool,
    /// Pieces verified when the flush in flight was asked for; `None` for one that leaves the
    /// bytes in memory.
    flushing: Option<Bitfield>,
}

impl Saving {
    /// Nothing is known to be on the medium.
    pub(super) fn new() -> Self {
        Self {
            durable: Bitfield::new(0),
            unflushed: false,
            lost: false,
            synced: false,
            held: false,
            busy: false,
            flushing: None,
        }
    }

    /// The files were opened: these pieces are known to have been flushed, by whomsoever.
    pub(super) fn opened(&mut self, durable: Bitfield) {
        let busy = self.busy;
        *self = Self::new();
        (self.durable, self.busy) = (durable, busy);
    }

    /// Files changed.
    pub(super) const fn wrote(&mut self) {
        self.unflushed = true;
        self.synced = false;
    }

    /// Whether a save may begin now.
    pub(super) const fn is_free(&self) -> bool {
        !(self.busy || self.held || self.lost)
    }

    fn begin_flush(&mut self, have: Option<Bitfield>) {
        self.busy = true;
        self.unflushed = false;
        self.flushing = have;
    }

    /// A flush succeeded; `have` are the pieces verified by now.
    fn flushed(&mut self, have: Option<&Bitfield>) {
        let Some(mut durable) = self.flushing.take().filter(|_| !self.lost) else {
            return;
        };
        // A piece may have been withdrawn meanwhile.
        let gone = |piece: &u32| have.is_none_or(|have| !have.get(*piece));
        let withdrawn: alloc::vec::Vec<u32> = durable.iter().filter(gone).collect();
        for piece in withdrawn {
            durable.clear(piece);
        }
        self.durable = durable;
        self.synced = !self.unflushed;
    }

    fn flush_failed(&mut self) {
        self.lost |= self.flushing.take().is_some();
        self.wrote();
    }
}

impl Torrent {
    /// Flushes what was written, then saves. Without changes it does neither.
    pub(super) fn save(&mut self, io: &mut Io<'_>) {
        if self.is_running() {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Save),
                Some(io.now + io.config.save_interval),
            );
        }
        self.saving.held = false;
        self.save_changes(io);
    }

    /// The same, but not before a failed save is due again.
    pub(super) fn save_changes(&mut self, io: &mut Io<'_>) {
        let due = self.unsaved && self.saving.is_free() && self.can_save();
        if due && !matches!(self.phase, Phase::Stopping(_)) {
            self.flush_and_save(io, true);
        }
    }

    /// Saves what changed while the files are not known yet: nothing else would before the end of
    /// a check, which may take hours.
    pub(super) fn save_early(&mut self, io: &mut Io<'_>) {
        if self.unsaved
            && self.saving.is_free()
            && self.info.is_some()
            && self.picker.is_none()
            && !matches!(self.phase, Phase::Stopping(_))
        {
            self.save_now(io);
        }
    }

    /// Saves, after a flush if files changed. `durable` is left out where waiting for the medium
    /// would be no service; see [`Op::Flush`].
    pub(super) fn flush_and_save(&mut self, io: &mut Io<'_>, durable: bool) {
        let Some(picker) = self.picker.as_ref().filter(|_| self.saving.unflushed) else {
            self.save_now(io);
            return;
        };
        let have = durable.then(|| picker.have().clone());
        self.saving.begin_flush(have);
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Flush), |op| Op::Flush {
                op,
                torrent: self.id,
                durable,
            });
    }

    pub(super) fn flushed(&mut self, io: &mut Io<'_>, outcome: Outcome) {
        let error = match outcome {
            Outcome::Flushed(files) => {
                // Pieces that came meanwhile may be beyond what the flush saw.
                let lost = match (&self.saving.flushing, &self.phase) {
                    (Some(then), Phase::Ready) => self.lost(&files, then, false),
                    _ => alloc::vec::Vec::new(),
                };
                if !lost.is_empty() {
                    (self.saving.flushing, self.saving.busy) = (None, false);
                    self.saving.wrote();
                    self.lose(io, files, &lost);
                    return;
                }
                self.files = files;
                self.saving.flushed(self.picker.as_ref().map(Picker::have));
                None
            }
            other => {
                self.saving.flush_failed();
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
        // After a failure too: an older record may list pieces that are doubted now.
        self.save_now(io);
        if let Some(error) = error {
            self.disk_failed(io, error);
        }
    }

    /// Saves the record as things stand.
    pub(super) fn save_now(&mut self, io: &mut Io<'_>) {
        self.saving.busy = true;
        // What is not flushed has to be saved again after its flush.
        self.unsaved = self.saving.unflushed && self.picker.is_some();
        let record = self.record(io.config.boot).encode();
        io.out
            .ops
            .job(Purpose::Disk(self.id, DiskJob::Save), |op| Op::Save {
                op,
                torrent: self.id,
                record,
            });
    }

    pub(super) fn saved(&mut self, io: &mut Io<'_>, outcome: &Outcome) {
        self.saving.busy = false;
        if let Outcome::Failed { error, .. } = outcome {
            self.unsaved = true;
            self.saving.held = true;
            let again = io.now + io.config.save_interval;
            io.out
                .timers
                .at_latest(Timer::Torrent(self.id, TorrentTimer::Save), again);
            let message = alloc::format!("the resume record was not saved: {error}");
            io.out
                .notice(Some(self.id), None, Level::Warning, What::Disk { message });
            return;
        }
        // What is complete will not change any more: its last pieces are flushed now rather than
        // in a while.
        if self.is_done() && self.saving.unflushed && self.is_running() {
            self.save_changes(io);
        }
        self.save_early(io);
    }

    /// Opens the files anew. What was known is believed where the files are as they were at the
    /// last flush, and hashed where they are not, or where a failed flush may have lost it.
    pub(super) fn reopen(&mut self, io: &mut Io<'_>, why: &'static str) {
        let Some(info) = self.info.clone().filter(|_| self.picker.is_some()) else {
            return;
        };
        let mut record = self.record(io.config.boot);
        record.partial.clear();
        record.clean = true;
        if self.saving.lost {
            // As after a loss of power: what is durable is believed, the rest is hashed.
            record.boot = None;
            if let Some(picker) = &self.picker {
                record.have = picker.have().as_wire().to_vec();
            }
        }
        for piece in core::mem::take(&mut self.unreadable) {
            let without = |bytes: &mut [u8]| {
                if let Some(byte) = bytes.get_mut(piece as usize / 8) {
                    *byte &= !(0x80 >> (piece % 8));
                }
            };
            without(&mut record.have);
            without(&mut record.durable);
            self.doubted.push(piece);
        }
        self.resume = Some(record);
        self.check = Check::Doubted;
        self.close_files(io, why);
        self.open_files(io, info);
    }
}

impl Torrent {
    /// The record as things stand.
    pub(super) fn record(&self, boot: Option<[u8; 16]>) -> Record {
        let (downloaded, uploaded) = (
            self.downloaded_before + self.downloaded,
            self.uploaded_before + self.uploaded,
        );
        let earlier = match (&self.picker, &self.resume) {
            // The files were not looked at: of them, the last record knows more.
            (None, Some(earlier)) => earlier.clone(),
            (None, None) => Record::unchecked(self.info_hash),
            (Some(_), _) => self.content_record(boot),
        };
        Record {
            priorities: self.priorities.clone(),
            downloaded,
            uploaded,
            peers: self.swarm.best(MAX_PEERS),
            trackers: self.announcer.save(),
            ..earlier
        }
    }

    /// What the record says of the files once they are known.
    fn content_record(&self, boot: Option<[u8; 16]>) -> Record {
        let idle = |a: &super::assembly::Assembly| !a.has_waiting() && !a.is_busy();
        // Nothing will be written after this record, and nothing was since the files were last
        // looked at.
        let at_rest = !self.is_running() || self.is_seed();
        let settled = !self.saving.unflushed && !self.saving.lost;
        let durable = self.saving.durable.as_wire().to_vec();
        let verified = self.picker.as_ref().map(|p| p.have().as_wire().to_vec());
        let partial = self.assemblies.iter();
        Record {
            boot,
            clean: at_rest && settled && self.assemblies.values().all(idle),
            synced: self.saving.synced,
            have: match verified {
                Some(verified) if !self.saving.lost => verified,
                _ => durable.clone(),
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
