//! The metadata of a magnet (BEP 9): downloaded from peers in pieces of 16 KiB, and served to them.

use alloc::{collections::BTreeMap, vec::Vec};
use core::time::Duration;

use super::fetch::{Accepted, Fetch, Offer};
use crate::metainfo::Info;
use crate::peer::Peer;
use crate::torrent::conn::member::{Member, MetadataAsked};
use crate::torrent::conn::members::Members;
use crate::torrent::io::Io;
use crate::{BLOCK_LEN, Instant};

/// How long a peer may take for a piece before another one is requested from it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to wait before asking a peer again that refused, or sent what contradicts its own claim.
const PAUSE: Duration = Duration::from_secs(60);
/// The maximum number of peers that are asked for the same piece.
const MAX_ASKED: u32 = 3;

/// Requests a piece of the metadata from every peer that can be asked: one that no peer was asked for or, if there is none, one
/// that few peers were asked for. O(peers + pieces).
pub(crate) fn request(io: &mut Io<'_>, fetch: &mut Fetch, members: &mut Members) {
    let offers = members.iter().filter_map(|m| offer(m, io.now));
    let offers: Vec<Offer> = offers.collect();
    for lost in fetch.schedule(io.now, &offers) {
        for offer in offers.iter().filter(|c| lost.serves(c.member, c.size)) {
            if let Some(member) = members.get_mut(offer.member) {
                member.metadata_turns += 1;
            }
        }
    }
    // How many peers were asked for each piece of each attempt.
    let mut asked: BTreeMap<(usize, u32), u32> = BTreeMap::new();
    let mut idle = Vec::new();
    for offer in &offers {
        let member = members.get(offer.member);
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
        let (Some(piece), Some(member)) = (next, members.get_mut(id)) else {
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

/// A peer sent a piece of the metadata. Returns our request, if this answers the last one.
pub(crate) fn answered(member: &mut Member, now: Instant, index: u32) -> Option<MetadataAsked> {
    let asked = member.metadata_asked.filter(|asked| asked.piece == index)?;
    member.metadata_asked = None;
    member.useful = now;
    Some(asked)
}

/// A peer rejected a request for metadata.
pub(crate) fn refused(member: &mut Member, now: Instant, index: u32) {
    if member
        .metadata_asked
        .is_some_and(|asked| asked.piece == index)
    {
        member.metadata_asked = None;
    }
    member.metadata_pause = Some(now + PAUSE);
}

/// Adds a piece of the metadata, which was requested, but perhaps long ago. `None` if the peer has never told the size.
pub(crate) fn accept(
    io: &Io<'_>,
    fetch: &mut Fetch,
    member: &mut Member,
    asked: Option<MetadataAsked>,
    piece: (u32, Vec<u8>),
) -> Option<Accepted> {
    let claimed = member.stream.peer.metadata_size();
    let size = asked.map(|asked| asked.size).or(claimed)?;
    let most = io.setup.peer_config.max_metadata as usize;
    let accepted = fetch.accept((member.id, size), piece, member.addr(), most);
    // Only an answer to the last request can contradict the present claim.
    if asked.is_some() && matches!(accepted, Accepted::Wrong) {
        member.metadata_pause = Some(io.now + PAUSE);
    }
    Some(accepted)
}

/// A peer requests a piece of the metadata.
pub(crate) fn serve(peer: &mut Peer, info: Option<&Info>, index: u32) {
    let piece = info.and_then(|info| {
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
