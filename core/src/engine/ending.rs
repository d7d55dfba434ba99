//! How a torrent ends: what waits is written, the record saved, trackers told, files released.

use alloc::vec::Vec;
use core::time::Duration;

use super::assembly::Assembly;
use super::event::{Changes, Level, What};
use super::ops::Purpose;
use super::timers::Timer;
use super::torrent::{Phase, Stopping};
use super::{Engine, Stop};
use crate::peer::crypto::req2;
use crate::tracker::Announcer;
use crate::{Instant, Op, Outcome, TorrentId};

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

impl Engine {
    /// Takes a torrent out: trackers hear `stopped`, its files are closed, and deleted if
    /// asked; [`Event::Removed`](super::Event::Removed) follows.
    pub fn remove(&mut self, now: Instant, id: TorrentId, delete: bool) -> bool {
        self.tick(now);
        if !self.torrents.contains_key(&id) {
            return false;
        }
        self.begin_stop(id, delete);
        true
    }

    pub(super) fn begin_stop(&mut self, id: TorrentId, delete: bool) {
        let until = self.now + self.config.stop_timeout;
        let silent_until = until.min(self.now + SILENT_STOP_TIMEOUT);
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if let Phase::Stopping(stopping) = &mut t.phase {
            stopping.delete |= delete;
            return;
        }
        // While its files are not known, the last record stands unless something else changed.
        let saved = t.info.is_some() && t.picker.is_none() && !t.unsaved;
        // First of all, or places that become free would be filled again.
        t.phase = Phase::Stopping(Stopping {
            until,
            silent_until,
            delete,
            saved,
            releasing: false,
        });
        self.out.timers.at_latest(Timer::Stop, silent_until);
        self.check_queue.retain(|c| *c != id);
        self.rest(id, "the torrent is stopping");
        self.change(id, Changes::STATE);
        self.settle(id);
        self.next_check();
    }

    /// Once nothing of a torrent is in flight: saves one that came to rest, and moves one that is
    /// stopping on. What waits is written first, then the record saved, then the files released.
    pub(super) fn settle(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if t.to_open {
            self.open_when_quiet(id);
            return;
        }
        let at_rest = t.can_save() && (t.paused || matches!(t.phase, Phase::Failed(_)));
        let stopping = matches!(t.phase, Phase::Stopping(_));
        let due = at_rest && t.unsaved && t.saving.is_free();
        if !(stopping || due) || self.out.ops.disk_jobs(id) > 0 {
            return;
        }
        let Phase::Stopping(stopping) = &mut t.phase else {
            self.save_changes(id);
            return;
        };
        if stopping.releasing {
            return;
        }
        if t.assemblies.values().any(Assembly::has_waiting) {
            self.flush_pieces(id);
            if self.out.ops.disk_jobs(id) > 0 {
                return;
            }
        }
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let Phase::Stopping(stopping) = &mut t.phase else {
            return;
        };
        if !stopping.delete && !core::mem::replace(&mut stopping.saved, true) {
            // Waiting for a slow disk at every exit would be no service: within one boot the page
            // cache is as good, and the record says what was flushed.
            self.flush_and_save(id, self.config.boot.is_none());
            return;
        }
        if !t.announcer.all_stopped() && self.now < deadline(stopping, &t.announcer) {
            return;
        }
        stopping.releasing = true;
        let delete = stopping.delete;
        self.out.ops.job(Purpose::Release(id), |op| Op::Release {
            op,
            torrent: id,
            delete,
        });
    }

    pub(super) fn released(&mut self, id: TorrentId, outcome: &Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            let message = error.detail.clone();
            self.out
                .notice(Some(id), None, Level::Warning, What::Disk { message });
        }
        self.discard_assemblies(id);
        self.drop_queries(id);
        if let Some(t) = self.torrents.remove(&id) {
            self.by_hash.remove(&t.info_hash);
            self.by_req2.remove(&req2(&t.info_hash));
            self.throttle.remove(self.now, t.bucket);
            self.out.removed.push_back(id);
        }
    }

    /// Ends: trackers hear `stopped`, what waits is written, records are saved;
    /// [`Event::Stopped`](super::Event::Stopped) follows when the disk is done, at the latest
    /// [`Config::stop_timeout`](crate::Config::stop_timeout) after that.
    pub fn shutdown(&mut self, now: Instant) {
        self.tick(now);
        if self.stop != Stop::Running {
            return;
        }
        self.stop = Stop::Stopping;
        self.dht_stop();
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            self.begin_stop(id, false);
        }
        while let Some(conn) = self.conns.first() {
            self.close_conn(conn, super::peers::End::Finished("shutting down"));
        }
    }

    /// Trackers had their time.
    pub(super) fn stop_overdue(&mut self) {
        let stopping: Vec<(TorrentId, Instant)> = self
            .torrents
            .iter()
            .filter_map(|(id, t)| match &t.phase {
                Phase::Stopping(s) if !s.releasing => Some((*id, deadline(s, &t.announcer))),
                _ => None,
            })
            .collect();
        for (id, until) in stopping {
            if until <= self.now {
                self.out.ops.cancel_queries(id);
                self.settle(id);
            } else {
                self.out.timers.at_latest(Timer::Stop, until);
            }
        }
    }
}
