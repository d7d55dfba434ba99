//! Peers: how connections begin, what their messages mean for a torrent, how they end.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::connect::local;
use super::conns::key;
use super::event::{Changes, Level, What};
use super::status::PeerSource;
use super::swarm::{Origin, Released, canonical};
use super::timers::Timer;
use super::torrent::Phase;
use super::torrent::Torrent;
use super::{Engine, cx};
use crate::peer::{Blame, Peer, PeerEvent, PeerFault};
use crate::throttle::Direction;
use crate::wire::peer::allowed_fast_set;
use crate::{Bitfield, CloseReason, ConnId, EncryptionPolicy, InfoHash, PeerId, TorrentId};

/// A connection that moved nothing has worked all the same if it held for so long.
const WORKED: Duration = Duration::from_secs(60);
/// Most senders remembered after they left.
const MAX_DEPARTED: usize = 64;
/// Pieces a choked peer may fetch (BEP 6 suggests 10).
const ALLOWED_FAST: usize = 5;

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The stream did.
    Stream(CloseReason),
    /// The peer broke the protocol, or took too long.
    Fault(PeerFault),
    /// We have no use for it, and say why.
    Finished(&'static str),
    /// Its torrent is at rest.
    Resting(&'static str),
    /// It sent bad data.
    Banned,
}

impl End {
    fn reason(&self) -> String {
        match self {
            Self::Stream(CloseReason::Eof) => "closed by the peer".into(),
            Self::Stream(CloseReason::Reset) => "reset by the peer".into(),
            Self::Stream(CloseReason::Refused) => "connection refused".into(),
            Self::Stream(CloseReason::TimedOut) => "no answer".into(),
            Self::Stream(CloseReason::Unreachable) => "no route".into(),
            Self::Stream(CloseReason::Io) => "I/O error".into(),
            Self::Fault(fault) => fault.to_string(),
            Self::Finished(why) | Self::Resting(why) => (*why).into(),
            Self::Banned => "banned".into(),
        }
    }
}

impl Engine {
    // ---- messages ----

    pub(super) fn on_peer_event(&mut self, id: ConnId, event: PeerEvent) {
        match event {
            PeerEvent::Handshake { info_hash, peer_id } => {
                self.on_handshake(id, info_hash, peer_id);
            }
            PeerEvent::Established => self.on_established(id),
            PeerEvent::Closed(fault) => {
                if fault.blame() == Blame::Peer {
                    self.hostile_peers += 1;
                }
                self.close_conn(id, End::Fault(fault));
            }
            PeerEvent::Block { at, block } => self.on_block(id, at, block),
            PeerEvent::Rejected(at) => self.on_rejected(id, at),
            PeerEvent::Unwanted { len } => {
                if let Some(t) = self.torrent_of(id) {
                    t.wasted += u64::from(len);
                }
            }
            PeerEvent::Forgiven => self.forgiven += 1,
            PeerEvent::HasChanged => self.on_has_changed(id),
            PeerEvent::HasAll => self.on_has_reset(id, true),
            PeerEvent::HasNone => self.on_has_reset(id, false),
            PeerEvent::Have(piece) => self.on_have(id, piece),
            PeerEvent::DontHave(piece) => {
                if let Some(mut tally) = self.tally(id) {
                    tally.lost(piece);
                }
            }
            PeerEvent::Requested(at) => self.on_request(id, at),
            PeerEvent::Cancelled(at) => {
                if let Some(conn) = self.conns.get_mut(id) {
                    conn.uploads.retain(|r| *r != at);
                }
            }
            PeerEvent::TakesNothing => self.take_back(id),
            PeerEvent::Extended => self.on_extended(id),
            PeerEvent::MetadataRequested(piece) => self.serve_metadata(id, piece),
            PeerEvent::MetadataPiece { index, data, .. } => self.on_metadata(id, index, data),
            PeerEvent::MetadataRejected(piece) => self.on_no_metadata(id, piece),
            PeerEvent::Pex { added, .. } => self.on_pex(id, added.iter().map(|(addr, _)| *addr)),
            PeerEvent::Choked => {
                if let Some(mut tally) = self.tally(id) {
                    tally.choked();
                }
            }
            PeerEvent::Interested => self.on_interested(id),
            // A refill follows every batch of events, and the choker looks for itself.
            PeerEvent::Unchoked
            | PeerEvent::NotInterested
            | PeerEvent::Suggested(_)
            | PeerEvent::AllowedFast(_) => {}
            PeerEvent::DhtPort(port) => self.on_dht_port(id, port),
        }
    }

    fn torrent_of(&mut self, id: ConnId) -> Option<&mut Torrent> {
        let torrent = self.conns.get(id)?.torrent?;
        self.torrents.get_mut(&torrent)
    }

    /// An incoming peer names the torrent it is after.
    fn on_handshake(&mut self, id: ConnId, info_hash: InfoHash, peer_id: PeerId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if !conn.incoming {
            return;
        }
        let remote = conn.remote;
        let torrent = self.by_hash.get(&info_hash).copied();
        let refusal = match torrent.and_then(|t| self.torrents.get(&t)) {
            None => Some("asks for a torrent that is not here"),
            // It waits for an answer, among those that have said nothing yet and for as long.
            Some(t) if t.is_opening() => return,
            Some(t) if !t.is_running() => Some("asks for a torrent at rest"),
            Some(t) if t.is_full(&self.config) => Some("the torrent has enough connections"),
            Some(_) if peer_id == self.peer_id => Some("this is ourselves"),
            Some(t) if t.swarm.is_ip_banned(remote.ip()) => Some("bad data came from its address"),
            Some(t) if self.is_crowded(t.id, remote.ip()) => {
                Some("too many connections from one address")
            }
            Some(_) => None,
        };
        let (Some(torrent), None) = (torrent, refusal) else {
            self.close_conn(id, End::Finished(refusal.unwrap_or_default()));
            return;
        };
        let (port, dht) = (self.ports().towards(remote.ip()), self.dht_is_active());
        let Some(t) = self.torrents.get_mut(&torrent) else {
            return;
        };
        self.conns.greeted(id);
        t.conns.push(id.index);
        t.connecting += 1;
        let local = local(t, &self.config, self.peer_id, port, dht, remote);
        if let Some(conn) = self.conns.join(id, torrent)
            && let Some(peer) = &mut conn.peer
        {
            peer.welcome(&mut cx!(self), &local);
        }
    }

    /// Answers those who asked for a torrent while it was being opened, unless it still is.
    pub(super) fn answer_waiting(&mut self, torrent: TorrentId) {
        let Some(t) = self.torrents.get(&torrent).filter(|t| !t.is_opening()) else {
            return;
        };
        let info_hash = t.info_hash;
        let asked = |id: ConnId| {
            let (hash, peer_id) = self.conns.get(id)?.waits_for()?;
            (hash == info_hash).then_some((id, peer_id))
        };
        let waiting: Vec<_> = self.conns.greeting().filter_map(asked).collect();
        for (id, peer_id) in waiting {
            self.on_handshake(id, info_hash, peer_id);
            self.drain(id);
        }
    }

    /// Both handshakes are through.
    fn on_established(&mut self, id: ConnId) {
        if self.is_duplicate(id) {
            return;
        }
        // Only one that others reach is worth telling of.
        let dht_ports = self.dht.as_ref().and_then(|s| s.reachable_ports());
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(torrent), Some(peer)) = (conn.torrent, &mut conn.peer) else {
            return;
        };
        let Some(t) = self.torrents.get_mut(&torrent) else {
            return;
        };
        conn.established = Some(self.now);
        conn.useful = self.now;
        if !conn.incoming {
            self.half_open = self.half_open.saturating_sub(1);
        }
        t.connecting = t.connecting.saturating_sub(1);
        if conn.bucket.is_none() {
            conn.bucket = Some(self.throttle.add(t.bucket));
        }
        if let Some(info) = &t.info {
            peer.set_pieces(info.piece_count());
        }
        match &t.picker {
            Some(picker) => peer.bitfield(picker.have()),
            // BEP 6 wants one of the three messages, also before we know what there is to have.
            None => peer.bitfield(&Bitfield::new(0)),
        }
        let dht_port = dht_ports.and_then(|ports| ports.towards(conn.remote.ip()));
        if let Some(port) = dht_port.filter(|_| !t.is_private()) {
            peer.port(port);
        }
        let client = peer.peer_id().map(client_of).unwrap_or_default();
        let (encryption, incoming) = (peer.encryption(), conn.incoming);
        let remote = conn.remote;
        if !self.out.timers.is_armed(Timer::Round(torrent)) {
            self.out.timers.set(
                Timer::Round(torrent),
                Some(self.now + super::rounds::FIRST_ROUND),
            );
        }
        if self.config.pex && !self.out.timers.is_armed(Timer::Pex(torrent)) {
            self.out.timers.set(
                Timer::Pex(torrent),
                Some(self.now + super::rounds::PEX_INTERVAL),
            );
        }
        let what = What::Connected {
            client,
            encryption,
            incoming,
        };
        self.out
            .notice(Some(torrent), Some(remote), Level::Detail, what);
        self.change(torrent, Changes::PEERS);
        self.deal_places();
    }

    /// Ends one of two connections with the same peer, or one with ourselves. Both sides keep
    /// the stream that the larger peer id opened, so they agree without a word.
    ///
    /// Anybody can repeat the id of another peer: two connections are taken for one peer's only
    /// if they lead to the same IP address. Else both stay.
    fn is_duplicate(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get(id) else {
            return true;
        };
        let (Some(torrent), Some(peer_id)) =
            (conn.torrent, conn.peer.as_ref().and_then(Peer::peer_id))
        else {
            return false;
        };
        if peer_id == self.peer_id {
            self.close_conn(id, End::Finished("this is ourselves"));
            return true;
        }
        let (incoming, ip) = (conn.incoming, conn.remote.ip());
        let Some(t) = self.torrents.get(&torrent) else {
            return true;
        };
        let other = t.conns.iter().filter(|i| **i != id.index).find_map(|i| {
            let c = self.conn_at(*i)?;
            let same = c.remote.ip() == ip && c.peer.as_ref()?.peer_id() == Some(peer_id);
            (c.established.is_some() && same).then_some((c.id, c.incoming))
        });
        let Some((other, other_incoming)) = other else {
            return false;
        };
        let keep_incoming = peer_id > self.peer_id;
        let keep_new = incoming != other_incoming && incoming == keep_incoming;
        let loser = if keep_new { other } else { id };
        self.close_conn(loser, End::Finished("connected twice"));
        !keep_new
    }

    /// The extension handshake came (BEP 10).
    fn on_extended(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(torrent), Some(peer)) = (conn.torrent, &conn.peer) else {
            return;
        };
        // One that had no metadata may have said that it has now.
        conn.metadata_pause = None;
        let port = peer.extended().and_then(|e| e.port).filter(|p| *p != 0);
        if let (true, Some(port), None) = (conn.incoming, port, conn.listen) {
            let addr = canonical(SocketAddr::new(conn.remote.ip(), port));
            conn.listen = Some(addr);
            if let Some(t) = self.torrents.get_mut(&torrent) {
                t.swarm.learn(&mut cx!(self), addr, PeerSource::Incoming);
                t.swarm.occupy(addr);
                if t.swarm.is_banned(addr) {
                    self.close_conn(id, End::Banned);
                    return;
                }
            }
        }
        self.request_metadata(torrent);
        self.check_usefulness(id);
    }

    /// A new, whole set of pieces.
    pub(super) fn on_has_changed(&mut self, id: ConnId) {
        if let Some(mut tally) = self.tally(id) {
            tally.replaced();
            self.note_seed(id);
        }
    }

    fn on_has_reset(&mut self, id: ConnId, all: bool) {
        if let Some(mut tally) = self.tally(id) {
            tally.reset(all);
            self.note_seed(id);
        }
    }

    /// Remembers a peer that has everything as a seed, and lets it go if so do we.
    fn note_seed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        if let (Some(torrent), Some(peer), Some(addr)) = (conn.torrent, &conn.peer, conn.listen)
            && peer.is_seed()
            && let Some(t) = self.torrents.get_mut(&torrent)
        {
            t.swarm.mark_seed(addr);
        }
        self.check_usefulness(id);
    }

    fn on_have(&mut self, id: ConnId, piece: u32) {
        if self.tally(id).is_some_and(|mut tally| tally.gained(piece)) {
            self.note_seed(id);
        }
    }

    /// It became interested: a free upload slot need not wait for the next round.
    fn on_interested(&mut self, id: ConnId) {
        if let Some(torrent) = self.conns.get(id).and_then(|c| c.torrent) {
            self.unchoke_early(torrent, id);
        }
        self.allow_fast(id);
    }

    /// A newcomer that has to wait for its turn gets something to trade with before (BEP 6). Not
    /// under an upload limit: those who have a slot would wait for it, and the first pieces of a
    /// seed with a thin uplink would all be late.
    fn allow_fast(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else {
            return;
        };
        let (Some(torrent), Some(peer), SocketAddr::V4(remote)) =
            (conn.torrent, &mut conn.peer, conn.remote)
        else {
            return;
        };
        let (Some(t), Some(bucket)) = (self.torrents.get(&torrent), conn.bucket) else {
            return;
        };
        let waits = peer.peer_interested() && peer.am_choking();
        let (true, true, Some(info), Some(picker)) = (waits, t.is_exchanging(), &t.info, &t.picker)
        else {
            return;
        };
        // Without slots no peer is served, and a free slot is assigned within 50 ms anyway.
        let served = self.config.upload_slots != Some(0) && !t.choker.has_vacancy();
        let limited = self.throttle.is_limited(bucket, Direction::Up);
        if peer.has_granted_fast() || limited || !served {
            return;
        }
        for piece in allowed_fast_set(*remote.ip(), t.info_hash, info.piece_count(), ALLOWED_FAST) {
            if picker.have().get(piece) {
                peer.allow_fast(piece);
            }
        }
        self.conns.refresh(id);
    }

    /// Ends a connection that neither side can gain from: both are complete.
    pub(super) fn check_usefulness(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else {
            return;
        };
        let (Some(t), Some(peer)) = (conn.torrent.and_then(|t| self.torrents.get(&t)), &conn.peer)
        else {
            return;
        };
        let they_are_done = peer.is_seed() || peer.extended().is_some_and(|e| e.upload_only);
        if t.is_done()
            && they_are_done
            && conn.established.is_some()
            && matches!(t.phase, Phase::Ready)
        {
            self.close_conn(id, End::Finished("both sides are complete"));
        }
    }

    // ---- the end ----

    /// Forgets a connection: its blocks go home, its requests to others, its place to the next.
    pub(super) fn drop_conn(&mut self, id: ConnId, why: End) {
        let Some(mut conn) = self.conns.remove(id) else {
            return;
        };
        self.out.timers.set(Timer::Conn(id.index), None);
        if conn.established.is_none() && !conn.incoming {
            self.half_open = self.half_open.saturating_sub(1);
        }
        if let Some(bucket) = conn.bucket {
            self.throttle.remove(self.now, bucket);
        }
        let shook_hands = conn.established.is_some();
        let moved = conn
            .peer
            .as_ref()
            .map(Peer::totals)
            .is_some_and(|t| t.payload_down + t.payload_up > 0);
        let worked = moved || conn.established.is_some_and(|at| at + WORKED <= self.now);
        if let Some(torrent) = conn.torrent
            && let Some(t) = self.torrents.get_mut(&torrent)
        {
            t.conns.retain(|i| *i != id.index);
            if !shook_hands {
                t.connecting = t.connecting.saturating_sub(1);
            }
            if let (Some(peer), Some(picker)) = (&mut conn.peer, &mut t.picker) {
                for at in peer.in_flight() {
                    picker.aborted(at, key(id));
                }
                if !conn.counted.is_empty() {
                    picker.peer_left(&conn.counted);
                }
                picker.peer_gone(key(id), &mut conn.pick);
            }
            if conn.peer.as_ref().is_some_and(|p| !p.am_choking()) {
                t.choker.peer_gone();
            }
            let opened = conn.peer.is_some();
            let how = match &why {
                End::Banned => Released::Banned,
                End::Finished(_) => Released::Useless,
                End::Resting(_) => Released::Resting,
                End::Fault(fault) if fault.blame() == Blame::Peer => Released::Failed,
                // One that lets us in only to hang up is not to be called every ten seconds.
                _ if worked => Released::Worked,
                _ if shook_hands => Released::Failed,
                _ if opened && !conn.incoming => match self.config.encryption {
                    // Only once: the second kind fails for good.
                    EncryptionPolicy::Preferred if conn.encrypt => Released::TryOtherEncryption,
                    EncryptionPolicy::Allowed if !conn.encrypt => Released::TryOtherEncryption,
                    _ => Released::Failed,
                },
                _ => Released::Failed,
            };
            let twin = |i: &u32| self.conns.at(*i).is_some_and(|c| c.listen == conn.listen);
            if let Some(addr) = conn.listen
                && (how == Released::Banned || !t.conns.iter().any(twin))
            {
                t.swarm.released(self.now, addr, how);
            }
            if moved {
                if t.departed.len() >= MAX_DEPARTED {
                    t.departed.pop_front();
                }
                let addr = conn.listen.unwrap_or(conn.remote);
                t.departed.push_back((key(id), addr));
            }
            let kick = shook_hands && t.is_exchanging();
            let reason = why.reason();
            let peer = Some(conn.remote);
            self.out.notice(
                Some(torrent),
                peer,
                Level::Detail,
                What::Disconnected { reason },
            );
            self.change(torrent, Changes::PEERS);
            if kick {
                self.refill_all(torrent);
            }
            if conn.metadata_asked.is_some() {
                self.request_metadata(torrent);
            }
            // Behind those that wait for the place.
            self.queue_dialler(torrent);
        }
        if let Some(mut peer) = conn.peer {
            peer.close(&mut self.pool);
        }
        self.deal_places();
        self.feed_pool_waiters();
    }

    /// Learns addresses, as far as they are believed, and tries them.
    pub(super) fn learn(
        &mut self,
        id: TorrentId,
        peers: impl IntoIterator<Item = SocketAddr>,
        origin: impl Into<Origin>,
    ) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let origin = origin.into();
        for addr in peers {
            let addr = canonical(addr);
            if !origin.may_name(addr.ip()) {
                self.refused_addresses += 1;
                continue;
            }
            // One that is connected may have been forgotten for want of room.
            let used = |i: &u32| self.conns.at(*i).is_some_and(|c| c.listen == Some(addr));
            if t.swarm.learn(&mut cx!(self), addr, origin) && t.conns.iter().any(used) {
                t.swarm.occupy(addr);
            }
        }
        self.connect_more(id);
    }

    /// Lets all peers of a torrent go.
    pub(super) fn close_all(&mut self, id: TorrentId, why: &'static str) {
        let conns = self
            .torrents
            .get(&id)
            .map(|t| t.conns.clone())
            .unwrap_or_default();
        for index in conns {
            if let Some(id) = self.conn_at(index).map(|c| c.id) {
                self.close_conn(id, End::Resting(why));
            }
        }
    }

    /// Refuses a peer from now on: it sent bytes that failed the hash check.
    pub(super) fn ban(&mut self, id: TorrentId, addr: SocketAddr) {
        let Some(t) = self.torrents.get_mut(&id) else {
            return;
        };
        let news = t.swarm.ban(addr);
        let refused = |i: &u32| {
            let conn = self.conns.at(*i)?;
            let banned = conn.listen.is_some_and(|a| t.swarm.is_banned(a));
            (banned || t.swarm.is_banned(conn.remote)).then_some(conn.id)
        };
        let conns: Vec<ConnId> = t.conns.iter().filter_map(refused).collect();
        // More of what it sent may fail once it is gone.
        if news {
            self.out
                .notice(Some(id), Some(addr), Level::Warning, What::Banned);
        }
        for conn in conns {
            self.close_conn(conn, End::Banned);
        }
    }
}

/// What a peer id says of the client before its extension handshake does (BEP 20).
fn client_of(id: PeerId) -> String {
    let known = &id.0[..8];
    if known.is_ascii() && known.iter().all(u8::is_ascii_graphic) {
        String::from_utf8_lossy(known).into_owned()
    } else {
        "an unnamed client".into()
    }
}
