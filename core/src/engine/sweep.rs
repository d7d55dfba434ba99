//! What has to be done for every torrent because something changed that concerns them all: a few
//! at a time, so that no call works through thousands (law 4).

use core::time::Duration;

use super::timers::Timer;
use super::torrent::Wants;
use super::{Engine, cx};
use crate::TorrentId;

/// Torrents dealt with at once; fewer than this notice no difference.
const BATCH: usize = 64;
/// Time between batches: what else is due comes in between.
const PAUSE: Duration = Duration::from_millis(1);

/// Where the tour of all torrents stands.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The torrent that was dealt with last; `None` before the first.
    after: Option<TorrentId>,
    running: Option<Why>,
    /// Something changed again meanwhile: another tour follows.
    next: Option<Why>,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// The sockets are bound, or the DHT node is up.
    Ready,
    /// The DHT node knows others now: a search that failed is worth repeating.
    DhtKnowsOthers,
    /// The network is back: peers and trackers that could not be reached may be now.
    NetworkBack,
}

impl Engine {
    /// Lets every torrent look at its trackers anew.
    pub(super) fn sweep_trackers(&mut self, why: Why) {
        if self.sweep.running.is_some() {
            self.sweep.next = self.sweep.next.max(Some(why));
            return;
        }
        self.sweep.running = Some(why);
        self.sweep_step();
    }

    /// The next few torrents.
    pub(super) fn sweep_step(&mut self) {
        let next = self.torrents.ids_after(self.sweep.after);
        let ids: heapless::Vec<TorrentId, BATCH> = next.take(BATCH).collect();
        self.sweep.after = ids.last().copied();
        let up = self.dht_is_active();
        let retry = self.sweep.running >= Some(Why::DhtKnowsOthers);
        let back = self.sweep.running == Some(Why::NetworkBack);
        for &id in &ids {
            if let Some(t) = self.torrents.get_mut(&id) {
                if up {
                    t.announcer.set_dht_up(&mut cx!(self), true);
                }
                if up && retry {
                    t.announcer.retry_dht(&mut cx!(self));
                }
                if back {
                    t.announcer.network_back(&mut cx!(self));
                    t.swarm.hurry(self.now);
                }
            }
            if back {
                self.queue_dialler(id);
            }
            if let Some((t, mut io)) = self.at(id) {
                t.want(&mut io, Wants::TRACKERS);
            }
        }
        let ended = !ids.is_full();
        if ended {
            self.sweep.after = None;
            self.sweep.running = self.sweep.next.take();
        }
        if self.sweep.running.is_some() {
            self.out.timers.set(Timer::Sweep, Some(self.now + PAUSE));
        }
    }
}
