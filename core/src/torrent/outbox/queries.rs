//! HTTP requests or name look-ups: those in flight, and those that wait.
//!
//! A query to a server that never answers stays in flight until its time-out, so there are two limits: a server has a part
//! of all queries in flight, and a torrent has a few queries beyond its own queue.
//!
//! ```text
//!  push ─▶ the torrent's own queue ─▶ the server's queue ─▶ poll ─▶ in flight ─▶ answered
//!          (beyond PER_OWNER)         (servers take turns)
//! ```

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::sync::Arc;
use crate::{Op, OpId, TorrentId};

/// How many queries of one torrent may be in servers' queues or in flight. The value is our choice: two trackers over both
/// address families, so that a torrent with a hundred trackers cannot block the others.
const PER_OWNER: usize = 4;
/// One server may have the total limit divided by this in flight.
const SERVER_SHARE: usize = 4;
/// One server may have at least this many in flight: one for each address family.
const SERVER_LEAST: usize = 2;

/// The owner of a query: a torrent, or `None` for the DHT.
type Owner = Option<TorrentId>;
/// A host name, or a host with its port.
type Server = Arc<str>;

/// One class of queries.
#[derive(Debug)]
pub(crate) struct Queries {
    /// The maximum number in flight.
    max: usize,
    emitted: usize,
    owners: BTreeMap<Owner, Asking>,
    servers: BTreeMap<Server, Asked>,
    /// The servers that have a query waiting and may have one more in flight, each once.
    turns: VecDeque<Server>,
    /// All queries that are not answered.
    open: BTreeMap<OpId, Query>,
}

/// The queries of one owner.
#[derive(Debug, Default)]
struct Asking {
    /// The number in servers' queues or in flight.
    admitted: usize,
    waiting: VecDeque<Op>,
}

/// The queries to one server.
#[derive(Debug, Default)]
struct Asked {
    with_driver: usize,
    waiting: VecDeque<Op>,
    /// Whether it is in `turns`.
    in_turn: bool,
}

#[derive(Debug)]
struct Query {
    owner: Owner,
    server: Server,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is in its owner's queue.
    Held,
    /// It is in its server's queue.
    Admitted,
    WithDriver,
}

