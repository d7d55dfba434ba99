//! What Dunlin's drivers with `std` share.
//!
//! - [`driver`]: the driver kit, everything but the way of waiting.
//! - [`session`]: settings, adding torrents, and what is saved of them, on top of [`folder`], the session
//!   folder.
//! - [`disk`]: threads that carry out the engine's disk ops; [`paths`] makes safe file names.
//! - [`net`]: sockets, proxies, names, HTTP.
//! - [`config`]: the settings file.

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
