//! The fuzz targets: functions that take any bytes and panic if what must hold does not.
//!
//! `tests/fuzz` runs them under libFuzzer (`tests/fuzz/run TARGET [SECONDS]`); the test
//! `replay` of this crate runs them over the committed corpora with the stable toolchain.

pub mod bencode;
pub mod config;
pub mod dht_cache;
pub mod engine;
pub mod http;
pub mod krpc;
pub mod magnet;
pub mod metainfo;
pub mod mux;
pub mod payload;
pub mod peer;
pub mod resume;
pub mod scenario;
pub mod tracker;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its folder under `tests/fuzz/corpus`.
    pub name: &'static str,
    /// What it does with its input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("bencode", bencode::run),
    target("config", config::run),
    target("dht_cache", dht_cache::run),
    target("engine", engine::run),
    target("http", http::run),
    target("krpc", krpc::run),
    target("magnet", magnet::run),
    target("metainfo", metainfo::run),
    target("mux", mux::run),
    target("peer", peer::run),
    target("resume", resume::run),
    target("scenario", scenario::run),
    target("tracker", tracker::run),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}
