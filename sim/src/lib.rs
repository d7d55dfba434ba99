//! The deterministic network simulator: hosts, links, NAT boxes and firewalls under virtual time.
//!
//! One queue of events ordered by (time, sequence), one seed, no wall clock, no threads: two runs
//! with one seed are the same run, on any machine.
//!
//! The network is a tree. Its root is the core of the internet, its leaves are [`Host`]s, and
//! what stands between are routers with or without NAT and firewall. Each edge is a link. What
//! travels is a [`Packet`], bytes as they would be on a wire.

#![forbid(unsafe_code)]

pub mod agenda;
pub mod dht;
pub mod experiment;
pub mod host;
pub mod id;
pub mod link;
pub mod middlebox;
pub mod packet;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod world;

pub use agenda::Agenda;
pub use host::{
    Host, HostCx,
    light::{Light, Scripted},
};
pub use id::{DeviceId, PacketId};
pub use link::{
    LinkConfig,
    region::{Region, RegionMatrix},
};
pub use middlebox::{BoxConfig, GatewayConfig, Igd, Middlebox};
pub use packet::{
    BadPacket, Flow, Fragment, IcmpError, MAX_PACKET, Packet, Proto, TcpFlags,
    verdict::{Rule, Verdict},
};
pub use rng::SimRng;
pub use world::{Action, World};
