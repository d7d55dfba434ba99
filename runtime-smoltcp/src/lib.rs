//! The `no_std` driver of Dunlin: an engine on a network interface, over
//! [smoltcp](https://docs.rs/smoltcp) and any of its devices. It needs `alloc` and nothing else.
//! Firmware uses it, and so does every simulated machine that speaks TCP.
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
//! # Layers
//!
//! ```text
//!   application ──engine_mut──▶ ┌─────────────────────────────────────┐
//!               ◀─poll_event─── │ Driver { Engine, Storage,           │
//!                               │   TCP pool, UDP, names, HTTP, DHCP }│ ◀─frames─▶ Device
//!                               └─────────────────────────────────────┘
//! ```
//!
//! A turn of [`Driver::poll`] receives packets one by one, runs timers, carries out ops, moves the
//! bytes of streams that have become ready, and sends; turns repeat until nothing happens. The
//! stack wakes sockets through wakers, so that the driver's own work is proportional to what has
//! changed. The stack itself looks at every socket for each packet.
//!
//! From top to bottom, each layer using only those below it:
//!
//! - `driver`: the loop, and the dispatch of ops.
//! - `net/streams`: bytes go directly between the engine's buffers and the sockets' rings.
//! - `fetch`: HTTP requests with the core's client. `https://` is answered with `Unsupported`.
//! - `names` and `address`: DNS and DHCP. Names are looked up at the configured servers, or those
//!   of DHCP.
//! - `net/pool`: the TCP sockets. smoltcp has no backlog, so a listener that has received a SYN is
//!   replaced before the next packet is processed; unfinished handshakes are dropped, oldest first.
//!   A connection that was closed here lingers for a limited time, and less if no other socket is
//!   free. When all sockets are in use, attempts to connect fail at once and those from outside are
//!   reset.
//! - `net/udp`: datagrams, which are built only when there is room for them.
//! - `net`, `ready`: the stack, and the set of sockets that have become ready.
//! - [`storage`]: the disk, through the trait [`Storage`]. [`RamDisk`] and [`NoDisk`] implement it.
//!
//! The driver is deterministic: the same packets, times and random numbers give the same frames.

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
