//! The client: sends queries within their budgets, and takes their replies.

use core::net::SocketAddr;

use super::Dht;
use super::queries::{Query, Task};
use super::searches::contacts;
use super::side::AT_ONCE;
use crate::dht::lookup::Ask;
use crate::dht::table::{Added, K};
use crate::dht::{Contact, DhtEvent, Goal, LookupId, secure_id};
use crate::wire::krpc::{self, Item, QueryOut, Reply, Want};
use crate::{Cx, InfoHash, NodeId, Transmit};

/// Nodes below which a table asks for nodes of its family wherever it can (BEP 32).
const FEW: u32 = 32;

impl Dht {
    /// Makes a query and queues it; `false` if there are too many.
    pub(super) fn enqueue(
        &mut self,
        cx: &mut Cx<'_>,
        task: Task,
        addr: SocketAddr,
        id: Option<NodeId>,
    ) -> bool {
        let slot = self.queries.open(cx, task, addr, id);
        self.outbox.extend(slot);
        slot.is_some()
    }

    /// Writes the next query: stores, then pings, then steps of searches.
    pub(super) fn ask(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if self.held_until.is_some_and(|at| at > cx.now) {
            return None;
        }
        self.held_until = None;
        while let Some(slot) = self.urgent.front().or(self.outbox.front()).copied() {
            let wanted = self
                .queries
                .get(slot)
                .filter(|q| self.is_wanted(q))
                .copied();
            let Some(query) = wanted else {
                self.queries.close(slot);
                self.dequeue();
                continue;
            };
            if !self.may_ask(cx, &query.addr) {
                return None;
            }
            self.dequeue();
            if let Some(transmit) = self.send(cx, slot, buf) {
                return Some(transmit);
            }
        }
        while let Some(id) = self.ready.front().copied() {
            if self.queries.is_full() {
                // A node that was silent for so long will hardly answer.
                let silent = self.queries.pop_silent(cx.now, self.rtt.stall() * 2)?;
                self.missed(cx, silent.task);
                continue;
            }
            let Some((v6, ask)) = self.next_step(cx, id) else {
                self.ready.pop_front();
                if self.is_through(id) {
                    self.advance(cx, id);
                }
                self.reschedule();
                continue;
            };
            if !self.may_ask(cx, &ask.addr) {
                self.unsent(id, v6, ask.slot);
                return None;
            }
            let task = Task::Step {
                search: id,
                v6,
                slot: ask.slot,
            };
            let slot = self.queries.open(cx, task, ask.addr, ask.id);
            if let Some(transmit) = slot.and_then(|slot| self.send(cx, slot, buf)) {
                self.reschedule();
                return Some(transmit);
            }
        }
        None
    }

    fn dequeue(&mut self) {
        if self.urgent.pop_front().is_none() {
            self.outbox.pop_front();
        }
    }

    fn next_step(&mut self, cx: &Cx<'_>, id: LookupId) -> Option<(bool, Ask)> {
        let stall = self.rtt.stall();
        let search = self.searches.get_mut(&id).filter(|s| !s.is_storing())?;
        for (v6, lookup) in [false, true].into_iter().zip(&mut search.lookups) {
            let ask = lookup.as_mut().and_then(|l| l.poll_query(cx.now, stall));
            if let Some(ask) = ask {
                return Some((v6, ask));
            }
        }
        None
    }

    fn unsent(&mut self, id: LookupId, v6: bool, slot: u8) {
        let search = self.searches.get_mut(&id);
        if let Some(lookup) = search.and_then(|s| s.lookups[usize::from(v6)].as_mut()) {
            lookup.unsent(slot);
        }
    }

    /// Whether the NAT has room for one more; if not, when it will have.
    fn may_ask(&mut self, cx: &Cx<'_>, addr: &SocketAddr) -> bool {
        if self.budget.spend(cx.now, addr) {
            return true;
        }
        self.held_back += 1;
        self.held_until = self.budget.next_at(cx.now);
        false
    }

    /// Writes a query that may be sent; `None` if it is given up instead.
    fn send(&mut self, cx: &mut Cx<'_>, slot: u16, buf: &mut [u8]) -> Option<Transmit> {
        let query = *self.queries.get(slot)?;
        let len = self
            .guard
            .may_send(cx.now, &query.addr)
            .then(|| self.write(slot, &query, buf));
        let Some(len) = len.flatten() else {
            self.queries.close(slot);
            self.failed(cx, &query);
            return None;
        };
        self.queries.sent(cx.now, slot);
        self.monitor.counters.queries_out += 1;
        self.monitor.counters.bytes_out += len as u64;
        if let Some(side) = &mut self.sides[usize::from(query.addr.is_ipv6())] {
            side.liveness.sent(cx.now);
        }
        Some(Transmit::to(query.addr, len))
    }

