//! What an application may ask for while a torrent runs.

use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;

use super::checking::WHOLE;
use super::event::Changes;
use super::status::{FilePriority, PeerSource};
use super::{Engine, Scope, cx};
use crate::throttle::{BucketId, Direction};
use crate::tracker::TrackerId;
use crate::{Instant, TorrentId};

impl Engine {
    /// Says how much each file is wanted; a list that is too short leaves the rest normal.
    /// Returns, like all commands, whether the torrent exists.
    pub fn set_priorities(
        &mut self,
        now: Instant,
        id: TorrentId,
        priorities: &[FilePriority],
    ) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        let files = t.info.as_ref().map_or(usize::MAX, |i| i.files().len());
        t.priorities = priorities.iter().copied().take(files).collect();
        if t.priorities.is_empty() {
            // An empty list would leave the picker with the old ones.
            t.priorities.push(FilePriority::Normal);
        }
        t.unsaved = true;
        // Files may be put together from others.
        t.saving.wrote();
        self.select(id);
        self.apply_priorities(id);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        let done = t.is_done();
        if t.finished && !done {
            // Peers that were of no use to a seed are now.
            t.swarm.hurry(self.now);
        }
        t.finished &= done;
        if done && !t.is_confirmed() && t.is_exchanging() {
            self.confirm(id);
        }
        self.claim_more(id);
        self.reconsider(id);
        self.change(id, Changes::STATE | Changes::PROGRESS);
        self.settle(id);
        self.save_early(id);
        true
    }

    /// What is wanted changed: so may our interest in each peer.
    fn reconsider(&mut self, id: TorrentId) {
        let conns = self
            .torrents
            .get(&id)
            .map(|t| t.conns.clone())
            .unwrap_or_default();
        for index in conns {
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let conn_id = conn.id;
            if let Some(peer) = conn.peer.as_mut().filter(|_| conn.established.is_some())
                && let Some(picker) = self.torrents.get_mut(&id).and_then(|t| t.picker.as_mut())
            {
                peer.set_interested(picker.is_interesting(peer.has()));
            }
            self.refill(conn_id);
            self.conns.refresh(conn_id);
        }
        self.connect_more(id);
    }

    /// Pieces in order, or rarest first.
    pub fn set_sequential(&mut self, now: Instant, id: TorrentId, on: bool) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        t.sequential = on;
        if let Some(picker) = &mut t.picker {
            picker.set_sequential(on.then_some(WHOLE));
        }
        true
    }

    /// Wants a piece by then (streaming); `None` takes that back. Holds also for a torrent whose
    /// files are not known or not checked yet.
    pub fn set_deadline(
        &mut self,
        now: Instant,
        id: TorrentId,
        piece: u32,
        by: Option<Instant>,
    ) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        match &mut t.picker {
            Some(picker) => picker.set_deadline(piece, by),
            None => t.deadlines.set(piece, by),
        }
        self.refill_all(id);
        true
    }

    /// Limits rates, in bytes per second; `None` lifts a limit, `Some(0)` stops.
    pub fn set_limits(
        &mut self,
        now: Instant,
        scope: Scope,
        down: Option<u64>,
        up: Option<u64>,
    ) -> bool {
        self.tick(now);
        match scope {
            Scope::Global => {
                self.throttle
                    .set_rate(self.now, BucketId::ROOT, Direction::Down, down);
                self.throttle
                    .set_rate(self.now, BucketId::ROOT, Direction::Up, up);
                let all: Vec<TorrentId> = self.torrents.keys().copied().collect();
                self.limits_changed(all);
                true
            }
            Scope::Torrent(id) => {
                self.limit_torrent(id, down, up);
                self.torrents.contains_key(&id)
            }
        }
    }

    /// Tells of peers.
    pub fn add_peers(&mut self, now: Instant, id: TorrentId, peers: &[SocketAddr]) -> bool {
        self.tick(now);
        self.learn(id, peers.iter().copied(), PeerSource::Manual);
        self.torrents.contains_key(&id)
    }

    /// Adds trackers, one tier each.
    pub fn add_trackers(&mut self, now: Instant, id: TorrentId, urls: &[String]) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        // The DHT stays behind all of them.
        let trackers = t.announcer.status().filter(|s| s.dht.is_none());
        let last = trackers.map(|s| s.tier + 1).max().unwrap_or(0);
        for (tier, url) in (last..).zip(urls) {
            // More than the announcer can hold are of no use to anybody.
            if t.announcer.add(&mut cx!(self), tier, url).is_err() {
                break;
            }
        }
        t.unsaved = true;
        self.pump_trackers(id);
        self.settle(id);
        self.save_early(id);
        true
    }

    /// Switches a tracker on or off, the DHT's pseudo-tracker like any other; one that is
    /// switched off hears that we stop.
    pub fn set_tracker_enabled(
        &mut self,
        now: Instant,
        id: TorrentId,
        tracker: TrackerId,
        enabled: bool,
    ) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        t.announcer.set_enabled(&mut cx!(self), tracker, enabled);
        t.unsaved = true;
        self.dht_switched(id);
        self.pump_trackers(id);
        self.settle(id);
        self.save_early(id);
        true
    }

    /// Asks the trackers for peers now, as far as their minimum interval allows.
    pub fn reannounce(&mut self, now: Instant, id: TorrentId) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        t.announcer.reannounce(&mut cx!(self), false);
        self.pump_trackers(id);
        true
    }

    /// Asks the trackers how large the swarm is (BEP 48), as far as they allow.
    pub fn scrape(&mut self, now: Instant, id: TorrentId) -> bool {
        self.tick(now);
        let Some(t) = self.torrents.get_mut(&id) else {
            return false;
        };
        t.announcer.scrape(&mut cx!(self));
        self.pump_trackers(id);
        true
    }

    /// Saves the resume record of every torrent that changed, and the DHT's table.
    pub fn save_all(&mut self, now: Instant) {
        self.tick(now);
        self.dht_save_due();
        let ids: Vec<TorrentId> = self.torrents.keys().copied().collect();
        for id in ids {
            self.save(id);
        }
    }
}
