//! The DHT as a torrent's tracker of last resort: searches begin, peers come in, results are told.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::super::event::{Level, What};
use super::super::io::Io;
use super::super::member::Member;
use super::super::status::PeerSource;
use super::super::timers::{Timer, TorrentTimer};
use super::super::torrent::{Torrent, Wants};
use super::super::{Engine, cx};
use super::Owner;
use crate::TorrentId;
use crate::dht::{Announce, Goal, LookupId, LookupReport};
use crate::net::Ports;
use crate::tracker::{DhtFound, DhtProgress, DhtState, QueryKey, SERVER_DOWN, TrackerStatus};
use crate::wire::tracker::TrackerError;

/// How long after a tracker's answer it is looked whether there are enough peers (rTorrent's).
const ENOUGH_AFTER: Duration = Duration::from_secs(10);

impl Engine {
    /// Gives a torrent its pseudo-tracker, or takes it away: private torrents have none.
    pub(in super::super) fn dht_tracker(&mut self, id: TorrentId) {
        let up = self.dht_is_active();
        let exists = self.dht.is_some();
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if exists && !t.is_private() {
            t.announcer.add_dht(&mut cx!(self), up);
            return;
        }
        if t.announcer.dht_id().is_some() {
            self.dht_drop_search(id);
            if let Some(t) = self.torrents.get_mut(&id) {
                t.announcer.remove_dht(&mut cx!(self));
            }
            self.note_no_trackers(id);
        }
    }

    /// Says so if a torrent has nobody to ask for peers.
    pub(in super::super) fn note_no_trackers(&mut self, id: TorrentId) {
        let none = |t: &Torrent| t.announcer.is_empty();
        if self.torrents.get(&id).is_some_and(none) {
            // With peers that somebody named it can do without.
            let alone = |t: &Torrent| t.swarm.len() == 0 && t.members.is_empty();
            let level = match self.torrents.get(&id).is_some_and(alone) {
                true => Level::Warning,
                false => Level::Detail,
            };
            self.out.notice(Some(id), None, level, What::NoTrackers);
        }
    }

    // ---- searching ----

    /// The announcer wants a search.
    pub(in super::super) fn ask_dht(&mut self, id: TorrentId, key: QueryKey) {
        let active = self.dht_is_active();
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !active || t.is_private() {
            let error = TrackerError::Dht(SERVER_DOWN);
            t.announcer.handle_dht(&mut cx!(self), key, Err(error));
            return;
        }
        t.dht.key = Some(key);
        t.dht.lookup = None;
        if let Some(server) = &mut self.dht {
            server.service.request(self.now, Owner::Torrent(id));
        }
        self.after_dht();
    }

    /// The turn of a torrent's search has come.
    pub(super) fn dht_ready(&mut self, id: TorrentId) {
        let ports = Ports::bound(self.listening.values());
        let t = self.torrents.get_mut(&id);
        let t = t.filter(|t| t.dht.key.is_some() && t.dht.lookup.is_none());
        let (Some(t), Some(server)) = (t, &mut self.dht) else {
            return;
        };
        let goal = Goal::Peers {
            hash: t.info_hash,
            announce: ports.any().map(|_| Announce {
                ports,
                implied: false,
                seed: t.is_seed(),
            }),
            scrape: false,
        };
        let owner = Owner::Torrent(id);
        t.dht.lookup = server.service.search(&mut cx!(self), owner, goal).ok();
    }

    /// Ends a torrent's search; its announcer is told that it was cancelled.
    pub(in super::super) fn dht_drop_search(&mut self, id: TorrentId) {
        self.dht_end_search(id, TrackerError::Cancelled);
    }

