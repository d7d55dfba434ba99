//! Peer exchange (BEP 11).

use alloc::{collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use crate::peer::crypto::StreamEncryption;
use crate::torrent::Torrent;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::peer_list::Origin;
use crate::wire::extension::PexFlags;

/// The time between peer exchange messages (BEP 11: at most one per minute).
pub(crate) const PEX_INTERVAL: Duration = Duration::from_secs(60);
/// Messages that arrive sooner than this after the last one are ignored.
const PEX_HEARD: Duration = Duration::from_secs(45);
/// The maximum number of peers in one message (BEP 11).
const PEX_MOST: usize = 50;

impl Torrent {
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
        let mut now_here: Vec<(SocketAddr, PexFlags)> = Vec::new();
        for member in self.members.iter() {
            let Some(addr) = member.dialable else {
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
            let own = member.dialable;
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

    pub(crate) fn on_pex(
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
