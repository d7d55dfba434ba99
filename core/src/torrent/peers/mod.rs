//! Peers: handshakes, the effects of their messages on a torrent, and the end of their connections.

mod choking;
mod connect;
mod pex;
mod rounds;
mod tally;

use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::op::Close;
use crate::peer::crypto::MseError;
use crate::peer::{Blame, PeerEvent, PeerFault};
use crate::throttle::Direction;
use crate::torrent::conn::end::End;
use crate::torrent::conn::member::Member;
use crate::torrent::conn::{Conn, Holding, Opened};
use crate::torrent::content::metadata;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::peer_list::{Origin, Released, canonical};
use crate::torrent::status::PeerSource;
use crate::torrent::{Torrent, Wants};
use crate::wire::peer::allowed_fast_set;
use crate::{Bitfield, ConnId, EncryptionPolicy, PeerId};

/// A connection that moved no payload counts as successful if it lasted this long.
const WORKED: Duration = Duration::from_secs(60);
/// The size of the allowed fast set: pieces that a choked peer may request (BEP 6 suggests 10).
const ALLOWED_FAST: usize = 5;

impl Torrent {
    // ---- messages ----

    pub(crate) fn on_peer_event(&mut self, io: &mut Io<'_>, id: MemberId, event: PeerEvent) {
        match event {
            // They were handled before the peer became a member.
            PeerEvent::Handshake { .. } | PeerEvent::Established => {}
            PeerEvent::Closed(fault) => {
                if fault.blame() == Blame::Peer {
                    io.out.hostile_peers += 1;
                }
                self.close_member(io, id, End::Fault(fault));
            }
            PeerEvent::Block { at, block } => self.on_block(io, id, at, block),
            PeerEvent::Rejected(at) => {
                if let Some(picker) = self.content.picker_mut() {
                    picker.aborted(at, id.key());
                }
            }
            PeerEvent::Unwanted { len } => self.traffic.wasted += u64::from(len),
            PeerEvent::Forgiven => io.out.forgiven += 1,
            PeerEvent::HasChanged => self.on_has_changed(io, id),
            PeerEvent::HasAll => self.on_has_reset(io, id, true),
            PeerEvent::HasNone => self.on_has_reset(io, id, false),
            PeerEvent::Have(piece) => self.on_have(io, id, piece),
            PeerEvent::DontHave(piece) => {
                if let Some(mut tally) = self.tally(id) {
                    tally.lost(piece);
                }
            }
            PeerEvent::Requested(at) => {
                if let Some(mut uploads) = self.uploads(id) {
                    uploads.requested(at);
                }
            }
            PeerEvent::Cancelled(at) => {
                if let Some(mut uploads) = self.uploads(id) {
                    uploads.cancelled(at);
                }
            }
            PeerEvent::TakesNothing => {
                if let Some(mut uploads) = self.uploads(id) {
                    uploads.take_back(io);
                }
            }
            PeerEvent::Extended => self.on_extended(io, id),
            PeerEvent::MetadataRequested(piece) => {
                if let Some(member) = self.members.get_mut(id) {
                    let info = self.content.info().map(|info| &**info);
                    metadata::serve(&mut member.stream.peer, info, piece);
                }
            }
            PeerEvent::MetadataPiece { index, data, .. } => self.on_metadata(io, id, index, data),
            PeerEvent::MetadataRejected(piece) => {
                if let Some(member) = self.members.get_mut(id) {
                    metadata::refused(member, io.now, piece);
                    self.request_metadata(io);
                }
            }
            PeerEvent::Pex { added, .. } => {
                self.on_pex(io, id, added.iter().map(|(addr, _)| *addr));
            }
            PeerEvent::Choked => {
                if let Some(mut tally) = self.tally(id) {
                    tally.choked();
                }
            }
            PeerEvent::Interested => self.on_interested(io, id),
            // Requests follow every batch of events, and the choker reads the peer's state.
            PeerEvent::Unchoked
            | PeerEvent::NotInterested
            | PeerEvent::Suggested(_)
            | PeerEvent::AllowedFast(_) => {}
            PeerEvent::DhtPort(port) => self.on_dht_port(io, id, port),
        }
    }

