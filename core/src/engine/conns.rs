//! The table of connections: slots with generations, so that a stale id is recognised.

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use core::net::SocketAddr;

use super::Interest;
use super::counts::Counts;
use super::prefix::Prefix;
use super::status::PeerSource;
use crate::peer::Peer;
use crate::throttle::BucketId;
use crate::torrent::picker::{PeerKey, PickState};
use crate::{BLOCK_LEN, Bitfield, BlockRef, ConnId, InfoHash, Instant, PeerId, TorrentId};

/// Bits of a [`PeerKey`] that name the slot; the rest carry its generation, so that a piece in
/// the making does not blame a successor.
const KEY_BITS: u32 = 20;
/// Most connections: what a [`PeerKey`] can name.
pub(super) const MAX_CONNS: usize = 1 << KEY_BITS;

/// The picker's name for a connection.
pub(super) const fn key(id: ConnId) -> PeerKey {
    (id.generation & 0x1ff) << KEY_BITS | (id.index & (MAX_CONNS as u32 - 1))
}

/// A metadata request that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct MetadataAsked {
    pub(super) piece: u32,
    /// Bytes of the whole, as the peer claimed then: its answer is judged by that.
    pub(super) size: u32,
    pub(super) at: Instant,
}

/// What a connection holds of the blocks for uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holding {
    /// Blocks that are ready for it or being read.
    blocks: u32,
    /// It asks for blocks, or holds some.
    uploads: bool,
}

/// One stream and what the engine knows of it beyond the wire.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    /// Whom the stream leads to.
    pub(super) remote: SocketAddr,
    /// The address it is known by in the swarm: `remote`, or for incoming ones the same host
    /// with the port it says it listens on.
    pub(super) listen: Option<SocketAddr>,
    pub(super) source: PeerSource,
    pub(super) incoming: bool,
    /// The torrent, once known.
    pub(super) torrent: Option<TorrentId>,
    /// The wire, once the stream is open.
    pub(super) peer: Option<Peer>,
    /// Outgoing: whether encryption is tried.
    pub(super) encrypt: bool,
    /// Handshakes through since.
    pub(super) established: Option<Instant>,
    /// Node of the throttle tree.
    pub(super) bucket: Option<BucketId>,
    /// What it may pass, and has passed, while its bucket is dry.
    pub(super) allowance: Allowances,
    /// What the driver was told last.
    pub(super) told: Interest,
    /// In the list of connections the driver should hear of.
    pub(super) listed: bool,
    /// Its pieces as the picker was told of them.
    pub(super) counted: Bitfield,
    /// What the picker remembers of it.
    pub(super) pick: PickState,
    /// Requests of the peer that were not read from disk yet.
    pub(super) uploads: VecDeque<BlockRef>,
    /// Blocks being read from disk for it.
    pub(super) reading: u32,
    /// What it holds as [`Conns`] has counted it.
    settled: Holding,
    /// Waits for blocks of the pool.
    pub(super) starved: bool,
    /// We wait for its answer to a metadata request (BEP 9).
    pub(super) metadata_asked: Option<MetadataAsked>,
    /// It is not asked for metadata until then: it said no, or what it said was wrong.
    pub(super) metadata_pause: Option<Instant>,
    /// Attempts to fetch the metadata that it took part in and that were too slow.
    pub(super) metadata_turns: u32,
    /// The peers it was told of (BEP 11).
    pub(super) pex_told: BTreeSet<SocketAddr>,
    /// When it told us last; faster ones are ignored.
    pub(super) pex_heard: Option<Instant>,
    /// It told the port of its DHT node (BEP 5).
    pub(super) dht_port_told: bool,
    /// When we choked or unchoked it last.
    pub(super) choke_changed: Option<Instant>,
    /// Payload it had been sent when it was unchoked last.
    pub(super) sent_before: u64,
    /// The last moment either side had something to gain.
    pub(super) useful: Instant,
}

impl Conn {
    pub(super) fn new(id: ConnId, now: Instant, remote: SocketAddr, source: PeerSource) -> Self {
        Self {
            id,
            remote,
            listen: None,
            source,
            incoming: source == PeerSource::Incoming,
            torrent: None,
            peer: None,
            encrypt: false,
            established: None,
            bucket: None,
            allowance: Allowances::default(),
            told: Interest::default(),
            listed: false,
            counted: Bitfield::new(0),
            pick: PickState::default(),
            uploads: VecDeque::new(),
            reading: 0,
            settled: Holding::default(),
            starved: false,
            metadata_asked: None,
            metadata_pause: None,
            metadata_turns: 0,
            pex_told: BTreeSet::new(),
            pex_heard: None,
            dht_port_told: false,
            choke_changed: None,
            sent_before: 0,
            useful: now,
        }
    }

