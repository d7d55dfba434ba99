//! Read access for applications. It changes nothing, and is not on a hot path.

use alloc::{string::String, vec::Vec};

use super::dht::DhtRef;
use super::{Engine, FilePriority};
use crate::metainfo::{FileKind, Info};
use crate::peer::crypto::StreamEncryption;
use crate::sync::Arc;
use crate::torrent::conn::Conn;
use crate::torrent::picker::Picker;
use crate::torrent::status::{EngineStatus, FileStatus, PeerStatus, TorrentStatus};
use crate::torrent::{Torrent, bytes_in};
use crate::tracker::TrackerStatus;
use crate::{Bitfield, InfoHash, Instant, TorrentId};

/// Read access to a torrent.
#[derive(Clone, Copy)]
pub struct TorrentRef<'a> {
    torrent: &'a Torrent,
    engine: &'a Engine,
}

impl core::fmt::Debug for TorrentRef<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("TorrentRef")
            .field("id", &self.torrent.id)
            .field("info_hash", &self.torrent.info_hash)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// The ids of the torrents, oldest first.
    pub fn torrents(&self) -> impl Iterator<Item = TorrentId> + '_ {
        self.torrents.ids()
    }

    /// Finds a torrent by its info-hash.
    #[must_use]
    pub fn find(&self, info_hash: InfoHash) -> Option<TorrentId> {
        self.torrents.find(&info_hash)
    }

    /// Returns read access to a torrent.
    #[must_use]
    pub fn torrent(&self, id: TorrentId) -> Option<TorrentRef<'_>> {
        let torrent = self.torrents.get(&id)?;
        Some(TorrentRef {
            torrent,
            engine: self,
        })
    }

    /// Returns read access to the DHT. `None` if there is no DHT.
    #[must_use]
    pub fn dht(&self) -> Option<DhtRef<'_>> {
        self.dht.as_deref().map(DhtRef::new)
    }

    /// Returns a snapshot of the engine.
    #[must_use]
    pub fn status(&self, now: Instant) -> EngineStatus {
        let now = self.now.max(now);
        let sum = |f: &dyn Fn(&Torrent) -> u64| self.torrents.values().map(f).sum();
        EngineStatus {
            torrents: self.torrents.len() as u32,
            connections: self.conns.len() as u32,
            half_open: self.conns.half_open(),
            blocks_lent: self.pool.lent() as u32,
            jobs: self.out.ops.emitted() as u32,
            rate_down: sum(&|t| t.traffic.down.get(now)),
            rate_up: sum(&|t| t.traffic.up.get(now)),
            listening: self.endpoints.listening.values().copied().collect(),
            external: self.endpoints.external,
            stray_datagrams: self.out.stray_datagrams,
            stray_outcomes: self.out.stray_outcomes,
            hostile_peers: self.out.hostile_peers,
            forgiven: self.out.forgiven,
            refused_addresses: self.out.refused_addresses,
            notices_lost: self.out.lost,
        }
    }
}

