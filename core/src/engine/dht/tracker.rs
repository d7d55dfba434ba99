//! The DHT as a torrent's pseudo-tracker: starting its searches, and passing their peers and results to it.

use super::super::torrents::Torrents;
use super::{Owner, Server};
use crate::TorrentId;
use crate::dht::{Announce, Goal};
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::search::PeerSearch;
use crate::torrent::{Torrent, Wants};
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
                t.lose_dht(io);
            }
        }
    }

    /// Starts the search of a torrent whose turn has come.
    pub(super) fn search_for(&mut self, io: &mut Io<'_>, torrents: &mut Torrents, id: TorrentId) {
        let ports = io.endpoints.ports();
        let t = torrents.get_mut(&id);
        let Some(t) = t.filter(|t| t.sources.search.is_waiting()) else {
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
        let Some(key) = t.sources.search.end() else {
            return false;
        };
        self.service.withdraw(Owner::Torrent(t.id));
        t.sources.announcer.handle_dht(&mut cx!(io), key, Err(why));
        true
    }

    /// The progress of a torrent's search, while it runs.
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
