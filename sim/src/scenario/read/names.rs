//! The names in a scenario, and the checks of references to them.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::scenario::{
    model::{
        Kind, NameAnswer, Options,
        kinds::{KINDS, KindInfo},
        population,
    },
    syntax::{
        document::{Document, Entry, ValueKind},
        error::{Errors, ScenarioError, suggest},
        value,
    },
};

/// What a name refers to.
#[derive(Clone, Copy)]
pub(crate) enum Referent {
    Router,
    /// A host. The port is its own, or that of its kind. An unknown kind is rejected when the host
    /// is read, and is right for every reference.
    Host {
        kind: Option<Kind>,
        port: u16,
    },
}

/// A host that is referred to.
pub(crate) struct HostRef {
    pub(crate) kind: Option<Kind>,
    pub(crate) port: u16,
}

/// Every router and host, and the groups of them.
pub(crate) struct Names {
    nodes: BTreeMap<String, Referent>,
    groups: BTreeMap<String, Vec<String>>,
    /// The members of populations.
    populations: BTreeSet<String>,
    /// The hosts with a `keepalive`.
    kept_alive: BTreeSet<String>,
    /// The names that groups stood for so far.
    resolved: Cell<usize>,
}

/// The most names that groups stand for in the options of all hosts.
const MAX_RESOLVED: usize = 1_000_000;

type Res<T> = Result<T, ScenarioError>;

impl Names {
    /// Collects the names first, so that the order in the file does not matter. Other errors of an
    /// entry are reported when that entry is read.
    pub(crate) fn read(doc: &Document, errors: &mut Errors) -> Self {
        let mut names = BTreeMap::new();
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut populations = BTreeSet::new();
        let mut kept_alive = BTreeSet::new();
        for entry in &doc.entries {
            let is_host = entry.section == "host";
            if !is_host && entry.section != "router" {
                continue;
            }
            let Some(Ok(name)) = entry.item("name").map(|i| value::name(&i.value)) else {
                continue;
            };
            let named = if is_host {
                host(entry)
            } else {
                Referent::Router
            };
            if names.insert(name.clone(), named).is_some() {
                let message = format!("there is a `{name}` already");
                let help = "every router and host has a name of its own";
                errors.keep::<()>(Err(doc.error(entry.place("name"), message, help)));
            }
            let of = entry
                .item("group")
                .and_then(|i| value::names(&i.value).ok());
            let of = of.unwrap_or_default();
            if entry.item("keepalive").is_some() {
                kept_alive.insert(name.clone());
            }
            if population(&name, &of).is_some() {
                populations.insert(name.clone());
            }
            for group in of {
                groups.entry(group).or_default().push(name.clone());
            }
            if errors.is_full() {
                break;
            }
        }
        let nodes = names;
        for entry in &doc.entries {
            let of = entry
                .item("group")
                .and_then(|i| value::names(&i.value).ok());
            let is_taken = |g: &String| nodes.contains_key(g);
            if let Some(group) = of.and_then(|of| of.into_iter().find(is_taken)) {
                let message =
                    format!("there is a router or host `{group}`, and a group of that name");
                let help = "every group has a name of its own";
                errors.keep::<()>(Err(doc.error(entry.place("group"), message, help)));
                break;
            }
        }
        Self {
            nodes,
            groups,
            populations,
            kept_alive,
            resolved: Cell::new(0),
        }
    }

    /// The members of each group.
    pub(crate) fn into_groups(self) -> BTreeMap<String, Vec<String>> {
        self.groups
    }

    pub(crate) fn is_group(&self, name: &str) -> bool {
        self.groups.contains_key(name)
    }

    /// The hosts of a group; `None` when there is no group of this name.
    pub(crate) fn group(&self, name: &str) -> Option<Vec<String>> {
        let is_host = |n: &&String| matches!(self.nodes.get(*n), Some(Referent::Host { .. }));
        let members = self.groups.get(name)?.iter();
        Some(members.filter(is_host).cloned().collect())
    }

    /// The names with the hosts of groups in place of the groups.
    pub(crate) fn each(&self, names: &[String]) -> Vec<String> {
        let all = names
            .iter()
            .map(|n| self.group(n).unwrap_or_else(|| vec![n.clone()]));
        all.flatten().collect()
    }

