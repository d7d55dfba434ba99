//! Searches: a goal, one lookup for each family, then the stores.

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;

use super::Dht;
use super::queries::{Query, Task};
use super::side::FIRST_ROUND;
use crate::dht::guard::is_martian;
use crate::dht::lookup::{Lookup, Params};
use crate::dht::{
    Cause, Contact, DhtEvent, Failure, FoundItem, Goal, LookupId, LookupReport, item,
};
use crate::scope::Scope;
use crate::wire::krpc::{BLOOM_LEN, MAX_TOKEN, Reply, bloom};
use crate::{Cx, Instant, NodeId};

/// The most distinct peers that a search reports; a node that stores fewer for others stops there. Our choice:
/// ten times as many as a torrent keeps connected.
const MAX_PEERS: usize = 1_000;
/// Nodes of our own table that a search begins with.
const SEEDS: usize = 16;
/// Further nodes that a search begins with, which answered lately and are not in the table.
const SPARES: usize = 8;
/// Contacts that a search begins with if the table does not suffice (S15).
pub(super) const CONTACTS: usize = 8;
/// The most queries of a round that looks for nodes of one bucket: it need not find the closest ones. Our choice: 12 are
/// too few where two of three nodes are dead, and 96 use up the budget of the next rounds.
const ROUND_QUERIES: u8 = 24;

/// The part of the node that requested a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requester {
    /// The owner of the node.
    Owner,
    /// The table of a family: the nodes it had when this began.
    Table { v6: bool, had: u32 },
}

#[derive(Debug)]
pub(super) struct Search {
    pub(super) goal: Goal,
    pub(super) target: NodeId,
    /// Our ids when it began: some nodes bind tokens to them, and ours may change meanwhile (BEP 42).
    pub(super) own: [Option<NodeId>; 2],
    pub(super) requester: Requester,
    started: Instant,
    /// When the last reply to one of its queries arrived.
    last: Instant,
    pub(super) lookups: [Option<Box<Lookup>>; 2],
    storing: bool,
    /// Stores that await their confirmation.
    open: u32,
    stores: u32,
    stored: u32,
    known: BTreeSet<SocketAddr>,
    /// Newest version found.
    version: Option<i64>,
    found: bool,
    blooms: Option<Box<[[u8; BLOOM_LEN]; 2]>>,
}

impl Search {
    /// The numbers of nodes that were asked and that answered.
    pub(super) fn counts(&self) -> (u32, u32) {
        let each = self.lookups.iter().flatten();
        each.fold((0, 0), |(a, b), l| {
            (a + l.contacted(), b + l.replied_count())
        })
    }

    pub(super) const fn is_storing(&self) -> bool {
        self.storing
    }
}

fn target_of(goal: &Goal) -> NodeId {
    match goal {
        Goal::Nodes(id) | Goal::Immutable(id) => *id,
        Goal::Peers { hash, .. } => NodeId(hash.0),
        Goal::PutImmutable(value) => item::immutable_target(value),
        Goal::Mutable { key, salt } | Goal::PutMutable { key, salt, .. } => {
            item::mutable_target(key, salt)
        }
    }
}

impl Dht {
    /// Whether a search for the owner can begin: searches of the table are cancelled to make room for it.
    pub(super) fn has_room(&self) -> bool {
        let table = |s: &Search| s.requester != Requester::Owner;
        self.searches.len() < usize::from(self.config.max_lookups.max(1))
            || self.searches.values().any(|s| table(s))
    }

    /// Begins a search; `None` if there are too many.
    pub(super) fn begin(
        &mut self,
        cx: &mut Cx<'_>,
        goal: Goal,
        requester: Requester,
    ) -> Option<LookupId> {
        let full = self.searches.len() >= usize::from(self.config.max_lookups.max(1));
        if full {
            // A search of the table is cancelled; it begins again later.
            let upkeep = self.searches.iter().find_map(|(id, s)| match s.requester {
                Requester::Table { v6, .. } => Some((*id, v6)),
                Requester::Owner => None,
            });
            let (id, v6) = upkeep.filter(|_| requester == Requester::Owner)?;
            self.abandon(id);
            if let Some(side) = &mut self.sides[usize::from(v6)] {
                side.round = Some(cx.now + FIRST_ROUND);
            }
        }
        let target = target_of(&goal);
        let id = LookupId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        let mut lookups = [None, None];
        for (v6, place) in [false, true].into_iter().zip(&mut lookups) {
            let fits = match requester {
                Requester::Owner => !self.is_resting(cx.now, v6),
                Requester::Table { v6: only, .. } => only == v6,
            };
            if fits {
                *place = self.new_lookup(cx.now, target, v6, requester);
            }
        }
        let scrape = matches!(goal, Goal::Peers { scrape: true, .. });
        let search = Search {
            goal,
            target,
            own: [false, true].map(|v6| {
                let side = self.sides[usize::from(v6)].as_ref();
                side.map(|s| *s.routes.own())
            }),
            requester,
            started: cx.now,
            last: cx.now,
            lookups,
            storing: false,
            open: 0,
            stores: 0,
            stored: 0,
            known: BTreeSet::new(),
            version: None,
            found: false,
            blooms: scrape.then(|| Box::new([[0; BLOOM_LEN]; 2])),
        };
        self.searches.insert(id, Box::new(search));
        self.advance(cx, id);
        Some(id)
    }

