//! How a torrent stops: received blocks are written, the record is saved, trackers are told, files are released.

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

/// How long to wait for trackers that have never answered. One that is about to answer the `started` announce has to be told
/// `stopped`; a dead one must not delay the shutdown. The value is our choice.
const SILENT_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// When to stop waiting for trackers.
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
        // While its files are not known, the last record stays valid unless something else changed.
        let saved = !self.can_save() && !self.durability.unsaved;
        // Set before the peers are closed, or their places would be filled again.
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

    /// Continues once no job of the torrent is in flight: saves a torrent that was paused, and takes the next step of one
    /// that is stopping. Waiting blocks are written first, then the record is saved, then the files are released.
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
        let due = at_rest && self.durability.unsaved && self.durability.is_free();
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
            // Nothing is flushed here, as that would delay every exit on a slow disk. Within one boot the page cache is as
            // good, and the record says what was flushed.
            self.flush_and_save(io, io.setup.config.boot.is_none());
            return;
        }
        if !self.sources.announcer.all_stopped()
            && io.now < deadline(stopping, &self.sources.announcer)
        {
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

    /// Stops waiting for trackers if their time is over.
    pub(crate) fn stop_overdue(&mut self, io: &mut Io<'_>) {
        let Standing::Stopping(stopping) = &self.standing else {
            return;
        };
        if stopping.stage == StopStage::Releasing {
            return;
        }
        let until = deadline(stopping, &self.sources.announcer);
        if until <= io.now {
            let home = io.out.ops.cancel_queries(self.id);
            io.pool.give_all(home);
            self.want(io, Wants::PROCEED);
        } else {
            io.out.timers.at_latest(Timer::Stop, until);
        }
    }
}
