//! What an application may ask for while a torrent runs.

use alloc::string::String;
use core::net::SocketAddr;

use super::checking::WHOLE;
use super::event::Changes;
use super::io::Io;
use super::status::{FilePriority, PeerSource};
use super::torrent::{Torrent, Wants};
use super::{Engine, Scope, cx};
use crate::throttle::{BucketId, Direction};
use crate::tracker::TrackerId;
use crate::{Instant, TorrentId};

impl Torrent {
    fn set_priorities(&mut self, io: &mut Io<'_>, priorities: &[FilePriority]) {
        let files = self.info.as_ref().map_or(usize::MAX, |i| i.files().len());
        self.priorities = priorities.iter().copied().take(files).collect();
        if self.priorities.is_empty() {
            // An empty list would leave the picker with the old ones.
            self.priorities.push(FilePriority::Normal);
        }
        self.unsaved = true;
        // Files may be put together from others.
        self.durability.wrote();
        self.select(io);
        self.apply_priorities();
        let done = self.is_done();
        if self.finished && !done {
            // Peers that were of no use to a seed are now.
            self.swarm.hurry(io.now);
        }
        self.finished &= done;
        if done && !self.is_confirmed() && self.is_exchanging() {
            self.confirm(io);
        }
        self.claim_more(io);
        self.reconsider(io);
        self.change(io, Changes::STATE | Changes::PROGRESS);
        self.want(io, Wants::PROCEED);
        self.save_early(io);
    }

    /// What is wanted changed: so may our interest in each peer.
    fn reconsider(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            if let (Some(member), Some(picker)) = (self.members.get_mut(id), &mut self.picker) {
                let peer = &mut member.stream.peer;
                peer.set_interested(picker.is_interesting(peer.has()));
            }
            self.refill(io, id);
            self.refresh(io, id);
        }
        self.want(io, Wants::PLACES);
    }

    fn set_sequential(&mut self, on: bool) {
        self.sequential = on;
        if let Some(picker) = &mut self.picker {
            picker.set_sequential(on.then_some(WHOLE));
        }
    }

    fn set_deadline(&mut self, io: &mut Io<'_>, piece: u32, by: Option<Instant>) {
        match &mut self.picker {
            Some(picker) => picker.set_deadline(piece, by),
            None => self.deadlines.set(piece, by),
        }
        self.refill_all(io);
    }

    fn add_trackers(&mut self, io: &mut Io<'_>, urls: &[String]) {
        // The DHT stays behind all of them.
        let trackers = self.announcer.status().filter(|s| s.dht.is_none());
        let last = trackers.map(|s| s.tier + 1).max().unwrap_or(0);
        for (tier, url) in (last..).zip(urls) {
            // More than the announcer can hold are of no use to anybody.
            if self.announcer.add(&mut cx!(io), tier, url).is_err() {
                break;
            }
        }
        self.trackers_changed(io);
    }

    fn set_tracker_enabled(&mut self, io: &mut Io<'_>, tracker: TrackerId, enabled: bool) {
        self.announcer.set_enabled(&mut cx!(io), tracker, enabled);
        if !self.announcer.is_dht_enabled() {
            // A search under way is of no use any more.
            self.want(io, Wants::DHT_END);
        }
        self.change(io, Changes::TRACKERS);
        self.trackers_changed(io);
    }

    fn trackers_changed(&mut self, io: &mut Io<'_>) {
        self.unsaved = true;
        self.want(io, Wants::TRACKERS | Wants::PROCEED);
        self.save_early(io);
    }

    /// Limits changed, and a stop may have been lifted: pieces and blocks are asked for again.
    fn limits_changed(&mut self, io: &mut Io<'_>) {
        for id in self.members.ids() {
            if let Some(member) = self.members.get_mut(id) {
                member.stream.limits_changed();
            }
            self.refill(io, id);
            self.pump_uploads(io, id);
            self.refresh(io, id);
        }
    }
}

