//! What a node was asked for, and who waits for it; names of nodes to begin with; the cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use dunlin_core::{
    Cx, Instant, Machine, NodeId, OpId, Outcome,
    dht::{Cause, Dht, DhtEvent, Failure, Goal, LookupId, LookupReport, PingId, Saved},
    metainfo::HostPort,
};
use mio::Waker;

use super::{Answer, Calls, NodeConfig, NodeEvent, Sink, Status};
use crate::{
    dht_cache::{self, CacheLock},
    net::resolve::{Resolver, ResolverConfig},
};

/// Nodes that are enough to search with. Our choice: the first bucket's worth.
const ENOUGH_NODES: u32 = 8;
/// A search waits for the first node at most this long, then it fails by itself. Our choice: a name is
/// looked up and a node answers within that, or there is something wrong.
const PATIENCE: Duration = Duration::from_secs(10);
/// After the first node others are waited for this long, so that there are [`ENOUGH_NODES`].
const GATHERING: Duration = Duration::from_millis(500);
/// How often is looked whether a search may begin.
const GATHERING_TICK: Duration = Duration::from_millis(20);
/// How often names to begin with are looked up at most.
const BEG_PERIOD: Duration = Duration::from_secs(5);
/// How often the cache is written, if the table changed (S29: with the session, 1200 s).
const SAVE_PERIOD: Duration = Duration::from_secs(1200);
/// The first time it is written sooner.
const FIRST_SAVE: Duration = Duration::from_secs(60);
/// Searches that may wait for nodes.
const MAX_WAITING: usize = 256;
/// Nodes in a cache that a guest adds to; the youngest stay. Our choice: more than a full table has,
/// less than is read.
const MAX_CACHED: usize = 1024;
/// Pings and samples that may wait for an answer, each.
const MAX_ASKED: usize = 256;

/// Names a search of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// What a handle asks for.
pub(super) enum Command {
    Search(RequestId, Goal, Sink),
    Cancel(RequestId),
    Ping(HostPort, Sink),
    Sample(HostPort, NodeId, Sink),
    Add(HostPort),
    Status(Box<dyn FnOnce(Status) + Send>),
    Save(Box<dyn FnOnce(Result<(), String>) + Send>),
    Stop,
}

/// What a name is looked up for.
enum For {
    Contact(HostPort),
    Ping(u16, Sink),
    Sample(u16, NodeId, Sink),
}

/// A search that waits for nodes.
struct Waiting {
    id: RequestId,
    goal: Goal,
    sink: Sink,
    since: Instant,
}

