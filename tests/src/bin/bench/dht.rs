//! What an answered DHT query costs a node, round by round, each node alone with the load.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use dunlin_tests::blast::{Blast, Figures};
use dunlin_tests::crowd;
use dunlin_tests::dht::Cloud;
use dunlin_tests::krpc::Query;
use dunlin_tests::lab::{Lab, Proc};
use dunlin_tests::peers::dunlin;
use dunlin_tests::peers::rtorrent::Rtorrent;
use dunlin_tests::usage;
use dunlin_tests::wait::until;

use crate::Options;
use crate::contest::{python, sibling};
use crate::machine;

/// Where the node under load is.
const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6881);
/// Sources that ask, and queries they have under way together: the node never waits for them.
const SOURCES: u8 = 64;
const WINDOW: u32 = 64;
/// How long each is asked each kind of query.
const SPAN: Duration = Duration::from_secs(3);
/// To start, and to take the sources into its table.
const PATIENCE: Duration = Duration::from_secs(60);
const QUERIES: [(Query, &str); 3] = [
    (Query::FindNode, "find_node"),
    (Query::GetPeers, "get_peers"),
    (Query::Ping, "ping"),
];

/// A running node.
enum Node {
    Process(Proc),
    Libtorrent(Cloud),
    Rtorrent(Rtorrent),
}

impl Node {
    fn start(lab: &Lab, name: &str) -> Self {
        let listen = NODE.to_string();
        match name {
            "floor" => Self::Process(lab.spawn(sibling("floor"), &["dht", &listen])),
            "dunlin" => Self::Process(dunlin::node(lab, NODE, &[], &lab.folder("session"))),
            "libtorrent" => Self::Libtorrent(Cloud::alone(lab, &python(), NODE)),
            _ => Self::Rtorrent(Rtorrent::node(lab, NODE, &lab.folder("session"), &[])),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Process(process) => process.pid(),
            Self::Libtorrent(cloud) => cloud.process().pid(),
            Self::Rtorrent(rtorrent) => rtorrent.pid(),
        }
    }

    /// Makes it ask the sources for a sign of life, if it needs to be told.
    fn meet(&self, sources: &[SocketAddr]) {
        match self {
            Self::Process(_) => {}
            Self::Libtorrent(cloud) => cloud.meet(sources),
            Self::Rtorrent(rtorrent) => {
                sources.iter().for_each(|source| rtorrent.add_node(*source));
            }
        }
    }
}

/// Nodes that are measured; the floor is not a node and only answers.
fn names(options: &Options) -> Vec<&'static str> {
    let names = ["floor", "dunlin", "rtorrent", "libtorrent"];
    names
        .into_iter()
        .filter(|name| options.includes(name))
        .collect()
}

/// Every node answers the same queries.
pub(crate) fn run(options: &Options) {
    let names = names(options);
    let mut rows: Vec<Row> = Vec::new();
    for _ in 0..options.runs {
        for name in &names {
            // A namespace of its own: 127.0.0.1 is nobody else's.
            let lab = Lab::bare();
            let node = Node::start(&lab, name);
            let results = lab.inside(|| {
                let mut blast = Blast::new(NODE, SOURCES).expect("sources");
                if *name != "floor" {
                    node.meet(&blast.addresses().expect("bound"));
                    blast.befriend(PATIENCE);
                }
                machine::settle();
                QUERIES.map(|(query, what)| {
                    let busy = usage::busy();
                    let own = usage::cpu(std::process::id());
                    let figures = blast
                        .measure(query, SPAN, WINDOW, node.pid())
                        .expect("a load");
                    let own_after = usage::cpu(std::process::id());
                    let ours = own_after.0 + own_after.1 - own.0 - own.1;
                    let noise =
                        (usage::busy() - busy).saturating_sub(figures.user + figures.sys + ours);
                    (
                        what,
                        figures,
                        noise.div_f64(figures.took.as_secs_f64()).as_secs_f64(),
                    )
                })
            });
            for (what, figures, noise) in results {
                eprintln!("{name} {what} {figures:?} noise {noise:.2}");
                let same = |row: &&mut Row| row.query == what && row.node == *name;
                match rows.iter_mut().find(same) {
                    Some(row) => row.runs.push((figures, noise)),
                    None => rows.push(Row {
                        query: what,
                        node: name,
                        runs: vec![(figures, noise)],
                    }),
                }
            }
        }
    }
    print(&rows);
}

/// What came of one node asked one kind of query: figures, and the cores that others used meanwhile.
struct Row<'a> {
    query: &'static str,
    node: &'a str,
    runs: Vec<(Figures, f64)>,
}

impl Row<'_> {
    fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.runs.iter().map(|(figures, _)| of(figures)))
    }

    /// CPU of the node for one answer, in microseconds.
    fn cpu(&self) -> f64 {
        self.median(|f| micros(f.user + f.sys, f))
    }
}