    /// What it holds of the blocks for uploads.
    fn holding(&self) -> Holding {
        let Some(peer) = &self.peer else {
            return Holding::default();
        };
        let blocks = self.reading + peer.queued_payload().div_ceil(BLOCK_LEN) as u32;
        Holding {
            blocks,
            uploads: blocks > 0 || !self.uploads.is_empty(),
        }
    }

    /// The torrent that it asked for, and who it is, while it has no answer.
    pub(super) fn waits_for(&self) -> Option<(InfoHash, PeerId)> {
        let peer = self.peer.as_ref().filter(|_| self.torrent.is_none())?;
        Some((peer.info_hash()?, peer.peer_id()?))
    }

    /// What the driver should be told.
    pub(super) fn interest(&self) -> Interest {
        Interest {
            read: self.peer.is_some() && self.waits_for().is_none(),
            write: self
                .peer
                .as_ref()
                .is_some_and(|peer| match self.allowance.held {
                    None => peer.wants_write(),
                    Some(stopped) => {
                        peer.control_waits(stopped) && (stopped || self.allowance.up.left() > 0)
                    }
                }),
        }
    }
}

/// Most bytes of control messages that pass one way while the bucket is dry, from one turn to the
/// next: 120 requests. They are charged all the same. Without it a `have` of 9 bytes would wait as
/// long as the 16 KiB of others before it; without a bound a flood would take it all.
const ALLOWANCE: u32 = 2048;

/// What may pass a dry bucket one way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    used: u32,
    /// The list that the driver has is for control messages only.
    active: bool,
}

impl Allowance {
    /// It is its turn: the bucket was not dry.
    pub(super) const fn turn(&mut self) {
        *self = Self {
            used: 0,
            active: false,
        };
    }

    /// The bucket is dry: how many bytes of control messages may pass.
    pub(super) const fn dry(&mut self) -> u32 {
        self.active = true;
        self.left()
    }

    pub(super) const fn left(&self) -> u32 {
        ALLOWANCE.saturating_sub(self.used)
    }

    /// Takes note of bytes that passed.
    pub(super) const fn passed(&mut self, bytes: u32) {
        if self.active {
            self.used = self.used.saturating_add(bytes);
        }
    }
}

/// The allowances of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowances {
    pub(super) down: Allowance,
    pub(super) up: Allowance,
    /// Payload waits for the bucket; whether for good, because the limit is 0.
    pub(super) held: Option<bool>,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<(u32, Option<Box<Conn>>)>,
    free: Vec<u32>,
    used: usize,
    /// How many there are with each prefix.
    prefixes: Counts<Prefix>,
    /// The same of each torrent.
    of_torrents: Counts<(TorrentId, Prefix)>,
    /// Blocks for uploads that those with each prefix hold.
    held: Counts<Prefix>,
    /// Connections that ask for blocks or hold some.
    uploading: u32,
    /// Incoming ones whose handshake has not come yet, oldest first.
    greeting: VecDeque<ConnId>,
    /// Those the driver should hear of.
    changed: VecDeque<ConnId>,
}

