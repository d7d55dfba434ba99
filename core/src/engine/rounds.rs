//! What happens every so often: choking, peer exchange, chores.

use alloc::{collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::assembly::Assembly;
use super::content::{Content, Store};
use super::cx;
use super::end::End;
use super::io::Io;
use super::member::Member;
use super::member_id::MemberId;
use super::standing::Standing;
use super::swarm::Origin;
use super::timers::{Timer, TorrentTimer};
use super::torrent::{Torrent, Wants};
use crate::peer::crypto::StreamEncryption;
use crate::torrent::choker::Candidate;
use crate::torrent::pace::Pace;
use crate::wire::extension::PexFlags;

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
impl Torrent {
    /// The ten-second chores of a torrent.
    pub(super) fn round(&mut self, io: &mut Io<'_>) {
        if let Standing::Failed(_) = self.standing {
            self.retry(io);
            return;
        }
        match self.content.store() {
            _ if !self.standing.is_up() => {}
            None => {
                self.request_metadata(io);
                self.make_places(io);
            }
            Some(Store::Open(_)) => {
                self.choke_round(io);
                self.flush_idle_pieces(io);
                self.refill_all(io);
                self.make_places(io);
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
        let poor = !self.is_done() && self.members.is_empty() && self.swarm.next_due().is_none();
        if poor {
            self.ask_for_peers(io);
        }
    }

    /// Tells the trackers of a torrent that more peers would be welcome.
    pub(super) fn ask_for_peers(&mut self, io: &mut Io<'_>) {
        self.announcer.need_peers(&mut cx!(io));
        self.want(io, Wants::TRACKERS);
    }

    /// Blocks that have waited for a whole round are written, however short the run.
    fn flush_idle_pieces(&mut self, io: &mut Io<'_>) {
        let assemblies = self.content.open().map(|(_, open)| &open.assemblies);
        let idle = |a: &Assembly| a.has_waiting() && !a.is_busy();
        if assemblies.is_some_and(|all| all.values().any(idle)) {
            self.flush_pieces(io);
        }
    }

    // ---- choking ----

    fn choke_round(&mut self, io: &mut Io<'_>) {
        let info = self.content.info();
        let piece = info.map_or(0, |i| u64::from(i.piece_len()));
        let pace = self.pace(io.throttle);
        let mut candidates = Vec::with_capacity(self.members.established());
        for member in self.members.iter() {
            let peer = &member.stream.peer;
            let totals = peer.totals();
            candidates.push(Candidate {
                key: member.id.key(),
                interested: peer.peer_interested(),
                snubbed: peer.is_snubbed(),
                down_rate: peer.rate_down(io.now),
                given: totals.payload_down,
                up_rate: peer.rate_up(io.now),
                unchoked: !peer.am_choking(),
                since: member.choke_changed,
                connected: member.established,
                sent: totals.payload_up.saturating_sub(member.sent_before),
                empty: peer.has().count() == 0 && totals.payload_up < piece,
            });
        }
        let seeding = self.is_done();
        let mut changes = Vec::new();
        self.choker.set_pace(pace);
        self.choker
            .round(&mut cx!(io), seeding, &candidates, &mut changes);
        for (key, unchoke) in changes {
            if let Some(member) = self.members.by_key(key).map(|member| member.id) {
                self.set_choke(io, member, !unchoke);
            }
        }
    }

    /// A peer became interested: it need not wait for the round if a slot is free.
    pub(super) fn unchoke_early(&self, io: &mut Io<'_>, id: MemberId) {
        let peer = self.members.get(id).map(|member| &member.stream.peer);
        let wants = peer.is_some_and(|p| p.peer_interested() && p.am_choking());
        if wants && self.has_free_slots() {
            let soon = io.now + GATHER;
            io.out
                .timers
                .at_latest(Timer::Torrent(self.id, TorrentTimer::Unchoke), soon);
        }
    }

    fn has_free_slots(&self) -> bool {
        self.is_exchanging() && self.choker.has_vacancy()
    }

    /// Those who wanted a free slot at about the same time are all known now.
    pub(super) fn fill_slots(&mut self, io: &mut Io<'_>) {
        if self.has_free_slots() {
            self.choke_round(io);
        }
    }

    /// A peer was sent `sent` more bytes. If a turn ended with them, another may have its slot.
    pub(super) fn end_turn(&mut self, io: &mut Io<'_>, id: MemberId, sent: u64) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        if !self.is_exchanging() {
            return;
        }
        let peer = &member.stream.peer;
        let Some(turn) = self.pace(io.throttle).map(Pace::turn) else {
            return;
        };
        let all = peer.totals().payload_up.saturating_sub(member.sent_before);
        if !peer.am_choking() && all / turn > all.saturating_sub(sent) / turn {
            self.choke_round(io);
        }
    }

    fn set_choke(&mut self, io: &mut Io<'_>, id: MemberId, choke: bool) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &mut member.stream.peer;
        if peer.am_choking() == choke {
            return;
        }
        if choke {
            peer.choke(io.pool);
            for at in core::mem::take(&mut member.uploads) {
                peer.reject(at);
            }
        } else {
            peer.unchoke();
            member.sent_before = peer.totals().payload_up;
        }
        member.choke_changed = io.now;
        io.refresh(member);
    }

    /// Where places are short, peers that neither side gains from make way.
    fn make_places(&mut self, io: &mut Io<'_>) {
        let short = self.is_full(&io.setup.config) || io.conns.len() >= io.max_conns();
        if !short || self.swarm.next_due().is_none_or(|due| due > io.now) {
            return;
        }
        let (patience, end) = match self.content {
            // It may have the metadata later.
            Content::Unknown(_) => (USELESS_FOR_METADATA, End::Resting("it has no metadata yet")),
            _ => (USELESS, End::Finished("neither side gained from it")),
        };
        let useless = self.members.iter().filter(|m| m.useful + patience < io.now);
        let oldest = useless.min_by_key(|m| m.useful).map(|m| m.id);
        if let Some(member) = oldest {
            self.close_member(io, member, end);
        }
    }

    /// Gives a connection up for a torrent that has `theirs` and waits for a place: the one that was
    /// of use least recently, and one that is of use only to a torrent that has none at all. Returns
    /// whether there was one.
    pub(super) fn give_place(&mut self, io: &mut Io<'_>, theirs: usize) -> bool {
        let urgent = theirs == 0 && self.members.len() > KEPT;
        let settled = |m: &&Member| m.established + SETTLED < io.now;
        let settled = self.members.iter().filter(settled);
        let least = settled.min_by_key(|m| m.useful);
        let least = least.filter(|m| urgent || m.useful + SETTLED < io.now);
        let Some(member) = least.map(|m| m.id) else {
            return false;
        };
        let end = End::Resting("another torrent needs the place");
        self.close_member(io, member, end);
        true
    }

    // ---- peer exchange (BEP 11) ----

    pub(super) fn pex_round(&mut self, io: &mut Io<'_>) {
        if self.is_private() || self.members.is_empty() {
            return;
        }
        // Also where nobody is told yet: the peers of a magnet stay while its files are checked,
        // and nothing else sets the timer until the next one connects.
        io.out.timers.set(
            Timer::Torrent(self.id, TorrentTimer::Pex),
            Some(io.now + PEX_INTERVAL),
        );
        if !self.is_running() {
            return;
        }
        let mut now_here: Vec<(SocketAddr, PexFlags)> = Vec::new();
        for member in self.members.iter() {
            let Some(addr) = member.listen else {
                continue;
            };
            let peer = &member.stream.peer;
            let seed = peer.is_seed() || peer.extended().is_some_and(|e| e.upload_only);
            let encrypted = peer.encryption() != StreamEncryption::None;
            let told = [
                (encrypted, PexFlags::ENCRYPTION),
                (seed, PexFlags::SEED),
                (!member.incoming, PexFlags::REACHABLE),
            ];
            let flags = told
                .iter()
                .filter(|(on, _)| *on)
                .fold(PexFlags::default(), |all, (_, f)| all.with(*f));
            now_here.push((addr, flags));
        }
        let here: BTreeSet<SocketAddr> = now_here.iter().map(|(addr, _)| *addr).collect();
        for member in self.members.iter_mut() {
            let own = member.listen;
            let peer = &mut member.stream.peer;
            if !peer.is_open() {
                continue;
            }
            let added: Vec<(SocketAddr, PexFlags)> = now_here
                .iter()
                .filter(|(addr, _)| Some(*addr) != own && !member.pex_told.contains(addr))
                .take(PEX_MOST)
                .copied()
                .collect();
            let dropped: Vec<SocketAddr> = member
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
            member.pex_told.extend(added.iter().map(|(addr, _)| *addr));
            for addr in &dropped {
                member.pex_told.remove(addr);
            }
            io.refresh(member);
        }
    }

    pub(super) fn on_pex(
        &mut self,
        io: &mut Io<'_>,
        id: MemberId,
        added: impl Iterator<Item = SocketAddr>,
    ) {
        if !io.setup.config.pex || self.is_private() {
            return;
        }
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.pex_heard.is_some_and(|at| at + PEX_HEARD > io.now) {
            return;
        }
        member.pex_heard = Some(io.now);
        let teller = member.stream.remote.ip();
        self.learn(io, added, Origin::pex(teller));
    }
}
