//! A sweep over all torrents after a change that affects each of them: a few at a time, so that no call has to handle
//! thousands (law 4).

use core::time::Duration;

use super::Torrents;
use crate::TorrentId;
use crate::torrent::Wants;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::outbox::timers::Timer;

/// The number of torrents in a batch.
const BATCH: usize = 64;
/// The time between batches, in which other work is done.
const PAUSE: Duration = Duration::from_millis(1);

/// The progress of a sweep.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The last torrent of the previous batch. `None` before the first batch.
    after: Option<TorrentId>,
    running: Option<Why>,
    /// Whether another sweep follows, as something changed again.
    next: Option<Why>,
}

/// The reason of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Why {
    /// The sockets were bound, or the DHT node was started.
    Ready,
    /// The DHT node knows other nodes now, so failed searches are worth repeating.
    DhtKnowsOthers,
    /// The network is available again, so peers and trackers may be reachable again.
    NetworkBack,
}

impl Torrents {
    /// Starts a sweep.
    pub(in super::super) fn sweep(&mut self, io: &mut Io<'_>, why: Why) {
        if self.sweep.running.is_some() {
            self.sweep.next = self.sweep.next.max(Some(why));
            return;
        }
        self.sweep.running = Some(why);
        self.sweep_step(io);
    }

    /// Handles the next batch.
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
                t.sources.announcer.set_dht_up(&mut cx!(io), true);
            }
            if up && retry {
                t.sources.announcer.retry_dht(&mut cx!(io));
            }
            if back {
                t.sources.announcer.network_back(&mut cx!(io));
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
