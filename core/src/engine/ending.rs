//! How a torrent ends: what waits is written, the record saved, trackers told, files released.

use core::time::Duration;

use super::assembly::Assembly;
use super::event::Changes;
use super::io::Io;
use super::ops::Purpose;
use super::timers::Timer;
use super::torrent::{Phase, Stopping, Torrent, Wants};
use crate::tracker::Announcer;
use crate::{Instant, Op};

/// How long trackers are waited for that have not answered so far: one may just be about to, and
/// has to hear `stopped` then; a dead one shall not hold anybody up. Ours.
const SILENT_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// When trackers are not waited for any more.
fn deadline(stopping: &Stopping, announcer: &Announcer) -> Instant {
    match announcer.awaits_stopped() {
        true => stopping.until,
        false => stopping.silent_until,
    }
}

impl Torrent {
    /// Begins to stop: trackers hear `stopped`, what waits is written, files are released.
    pub(super) fn begin_stop(&mut self, io: &mut Io<'_>, delete: bool) {
        let until = io.now + io.setup.config.stop_timeout;
        let silent_until = until.min(io.now + SILENT_STOP_TIMEOUT);
        if let Phase::Stopping(stopping) = &mut self.phase {
            stopping.delete |= delete;
            return;
        }
        // While its files are not known, the last record stands unless something else changed.
        let saved = self.info.is_some() && self.picker.is_none() && !self.unsaved;
        // First of all, or places that become free would be filled again.
        self.phase = Phase::Stopping(Stopping {
            until,
            silent_until,
            delete,
            saved,
            releasing: false,
        });
        io.out.timers.at_latest(Timer::Stop, silent_until);
        io.out.checks.retain(|c| *c != self.id);
        self.rest(io, "the torrent is stopping");
        self.change(io, Changes::STATE);
        self.want(io, Wants::PROCEED);
        io.out.next_check = true;
    }

    /// Once nothing of a torrent is in flight: saves one that came to rest, and moves one that is
    /// stopping on. What waits is written first, then the record saved, then the files released.
    pub(super) fn proceed(&mut self, io: &mut Io<'_>) {
        if self.to_open {
            self.open_when_quiet(io);
            return;
        }
        let at_rest = self.can_save() && (self.paused || matches!(self.phase, Phase::Failed(_)));
        let stopping = matches!(self.phase, Phase::Stopping(_));
        let due = at_rest && self.unsaved && self.durability.is_free();
        if !(stopping || due) || io.out.ops.disk_jobs(self.id) > 0 {
            return;
        }
        let Phase::Stopping(stopping) = &mut self.phase else {
            self.save_changes(io);
            return;
        };
        if stopping.releasing {
            return;
        }
        if self.assemblies.values().any(Assembly::has_waiting) {
            self.flush_pieces(io);
            if io.out.ops.disk_jobs(self.id) > 0 {
                return;
            }
        }
        let Phase::Stopping(stopping) = &mut self.phase else {
            return;
        };
        if !stopping.delete && !core::mem::replace(&mut stopping.saved, true) {
            // Waiting for a slow disk at every exit would be no service: within one boot the page
            // cache is as good, and the record says what was flushed.
            self.flush_and_save(io, io.setup.config.boot.is_none());
            return;
        }
        if !self.announcer.all_stopped() && io.now < deadline(stopping, &self.announcer) {
            return;
        }
        stopping.releasing = true;
        let delete = stopping.delete;
        io.out.ops.job(Purpose::Release(self.id), |op| Op::Release {
            op,
            torrent: self.id,
            delete,
        });
    }

    /// Trackers may have had their time.
    pub(super) fn stop_overdue(&mut self, io: &mut Io<'_>) {
        let Phase::Stopping(stopping) = &self.phase else {
            return;
        };
        if stopping.releasing {
            return;
        }
        let until = deadline(stopping, &self.announcer);
        if until <= io.now {
            io.out.ops.cancel_queries(self.id);
            self.want(io, Wants::PROCEED);
        } else {
            io.out.timers.at_latest(Timer::Stop, until);
        }
    }
}