    /// The node has stopped, and with it the searches of all torrents: their announcers would wait for ever.
    pub(super) fn dht_end_searches(&mut self) {
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            if let Some(t) = self.torrents.get_mut(&id) {
                t.announcer.set_dht_up(&mut cx!(self), false);
            }
            self.dht_end_search(id, TrackerError::Dht(SERVER_DOWN));
            self.pump_trackers(id);
        }
    }

    fn dht_end_search(&mut self, id: TorrentId, why: TrackerError) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let Some(key) = t.dht.key.take() else {
            return;
        };
        t.dht.lookup = None;
        if let Some(server) = &mut self.dht {
            server.service.withdraw(Owner::Torrent(id));
        }
        t.announcer.handle_dht(&mut cx!(self), key, Err(why));
        // There is room for the next that waits.
        self.after_dht();
    }

    pub(super) fn dht_peers(&mut self, id: TorrentId, peers: Vec<SocketAddr>) {
        // While its files are looked at they wait: a torrent at rest searches for none.
        if self.torrents.get(&id).is_some_and(|t| !t.is_private())
            && let Some((t, mut io)) = self.at(id)
        {
            t.learn(&mut io, peers, PeerSource::Dht);
        }
    }

    /// A torrent's search is over.
    pub(super) fn dht_done(&mut self, id: TorrentId, lookup: LookupId, report: &LookupReport) {
        let t = self.torrents.get_mut(&id);
        let Some(t) = t.filter(|t| t.dht.lookup == Some(lookup)) else {
            return;
        };
        t.dht.lookup = None;
        t.dht.replied = report.replied;
        t.dht.contacted = report.contacted;
        t.dht.failure = report.failure;
        let Some(key) = t.dht.key.take() else {
            return;
        };
        let outcome = match report.failure {
            None => Ok(DhtFound {
                peers: report.peers,
                swarm: report.swarm,
            }),
            Some((failure, _)) => Err(TrackerError::Dht(failure.words())),
        };
        t.announcer.handle_dht(&mut cx!(self), key, outcome);
        self.pump_trackers(id);
    }

    /// What a failed announce is told as.
    pub(in super::super) fn dht_failed(&self, id: TorrentId, error: &TrackerError) -> Option<What> {
        let TrackerError::Dht(words) = error else {
            return None;
        };
        let (failure, cause) = self.torrents.get(&id)?.dht.failure?;
        (failure.words() == *words).then_some(What::DhtFailed { failure, cause })
    }

    /// Fills in how the search of the pseudo-tracker goes.
    pub(in super::super) fn dht_progress(&self, t: &Torrent, status: &mut TrackerStatus<'_>) {
        let Some(told) = &mut status.dht else {
            return;
        };
        let node = self.dht.as_ref().and_then(|s| s.service.node());
        let running = t.dht.lookup.and_then(|lookup| node?.progress(lookup));
        *told = match running {
            Some((replied, contacted, announcing)) => DhtProgress {
                state: match announcing {
                    true => DhtState::Announcing,
                    false => DhtState::Searching,
                },
                replied,
                contacted,
            },
            None => DhtProgress {
                state: DhtState::Idle,
                replied: t.dht.replied,
                contacted: t.dht.contacted,
            },
        };
    }

    // ---- enough peers? ----

    /// A tracker has answered: soon it will show whether it knew enough peers.
    pub(in super::super) fn expect_peers(&mut self, id: TorrentId) {
        if self.dht.is_some() {
            self.out.timers.at_latest(
                Timer::Torrent(id, TorrentTimer::Enough),
                self.now + ENOUGH_AFTER,
            );
        }
    }
}

impl Torrent {
    /// Whether the trackers know enough peers. Where peers tell of peers, they do.
    pub(in super::super) fn judge_peers(&mut self, io: &mut Io<'_>) {
        if !self.is_running() {
            return;
        }
        let told = |m: &Member| {
            let extended = m.stream.peer.extended();
            extended.is_some_and(|e| e.ids.ut_pex != 0)
        };
        let short = if io.config.pex && !self.is_private() && self.members.iter().any(told) {
            Some(false)
        } else {
            let here = self.members.established();
            let few = here + self.swarm.available() / 2 < io.config.min_peers as usize;
            few.then_some(true)
        };
        if let Some(short) = short {
            // Who has everything can wait for others to come.
            let hurry = short && !self.is_done();
            self.announcer.set_short(&mut cx!(io), short, hurry);
            self.want(io, Wants::TRACKERS);
        }
    }
}
