//! Tests and benchmarks that need more than one crate.
//!
//! The lab: a network namespace with real BitTorrent clients and trackers in it, so that Dunlin is
//! proved against programs it does not share a line with. [`lab::Lab`] is the namespace,
//! [`peers`] starts the clients, [`tracker`] the trackers, [`payload`] makes and compares files.
//! Everything waits on conditions with deadlines ([`wait::until`]) and ends only its own children.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests report to the terminal"
)]

pub mod blast;
pub mod crowd;
pub mod dht;
pub mod driver;
pub mod http;
pub mod krpc;
pub mod lab;
pub mod parity;
pub mod payload;
pub mod peers;
pub mod scene;
pub mod tracker;
pub mod usage;
pub mod wait;
