//! A private DHT of nodes Dunlin shares no line with: python3-libtorrent's, many in one process.
//!
//! Clients join it with [`Job::dht`](crate::peers::Job::dht). The nodes of the cloud do not find
//! newcomers by themselves soon: they are told ([`Cloud::meet`]), as a node elsewhere would be met
//! by queries from everywhere.

#[cfg(feature = "lab")]
mod bittorrent;
#[cfg(feature = "lab")]
mod mainline;
mod orders;
#[cfg(feature = "lab")]
pub mod stranger;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Family, Lab, Proc};
use crate::peers::libtorrent::DEBIAN_PYTHON;
use crate::wait::until;

const SCRIPT: &str = include_str!("cloud.py");
/// Where its nodes listen, each on an address of its own.
const PORT: u16 = 6881;
/// The script's start, and libtorrent's slowest answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one search may take.
const SEARCH: Duration = Duration::from_secs(5);

/// An item that the cloud stored or found (BEP 44).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// The value, a string; `None` if nothing was found.
    pub value: Option<String>,
    /// The version of a mutable one.
    pub seq: Option<i64>,
}

/// The nodes, gone when dropped.
#[derive(Debug)]
pub struct Cloud {
    process: Proc,
    socket: PathBuf,
    nodes: Vec<SocketAddr>,
}

impl Cloud {
    /// Starts nodes that know each other.
    ///
    /// # Panics
    /// When they do not find together.
    pub fn start(lab: &Lab, family: Family, nodes: usize) -> Self {
        let nodes = (0..nodes).map(|_| SocketAddr::new(lab.address(family), PORT));
        let cloud = Self::spawn(lab, DEBIAN_PYTHON, nodes.collect());
        cloud.meet(&cloud.nodes);
        // Bounded below the whole: a bucket holds 8, and not all meet at once.
        let enough = (cloud.nodes.len() - 1).min(6) as u64;
        until("the cloud to find together", PATIENCE, || {
            cloud
                .sizes()
                .iter()
                .all(|nodes| *nodes >= enough)
                .then_some(())
        });
        cloud
    }

    /// Starts one node, with an interpreter that can import libtorrent.
    pub fn alone(lab: &Lab, python: &str, node: SocketAddr) -> Self {
        Self::spawn(lab, python, vec![node])
    }

    fn spawn(lab: &Lab, python: &str, nodes: Vec<SocketAddr>) -> Self {
        let folder = lab.folder("cloud");
        let (script, socket) = (folder.join("cloud.py"), folder.join("orders"));
        fs::write(&script, SCRIPT).expect("own file");
        let mut args = vec![
            script.to_string_lossy().into_owned(),
            socket.to_string_lossy().into_owned(),
        ];
        args.extend(nodes.iter().map(ToString::to_string));
        let cloud = Self {
            process: lab.spawn(python, &args),
            socket,
            nodes,
        };
        until("the cloud's socket", PATIENCE, || {
            cloud.socket.exists().then_some(())
        });
        cloud
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[SocketAddr] {
        &self.nodes
    }

    /// Its process.
    pub fn process(&self) -> &Proc {
        &self.process
    }

    /// Tells every node of newcomers.
    pub fn meet(&self, nodes: &[SocketAddr]) {
        self.order(&json!({ "do": "meet", "nodes": texts(nodes) }));
    }

    /// How many nodes each of them knows.
    pub fn sizes(&self) -> Vec<u64> {
        let answer = self.order(&json!({ "do": "sizes" }));
        let sizes = answer["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        sizes.iter().filter_map(Value::as_u64).collect()
    }

    /// The peers of a torrent that node `from` finds.
    pub fn peers(&self, from: usize, hash: &str) -> Vec<SocketAddr> {
        let order =
            json!({ "do": "peers", "session": from, "hash": hash, "seconds": SEARCH.as_secs() });
        addresses(&self.order(&order)["peers"])
    }

    /// Announces node `from` as a peer of a torrent.
    pub fn announce(&self, from: usize, hash: &str) {
        self.order(&json!({ "do": "announce", "session": from, "hash": hash }));
    }

    /// Stores an immutable item; answers its target and how many nodes confirmed.
    pub fn put(&self, from: usize, value: &str) -> (String, u64) {
        let order =
            json!({ "do": "put", "session": from, "value": value, "seconds": SEARCH.as_secs() });
        let answer = self.order(&order);
        (
            string(&answer["target"]),
            answer["stored"].as_u64().unwrap_or(0),
        )
    }

    /// Stores the next version of a mutable item; answers its key and how many nodes confirmed.
    pub fn put_mutable(&self, from: usize, salt: &str, value: &str) -> (String, u64) {
        let order = json!({ "do": "put", "session": from, "value": value, "salt": salt, "seconds": 2 * SEARCH.as_secs() });
        let answer = self.order(&order);
        (
            string(&answer["key"]),
            answer["stored"].as_u64().unwrap_or(0),
        )
    }

    /// Fetches an immutable item.
    pub fn get(&self, from: usize, target: &str) -> Item {
        self.item(
            &json!({ "do": "get", "session": from, "target": target, "seconds": SEARCH.as_secs() }),
        )
    }

    /// Fetches a mutable item: the last version found when the search is over.
    pub fn get_mutable(&self, from: usize, key: &str, salt: &str) -> Item {
        self.item(&json!({ "do": "get", "session": from, "key": key, "salt": salt, "seconds": 3 }))
    }

    fn item(&self, order: &Value) -> Item {
        let answer = self.order(order);
        Item {
            value: answer["value"].as_str().map(str::to_owned),
            seq: answer["seq"].as_i64(),
        }
    }

    /// The info-hashes one node says it keeps, and how many those are in all (BEP 51); `None` if it
    /// does not answer.
    pub fn sample(&self, from: usize, node: SocketAddr) -> Option<(Vec<String>, u64)> {
        let order = json!({ "do": "sample", "session": from, "node": node.to_string(), "seconds": SEARCH.as_secs() });
        let answer = self.order(&order);
        let samples = answer["samples"].as_array()?;
        Some((
            samples.iter().map(string).collect(),
            answer["num"].as_u64()?,
        ))
    }

    fn order(&self, order: &Value) -> Value {
        orders::carry(&self.socket, order, PATIENCE)
    }
}

/// Addresses as text.
pub fn texts(addresses: &[SocketAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

/// Addresses of a JSON list of texts.
pub fn addresses(list: &Value) -> Vec<SocketAddr> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter()
        .filter_map(|text| text.as_str()?.parse().ok())
        .collect()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