    fn write(&self, slot: u16, query: &Query, buf: &mut [u8]) -> Option<usize> {
        let v6 = query.addr.is_ipv6();
        let begun_as = match query.task {
            Task::Step { search, .. } | Task::Store { search, .. } => {
                self.searches.get(&search)?.own[usize::from(v6)]
            }
            _ => None,
        };
        let own = begun_as.unwrap_or(*self.sides[usize::from(v6)].as_ref()?.routes.own());
        let want = self.want();
        let out = match query.task {
            Task::Ping(_) => QueryOut::Ping,
            Task::Sample { target } => QueryOut::SampleInfohashes { target, want },
            Task::Refresh { target } => QueryOut::FindNode { target, want },
            Task::Step { search, .. } => {
                let search = self.searches.get(&search)?;
                let target = search.target;
                match &search.goal {
                    Goal::Nodes(_) => QueryOut::FindNode { target, want },
                    Goal::Peers { scrape, .. } => QueryOut::GetPeers {
                        info_hash: target,
                        want,
                        scrape: *scrape,
                        noseed: false,
                    },
                    _ => QueryOut::Get {
                        target,
                        seq: None,
                        want,
                    },
                }
            }
            Task::Store { search, v6, nth } => {
                let search = self.searches.get(&search)?;
                let lookup = search.lookups[usize::from(v6)].as_ref()?;
                let (_, _, token) = lookup.stores().nth(usize::from(nth))?;
                match &search.goal {
                    Goal::Peers { announce, .. } => {
                        let announce = (*announce)?;
                        QueryOut::AnnouncePeer {
                            info_hash: search.target,
                            token,
                            port: announce.port(v6)?,
                            implied_port: announce.implied,
                            seed: announce.seed,
                        }
                    }
                    Goal::PutImmutable(value) => {
                        let item = Item {
                            v: Some(value),
                            ..Item::default()
                        };
                        QueryOut::Put {
                            target: search.target,
                            token,
                            item,
                        }
                    }
                    Goal::PutMutable {
                        value,
                        key,
                        salt,
                        seq,
                        cas,
                        sig,
                    } => {
                        let item = Item {
                            v: Some(value),
                            k: Some(key),
                            sig: Some(sig),
                            seq: Some(*seq),
                            cas: *cas,
                            salt: (!salt.is_empty()).then_some(salt),
                            malformed: false,
                        };
                        QueryOut::Put {
                            target: search.target,
                            token,
                            item,
                        }
                    }
                    _ => return None,
                }
            }
        };
        krpc::query(
            buf,
            &self.queries.tid(slot),
            &own,
            self.is_read_only(),
            &out,
        )
    }

    /// Both families, while one of the tables is short of nodes (BEP 32).
    fn want(&self) -> Option<Want> {
        let [Some(v4), Some(v6)] = &self.sides else {
            return None;
        };
        let few = v4.routes.len().min(v6.routes.len()) < FEW;
        few.then_some(Want { v4: true, v6: true })
    }

    /// A reply came in.
    pub(super) fn replied(
        &mut self,
        cx: &mut Cx<'_>,
        from: SocketAddr,
        tid: &[u8],
        version: Option<&[u8]>,
        external: Option<SocketAddr>,
        reply: &Reply<'_>,
    ) {
        let (Some(slot), Some(id)) = (self.queries.find(tid, from), reply.id) else {
            self.monitor.counters.errors_caught += 1;
            return;
        };
        let Some(query) = self.queries.close(slot) else {
            return;
        };
        let v6 = from.is_ipv6();
        let rtt = query
            .sent
            .map_or(core::time::Duration::MAX, |at| cx.now.saturating_since(at));
        self.monitor.counters.replies += 1;
        self.rtt.add(rtt);
        self.verifying.retain(|a| *a != from);
        self.budget.heard(cx.now, &from);
        self.proven(cx.now, &from);
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        // Our own id is a reflection of our queries.
        if id == *side.routes.own() {
            return self.failed(cx, &query);
        }
        side.liveness.replied();
        let added = side.routes.replied(cx.now, &id, from, rtt);
        if added == Added::IdChanged {
            self.guard.changed_id(cx.now, from.ip());
        }
        if let Some(seen) = external {
            self.vote(cx, from, seen);
        }
        match added {
            Added::New | Added::Replaced => self.grown(cx.now, v6),
            // A node of a cache answers for the first time.
            Added::Known => {
                self.is_enough(cx.now, v6);
            }
            _ => {}
        }
        if query.id.is_some_and(|expected| expected != id) {
            return self.failed(cx, &query);
        }
        self.dispatch(cx, &query, Contact { id, addr: from }, rtt, version, reply);
    }

