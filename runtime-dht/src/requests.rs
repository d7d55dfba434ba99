//! The requests of the handles of a node, the names that are looked up for it, and its cache.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{Arc, mpsc},
};

use dunlin_core::{
    Cx, Instant, Machine, NodeId, OpId, Outcome,
    dht::{Dht, DhtEvent, Full, Goal, Saved, Service, ServiceEvent, Wanted},
    metainfo::HostPort,
};
use mio::Waker;

use super::{Answer, Calls, NodeConfig, NodeEvent, Sink, Status};
use dunlin_std::{
    dht_cache::{self, CacheLock},
    net::resolve::{Resolver, ResolverConfig},
};

/// Searches that may wait for nodes.
const MAX_WAITING: usize = 256;

/// Names a request to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

/// A request of a handle.
pub(super) enum Command {
    Search(RequestId, Goal, Sink),
    Cancel(RequestId),
    Ping(RequestId, HostPort, Sink),
    Sample(RequestId, HostPort, NodeId, Sink),
    Add(HostPort),
    Status(Box<dyn FnOnce(Status) + Send>),
    Save(Box<dyn FnOnce(Result<(), String>) + Send>),
    Stop,
}

/// The purpose of a name look-up.
enum Lookup {
    /// For the service.
    Node(HostPort, Wanted),
    /// To ping the node, which has this port.
    Ping(RequestId, u16),
    /// To ask the node, which has this port, for samples near a target.
    Sample(RequestId, u16, NodeId),
}

/// The requests that were accepted and not answered yet, and what the thread does for them.
pub(super) struct Requests<'a> {
    tell: &'a mut Box<dyn FnMut(NodeEvent) + Send>,
    local: Vec<SocketAddr>,
    external: Option<IpAddr>,
    started: Instant,
    /// The thread's counters, for the status.
    pub(super) calls: Calls,

    /// The receivers of answers.
    sinks: BTreeMap<RequestId, Sink>,
    /// The goals of the searches that have not begun.
    goals: BTreeMap<RequestId, Goal>,

    resolver: Resolver,
    names: BTreeMap<OpId, Lookup>,
    next_op: u64,
    outcomes: Vec<(OpId, Outcome)>,

    folder: Option<PathBuf>,
    guest: bool,
    /// This process owns the cache.
    lock: Option<CacheLock>,
    /// The content of the cache, to which a process that does not own it adds nodes.
    cached: Option<Saved>,
}