fn print(rows: &[Row<'_>]) {
    println!(
        "| query | node | CPU µs an answer (user + sys) | × floor | answers/s | answers a CPU second | bytes | answered | noise, cores | runs |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (_, what) in QUERIES {
        let floor = rows
            .iter()
            .find(|row| row.query == what && row.node == "floor");
        let floor = floor.map(Row::cpu);
        for row in rows.iter().filter(|row| row.query == what) {
            println!(
                "| {what} | {} | {:.2} ({:.2} + {:.2}) | {} | {:.0} | {:.0} | {:.0} | {:.1} % | {:.2} | {} |",
                row.node,
                row.cpu(),
                row.median(|f| micros(f.user, f)),
                row.median(|f| micros(f.sys, f)),
                floor.map_or("–".to_owned(), |floor| format!(
                    "{:.2}",
                    row.cpu() / floor
                )),
                row.median(|f| f.answered as f64 / f.took.as_secs_f64()),
                1e6 / row.cpu(),
                row.median(|f| f.bytes as f64 / f.answered.max(1) as f64),
                row.median(|f| 100.0 * f.answered as f64 / f.asked.max(1) as f64),
                median(row.runs.iter().map(|(_, noise)| *noise)),
                row.runs.len(),
            );
        }
    }
    println!();
}

fn micros(cpu: Duration, figures: &Figures) -> f64 {
    cpu.as_secs_f64() * 1e6 / figures.answered.max(1) as f64
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How many come, and for how many torrents.
const CROWD: u32 = 100_000;
const TORRENTS: u32 = 1_000;

/// What nodes grow by when many ask, and when as many announce themselves.
pub(crate) fn memory(options: &Options) {
    println!(
        "| node | at rest, KiB | {CROWD} queriers, + KiB | answered | {CROWD} peers of {TORRENTS} torrents, + KiB | announced | bytes a peer |"
    );
    println!("|---|---|---|---|---|---|---|");
    for name in names(options).into_iter().filter(|name| *name != "floor") {
        let lab = Lab::bare();
        let node = Node::start(&lab, name);
        lab.inside(|| {
            let mut blast = Blast::new(NODE, SOURCES).expect("sources");
            node.meet(&blast.addresses().expect("bound"));
            blast.befriend(PATIENCE);
            let resident = || usage::memory(node.pid(), "RssAnon");
            let rest = resident();
            let asked = crowd::visit(NODE, CROWD, CROWD, false).expect("a crowd");
            let after = resident();
            let announced = crowd::visit(NODE, CROWD, TORRENTS, true).expect("a crowd");
            let last = resident();
            println!(
                "| {name} | {} | {} | {} | {} | {} | {:.1} |",
                rest >> 10,
                (after.saturating_sub(rest)) >> 10,
                asked.answered,
                (last.saturating_sub(after)) >> 10,
                announced.announced,
                last.saturating_sub(after) as f64 / f64::from(announced.announced.max(1)),
            );
        });
    }
    println!();
}

/// A node that nobody asks anything is watched for as many minutes as there would be runs.
const MINUTE: Duration = Duration::from_secs(60);
/// What is quiet: no query of the node's for so long.
const QUIET: Duration = Duration::from_secs(10);

/// What nodes do when nobody asks them anything.
pub(crate) fn idle(options: &Options) {
    let names: Vec<&str> = names(options)
        .into_iter()
        .filter(|name| *name != "floor")
        .collect();
    // Together: they use next to nothing.
    let rows: Vec<String> = thread::scope(|scope| {
        let watched: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| watch(name, options.runs)))
            .collect();
        let row = |watched: thread::ScopedJoinHandle<'_, _>| watched.join().expect("a watch");
        watched.into_iter().map(row).collect()
    });
    println!(
        "| node | CPU ms a minute | wakeups a minute | queries a minute | to sources, in {} minutes | quiet after s |",
        options.runs
    );
    println!("|---|---|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
    println!();
}

fn watch(name: &str, minutes: usize) -> String {
    let minutes = minutes as u32;
    let lab = Lab::bare();
    let node = Node::start(&lab, name);
    lab.inside(|| {
        let mut blast = Blast::new(NODE, SOURCES).expect("sources");
        node.meet(&blast.addresses().expect("bound"));
        blast.befriend(PATIENCE);
        let settled = Instant::now();
        until("a node to be quiet", 10 * PATIENCE, || {
            let heard = blast.listen(QUIET).expect("a watch").heard;
            // Some never are.
            (heard == 0 || settled.elapsed() > PATIENCE).then_some(())
        });
        let quiet = settled.elapsed().saturating_sub(QUIET);
        let (cpu, wakeups) = (usage::cpu(node.pid()), usage::wakeups(node.pid()));
        let figures = blast.listen(MINUTE * minutes).expect("a watch");
        let after = usage::cpu(node.pid());
        format!(
            "| {name} | {:.1} | {:.1} | {:.1} | {} | {:.0} |",
            (after.0 + after.1 - cpu.0 - cpu.1).as_secs_f64() * 1000.0 / f64::from(minutes),
            usage::wakeups_since(&wakeups, node.pid()) as f64 / f64::from(minutes),
            figures.heard as f64 / f64::from(minutes),
            figures.heard_by,
            quiet.as_secs_f64(),
        )
    })
}
