//! What happens every so often: choking, peer exchange, chores.

use alloc::{collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::conns::{Conn, key};
use super::peers::End;
use super::swarm::Origin;
use super::timers::Timer;
use super::torrent::{Phase, Torrent};
use super::{Engine, cx};
use crate::peer::crypto::StreamEncryption;
use crate::torrent::choker::Candidate;
use crate::torrent::pace::Pace;
use crate::wire::extension::PexFlags;
use crate::{ConnId, TorrentId};

/// Time between choking rounds (BEP 3: every ten seconds).
const ROUND: Duration = Duration::from_secs(10);
/// The first round comes early, so that the first peers are served soon.
pub(super) const FIRST_ROUND: Duration = Duration::from_millis(500);
/// Free upload slots are given away this long after the first peer wants one: those who become
/// interested in the same piece at the same time have the same chance, where otherwise the nearest
/// would always be the first and be served by everyone.
const GATHER: Duration = Duration::from_millis(50);
/// Time between messages of peer exchange (BEP 11: at most one a minute).
pub(super) const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// Peers that tell more often than this are not listened to.
const PEX_HEARD: Duration = Duration::from_secs(45);
/// Most peers in one message (BEP 11).
const PEX_MOST: usize = 50;
/// A peer neither side gains from makes way after this, if places are short.
const USELESS: Duration = Duration::from_secs(300);
/// The same while the metadata is missing: a peer that has it answers within seconds, and peers
/// that all lack it must not keep each other from those that have it.
const USELESS_FOR_METADATA: Duration = Duration::from_secs(60);
/// A connection that is given up for another torrent's sake was there for so long, and, if that
/// torrent has others, of no use for so long: six choking rounds.
const SETTLED: Duration = Duration::from_secs(60);
/// Connections in use that a torrent keeps in any case: enough for all upload slots of a slow
/// line and for a choice of pieces.
const KEPT: usize = 8;
/// Torrents looked at for one that waits for a place.
const MAX_ASKED: usize = 16;

impl Engine {
    /// The ten-second chores of a torrent.
    pub(super) fn round(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        match t.phase {
            Phase::Failed(_) => {
                self.retry(id);
                return;
            }
            Phase::Metadata => {
                self.request_metadata(id);
                self.make_places(id);
            }
            Phase::Ready => {
                self.choke_round(id);
                self.flush_idle_pieces(id);
                self.refill_all(id);
                self.make_places(id);
                self.share_places(id);
            }
            _ => {}
        }
        if self.torrents.get(&id).is_some_and(|t| !t.conns.is_empty()) {
            self.out
                .timers
                .set(Timer::Round(id), Some(self.now + ROUND));
        }
        let poor = self
            .torrents
            .get(&id)
            .is_some_and(|t| !t.is_done() && t.conns.is_empty() && t.swarm.next_due().is_none());
        if poor {
            self.ask_for_peers(id);
        }
    }

    /// Tells the trackers of a torrent that more peers would be welcome.
    pub(super) fn ask_for_peers(&mut self, id: TorrentId) {
        if let Some(t) = self.torrents.get_mut(&id) {
            t.announcer.need_peers(&mut cx!(self));
        }
        self.pump_trackers(id);
    }

    /// Blocks that have waited for a whole round are written, however short the run.
    fn flush_idle_pieces(&mut self, id: TorrentId) {
        let waiting = self.torrents.get(&id).is_some_and(|t| {
            t.assemblies
                .values()
                .any(|a| a.has_waiting() && !a.is_busy())
        });
        if waiting {
            self.flush_pieces(id);
        }
    }

    // ---- choking ----

    fn choke_round(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let piece = t.info.as_ref().map_or(0, |i| u64::from(i.piece_len()));
        let pace = t.pace(&self.throttle);
        let mut candidates = Vec::with_capacity(t.conns.len());
        for &index in &t.conns {
            let Some(conn) = self.conns.at(index) else {
                continue;
            };
            let (Some(since), Some(peer)) = (conn.established, &conn.peer) else {
                continue;
            };
            let totals = peer.totals();
            candidates.push(Candidate {
                key: key(conn.id),
                interested: peer.peer_interested(),
                snubbed: peer.is_snubbed(),
                down_rate: peer.rate_down(self.now),
                given: totals.payload_down,
                up_rate: peer.rate_up(self.now),
                unchoked: !peer.am_choking(),
                since: conn.choke_changed.unwrap_or(since),
                connected: since,
                sent: totals.payload_up.saturating_sub(conn.sent_before),
                empty: peer.has().count() == 0 && totals.payload_up < piece,
            });
        }
        let seeding = t.is_done();
        let mut changes = Vec::new();
        t.choker.set_pace(pace);
        t.choker
            .round(&mut cx!(self), seeding, &candidates, &mut changes);
        for (index, unchoke) in changes {
            if let Some(conn) = self.conns.by_key(index).map(|c| c.id) {
                self.set_choke(conn, !unchoke);
            }
        }
    }

    /// A peer became interested: it need not wait for the round if a slot is free.
    pub(super) fn unchoke_early(&mut self, id: TorrentId, conn: ConnId) {
        let peer = self.conns.get(conn).and_then(|c| c.peer.as_ref());
        let wants = peer.is_some_and(|p| p.peer_interested() && p.am_choking());
        if wants && self.has_free_slots(id) {
            let soon = self.now + GATHER;
            self.out.timers.at_latest(Timer::Unchoke(id), soon);
        }
    }

    fn has_free_slots(&self, id: TorrentId) -> bool {
        let vacant = |t: &Torrent| t.is_exchanging() && t.choker.has_vacancy();
        self.torrents.get(&id).is_some_and(vacant)
    }

    /// Those who wanted a free slot at about the same time are all known now.
    pub(super) fn fill_slots(&mut self, id: TorrentId) {
        if self.has_free_slots(id) {
            self.choke_round(id);
        }
    }

    /// A peer was sent `sent` more bytes. If a turn ended with them, another may have its slot.
    pub(super) fn end_turn(&mut self, id: ConnId, sent: u64) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (Some(torrent), Some(peer)) = (conn.torrent, &conn.peer) else {
            return;
        };
        let Some(t) = self.torrents.get(&torrent).filter(|t| t.is_exchanging()) else {
            return;
        };
        let Some(turn) = t.pace(&self.throttle).map(Pace::turn) else {
            return;
        };
        let all = peer.totals().payload_up.saturating_sub(conn.sent_before);
        if !peer.am_choking() && all / turn > all.saturating_sub(sent) / turn {
            self.choke_round(torrent);
        }
    }

    fn set_choke(&mut self, id: ConnId, choke: bool) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(peer) = conn.peer.as_mut().filter(|_| conn.established.is_some()) else {
            return;
        };
        if peer.am_choking() == choke {
            return;
        }
        if choke {
            peer.choke(&mut self.pool);
            for at in core::mem::take(&mut conn.uploads) {
                peer.reject(at);
            }
        } else {
            peer.unchoke();
            conn.sent_before = peer.totals().payload_up;
        }
        conn.choke_changed = Some(self.now);
        self.conns.refresh(id);
    }

    /// Where places are short, peers that neither side gains from make way.
    fn make_places(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        let short = t.is_full(&self.config) || self.conns.len() >= self.max_conns();
        if !short || t.swarm.next_due().is_none_or(|due| due > self.now) {
            return;
        }
        let (patience, end) = match t.phase {
            // It may have the metadata later.
            Phase::Metadata => (USELESS_FOR_METADATA, End::Resting("it has no metadata yet")),
            _ => (USELESS, End::Finished("neither side gained from it")),
        };
        let oldest = t
            .conns
            .iter()
            .filter_map(|i| self.conns.at(*i))
            .filter(|c| c.established.is_some() && c.useful + patience < self.now)
            .min_by_key(|c| c.useful)
            .map(|c| c.id);
        if let Some(conn) = oldest {
            self.close_conn(conn, end);
        }
    }

    /// Gives a connection up if all places are taken and another torrent, which has fewer,
    /// waits for one: the one that was of use least recently, and one that is of use only to a
    /// torrent that has none at all.
    fn share_places(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        if self.conns.len() < self.max_conns() {
            return;
        }
        let others = self.diallers.iter().filter(|other| **other != id);
        let mut waiting = others.take(MAX_ASKED).filter_map(|other| {
            let other = self.torrents.get(other)?;
            let due = other.swarm.next_due()?;
            (other.is_running() && due <= self.now).then_some(other.conns.len())
        });
        let Some(theirs) = waiting.find(|theirs| theirs + 1 < t.conns.len()) else {
            return;
        };
        let urgent = theirs == 0 && t.conns.len() > KEPT;
        let settled = |c: &&Conn| c.established.is_some_and(|at| at + SETTLED < self.now);
        let conns = t.conns.iter().filter_map(|i| self.conns.at(*i));
        let least = conns.filter(settled).min_by_key(|c| c.useful);
        let least = least.filter(|c| urgent || c.useful + SETTLED < self.now);
        if let Some(conn) = least.map(|c| c.id) {
            if let Some(at) = self.diallers.iter().position(|other| *other == id) {
                self.diallers.remove(at);
                self.diallers.push_back(id);
            }
            self.close_conn(conn, End::Resting("another torrent needs the place"));
        }
    }

    // ---- peer exchange (BEP 11) ----

    pub(super) fn pex_round(&mut self, id: TorrentId) {
        let Some(t) = self.torrents.get(&id) else {
            return;
        };
        if t.is_private() || t.conns.is_empty() {
            return;
        }
        // Also where nobody is told yet: the peers of a magnet stay while its files are checked,
        // and nothing else sets the timer until the next one connects.
        self.out
            .timers
            .set(Timer::Pex(id), Some(self.now + PEX_INTERVAL));
        if !t.is_running() {
            return;
        }
        let mut now_here: Vec<(SocketAddr, PexFlags)> = Vec::new();
        for conn in t.conns.iter().filter_map(|i| self.conns.at(*i)) {
            let (Some(addr), Some(peer), Some(_)) = (conn.listen, &conn.peer, conn.established)
            else {
                continue;
            };
            let seed = peer.is_seed() || peer.extended().is_some_and(|e| e.upload_only);
            let encrypted = peer.encryption() != StreamEncryption::None;
            let told = [
                (encrypted, PexFlags::ENCRYPTION),
                (seed, PexFlags::SEED),
                (!conn.incoming, PexFlags::REACHABLE),
            ];
            let flags = told
                .iter()
                .filter(|(on, _)| *on)
                .fold(PexFlags::default(), |all, (_, f)| all.with(*f));
            now_here.push((addr, flags));
        }
        let here: BTreeSet<SocketAddr> = now_here.iter().map(|(addr, _)| *addr).collect();
        for index in t.conns.clone() {
            let Some(conn) = self.conns.at_mut(index) else {
                continue;
            };
            let conn_id = conn.id;
            let own = conn.listen;
            let Some(peer) = conn.peer.as_mut().filter(|p| p.is_open()) else {
                continue;
            };
            let added: Vec<(SocketAddr, PexFlags)> = now_here
                .iter()
                .filter(|(addr, _)| Some(*addr) != own && !conn.pex_told.contains(addr))
                .take(PEX_MOST)
                .copied()
                .collect();
            let dropped: Vec<SocketAddr> = conn
                .pex_told
                .difference(&here)
                .take(PEX_MOST)
                .copied()
                .collect();
            if added.is_empty() && dropped.is_empty() {
                continue;
            }
            if !peer.pex(&added, &dropped) {
                continue;
            }
            conn.pex_told.extend(added.iter().map(|(addr, _)| *addr));
            for addr in &dropped {
                conn.pex_told.remove(addr);
            }
            self.conns.refresh(conn_id);
        }
    }

    pub(super) fn on_pex(&mut self, id: ConnId, added: impl Iterator<Item = SocketAddr>) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let Some(torrent) = conn.torrent else {
            return;
        };
        let allowed =
            self.config.pex && !self.torrents.get(&torrent).is_some_and(Torrent::is_private);
        if !allowed || conn.pex_heard.is_some_and(|at| at + PEX_HEARD > self.now) {
            return;
        }
        conn.pex_heard = Some(self.now);
        let teller = conn.remote.ip();
        self.learn(torrent, added, Origin::pex(teller));
    }
}
