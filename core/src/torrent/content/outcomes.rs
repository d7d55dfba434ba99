//! What follows for a torrent from the outcomes of its disk jobs.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Look, Store};
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::ops::DiskJob;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::standing::Standing;
use crate::torrent::{Torrent, Wants};
use crate::{BlockRef, Hasher, OpError, OpErrorKind, Outcome};

/// How long after a disk error a torrent retries by itself.
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
        match outcome {
            Outcome::Failed { error, blocks } => {
                io.pool.give_all(blocks);
                self.disk_trouble(io, error);
            }
            other => io.take_home(other),
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
        if let Some(mut downloads) = self.content.downloads(self.id) {
            downloads.lost(io, piece);
        }
        if let Some(error) = error {
            self.disk_trouble(io, error);
        }
    }

    // ---- errors ----

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
}
