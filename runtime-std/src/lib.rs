//! Blocking pieces shared by Dunlin's std drivers: disk, session folder, configuration.

pub mod add;
mod claims;
pub mod config;
pub mod conntrack;
#[cfg(test)]
mod crash;
pub mod dht;
pub mod dht_cache;
pub mod disk;
pub mod error;
pub mod http;
pub mod net;
pub mod paths;
mod platform;
pub mod pool;
pub mod proxy;
pub mod resolve;
pub mod session;
pub mod setup;
pub mod socket;
pub mod socks;
pub mod store;
pub mod torrents;
pub mod tree;

pub use error::{Error, Result};
