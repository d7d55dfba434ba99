//! Blocking pieces shared by Dunlin's std drivers: disk, session folder, configuration.

pub mod config;
#[cfg(test)]
mod crash;
pub mod dht_cache;
pub mod disk;
pub mod driver;
pub mod error;
pub mod folder;
pub mod net;
pub mod paths;
mod platform;
pub mod pool;
pub mod routers;
pub mod session;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
pub mod tree;

pub use error::{Error, Result};
