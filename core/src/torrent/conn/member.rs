//! The peers of a torrent: connections whose handshakes are through.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::net::SocketAddr;

use super::stream::Stream;
use super::{Greeting, Holding, Opened};
use crate::throttle::BucketId;
use crate::torrent::counts::Counts;
use crate::torrent::member_id::MemberId;
use crate::torrent::picker::{PeerKey, PickState};
use crate::torrent::prefix::Prefix;
use crate::torrent::status::PeerSource;
use crate::{BLOCK_LEN, Bitfield, BlockRef, ConnId, Instant};

/// A metadata request that is out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetadataAsked {
    pub(crate) piece: u32,
    /// Bytes of the whole, as the peer claimed then: its answer is judged by that.
    pub(crate) size: u32,
    pub(crate) at: Instant,
}

/// A peer of a torrent, and what the torrent knows of it beyond the wire.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) stream: Stream,
    /// The address it is known by to others: that of the stream, or for incoming ones the same
    /// host with the port it says it listens on.
    pub(crate) dialable: Option<SocketAddr>,
    pub(crate) source: PeerSource,
    pub(crate) incoming: bool,
    /// Handshakes through since.
    pub(crate) established: Instant,
    /// Node of the throttle tree.
    pub(crate) bucket: BucketId,
    /// Its pieces as the picker was told of them.
    pub(crate) counted: Bitfield,
    /// What the picker remembers of it.
    pub(crate) pick: PickState,
    /// Requests of the peer that were not read from disk yet.
    pub(crate) uploads: VecDeque<BlockRef>,
    /// Blocks being read from disk for it.
    pub(crate) reading: u32,
    /// What it holds as [`Conns`](super::table::Conns) has counted it.
    pub(crate) holds: Holding,
    /// We wait for its answer to a metadata request (BEP 9).
    pub(crate) metadata_asked: Option<MetadataAsked>,
    /// It is not asked for metadata until then: it said no, or what it said was wrong.
    pub(crate) metadata_pause: Option<Instant>,
    /// Attempts to fetch the metadata that it took part in and that were too slow.
    pub(crate) metadata_turns: u32,
    /// The peers it was told of (BEP 11).
    pub(crate) pex_told: BTreeSet<SocketAddr>,
    /// When it told us last; faster ones are ignored.
    pub(crate) pex_heard: Option<Instant>,
    /// It told the port of its DHT node (BEP 5).
    pub(crate) dht_port_told: bool,
    /// When we choked or unchoked it last.
    pub(crate) choke_changed: Instant,
    /// Payload it had been sent when it was unchoked last.
    pub(crate) sent_before: u64,
    /// The last moment either side had something to gain.
    pub(crate) useful: Instant,
}

impl Member {
    /// The peer at the end of a connection whose handshakes are through.
    pub(crate) fn new(id: MemberId, now: Instant, bucket: BucketId, greeting: Greeting) -> Self {
        let Greeting { mut stream, opened } = greeting;
        stream.bucket = Some(bucket);
        let (dialable, source) = match opened {
            Opened::ByUs(dialing) => (Some(dialing.addr), dialing.source),
            Opened::ByPeer(_) => (None, PeerSource::Incoming),
        };
        Self {
            id,
            stream,
            dialable,
            source,
            incoming: matches!(opened, Opened::ByPeer(_)),
            established: now,
            bucket,
            counted: Bitfield::new(0),
            pick: PickState::default(),
            uploads: VecDeque::new(),
            reading: 0,
            holds: Holding::default(),
            metadata_asked: None,
            metadata_pause: None,
            metadata_turns: 0,
            pex_told: BTreeSet::new(),
            pex_heard: None,
            dht_port_told: false,
            choke_changed: now,
            sent_before: 0,
            useful: now,
        }
    }

    /// The address to call it by: where it listens, if that is known.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.dialable.unwrap_or(self.stream.remote)
    }

    /// What it holds of the blocks for uploads.
    pub(crate) fn holding(&self) -> Holding {
        let queued = self.stream.peer.queued_payload();
        let blocks = self.reading + queued.div_ceil(BLOCK_LEN) as u32;
        Holding {
            blocks,
            uploads: blocks > 0 || !self.uploads.is_empty(),
        }
    }
}

