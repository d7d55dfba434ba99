//! bittorrent-dht (Node.js), in a small script; `need_webtorrent` of `tests/provision.sh` installs both.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::stranger::{SEED, Stranger};
use super::{Item, addresses, orders, texts};
use crate::lab::{Lab, Proc};
use crate::payload::hex;
use crate::peers::built;
use crate::wait::until;

/// The script's start, and its slowest answers: it waits up to 2.5 s for each round of nodes that are gone.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Bittorrent {
    _process: Proc,
    socket: PathBuf,
}

impl Bittorrent {
    pub(super) fn start(lab: &Lab, at: SocketAddr, nodes: &[SocketAddr]) -> Self {
        let script = built("BITTORRENT_DHT", "tools/webtorrent/dht.mjs")
            .expect("bittorrent-dht: tests/run dht installs it");
        let socket = lab.folder("bittorrent-dht").join("orders");
        let job = json!({
            "host": at.ip(),
            "port": at.port(),
            "nodes": texts(nodes),
            "seed": hex(&SEED),
            "socket": socket,
        });
        let args = [script.into_os_string(), job.to_string().into()];
        let process = lab.spawn("node", &args);
        until("the socket of bittorrent-dht", PATIENCE, || {
            socket.exists().then_some(())
        });
        Self {
            _process: process,
            socket,
        }
    }

    fn order(&self, order: &Value) -> Value {
        let mut line = orders::carry(&self.socket, order, PATIENCE);
        line["answer"].take()
    }
}

impl Stranger for Bittorrent {
    fn nodes(&self) -> usize {
        let nodes = self.order(&json!({ "do": "nodes" })).as_u64();
        nodes.and_then(|n| n.try_into().ok()).unwrap_or(0)
    }

    fn peers(&self, hash: &str) -> Vec<SocketAddr> {
        addresses(&self.order(&json!({ "do": "peers", "hash": hash })))
    }

    fn announce(&self, hash: &str, port: u16) -> bool {
        let order = json!({ "do": "announce", "hash": hash, "port": port });
        self.order(&order).as_u64().is_some_and(|stored| stored > 0)
    }

    fn put(&self, value: &str) -> Option<String> {
        text(&self.order(&json!({ "do": "put", "value": value })))
    }

    fn put_mutable(&self, salt: Option<&str>, seq: i64, value: &str) -> Option<String> {
        let order = json!({ "do": "put_mutable", "salt": salt, "seq": seq, "value": value });
        text(&self.order(&order))
    }

    fn get(&self, target: &str) -> Option<String> {
        text(&self.order(&json!({ "do": "get", "target": target })))
    }

    fn get_mutable(&self, key: &str, salt: Option<&str>) -> Item {
        let answer = self.order(&json!({ "do": "get_mutable", "key": key, "salt": salt }));
        Item {
            value: text(&answer["value"]),
            seq: answer["seq"].as_i64(),
        }
    }
}

fn text(answer: &Value) -> Option<String> {
    answer.as_str().map(str::to_owned)
}
