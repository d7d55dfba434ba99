//! The DHT as a torrent's tracker of last resort: searches begin, peers come in, results are told.

use super::super::cx;
use super::super::io::Io;
use super::super::member::Member;
use super::super::search::PeerSearch;
use super::super::status::PeerSource;
use super::super::torrent::{Torrent, Wants};
use super::super::torrents::Torrents;
use super::{Owner, Server};
use crate::TorrentId;
use crate::dht::{Announce, DhtEvent, Goal};
use crate::tracker::{DhtFound, DhtProgress, DhtState, SERVER_DOWN};
use crate::wire::tracker::TrackerError;

impl Server {
    /// Gives a torrent its pseudo-tracker, or takes it away: private torrents have none.
    pub(super) fn update_tracker(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        id: TorrentId,
    ) {
        let Some(t) = torrents.get_mut(&id) else {
            return;
        };
        if !t.is_private() {
            let up = self.active().is_some();
            t.announcer.add_dht(&mut cx!(io), up);
        } else if t.announcer.dht_id().is_some() {
            self.drop_search(io, torrents, id);
            if let Some(t) = torrents.get_mut(&id) {
                t.lose_dht(io);
            }
        }
    }

    /// The turn of a torrent's search has come.
    pub(super) fn search_for(&mut self, io: &mut Io<'_>, torrents: &mut Torrents, id: TorrentId) {
        let ports = io.endpoints.ports();
        let t = torrents.get_mut(&id);
        let Some(t) = t.filter(|t| t.dht.is_waiting()) else {
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
        if let Ok(lookup) = self.service.search(&mut cx!(io), owner, goal) {
            t.dht.begin(lookup);
        }
    }

    /// Ends a torrent's search; its announcer is told that it was cancelled.
    pub(in super::super) fn drop_search(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        id: TorrentId,
    ) {
        if let Some(t) = torrents.get_mut(&id)
            && self.end_search(io, t, TrackerError::Cancelled)
        {
            // There is room for the next that waits.
            self.settle(io, torrents);
        }
    }

    /// The node has stopped, and with it the searches of all torrents: their announcers would wait for ever.
    pub(super) fn end_searches(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        for t in torrents.values_mut() {
            t.announcer.set_dht_up(&mut cx!(io), false);
            self.end_search(io, t, TrackerError::Dht(SERVER_DOWN));
            t.want(io, Wants::TRACKERS);
        }
    }

    /// Ends a torrent's search, and returns whether there was one.
    fn end_search(&mut self, io: &mut Io<'_>, t: &mut Torrent, why: TrackerError) -> bool {
        let Some(key) = t.dht.end() else {
            return false;
        };
        self.service.withdraw(Owner::Torrent(t.id));
        t.announcer.handle_dht(&mut cx!(io), key, Err(why));
        true
    }

    /// How a torrent's search goes, while it is under way.
    pub(in super::super) fn progress(&self, search: &PeerSearch) -> Option<DhtProgress> {
        let (replied, contacted, announcing) = self.service.node()?.progress(search.lookup()?)?;
        Some(DhtProgress {
            state: match announcing {
                true => DhtState::Announcing,
                false => DhtState::Searching,
            },
            replied,
            contacted,
        })
    }
}

impl Torrent {
    /// There is no DHT for it.
    pub(in super::super) fn lose_dht(&mut self, io: &mut Io<'_>) {
        if self.announcer.dht_id().is_some() {
            self.announcer.remove_dht(&mut cx!(io));
            self.note_no_trackers(io);
        }
    }

    /// Its search found peers, or is over.
    pub(super) fn dht_answered(&mut self, io: &mut Io<'_>, event: DhtEvent) {
        match event {
            // While its files are looked at they wait: a torrent at rest searches for none.
            DhtEvent::Peers { peers, .. } if !self.is_private() => {
                self.learn(io, peers, PeerSource::Dht);
            }
            DhtEvent::Done { lookup, report } => {
                let Some(key) = self.dht.done(lookup, &report) else {
                    return;
                };
                let outcome = match report.failure {
                    None => Ok(DhtFound {
                        peers: report.peers,
                        swarm: report.swarm,
                    }),
                    Some((failure, _)) => Err(TrackerError::Dht(failure.words())),
                };
                self.announcer.handle_dht(&mut cx!(io), key, outcome);
                self.want(io, Wants::TRACKERS);
            }
            // It asks for nothing else.
            _ => {}
        }
    }

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
