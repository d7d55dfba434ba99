//! The crate `mainline`, whose node is a thread of this process.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use futures_lite::StreamExt;
use mainline::async_dht::AsyncDht;
use mainline::{Dht, Id, MutableItem, SigningKey};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::Item;
use super::stranger::{SEED, Stranger};
use crate::lab::Lab;
use crate::payload::hex;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Mainline {
    dht: AsyncDht,
    runtime: Runtime,
}

impl Mainline {
    pub(super) fn start(lab: &Lab, at: SocketAddr, nodes: &[SocketAddr]) -> Self {
        let IpAddr::V4(ip) = at.ip() else {
            panic!("mainline speaks IPv4 alone");
        };
        let mut builder = Dht::builder();
        builder
            .server_mode()
            .bind_address(ip)
            .port(at.port())
            .bootstrap(nodes);
        // A thread starts in the namespace of the thread that starts it, and the node's thread opens the
        // socket.
        let dht = lab.inside(|| builder.build()).expect("a free port");
        let runtime = Builder::new_current_thread().enable_time().build();
        Self {
            dht: dht.as_async(),
            runtime: runtime.expect("a runtime"),
        }
    }

    fn ask<T>(&self, question: impl Future<Output = T>) -> T {
        let answer = self
            .runtime
            .block_on(async { timeout(PATIENCE, question).await });
        answer.expect("mainline answers in time")
    }
}

impl Stranger for Mainline {
    fn nodes(&self) -> usize {
        self.ask(self.dht.to_bootstrap()).len()
    }

    fn peers(&self, hash: &str) -> Vec<SocketAddr> {
        let answers: Vec<_> = self.ask(self.dht.get_peers(id(hash)).collect());
        answers
            .into_iter()
            .flatten()
            .map(SocketAddrV4::into)
            .collect()
    }

    fn announce(&self, hash: &str, port: u16) -> bool {
        let announce = self.dht.announce_peer(id(hash), Some(port));
        self.ask(announce).is_ok()
    }

    fn put(&self, value: &str) -> Option<String> {
        let target = self.ask(self.dht.put_immutable(value.as_bytes())).ok()?;
        Some(target.to_string())
    }

    fn put_mutable(&self, salt: Option<&str>, seq: i64, value: &str) -> Option<String> {
        let key = SigningKey::from_bytes(&SEED);
        let item = MutableItem::new(key, value.as_bytes(), seq, salt.map(str::as_bytes));
        let key = hex(item.key());
        self.ask(self.dht.put_mutable(item, None)).ok()?;
        Some(key)
    }

    fn get(&self, target: &str) -> Option<String> {
        let value = self.ask(self.dht.get_immutable(id(target)))?;
        String::from_utf8(value.into()).ok()
    }

    fn get_mutable(&self, key: &str, salt: Option<&str>) -> Item {
        let key: Vec<_> = (0..key.len() / 2)
            .map(|n| u8::from_str_radix(&key[2 * n..2 * n + 2], 16).expect("hex"))
            .collect();
        let key = key.try_into().expect("32 bytes");
        let salt = salt.map(str::as_bytes);
        let found = self.ask(self.dht.get_mutable_most_recent(&key, salt));
        found.map_or_else(Item::default, |item| Item {
            value: String::from_utf8(item.value().into()).ok(),
            seq: Some(item.seq()),
        })
    }
}

fn id(hex: &str) -> Id {
    hex.parse().expect("20 bytes as hex")
}