/// Whom the thread answers.
pub(super) struct Desk<'a> {
    tell: &'a mut Box<dyn FnMut(NodeEvent) + Send>,
    local: Vec<SocketAddr>,
    external: Option<IpAddr>,
    started: Instant,
    /// What the thread did, for the status.
    pub(super) calls: Calls,

    resolver: Resolver,
    names: BTreeMap<OpId, For>,
    next_op: u64,
    outcomes: Vec<(OpId, Outcome)>,

    waiting: Vec<Waiting>,
    /// When the first node was seen.
    first_node: Option<Instant>,
    /// When to look again whether they may begin.
    next_try: Instant,
    searches: BTreeMap<LookupId, (RequestId, Sink)>,
    pings: BTreeMap<PingId, Sink>,
    samples: Vec<(SocketAddr, Sink)>,

    bootstrap: Vec<HostPort>,
    routers: Vec<HostPort>,
    /// When the routers were asked.
    begged_at: Option<Instant>,
    /// A name was looked up in vain, and none with success.
    no_names: bool,

    folder: Option<PathBuf>,
    guest: bool,
    /// The cache is ours.
    lock: Option<CacheLock>,
    /// What the cache held, for a guest to add to.
    cached: Option<Saved>,
    /// When to write it, if the table changed.
    save_at: Option<Instant>,
    last_save: Option<Instant>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(
        config: &NodeConfig,
        local: Vec<SocketAddr>,
        waker: &Arc<Waker>,
        tell: &'a mut Box<dyn FnMut(NodeEvent) + Send>,
    ) -> Self {
        let waker = Arc::clone(waker);
        let notify = Arc::new(move || waker.wake().unwrap_or_default());
        Self {
            tell,
            local,
            external: None,
            started: Instant::ORIGIN,
            calls: Calls::default(),
            resolver: Resolver::new(ResolverConfig::default(), notify),
            names: BTreeMap::new(),
            next_op: 0,
            outcomes: Vec::new(),
            waiting: Vec::new(),
            first_node: None,
            next_try: Instant::ORIGIN,
            searches: BTreeMap::new(),
            pings: BTreeMap::new(),
            samples: Vec::new(),
            bootstrap: config.bootstrap.clone(),
            routers: config.routers.clone(),
            begged_at: None,
            no_names: false,
            folder: config.folder.clone(),
            guest: config.guest,
            lock: None,
            cached: None,
            save_at: None,
            last_save: None,
        }
    }

    /// Gives the node what the cache holds.
    pub(super) fn restore(&mut self, dht: &mut Dht, cx: &mut Cx<'_>) {
        let Some(folder) = &self.folder else { return };
        if !self.guest {
            match dht_cache::claim(folder) {
                Ok(lock) => self.lock = Some(lock),
                Err(error) => {
                    self.guest = true;
                    let note = format!("{error}; the DHT node takes an id of its own");
                    (self.tell)(NodeEvent::Cache(note));
                }
            }
        }
        let loaded = dht_cache::load(folder);
        if let Some(note) = loaded.note {
            (self.tell)(NodeEvent::Cache(note));
        }
        let Some(mut saved) = loaded.saved else {
            return;
        };
        if self.guest {
            self.cached = Some(saved.clone());
            // Two nodes of one id would be one too many.
            (saved.id, saved.id6) = (None, None);
        }
        self.bootstrap.append(&mut saved.contacts);
        dht.restore(cx, &saved);
    }

    /// The node has started.
    pub(super) fn begin(&mut self, now: Instant) {
        self.started = now;
        for host in self.bootstrap.clone() {
            self.contact(host);
        }
    }

    /// The node has nobody to begin with, or nobody who answers.
    fn need_contacts(&mut self, now: Instant) {
        if self.begged_at.is_some_and(|at| at + BEG_PERIOD > now) {
            return;
        }
        // At the start the others were asked already.
        let again = self.begged_at.replace(now).is_some();
        let others = self.bootstrap.iter().filter(|_| again);
        for host in others.chain(&self.routers).cloned().collect::<Vec<_>>() {
            self.contact(host);
        }
    }

    /// The next time there is something to do without being called.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let gathering = (!self.waiting.is_empty()).then_some(self.next_try);
        [gathering, self.save_at].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, dht: &mut Dht, cx: &mut Cx<'_>) {
        if self.save_at.is_some_and(|at| at <= cx.now) {
            self.write(dht, cx.now);
        }
        self.try_searches(dht, cx);
    }

    /// Begins the searches that wait, if there are nodes to ask.
    fn try_searches(&mut self, dht: &mut Dht, cx: &mut Cx<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        self.next_try = cx.now + GATHERING_TICK;
        let nodes = dht.stats().good_nodes;
        if nodes > 0 && self.first_node.is_none() {
            self.first_node = Some(cx.now);
        }
        let gathered = self.first_node.is_some_and(|at| at + GATHERING <= cx.now);
        let now = cx.now;
        let ready = |w: &mut Waiting| {
            nodes >= ENOUGH_NODES || nodes > 0 && gathered || w.since + PATIENCE <= now
        };
        for mut waiting in self.waiting.extract_if(.., ready).collect::<Vec<_>>() {
            match dht.search(cx, waiting.goal) {
                Ok(lookup) => {
                    self.searches.insert(lookup, (waiting.id, waiting.sink));
                }
                Err(_) => (waiting.sink)(Answer::Full),
            }
        }
    }

    /// Does what handles asked for and what names turned out to be; `false` to stop.
    pub(super) fn commands(
        &mut self,
        inbox: &mpsc::Receiver<Command>,
        dht: &mut Dht,
        cx: &mut Cx<'_>,
    ) -> bool {
        loop {
            match inbox.try_recv() {
                Ok(Command::Stop) => return false,
                Ok(command) => self.command(command, dht, cx),
                Err(_) => break,
            }
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.resolver.drain(&mut outcomes);
        for (op, outcome) in outcomes.drain(..) {
            if let Some(what) = self.names.remove(&op) {
                self.resolved(what, outcome, dht, cx);
            }
        }
        self.outcomes = outcomes;
        true
    }

    fn command(&mut self, command: Command, dht: &mut Dht, cx: &mut Cx<'_>) {
        match command {
            Command::Search(id, goal, mut sink) => {
                if self.waiting.len() >= MAX_WAITING {
                    return sink(Answer::Full);
                }
                self.waiting.push(Waiting {
                    id,
                    goal,
                    sink,
                    since: cx.now,
                });
                self.try_searches(dht, cx);
            }
            Command::Cancel(id) => {
                self.waiting.retain(|w| w.id != id);
                let found = self.searches.iter().find(|(_, (of, _))| *of == id);
                if let Some(lookup) = found.map(|(lookup, _)| *lookup) {
                    self.searches.remove(&lookup);
                    dht.cancel(lookup);
                }
            }
            Command::Ping(host, sink) => {
                let port = host.port;
                self.resolve(host, For::Ping(port, sink));
            }
            Command::Sample(host, target, sink) => {
                let port = host.port;
                self.resolve(host, For::Sample(port, target, sink));
            }
            Command::Add(host) => self.contact(host),
            Command::Status(tell) => tell(self.status(dht, cx.now)),
            Command::Save(tell) => {
                let result = self.save(dht, cx.now);
                tell(result);
            }
            Command::Stop => {}
        }
    }

    fn status(&self, dht: &Dht, now: Instant) -> Status {
        let config = dht.config();
        Status {
            stats: dht.stats(),
            id: config.ipv4.then(|| dht.id(false)),
            id6: config.ipv6.then(|| dht.id(true)),
            local: self.local.clone(),
            external: self.external,
            uptime: now.saturating_since(self.started),
            calls: self.calls,
        }
    }

    fn contact(&mut self, host: HostPort) {
        self.resolve(host.clone(), For::Contact(host));
    }

    fn resolve(&mut self, host: HostPort, what: For) {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.names.insert(op, what);
        self.resolver.submit(op, host.host);
    }

    fn resolved(&mut self, what: For, outcome: Outcome, dht: &mut Dht, cx: &mut Cx<'_>) {
        let found = match outcome {
            Outcome::Resolved(ips) => Ok(ips),
            Outcome::Failed { error, .. } => Err(error.detail),
            _ => Err("no answer".into()),
        };
        let usable = |ip: &&IpAddr| self.local.iter().any(|l| l.is_ipv4() == ip.is_ipv4());
        let found = found.and_then(|ips| {
            let ips: Vec<_> = ips.iter().filter(usable).copied().collect();
            match ips.is_empty() {
                true => Err("no address of a family that is used here".into()),
                false => Ok(ips),
            }
        });
        match (what, found) {
            (For::Contact(host), Ok(ips)) => {
                self.no_names = false;
                for ip in ips {
                    dht.add_contact(cx, SocketAddr::new(ip, host.port));
                }
            }
            (For::Contact(host), Err(reason)) => {
                self.no_names |= dht.stats().nodes == 0;
                (self.tell)(NodeEvent::Unresolved { host, reason });
            }
            (For::Ping(port, sink), Ok(ips)) => {
                let addr = SocketAddr::new(ips[0], port);
                self.ping(addr, sink, dht, cx);
            }
            (For::Sample(port, target, sink), Ok(ips)) => {
                let addr = SocketAddr::new(ips[0], port);
                self.sample(addr, target, sink, dht, cx);
            }
            (For::Ping(_, mut sink) | For::Sample(_, _, mut sink), Err(reason)) => {
                sink(Answer::Unresolved(reason));
            }
        }
    }

    fn ping(&mut self, addr: SocketAddr, mut sink: Sink, dht: &mut Dht, cx: &mut Cx<'_>) {
        if self.pings.len() >= MAX_ASKED {
            return sink(Answer::Full);
        }
        match dht.ping(cx, addr) {
            Ok(ping) => drop(self.pings.insert(ping, sink)),
            Err(_) => sink(refusal(dht, addr)),
        }
    }

    fn sample(
        &mut self,
        addr: SocketAddr,
        target: NodeId,
        mut sink: Sink,
        dht: &mut Dht,
        cx: &mut Cx<'_>,
    ) {
        // One at a time of each node: its answer names nothing else.
        let asked = self.samples.iter().any(|(to, _)| *to == addr);
        if asked || self.samples.len() >= MAX_ASKED {
            return sink(Answer::Full);
        }
        match dht.sample(cx, addr, target) {
            Ok(()) => self.samples.push((addr, sink)),
            Err(_) => sink(refusal(dht, addr)),
        }
    }

    /// Passes on what the node tells.
    pub(super) fn events(&mut self, dht: &mut Dht, cx: &mut Cx<'_>) {
        while let Some(event) = dht.poll_event() {
            match event {
                DhtEvent::Peers { lookup, peers } => self.found(lookup, Answer::Peers(peers)),
                DhtEvent::Item { lookup, item } => self.found(lookup, Answer::Item(item)),
                DhtEvent::Done { lookup, report } => {
                    let report = Box::new(self.explain(report));
                    self.found(lookup, Answer::Done(report));
                    self.searches.remove(&lookup);
                }
                DhtEvent::Ping { ping, addr, answer } => {
                    if let Some(mut sink) = self.pings.remove(&ping) {
                        sink(match answer {
                            Some((id, rtt, version)) => Answer::Pong {
                                addr,
                                id,
                                rtt,
                                version,
                            },
                            None => Answer::Silent(addr),
                        });
                    }
                }
                DhtEvent::Samples {
                    addr,
                    hashes,
                    num,
                    interval,
                } => {
                    let at = self.samples.iter().position(|(to, _)| *to == addr);
                    if let Some(at) = at {
                        let (_, mut sink) = self.samples.swap_remove(at);
                        // Without hashes, a number and an interval, the reply does not answer this question.
                        let silent = hashes.is_empty() && num == 0 && interval.is_zero();
                        sink(match silent {
                            true => Answer::Silent(addr),
                            false => Answer::Samples {
                                addr,
                                hashes,
                                num,
                                interval,
                            },
                        });
                    }
                }
                DhtEvent::External(ip) => {
                    self.external = Some(ip);
                    (self.tell)(NodeEvent::External(ip));
                }
                DhtEvent::Log(log) => (self.tell)(NodeEvent::Log(log)),
                DhtEvent::NeedContacts { .. } => self.need_contacts(cx.now),
                DhtEvent::TableChanged => self.changed(cx.now),
                _ => {}
            }
        }
        self.try_searches(dht, cx);
    }

    fn found(&mut self, lookup: LookupId, answer: Answer) {
        if let Some((_, sink)) = self.searches.get_mut(&lookup) {
            sink(answer);
        }
    }

    /// The node knows no names: whether they are the reason is known here.
    fn explain(&self, mut report: LookupReport) -> LookupReport {
        if self.no_names
            && let Some((Failure::NoNodes, cause @ Cause::NoContacts)) = &mut report.failure
        {
            *cause = Cause::Dns;
        }
        report
    }

    fn changed(&mut self, now: Instant) {
        if self.folder.is_some() && self.save_at.is_none() {
            let next = self
                .last_save
                .map_or(self.started + FIRST_SAVE, |at| at + SAVE_PERIOD);
            self.save_at = Some(next.max(now));
        }
    }

    fn write(&mut self, dht: &Dht, now: Instant) {
        if let Err(why) = self.save(dht, now) {
            (self.tell)(NodeEvent::Cache(why));
        }
    }

    fn save(&mut self, dht: &Dht, now: Instant) -> Result<(), String> {
        (self.save_at, self.last_save) = (None, Some(now));
        let Some(folder) = &self.folder else {
            return Err("there is no session folder to keep the DHT's nodes in".into());
        };
        let mut saved = dht.save(now);
        if self.guest {
            saved = merged(saved, self.cached.clone().unwrap_or_default());
        }
        dht_cache::save(folder, &saved).map_err(|error| error.to_string())
    }

    /// The node has stopped: what it knows is kept, if it knows anything.
    pub(super) fn end(&mut self, dht: &Dht, now: Instant) {
        if self.folder.is_some() && dht.nodes().next().is_some() {
            self.write(dht, now);
        }
        self.lock = None;
    }
}

