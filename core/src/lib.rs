//! Dunlin's engine: BitTorrent as one state machine without I/O.
//!
//! A driver owns the [`Engine`](engine::Engine), hands it events with the time at which they happen, and
//! carries out what it asks for; [`engine`] documents that contract, with an example.
//!
//! Layers, each importing only those above it in this list:
//!
//! - values: [`Instant`], [`Block`], [`Bitfield`], ids, outcomes.
//! - wire formats: bytes to values and back, borrowed.
//! - machines, each usable alone: [`dht`], [`http`], [`metainfo`], [`throttle`], [`tracker`], and the ops
//!   that the engine hands out ([`op`]).
//! - [`Config`], and [`engine`], which composes the machines.

#![no_std]
#![forbid(unsafe_code)]
#![warn(
    clippy::std_instead_of_core,
    clippy::std_instead_of_alloc,
    clippy::alloc_instead_of_core
)]

extern crate alloc;

// What is hidden from the documentation is for the other crates of this workspace, its tests and its benchmarks: it changes
// without notice. core/public-items.txt lists what is not.
mod bitfield;
mod block;
mod config;
pub mod dht;
pub mod engine;
pub mod hash;
pub mod http;
mod id;
mod job;
mod machine;
pub mod metainfo;
#[doc(hidden)]
pub mod mux;
pub mod net;
pub mod op;
mod outcome;
#[doc(hidden)]
pub mod peer;
pub mod rate;
pub mod scope;
pub mod sync;
pub mod throttle;
mod time;
#[doc(hidden)]
pub mod torrent;
pub mod tracker;
#[doc(hidden)]
pub mod wire;

pub use bitfield::Bitfield;
pub use block::{BLOCK_LEN, Block};
#[doc(hidden)]
pub use block::{BlockPool, BlockRef};
pub use config::{Caps, Config, EncryptionPolicy};
pub use dht::DhtMode;
pub use hash::Hasher;
pub use id::{ConnId, InfoHash, NodeId, OpId, PeerId, TorrentId};
pub use machine::{Cx, Ecn, Handled, Machine, RecvMeta, SocketId, Transmit};
pub use op::Op;
pub use outcome::{CloseReason, OpError, OpErrorKind, Outcome};
pub use time::Instant;