impl Engine {
    /// Puts a torrent to rest: peers are let go, trackers hear `stopped`.
    pub fn pause(&mut self, now: Instant, id: TorrentId) -> bool {
        self.with(now, id, Torrent::pause)
    }

    /// Wakes a torrent, also out of [`State::Failed`](super::State::Failed).
    pub fn resume(&mut self, now: Instant, id: TorrentId) -> bool {
        self.with(now, id, Torrent::wake)
    }

    /// Hashes everything that is on disk anew.
    pub fn recheck(&mut self, now: Instant, id: TorrentId) -> bool {
        self.with(now, id, Torrent::recheck)
    }

    /// Says how much each file is wanted; a list that is too short leaves the rest normal.
    /// Returns, like all commands, whether the torrent exists.
    pub fn set_priorities(
        &mut self,
        now: Instant,
        id: TorrentId,
        priorities: &[FilePriority],
    ) -> bool {
        self.with(now, id, |t, io| t.set_priorities(io, priorities))
    }

    /// Pieces in order, or rarest first.
    pub fn set_sequential(&mut self, now: Instant, id: TorrentId, on: bool) -> bool {
        self.with(now, id, |t, _| t.set_sequential(on))
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
        self.with(now, id, |t, io| t.set_deadline(io, piece, by))
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
        let found = match scope {
            Scope::Global => {
                let root = BucketId::ROOT;
                self.throttle
                    .set_rate(self.now, root, Direction::Down, down);
                self.throttle.set_rate(self.now, root, Direction::Up, up);
                self.throttle_ready();
                let (torrents, mut io) = self.parts();
                for t in torrents.values_mut() {
                    t.limits_changed(&mut io);
                }
                true
            }
            Scope::Torrent(id) => self.limit_torrent(id, down, up),
        };
        self.settle();
        found
    }

    pub(super) fn limit_torrent(
        &mut self,
        id: TorrentId,
        down: Option<u64>,
        up: Option<u64>,
    ) -> bool {
        let Some(bucket) = self.torrents.get(&id).map(|t| t.bucket) else {
            return false;
        };
        self.throttle
            .set_rate(self.now, bucket, Direction::Down, down);
        self.throttle.set_rate(self.now, bucket, Direction::Up, up);
        self.throttle_ready();
        if let Some((t, mut io)) = self.at(id) {
            t.limits_changed(&mut io);
        }
        true
    }

    /// Tells of peers.
    pub fn add_peers(&mut self, now: Instant, id: TorrentId, peers: &[SocketAddr]) -> bool {
        let peers = peers.iter().copied();
        self.with(now, id, |t, io| t.learn(io, peers, PeerSource::Manual))
    }

    /// Adds trackers, one tier each.
    pub fn add_trackers(&mut self, now: Instant, id: TorrentId, urls: &[String]) -> bool {
        self.with(now, id, |t, io| t.add_trackers(io, urls))
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
        self.with(now, id, |t, io| t.set_tracker_enabled(io, tracker, enabled))
    }

    /// Asks the trackers for peers now, as far as their minimum interval allows.
    pub fn reannounce(&mut self, now: Instant, id: TorrentId) -> bool {
        self.with(now, id, |t, io| {
            t.announcer.reannounce(&mut cx!(io), false);
            t.want(io, Wants::TRACKERS);
        })
    }

    /// Asks the trackers how large the swarm is (BEP 48), as far as they allow.
    pub fn scrape(&mut self, now: Instant, id: TorrentId) -> bool {
        self.with(now, id, |t, io| {
            t.announcer.scrape(&mut cx!(io));
            t.want(io, Wants::TRACKERS);
        })
    }

    /// Saves the resume record of every torrent that changed, and the DHT's table.
    pub fn save_all(&mut self, now: Instant) {
        self.tick(now);
        self.dht_save();
        let (torrents, mut io) = self.parts();
        for t in torrents.values_mut() {
            t.save(&mut io);
        }
        self.settle();
    }
}
