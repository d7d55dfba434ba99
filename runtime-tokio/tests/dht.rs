//! `dunlin dht` and `DhtNode`, over loopback.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use dunlin_tokio::{
    DhtNode, InfoHash,
    dht::{Answer, NodeConfig, NodeEvent, Status},
    dunlin_core::{
        dht::{Announce, DhtConfig, LookupReport},
        metainfo::HostPort,
        net::Ports,
    },
    system::dht_cache,
};
use serde_json::Value;
use tokio::sync::mpsc;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn local(bootstrap: &[SocketAddr]) -> NodeConfig {
    let host = |addr: &SocketAddr| HostPort::new(&addr.ip().to_string(), addr.port()).unwrap();
    NodeConfig {
        listen: vec![([127, 0, 0, 1], 0).into()],
        dht: DhtConfig {
            local: true,
            ..DhtConfig::default()
        },
        bootstrap: bootstrap.iter().map(host).collect(),
        routers: Vec::new(),
        ..NodeConfig::default()
    }
}

fn start(config: NodeConfig) -> (DhtNode, mpsc::Receiver<NodeEvent>) {
    DhtNode::start(config).unwrap()
}

/// Waits for a state.
async fn until(node: &DhtNode, wanted: impl Fn(&Status) -> bool) -> Status {
    let wait = async {
        loop {
            let status = node.status().await.unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap()
}

/// All peers of a search, and its report.
async fn finish(mut search: dunlin_tokio::DhtSearch) -> (Vec<SocketAddr>, LookupReport) {
    let mut found = Vec::new();
    let all = async {
        while let Some(answer) = search.next().await {
            match answer {
                Answer::Peers(peers) => found.extend(peers),
                Answer::Done(report) => return *report,
                other => panic!("{other:?}"),
            }
        }
        panic!("the node stopped");
    };
    let report = tokio::time::timeout(PATIENCE, all).await.unwrap();
    (found, report)
}

#[tokio::test]
async fn a_peer_announced_by_one_node_is_found_by_another() {
    let (first, _events) = start(local(&[]));
    let router = first.local()[0];
    let (second, _events2) = start(local(&[router]));
    let (third, _events3) = start(local(&[router]));
    let hash = InfoHash([0x42; 20]);
    let announce = Announce {
        ports: Ports::both(7777),
        implied: false,
        seed: false,
    };
    let (_, report) = finish(second.announce(hash, announce)).await;
    assert!(report.stored > 0 && report.failure.is_none(), "{report:?}");
    let (peers, report) = finish(third.get_peers(hash)).await;
    assert_eq!(peers, [SocketAddr::from(([127, 0, 0, 1], 7777))]);
    assert!(report.replied > 0, "{report:?}");
    let status = until(&first, |s| s.stats.queries_received > 0).await;
    assert!(status.stats.reachable && status.stats.active);
    assert!(status.calls.datagrams_out > 0 && status.calls.refused == 0);
    for node in [first, second, third] {
        node.shutdown().await;
    }
}

#[tokio::test]
async fn a_node_that_is_alone_says_so_and_one_that_stopped_answers_nothing() {
    let (node, mut events) = start(local(&[]));
    let mut search = node.get_peers(InfoHash([1; 20]));
    // It waits for nodes, and a search that nobody waits for ends.
    drop(node.get_peers(InfoHash([2; 20])));
    let silent = "127.0.0.1:9".parse().unwrap();
    let answer = tokio::time::timeout(PATIENCE, node.ping(silent))
        .await
        .unwrap();
    assert!(matches!(answer, Ok(Answer::Silent(_))), "{answer:?}");
    let Some(Answer::Done(report)) = search.next().await else {
        panic!("no report");
    };
    let (failure, _) = report.failure.unwrap();
    assert_eq!(
        failure.to_string(),
        "No DHT nodes available for peer search."
    );
    let other = node.clone();
    node.shutdown().await;
    assert!(other.status().await.is_err());
    assert!(other.get_peers(InfoHash([1; 20])).next().await.is_none());
    let mut said = Vec::new();
    while let Some(event) = events.recv().await {
        said.push(event.to_string());
    }
    let port = other.local()[0].port();
    assert_eq!(said[0], format!("Starting DHT server on port {port}."));
    assert!(said.contains(&"Stopping DHT server.".into()), "{said:?}");
}

#[tokio::test]
async fn the_cache_brings_a_node_back_and_a_guest_leaves_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (router, _events) = start(local(&[]));
    let with_folder = |bootstrap: &[SocketAddr]| NodeConfig {
        folder: Some(dir.path().into()),
        ..local(bootstrap)
    };
    let (node, _events2) = start(with_folder(&router.local()[..1]));
    let status = until(&node, |s| s.stats.good_nodes > 0).await;
    node.shutdown().await;
    let saved = dht_cache::look(dir.path()).unwrap().unwrap();
    assert_eq!(saved.id, status.id);
    assert_eq!(saved.nodes[0].0.addr, router.local()[0]);

    // Nobody names the router now.
    let (node, _events3) = start(with_folder(&[]));
    let (_, report) = finish(node.get_peers(InfoHash([3; 20]))).await;
    assert!(report.replied > 0, "{report:?}");
    assert_eq!(until(&node, |s| s.stats.active).await.id, saved.id);

    // Beside it a guest has another id, and so has a second owner.
    for guest in [true, false] {
        let config = NodeConfig {
            guest,
            ..with_folder(&[])
        };
        let (guest, _events) = start(config);
        assert_ne!(until(&guest, |s| s.stats.active).await.id, saved.id);
        guest.shutdown().await;
        assert_eq!(dht_cache::look(dir.path()).unwrap().unwrap().id, saved.id);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let place = taken.local_addr().unwrap();
    let config = NodeConfig {
        listen: vec![place],
        ..local(&[])
    };
    let error = DhtNode::start(config).unwrap_err();
    assert!(error.to_string().contains(&place.to_string()), "{error}");
}

#[tokio::test]
async fn what_is_sent_keeps_to_its_limit() {
    // One answer to `ping` is some 60 bytes; the burst of so low a limit is soon used up.
    let config = NodeConfig {
        limit_up: Some(1024),
        ..local(&[])
    };
    let (node, _events) = start(config);
    let asker = tokio::net::UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
    asker.connect(node.local()[0]).await.unwrap();
    let begun = std::time::Instant::now();
    let mut query = *b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    for n in 0..2000u16 {
        query[47..49].copy_from_slice(&n.to_be_bytes());
        asker.send(&query).await.unwrap();
    }
    let status = until(&node, |s| s.stats.queries_received >= 500).await;
    let allowed = 1024.0 * begun.elapsed().as_secs_f64() + 64.0 * 1024.0;
    assert!((status.stats.bytes_written as f64) < allowed, "{status:?}");
    node.shutdown().await;
}

// ---- the command ----

fn dunlin(args: &[&str]) -> Command {
    common::dunlin(&[&["dht"], args].concat())
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    text.lines().map(parse).collect()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// `dunlin dht node`, and where it is.
struct Node {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    place: String,
}

impl Node {
    fn start(more: &[&str]) -> Self {
        let mut command = dunlin(&["node", "--local", "--bind", "127.0.0.1", "--port", "0"]);
        command.args(["--json", "--interval", "0.1"]).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut node = Self {
            child,
            lines,
            place: String::new(),
        };
        let status = node.until(|v| v["type"] == "status");
        node.place = status["local"][0].as_str().unwrap().into();
        node
    }

    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next().expect("it runs").unwrap();
            let value: Value = serde_json::from_str(&line).unwrap();
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Runs a command beside it, with `--json`.
    fn ask(&self, args: &[&str]) -> (i32, Vec<Value>) {
        let mut command = dunlin(args);
        command.args(["--local", "--bind", "127.0.0.1", "--json"]);
        command.args(["--bootstrap", &self.place]);
        let output = command.output().unwrap();
        let code = output.status.code().unwrap();
        (code, objects(&output))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn of<'v>(values: &'v [Value], kind: &str) -> &'v Value {
    let found = values.iter().find(|v| v["type"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}: {values:?}"))
}

#[test]
fn peers_are_announced_found_and_sampled() {
    let mut node = Node::start(&[]);
    let hash = "00112233445566778899aabbccddeeff00112233";
    let (code, said) = node.ask(&["get-peers", hash]);
    assert_eq!(code, 3, "nobody yet: {said:?}");
    assert_eq!(of(&said, "done")["failure"], Value::Null);
    let (code, said) = node.ask(&["announce", hash, "--peer-port", "7001"]);
    assert_eq!(code, 0, "{said:?}");
    assert!(of(&said, "done")["stored"].as_u64() >= Some(1));
    let (code, said) = node.ask(&["get-peers", hash]);
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(of(&said, "peer")["peer"], "127.0.0.1:7001");
    // An estimate comes in addition, and every peer once.
    let (code, said) = node.ask(&["get-peers", hash, "--scrape"]);
    assert_eq!(code, 0, "{said:?}");
    let found = said.iter().filter(|v| v["type"] == "peer").count();
    let done = of(&said, "done");
    assert_eq!(
        (found, &done["peers"], &done["leeches"]),
        (1, &1.into(), &1.into())
    );
    let stored = node.until(|v| v["type"] == "status" && v["torrents"] == 1);
    assert_eq!(
        (&stored["peers"], &stored["dht"]),
        (&1.into(), &"on".into())
    );
    let place = node.place.clone();
    let (code, said) = node.ask(&["sample", &place]);
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(of(&said, "samples")["hashes"][0], hash);
    let (code, said) = node.ask(&["ping", &place]);
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(of(&said, "pong")["id"], stored["id"]);
}

#[test]
fn to_ask_one_node_no_other_is_troubled() {
    let node = Node::start(&[]);
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let heard = || other.recv(&mut [0; 1500]).is_ok();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let place = other.local_addr().unwrap();
    let text = format!("[dht]\nrouters = [\"{place}\"]\nadd_node = [\"{place}\"]\n");
    std::fs::write(&file, text).unwrap();
    let ask = |what: &[&str]| {
        let mut command = dunlin(what);
        command.args(["--local", "--bind", "127.0.0.1", "--no-session"]);
        let output = command.arg("--config").arg(&file).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    for what in ["ping", "sample"] {
        assert_eq!(ask(&[what, &node.place]), (Some(0), String::new()));
        assert!(!heard(), "{what}");
    }
    let hash = "00112233445566778899aabbccddeeff00112233";
    let (code, said) = ask(&["get-peers", hash, "--timeout", "0.5"]);
    assert!(code != Some(0) && heard(), "a search needs it: {said}");
}

#[test]
fn items_are_stored_fetched_and_changed() {
    let node = Node::start(&[]);
    let (code, said) = node.ask(&["put", "Hello World!"]);
    assert_eq!(code, 0, "{said:?}");
    let target = of(&said, "stored")["target"].as_str().unwrap().to_owned();
    // BEP 44's own example.
    assert_eq!(target, "e5f96f6f38320f0f33959cb4d3d656452117aadb");
    let (code, said) = node.ask(&["get", &target]);
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(of(&said, "item")["text"], "Hello World!");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    let file = file.to_str().unwrap();
    let made = dunlin(&["keygen", file, "--json"]).output().unwrap();
    let key = objects(&made)[0]["key"].as_str().unwrap().to_owned();
    let again = dunlin(&["keygen", file]).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{}", stderr(&again));
    for (value, seq) in [("one", 1), ("two", 2)] {
        let (code, said) = node.ask(&["put", value, "--key", file, "--salt", "s"]);
        assert_eq!(code, 0, "{said:?}");
        assert_eq!(of(&said, "stored")["seq"], seq);
        let (code, said) = node.ask(&["get", &key, "--salt", "s"]);
        assert_eq!(code, 0, "{said:?}");
        let item = of(&said, "item");
        assert_eq!((&item["text"], &item["seq"]), (&value.into(), &seq.into()));
    }
    // Of a version that is gone.
    let cas = [
        "put", "no", "--key", file, "--salt", "s", "--seq", "5", "--cas", "1",
    ];
    let (code, said) = node.ask(&cas);
    assert_eq!(code, 1, "{said:?}");
    let (code, said) = node.ask(&["get", &key]);
    assert_eq!(code, 3, "another salt is another item: {said:?}");
}

#[test]
fn what_makes_no_sense_is_code_2_and_a_private_torrent_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (content, torrent) = (dir.path().join("c"), dir.path().join("c.torrent"));
    std::fs::write(&content, b"content").unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_dunlin"))
        .args(["create", "--private", "-o"])
        .args([&torrent, &content])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", stderr(&made));
    let torrent = torrent.to_str().unwrap();
    let long = "x".repeat(1000);
    for (args, why) in [
        (&["get-peers", torrent][..], "private"),
        (&["announce", torrent], "private"),
        (&["get-peers", "https://host/a.torrent"], "fetch it first"),
        (&["ping", "host:0"], "Invalid port number."),
        (&["ping", "a b"], "Could not parse host."),
        (&["get", "12"], "40 hexadecimal"),
        (&["put", &long], "BEP 44"),
        (&["put", "i01e", "--bencode"], "canonical"),
        (&["put", "x", "--seq", "1"], "--key"),
        (&["stats", "--no-session"], "--live"),
        (
            &["node", "--config", "/nowhere/dunlin.toml"],
            "no such file",
        ),
    ] {
        let output = dunlin(args).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(why),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn failures_have_the_words_of_the_page_and_a_cause() {
    let mut command = dunlin(&["get-peers", &"ab".repeat(20), "--local", "--json"]);
    let output = command.args(["--bind", "127.0.0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = objects(&output);
    let failure = "No DHT nodes available for peer search.";
    assert_eq!(of(&said, "done")["failure"], failure);
    assert_eq!(of(&said, "done")["cause"]["kind"], "no_contacts");
    assert_eq!(of(&said, "error")["cause"]["kind"], "no_contacts");
    assert!(stderr(&output).contains(failure), "{}", stderr(&output));
}

#[test]
fn the_cache_is_shown_and_a_live_look_has_the_keys_of_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let none = dunlin(&["stats", "--session", folder]).output().unwrap();
    assert_eq!(none.status.code(), Some(1), "{}", stderr(&none));
    let router = Node::start(&[]);
    let (code, said) = router.ask(&["stats", "--live", "--timeout", "2", "--session", folder]);
    assert_eq!(code, 0, "{said:?}");
    let live = of(&said, "status");
    assert_eq!((&live["active"], &live["nodes"]), (&1.into(), &1.into()));
    assert!(live["replies_received"].as_u64() >= Some(1));
    // The time limit is reported before it has passed.
    let mut silent = dunlin(&[
        "stats",
        "--live",
        "--timeout",
        "0.2",
        "--no-session",
        "--local",
    ]);
    let silent = silent.args(["--bind", "127.0.0.1"]).output().unwrap();
    let said = stderr(&silent);
    assert!(said.contains("for 0.2s at most (--timeout)"), "{said}");
    let kept = dunlin(&["stats", "--session", folder, "--json"])
        .output()
        .unwrap();
    let kept = objects(&kept).remove(0);
    assert_eq!((&kept["active"], &kept["nodes"]), (&0.into(), &1.into()));
}

#[test]
fn the_rules_for_the_firewall_are_printed_for_the_port() {
    let output = dunlin(&["advice", "--port", "51413"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let rule = "iptables -t raw -I PREROUTING -p udp --dport 51413 -j NOTRACK";
    assert!(text.contains(rule), "{text}");
    let output = dunlin(&["advice", "--json"]).output().unwrap();
    let said = objects(&output).remove(0);
    assert_eq!(said["port"], 6881);
    assert_eq!(said["nftables"].as_array().unwrap().len(), 5);
}

/// A child that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_magnet_without_trackers_is_fetched_through_the_dht() {
    let router = Node::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let content: Vec<u8> = (0..300_000u32)
        .map(|n| (n.wrapping_mul(n) >> 7) as u8)
        .collect();
    std::fs::write(at("content"), &content).unwrap();
    let made = common::dunlin(&["create", &at("content"), "-o", &at("t.torrent"), "--json"]);
    let made = objects(&{ made }.output().unwrap()).remove(0);
    let hash = made["torrent"].as_str().unwrap();
    let dht = [
        "--bind",
        "127.0.0.1",
        "--port",
        "0",
        "--dht",
        "on",
        "--dht-local",
        "--dht-node",
    ];
    let mut seed = common::dunlin(&["seed", &at("t.torrent"), "--dir", &at(""), "--quiet"]);
    seed.args(dht)
        .arg(&router.place)
        .args(["--session", &at("seed")]);
    let _seed = Running(seed.spawn().unwrap());
    std::fs::create_dir(at("out")).unwrap();
    let mut get = common::dunlin(&["get", hash, "-o", &at("out"), "--timeout", "60"]);
    get.args(dht)
        .arg(&router.place)
        .args(["--session", &at("get")]);
    let got = get.output().unwrap();
    assert_eq!(got.status.code(), Some(0), "{}", stderr(&got));
    assert_eq!(std::fs::read(at("out/content")).unwrap(), content);
    let kept = dht_cache::look(Path::new(&at("get"))).unwrap().unwrap();
    assert!(
        kept.nodes
            .iter()
            .any(|(node, _)| node.addr.to_string() == router.place)
    );
}
