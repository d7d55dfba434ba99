//! The deterministic network simulator: hosts, links, NAT boxes and firewalls under virtual time.
//!
//! One queue of events ordered by (time, sequence), one seed, no wall clock, no threads: two runs
//! with one seed are the same run, on any machine.
//!
//! The network is a tree. Its root is the core of the internet, its leaves are [`Host`]s, and
//! what stands between are routers with or without NAT and firewall. Each edge is a link. What
//! travels is a [`Packet`], bytes as they would be on a wire.

#![forbid(unsafe_code)]

mod agenda;
pub mod dht;
pub mod disk;
pub mod engine;
pub mod firewall;
mod host;
pub mod ledger;
mod light;
pub mod link;
pub mod matrix;
pub mod middlebox;
pub mod nat;
pub mod oracle;
mod packet;
pub mod pcapng;
pub mod punch;
pub mod region;
pub mod report;
mod rng;
pub mod scenario;
pub mod service;
pub mod shrink;
pub mod stack;
pub mod sweep;
mod tcp;
pub mod trace;
mod verdict;
pub mod world;

pub use agenda::Agenda;
pub use host::{Host, HostCx};
pub use light::{Light, Scripted};
pub use link::LinkConfig;
pub use middlebox::{BoxConfig, GatewayConfig, Igd, Middlebox};
pub use packet::{BadPacket, Flow, Fragment, IcmpError, MAX_PACKET, Packet, Proto, TcpFlags};
pub use region::{Region, RegionMatrix};
pub use rng::SimRng;
pub use verdict::{Rule, Verdict};
pub use world::{Action, NodeId, World};
