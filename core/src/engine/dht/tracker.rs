//! The DHT as a torrent's tracker of last resort: searches begin, peers come in, results are told.

use alloc::vec::Vec;
use core::net::SocketAddr;

use super::super::io::Io;
use super::super::member::Member;
use super::super::status::PeerSource;
use super::super::torrent::{Torrent, Wants};
use super::super::{Engine, cx};
use super::Owner;
use crate::TorrentId;
use crate::dht::{Announce, Goal, LookupId, LookupReport};
use crate::tracker::{DhtFound, DhtProgress, DhtState, SERVER_DOWN, TrackerStatus};
use crate::wire::tracker::TrackerError;

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
            if let Some((t, mut io)) = self.at(id) {
                t.note_no_trackers(&mut io);
            }
        }
    }

    // ---- searching ----

    /// A torrent wants to search.
    pub(in super::super) fn dht_request(&mut self, id: TorrentId) {
        if let Some(server) = &mut self.dht {
            server.service.request(self.now, Owner::Torrent(id));
        }
        self.after_dht();
    }

    /// The turn of a torrent's search has come.
    pub(super) fn dht_ready(&mut self, id: TorrentId) {
        let ports = self.endpoints.ports();
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
        let ids = self.torrents.all_ids();
        for id in ids {
            if let Some(t) = self.torrents.get_mut(&id) {
                t.announcer.set_dht_up(&mut cx!(self), false);
            }
            self.dht_end_search(id, TrackerError::Dht(SERVER_DOWN));
            if let Some((t, mut io)) = self.at(id) {
                t.want(&mut io, Wants::TRACKERS);
            }
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
        if let Some((t, mut io)) = self.at(id) {
            t.want(&mut io, Wants::TRACKERS);
        }
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
        let short = if io.setup.config.pex && !self.is_private() && self.members.iter().any(told) {
            Some(false)
        } else {
            let here = self.members.established();
            let few = here + self.swarm.available() / 2 < io.setup.config.min_peers as usize;
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