    fn new_lookup(
        &mut self,
        now: Instant,
        target: NodeId,
        v6: bool,
        requester: Requester,
    ) -> Option<Box<Lookup>> {
        let side = self.sides[usize::from(v6)].as_mut()?;
        let mut params = Params {
            expected: side.estimate.expected_kth_distance(8),
            ..Params::new(*side.routes.own(), self.config.local)
        };
        if requester != Requester::Owner && side.rounds > 1 {
            // Any new node will do, and a young table has little budget for new endpoints.
            (params.ring, params.max_queries) = (0, ROUND_QUERIES);
        }
        let mut lookup = Box::new(Lookup::new(now, target, params));
        let mut seeds = heapless::Vec::<Contact, SEEDS>::new();
        side.routes.closest(&target, &mut seeds);
        let mut spares = heapless::Vec::<Contact, SPARES>::new();
        side.routes.spares(now, &target, &mut spares);
        for seed in seeds.iter().chain(&spares) {
            lookup.add(Some(seed.id), seed.addr);
        }
        // While the nodes of the table are all silent, contacts are asked besides: see
        // `probe_contacts`. Here they would have to wait until those have stalled.
        if seeds.is_empty() || (seeds.len() < SEEDS && side.liveness.is_heard()) {
            // The newest first; the next search begins with others.
            let known = side.contacts.len().min(CONTACTS);
            for addr in side.contacts.iter().rev().take(known) {
                lookup.add(None, *addr);
            }
            side.contacts.rotate_right(known);
            if requester != Requester::Owner {
                side.probes = known;
            }
        }
        Some(lookup)
    }

    /// A node answered: searches without any reply so far ask it, too. After an old cache was
    /// read, the first nodes that are asked may all be gone.
    pub(super) fn found_alive(&mut self, cx: &mut Cx<'_>, node: &Contact) {
        let v6 = usize::from(node.addr.is_ipv6());
        let mut begun = Vec::new();
        for (id, search) in &mut self.searches {
            if let Some(lookup) = search.lookups[v6].as_mut().filter(|_| !search.storing)
                && lookup.replied_count() == 0
            {
                lookup.add(Some(node.id), node.addr);
                begun.push(*id);
            }
        }
        for id in begun {
            self.advance(cx, id);
        }
    }

    /// Advances a search: it asks more nodes, stores, or ends. Called after every change.
    pub(super) fn advance(&mut self, cx: &mut Cx<'_>, id: LookupId) {
        let Some(search) = self.searches.get_mut(&id) else {
            return;
        };
        if !search.storing {
            if search.lookups.iter().flatten().all(|l| l.is_done()) {
                search.storing = true;
                self.store(cx, id);
            } else if !self.ready.contains(&id) {
                self.ready.push_back(id);
            }
        }
        let Some(search) = self.searches.get(&id) else {
            return;
        };
        if search.storing && search.open == 0 {
            self.conclude(cx, id);
        }
        self.reschedule();
    }

    /// When the next stall of a search opens a slot.
    pub(super) fn reschedule(&mut self) {
        let asking = self.searches.values().filter(|s| !s.storing);
        let lookups = asking.flat_map(|s| s.lookups.iter().flatten());
        self.stall = lookups.filter_map(|l| l.poll_timeout()).min();
    }

    /// Stalls that are due.
    pub(super) fn stalled(&mut self, now: Instant) {
        if self.stall.is_none_or(|at| at > now) {
            return;
        }
        for (id, search) in &self.searches {
            let mut lookups = search.lookups.iter().flatten();
            let due = lookups.any(|l| l.poll_timeout().is_some_and(|at| at <= now));
            if due && !search.storing && !self.ready.contains(id) {
                self.ready.push_back(*id);
            }
        }
    }

