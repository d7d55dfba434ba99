//! The rules of imports: see the documentation of the crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use crate::model::{Crate, ModuleId};
use crate::resolve::Found;
use crate::uses;

/// The crates of the workspace: name, root file, and which others of the workspace its code may use.
pub const CRATES: &[(&str, &str, &[&str])] = &[
    ("dunlin_core", "core/src/lib.rs", &[]),
    ("dunlin_std", "runtime-std/src/lib.rs", &["dunlin_core"]),
    // A driver of the DHT's service alone, for drivers of the engine to hand out.
    (
        "dunlin_dht",
        "runtime-dht/src/lib.rs",
        &["dunlin_core", "dunlin_std"],
    ),
    (
        "dunlin_smoltcp",
        "runtime-smoltcp/src/lib.rs",
        &["dunlin_core"],
    ),
    (
        "dunlin_tokio",
        "runtime-tokio/src/lib.rs",
        &["dunlin_core", "dunlin_std", "dunlin_dht"],
    ),
    // The command is a crate of its own, above the library.
    (
        "dunlin",
        "runtime-tokio/src/bin/dunlin/main.rs",
        &["dunlin_core", "dunlin_std", "dunlin_dht", "dunlin_tokio"],
    ),
    (
        "dunlin_mio",
        "runtime-mio/src/lib.rs",
        &["dunlin_core", "dunlin_std"],
    ),
    (
        "dunlin_sim",
        "sim/src/lib.rs",
        &["dunlin_core", "dunlin_smoltcp"],
    ),
    (
        "dunlin_sim_command",
        "sim/src/bin/dunlin-sim/main.rs",
        &["dunlin_core", "dunlin_smoltcp", "dunlin_sim"],
    ),
];

/// The layers of `dunlin-core`, lowest first, by the modules at the root. A module that stands nowhere is an error.
///
/// Values that every layer shares lie at the bottom. `wire` is bytes and values alone. A machine is usable alone; machines
/// may use each other as long as no cycle comes of it. The engine composes them.
pub const LAYERS: &[(&str, &[&str])] = &[
    (
        "values",
        &[
            "bitfield", "block", "hash", "id", "machine", "net", "outcome", "rate", "scope",
            "sync", "time",
        ],
    ),
    ("wire", &["wire"]),
    (
        "machines",
        &[
            "dht", "http", "job", "lsd", "metainfo", "mux", "nat", "op", "peer", "throttle",
            "tracker", "utp",
        ],
    ),
    // Made of the configurations of the machines.
    ("configuration", &["config"]),
    // A machine that is made of the others: one swarm.
    ("torrent", &["torrent"]),
    ("engine", &["engine"]),
];

/// A use of one child by another inside a module: `dunlin_core::engine: conns -> peers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The module whose children these are, from the crate's name.
    pub inside: String,
    /// The child that uses.
    pub from: String,
    /// The child that is used.
    pub to: String,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.inside, self.from, self.to)
    }
}

impl Edge {
    /// Reads what [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (inside, rest) = line.split_once(": ")?;
        let (from, to) = rest.split_once(" -> ")?;
        Some(Self {
            inside: inside.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }
}

/// The uses between siblings of a crate, and where each stands.
pub struct Imports {
    /// Each edge with its places: file, line and path.
    pub edges: BTreeMap<Edge, Vec<String>>,
    /// Other crates that are used, with a place.
    pub outside: BTreeMap<String, String>,
}

/// Collects the uses of a crate.
#[must_use]
pub fn imports(krate: &Crate) -> Imports {
    let mut edges: BTreeMap<Edge, Vec<String>> = BTreeMap::new();
    let mut outside = BTreeMap::new();
    for (id, module) in krate.modules.iter().enumerate() {
        for used in uses::paths(module) {
            let place = || {
                format!(
                    "{}:{} {}",
                    module.file.display(),
                    used.line,
                    used.path.join("::")
                )
            };
            match krate.resolve(id, &used.path) {
                Some(Found::Item(target, _)) => {
                    if let Some(edge) = edge(krate, id, target) {
                        edges.entry(edge).or_default().push(place());
                    }
                }
                Some(Found::Outside(name)) => {
                    outside.entry(name).or_insert_with(place);
                }
                Some(Found::Module(_)) | None => {}
            }
        }
    }
    Imports { edges, outside }
}

/// The edge that a use from one module to another makes. `None` within a module and along a branch of the tree.
fn edge(krate: &Crate, from: ModuleId, to: ModuleId) -> Option<Edge> {
    let (from, to) = (&krate.modules[from].path, &krate.modules[to].path);
    let common = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let (child, used) = (from.get(common)?, to.get(common)?);
    let mut inside = vec![krate.name.as_str()];
    inside.extend(from[..common].iter().map(String::as_str));
    Some(Edge {
        inside: inside.join("::"),
        from: child.clone(),
        to: used.clone(),
    })
}

/// Groups of siblings that use each other in a circle: inside which module, and the members.
#[must_use]
pub fn cycles<'a>(edges: impl IntoIterator<Item = &'a Edge>) -> Vec<(String, Vec<String>)> {
    let mut graphs: BTreeMap<&str, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for edge in edges {
        let graph = graphs.entry(&edge.inside).or_default();
        graph.entry(&edge.from).or_default().insert(&edge.to);
    }
    let mut all = Vec::new();
    for (inside, graph) in graphs {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            graph.keys().map(|&n| (n, reachable(&graph, n))).collect();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for (&node, reached) in &reach {
            if !reached.contains(node) || seen.contains(node) {
                continue;
            }
            let mutual = |other: &&str| reach.get(other).is_some_and(|r| r.contains(node));
            let group: Vec<&str> = reached.iter().copied().filter(mutual).collect();
            seen.extend(&group);
            let names = group.into_iter().map(str::to_owned).collect();
            all.push((inside.to_owned(), names));
        }
    }
    all
}