/// What a guest leaves in the cache of another: its nodes with those that were there.
fn merged(own: Saved, cached: Saved) -> Saved {
    let mut nodes = own.nodes;
    let known: BTreeSet<NodeId> = nodes.iter().map(|(contact, _)| contact.id).collect();
    let others = cached.nodes.into_iter();
    nodes.extend(others.filter(|(contact, _)| !known.contains(&contact.id)));
    nodes.sort_by_key(|(_, age)| *age);
    nodes.truncate(MAX_CACHED);
    Saved {
        id: cached.id,
        id6: cached.id6,
        nodes,
        contacts: cached.contacts,
    }
}

/// Why a node was not asked.
fn refusal(dht: &Dht, addr: SocketAddr) -> Answer {
    match dht.admits(&addr) {
        true => Answer::Full,
        false => Answer::NotPublic(addr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_core::dht::Contact;

    #[test]
    fn guests_leave_the_id_and_never_more_than_fits() {
        let node = |n: u16, age| {
            let mut id = NodeId([0; 20]);
            id.0[..2].copy_from_slice(&n.to_be_bytes());
            let addr = ([192, 0, 2, 1], n).into();
            (Contact { id, addr }, age)
        };
        let mut cached = Saved {
            id: Some(NodeId([9; 20])),
            nodes: (0..8).map(|n| node(n, 100)).collect(),
            ..Saved::default()
        };
        for round in 0..30u16 {
            let own = Saved {
                id: Some(NodeId([1; 20])),
                nodes: (0..100)
                    .map(|n| node(round * 50 + n, u32::from(round)))
                    .collect(),
                ..Saved::default()
            };
            cached = merged(own, cached);
        }
        assert_eq!(cached.id, Some(NodeId([9; 20])));
        assert_eq!(cached.nodes.len(), MAX_CACHED);
        let ids: BTreeSet<_> = cached.nodes.iter().map(|(c, _)| c.id).collect();
        assert_eq!(ids.len(), MAX_CACHED, "none twice");
        assert!(cached.nodes.iter().all(|(_, age)| *age < 100));
    }
}
