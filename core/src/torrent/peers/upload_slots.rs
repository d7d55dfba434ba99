//! The upload slots of a torrent: the choker's decisions, and when it makes them.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::metainfo::Info;
use crate::throttle::Direction;
use crate::torrent::choker::{Choker, Slots};
use crate::torrent::conn::member::Member;
use crate::torrent::conn::members::Members;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::timers::{Timer, TorrentTimer};
use crate::torrent::pace::Pace;
use crate::wire::peer::allowed_fast_set;
use crate::{Bitfield, Config, TorrentId};

/// How long after the first peer wants one the free slots are assigned. Peers that become interested in the same piece at the
/// same time have the same chance; otherwise, the nearest would always be the first.
const GATHER: Duration = Duration::from_millis(50);
/// The size of the allowed fast set: pieces that a choked peer may request (BEP 6 suggests 10).
const ALLOWED_FAST: usize = 5;
/// How many allowed fast sets may be granted at once after a long upload.
const SETS_AT_ONCE: u64 = 4;

/// What the slots of a torrent depend on beside its peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Whether nothing is downloaded.
    pub(crate) seeding: bool,
    /// How uploads share their rate limit.
    pub(crate) pace: Option<Pace>,
    pub(crate) piece_len: u32,
}

/// What we have of a torrent, and what we gave of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Supply<'a> {
    pub(crate) have: &'a Bitfield,
    /// The payload bytes that were uploaded.
    pub(crate) uploaded: u64,
}

/// The upload slots of a torrent.
#[derive(Debug)]
pub(crate) struct UploadSlots {
    torrent: TorrentId,
    pub(crate) choker: Choker,
}

impl UploadSlots {
    pub(crate) fn new(torrent: TorrentId, config: &Config) -> Self {
        let slots = config.upload_slots.map_or(Slots::Auto, Slots::Fixed);
        Self {
            torrent,
            choker: Choker::new(slots),
        }
    }

    /// Assigns the slots, and chokes and unchokes the peers accordingly.
    pub(crate) fn assign(&mut self, io: &mut Io<'_>, members: &mut Members, terms: Terms) {
        let mut candidates = Vec::with_capacity(members.established());
        candidates.extend(
            members
                .iter()
                .map(|member| member.candidate(io.now, terms.piece_len.into())),
        );
        let mut changes = Vec::new();
        self.choker.set_pace(terms.pace);
        self.choker
            .round(&mut cx!(io), terms.seeding, &candidates, &mut changes);
        for (key, unchoke) in changes {
            let Some(member) = members.by_key_mut(key) else {
                continue;
            };
            if unchoke {
                member.unchoke(io.now);
            } else {
                member.choke(io.now, io.pool);
            }
            io.refresh(member);
        }
    }

    /// Assigns the slots if some are free: peers may have become interested in the meantime.
    pub(crate) fn fill(&mut self, io: &mut Io<'_>, members: &mut Members, terms: Terms) {
        if self.choker.has_vacancy() {
            self.assign(io, members, terms);
        }
    }

    /// A peer was sent `sent` more bytes. If its turn ends with them, its slot may go to another peer.
    pub(crate) fn end_turn(
        &mut self,
        io: &mut Io<'_>,
        members: &mut Members,
        (id, sent): (MemberId, u64),
        terms: Terms,
    ) {
        let (Some(member), Some(turn)) = (members.get(id), terms.pace.map(Pace::turn)) else {
            return;
        };
        let all = member.sent();
        if !member.stream.peer.am_choking() && all / turn > all.saturating_sub(sent) / turn {
            self.assign(io, members, terms);
        }
    }

    /// A peer became interested in the pieces `have`. It does not wait for the next round if a slot is free; otherwise, it is
    /// told the pieces that it may request without a slot.
    pub(crate) fn interested(
        &mut self,
        io: &mut Io<'_>,
        member: &mut Member,
        info: &Info,
        supply: Supply<'_>,
    ) {
        let peer = &member.stream.peer;
        if !peer.peer_interested() || !peer.am_choking() {
            return;
        }
        if self.choker.has_vacancy() {
            let timer = Timer::Torrent(self.torrent, TorrentTimer::Unchoke);
            io.out.timers.at_latest(timer, io.now + GATHER);
        } else {
            allow_fast(io, member, info, supply, &mut self.choker);
        }
    }

    /// A connection ended: if the peer had a slot, it is free.
    pub(crate) const fn peer_gone(&mut self, member: &Member) {
        if !member.stream.peer.am_choking() {
            self.choker.peer_gone();
        }
    }
}

