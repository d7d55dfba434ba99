//! Peers: connecting, the effects of their messages on a torrent, and the end of their connections.

mod tally;
pub(crate) mod upload_slots;

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use self::tally::Tally;
use crate::op::Close;
use crate::peer::{Blame, PeerEvent};
use crate::torrent::choker::ROUND;
use crate::torrent::conn::end::End;
use crate::torrent::conn::link::Link;
use crate::torrent::conn::member::Member;
use crate::torrent::conn::members::{Admission, TWICE};
use crate::torrent::conn::pex::Roster;
use crate::torrent::conn::{Conn, Dialing};
use crate::torrent::content::download::Refill;
use crate::torrent::content::{Content, Store, metadata};
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::peer_list::{Next, Origin, Released};
use crate::torrent::picker::Picker;
use crate::torrent::prefix::Prefix;
use crate::torrent::status::PeerSource;
use crate::torrent::{Torrent, Wants};
use crate::wire::extension::PexFlags;
use crate::{ConnId, PeerId};

/// When the first round happens: early, so that the first peers are served soon.
const FIRST_ROUND: Duration = Duration::from_millis(500);
/// The time between peer exchange messages (BEP 11: at most one per minute).
const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// A peer that is useless for both sides makes way after this time if there are too many connections.
const USELESS: Duration = Duration::from_secs(300);
/// The same while the metadata is not known. A peer that has it answers within seconds, and peers without it must not keep
/// us from connecting to others.
const USELESS_FOR_METADATA: Duration = Duration::from_secs(60);

impl Torrent {
    // ---- connecting ----

    /// Opens one connection. Returns `false` if none is to be opened now.
    pub(crate) fn connect_one(&mut self, io: &mut Io<'_>) -> bool {
        let config = &io.setup.config;
        if !self.is_running() || self.members.is_full(config) {
            return false;
        }
        let is_crowded = |ip| {
            io.conns.count_from(Prefix::of(ip)) >= config.max_per_ip_in_all()
                || self.members.is_crowded(config, ip)
        };
        let seeding = self.is_done();
        match self.peer_list.next(io.now, seeding, is_crowded) {
            Next::Connect(addr, known) => {
                let id = io.dial(Dialing {
                    torrent: self.id,
                    addr,
                    source: known.source,
                    encrypt: known.encrypts(config.encryption),
                    again: known.again,
                });
                self.members.connecting(id, addr, Some(addr));
                true
            }
            Next::Wait(due) => {
                let timer = Timer::Torrent(self.id, TorrentTimer::Connect);
                io.out.timers.set(timer, Some(due));
                false
            }
            Next::Nothing => false,
        }
    }