    /// Puts the members of groups in place of the groups that a host's options name.
    pub(crate) fn resolve(
        &self,
        doc: &Document,
        entry: &Entry,
        own: &str,
        options: &mut Options,
        errors: &mut Errors,
    ) {
        for (key, names) in [
            ("trackers", &mut options.trackers),
            ("peers", &mut options.peers),
            ("bootstrap", &mut options.bootstrap),
        ] {
            if !names.iter().any(|n| self.groups.contains_key(n)) {
                continue;
            }
            let of = names.iter().filter_map(|n| self.groups.get(n));
            let more = self.resolved.get() + of.map(Vec::len).sum::<usize>();
            self.resolved.set(more);
            if more > MAX_RESOLVED {
                let help = format!(
                    "groups stand for at most {MAX_RESOLVED} names in all; give a tracker instead"
                );
                errors.keep::<()>(Err(doc.error(entry.place(key), "this is too much", help)));
                names.clear();
                continue;
            }
            *names = self.each(names);
            names.retain(|n| n != own);
        }
    }

    fn missing(&self, doc: &Document, at: Range<usize>, name: &str, what: &str) -> ScenarioError {
        if let Some(group) = self.groups.get(name) {
            let message = format!("`{name}` stands for {} of them", group.len());
            let one = group.first().map_or("", String::as_str);
            return doc.error(at, message, format!("name one, such as `{one}`"));
        }
        let is_router = |n: &Referent| matches!(n, Referent::Router);
        let fits = |n: &Referent| match what {
            "router" => is_router(n),
            "host" => !is_router(n),
            _ => true,
        };
        // A population is told of once.
        let is_member = |name: &str| self.populations.contains(name);
        let known = self
            .nodes
            .iter()
            .filter(|(k, n)| fits(n) && !is_member(k))
            .map(|(k, _)| k.as_str());
        let of_them = |members: &Vec<String>| {
            let first = members.first().and_then(|m| self.nodes.get(m));
            first.is_some_and(&fits)
        };
        let groups = self.groups.iter().filter(|(_, members)| of_them(members));
        let groups = groups.map(|(name, _)| name.as_str());
        let known: Vec<&str> = known.chain(groups).take(20).collect();
        let plural = if what == "router" { "routers" } else { "names" };
        let help = suggest(name, known, plural);
        doc.error(at, format!("there is no {what} `{name}`"), help)
    }

    pub(crate) fn router(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        match self.nodes.get(name) {
            Some(Referent::Router) => Ok(()),
            Some(Referent::Host { .. }) => {
                let message = format!("`{name}` is a host");
                Err(doc.error(at, message, "this takes a router"))
            }
            None => Err(self.missing(doc, at, name, "router")),
        }
    }

