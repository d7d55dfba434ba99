//! The metadata of a magnet: fetched from peers in 16 KiB pieces, and served to them (BEP 9).

use alloc::{vec, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::Engine;
use super::conns::Conn;
use super::event::{Changes, Level, What};
use super::torrent::Phase;
use crate::metainfo::{Error, Info, Problem};
use crate::sync::Arc;
use crate::{BLOCK_LEN, ConnId, Instant, TorrentId};

/// How long a peer may take for a piece before others are asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was fetched so far.
#[derive(Debug, Default)]
pub(super) struct Fetch {
    size: u32,
    pieces: Vec<Option<Vec<u8>>>,
    /// Who sent each piece: one sender of all is guilty if the hash is wrong.
    senders: Vec<Option<SocketAddr>>,
    /// When it began, or a piece came last.
    progress: Option<Instant>,
    /// The size that led nowhere last; others go before it.
    given_up: u32,
    /// Several senders made a wrong whole: from here on, one is asked for all of it.
    alone: bool,
    /// That one, and the one before.
    only: Option<ConnId>,
    passed: Option<ConnId>,
}

impl Fetch {
    fn begin(&mut self, now: Instant, size: u32) {
        let pieces = (size as usize).div_ceil(BLOCK_LEN);
        self.size = size;
        self.progress = Some(now);
        self.pieces = vec![None; pieces];
        self.senders = vec![None; pieces];
    }

    /// Whether nobody has delivered for long: who named the size may have lied, or be gone.
    fn is_stuck(&self, now: Instant) -> bool {
        self.size > 0 && self.progress.is_none_or(|at| at + 2 * PATIENCE <= now)
    }

    /// Starts over, with another size or sender if there is one.
    fn give_up(&mut self) {
        self.given_up = self.size;
        self.take();
    }

    /// Bytes that piece `index` has to have.
    fn piece_len(&self, index: u32) -> usize {
        (self.size as usize)
            .saturating_sub(index as usize * BLOCK_LEN)
            .min(BLOCK_LEN)
    }

    /// Takes a piece; `false` if it is not one.
    fn accept(&mut self, index: u32, data: Vec<u8>, from: SocketAddr) -> bool {
        if data.is_empty() || data.len() != self.piece_len(index) {
            return false;
        }
        self.pieces[index as usize] = Some(data);
        self.senders[index as usize] = Some(from);
        true
    }

    fn is_complete(&self) -> bool {
        !self.pieces.is_empty() && self.pieces.iter().all(Option::is_some)
    }

    /// The whole, and its sender if there was only one.
    fn take(&mut self) -> (Vec<u8>, Option<SocketAddr>) {
        let whole = core::mem::take(&mut self.pieces)
            .into_iter()
            .flatten()
            .flatten()
            .collect();
        let senders = core::mem::take(&mut self.senders);
        self.size = 0;
        self.passed = self.only.take();
        let first = senders.first().copied().flatten();
        let alone = senders.iter().all(|s| *s == first);
        (whole, first.filter(|_| alone))
    }
}

impl Engine {
    /// Asks every able peer for a piece of the metadata that nobody is asked for, and if there
    /// is none left, for one that another is slow with.
    pub(super) fn request_metadata(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        if !matches!(t.phase, Phase::Metadata) || t.paused {
            return;
        }
        if t.fetch.is_stuck(self.now) {
            t.fetch.give_up();
        }
        let others = || t.conns.iter().filter_map(|i| self.conns.at(*i));
        let size_elsewhere = others().any(|c| claim(c).is_some_and(|s| s != t.fetch.given_up));
        let sender_elsewhere = others().any(|c| claim(c).is_some() && Some(c.id) != t.fetch.passed);
        for &index in &t.conns {
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let Some(size) = claim(conn) else {
                continue;
            };
            if conn
                .metadata_asked
                .is_some_and(|(_, at)| at + PATIENCE > self.now)
            {
                continue;
            }
            if t.fetch.size == 0 {
                let again = t.fetch.alone && Some(conn.id) == t.fetch.passed;
                if size_elsewhere && size == t.fetch.given_up || sender_elsewhere && again {
                    continue;
                }
                t.fetch.begin(self.now, size);
                t.fetch.only = t.fetch.alone.then_some(conn.id);
            } else if t.fetch.size != size || t.fetch.only.is_some_and(|only| only != conn.id) {
                // Somebody is wrong; whoever was first has his turn until the hash decides.
                continue;
            }
            conn.metadata_asked = None;
            let asked = |n: u32| asked_of(&self.conns, &t.conns, n, self.now);
            let missing = || {
                (0..t.fetch.pieces.len() as u32).filter(|n| t.fetch.pieces[*n as usize].is_none())
            };
            let Some(next) = missing().find(|n| !asked(*n)).or_else(|| missing().next()) else {
                return;
            };
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            conn.metadata_asked = Some((next, self.now));
            let conn_id = conn.id;
            if let Some(peer) = &mut conn.peer {
                peer.metadata_request(next);
            }
            self.conns.refresh(conn_id);
        }
    }

    pub(super) fn on_metadata(&mut self, id: ConnId, index: u32, data: Vec<u8>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        // Only what was asked for: nobody fills our memory with the rest.
        if conn.metadata_asked.take().map(|(n, _)| n) != Some(index) {
            return;
        }
        let from = conn.listen.unwrap_or(conn.remote);
        let Some(torrent) = conn.torrent else {
            return;
        };
        let Some(t) = self.torrents.get_mut(&torrent) else {
            return;
        };
        if !matches!(t.phase, Phase::Metadata) {
            return;
        }
        if !t.fetch.accept(index, data, from) {
            conn.no_metadata = true;
        } else {
            t.fetch.progress = Some(self.now);
            if t.fetch.is_complete() {
                self.judge_metadata(torrent);
            }
        }
        self.request_metadata(torrent);
    }

    fn judge_metadata(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        t.fetch.given_up = t.fetch.size;
        let (raw, sender) = t.fetch.take();
        match Info::from_metadata(raw, t.info_hash) {
            Ok(info) => {
                self.notice(Some(id), None, Level::Info, What::Metadata);
                self.change(id, Changes::METADATA);
                self.open_files(id, Arc::new(info));
            }
            Err(Error {
                problem: Problem::WrongHash(_),
                ..
            }) => {
                t.fetch.alone = true;
                if let Some(sender) = sender {
                    self.ban(id, sender);
                }
            }
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

    pub(super) fn on_no_metadata(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        conn.metadata_asked = None;
        conn.no_metadata = true;
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

/// The size of the metadata that a connection would send.
fn claim(conn: &Conn) -> Option<u32> {
    let peer = conn.peer.as_ref().filter(|_| !conn.no_metadata)?;
    peer.metadata_size().filter(|size| *size > 0)
}

/// Whether some peer has been asked for piece `n` and still has time.
fn asked_of(conns: &super::conns::Conns, of: &[u32], n: u32, now: Instant) -> bool {
    of.iter()
        .filter_map(|i| conns.at(*i)?.metadata_asked)
        .any(|(asked, at)| asked == n && at + PATIENCE > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_must_have_their_exact_size() {
        let from = "10.0.0.1:1".parse().unwrap();
        let mut fetch = Fetch::default();
        fetch.begin(Instant::ORIGIN, BLOCK_LEN as u32 + 5);
        assert!(!fetch.accept(0, vec![0; 5], from));
        assert!(!fetch.accept(2, vec![0; 5], from));
        assert!(fetch.accept(1, vec![1; 5], from));
        assert!(!fetch.is_complete());
        assert!(fetch.accept(0, vec![0; BLOCK_LEN], from));
        let (whole, sender) = fetch.take();
        assert_eq!(
            (whole.len(), whole.last(), sender),
            (BLOCK_LEN + 5, Some(&1), Some(from))
        );
    }
}