fn reachable<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(node) = open.pop() {
        for &next in graph.get(node).into_iter().flatten() {
            if reached.insert(next) {
                open.push(next);
            }
        }
    }
    reached
}

/// Whether an edge leads from a lower layer of `dunlin-core` to a higher one.
#[must_use]
pub fn is_upward(edge: &Edge) -> bool {
    edge.inside == "dunlin_core"
        && matches!((rank(&edge.from), rank(&edge.to)), (Some(from), Some(to)) if from < to)
}

fn rank(module: &str) -> Option<usize> {
    LAYERS
        .iter()
        .position(|(_, modules)| modules.contains(&module))
}

/// What breaks the rules, apart from what is known; and what is known without need.
#[must_use]
pub fn check(crates: &[(Crate, &[&str])], known: &BTreeSet<Edge>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut edges: BTreeMap<Edge, Vec<String>> = BTreeMap::new();
    for (krate, allowed) in crates {
        let imports = imports(krate);
        for (name, place) in &imports.outside {
            let ours = CRATES.iter().any(|(other, ..)| other == name);
            if ours && *name != krate.name && !allowed.contains(&name.as_str()) {
                faults.push(format!("{} may not use {name}: {place}", krate.name));
            }
        }
        if krate.name == "dunlin_core" {
            let root = krate.modules.iter().filter(|m| m.path.len() == 1);
            for module in root.filter(|m| rank(&m.path[0]).is_none()) {
                let name = &module.path[0];
                faults.push(format!("{name} has no layer: see LAYERS in rules.rs"));
            }
        }
        edges.extend(imports.edges);
    }
    for (edge, places) in &edges {
        if is_upward(edge) && !known.contains(edge) {
            faults.push(format!("upwards: {edge}\n{}", shown(places)));
        }
    }
    let unknown = |e: &&Edge| !known.contains(e);
    for (inside, members) in cycles(edges.keys().filter(unknown)) {
        let mut text = format!("cycle inside {inside}: {}", members.join(", "));
        for (edge, places) in &edges {
            let within = edge.inside == inside && !known.contains(edge);
            if within && members.contains(&edge.from) && members.contains(&edge.to) {
                text += &format!("\n  {} -> {}\n{}", edge.from, edge.to, shown(places));
            }
        }
        faults.push(text);
    }
    for edge in needless(&edges.into_keys().collect(), known) {
        faults.push(format!("known without need, take it out: {edge}"));
    }
    faults
}

/// Known edges that are gone, or that break no rule beside the other known ones.
#[must_use]
pub fn needless(edges: &BTreeSet<Edge>, known: &BTreeSet<Edge>) -> Vec<Edge> {
    let others: Vec<&Edge> = edges.difference(known).collect();
    let closes = |edge: &Edge| {
        let with = others.iter().copied().chain([edge]);
        let found = cycles(with);
        found.iter().any(|(inside, members)| {
            *inside == edge.inside && members.contains(&edge.from) && members.contains(&edge.to)
        })
    };
    let needed = |edge: &Edge| edges.contains(edge) && (is_upward(edge) || closes(edge));
    known.iter().filter(|e| !needed(e)).cloned().collect()
}

fn shown(places: &[String]) -> String {
    let mut lines: Vec<String> = places.iter().take(3).map(|p| format!("    {p}")).collect();
    if places.len() > 3 {
        lines.push(format!("    and {} more", places.len() - 3));
    }
    lines.join("\n")
}

/// Reads the crates of a workspace.
///
/// # Errors
///
/// What cannot be read or parsed.
pub fn load(root: &Path) -> Result<Vec<(Crate, &'static [&'static str])>, String> {
    let load = |&(name, file, allowed): &(&str, &str, &'static [&'static str])| {
        Crate::load(name, root, file).map(|krate| (krate, allowed))
    };
    CRATES.iter().map(load).collect()
}

/// Reads a list of known edges: one a line, `#` begins a comment.
///
/// # Errors
///
/// What cannot be read, and lines that are no edges.
pub fn read_known(file: &Path) -> Result<BTreeSet<Edge>, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let line = |line: &str| {
        Edge::parse(line).ok_or_else(|| format!("{}: not an edge: {line}", file.display()))
    };
    let lines = text.lines().map(str::trim);
    lines
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(line)
        .collect()
}