    /// A link that we opened is established: sends our handshake.
    pub(crate) fn greet(&self, io: &mut Io<'_>, id: ConnId, dialing: Dialing, link: Link) {
        let local = self.local(io, dialing.addr);
        let greeting = dialing.greet(&mut cx!(io), io.setup, &local, (id, link));
        io.out.timers.set(Timer::Conn(id), None);
        io.conns.opened(id, greeting);
    }

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
            PeerEvent::HasChanged
            | PeerEvent::HasAll
            | PeerEvent::HasNone
            | PeerEvent::Have(_)
            | PeerEvent::DontHave(_)
            | PeerEvent::Choked => self.on_pieces(io, id, &event),
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
            PeerEvent::Interested => self.on_interested(io, id),
            // The peers of a private torrent come from its trackers, and it does not use the DHT (BEP 27).
            PeerEvent::Pex { .. } | PeerEvent::DhtPort(_) if self.is_private() => {}
            PeerEvent::Pex { added, .. } => self.on_pex(io, id, &added),
            PeerEvent::DhtPort(port) => {
                let member = self.members.get_mut(id);
                let node = member.and_then(|member| member.dht_node(port));
                io.out.dht_nodes.extend(node);
            }
            // `Uploads::poll_event` has handled them.
            PeerEvent::Requested(_) | PeerEvent::Cancelled(_) => {}
            // Requests follow every batch of events, and the choker reads the peer's state. Suggestions are not used.
            PeerEvent::Unchoked
            | PeerEvent::NotInterested
            | PeerEvent::Suggested(_)
            | PeerEvent::AllowedFast(_) => {}
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
            || self.members.is_full(&io.setup.config)
            || peer_id == io.setup.peer_id
            || self.peer_list.is_ip_banned(remote.ip())
            || self.members.is_crowded(&io.setup.config, remote.ip());
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
            self.traffic.sent(io.now, sent);
            self.durability.unsaved = true;
        }
        self.handle_peer(io, id);
        if sent > 0
            && self.is_exchanging()
            && let Some(terms) = self.terms(io.throttle)
        {
            let members = &mut self.members;
            self.upload_slots.end_turn(io, members, (id, sent), terms);
        }
    }

    /// Handles the events of a peer, then requests blocks, reads blocks for it and updates its timer and readiness.
    pub(crate) fn handle_peer(&mut self, io: &mut Io<'_>, id: MemberId) {
        // Blocks that it will not send can be requested from idle peers.
        let mut freed = false;
        while let Some(mut uploads) = self.uploads(id)
            && let Some(event) = uploads.poll_event(io.now)
        {
            freed |= matches!(event, PeerEvent::Rejected(_));
            self.on_peer_event(io, id, event);
        }
        if freed {
            self.refill_all(io);
        }
        let exchanging = self.is_exchanging();
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let downloads = self.content.downloads(self.id).filter(|_| exchanging);
        if downloads.is_none_or(|mut d| d.refill(io, member) == Refill::Done) {
            self.content.uploads(self.id, exchanging, member).finish(io);
            return;
        }
        // Blocks are needed more than longer runs of writes.
        self.flush_pieces(io);
        if let Some(uploads) = self.uploads(id) {
            uploads.finish(io);
        }
    }

    /// Both handshakes of a connection are complete: makes the peer a member, or closes the connection.
    pub(crate) fn take_in(&mut self, io: &mut Io<'_>, conn: ConnId) {
        let Some(greeting) = io.conns.greeting(conn) else {
            return;
        };
        match self.members.admission(greeting, io.setup.peer_id) {
            Admission::Admitted => {}
            Admission::InPlaceOf(other) => self.close_member(io, other, End::Finished(TWICE)),
            Admission::Refused(why) => {
                self.close_conn(io, conn, End::Finished(why));
                return;
            }
        }
        // The port of our node is told only if others can reach it.
        let dht_ports = io.dht.reachable;
        let bucket = io.throttle.add(self.bucket);
        let new = |id, greeting| Member::new(id, io.now, bucket, greeting);
        let Some(member) = self.members.join(io.conns, (self.id, conn), new) else {
            io.throttle.remove(io.now, bucket);
            return;
        };
        let info = self.content.info();
        let pieces = info.map(|info| info.piece_count());
        let private = info.is_some_and(|info| info.private());
        let remote = member.stream.remote;
        let dht_port = dht_ports.and_then(|ports| ports.towards(remote.ip()));
        let have = self.content.picker().map(Picker::have);
        member.introduce((pieces, have), dht_port.filter(|_| !private));
        let what = What::Connected {
            client: member.client(),
            encryption: member.stream.peer.encryption(),
            incoming: member.incoming,
        };
        let timers = &mut io.out.timers;
        let round = Timer::Torrent(self.id, TorrentTimer::Round);
        timers.arm(round, io.now + FIRST_ROUND);
        if io.setup.config.pex {
            let pex = Timer::Torrent(self.id, TorrentTimer::Pex);
            timers.arm(pex, io.now + PEX_INTERVAL);
        }
        io.out
            .notice(Some(self.id), Some(remote), Level::Detail, what);
        self.change(io, Changes::PEERS);
        io.out.places = true;
    }

    /// The extension handshake was received (BEP 10).
    fn on_extended(&mut self, io: &mut Io<'_>, id: MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        // A peer that had no metadata may announce that it has it now.
        member.metadata_pause = None;
        if let Some(addr) = member.learn_port() {
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

    /// The pieces of a peer changed, as `event` tells. A peer that has every piece is remembered as a seed, and disconnected if we
    /// are a seed.
    pub(crate) fn on_pieces(&mut self, io: &mut Io<'_>, id: MemberId, event: &PeerEvent) {
        let picker = self.content.picker_mut();
        let (Some(member), Some(picker)) = (self.members.get_mut(id), picker) else {
            return;
        };
        if !Tally::new(member, picker).handle(event) {
            return;
        }
        if let Some(addr) = member.dialable
            && member.stream.peer.is_seed()
        {
            self.peer_list.mark_seed(addr);
        }
        self.check_usefulness(io, id);
    }

    /// The peer became interested: it may be served before the next round.
    fn on_interested(&mut self, io: &mut Io<'_>, id: MemberId) {
        if self.is_exchanging()
            && let Some(member) = self.members.get_mut(id)
            && let Some((info, open)) = self.content.open()
        {
            let supply = upload_slots::Supply {
                have: open.picker.have(),
                uploaded: self.traffic.uploaded,
            };
            self.upload_slots.interested(io, member, info, supply);
        }
    }

    /// A peer told of others (BEP 11).
    fn on_pex(&mut self, io: &mut Io<'_>, id: MemberId, added: &[(SocketAddr, PexFlags)]) {
        if io.setup.config.pex
            && let Some(member) = self.members.get_mut(id)
            && member.pex.heeds(io.now)
        {
            let origin = Origin::pex(member.stream.remote.ip());
            self.learn(io, added.iter().map(|(addr, _)| *addr), origin);
        }
    }

    /// Closes a connection that is useless for both sides, because both are seeds.
    pub(crate) fn check_usefulness(&mut self, io: &mut Io<'_>, id: MemberId) {
        let they_are_done = self.members.get(id).is_some_and(Member::is_done);
        if they_are_done && self.is_done() && self.is_ready() {
            self.close_member(io, id, End::Finished("both sides are complete"));
        }
    }

    // ---- timers ----

    /// Does what is done every ten seconds.
    pub(crate) fn round(&mut self, io: &mut Io<'_>) {
        match self.content.store() {
            _ if !self.standing.is_up() => {}
            None => {
                self.request_metadata(io);
                self.make_place(io);
            }
            Some(Store::Open(_)) => {
                if let Some(terms) = self.terms(io.throttle) {
                    self.upload_slots.assign(io, &mut self.members, terms);
                }
                // Blocks that have waited for a whole round are written, also in short runs.
                if self.content.open().is_some_and(|(_, open)| open.has_idle()) {
                    self.flush_pieces(io);
                }
                self.refill_all(io);
                self.make_place(io);
                self.want(io, Wants::TO_SHARE);
            }
            Some(_) => {}
        }
        if !self.members.is_empty() {
            io.out.timers.set(
                Timer::Torrent(self.id, TorrentTimer::Round),
                Some(io.now + ROUND),
            );
        }
        if self.is_alone() {
            self.sources.announcer.need_peers(&mut cx!(io));
            self.want(io, Wants::TRACKERS);
        }
    }

    /// Assigns the free slots to the peers that became interested in the meantime.
    pub(crate) fn fill_slots(&mut self, io: &mut Io<'_>) {
        if self.is_exchanging()
            && let Some(terms) = self.terms(io.throttle)
        {
            self.upload_slots.fill(io, &mut self.members, terms);
        }
    }

    /// Tells every peer which others joined and left (BEP 11).
    pub(crate) fn pex_round(&mut self, io: &mut Io<'_>) {
        if self.is_private() || self.members.is_empty() {
            return;
        }
        // Armed even if no message may be sent yet: the peers of a magnet stay connected while its files are checked, and
        // nothing else sets the timer until the next peer connects.
        io.out.timers.set(
            Timer::Torrent(self.id, TorrentTimer::Pex),
            Some(io.now + PEX_INTERVAL),
        );
        if !self.is_running() {
            return;
        }
        let roster: Roster = self.members.iter().filter_map(Member::listing).collect();
        for member in self.members.iter_mut() {
            if member.tell_peers(&roster) {
                io.refresh(member);
            }
        }
    }

    /// If there are too many connections, closes one that is useless for both sides.
    fn make_place(&mut self, io: &mut Io<'_>) {
        let short = self.members.is_full(&io.setup.config) || io.conns.len() >= io.max_conns();
        if !short || self.peer_list.next_due().is_none_or(|due| due > io.now) {
            return;
        }
        let (patience, end) = match self.content {
            // The peer may have the metadata later.
            Content::Unknown(_) => (USELESS_FOR_METADATA, End::Resting("it has no metadata yet")),
            Content::Known(_) => (USELESS, End::Finished("neither side gained from it")),
        };
        if let Some(member) = self.members.useless(io.now, patience) {
            self.close_member(io, member, end);
        }
    }

    /// Closes a connection in favour of a torrent that has `theirs` connections. Returns whether one was closed.
    pub(crate) fn give_place(&mut self, io: &mut Io<'_>, theirs: usize) -> bool {
        let Some(member) = self.members.expendable(io.now, theirs) else {
            return false;
        };
        let end = End::Resting("another torrent needs the place");
        self.close_member(io, member, end);
        true
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
        let ended = io.forget(conn);
        self.members.given_up(conn, remote);
        let attempt = ended.as_ref().and_then(Conn::attempt);
        let released = attempt.map(|(dialing, opened)| {
            let how = why.of_attempt(dialing, opened, io.setup.config.encryption);
            (dialing.addr, how)
        });
        self.part(io, remote, &why, released);
    }

    /// Removes a member: its blocks return to the pool, its requests can be sent to others, and its address is released.
    pub(crate) fn drop_member(&mut self, io: &mut Io<'_>, id: MemberId, why: &End) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        io.forget_member(&mut member);
        let moved = member.has_moved();
        if let Some(picker) = self.content.picker_mut() {
            member.leave(picker);
        }
        self.upload_slots.peer_gone(&member);
        let how = why.of_member(member.has_worked(io.now));
        let released = member.dialable.map(|addr| (addr, how));
        if moved {
            self.smart_ban.departed(id.key(), member.addr());
        }
        self.part(io, member.stream.remote, why, released);
        if self.is_exchanging() {
            self.refill_all(io);
        }
        if member.metadata_asked.is_some() {
            self.request_metadata(io);
        }
        member.stream.forget(io.out);
        member.stream.peer.close(io.pool);
    }

    /// Reports the end of a connection, whose place is free for other torrents first. Its address may be tried again, as
    /// `released` says, unless there is another connection to it.
    fn part(
        &mut self,
        io: &mut Io<'_>,
        remote: SocketAddr,
        why: &End,
        released: Option<(SocketAddr, Released)>,
    ) {
        if let Some((addr, how)) = released
            && (how == Released::Banned || !self.members.uses(addr))
        {
            self.peer_list.released(io.now, addr, how);
        }
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
        let is_used = |addr| self.members.uses(addr);
        let refused = self
            .peer_list
            .learn_all(&mut cx!(io), peers, origin.into(), is_used);
        io.out.refused_addresses += refused;
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