impl Queries {
    /// Creates a class with at most `max` queries in flight, but at least one.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            emitted: 0,
            owners: BTreeMap::new(),
            servers: BTreeMap::new(),
            turns: VecDeque::new(),
            open: BTreeMap::new(),
        }
    }

    /// Queues `op`, whose id is `id`, for `server`.
    pub(crate) fn push(&mut self, owner: Owner, server: &str, id: OpId, op: Op) {
        let server = match self.servers.get_key_value(server) {
            Some((known, _)) => Arc::clone(known),
            None => Server::from(server),
        };
        let stage = Stage::Held;
        let query = Query {
            owner,
            server,
            stage,
        };
        self.open.insert(id, query);
        self.owners.entry(owner).or_default().waiting.push_back(op);
        self.admit(owner);
    }

    /// Returns the next query for the driver.
    pub(crate) fn poll(&mut self) -> Option<Op> {
        if self.emitted >= self.max {
            return None;
        }
        let server = self.turns.pop_front()?;
        let most = self.per_server();
        let asked = self.servers.get_mut(&server)?;
        asked.in_turn = false;
        let op = asked.waiting.pop_front()?;
        asked.with_driver += 1;
        self.emitted += 1;
        if let Some(query) = op.id().and_then(|id| self.open.get_mut(&id)) {
            query.stage = Stage::WithDriver;
        }
        self.take_turn(&server, most);
        Some(op)
    }

    /// Whether [`Queries::poll`] would return a query.
    pub(crate) fn is_pending(&self) -> bool {
        self.emitted < self.max && !self.turns.is_empty()
    }

    /// The number in flight.
    pub(crate) const fn emitted(&self) -> usize {
        self.emitted
    }

    /// A query was answered. Does nothing if it is not one of this class.
    pub(crate) fn answered(&mut self, id: OpId) {
        let Some(query) = self.open.remove(&id) else {
            return;
        };
        if query.stage == Stage::WithDriver {
            self.emitted -= 1;
            if let Some(asked) = self.servers.get_mut(&query.server) {
                asked.with_driver -= 1;
            }
        }
        self.left(&query);
    }

    /// Cancels the queries of a torrent. Returns the queued ones, and the ids of those in flight.
    pub(crate) fn cancel(&mut self, torrent: TorrentId) -> Cancelled {
        let of = |(id, query): (&OpId, &Query)| (query.owner == Some(torrent)).then_some(*id);
        let ids: Vec<OpId> = self.open.iter().filter_map(of).collect();
        let mut cancelled = Cancelled::default();
        for id in ids {
            let Some(query) = self.open.get(&id) else {
                continue;
            };
            if query.stage == Stage::WithDriver {
                cancelled.with_driver.push(id);
                continue;
            }
            let queue = match query.stage {
                Stage::Held => self.owners.get_mut(&query.owner).map(|o| &mut o.waiting),
                _ => self.servers.get_mut(&query.server).map(|s| &mut s.waiting),
            };
            let held = queue.and_then(|queue| {
                let at = queue.iter().position(|op| op.id() == Some(id))?;
                queue.remove(at)
            });
            cancelled.taken_back.extend(held);
            if let Some(query) = self.open.remove(&id) {
                self.left(&query);
            }
        }
        cancelled
    }

    fn per_server(&self) -> usize {
        (self.max / SERVER_SHARE).max(SERVER_LEAST)
    }

    /// A query has ended: its server and its owner have room for the next one.
    fn left(&mut self, query: &Query) {
        self.take_turn(&query.server, self.per_server());
        if query.stage != Stage::Held
            && let Some(asking) = self.owners.get_mut(&query.owner)
        {
            asking.admitted -= 1;
        }
        self.admit(query.owner);
    }

    /// Moves queries from an owner's queue to their servers' queues, as far as there is room.
    fn admit(&mut self, owner: Owner) {
        let most = self.per_server();
        while let Some(asking) = self.owners.get_mut(&owner) {
            if asking.admitted >= PER_OWNER {
                return;
            }
            let Some(op) = asking.waiting.pop_front() else {
                if asking.admitted == 0 {
                    self.owners.remove(&owner);
                }
                return;
            };
            asking.admitted += 1;
            let Some(query) = op.id().and_then(|id| self.open.get_mut(&id)) else {
                continue;
            };
            query.stage = Stage::Admitted;
            let server = Arc::clone(&query.server);
            let asked = self.servers.entry(Arc::clone(&server)).or_default();
            asked.waiting.push_back(op);
            self.take_turn(&server, most);
        }
    }

    /// Adds a server to `turns` if it may send a query, or removes it if it has none.
    fn take_turn(&mut self, server: &Server, most: usize) {
        let Some(asked) = self.servers.get_mut(server) else {
            return;
        };
        let may = !asked.waiting.is_empty() && asked.with_driver < most;
        match (may, asked.in_turn) {
            (true, false) => self.turns.push_back(Arc::clone(server)),
            // The queue of a server in `turns` is only empty after a query was cancelled.
            (false, true) => self.turns.retain(|other| other != server),
            _ => {}
        }
        asked.in_turn = may;
        if asked.waiting.is_empty() && asked.with_driver == 0 {
            self.servers.remove(server);
        }
    }
}

