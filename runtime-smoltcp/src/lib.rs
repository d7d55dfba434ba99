//! The `no_std` driver of Dunlin: an engine on a network interface, over
//! [smoltcp](https://docs.rs/smoltcp) and any of its devices, with `alloc` and nothing else. It
//! is what firmware uses, and what every simulated machine that speaks TCP runs.
//!
//! ```
//! use dunlin_core::{Config, Instant};
//! use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled, RamDisk};
//! # use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
//! # let mut device = smoltcp::phy::Loopback::new(smoltcp::phy::Medium::Ethernet);
//! # let mut clock = (1..).map(|ms| Instant::from_micros(ms * 1000));
//! # let rng = Box::new(ChaCha8Rng::seed_from_u64(1)); // from the machine's entropy source
//! let mut config = Config::default();
//! let _ = config.listen.push("0.0.0.0:6881".parse()?);
//! let net = NetConfig::for_engine(Hardware::Ethernet([2, 0, 0, 0, 0, 1]), &config)
//!     .address("192.0.2.7".parse()?, 24)
//!     .gateway("192.0.2.1".parse()?);
//! # let now = clock.next().unwrap();
//! let disk = RamDisk::new(64 << 20);
//! let mut driver = Driver::new(now, &mut device, &net, config, disk, rng)?;
//! // driver.engine_mut().add(now, torrent)?;
//! # for now in clock.take(3) {
//! // again and again: when a packet came, and when `poll_timeout` is due
//! while driver.poll(now, &mut device) == Polled::Busy {}
//! while let Some(event) = driver.poll_event() { /* tell the user */ }
//! let _sleep_until = driver.poll_timeout();
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it is put together
//!
//! ```text
//!   application ──engine_mut──▶ ┌─────────────────────────────────────┐
//!               ◀─poll_event─── │ Driver { Engine, Storage,           │
//!                               │   TCP pool, UDP, names, HTTP, DHCP }│ ◀─frames─▶ Device
//!                               └─────────────────────────────────────┘
//! ```
//!
//! A turn of [`Driver::poll`] takes packets in one by one, runs timers, carries out ops, moves
//! bytes of the streams that rang, sends, and repeats until nothing happens. Sockets ring by the
//! wakers that the stack calls, so work of ours is in proportion to what changed; the stack
//! itself looks at every socket for each packet.
//!
//! - **Streams** go straight between the engine's lists and the sockets' rings.
//! - **Accepting**: smoltcp has no backlog. A listener that got a SYN is replaced before the next
//!   packet is looked at; handshakes that do not get through make way, oldest first.
//! - **Ends**: a connection that we ended lingers within bounds, and makes way to others
//!   before its time if no socket is free. If all are in use, attempts to connect fail at once and
//!   those from outside are reset.
//! - **Datagrams** are built when there is room for them, and at no other time.
//! - **Names** are asked of the configured servers or those of DHCP; **HTTP** is core's own small
//!   client; `https://` answers `Unsupported`.
//! - **Disk**: whatever implements [`Storage`]; [`RamDisk`] and [`NoDisk`] are here.
//!
//! Everything is a function of the device's packets, the times handed in and the random
//! generator: the same inputs give the same frames.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc)]

extern crate alloc;

mod address;
pub mod config;
mod driver;
mod fetch;
mod names;
mod net;
mod ready;
mod stats;
pub mod storage;
pub mod time;

pub use config::{Hardware, NetConfig, SetupError};
pub use driver::{Driver, Polled};
pub use stats::Stats;
pub use storage::{NoDisk, RamDisk, Storage};