/// All connections of a torrent.
#[derive(Debug, Default)]
pub(crate) struct Members {
    slots: Vec<(u32, Option<Box<Member>>)>,
    /// The one that has been free for longest is used first, so that names repeat late.
    free: VecDeque<u32>,
    used: usize,
    /// Those whose handshakes are not through, and the addresses that were dialled.
    connecting: BTreeMap<ConnId, Option<SocketAddr>>,
    /// How many there are with each prefix, those included.
    prefixes: Counts<Prefix>,
}

impl Members {
    /// A connection belongs to the torrent, and its handshakes are not through; `dialled`: the
    /// address, if we opened it.
    pub(crate) fn connecting(
        &mut self,
        id: ConnId,
        remote: SocketAddr,
        dialled: Option<SocketAddr>,
    ) {
        self.connecting.insert(id, dialled);
        self.prefixes.add(Prefix::of(remote.ip()), 1);
    }

    /// A connection whose handshakes were not through is gone.
    pub(crate) fn given_up(&mut self, id: ConnId, remote: SocketAddr) {
        if self.connecting.remove(&id).is_some() {
            self.prefixes.remove(&Prefix::of(remote.ip()), 1);
        }
    }

    /// Those whose handshakes are not through.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = ConnId> {
        self.connecting.keys().copied()
    }

    /// How many of them there are.
    pub(crate) fn unfinished_len(&self) -> usize {
        self.connecting.len()
    }

    /// The handshakes of a connection are through.
    pub(crate) fn insert(
        &mut self,
        conn: ConnId,
        make: impl FnOnce(MemberId) -> Member,
    ) -> MemberId {
        self.connecting.remove(&conn);
        let index = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, slot) = &mut self.slots[index as usize];
        let id = MemberId::new(index, *generation);
        *slot = Some(Box::new(make(id)));
        self.used += 1;
        id
    }

    /// Frees a slot; its name is stale from here on.
    pub(crate) fn remove(&mut self, id: MemberId) -> Option<Box<Member>> {
        self.get(id)?;
        let (generation, slot) = self.slots.get_mut(id.index())?;
        *generation = generation.wrapping_add(1);
        let member = slot.take()?;
        self.free.push_back(id.index() as u32);
        self.used -= 1;
        self.prefixes
            .remove(&Prefix::of(member.stream.remote.ip()), 1);
        Some(member)
    }

    pub(crate) fn get(&self, id: MemberId) -> Option<&Member> {
        let (generation, member) = self.slots.get(id.index())?;
        member.as_deref().filter(|_| *generation == id.generation())
    }

    pub(crate) fn get_mut(&mut self, id: MemberId) -> Option<&mut Member> {
        let (generation, member) = self.slots.get_mut(id.index())?;
        member
            .as_deref_mut()
            .filter(|_| *generation == id.generation())
    }

    /// The peer that the picker knows by `key`.
    pub(crate) fn by_key(&self, key: PeerKey) -> Option<&Member> {
        let (_, member) = self.slots.get(MemberId::slot(key))?;
        member.as_deref().filter(|member| member.id.key() == key)
    }

    /// The peers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.slots
            .iter()
            .filter_map(|(_, member)| member.as_deref())
    }

    /// The peers.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        let slots = self.slots.iter_mut();
        slots.filter_map(|(_, member)| member.as_deref_mut())
    }

    /// The names of all peers, for those who may lose some on the way.
    pub(crate) fn ids(&self) -> Vec<MemberId> {
        self.iter().map(|member| member.id).collect()
    }

    /// How many peers there are.
    pub(crate) const fn established(&self) -> usize {
        self.used
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.used + self.connecting.len()
    }

    /// Whether there is no connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many connections there are with a prefix.
    pub(crate) fn count_with(&self, prefix: Prefix) -> u32 {
        self.prefixes.of(&prefix)
    }

    /// Whether a connection leads, or is to lead, to an address that others know.
    pub(crate) fn uses(&self, addr: SocketAddr) -> bool {
        self.iter().any(|member| member.dialable == Some(addr))
            || self.connecting.values().any(|to| *to == Some(addr))
    }

    /// Whether the counters say what is so. `remote`: whom a connection leads to.
    pub(crate) fn is_counted_right(&self, remote: impl Fn(ConnId) -> Option<SocketAddr>) -> bool {
        let mut right = Counts::default();
        let established = self.iter().map(|member| Some(member.stream.remote));
        let unfinished = self.unfinished().map(remote);
        for remote in established.chain(unfinished) {
            let Some(remote) = remote else {
                return false;
            };
            right.add(Prefix::of(remote.ip()), 1);
        }
        self.prefixes == right && self.iter().count() == self.used
    }
}
