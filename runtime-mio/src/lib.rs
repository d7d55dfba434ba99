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
//! [`Driver::run`] returns when the driver has stopped: trackers were told, what was downloaded is on disk,
//! and records are saved. The callback runs on the loop's own thread and can use the whole engine through
//! its [`Control`]; it must not block, because all peers wait meanwhile. Other threads give commands
//! through a [`Handle`]. An application with a loop of its own calls [`Driver::turn`] from it.
//!
//! Calls that block run elsewhere: the disk has its own threads (one by default), and each name or HTTP
//! request has one while it runs. With a session folder a driver remembers torrents as the other drivers
//! do, and can read what they saved.

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