    pub(crate) fn host(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<HostRef> {
        match self.nodes.get(name) {
            Some(Referent::Host { kind, port }) => Ok(HostRef {
                kind: *kind,
                port: *port,
            }),
            Some(Referent::Router) => {
                let message = format!("`{name}` is a router");
                Err(doc.error(at, message, "this takes a host"))
            }
            None => Err(self.missing(doc, at, name, "host")),
        }
    }

    pub(crate) fn node(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        match self.nodes.contains_key(name) {
            true => Ok(()),
            false => Err(self.missing(doc, at, name, "router or host")),
        }
    }

    /// The port of a host; `None` for a router.
    pub(crate) fn port(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<Option<u16>> {
        match self.nodes.get(name) {
            Some(Referent::Host { port, .. }) => Ok(Some(*port)),
            Some(Referent::Router) => Ok(None),
            None => Err(self.missing(doc, at, name, "router or host")),
        }
    }

    /// Checks that a name is that of a host whose kind satisfies a condition.
    fn host_that(
        &self,
        doc: &Document,
        at: Range<usize>,
        name: &str,
        fits: impl Fn(&KindInfo) -> bool,
    ) -> Res<HostRef> {
        let there = self.host(doc, at.clone(), name)?;
        let kind = match there.kind {
            Some(kind) if !fits(kind.info()) => kind,
            _ => return Ok(there),
        };
        let kinds: Vec<&str> = KINDS.iter().filter(|k| fits(k)).map(|k| k.name).collect();
        let message = format!("`{name}` is of kind `{}`", kind.info().name);
        Err(doc.error(at, message, format!("this takes {}", kinds.join(" or "))))
    }

    pub(crate) fn sender(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<HostRef> {
        self.host_that(doc, at, name, |k| k.kind == Kind::Manual)
    }

    pub(crate) fn mapper(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<HostRef> {
        let maps = |k: &KindInfo| matches!(k.kind, Kind::Manual | Kind::Echo);
        self.host_that(doc, at, name, maps)
    }

    pub(crate) fn asker(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        let asks = |k: &KindInfo| matches!(k.kind, Kind::Manual | Kind::Steady);
        self.host_that(doc, at, name, asks).map(|_| ())
    }

    pub(crate) fn steady(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        self.host_that(doc, at, name, |k| k.kind == Kind::Steady)
            .map(|_| ())
    }

    pub(crate) fn stun_client(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        self.host_that(doc, at, name, |k| k.kind == Kind::StunClient)
            .map(|_| ())
    }

    pub(crate) fn engine(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        self.host_that(doc, at, name, |k| k.kind.is_engine())
            .map(|_| ())
    }

    /// Checks that a name is that of a host that connects to another one. The connections of
    /// engines come and go, so expectations cannot name them.
    pub(crate) fn puncher(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        self.host_that(doc, at, name, |k| k.kind.is_puncher())
            .map(|_| ())
    }

    /// Checks that a name is that of a host that can tell whether its connection lives.
    pub(crate) fn lasting(&self, doc: &Document, at: Range<usize>, name: &str) -> Res<()> {
        self.host_that(doc, at.clone(), name, |k| k.kind == Kind::UdpPunch)?;
        match self.kept_alive.contains(name) {
            true => Ok(()),
            false => {
                let message = format!("`{name}` sends nothing once it is connected");
                Err(doc.error(at, message, "give it `keepalive = \"25s\"`"))
            }
        }
    }

    /// The members of a group, or the one router or host of this name.
    pub(crate) fn members(&self, name: &str) -> Vec<String> {
        let group = self.groups.get(name).cloned();
        group.unwrap_or_else(|| vec![name.into()])
    }

    /// Checks the hosts that the options of a host refer to.
    pub(crate) fn options(
        &self,
        doc: &Document,
        entry: &Entry,
        kind: Kind,
        own: &str,
        options: &Options,
        errors: &mut Errors,
    ) {
        if let Some(to) = &options.to {
            errors.keep(self.receiver(doc, entry.place("to"), kind, own, to));
        }
        if let Some(via) = &options.via {
            let at = entry.place("via");
            errors.keep(self.host_that(doc, at, via, |k| k.kind == Kind::Rendezvous));
        }
        for tracker in &options.trackers {
            let at = entry.place("trackers");
            errors.keep(self.host_that(doc, at, tracker, |k| k.kind == Kind::Tracker));
        }
        for server in &options.dns {
            let at = entry.place("dns");
            errors.keep(self.host_that(doc, at, server, |k| k.kind == Kind::Dns));
        }
        for node in &options.bootstrap {
            let at = entry.place("bootstrap");
            errors.keep(self.host_that(doc, at, node, |k| k.kind == Kind::Dht));
        }
        for name in &options.names {
            if let NameAnswer::Node(node) = &name.answer {
                errors.keep(self.node(doc, entry.place("names"), node));
            }
        }
        for peer in &options.peers {
            let at = entry.place("peers");
            errors.keep(self.host_that(doc, at, peer, |k| k.kind.is_engine()));
        }
    }

    /// Checks the host that a host of this kind sends or connects to.
    fn receiver(
        &self,
        doc: &Document,
        at: Range<usize>,
        kind: Kind,
        own: &str,
        to: &str,
    ) -> Res<()> {
        if to == own {
            return Err(doc.error(at, "that is the host itself", "name another"));
        }
        let Some(there) = self.host(doc, at.clone(), to)?.kind else {
            return Ok(());
        };
        let of_kind = format!("`{to}` is of kind `{}`", there.info().name);
        if kind.is_puncher() && there != kind {
            let help = format!("both ends are `{}`", kind.info().name);
            return Err(doc.error(at, of_kind, help));
        }
        if kind == Kind::StunClient && there != Kind::Stun {
            return Err(doc.error(at, of_kind, "nothing but a `stun` host answers"));
        }
        if kind == Kind::Steady && there != Kind::Echo {
            return Err(doc.error(at, of_kind, "nothing but an `echo` host answers"));
        }
        Ok(())
    }
}

fn host(entry: &Entry) -> Referent {
    let kind = entry.item("kind").and_then(|i| match &i.value.kind {
        ValueKind::Text(t) => KINDS.iter().find(|k| k.name == t),
        _ => None,
    });
    let port = entry
        .item("port")
        .and_then(|i| value::short(&i.value, 1, u16::MAX).ok());
    Referent::Host {
        kind: kind.map(|k| k.kind),
        port: port.or(kind.map(|k| k.port)).unwrap_or_default(),
    }
}