impl<'a> TorrentRef<'a> {
    /// Its info-hash.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.torrent.info_hash
    }

    /// Its info dictionary, once known.
    #[must_use]
    pub const fn info(&self) -> Option<&'a Arc<Info>> {
        self.torrent.content.info()
    }

    /// Its verified pieces, once its files were checked.
    #[must_use]
    pub fn have(&self) -> Option<&'a Bitfield> {
        self.torrent.content.picker().map(Picker::have)
    }

    /// Returns a snapshot of its state and progress.
    #[must_use]
    pub fn status(&self, now: Instant) -> TorrentStatus {
        let now = self.engine.now.max(now);
        let t = self.torrent;
        let seeds = t.members.iter().filter(|m| m.stream.peer.is_seed()).count();
        let info = t.content.info();
        let total = info.map_or(0, |i| i.total_len());
        let (done, pieces_done, wanted, left) = match t.content.open() {
            Some((info, open)) => {
                let have = open.picker.have();
                let left = t.wanted_left(info, &open.picker);
                (bytes_in(info, have), have.count(), open.wanted_bytes, left)
            }
            None => (0, 0, total, total),
        };
        let swarm = |f: fn(&TrackerStatus<'_>) -> Option<u32>| {
            t.sources.announcer.status().filter_map(|s| f(&s)).max()
        };
        TorrentStatus {
            id: t.id,
            info_hash: t.info_hash,
            name: t.name(),
            state: t.state(),
            has_metadata: info.is_some(),
            total,
            wanted,
            done,
            wanted_done: wanted.saturating_sub(left),
            pieces: info.map_or(0, |i| i.piece_count()),
            pieces_done,
            downloaded: t.traffic.downloaded,
            uploaded: t.traffic.uploaded,
            downloaded_ever: t.traffic.downloaded_before + t.traffic.downloaded,
            uploaded_ever: t.traffic.uploaded_before + t.traffic.uploaded,
            wasted: t.traffic.wasted,
            rate_down: t.traffic.down.get(now),
            rate_up: t.traffic.up.get(now),
            peers: t.members.established() as u32,
            seeds: seeds as u32,
            connecting: t.members.unfinished_len() as u32,
            known: t.peer_list.len() as u32,
            swarm_seeds: swarm(|s| s.seeds),
            swarm_leeches: swarm(|s| s.leeches),
            availability: t.content.picker().map_or(0, |p| p.distributed_copies().0),
        }
    }

    /// Its connections.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let now = self.engine.now.max(now);
        let (t, conns) = (self.torrent, &self.engine.conns);
        let established = t.members.iter().map(|m| {
            let p = &m.stream.peer;
            PeerStatus {
                addr: m.addr(),
                client: m.client(),
                source: m.source,
                incoming: m.incoming,
                encryption: p.encryption(),
                established: true,
                am_choking: p.am_choking(),
                am_interested: p.am_interested(),
                peer_choking: p.peer_choking(),
                peer_interested: p.peer_interested(),
                snubbed: p.is_snubbed(),
                pieces: p.has().count(),
                rate_down: p.rate_down(now),
                rate_up: p.rate_up(now),
                downloaded: p.totals().payload_down,
                uploaded: p.totals().payload_up,
                requests: p.in_flight_len() as u32,
            }
        });
        let unfinished = t.members.unfinished().filter_map(|id| {
            let conn = conns.get(id)?;
            Some(PeerStatus {
                addr: conns.remote(id)?,
                client: String::new(),
                source: conn.source()?,
                incoming: matches!(conn, Conn::Greeting(g) if g.is_incoming()),
                encryption: StreamEncryption::default(),
                established: false,
                am_choking: true,
                am_interested: false,
                peer_choking: true,
                peer_interested: false,
                snubbed: false,
                pieces: 0,
                rate_down: 0,
                rate_up: 0,
                downloaded: 0,
                uploaded: 0,
                requests: 0,
            })
        });
        established.chain(unfinished).collect()
    }

    /// Its files. Empty until the metadata is known.
    #[must_use]
    pub fn files(&self) -> Vec<FileStatus> {
        let t = self.torrent;
        let Some(info) = t.content.info() else {
            return Vec::new();
        };
        let have = t.content.picker().map(Picker::have);
        let status = info.files().iter().enumerate().map(|(i, file)| {
            let overlap = |piece: u32| {
                let start = info.piece_offset(piece).max(file.offset);
                let end = info.piece_offset(piece) + u64::from(info.piece_size(piece));
                end.min(file.offset + file.len).saturating_sub(start)
            };
            let verified = |piece: &u32| have.is_some_and(|h| h.get(*piece));
            FileStatus {
                len: file.len,
                done: info.pieces_of(i).filter(verified).map(overlap).sum(),
                priority: match file.kind {
                    FileKind::Regular => t.wanted.priorities.get(i).copied().unwrap_or_default(),
                    _ => FilePriority::Skip,
                },
            }
        });
        status.collect()
    }

    /// Its trackers.
    #[must_use]
    pub fn trackers(&self) -> Vec<TrackerStatus<'a>> {
        let t = self.torrent;
        let told = t.sources.announcer.status().map(|mut status| {
            if let Some(progress) = &mut status.dht {
                let server = self.engine.dht.as_deref();
                let running = server.and_then(|server| server.progress(&t.sources));
                *progress = running.unwrap_or_else(|| t.sources.search.last());
            }
            status
        });
        told.collect()
    }
}