    fn dispatch(
        &mut self,
        cx: &mut Cx<'_>,
        query: &Query,
        from: Contact,
        rtt: core::time::Duration,
        version: Option<&[u8]>,
        reply: &Reply<'_>,
    ) {
        match query.task {
            Task::Ping(None) => self.found_alive(cx, &from),
            Task::Ping(Some(ping)) => {
                self.found_alive(cx, &from);
                let version = version.and_then(|v| v.try_into().ok()).unwrap_or_default();
                let answer = Some((from.id, rtt, version));
                self.tell(DhtEvent::Ping {
                    ping,
                    addr: from.addr,
                    answer,
                });
            }
            Task::Refresh { .. } => self.learn(cx, reply),
            Task::Sample { .. } => {
                let hashes = reply.samples.unwrap_or_default().as_chunks::<20>().0;
                self.tell(DhtEvent::Samples {
                    addr: from.addr,
                    hashes: hashes.iter().map(|h| InfoHash(*h)).collect(),
                    num: reply.num.unwrap_or(0),
                    interval: core::time::Duration::from_secs(reply.interval.unwrap_or(0)),
                });
            }
            Task::Step { search, v6, slot } => self.stepped(cx, (search, v6, slot), from, reply),
            Task::Store { search, .. } => self.confirmed(cx, search),
        }
    }

    /// Pings those of the nodes of a reply that the tables want.
    fn learn(&mut self, cx: &mut Cx<'_>, reply: &Reply<'_>) {
        for v6 in [false, true] {
            for node in contacts(reply, v6).take(K) {
                let side = self.sides[usize::from(v6)].as_ref();
                if side.is_some_and(|s| s.routes.wants(&node.id, node.addr)) {
                    self.verify(cx, node.addr, node.id);
                }
            }
        }
    }

    /// Handles an error: its sender is alive, but does not do what we asked.
    pub(super) fn refused(&mut self, cx: &mut Cx<'_>, from: SocketAddr, tid: &[u8]) {
        let Some(query) = self
            .queries
            .find(tid, from)
            .and_then(|slot| self.queries.close(slot))
        else {
            self.monitor.counters.errors_caught += 1;
            return;
        };
        self.monitor.counters.errors_received += 1;
        self.failed(cx, &query);
    }

    /// Queries that nobody answered in time.
    pub(super) fn time_out(&mut self, cx: &mut Cx<'_>) {
        while let Some(query) = self.queries.pop_timeout(cx.now) {
            // Whether that is the network's fault the table finds out (S22).
            if let Some(side) = &mut self.sides[usize::from(query.addr.is_ipv6())] {
                side.routes.failed(cx.now, query.addr);
            }
            self.failed(cx, &query);
        }
    }

    /// A query has failed.
    pub(super) fn failed(&mut self, cx: &mut Cx<'_>, query: &Query) {
        self.verifying.retain(|a| *a != query.addr);
        match query.task {
            // A node that asked for a large item gets the small answer, as any querier does.
            Task::Ping(None) => self.release(&query.addr),
            Task::Refresh { .. } => {}
            Task::Ping(Some(ping)) => {
                self.tell(DhtEvent::Ping {
                    ping,
                    addr: query.addr,
                    answer: None,
                });
            }
            Task::Sample { .. } => self.tell(DhtEvent::Samples {
                addr: query.addr,
                hashes: alloc::vec::Vec::new(),
                num: 0,
                interval: core::time::Duration::ZERO,
            }),
            Task::Step { .. } | Task::Store { .. } => self.missed(cx, query.task),
        }
    }

    /// A node reports the address at which it sees us (BEP 42).
    fn vote(&mut self, cx: &mut Cx<'_>, from: SocketAddr, seen: SocketAddr) {
        let v6 = from.is_ipv6();
        if seen.is_ipv6() != v6 {
            return;
        }
        let Some(agreed) = self.votes.vote(cx.now, from.ip(), seen) else {
            return;
        };
        self.tell(DhtEvent::External(agreed));
        let fixed = self.config.id.is_some() && !v6;
        let Some(side) = self.sides[usize::from(v6)].as_mut() else {
            return;
        };
        if !fixed && !self.config.local && !secure_id::is_secure(side.routes.own(), agreed) {
            let id = secure_id::secure(cx, agreed);
            side.routes.set_own(cx.now, id);
            // Our id changes, so a search for the neighbours of the old one would waste the budget.
            (side.rounds, side.round) = (0, Some(cx.now + AT_ONCE));
            self.abandon_round(v6);
            self.own_changed();
        }
    }
}