impl Conns {
    /// Takes a slot.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        source: PeerSource,
    ) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, slot) = &mut self.slots[index as usize];
        let id = ConnId {
            index,
            generation: *generation,
        };
        *slot = Some(Box::new(Conn::new(id, now, remote, source)));
        self.used += 1;
        self.prefixes.add(Prefix::of(remote.ip()), 1);
        id
    }

    /// A connection belongs to a torrent from now on.
    pub(super) fn join(&mut self, id: ConnId, torrent: TorrentId) -> Option<&mut Conn> {
        let remote = self.get(id).filter(|conn| conn.torrent.is_none())?.remote;
        self.of_torrents.add((torrent, Prefix::of(remote.ip())), 1);
        let conn = self.get_mut(id)?;
        conn.torrent = Some(torrent);
        Some(conn)
    }

    /// Takes a slot for a stream that somebody opened to us.
    pub(super) fn accept(&mut self, now: Instant, remote: SocketAddr) -> ConnId {
        let id = self.insert(now, remote, PeerSource::Incoming);
        self.greeting.push_back(id);
        id
    }

    /// A peer's handshake came, or it is gone.
    pub(super) fn greeted(&mut self, id: ConnId) {
        if let Some(at) = self.greeting.iter().position(|g| *g == id) {
            self.greeting.remove(at);
        }
    }

    /// Incoming connections whose handshake has not come yet, oldest first.
    pub(super) fn greeting(&self) -> impl ExactSizeIterator<Item = ConnId> {
        self.greeting.iter().copied()
    }

    /// Those of them with a prefix.
    pub(super) fn greeting_from(&self, prefix: Prefix) -> impl Iterator<Item = ConnId> {
        let from = move |id: &ConnId| {
            let conn = self.get(*id);
            conn.is_some_and(|c| Prefix::of(c.remote.ip()) == prefix)
        };
        self.greeting().filter(from)
    }

    /// How many there are with a prefix.
    pub(super) fn count_from(&self, prefix: Prefix) -> u32 {
        self.prefixes.of(&prefix)
    }

    /// How many of a torrent there are with a prefix.
    pub(super) fn count_with(&self, torrent: TorrentId, prefix: Prefix) -> u32 {
        self.of_torrents.of(&(torrent, prefix))
    }

    /// Takes note of the blocks that a connection holds, where they may have changed.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.get_mut(id) else {
            return;
        };
        let now = conn.holding();
        let then = core::mem::replace(&mut conn.settled, now);
        if now != then {
            let prefix = Prefix::of(conn.remote.ip());
            self.settled(prefix, then, now);
        }
    }

    fn settled(&mut self, prefix: Prefix, then: Holding, now: Holding) {
        if now.blocks > then.blocks {
            self.held.add(prefix, now.blocks - then.blocks);
        } else {
            self.held.remove(&prefix, then.blocks - now.blocks);
        }
        self.uploading -= u32::from(then.uploads);
        self.uploading += u32::from(now.uploads);
    }

    /// How many connections ask for blocks or hold some, and how many blocks are held by the
    /// others with the prefix of `id`.
    pub(super) fn uploading_beside(&self, id: ConnId) -> Option<(u32, u32)> {
        let conn = self.get(id)?;
        let held = self.held.of(&Prefix::of(conn.remote.ip()));
        Some((self.uploading, held - conn.settled.blocks))
    }

    /// Whether all counters say what is so. O(connections).
    pub(super) fn is_counted_right(&self) -> bool {
        let mut right = Self::default();
        for conn in self.iter() {
            let prefix = Prefix::of(conn.remote.ip());
            right.prefixes.add(prefix, 1);
            if let Some(torrent) = conn.torrent {
                right.of_torrents.add((torrent, prefix), 1);
            }
            right.settled(prefix, Holding::default(), conn.holding());
        }
        self.prefixes == right.prefixes
            && self.of_torrents == right.of_torrents
            && self.held == right.held
            && self.uploading == right.uploading
    }

    /// Frees a slot; its id is stale from here on.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Box<Conn>> {
        let conn = self.get(id)?;
        let (prefix, torrent) = (Prefix::of(conn.remote.ip()), conn.torrent);
        let settled = conn.settled;
        if conn.incoming && torrent.is_none() {
            self.greeted(id);
        }
        self.prefixes.remove(&prefix, 1);
        if let Some(torrent) = torrent {
            self.of_torrents.remove(&(torrent, prefix), 1);
        }
        self.settled(prefix, settled, Holding::default());
        let (generation, slot) = &mut self.slots[id.index as usize];
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        self.used -= 1;
        slot.take()
    }

    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        let (generation, conn) = self.slots.get(id.index as usize)?;
        conn.as_deref().filter(|_| *generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let (generation, conn) = self.slots.get_mut(id.index as usize)?;
        conn.as_deref_mut().filter(|_| *generation == id.generation)
    }

    /// The connection the picker knows by `peer`.
    pub(super) fn by_key(&self, peer: PeerKey) -> Option<&Conn> {
        self.at(peer & (MAX_CONNS as u32 - 1))
            .filter(|c| key(c.id) == peer)
    }

    /// The connection in a slot, whatever its generation.
    pub(super) fn at(&self, index: u32) -> Option<&Conn> {
        self.slots.get(index as usize)?.1.as_deref()
    }

    /// The connection in a slot, whatever its generation.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut Conn> {
        self.slots.get_mut(index as usize)?.1.as_deref_mut()
    }

    /// Any connection, the lowest slot first.
    pub(super) fn first(&self) -> Option<ConnId> {
        self.slots
            .iter()
            .find_map(|(_, conn)| conn.as_ref().map(|c| c.id))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Conn> {
        self.slots.iter().filter_map(|(_, conn)| conn.as_deref())
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.used
    }

    /// Something was done with a connection: takes note of the blocks that it holds, and puts it
    /// on the list for the driver if there is news.
    pub(super) fn refresh(&mut self, id: ConnId) {
        self.settle(id);
        if let Some(conn) = self.get_mut(id)
            && !conn.listed
            && conn.interest() != conn.told
        {
            conn.listed = true;
            self.changed.push_back(id);
        }
    }

    /// The next connection with news.
    pub(super) fn poll_changed(&mut self) -> Option<(ConnId, Interest)> {
        loop {
            let id = self.changed.pop_front()?;
            let Some(conn) = self.get_mut(id) else {
                continue;
            };
            conn.listed = false;
            let interest = conn.interest();
            if interest != conn.told {
                conn.told = interest;
                return Some((id, interest));
            }
        }
    }

    /// Whether [`Conns::poll_changed`] may yield something.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }
}
