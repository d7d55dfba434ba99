//! How a torrent ends: what waits is written, the record saved, trackers told, files released.

use core::time::Duration;

use super::content::assembly::Assembly;
use super::content::{Opening, Store};
use super::io::Io;
use super::outbox::event::Changes;
use super::outbox::ops::Purpose;
use super::outbox::timers::Timer;
use super::standing::{Standing, StopStage, Stopping};
use super::{Torrent, Wants};
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
    pub(crate) fn begin_stop(&mut self, io: &mut Io<'_>, delete: bool) {
        let until = io.now + io.setup.config.stop_timeout;
        let silent_until = until.min(io.now + SILENT_STOP_TIMEOUT);
        if let Standing::Stopping(stopping) = &mut self.standing {
            stopping.delete |= delete;
            return;
        }
        // While its files are not known, the last record stands unless something else changed.
        let saved = !self.can_save() && !self.unsaved;
        // First of all, or places that become free would be filled again.
        self.standing = Standing::Stopping(Stopping {
            until,
            silent_until,
            delete,
            stage: if saved {
                StopStage::Telling
            } else {
                StopStage::Writing
            },
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
    pub(crate) fn proceed(&mut self, io: &mut Io<'_>) {
        if let Some(Store::Opening(Opening::Due)) = self.content.store()
            && self.standing.is_up()
        {
            self.open_when_quiet(io);
            return;
        }
        let failed = matches!(self.standing, Standing::Failed(_));
        let at_rest = self.can_save() && (self.paused || failed);
        let stopping = matches!(self.standing, Standing::Stopping(_));
        let due = at_rest && self.unsaved && self.durability.is_free();
        if !(stopping || due) || io.out.ops.disk_jobs(self.id) > 0 {
            return;
        }
        let Standing::Stopping(stopping) = &mut self.standing else {
            self.save_changes(io);
            return;
        };
        if stopping.stage == StopStage::Releasing {
            return;
        }
        let waiting = self.content.open().map(|(_, open)| &open.assemblies);
        if waiting.is_some_and(|all| all.values().any(Assembly::has_waiting)) {
            self.flush_pieces(io);
            if io.out.ops.disk_jobs(self.id) > 0 {
                return;
            }
        }
        let Standing::Stopping(stopping) = &mut self.standing else {
            return;
        };
        let writing = core::mem::replace(&mut stopping.stage, StopStage::Telling);
        if !stopping.delete && writing == StopStage::Writing {
            // Waiting for a slow disk at every exit would be no service: within one boot the page
            // cache is as good, and the record says what was flushed.
            self.flush_and_save(io, io.setup.config.boot.is_none());
            return;
        }
        if !self.announcer.all_stopped() && io.now < deadline(stopping, &self.announcer) {
            return;
        }
        stopping.stage = StopStage::Releasing;
        let delete = stopping.delete;
        io.out.ops.job(Purpose::Release(self.id), |op| Op::Release {
            op,
            torrent: self.id,
            delete,
        });
    }

    /// Trackers may have had their time.
    pub(crate) fn stop_overdue(&mut self, io: &mut Io<'_>) {
        let Standing::Stopping(stopping) = &self.standing else {
            return;
        };
        if stopping.stage == StopStage::Releasing {
            return;
        }
        let until = deadline(stopping, &self.announcer);
        if until <= io.now {
            let home = io.out.ops.cancel_queries(self.id);
            io.pool.give_all(home);
            self.want(io, Wants::PROCEED);
        } else {
            io.out.timers.at_latest(Timer::Stop, until);
        }
    }
}
