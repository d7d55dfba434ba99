//! The connections of a torrent.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::Greeting;
use super::member::Member;
use super::table::Conns;
use crate::torrent::counts::Counts;
use crate::torrent::member_id::MemberId;
use crate::torrent::picker::PeerKey;
use crate::torrent::prefix::Prefix;
use crate::{Config, ConnId, Instant, PeerId, TorrentId};

/// A connection is closed in favour of another torrent only after this time and, if that torrent has other connections, only
/// if it was useless for this time: six choking rounds.
const SETTLED: Duration = Duration::from_secs(60);
/// How many useful connections a torrent keeps in any case: enough for all upload slots of a slow line and for a choice of
/// pieces.
const KEPT: usize = 8;

/// Why one of two connections with the same peer is closed.
pub(crate) const TWICE: &str = "connected twice";

/// What becomes of a connection whose handshakes are complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    /// It takes the place of another connection with the same peer.
    InPlaceOf(MemberId),
    /// The text says why.
    Refused(&'static str),
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

    /// A connection has completed its handshakes: `make` turns its greeting into a member.
    pub(crate) fn join(
        &mut self,
        conns: &mut Conns,
        (torrent, conn): (TorrentId, ConnId),
        make: impl FnOnce(MemberId, Greeting) -> Member,
    ) -> Option<&mut Member> {
        let mut joined = None;
        conns.established(conn, torrent, |greeting| {
            let id = self.insert(conn, |id| make(id, greeting));
            *joined.insert(id)
        });
        self.get_mut(joined?)
    }

    fn insert(&mut self, conn: ConnId, make: impl FnOnce(MemberId) -> Member) -> MemberId {
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

    /// The same, mutable.
    pub(crate) fn by_key_mut(&mut self, key: PeerKey) -> Option<&mut Member> {
        let (_, member) = self.slots.get_mut(MemberId::slot(key))?;
        let member = member.as_deref_mut();
        member.filter(|member| member.id.key() == key)
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

    /// Whether there are as many connections as a torrent may have.
    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.len() >= config.max_connections_per_torrent as usize
    }

    /// Whether there are as many connections with an IP address as are allowed.
    pub(crate) fn is_crowded(&self, config: &Config, ip: IpAddr) -> bool {
        self.prefixes.of(&Prefix::of(ip)) >= config.max_connections_per_ip
    }

    /// Decides which of two connections with the same peer is kept, and refuses a connection with ourselves, who are `own`. Both
    /// sides keep the stream that the side with the larger peer id opened, so they agree without a message.
    ///
    /// Any peer can repeat the id of another one. Two connections count as connections of one peer only if they have the
    /// same IP address; otherwise, both are kept.
    pub(crate) fn admission(&self, greeting: &Greeting, own: PeerId) -> Admission {
        let stream = &greeting.stream;
        let Some(peer_id) = stream.peer.peer_id() else {
            return Admission::Admitted;
        };
        if peer_id == own {
            return Admission::Refused("this is ourselves");
        }
        let ip = stream.remote.ip();
        let same =
            |m: &&Member| m.stream.remote.ip() == ip && m.stream.peer.peer_id() == Some(peer_id);
        let Some(other) = self.iter().find(same) else {
            return Admission::Admitted;
        };
        let incoming = greeting.is_incoming();
        if incoming != other.incoming && incoming == (peer_id > own) {
            Admission::InPlaceOf(other.id)
        } else {
            Admission::Refused(TWICE)
        }
    }

    /// The connection that was useful least recently, if it was useless for longer than `patience`.
    pub(crate) fn useless(&self, now: Instant, patience: Duration) -> Option<MemberId> {
        let useless = self.iter().filter(|m| m.useful + patience < now);
        useless.min_by_key(|m| m.useful).map(|m| m.id)
    }

    /// The connection to close in favour of a torrent that has `theirs` connections: the one that was useful least recently. A
    /// useful connection is only closed in favour of a torrent without any.
    pub(crate) fn expendable(&self, now: Instant, theirs: usize) -> Option<MemberId> {
        let urgent = theirs == 0 && self.len() > KEPT;
        let settled = self.iter().filter(|m| m.established + SETTLED < now);
        let least = settled.min_by_key(|m| m.useful)?;
        (urgent || least.useful + SETTLED < now).then_some(least.id)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::{BucketId, Throttle};
    use crate::torrent::conn::sample::{conn, greeting};

    const fn at(secs: u64) -> Instant {
        Instant::from_micros(1 + secs * 1_000_000)
    }

    const fn id(n: u8) -> PeerId {
        PeerId([n; 20])
    }

    fn add(members: &mut Members, n: u8, greeting: Greeting) -> MemberId {
        let bucket = Throttle::new().add(BucketId::ROOT);
        members.insert(conn(n), |id| Member::new(id, at(0), bucket, greeting))
    }

    #[test]
    fn both_sides_keep_the_same_one_of_two_connections() {
        // Whether the side `own` keeps the connection that it accepted, if they are complete in this order.
        let keeps_incoming = |own, theirs, order: [bool; 2]| {
            let [first, second] = order.map(|incoming| greeting(1, 1, (own, theirs), incoming));
            let mut members = Members::default();
            let first = add(&mut members, 1, first);
            match members.admission(&second, own) {
                Admission::Admitted => panic!("both are kept"),
                Admission::InPlaceOf(other) => {
                    assert_eq!(other, first);
                    order[1]
                }
                Admission::Refused(why) => {
                    assert_eq!(why, TWICE);
                    order[0]
                }
            }
        };
        for here in [[false, true], [true, false]] {
            for there in [[false, true], [true, false]] {
                assert!(!keeps_incoming(id(2), id(1), here));
                assert!(keeps_incoming(id(1), id(2), there));
            }
        }
    }

    #[test]
    fn only_the_same_id_at_the_same_address_is_the_same_peer() {
        let mut members = Members::default();
        add(&mut members, 1, greeting(1, 1, (id(9), id(1)), true));
        let ids = (id(9), id(1));
        for (host, ids, incoming, wanted) in [
            (1, ids, true, Admission::Refused(TWICE)),
            (1, ids, false, Admission::InPlaceOf(MemberId::numbered(0))),
            (2, ids, true, Admission::Admitted),
            (1, (id(9), id(3)), true, Admission::Admitted),
            (
                3,
                (id(9), id(9)),
                true,
                Admission::Refused("this is ourselves"),
            ),
        ] {
            let greeting = greeting(2, host, ids, incoming);
            assert_eq!(members.admission(&greeting, id(9)), wanted, "{host}");
        }
    }

    #[test]
    fn the_place_of_the_least_useful_is_given_up() {
        let mut members = Members::default();
        let mut last = None;
        for n in 0..KEPT as u8 {
            let id = add(&mut members, n, greeting(n, n, (id(99), id(n)), true));
            members.get_mut(id).unwrap().useful = at(200 - u64::from(n));
            last = Some(id);
        }
        let patience = Duration::from_secs(100);
        assert_eq!(members.useless(at(290), patience), None);
        assert_eq!(members.useless(at(294), patience), last);

        // A connection that was useful lately is kept, unless there are many and the other torrent has none.
        assert_eq!(members.expendable(at(240), 0), None);
        assert_eq!(members.expendable(at(255), 5), last);
        let new = add(&mut members, 50, greeting(50, 50, (id(99), id(50)), true));
        let member = members.get_mut(new).unwrap();
        (member.established, member.useful) = (at(230), at(0));
        assert_eq!(
            members.expendable(at(240), 0),
            last,
            "the new one may settle"
        );
        assert_eq!(members.expendable(at(240), 1), None);
        assert_eq!(members.expendable(at(291), 1), Some(new));
    }
}
