//! The `dunlin` command.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Crypto, Job, Peer, Role};
use crate::dht;
use crate::lab::{Lab, Proc};

/// The command under test: `DUNLIN_BIN`, else the release build of the target folder this program lies in.
///
/// # Panics
/// When there is none.
pub fn command() -> PathBuf {
    super::built("DUNLIN_BIN", "release/dunlin")
        .expect("the command: cargo build --release first, or DUNLIN_BIN")
}

/// How long a command of `dunlin dht` may take: what it is given, and its start and end.
const PATIENCE: Duration = Duration::from_secs(25);

#[derive(Debug)]
pub(super) struct Dunlin {
    process: Proc,
}

impl Dunlin {
    /// `get` to download, `seed` for a job whose folder holds the payload.
    pub(super) fn start(lab: &Lab, job: &Job) -> Self {
        Self {
            process: spawn(lab, job, &lab.folder("session"), &[]),
        }
    }
}

impl Peer for Dunlin {
    fn complete(&mut self, _lab: &Lab) -> bool {
        events(&self.process)
            .iter()
            .any(|event| event["type"] == "complete")
    }

    fn process(&mut self) -> &mut Proc {
        &mut self.process
    }

    fn into_process(self: Box<Self>) -> Proc {
        self.process
    }
}

/// Starts the command on a job, with more options at the end.
pub fn spawn(lab: &Lab, job: &Job, session: &Path, options: &[&str]) -> Proc {
    spawn_build(lab, &command(), job, session, options)
}

/// Starts a build of the command on a job, with more options at the end.
pub fn spawn_build(lab: &Lab, program: &Path, job: &Job, session: &Path, options: &[&str]) -> Proc {
    let (dir, session) = (job.dir.to_string_lossy(), session.to_string_lossy());
    let (source, ip, port) = (
        job.source.argument(),
        job.listen.ip().to_string(),
        job.listen.port().to_string(),
    );
    let mut args = match job.role {
        Role::Seed => vec!["seed", &source, "--dir", &dir],
        Role::Download => vec!["get", &source, "--output", &dir],
    };
    args.extend([
        "--json",
        "--bind",
        &ip,
        "--port",
        &port,
        "--encryption",
        job.crypto.option(),
        "--session",
        &session,
    ]);
    if job.crypto == Crypto::Preferred {
        // What each connection agreed on is in the notices.
        args.push("--verbose");
    }
    let nodes = job.dht.as_deref().map(dht::texts);
    match &nodes {
        Some(nodes) => {
            args.extend(["--dht", "on", "--dht-local"]);
            args.extend(nodes.iter().flat_map(|node| ["--dht-node", node]));
        }
        None => args.extend(["--dht", "disable"]),
    }
    args.extend(options);
    lab.spawn(program, &args)
}

/// Starts a DHT node without torrents, that begins with what lies in its session folder and the
/// nodes given. It says once an hour how it is.
pub fn node(lab: &Lab, listen: SocketAddr, nodes: &[SocketAddr], session: &Path) -> Proc {
    let session = session.to_string_lossy();
    let more = ["--session", &session, "--interval", "3600"];
    lab.spawn(command(), &arguments(&["node"], listen, nodes, &more))
}

/// The peers of a torrent that `dunlin dht get-peers` finds.
pub fn get_peers(
    lab: &Lab,
    listen: SocketAddr,
    nodes: &[SocketAddr],
    hash: &str,
) -> Vec<SocketAddr> {
    let lines = ask(lab, &["get-peers", hash], listen, nodes, &[]);
    let peers = lines.iter().filter(|line| line["type"] == "peer");
    peers
        .filter_map(|line| line["peer"].as_str()?.parse().ok())
        .collect()
}