impl<'a> Requests<'a> {
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
            sinks: BTreeMap::new(),
            goals: BTreeMap::new(),
            resolver: Resolver::new(ResolverConfig::default(), notify),
            names: BTreeMap::new(),
            next_op: 0,
            outcomes: Vec::new(),
            folder: config.folder.clone(),
            guest: config.guest,
            lock: None,
            cached: None,
        }
    }

    /// Reads the state in the cache, for the node to begin with.
    pub(super) fn load(&mut self, now: Instant) -> Option<Saved> {
        self.started = now;
        let folder = self.folder.as_ref()?;
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
        let saved = loaded.saved?;
        Some(match self.guest {
            true => self.cached.insert(saved).clone().without_ids(),
            false => saved,
        })
    }

    /// Handles the requests of handles and the results of name look-ups; returns `false` to stop.
    pub(super) fn commands(
        &mut self,
        inbox: &mpsc::Receiver<Command>,
        service: &mut Service<RequestId>,
        cx: &mut Cx<'_>,
    ) -> bool {
        loop {
            match inbox.try_recv() {
                Ok(Command::Stop) => return false,
                Ok(command) => self.command(command, service, cx),
                Err(_) => break,
            }
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.resolver.drain(&mut outcomes);
        for (op, outcome) in outcomes.drain(..) {
            if let Some(lookup) = self.names.remove(&op) {
                self.resolved(lookup, outcome, service, cx);
            }
        }
        self.outcomes = outcomes;
        true
    }

    fn command(&mut self, command: Command, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        match command {
            Command::Search(id, goal, mut sink) => {
                if self.goals.len() >= MAX_WAITING {
                    return sink(Answer::Full);
                }
                self.sinks.insert(id, sink);
                self.goals.insert(id, goal);
                service.request(cx.now, id);
            }
            Command::Cancel(id) => {
                service.withdraw(id);
                self.goals.remove(&id);
                self.sinks.remove(&id);
            }
            Command::Ping(id, host, sink) => {
                self.sinks.insert(id, sink);
                let port = host.port;
                self.resolve(host, Lookup::Ping(id, port));
            }
            Command::Sample(id, host, target, sink) => {
                self.sinks.insert(id, sink);
                let port = host.port;
                self.resolve(host, Lookup::Sample(id, port, target));
            }
            Command::Add(host) => service.add_contacts(cx, [host]),
            Command::Status(tell) => tell(self.status(service, cx.now)),
            Command::Save(tell) => {
                let saved = service.save_now(cx.now).unwrap_or_default();
                let result = self.save(saved);
                tell(result);
            }
            Command::Stop => {}
        }
    }

    fn status(&self, service: &Service<RequestId>, now: Instant) -> Status {
        let node = service.node();
        let id = |v6: bool| {
            let config = node?.config();
            let takes_part = if v6 { config.ipv6 } else { config.ipv4 };
            takes_part.then(|| node.map(|node| node.id(v6))).flatten()
        };
        Status {
            stats: node.map(Dht::stats).unwrap_or_default(),
            id: id(false),
            id6: id(true),
            local: self.local.clone(),
            external: self.external,
            uptime: now.saturating_since(self.started),
            calls: self.calls,
        }
    }

    // ---- names ----

    fn resolve(&mut self, host: HostPort, lookup: Lookup) {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.names.insert(op, lookup);
        self.resolver.submit(op, host.host);
    }

    fn resolved(
        &mut self,
        lookup: Lookup,
        outcome: Outcome,
        service: &mut Service<RequestId>,
        cx: &mut Cx<'_>,
    ) {
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
        match (lookup, found) {
            (Lookup::Node(host, wanted), Ok(ips)) => {
                service.resolved(cx, host.port, wanted, Some(&ips));
            }
            (Lookup::Node(host, wanted), Err(reason)) => {
                service.resolved(cx, host.port, wanted, None);
                (self.tell)(NodeEvent::Unresolved { host, reason });
            }
            (Lookup::Ping(id, port), Ok(ips)) => {
                let addr = SocketAddr::new(ips[0], port);
                let asked = service.ping(cx, Some(id), addr).map(drop);
                self.asked(id, asked, addr, service);
            }
            (Lookup::Sample(id, port, target), Ok(ips)) => {
                let addr = SocketAddr::new(ips[0], port);
                let asked = service.sample(cx, id, addr, target);
                self.asked(id, asked, addr, service);
            }
            (Lookup::Ping(id, _) | Lookup::Sample(id, ..), Err(reason)) => {
                self.answer(id, Answer::Unresolved(reason));
            }
        }
    }

    /// Records a request to a node that was sent, or answers why it was not.
    fn asked(
        &mut self,
        id: RequestId,
        asked: Result<(), Full>,
        addr: SocketAddr,
        service: &Service<RequestId>,
    ) {
        if asked.is_err() {
            let admitted = service.node().is_some_and(|node| node.admits(&addr));
            self.answer(
                id,
                match admitted {
                    true => Answer::Full,
                    false => Answer::NotPublic(addr),
                },
            );
        }
    }

    // ---- answers ----

    /// Passes on the events of the service, and carries out those that request something.
    pub(super) fn events(&mut self, service: &mut Service<RequestId>, cx: &mut Cx<'_>) {
        while let Some(event) = service.poll_event() {
            match event {
                ServiceEvent::Answer { owner, event } => self.answer_event(owner, event),
                ServiceEvent::Ready(id) => {
                    // A search without a goal was cancelled.
                    let goal = self.goals.remove(&id);
                    if goal.is_some_and(|goal| service.search(cx, id, goal).is_err()) {
                        self.answer(id, Answer::Full);
                    }
                }
                ServiceEvent::Resolve { name, wanted } => {
                    self.resolve(name.clone(), Lookup::Node(name, wanted));
                }
                // An empty table must not replace a cache that may be of use another time.
                ServiceEvent::Save(saved) if self.folder.is_none() || saved.nodes.is_empty() => {}
                ServiceEvent::Save(saved) => {
                    if let Err(why) = self.save(saved) {
                        (self.tell)(NodeEvent::Cache(why));
                    }
                }
                ServiceEvent::External(ip) => {
                    self.external = Some(ip);
                    (self.tell)(NodeEvent::External(ip));
                }
                ServiceEvent::Log(log) => (self.tell)(NodeEvent::Log(log)),
                // The sockets are bound as long as the thread runs, and the mode does not change.
                _ => {}
            }
        }
    }

    fn answer_event(&mut self, id: RequestId, event: DhtEvent) {
        let answer = match event {
            DhtEvent::Peers { peers, .. } => Answer::Peers(peers),
            DhtEvent::Item { item, .. } => Answer::Item(item),
            DhtEvent::Done { report, .. } => Answer::Done(Box::new(report)),
            DhtEvent::Ping {
                addr,
                answer: Some((id, rtt, version)),
                ..
            } => Answer::Pong {
                addr,
                id,
                rtt,
                version,
            },
            DhtEvent::Ping { addr, .. } => Answer::Silent(addr),
            // A reply without hashes, number and interval does not answer this question.
            DhtEvent::Samples {
                addr,
                hashes,
                num: 0,
                interval,
            } if hashes.is_empty() && interval.is_zero() => Answer::Silent(addr),
            DhtEvent::Samples {
                addr,
                hashes,
                num,
                interval,
            } => Answer::Samples {
                addr,
                hashes,
                num,
                interval,
            },
            _ => return,
        };
        self.answer(id, answer);
    }

    /// Answers a request; its last answer ends it.
    fn answer(&mut self, id: RequestId, answer: Answer) {
        let last = answer.is_last();
        if let Some(sink) = self.sinks.get_mut(&id) {
            sink(answer);
        }
        if last {
            self.sinks.remove(&id);
        }
    }

    // ---- the cache ----

    fn save(&self, mut saved: Saved) -> Result<(), String> {
        let Some(folder) = &self.folder else {
            return Err("there is no session folder to keep the DHT's nodes in".into());
        };
        if self.guest {
            saved = saved.merged(self.cached.clone().unwrap_or_default());
        }
        dht_cache::save(folder, &saved).map_err(|error| error.to_string())
    }
}