/// The queries of a torrent that were cancelled.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    /// Those that were queued.
    pub(crate) taken_back: Vec<Op>,
    /// The ids of those in flight, which the driver still answers.
    pub(crate) with_driver: Vec<OpId>,
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String};

    use super::*;

    /// Queues the look-up of `host` for a torrent.
    fn ask(queries: &mut Queries, torrent: u32, host: &str, id: u64) {
        let (op, name) = (OpId(id), String::from(host));
        let op = Op::Resolve { op, host: name };
        queries.push(Some(TorrentId(torrent)), host, OpId(id), op);
    }

    fn drain(queries: &mut Queries) -> Vec<u64> {
        core::iter::from_fn(|| queries.poll())
            .filter_map(|op| op.id().map(|id| id.0))
            .collect()
    }

    #[test]
    fn a_silent_server_leaves_places_for_the_others() {
        let mut queries = Queries::new(8);
        for id in 0..200 {
            ask(&mut queries, id as u32, "silent", id);
        }
        ask(&mut queries, 1000, "good", 1000);
        assert_eq!(drain(&mut queries), [0, 1000, 1]);
        assert!(!queries.is_pending());
        // The next one is sent when one was answered.
        queries.answered(OpId(0));
        assert!(queries.is_pending());
        assert_eq!(drain(&mut queries), [2]);
    }

    #[test]
    fn a_torrent_with_many_trackers_leaves_places_for_the_others() {
        let mut queries = Queries::new(64);
        for id in 0..100 {
            ask(&mut queries, 1, &format!("tracker {id}"), id);
        }
        ask(&mut queries, 2, "good", 1000);
        assert_eq!(drain(&mut queries), [0, 1, 2, 3, 1000]);
        queries.answered(OpId(2));
        assert_eq!(drain(&mut queries), [4]);
    }

    #[test]
    fn servers_take_turns() {
        let mut queries = Queries::new(1);
        for id in 0..3 {
            ask(&mut queries, id as u32, "a", id);
        }
        ask(&mut queries, 9, "b", 9);
        let mut order = Vec::new();
        while let [id] = drain(&mut queries)[..] {
            order.push(id);
            queries.answered(OpId(id));
        }
        assert_eq!(order, [0, 9, 1, 2]);
    }

    #[test]
    fn what_is_cancelled_is_taken_back_or_named() {
        let mut queries = Queries::new(4);
        for id in 0..6 {
            ask(&mut queries, 1, "a", id);
        }
        ask(&mut queries, 2, "a", 6);
        assert_eq!(drain(&mut queries), [0, 1]);
        let cancelled = queries.cancel(TorrentId(1));
        assert_eq!(cancelled.with_driver, [0, 1].map(OpId));
        let back: Vec<_> = cancelled.taken_back.iter().filter_map(Op::id).collect();
        assert_eq!(back, [2, 3, 4, 5].map(OpId));
        assert_eq!(drain(&mut queries), [] as [u64; 0]);
        queries.answered(OpId(0));
        assert_eq!(drain(&mut queries), [6]);
        queries.answered(OpId(1));
        queries.answered(OpId(6));
        assert!(queries.owners.is_empty() && queries.servers.is_empty());
        assert!(queries.open.is_empty() && queries.turns.is_empty());
    }

    /// Whatever happens in whatever order: nothing is lost, no limit is exceeded, and
    /// `is_pending` says what `poll` does.
    #[test]
    fn nothing_is_lost_in_any_order() {
        fn holds(max: u8, steps: Vec<(u8, u8, u8)>) -> bool {
            let mut queries = Queries::new(usize::from(max % 9));
            let (mut id, mut out, mut asked) = (0, Vec::new(), 0usize);
            for (what, torrent, host) in steps {
                match what % 4 {
                    0 => {
                        id += 1;
                        asked += 1;
                        ask(&mut queries, torrent.into(), &format!("{}", host % 5), id);
                    }
                    1 => {
                        let pending = queries.is_pending();
                        let op = queries.poll().and_then(|op| op.id());
                        assert_eq!(op.is_some(), pending);
                        out.extend(op);
                    }
                    2 if !out.is_empty() => {
                        let id = out.swap_remove(usize::from(host) % out.len());
                        queries.answered(id);
                        asked -= 1;
                    }
                    _ => {
                        let gone = queries.cancel(TorrentId(torrent.into()));
                        asked -= gone.taken_back.len();
                        assert!(gone.with_driver.iter().all(|id| out.contains(id)));
                    }
                }
                assert_eq!(queries.emitted(), out.len());
                assert!(out.len() <= queries.max && queries.open.len() == asked);
            }
            // The rest is returned once there is room.
            while asked > 0 {
                out.extend(core::iter::from_fn(|| queries.poll()).filter_map(|op| op.id()));
                assert!(!out.is_empty());
                asked -= out.len();
                out.drain(..).for_each(|id| queries.answered(id));
            }
            queries.owners.is_empty() && queries.servers.is_empty() && queries.turns.is_empty()
        }
        quickcheck::quickcheck(holds as fn(u8, Vec<(u8, u8, u8)>) -> bool);
    }
}
