//! Dunlin without a runtime: one thread, one blocking loop over [mio](https://docs.rs/mio).
//!
//! ```no_run
//! use dunlin_mio::{Add, Driver, DriverConfig, Event, State};
//!
//! # fn download(magnet: &str) -> Result<(), dunlin_mio::Error> {
//! let mut driver = Driver::new(DriverConfig::default())?;
//! driver.control().add(Add::magnet(magnet)?.dir("downloads"))?;
//! driver.run(|event, ctl| {
//!     if let Event::Changed { torrent, .. } = event
//!         && ctl.status(torrent).is_some_and(|t| t.state == State::Seeding)
//!     {
//!         ctl.stop();
//!     }
//! })
//! # }
//! ```
//!
//! [`Driver::run`] returns when the driver was stopped: trackers have heard of it, what was
//! downloaded is on disk and the records are saved. The callback runs on the loop's own thread
//! and has the whole engine at hand by its [`Control`]; it must not block, since every peer waits
//! meanwhile. Other threads give commands by a [`Handle`]. An application that has a loop of its
//! own calls [`Driver::turn`] from it.
//!
//! What blocks is done elsewhere: the disk has threads of its own (one by default), names and
//! HTTP requests get one each while they last. With a folder in its settings a driver remembers
//! torrents as the other drivers do, and reads what they left.

#![forbid(unsafe_code)]

mod bell;
mod config;
mod driver;
mod http;
mod poller;

pub use config::DriverConfig;
pub use driver::{Control, Driver, Handle};
pub use dunlin_core;
pub use dunlin_core::engine::{
    Changes, EngineStatus, Event, Existing, FilePriority, FileStatus, Level, Notice, PeerStatus,
    State, TorrentStatus, What,
};
pub use dunlin_core::{Config, EncryptionPolicy, InfoHash, TorrentId};
pub use dunlin_std as system;
pub use dunlin_std::config::Proxy;
pub use dunlin_std::driver::Stats;
pub use dunlin_std::net::socket::{Egress, Route, free_port, has_ipv6};
pub use dunlin_std::session::add::{Add, Limits, read_torrent};
pub use dunlin_std::session::setup::SessionConfig;
pub use dunlin_std::{Error, Result};
pub use poller::{Poller, Ready};
