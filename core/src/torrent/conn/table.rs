//! The table of connections. Slots have generations, so that a stale id is recognised.
//!
//! ```text
//!  dialled ──▶ Dialing ──open──▶ Greeting ──both handshakes──▶ Member of a torrent
//!                                   ▲
//!  accepted ────────────────────────┘
//! ```

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::net::SocketAddr;

use super::stream::Stream;
use super::{Conn, Greeting, Holding, Opened};
use crate::torrent::counts::Counts;
use crate::torrent::member_id::MemberId;
use crate::torrent::prefix::Prefix;
use crate::{Config, ConnId, TorrentId};

/// The maximum number of connections of all torrents.
pub(crate) fn max_conns(config: &Config) -> usize {
    (config.max_connections as usize).min(MAX_CONNS)
}

/// The highest possible maximum.
const MAX_CONNS: usize = 1 << 20;

#[derive(Debug)]
struct Slot {
    generation: u32,
    used: Option<(SocketAddr, Conn)>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    slots: Vec<Slot>,
    free: Vec<u32>,
    used: usize,
    /// The number of connections with each prefix.
    prefixes: Counts<Prefix>,
    /// The number of upload blocks that the connections with each prefix hold.
    blocks: Counts<Prefix>,
    /// The number of connections that request blocks or hold some.
    uploading: u32,
    /// Accepted connections that have not named their torrent, or wait for its answer, oldest first.
    unclaimed: VecDeque<ConnId>,
    /// The number of outgoing connections that have not completed their handshakes.
    half_open: u32,
}

