//! The metadata of a magnet (BEP 9): downloaded from peers in pieces of 16 KiB, and served to them.

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use super::Content;
use super::fetch::{Accepted, Offer};
use crate::metainfo::{Error, Info, Problem};
use crate::sync::Arc;
use crate::torrent::Torrent;
use crate::torrent::conn::member::{Member, MetadataAsked};
use crate::torrent::io::Io;
use crate::torrent::member_id::MemberId;
use crate::torrent::outbox::event::{Changes, Level, What};
use crate::{BLOCK_LEN, Instant};

/// How long a peer may take for a piece before another one is requested from it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait before asking a peer again that refused, or sent what contradicts its own claim.
const PAUSE: Duration = Duration::from_secs(60);
/// The maximum number of peers that are asked for the same piece.
const MAX_ASKED: u32 = 3;

impl Torrent {
    /// Requests a piece of the metadata from every peer that can be asked: one that no peer was asked for or, if there is none,
    /// one that few peers were asked for. O(peers + pieces).
    pub(crate) fn request_metadata(&mut self, io: &mut Io<'_>) {
        let Content::Unknown(fetch) = &mut self.content else {
            return;
        };
        if self.paused || !self.standing.is_up() {
            return;
        }
        let members = self.members.iter();
        let offers: Vec<Offer> = members.filter_map(|m| offer(m, io.now)).collect();
        for lost in fetch.schedule(io.now, &offers) {
            for offer in offers.iter().filter(|c| lost.serves(c.member, c.size)) {
                if let Some(member) = self.members.get_mut(offer.member) {
                    member.metadata_turns += 1;
                }
            }
        }
        // How many peers were asked for each piece of each attempt.
        let mut asked: BTreeMap<(usize, u32), u32> = BTreeMap::new();
        let mut idle = Vec::new();
        for offer in &offers {
            let member = self.members.get(offer.member);
            let out = member.and_then(|m| m.metadata_asked);
            match out.filter(|out| out.at + PATIENCE > io.now) {
                Some(out) => {
                    if let Some((attempt, _)) = fetch.attempt(offer.member, out.size) {
                        *asked.entry((attempt, out.piece)).or_default() += 1;
                    }
                }
                None => idle.push(*offer),
            }
        }
        // No piece before this index is free, so that each attempt is scanned once.
        let mut free_from: BTreeMap<usize, u32> = BTreeMap::new();
        for Offer {
            member: id, size, ..
        } in idle
        {
            let Some((place, attempt)) = fetch.attempt(id, size) else {
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
            let (Some(piece), Some(member)) = (next, self.members.get_mut(id)) else {
                continue;
            };
            *asked.entry((place, piece)).or_default() += 1;
            member.metadata_asked = Some(MetadataAsked {
                piece,
                size,
                at: io.now,
            });
            member.stream.peer.metadata_request(piece);
            io.refresh(member);
        }
    }

    /// Handles a piece of the metadata. It was requested, but perhaps long ago.
    pub(crate) fn on_metadata(&mut self, io: &mut Io<'_>, id: MemberId, index: u32, data: Vec<u8>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let asked = member.metadata_asked.filter(|asked| asked.piece == index);
        if asked.is_some() {
            member.metadata_asked = None;
            member.useful = io.now;
        }
        let from = member.addr();
        let claimed = member.stream.peer.metadata_size();
        let Some(size) = asked.map(|a| a.size).or(claimed) else {
            return;
        };
        let Content::Unknown(fetch) = &mut self.content else {
            return;
        };
        if !self.standing.is_up() {
            return;
        }
        let most = io.setup.peer_config.max_metadata as usize;
        match fetch.accept((id, size), (index, data), from, most) {
            // Only an answer to the last request can contradict the present claim.
            Accepted::Wrong if asked.is_some() => member.metadata_pause = Some(io.now + PAUSE),
            Accepted::Wrong | Accepted::Taken => {}
            Accepted::Whole(raw, sender) => self.judge_metadata(io, raw, sender),
        }
        self.request_metadata(io);
    }

    /// Checks assembled metadata. `sender` is the only peer that it came from, if there was only one.
    fn judge_metadata(&mut self, io: &mut Io<'_>, raw: Vec<u8>, sender: Option<SocketAddr>) {
        match Info::from_metadata(raw, self.info_hash) {
            Ok(info) => {
                io.out
                    .notice(Some(self.id), None, Level::Info, What::Metadata);
                self.change(io, Changes::METADATA);
                self.open_files(io, Arc::new(info));
            }
            Err(Error {
                problem: Problem::WrongHash(_),
                ..
            }) => match sender {
                Some(sender) => self.ban(io, sender),
                None => {
                    if let Content::Unknown(fetch) = &mut self.content {
                        fetch.part();
                    }
                }
            },
            // The hash matches and the content is unusable, so no peer has better metadata.
            Err(error) => {
                let detail = alloc::format!("the metadata of this magnet is not usable: {error}");
                self.disk_failed(
                    io,
                    crate::OpError {
                        kind: crate::OpErrorKind::Unsupported,
                        detail,
                    },
                );
            }
        }
    }

    /// A peer rejected a request for metadata.
    pub(crate) fn on_no_metadata(&mut self, io: &mut Io<'_>, id: MemberId, piece: u32) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member
            .metadata_asked
            .is_some_and(|asked| asked.piece == piece)
        {
            member.metadata_asked = None;
        }
        member.metadata_pause = Some(io.now + PAUSE);
        self.request_metadata(io);
    }

    /// A peer requests a piece of the metadata.
    pub(crate) fn serve_metadata(&mut self, id: MemberId, index: u32) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        let peer = &mut member.stream.peer;
        let piece = self.content.info().and_then(|info| {
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

/// The claim of a peer, if it may be asked now.
fn offer(member: &Member, now: Instant) -> Option<Offer> {
    if member.metadata_pause.is_some_and(|until| until > now) {
        return None;
    }
    let size = member.stream.peer.metadata_size()?;
    (size > 0).then_some(Offer {
        member: member.id,
        size,
        turns: member.metadata_turns,
    })
}
