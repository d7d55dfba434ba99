//! Choking: the choker's rounds, and the upload slots that are assigned between rounds.

use alloc::vec::Vec;
use core::time::Duration;

use crate::torrent::Torrent;
use crate::torrent::choker::Candidate;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::pace::Pace;

/// How long after the first peer wants one the free upload slots are assigned. Peers that become interested in the same
/// piece at the same time have the same chance; otherwise, the nearest would always be the first.
const GATHER: Duration = Duration::from_millis(50);

impl Torrent {
    pub(crate) fn choke_round(&mut self, io: &mut Io<'_>) {
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

    /// A peer became interested: it does not wait for the next round if a slot is free.
    pub(crate) fn unchoke_early(&self, io: &mut Io<'_>, id: MemberId) {
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

    /// Assigns the free slots to the peers that became interested in the meantime.
    pub(crate) fn fill_slots(&mut self, io: &mut Io<'_>) {
        if self.has_free_slots() {
            self.choke_round(io);
        }
    }

    /// A peer was sent `sent` more bytes. If its turn ends with them, its slot may go to another peer.
    pub(crate) fn end_turn(&mut self, io: &mut Io<'_>, id: MemberId, sent: u64) {
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
}