    /// A step was answered.
    pub(super) fn stepped(
        &mut self,
        cx: &mut Cx<'_>,
        (id, v6, slot): (LookupId, bool, u8),
        from: Contact,
        reply: &Reply<'_>,
    ) {
        let Some(search) = self.searches.get_mut(&id) else {
            return;
        };
        search.last = cx.now;
        let found = reply.peers().next().is_some() || reply.item.v.is_some();
        let token = reply.token.filter(|t| t.len() <= MAX_TOKEN);
        let [near, far] = if v6 { [1, 0] } else { [0, 1] };
        if let Some(lookup) = &mut search.lookups[near] {
            let nodes = contacts(reply, v6);
            lookup.replied(cx.now, slot, from.id, nodes, token, found);
        }
        // `want` also brings nodes of the other family (BEP 32): a way in for a table without any.
        if let Some(lookup) = &mut search.lookups[far] {
            for node in contacts(reply, !v6).take(CONTACTS) {
                lookup.add(Some(node.id), node.addr);
            }
        }
        if let (Some(blooms), Some(seeds), Some(leeches)) =
            (&mut search.blooms, reply.seeds, reply.leeches)
        {
            bloom::unite(&mut blooms[0], seeds);
            bloom::unite(&mut blooms[1], leeches);
        }
        let mut fresh = Vec::new();
        if matches!(search.goal, Goal::Peers { .. }) {
            let most =
                usize::try_from(self.config.max_peers).map_or(MAX_PEERS, |n| n.min(MAX_PEERS));
            for peer in reply.peers() {
                let local = is_martian(&peer, false) || Scope::of(peer.ip()).is_local();
                let sound = self.config.local || !local;
                if search.known.len() < most && sound && search.known.insert(peer) {
                    fresh.push(peer);
                }
            }
        }
        let item = found_item(search, reply);
        if !fresh.is_empty() {
            self.tell(DhtEvent::Peers {
                lookup: id,
                peers: fresh,
            });
        }
        if let Some(item) = item {
            self.tell(DhtEvent::Item { lookup: id, item });
        }
        self.advance(cx, id);
    }

    /// A query of a search was not answered, or refused.
    pub(super) fn missed(&mut self, cx: &mut Cx<'_>, task: Task) {
        let (Task::Step { search: id, .. } | Task::Store { search: id, .. }) = task else {
            return;
        };
        let Some(search) = self.searches.get_mut(&id) else {
            return;
        };
        match task {
            Task::Step { v6, slot, .. } => {
                if let Some(lookup) = &mut search.lookups[usize::from(v6)] {
                    lookup.failed(cx.now, slot);
                }
            }
            _ => search.open = search.open.saturating_sub(1),
        }
        self.advance(cx, id);
    }

    /// A store was confirmed.
    pub(super) fn confirmed(&mut self, cx: &mut Cx<'_>, id: LookupId) {
        let Some(search) = self.searches.get_mut(&id) else {
            return;
        };
        search.last = cx.now;
        search.stored += 1;
        search.open = search.open.saturating_sub(1);
        self.advance(cx, id);
    }

    /// The nodes are found: announce, or put.
    fn store(&mut self, cx: &mut Cx<'_>, id: LookupId) {
        let Some(search) = self.searches.get(&id) else {
            return;
        };
        let wanted = [false, true].map(|v6| search.goal.stores(v6));
        if wanted == [false; 2] {
            return;
        }
        let lookups = [false, true].into_iter().zip(&search.lookups);
        let lookups = lookups.filter(|(v6, _)| wanted[usize::from(*v6)]);
        let (queries, urgent) = (&mut self.queries, &mut self.urgent);
        // Steps that await a reply are given up if the stores need their room.
        let wanted = lookups
            .clone()
            .filter_map(|(_, l)| Some(l.as_ref()?.stores().count()));
        queries.make_room(id, wanted.sum::<usize>() as u16);
        let mut opened = 0;
        for (v6, lookup) in lookups {
            let stores = lookup.iter().flat_map(|l| l.stores());
            for (nth, (addr, node, _)) in (0..).zip(stores) {
                let task = Task::Store {
                    search: id,
                    v6,
                    nth,
                };
                if let Some(slot) = queries.open(cx, task, addr, Some(node)) {
                    urgent.push_back(slot);
                    opened += 1;
                }
            }
        }
        if let Some(search) = self.searches.get_mut(&id) {
            (search.stores, search.open) = (opened, opened);
        }
    }

