//! The metadata of a magnet: fetched from peers in 16 KiB pieces, and served to them (BEP 9).

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::Engine;
use super::conns::{Conn, MetadataAsked};
use super::event::{Changes, Level, What};
use super::fetch::{Accepted, Claim};
use super::torrent::Phase;
use crate::metainfo::{Error, Info, Problem};
use crate::peer::Peer;
use crate::sync::Arc;
use crate::{BLOCK_LEN, ConnId, Instant, TorrentId};

/// How long a peer may take for a piece before it is asked for another.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a peer that refused, or sent what contradicts its own claim, is left alone.
const PAUSE: Duration = Duration::from_secs(60);
/// Most peers asked for the same piece.
const MAX_ASKED: u32 = 3;

impl Engine {
    /// Asks every able peer for a piece of the metadata that nobody is asked for, and if there
    /// is none left, for one that few others are asked for. O(peers + pieces).
    pub(super) fn request_metadata(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !matches!(t.phase, Phase::Metadata) || t.paused {
            return;
        }
        let conns = t.conns.iter().filter_map(|i| self.conns.at(*i));
        let claims: Vec<Claim> = conns.filter_map(|c| claim(c, self.now)).collect();
        for lost in t.fetch.schedule(self.now, &claims) {
            for claim in claims.iter().filter(|c| lost.serves(c.conn, c.size)) {
                if let Some(conn) = self.conns.get_mut(claim.conn) {
                    conn.metadata_turns += 1;
                }
            }
        }
        // How many are asked for a piece of an attempt.
        let mut asked: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        let mut idle = Vec::new();
        for claim in &claims {
            let out = self.conns.get(claim.conn).and_then(|c| c.metadata_asked);
            match out.filter(|out| out.at + PATIENCE > self.now) {
                Some(out) => {
                    if let Some((attempt, _)) = t.fetch.attempt(claim.conn, out.size) {
                        *asked.entry((attempt, out.piece)).or_default() += 1;
                    }
                }
                None => idle.push(*claim),
            }
        }
        // No piece before this one is free: each attempt is gone through once.
        let mut free_from: BTreeMap<usize, u32> = BTreeMap::new();
        for Claim { conn: id, size, .. } in idle {
            let Some((place, attempt)) = t.fetch.attempt(id, size) else {
                continue;
            };
            let times = |n: &u32| asked.get(&(place, *n)).copied().unwrap_or(0);
            let from = free_from.entry(place).or_default();
            let free = attempt.missing_from(*from).find(|n| times(n) == 0);
            *from = free.unwrap_or(u32::MAX);
            let next = free.or_else(|| {
                let all = attempt.missing_from(0);
                all.min_by_key(times).filter(|n| times(n) < MAX_ASKED)
            });
            let (Some(piece), Some(conn)) = (next, self.conns.get_mut(id)) else {
                continue;
            };
            *asked.entry((place, piece)).or_default() += 1;
            conn.metadata_asked = Some(MetadataAsked {
                piece,
                size,
                at: self.now,
            });
            if let Some(peer) = &mut conn.peer {
                peer.metadata_request(piece);
            }
            self.conns.refresh(id);
        }
    }

    /// A piece of the metadata came. It was asked for, but perhaps long ago.
    pub(super) fn on_metadata(&mut self, id: ConnId, index: u32, data: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let asked = conn.metadata_asked.filter(|asked| asked.piece == index);
        if asked.is_some() {
            conn.metadata_asked = None;
            conn.useful = self.now;
        }
        let from = conn.listen.unwrap_or(conn.remote);
        let claimed = conn.peer.as_ref().and_then(Peer::metadata_size);
        let (Some(torrent), Some(size)) = (conn.torrent, asked.map(|a| a.size).or(claimed)) else {
            return;
        };
        let Some(t) = self.torrents.get_mut(&torrent) else {
            return;
        };
        if !matches!(t.phase, Phase::Metadata) {
            return;
        }
        let most = self.peer_config.max_metadata as usize;
        match t.fetch.accept((id, size), (index, data), from, most) {
            // Only the answer to what it was asked last contradicts what it claimed.
            Accepted::Wrong if asked.is_some() => conn.metadata_pause = Some(self.now + PAUSE),
            Accepted::Wrong | Accepted::Taken => {}
            Accepted::Whole(raw, sender) => self.judge_metadata(torrent, raw, sender),
        }
        self.request_metadata(torrent);
    }

    /// A whole is there; `sender` names the only peer it came from.
    fn judge_metadata(&mut self, id: TorrentId, raw: Vec<u8>, sender: Option<SocketAddr>) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        match Info::from_metadata(raw, t.info_hash) {
            Ok(info) => {
                self.out.notice(Some(id), None, Level::Info, What::Metadata);
                self.change(id, Changes::METADATA);
                self.open_files(id, Arc::new(info));
            }
            Err(Error {
                problem: Problem::WrongHash(_),
                ..
            }) => match sender {
                Some(sender) => self.ban(id, sender),
                None => t.fetch.part(),
            },
            // The hash is right and the content is not usable: nobody has a better one.
            Err(error) => {
                let detail = alloc::format!("the metadata of this magnet is not usable: {error}");
                self.disk_failed(
                    id,
                    crate::OpError {
                        kind: crate::OpErrorKind::Unsupported,
                        detail,
                    },
                );
            }
        }
    }

    /// A peer does not have a piece of the metadata, or not now.
    pub(super) fn on_no_metadata(&mut self, id: ConnId, piece: u32) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        if conn
            .metadata_asked
            .is_some_and(|asked| asked.piece == piece)
        {
            conn.metadata_asked = None;
        }
        conn.metadata_pause = Some(self.now + PAUSE);
        if let Some(torrent) = conn.torrent {
            self.request_metadata(torrent);
        }
    }

    /// A peer asks for a piece of the metadata.
    pub(super) fn serve_metadata(&mut self, id: ConnId, index: u32) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(t), Some(peer)) = (
            conn.torrent.and_then(|t| self.torrents.get(&t)),
            &mut conn.peer,
        ) else {
            return;
        };
        let piece = t.info.as_ref().and_then(|info| {
            let raw = info.raw();
            let from = (index as usize)
                .checked_mul(BLOCK_LEN)
                .filter(|from| *from < raw.len())?;
            Some((
                raw.len() as u32,
                &raw[from..(from + BLOCK_LEN).min(raw.len())],
            ))
        });
        match piece {
            Some((total, data)) => peer.metadata_data(index, total, data),
            None => peer.metadata_reject(index),
        }
    }
}

/// What a connection would send, if it may be asked.
fn claim(conn: &Conn, now: Instant) -> Option<Claim> {
    if conn.metadata_pause.is_some_and(|until| until > now) {
        return None;
    }
    let size = conn.peer.as_ref()?.metadata_size()?;
    (size > 0).then_some(Claim {
        conn: conn.id,
        size,
        turns: conn.metadata_turns,
    })
}
