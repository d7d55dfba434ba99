//! The torrents of an engine, by id and by info-hash, and what is done for all of them or for each in turn.

mod adding;
mod places;
mod sweep;
mod table;

use alloc::collections::{BTreeMap, VecDeque};

pub(super) use self::sweep::Why;

use self::sweep::Sweep;
use self::table::Table;
use crate::peer::crypto::req2;
use crate::torrent::Torrent;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::lifecycle::abandon;
use crate::torrent::outbox::event::{Level, What};
use crate::torrent::outbox::timers::Timer;
use crate::{InfoHash, Machine, Outcome, TorrentId};

/// All torrents.
#[derive(Debug, Default)]
pub(super) struct Torrents {
    all: Table<Torrent>,
    /// The number of torrents that were added so far.
    count: u32,
    by_hash: BTreeMap<InfoHash, TorrentId>,
    /// The torrents by the hash that names them in an encrypted handshake (MSE).
    by_req2: BTreeMap<[u8; 20], InfoHash>,
    /// The torrents with addresses to connect to. They take turns.
    diallers: VecDeque<TorrentId>,
    sweep: Sweep,
}

impl Torrents {
    /// The id of the next torrent.
    pub(super) const fn next_id(&mut self) -> TorrentId {
        self.count += 1;
        TorrentId(self.count)
    }

    pub(super) fn insert(&mut self, torrent: Torrent) {
        for hash in torrent.swarm_id().names() {
            self.by_hash.insert(hash, torrent.id);
            self.by_req2.insert(req2(&hash), hash);
        }
        self.all.insert(torrent.id, torrent);
    }

    fn remove(&mut self, id: TorrentId) -> Option<Torrent> {
        let torrent = self.all.remove(id)?;
        self.diallers.retain(|dialler| *dialler != id);
        for hash in torrent.swarm_id().names() {
            self.by_hash.remove(&hash);
            self.by_req2.remove(&req2(&hash));
        }
        Some(torrent)
    }

    pub(super) fn get(&self, id: &TorrentId) -> Option<&Torrent> {
        self.all.get(*id)
    }

    pub(super) fn get_mut(&mut self, id: &TorrentId) -> Option<&mut Torrent> {
        self.all.get_mut(*id)
    }

    /// The torrent with an info-hash.
    pub(super) fn find(&self, info_hash: &InfoHash) -> Option<TorrentId> {
        self.by_hash.get(info_hash).copied()
    }

    /// The torrent that an encrypted handshake names.
    pub(super) fn find_req2(&self, req2: &[u8; 20]) -> Option<InfoHash> {
        self.by_req2.get(req2).copied()
    }

    /// The ids of all torrents, oldest first.
    pub(super) fn ids(&self) -> impl Iterator<Item = TorrentId> {
        self.all.ids_after(None)
    }

    /// The ids of the torrents that were added after `id`.
    fn ids_after(&self, id: Option<TorrentId>) -> impl Iterator<Item = TorrentId> {
        self.all.ids_after(id)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Torrent> {
        self.all.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Torrent> {
        self.all.values_mut()
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Torrents {
    /// Handles the results of UDP tracker transactions, and sets their timer.
    pub(super) fn hear_trackers(&mut self, io: &mut Io<'_>) {
        while let Some((id, key, answer)) = io.trackers.poll_answer() {
            if let Some(t) = self.get_mut(&id) {
                let announcer = &mut t.sources.announcer;
                announcer.handle_answer(&mut cx!(io), key, answer);
                t.pump_trackers(io);
            }
        }
        io.out
            .timers
            .set(Timer::Udp, io.trackers.udp.poll_timeout());
    }

    /// Continues checks, one torrent at a time, as hard disks are slow at reading several files at once.
    pub(super) fn next_check(&mut self, io: &mut Io<'_>) {
        while let Some(id) = io.out.checks.front().copied() {
            if self.get_mut(&id).is_some_and(|t| t.check_on(io)) {
                return;
            }
            io.out.checks.pop_front();
        }
    }

    /// The files of a torrent that stops were released: removes it.
    pub(super) fn released(&mut self, io: &mut Io<'_>, id: TorrentId, outcome: &Outcome) {
        if let Outcome::Failed { error, .. } = outcome {
            let message = error.detail.clone();
            io.out
                .notice(Some(id), None, Level::Warning, What::Disk { message });
        }
        io.forget_queries(id);
        self.hear_trackers(io);
        if let Some(mut t) = self.remove(id) {
            if let Some((_, open)) = t.content.open_mut() {
                abandon(core::mem::take(&mut open.assemblies), io.pool);
            }
            io.throttle.remove(io.now, t.bucket);
            io.out.removed.push_back(id);
        }
    }

    /// Closes every connection of every torrent.
    pub(super) fn close_all(&mut self, io: &mut Io<'_>, why: &'static str) {
        for t in self.values_mut() {
            t.close_all(io, why);
        }
    }

    /// Begins to stop all torrents.
    pub(super) fn begin_stop(&mut self, io: &mut Io<'_>) {
        for t in self.values_mut() {
            t.begin_stop(io, false);
        }
    }

    /// Stops waiting for trackers whose time is over.
    pub(super) fn stop_overdue(&mut self, io: &mut Io<'_>) {
        for t in self.values_mut() {
            t.stop_overdue(io);
        }
    }
}
