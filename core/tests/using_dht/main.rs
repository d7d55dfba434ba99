//! rTorrent's page "Using DHT", as an application of the engine sees it: modes, log lines, the
//! pseudo-tracker, bootstrapping, the cache. Tests are named after the requirements they show.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod bootstrap;
#[path = "../common/mod.rs"]
mod common;
mod modes;
mod node;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::dht::{
    Cause, Contact, DhtConfig, DhtEvent, DhtLog, Failure, Goal, ReadOnly, Saved,
};
use dunlin_core::engine::{
    AddTorrent, CommandError, Event, Level, Notice, Source, StatValue, What,
};
use dunlin_core::metainfo::{Builder, HostPort, Info};
use dunlin_core::tracker::{DHT_URL, DhtState, TrackerState};
use dunlin_core::{Config, DhtMode, InfoHash, NodeId, SocketId, TorrentId};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A network of private addresses.
fn config(mode: DhtMode) -> Config {
    Config {
        dht: mode,
        dht_config: DhtConfig {
            local: true,
            ..DhtConfig::default()
        },
        ..Config::default()
    }
}

fn private_torrent() -> Arc<Info> {
    let mut builder = Builder::file("private.bin", 1000);
    builder.private = true;
    builder.draft().unwrap().finish(&[[1; 20]]).unwrap().info
}

fn magnet(hash: u8) -> AddTorrent {
    add(Source::Hash {
        info_hash: InfoHash([hash; 20]),
        name: None,
    })
}

/// What the log says, in words.
fn log(w: &World, n: usize) -> Vec<String> {
    let notices = w.nodes[n].events.iter().filter_map(|e| match e {
        Event::Notice(Notice { level, what, .. }) if *level > Level::Detail => Some(what),
        _ => None,
    });
    notices.map(ToString::to_string).collect()
}

fn said(w: &World, n: usize, words: &str) -> usize {
    log(w, n).iter().filter(|line| *line == words).count()
}

fn start(w: &mut World, n: usize, torrent: AddTorrent) -> TorrentId {
    w.nodes[n].engine.add(w.now, torrent).unwrap()
}

fn active(w: &World, n: usize) -> bool {
    w.nodes[n]
        .engine
        .dht()
        .is_some_and(|dht| dht.status().port.is_some())
}

fn mode(w: &World, n: usize) -> DhtMode {
    w.nodes[n]
        .engine
        .dht()
        .map_or(DhtMode::Disable, |dht| dht.status().mode)
}

fn set(w: &mut World, n: usize, mode: DhtMode) -> bool {
    let now = w.now;
    w.nodes[n].engine.set_dht(now, mode)
}

/// The pseudo-tracker: its state, rTorrent's word for it, its message.
fn pseudo(w: &World, n: usize, id: TorrentId) -> Option<(TrackerState, &'static str, String)> {
    let trackers = w.nodes[n].engine.torrent(id).unwrap().trackers();
    let dht = trackers.iter().find(|t| t.url == DHT_URL)?;
    let error = dht.error.map(ToString::to_string).unwrap_or_default();
    Some((dht.state, dht.enabled(), error))
}

fn host(w: &World, n: usize) -> HostPort {
    HostPort::from(w.nodes[n].addr)
}

/// A node, and another that knows it and runs.
fn pair(seed: u64) -> (World, usize, usize) {
    let mut w = World::new(seed);
    let n = w.node(config(DhtMode::On));
    let m = w.node(Config {
        dht_routers: vec![host(&w, n)],
        ..config(DhtMode::On)
    });
    w.run(5 * SECOND);
    (w, n, m)
}

fn knows(w: &World, n: usize, other: usize) -> bool {
    let addr = w.nodes[other].addr;
    let node = w.nodes[n].engine.dht().and_then(|dht| dht.node());
    node.is_some_and(|node| node.nodes().any(|c| c.addr == addr))
}