    /// An accepted peer named this torrent: answers its handshake, or closes the connection.
    pub(crate) fn welcome(&mut self, io: &mut Io<'_>, id: ConnId, peer_id: PeerId) {
        let Some(remote) = io.conns.remote(id) else {
            return;
        };
        // It waits for the answer, and counts among the connections that have not named a torrent.
        if self.is_opening() {
            return;
        }
        let refused = !self.is_running()
            || self.is_full(&io.setup.config)
            || peer_id == io.setup.peer_id
            || self.peer_list.is_ip_banned(remote.ip())
            || self.is_crowded(io, remote.ip());
        if refused {
            io.dismiss(id, Close::Flush);
            return;
        }
        self.members.connecting(id, remote, None);
        let local = self.local(io, remote);
        if let Some(stream) = io.conns.welcomed(id, self.id) {
            stream.peer.welcome(&mut cx!(io), &local);
        }
    }

    /// Answers the peers that named the torrent while it was being opened, unless it still is.
    pub(crate) fn answer_waiting(&mut self, io: &mut Io<'_>) {
        if self.is_opening() {
            return;
        }
        let waiting: Vec<ConnId> = io.conns.unclaimed().collect();
        for id in waiting {
            let Some(greeting) = io.conns.greeting(id) else {
                continue;
            };
            let peer = &greeting.stream.peer;
            if let Some(peer_id) = peer.peer_id()
                && peer.info_hash() == Some(self.info_hash)
                && peer.awaits_welcome()
            {
                self.welcome(io, id, peer_id);
                // Its events are handled like those of any other connection.
                io.out.welcomed.push_back(id);
            }
        }
    }

    /// `len` bytes were received from a peer.
    pub(crate) fn handle_read(&mut self, io: &mut Io<'_>, id: MemberId, len: usize) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.stream.charge_read(&mut io.flow(), len);
        let peer = &mut member.stream.peer;
        peer.handle_read(&mut cx!(io), io.pool, len, &|_| None);
        self.handle_peer(io, id);
    }

    /// `len` bytes were sent to a peer.
    pub(crate) fn handle_written(&mut self, io: &mut Io<'_>, id: MemberId, len: usize) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &mut member.stream.peer;
        let before = peer.totals().payload_up;
        peer.handle_written(&mut cx!(io), io.pool, len);
        let sent = peer.totals().payload_up - before;
        member.stream.charge_written(&mut io.flow(), len);
        if sent > 0 {
            member.useful = io.now;
            self.traffic.uploaded += sent;
            self.durability.unsaved = true;
            self.traffic.up.add(io.now, sent);
        }
        self.handle_peer(io, id);
        if sent > 0 {
            self.end_turn(io, id, sent);
        }
    }

    /// Handles the events of a peer, then requests blocks, reads blocks for it and updates its timer and readiness.
    pub(crate) fn handle_peer(&mut self, io: &mut Io<'_>, id: MemberId) {
        // Blocks that it will not send can be requested from idle peers.
        let mut freed = false;
        while let Some(member) = self.members.get_mut(id)
            && let Some(event) = member.stream.peer.poll_event()
        {
            freed |= matches!(event, PeerEvent::Rejected(_));
            self.on_peer_event(io, id, event);
        }
        if freed {
            self.refill_all(io);
        }
        self.refill(io, id);
        if let Some(mut uploads) = self.uploads(id) {
            uploads.pump(io);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.stream.rearm(io.out);
            io.refresh(member);
        }
    }

    /// Both handshakes of a connection are complete: makes the peer a member, or closes the connection.
    pub(crate) fn take_in(&mut self, io: &mut Io<'_>, conn: ConnId) {
        if self.is_duplicate(io, conn) {
            return;
        }
        // Only an address that accepts connections is worth telling others.
        let dht_ports = io.dht.reachable;
        let bucket = io.throttle.add(self.bucket);
        let (now, members) = (io.now, &mut self.members);
        let mut id = None;
        io.conns.established(conn, self.id, |greeting| {
            let new = members.insert(conn, |id| Member::new(id, now, bucket, greeting));
            *id.insert(new)
        });
        let Some(member) = id.and_then(|id| self.members.get_mut(id)) else {
            io.throttle.remove(io.now, bucket);
            return;
        };
        let peer = &mut member.stream.peer;
        if let Some(info) = self.content.info() {
            peer.set_pieces(info.piece_count());
        }
        match self.content.picker() {
            Some(picker) => peer.bitfield(picker.have()),
            // BEP 6 requires one of the three messages, also before the pieces are known.
            None => peer.bitfield(&Bitfield::new(0)),
        }
        let remote = member.stream.remote;
        let private = self.content.info().is_some_and(|info| info.private());
        let dht_port = dht_ports.and_then(|ports| ports.towards(remote.ip()));
        if let Some(port) = dht_port.filter(|_| !private) {
            peer.port(port);
        }
        let what = What::Connected {
            client: peer.peer_id().map(client_of).unwrap_or_default(),
            encryption: peer.encryption(),
            incoming: member.incoming,
        };
        self.arm_once(io, TorrentTimer::Round, self::rounds::FIRST_ROUND);
        if io.setup.config.pex {
            self.arm_once(io, TorrentTimer::Pex, self::pex::PEX_INTERVAL);
        }
        io.out
            .notice(Some(self.id), Some(remote), Level::Detail, what);
        self.change(io, Changes::PEERS);
        io.out.places = true;
    }

