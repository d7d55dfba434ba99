//! The members of a torrent: connections that have completed their handshakes.

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

/// A metadata request that is not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MetadataAsked {
    pub(crate) piece: u32,
    /// The size of the metadata that the peer claimed at that time. Its answer is judged by it.
    pub(crate) size: u32,
    pub(crate) at: Instant,
}

/// A peer of a torrent, and what the torrent knows of it beyond the peer protocol.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: MemberId,
    pub(crate) stream: Stream,
    /// The address at which it accepts connections: that of the stream or, if it connected to us, its IP address with the port
    /// that it says it listens on.
    pub(crate) dialable: Option<SocketAddr>,
    pub(crate) source: PeerSource,
    pub(crate) incoming: bool,
    /// When the handshakes were completed.
    pub(crate) established: Instant,
    /// Its node of the throttle tree.
    pub(crate) bucket: BucketId,
    /// Its pieces, as the picker was told.
    pub(crate) counted: Bitfield,
    /// What the picker remembers about it.
    pub(crate) pick: PickState,
    /// The peer's requests that were not read from the disk yet.
    pub(crate) uploads: VecDeque<BlockRef>,
    /// The number of blocks that are being read from the disk for it.
    pub(crate) reading: u32,
    /// The blocks that it holds, as [`Conns`](super::table::Conns) has counted them.
    pub(crate) holds: Holding,
    /// The metadata request that it has not answered (BEP 9).
    pub(crate) metadata_asked: Option<MetadataAsked>,
    /// When it may be asked for metadata again, after it refused or sent wrong data.
    pub(crate) metadata_pause: Option<Instant>,
    /// The number of its attempts to send the metadata that were too slow.
    pub(crate) metadata_turns: u32,
    /// The peers it was told of (BEP 11).
    pub(crate) pex_told: BTreeSet<SocketAddr>,
    /// When its last peer exchange message arrived. Messages that follow too soon are ignored.
    pub(crate) pex_heard: Option<Instant>,
    /// Whether it told the port of its DHT node (BEP 5).
    pub(crate) dht_port_told: bool,
    /// When we last choked or unchoked it.
    pub(crate) choke_changed: Instant,
    /// How many bytes of payload it had been sent when it was last unchoked.
    pub(crate) sent_before: u64,
    /// The last time at which either side was interested.
    pub(crate) useful: Instant,
}

impl Member {
    /// Creates the member of a connection that has completed its handshakes.
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

    /// The address by which it is shown, blamed and banned: the one at which it accepts connections, if that is known.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.dialable.unwrap_or(self.stream.remote)
    }

    /// Whether it supports peer exchange (BEP 11).
    pub(crate) fn exchanges_peers(&self) -> bool {
        let extended = self.stream.peer.extended();
        extended.is_some_and(|e| e.ids.ut_pex != 0)
    }

    /// The upload blocks that it holds.
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
    /// The free slots. The one that was freed first is used first, so that ids repeat late.
    free: VecDeque<u32>,
    used: usize,
    /// The connections that have not completed their handshakes, and the addresses that we connected to.
    connecting: BTreeMap<ConnId, Option<SocketAddr>>,
    /// The number of connections with each prefix, including unfinished ones.
    prefixes: Counts<Prefix>,
}

impl Members {
    /// Adds a connection that has not completed its handshakes. `dialled` is the address, if we opened it.
    pub(crate) fn connecting(
        &mut self,
        id: ConnId,
        remote: SocketAddr,
        dialled: Option<SocketAddr>,
    ) {
        self.connecting.insert(id, dialled);
        self.prefixes.add(Prefix::of(remote.ip()), 1);
    }

    /// Removes a connection that had not completed its handshakes.
    pub(crate) fn given_up(&mut self, id: ConnId, remote: SocketAddr) {
        if self.connecting.remove(&id).is_some() {
            self.prefixes.remove(&Prefix::of(remote.ip()), 1);
        }
    }

    /// The connections that have not completed their handshakes.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = ConnId> {
        self.connecting.keys().copied()
    }

    /// The number of connections that have not completed their handshakes.
    pub(crate) fn unfinished_len(&self) -> usize {
        self.connecting.len()
    }

    /// A connection has completed its handshakes: makes it a member.
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

    /// Removes a member. Its id becomes stale.
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

    /// The member with a picker's key.
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

    /// The ids of all members, for loops that may remove some.
    pub(crate) fn ids(&self) -> Vec<MemberId> {
        self.iter().map(|member| member.id).collect()
    }

    /// The number of members.
    pub(crate) const fn established(&self) -> usize {
        self.used
    }

    /// The number of connections.
    pub(crate) fn len(&self) -> usize {
        self.used + self.connecting.len()
    }

    /// Whether there are no connections.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of connections with a prefix.
    pub(crate) fn count_with(&self, prefix: Prefix) -> u32 {
        self.prefixes.of(&prefix)
    }

    /// Whether there is a connection, or one is being opened, to an address of the peer list.
    pub(crate) fn uses(&self, addr: SocketAddr) -> bool {
        self.iter().any(|member| member.dialable == Some(addr))
            || self.connecting.values().any(|to| *to == Some(addr))
    }

    /// Whether the counters are correct. `remote` returns the address of a connection.
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
