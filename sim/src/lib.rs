//! A deterministic network simulator for Dunlin: hosts, links, NATs and firewalls under virtual
//! time.
//!
//! One queue of events, one seed, no wall clock and no threads: two runs with the same seed are the
//! same run, on any machine. The network is a tree. Its root is the core of the internet, its
//! leaves are [`Host`]s, and between them are routers with or without NAT and firewall. Each edge
//! is a link that carries [`Packet`]s, byte for byte as they would be on a wire.
//!
//! ```
//! use dunlin_sim::{BoxConfig, LinkConfig, Packet, Rule, Scripted, World};
//! use dunlin_sim::middlebox::nat::presets;
//!
//! let mut world = World::new(1);
//! let nat = BoxConfig { nat: Some(presets::linux()), ..BoxConfig::default() };
//! let home = world.add_router(world.core(), LinkConfig::dsl(), nat, &[[203, 0, 113, 1].into()]);
//!
//! // A host behind the NAT sends a datagram to an echo server.
//! let (inside, server) = ([192, 168, 1, 2], [198, 51, 100, 7]);
//! let ping = Packet::udp((inside, 6881).into(), (server, 7).into(), b"ping");
//! let host = Scripted::new().send(world.now(), ping);
//! let host = world.add_host(home, LinkConfig::lan(), &[inside.into()], host);
//! world.add_host(world.core(), LinkConfig::fibre(), &[server.into()], Scripted::echo());
//!
//! world.start();
//! world.run_for(std::time::Duration::from_secs(1));
//! assert_eq!(world.trace().count_at(home, Rule::NatNewMapping), 1);
//! assert_eq!(world.host::<Scripted>(host).map(|h| h.received().len()), Some(1));
//! ```
//!
//! [`guide`] shows, around a program that punches holes, how to test a protocol of your own.
//!
//! # Layers
//!
//! From top to bottom, each module using only those below it:
//!
//! - [`scenario`]: networks and expectations from TOML files, which the `dunlin-sim` command runs.
//! - [`experiment`]: many worlds, each run and judged; [`dht`]: DHTs of real or synthetic nodes.
//! - [`report`]: results as a self-contained HTML file.
//! - [`world`]: the tree, the packets under way, virtual time, and the trace of a run.
//! - [`host`]: what is at the leaves, from scripts to machines that run the engine.
//! - [`middlebox`]: NATs, firewalls and connection tracking; [`link`](mod@link): delay, loss and
//!   queues.
//! - [`packet`]: packets as bytes, and the rules that name what happened to them.
//! - [`id`], [`addresses`], [`agenda`], [`rng`]: device numbers, public addresses, the event queue,
//!   random numbers.

#![forbid(unsafe_code)]

/// How to test a protocol of your own.
///
#[doc = include_str!("../GUIDE.md")]
///
/// # The program
///
/// ```
#[doc = include_str!("../examples/hole_punching.rs")]
/// ```
pub mod guide {}

pub mod addresses;
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
pub use dunlin_core::Instant;
pub use host::{
    Host, HostCx,
    bulk::BulkHost,
    light::{Light, Scripted},
    stack::tcp::{Algorithm, TcpConfig},
};
pub use id::{DeviceId, PacketId};
pub use link::{
    LinkConfig,
    region::{Region, RegionMatrix},
};
pub use middlebox::{
    BoxConfig, GatewayConfig, Middlebox,
    firewall::{self, FirewallConfig},
    nat::{self, NatConfig},
};
pub use packet::{
    BadPacket, Flow, Fragment, IcmpError, MAX_PACKET, Packet, Proto, TcpFlags,
    verdict::{Rule, Verdict},
};
pub use rng::SimRng;
pub use world::{Action, Traffic, World, trace};