    /// Arms a timer unless it is armed.
    fn arm_once(&self, io: &mut Io<'_>, timer: TorrentTimer, after: Duration) {
        let timer = Timer::Torrent(self.id, timer);
        if !io.out.timers.is_armed(timer) {
            io.out.timers.set(timer, Some(io.now + after));
        }
    }

    /// Closes one of two connections with the same peer, or a connection with ourselves. Both sides keep the stream that the
    /// side with the larger peer id opened, so they agree without a message.
    ///
    /// Any peer can repeat the id of another one. Two connections count as connections of one peer only if they have the
    /// same IP address; otherwise, both are kept.
    fn is_duplicate(&mut self, io: &mut Io<'_>, conn: ConnId) -> bool {
        let Some(greeting) = io.conns.greeting(conn) else {
            return true;
        };
        let stream = &greeting.stream;
        let (incoming, ip) = (greeting.is_incoming(), stream.remote.ip());
        let Some(peer_id) = stream.peer.peer_id() else {
            return false;
        };
        if peer_id == io.setup.peer_id {
            self.close_conn(io, conn, End::Finished("this is ourselves"));
            return true;
        }
        let same =
            |m: &&Member| m.stream.remote.ip() == ip && m.stream.peer.peer_id() == Some(peer_id);
        let Some(other) = self.members.iter().find(same) else {
            return false;
        };
        let keep_incoming = peer_id > io.setup.peer_id;
        let keep_new = incoming != other.incoming && incoming == keep_incoming;
        let end = End::Finished("connected twice");
        if keep_new {
            let other = other.id;
            self.close_member(io, other, end);
        } else {
            self.close_conn(io, conn, end);
        }
        !keep_new
    }

    /// The extension handshake was received (BEP 10).
    fn on_extended(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &member.stream.peer;
        // A peer that had no metadata may announce that it has it now.
        member.metadata_pause = None;
        let port = peer.extended().and_then(|e| e.port).filter(|p| *p != 0);
        if let (true, Some(port), None) = (member.incoming, port, member.dialable) {
            let addr = canonical(SocketAddr::new(member.stream.remote.ip(), port));
            member.dialable = Some(addr);
            self.peer_list
                .learn(&mut cx!(io), addr, PeerSource::Incoming);
            self.peer_list.occupy(addr);
            if self.peer_list.is_banned(addr) {
                self.close_member(io, id, End::Banned);
                return;
            }
        }
        self.request_metadata(io);
        self.check_usefulness(io, id);
    }

    /// The peer's set of pieces was replaced.
    pub(crate) fn on_has_changed(&mut self, io: &mut Io<'_>, id: MemberId) {
        if let Some(mut tally) = self.tally(id) {
            tally.replaced();
            self.note_seed(io, id);
        }
    }

    /// The peer has all pieces now, or none.
    fn on_has_reset(&mut self, io: &mut Io<'_>, id: MemberId, all: bool) {
        if let Some(mut tally) = self.tally(id) {
            tally.reset(all);
            self.note_seed(io, id);
        }
    }

    /// Remembers a peer that has every piece as a seed, and disconnects it if we are a seed.
    fn note_seed(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        if let Some(addr) = member.dialable
            && member.stream.peer.is_seed()
        {
            self.peer_list.mark_seed(addr);
        }
        self.check_usefulness(io, id);
    }

    fn on_have(&mut self, io: &mut Io<'_>, id: MemberId, piece: u32) {
        if self.tally(id).is_some_and(|mut tally| tally.gained(piece)) {
            self.note_seed(io, id);
        }
    }

    /// The peer became interested: it does not wait for the next round if an upload slot is free.
    fn on_interested(&mut self, io: &mut Io<'_>, id: MemberId) {
        self.unchoke_early(io, id);
        self.allow_fast(io, id);
    }