/// Seeds and leeches of a torrent, as `dunlin dht get-peers --scrape` finds.
pub fn scrape(
    lab: &Lab,
    listen: SocketAddr,
    nodes: &[SocketAddr],
    hash: &str,
) -> Option<(u64, u64)> {
    let lines = ask(lab, &["get-peers", hash], listen, nodes, &["--scrape"]);
    let done = lines.iter().find(|line| line["type"] == "done")?;
    Some((done["seeds"].as_u64()?, done["leeches"].as_u64()?))
}

/// Announces a seed by `dunlin dht announce`; answers how many nodes confirmed.
pub fn announce_seed(lab: &Lab, listen: SocketAddr, nodes: &[SocketAddr], hash: &str) -> u64 {
    let lines = ask(lab, &["announce", hash], listen, nodes, &["--seed"]);
    let done = lines.iter().find(|line| line["type"] == "done");
    done.and_then(|done| done["stored"].as_u64()).unwrap_or(0)
}

/// The newest text that `dunlin dht get` finds by a target or key, with more options.
pub fn get_item(
    lab: &Lab,
    listen: SocketAddr,
    nodes: &[SocketAddr],
    what: &str,
    more: &[&str],
) -> Option<String> {
    let lines = ask(lab, &["get", what], listen, nodes, more);
    let mut items = lines.iter().filter(|line| line["type"] == "item");
    items.next_back()?["text"].as_str().map(str::to_owned)
}

/// Stores a text by `dunlin dht put`; answers the target, if a node confirmed.
pub fn put_item(
    lab: &Lab,
    listen: SocketAddr,
    nodes: &[SocketAddr],
    value: &str,
    more: &[&str],
) -> Option<String> {
    let lines = ask(lab, &["put", value], listen, nodes, more);
    let stored = lines.iter().find(|line| line["type"] == "stored")?;
    stored["target"].as_str().map(str::to_owned)
}

/// Makes a key; answers its public half.
///
/// # Panics
/// When none is made.
pub fn make_key(lab: &Lab, file: &Path) -> String {
    let file = file.to_string_lossy();
    let mut process = lab.spawn(command(), &["dht", "keygen", &file, "--json"]);
    process.wait(PATIENCE);
    let key = events(&process)
        .iter()
        .find_map(|line| line["key"].as_str().map(str::to_owned));
    key.unwrap_or_else(|| panic!("no key: {}", process.log()))
}

/// The info-hashes that `dunlin dht sample` gets from a node.
pub fn sample(lab: &Lab, listen: SocketAddr, node: SocketAddr) -> Vec<String> {
    let lines = ask(lab, &["sample", &node.to_string()], listen, &[node], &[]);
    let hashes = lines.iter().filter_map(|line| line["hashes"].as_array());
    hashes
        .flatten()
        .filter_map(|hash| hash.as_str().map(str::to_owned))
        .collect()
}

/// Runs a command of `dunlin dht` to its end.
pub fn ask(
    lab: &Lab,
    what: &[&str],
    listen: SocketAddr,
    nodes: &[SocketAddr],
    more: &[&str],
) -> Vec<Value> {
    let more = [more, &["--no-session", "--timeout", "15"]].concat();
    let mut process = lab.spawn(command(), &arguments(what, listen, nodes, &more));
    process.wait(PATIENCE);
    events(&process)
}

fn arguments(
    what: &[&str],
    listen: SocketAddr,
    nodes: &[SocketAddr],
    more: &[&str],
) -> Vec<String> {
    let mut args = vec!["dht".to_owned()];
    args.extend(what.iter().map(ToString::to_string));
    args.extend(["--json", "--local"].map(str::to_owned));
    args.extend(["--bind".to_owned(), listen.ip().to_string()]);
    args.extend(["--port".to_owned(), listen.port().to_string()]);
    for node in nodes {
        args.extend(["--bootstrap".to_owned(), node.to_string()]);
    }
    args.extend(more.iter().map(ToString::to_string));
    args
}

/// The lines of `--json` so far.
pub fn events(process: &Proc) -> Vec<Value> {
    process
        .log()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
