//! The DHT as a torrent's pseudo-tracker: starting its searches, and passing their peers and results to it.

use super::super::torrents::Torrents;
use super::{Owner, Server};
use crate::TorrentId;
use crate::dht::DhtEvent;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::sources::Sources;
use crate::torrent::{PeerSource, Torrent, Wants};
use crate::tracker::{DhtProgress, DhtState, SERVER_DOWN};
use crate::wire::tracker::TrackerError;

impl Server {
    /// Adds the pseudo-tracker to a torrent, or removes it if the torrent is private.
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
            t.sources.announcer.add_dht(&mut cx!(io), up);
        } else if t.sources.announcer.dht_id().is_some() {
            self.drop_search(io, torrents, id);
            if let Some(t) = torrents.get_mut(&id) {
                t.sources.lose_dht(io, t.knows_peers());
            }
        }
    }

    /// Starts the search of a torrent whose turn has come.
    pub(super) fn search_for(&mut self, io: &mut Io<'_>, torrents: &mut Torrents, id: TorrentId) {
        let Some(t) = torrents.get_mut(&id) else {
            return;
        };
        let owner = Owner::Torrent(id);
        if let Some(goal) = t.sources.search_goal(io, t.is_seed())
            && let Ok(lookup) = self.service.search(&mut cx!(io), owner, goal)
        {
            t.sources.search.begin(lookup);
        }
    }

    /// Cancels a torrent's search. Its announcer is told.
    pub(in super::super) fn drop_search(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        id: TorrentId,
    ) {
        if let Some(t) = torrents.get_mut(&id)
            && self.end_search(io, t, TrackerError::Cancelled)
        {
            // The next search that waits may start.
            self.settle(io, torrents);
        }
    }

    /// The node was stopped: cancels the searches of all torrents, so that their announcers do not wait for them.
    pub(super) fn end_searches(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) {
        for t in torrents.values_mut() {
            t.sources.announcer.set_dht_up(&mut cx!(io), false);
            self.end_search(io, t, TrackerError::Dht(SERVER_DOWN));
            t.want(io, Wants::TRACKERS);
        }
    }

    /// Removes a torrent's search. Returns whether there was one.
    fn end_search(&mut self, io: &mut Io<'_>, t: &mut Torrent, why: TrackerError) -> bool {
        let ended = t.sources.end_search(io, why);
        if ended {
            self.service.withdraw(Owner::Torrent(t.id));
        }
        ended
    }

    /// Passes an event of a torrent's search to it.
    pub(super) fn tell_torrent(io: &mut Io<'_>, t: &mut Torrent, event: DhtEvent) {
        match event {
            // Peers wait while its files are checked. A paused torrent does not search.
            DhtEvent::Peers { peers, .. } if !t.is_private() => {
                t.learn(io, peers, PeerSource::Dht);
            }
            DhtEvent::Done { lookup, report } => {
                let sources = &mut t.sources;
                sources.search_done(io, &mut t.intents, lookup, &report);
            }
            // Its search has no other goal.
            _ => {}
        }
    }

    /// The progress of a torrent's search, while it runs.
    pub(in super::super) fn progress(&self, sources: &Sources) -> Option<DhtProgress> {
        let lookup = sources.search.lookup()?;
        let (replied, contacted, announcing) = self.service.node()?.progress(lookup)?;
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