    /// Sends the allowed fast set to a new peer that waits for a slot, so that it gets pieces to trade (BEP 6). This is not
    /// done under an upload limit: peers with slots would have to wait, and the first pieces of a seed with a slow uplink
    /// would all be late.
    fn allow_fast(&mut self, io: &mut Io<'_>, id: MemberId) {
        if !self.is_exchanging() {
            return;
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let SocketAddr::V4(remote) = member.stream.remote else {
            return;
        };
        let peer = &mut member.stream.peer;
        if !peer.peer_interested() || !peer.am_choking() {
            return;
        }
        let Some((info, open)) = self.content.open() else {
            return;
        };
        // Without slots no peer is served, and a free slot is assigned within 50 ms anyway.
        let served = io.setup.config.upload_slots != Some(0) && !self.choker.has_vacancy();
        let limited = io.throttle.is_limited(member.bucket, Direction::Up);
        if peer.has_granted_fast() || limited || !served {
            return;
        }
        for piece in allowed_fast_set(
            *remote.ip(),
            self.info_hash,
            info.piece_count(),
            ALLOWED_FAST,
        ) {
            if open.picker.have().get(piece) {
                peer.allow_fast(piece);
            }
        }
        io.refresh(member);
    }

    /// A peer told the port of its DHT node (BEP 5). It counts once per connection, and is ignored for private torrents.
    fn on_dht_port(&mut self, io: &mut Io<'_>, id: MemberId, port: u16) {
        if self.is_private() || port == 0 {
            return;
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if core::mem::replace(&mut member.dht_port_told, true) {
            return;
        }
        let node = SocketAddr::new(member.stream.remote.ip(), port);
        io.out.dht_nodes.push_back(node);
    }

    /// Closes a connection that is useless for both sides, because both are seeds.
    pub(crate) fn check_usefulness(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        let peer = &member.stream.peer;
        let they_are_done = peer.is_seed() || peer.extended().is_some_and(|e| e.upload_only);
        if self.is_done() && they_are_done && self.is_ready() {
            self.close_member(io, id, End::Finished("both sides are complete"));
        }
    }

    // ---- disconnecting ----

    /// Closes the stream of a peer and forgets it.
    pub(crate) fn close_member(&mut self, io: &mut Io<'_>, id: MemberId, why: End) {
        if let Some(member) = self.members.get(id) {
            let stream = &member.stream;
            stream.link.close(io.out, stream.id, why.how());
            self.drop_member(io, id, &why);
        }
    }

    /// Closes a connection and forgets it.
    pub(crate) fn close_conn(&mut self, io: &mut Io<'_>, conn: ConnId, why: End) {
        if let Some(Conn::Member(_, id)) = io.conns.get(conn) {
            let id = *id;
            return self.close_member(io, id, why);
        }
        io.close_link(conn, why.how());
        self.drop_conn(io, conn, why);
    }

    /// Forgets a connection of this torrent.
    pub(crate) fn drop_conn(&mut self, io: &mut Io<'_>, conn: ConnId, why: End) {
        if let Some(Conn::Member(_, id)) = io.conns.get(conn) {
            let id = *id;
            return self.drop_member(io, id, &why);
        }
        let Some(remote) = io.conns.remote(conn) else {
            return;
        };
        let dialing = match io.forget(conn) {
            Some(Conn::Dialing(dialing, _)) => Some((dialing, false)),
            Some(Conn::Greeting(greeting)) => match greeting.opened {
                Opened::ByUs(dialing) => Some((dialing, true)),
                Opened::ByPeer(_) => None,
            },
            _ => None,
        };
        self.members.given_up(conn, remote);
        if let Some((dialing, opened)) = dialing {
            let how = match &why {
                End::Banned => Released::Banned,
                End::Finished(_) => Released::Useless,
                End::Resting(_) => Released::Resting,
                End::Fault(PeerFault::Mse(MseError::ShortSecret)) => Released::TryAgain,
                End::Fault(fault) if fault.blame() == Blame::Peer => Released::Failed,
                _ if opened => match io.setup.config.encryption {
                    // Only once: if the second attempt fails, the address has failed.
                    EncryptionPolicy::Preferred if dialing.encrypt => Released::TryOtherEncryption,
                    EncryptionPolicy::Allowed if !dialing.encrypt => Released::TryOtherEncryption,
                    _ => Released::Failed,
                },
                _ => Released::Failed,
            };
            self.release(io, dialing.addr, how);
        }
        self.part(io, remote, &why);
    }

    /// Removes a member: its blocks return to the pool, its requests can be sent to others, and its address is released.
    pub(crate) fn drop_member(&mut self, io: &mut Io<'_>, id: MemberId, why: &End) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        let conn = member.stream.id;
        io.conns.remove(conn);
        let then = &mut member.holds;
        io.conns
            .recount(member.stream.remote, then, Holding::default());
        io.out.timers.set(Timer::Conn(conn), None);
        io.throttle.remove(io.now, member.bucket);
        let peer = &mut member.stream.peer;
        let totals = peer.totals();
        let moved = totals.payload_down + totals.payload_up > 0;
        let worked = moved || member.established + WORKED <= io.now;
        if let Some(picker) = self.content.picker_mut() {
            for at in peer.in_flight() {
                picker.aborted(at, id.key());
            }
            if !member.counted.is_empty() {
                picker.peer_left(&member.counted);
            }
            picker.peer_gone(id.key(), &mut member.pick);
        }
        if !peer.am_choking() {
            self.choker.peer_gone();
        }
        if let Some(addr) = member.dialable {
            let how = match why {
                End::Banned => Released::Banned,
                End::Finished(_) => Released::Useless,
                End::Resting(_) => Released::Resting,
                End::Fault(fault) if fault.blame() == Blame::Peer => Released::Failed,
                // A peer that accepts connections only to close them is not to be tried every ten seconds.
                _ if worked => Released::Worked,
                _ => Released::Failed,
            };
            self.release(io, addr, how);
        }
        if moved {
            self.smart_ban.departed(id.key(), member.addr());
        }
        self.part(io, member.stream.remote, why);
        if self.is_exchanging() {
            self.refill_all(io);
        }
        if member.metadata_asked.is_some() {
            self.request_metadata(io);
        }
        member.stream.forget(io.out);
        member.stream.peer.close(io.pool);
    }

    /// Releases an address, so that it may be tried again, unless there is another connection to it.
    fn release(&mut self, io: &Io<'_>, addr: SocketAddr, how: Released) {
        if how == Released::Banned || !self.members.uses(addr) {
            self.peer_list.released(io.now, addr, how);
        }
    }

    /// Reports the end of a connection. Its place is free for other torrents first.
    fn part(&mut self, io: &mut Io<'_>, remote: SocketAddr, why: &End) {
        let reason = why.reason();
        let what = What::Disconnected { reason };
        io.out
            .notice(Some(self.id), Some(remote), Level::Detail, what);
        self.change(io, Changes::PEERS);
        self.want(io, Wants::PLACES);
    }

    /// Learns addresses, as far as their source is trusted, and connects to them.
    pub(crate) fn learn(
        &mut self,
        io: &mut Io<'_>,
        peers: impl IntoIterator<Item = SocketAddr>,
        origin: impl Into<Origin>,
    ) {
        let origin = origin.into();
        for addr in peers {
            let addr = canonical(addr);
            if !origin.may_name(addr.ip()) {
                io.out.refused_addresses += 1;
                continue;
            }
            // A connected address may have been dropped from a full list.
            if self.peer_list.learn(&mut cx!(io), addr, origin) && self.members.uses(addr) {
                self.peer_list.occupy(addr);
            }
        }
        self.want(io, Wants::PLACES);
    }

    /// Closes all connections of the torrent.
    pub(crate) fn close_all(&mut self, io: &mut Io<'_>, why: &'static str) {
        for id in self.members.ids() {
            self.close_member(io, id, End::Resting(why));
        }
        let unfinished: Vec<ConnId> = self.members.unfinished().collect();
        for conn in unfinished {
            self.close_conn(io, conn, End::Resting(why));
        }
    }

    /// Bans a peer that sent data that failed the hash check. A ban has no expiry: it lasts as long as the torrent.
    pub(crate) fn ban(&mut self, io: &mut Io<'_>, addr: SocketAddr) {
        let news = self.peer_list.ban(addr);
        let banned = |addr: SocketAddr| self.peer_list.is_banned(addr);
        let refused = |m: &&Member| m.dialable.is_some_and(banned) || banned(m.stream.remote);
        let members = self.members.iter().filter(refused).map(|m| m.id);
        let members: Vec<MemberId> = members.collect();
        let refused = |conn: &ConnId| io.conns.remote(*conn).is_some_and(banned);
        let conns: Vec<ConnId> = self.members.unfinished().filter(refused).collect();
        // Other pieces with blocks from it may fail later.
        if news {
            io.out
                .notice(Some(self.id), Some(addr), Level::Warning, What::Banned);
        }
        for id in members {
            self.close_member(io, id, End::Banned);
        }
        for conn in conns {
            self.close_conn(io, conn, End::Banned);
        }
    }
}

/// The client's name in a peer id (BEP 20), until the extension handshake tells it.
fn client_of(id: PeerId) -> String {
    let known = &id.0[..8];
    if known.is_ascii() && known.iter().all(u8::is_ascii_graphic) {
        String::from_utf8_lossy(known).into_owned()
    } else {
        "an unnamed client".into()
    }
}
