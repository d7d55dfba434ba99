//! What has to be done for every torrent because something changed that concerns them all: a few
//! at a time, so that no call works through thousands (law 4).

use core::time::Duration;

use super::Torrents;
use crate::TorrentId;
use crate::torrent::Wants;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::timers::Timer;

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
pub(in super::super) enum Why {
    /// The sockets are bound, or the DHT node is up.
    Ready,
    /// The DHT node knows others now: a search that failed is worth repeating.
    DhtKnowsOthers,
    /// The network is back: peers and trackers that could not be reached may be now.
    NetworkBack,
}

impl Torrents {
    /// Lets every torrent look at its trackers anew.
    pub(in super::super) fn sweep(&mut self, io: &mut Io<'_>, why: Why) {
        if self.sweep.running.is_some() {
            self.sweep.next = self.sweep.next.max(Some(why));
            return;
        }
        self.sweep.running = Some(why);
        self.sweep_step(io);
    }

    /// The next few torrents.
    pub(in super::super) fn sweep_step(&mut self, io: &mut Io<'_>) {
        let next = self.ids_after(self.sweep.after);
        let ids: heapless::Vec<TorrentId, BATCH> = next.take(BATCH).collect();
        self.sweep.after = ids.last().copied();
        let up = io.dht.active;
        let retry = self.sweep.running >= Some(Why::DhtKnowsOthers);
        let back = self.sweep.running == Some(Why::NetworkBack);
        for &id in &ids {
            let Some(t) = self.get_mut(&id) else {
                continue;
            };
            if up {
                t.announcer.set_dht_up(&mut cx!(io), true);
            }
            if up && retry {
                t.announcer.retry_dht(&mut cx!(io));
            }
            if back {
                t.announcer.network_back(&mut cx!(io));
                t.peer_list.hurry(io.now);
                self.queue_dialler(io, id);
            }
            if let Some(t) = self.get_mut(&id) {
                t.want(io, Wants::TRACKERS);
            }
        }
        let ended = !ids.is_full();
        if ended {
            self.sweep.after = None;
            self.sweep.running = self.sweep.next.take();
        }
        if self.sweep.running.is_some() {
            io.out.timers.set(Timer::Sweep, Some(io.now + PAUSE));
        }
    }
}