/// Sends the allowed fast set to a new peer that waits for a slot, so that it gets pieces to trade (BEP 6). This is not
/// done under an upload limit: peers with slots would have to wait, and the first pieces of a seed with a slow uplink
/// would all be late. As an uplink may be slow without a limit, it is only done as far as [`Choker::promise`] allows, and
/// only for peers with fewer pieces than the set has (as in BEP 6). Without slots no peer is served.
fn allow_fast(
    io: &mut Io<'_>,
    member: &mut Member,
    info: &Info,
    supply: Supply<'_>,
    choker: &mut Choker,
) {
    let SocketAddr::V4(remote) = member.stream.remote else {
        return;
    };
    let peer = &mut member.stream.peer;
    let served = io.setup.config.upload_slots != Some(0);
    let limited = io.throttle.is_limited(member.bucket, Direction::Up);
    let starts = (peer.has().count() as usize) < ALLOWED_FAST;
    if peer.has_granted_fast() || limited || !served || !starts {
        return;
    }
    let mut set = allowed_fast_set(
        *remote.ip(),
        info.info_hash(),
        info.piece_count(),
        ALLOWED_FAST,
    );
    set.retain(|piece| supply.have.get(*piece));
    let piece_len = u64::from(info.piece_len());
    let most = SETS_AT_ONCE * ALLOWED_FAST as u64 * piece_len;
    if !choker.promise(supply.uploaded, set.len() as u64 * piece_len, most) {
        return;
    }
    for piece in set {
        peer.allow_fast(piece);
    }
    io.refresh(member);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;
    use crate::metainfo::Builder;
    use crate::throttle::BucketId;
    use crate::torrent::conn::{Conn, Opened, sample};
    use crate::torrent::surroundings::Surroundings;
    use crate::wire::peer::Message;

    const TORRENT: TorrentId = TorrentId(1);
    const UNCHOKE: Timer = Timer::Torrent(TORRENT, TorrentTimer::Unchoke);
    const TERMS: Terms = Terms {
        seeding: true,
        pace: None,
        piece_len: 1 << 14,
    };

    /// A peer that is interested joins.
    fn join(io: &mut Io<'_>, members: &mut Members, n: u8) -> MemberId {
        let ids = (PeerId([99; 20]), PeerId([n; 20]));
        let mut greeting = sample::greeting(n, n, ids, false);
        let mut interested = Vec::new();
        Message::Interested.emit(&mut interested);
        sample::receive(&mut cx!(io), &mut greeting.stream.peer, &interested);
        assert!(greeting.stream.peer.peer_interested());
        let bucket = io.throttle.add(BucketId::ROOT);
        let Opened::ByUs(dialing) = greeting.opened else {
            panic!("it was dialled")
        };
        let link = greeting.stream.link;
        let conn = io
            .conns
            .insert(dialing.addr, |_| Conn::Dialing(dialing, link));
        io.conns.opened(conn, greeting);
        let new = |id, greeting| Member::new(id, io.now, bucket, greeting);
        members.join(io.conns, (TORRENT, conn), new).unwrap().id
    }

    #[test]
    fn a_slot_that_becomes_free_is_assigned_between_rounds() {
        let mut around = Surroundings::new(Config {
            upload_slots: Some(1),
            ..Config::default()
        });
        let mut builder = Builder::file("a.bin", 64 << 14);
        builder.piece_len = Some(1 << 14);
        let info = builder
            .draft()
            .unwrap()
            .finish(&[[0; 20]; 64])
            .unwrap()
            .info;
        let mut have = Bitfield::new(64);
        (0..64).for_each(|piece| _ = have.set(piece));
        let mut slots = UploadSlots::new(TORRENT, &around.setup.config);
        let mut members = Members::default();
        let io = &mut around.io();
        let here = [1, 2].map(|n| join(io, &mut members, n));
        let unchoked = |members: &Members| {
            let served = |id: &MemberId| !members.get(*id).unwrap().stream.peer.am_choking();
            here.iter().copied().filter(served).collect::<Vec<_>>()
        };

        // A slot is free: it is assigned soon, and not to whoever asked first.
        let first = members.get_mut(here[0]).unwrap();
        let fresh = Supply {
            have: &have,
            uploaded: 0,
        };
        slots.interested(io, first, &info, fresh);
        assert_eq!(io.out.timers.next(), Some((io.now + GATHER, UNCHOKE)));
        assert!(!first.stream.peer.has_granted_fast());
        slots.fill(io, &mut members, TERMS);
        let [served] = unchoked(&members)[..] else {
            panic!("one slot")
        };

        // None is free: the other one waits. Once enough was uploaded, it is told what it may request all the same.
        let other = here[usize::from(served == here[0])];
        let waiting = members.get_mut(other).unwrap();
        slots.interested(io, waiting, &info, fresh);
        assert!(!waiting.stream.peer.has_granted_fast());
        let busy = Supply {
            uploaded: 8 * ALLOWED_FAST as u64 * u64::from(TERMS.piece_len),
            ..fresh
        };
        slots.interested(io, waiting, &info, busy);
        assert!(waiting.stream.peer.has_granted_fast());
        slots.fill(io, &mut members, TERMS);
        assert_eq!(unchoked(&members), [served]);

        // The first one leaves.
        slots.peer_gone(&members.remove(served).unwrap());
        slots.fill(io, &mut members, TERMS);
        assert!(!members.get(other).unwrap().stream.peer.am_choking());
    }
}
