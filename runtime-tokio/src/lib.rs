//! Dunlin for tokio: a BitTorrent client as a library, and the `dunlin` command.
//!
//! ```no_run
//! use dunlin_tokio::{Add, Session, SessionConfig};
//!
//! # async fn download(magnet: &str) -> Result<(), dunlin_tokio::Error> {
//! let session = Session::new(SessionConfig::default()).await?;
//! let torrent = session.add(Add::magnet(magnet)?.dir("downloads")).await?;
//! let status = torrent.wait_complete().await?;
//! println!("{}: {} bytes", status.name, status.done);
//! session.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Session`] is one engine with its sockets and its disk. [`Torrent`] handles are cheap to clone and
//! may outlive the session; then they return [`Error::Stopped`]. All state is owned by one task of the
//! runtime that [`Session::new`] was called in, which may be of any flavour.
//!
//! A [`DhtNode`] is a DHT node without torrents.
//!
//! With a [`SessionConfig::folder`] a session remembers its torrents: adding the same torrent again
//! continues where the last session stopped, and the metadata of a magnet is downloaded once.

pub mod dht;
mod driver;
mod net;
mod platform;
mod session;

pub use dht::{DhtNode, DhtSearch};
pub use driver::Ended;
pub use dunlin_core;
pub use dunlin_core::engine::StreamEncryption;
pub use dunlin_core::engine::{
    Changes, EngineStatus, Event, Existing, FilePriority, FileStatus, Level, Notice, PeerStatus,
    State, TorrentStatus, What,
};
pub use dunlin_core::tracker::TrackerState;
pub use dunlin_core::{Config, EncryptionPolicy, InfoHash, TorrentId};
pub use dunlin_std as system;
pub use dunlin_std::config::Proxy;
pub use dunlin_std::driver::Stats;
pub use dunlin_std::net::socket::{Egress, Route, free_port, has_ipv6};
pub use dunlin_std::session::add::{Add, Limits, read_torrent};
pub use dunlin_std::session::setup::SessionConfig;
pub use dunlin_std::{Error, Result};
pub use session::{
    AddError, Content, Events, Session, Torrent, TorrentKey, Tracker, TrackerUse, Watch,
};