impl Conns {
    /// Adds a connection with `remote`.
    pub(crate) fn insert(
        &mut self,
        remote: SocketAddr,
        make: impl FnOnce(ConnId) -> Conn,
    ) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                used: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let id = ConnId {
            index,
            generation: slot.generation,
        };
        let conn = make(id);
        match &conn {
            Conn::Dialing(..) => self.half_open += 1,
            Conn::Greeting(_) => self.unclaimed.push_back(id),
            Conn::Member(..) => {}
        }
        slot.used = Some((remote, conn));
        self.used += 1;
        self.prefixes.add(Prefix::of(remote.ip()), 1);
        id
    }

    /// The stream of an outgoing connection is open.
    pub(crate) fn opened(&mut self, id: ConnId, greeting: Greeting) {
        if let Some(conn @ Conn::Dialing(..)) = self.get_mut(id) {
            *conn = Conn::Greeting(Box::new(greeting));
        }
    }

    /// A torrent has accepted an incoming connection.
    pub(crate) fn welcomed(&mut self, id: ConnId, torrent: TorrentId) -> Option<&mut Stream> {
        self.claimed(id);
        let Conn::Greeting(greeting) = self.get_mut(id)? else {
            return None;
        };
        greeting.opened = Opened::ByPeer(Some(torrent));
        Some(&mut greeting.stream)
    }

    /// Both handshakes are complete: `make` turns the greeting into a member.
    pub(crate) fn established(
        &mut self,
        id: ConnId,
        torrent: TorrentId,
        make: impl FnOnce(Greeting) -> MemberId,
    ) {
        let Some(conn @ Conn::Greeting(_)) = self.get_mut(id) else {
            return;
        };
        let then = core::mem::replace(conn, Conn::Member(torrent, MemberId::default()));
        if let Conn::Greeting(greeting) = then {
            let outgoing = matches!(greeting.opened, Opened::ByUs(_));
            *conn = Conn::Member(torrent, make(*greeting));
            self.half_open -= u32::from(outgoing);
        }
    }

    /// Removes a connection. Its id becomes stale.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let (remote, conn) = match slot.generation == id.generation {
            true => slot.used.take()?,
            false => return None,
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.used -= 1;
        self.prefixes.remove(&Prefix::of(remote.ip()), 1);
        match &conn {
            Conn::Dialing(..) => self.half_open -= 1,
            Conn::Greeting(greeting) => match greeting.opened {
                Opened::ByUs(_) => self.half_open -= 1,
                Opened::ByPeer(_) => self.claimed(id),
            },
            Conn::Member(..) => {}
        }
        Some(conn)
    }

    /// A connection was accepted by its torrent, or is closed.
    fn claimed(&mut self, id: ConnId) {
        if let Some(at) = self.unclaimed.iter().position(|unclaimed| *unclaimed == id) {
            self.unclaimed.remove(at);
        }
    }

    /// The accepted connections that have not named their torrent, or wait for its answer, oldest first.
    pub(crate) fn unclaimed(&self) -> impl ExactSizeIterator<Item = ConnId> {
        self.unclaimed.iter().copied()
    }

    /// Those of them that have a prefix.
    pub(crate) fn unclaimed_from(&self, prefix: Prefix) -> impl Iterator<Item = ConnId> {
        let from = move |id: &ConnId| self.remote(*id).map(|r| Prefix::of(r.ip())) == Some(prefix);
        self.unclaimed().filter(from)
    }

    /// The number of connections with a prefix.
    pub(crate) fn count_from(&self, prefix: Prefix) -> u32 {
        self.prefixes.of(&prefix)
    }

    /// How many outgoing connections have not completed their handshakes.
    pub(crate) const fn half_open(&self) -> u32 {
        self.half_open
    }

    /// Updates the count of blocks that a member with `remote` holds.
    pub(crate) fn recount(&mut self, remote: SocketAddr, then: &mut Holding, now: Holding) {
        let then = core::mem::replace(then, now);
        if now != then {
            self.count(Prefix::of(remote.ip()), then, now);
        }
    }

    fn count(&mut self, prefix: Prefix, then: Holding, now: Holding) {
        if now.blocks > then.blocks {
            self.blocks.add(prefix, now.blocks - then.blocks);
        } else {
            self.blocks.remove(&prefix, then.blocks - now.blocks);
        }
        self.uploading -= u32::from(then.uploads);
        self.uploading += u32::from(now.uploads);
    }

    /// The number of connections that request blocks or hold some, and the number of blocks that connections with the prefix of
    /// `remote` hold.
    pub(crate) fn uploading_beside(&self, remote: SocketAddr) -> (u32, u32) {
        (self.uploading, self.blocks.of(&Prefix::of(remote.ip())))
    }

    pub(crate) fn get(&self, id: ConnId) -> Option<&Conn> {
        let slot = self.slots.get(id.index as usize)?;
        let (_, conn) = slot.used.as_ref()?;
        (slot.generation == id.generation).then_some(conn)
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let (_, conn) = slot.used.as_mut()?;
        (slot.generation == id.generation).then_some(conn)
    }

    /// The address of a connection's peer.
    pub(crate) fn remote(&self, id: ConnId) -> Option<SocketAddr> {
        let slot = self.slots.get(id.index as usize)?;
        let (remote, _) = slot.used.as_ref()?;
        (slot.generation == id.generation).then_some(*remote)
    }

    /// The stream of a connection that exchanges handshakes.
    pub(crate) fn greeting(&mut self, id: ConnId) -> Option<&mut Greeting> {
        match self.get_mut(id)? {
            Conn::Greeting(greeting) => Some(greeting),
            _ => None,
        }
    }

    /// All connections.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnId, SocketAddr, &Conn)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let (remote, conn) = slot.used.as_ref()?;
            let generation = slot.generation;
            Some((ConnId { index, generation }, *remote, conn))
        })
    }

    /// The number of connections.
    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    /// Whether all counters are correct, given the blocks that each member holds. O(connections).
    pub(crate) fn is_counted_right(
        &self,
        members: impl Iterator<Item = (SocketAddr, Holding)>,
    ) -> bool {
        let mut right = Self::default();
        for (_, remote, conn) in self.iter() {
            right.prefixes.add(Prefix::of(remote.ip()), 1);
            right.half_open += match conn {
                Conn::Dialing(..) => 1,
                Conn::Greeting(greeting) => u32::from(matches!(greeting.opened, Opened::ByUs(_))),
                Conn::Member(..) => 0,
            };
        }
        for (remote, holding) in members {
            right.count(Prefix::of(remote.ip()), Holding::default(), holding);
        }
        self.prefixes == right.prefixes
            && self.blocks == right.blocks
            && self.uploading == right.uploading
            && self.half_open == right.half_open
    }
}