    fn conclude(&mut self, cx: &Cx<'_>, id: LookupId) {
        let Some(search) = self.searches.remove(&id) else {
            return;
        };
        let mut closest = Vec::new();
        let mut suspicious = false;
        for (v6, lookup) in search.lookups.iter().enumerate() {
            let (Some(lookup), Some(side)) = (lookup, self.sides[v6].as_mut()) else {
                continue;
            };
            let lies = lookup.is_suspicious(&side.estimate);
            suspicious |= lies;
            let mut nodes = heapless::Vec::new();
            lookup.closest::<8>(&mut nodes);
            if nodes.is_full() && !lies {
                let ids: heapless::Vec<NodeId, 8> = nodes.iter().map(|c| c.id).collect();
                side.estimate.add(&search.target, &ids);
            }
            closest.extend(nodes);
        }
        if let Requester::Table { v6, had } = search.requester {
            return self.searched_for_table(cx.now, v6, had);
        }
        let (contacted, replied) = search.counts();
        let report = LookupReport {
            contacted,
            replied,
            peers: search.known.len() as u32,
            stores: search.stores,
            stored: search.stored,
            took: search.last.saturating_since(search.started),
            failure: self.failure(&search, contacted, replied),
            swarm: search
                .blooms
                .as_ref()
                .map(|b| (bloom::estimate(&b[0]), bloom::estimate(&b[1]))),
            closest,
            suspicious,
        };
        self.tell(DhtEvent::Done { lookup: id, report });
    }

    /// Why a search failed, if it did (S12).
    fn failure(&self, search: &Search, contacted: u32, replied: u32) -> Option<(Failure, Cause)> {
        if contacted == 0 {
            return Some((Failure::NoNodes, Cause::NoContacts));
        }
        // In a family for which nothing is to be stored, no store can be missing.
        let mut sides = [false, true].into_iter().zip(&search.lookups);
        let stores = sides.any(|(v6, side)| side.is_some() && search.goal.stores(v6))
            && (search.known.is_empty() || !matches!(search.goal, Goal::Peers { .. }));
        if replied == 0 || (stores && search.stores == 0) {
            return Some((Failure::NoReplies, self.silence()));
        }
        (stores && search.stored == 0).then_some((Failure::AnnounceFailed, Cause::NodesGone))
    }

    /// Ends the search that is under way for a table.
    pub(super) fn abandon_round(&mut self, v6: bool) {
        let of_table =
            |s: &Search| matches!(s.requester, Requester::Table { v6: of, .. } if of == v6);
        let round = self.searches.iter().find(|(_, s)| of_table(s));
        if let Some(id) = round.map(|(id, _)| *id) {
            self.abandon(id);
        }
    }

    /// Ends a search without an event.
    pub(super) fn abandon(&mut self, id: LookupId) {
        let gone = self.searches.remove(&id);
        self.ready.retain(|other| *other != id);
        // Queries that were not sent yet are dropped when their turn comes.
        if let Some(Requester::Table { v6, .. }) = gone.map(|s| s.requester)
            && let Some(side) = &mut self.sides[usize::from(v6)]
        {
            side.searching = false;
        }
        self.reschedule();
    }

    /// Whether no node is left to be asked.
    pub(super) fn is_through(&self, id: LookupId) -> bool {
        let search = self.searches.get(&id);
        search.is_some_and(|s| !s.storing && s.lookups.iter().flatten().all(|l| l.is_done()))
    }

    /// Whether a query is still wanted.
    pub(super) fn is_wanted(&self, query: &Query) -> bool {
        match query.task {
            Task::Step { search, .. } | Task::Store { search, .. } => {
                self.searches.contains_key(&search)
            }
            _ => true,
        }
    }
}

/// The nodes of a reply, of one family.
pub(super) fn contacts<'a>(reply: &Reply<'a>, v6: bool) -> impl Iterator<Item = Contact> + use<'a> {
    let (list, stride) = if v6 {
        (reply.nodes6, crate::wire::krpc::COMPACT_V6)
    } else {
        (reply.nodes, crate::wire::krpc::COMPACT_V4)
    };
    list.chunks_exact(stride).filter_map(Contact::from_compact)
}

/// The item that a reply brings, if it is valid and newer than those before.
fn found_item(search: &mut Search, reply: &Reply<'_>) -> Option<FoundItem> {
    let value = reply.item.v?;
    match &search.goal {
        Goal::Immutable(target) => {
            let news = !search.found && item::immutable_target(value) == *target;
            search.found |= news;
            news.then(|| FoundItem {
                value: value.to_vec(),
                version: None,
            })
        }
        Goal::Mutable { key, salt } => {
            let (seq, sig) = (reply.item.seq?, reply.item.sig?);
            if search.version.is_some_and(|known| known >= seq)
                || !item::verify(key, salt, seq, value, sig)
            {
                return None;
            }
            search.version = Some(seq);
            Some(FoundItem {
                value: value.to_vec(),
                version: Some((seq, *sig)),
            })
        }
        _ => None,
    }
}
