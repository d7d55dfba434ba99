//! The driver kit: everything that drivers do in the same way. A driver only adds how it waits.
//!
//! ```text
//!   commands ──▶ ┌───────────────────────────────────┐ ──ops──▶ disk threads, names, HTTP
//!                │ EngineLoop { Engine, Conns,       │ ◀─outcomes──┘
//!   ◀──events─── │   Sockets, Torrents, OwnOps, … }  │
//!                └──────────────┬────────────────────┘
//!                            Reactor: the driver's way of waiting for sockets
//! ```
//!
//! A driver waits until something happens, records what became ready (`wake_stream` and the like), and then
//! runs rounds ([`EngineLoop::round`], [`EngineLoop::next_event`]) within a budget, as long as there is
//! something to do.

mod conn;
mod conns;
mod datagrams;
mod engine_loop;
mod ops;
mod own_ops;
mod prepare;
mod reactor;
mod requests;
mod sockets;
mod stats;
mod torrents;

pub use engine_loop::{EngineLoop, Parts};
pub use prepare::Prepared;
pub use reactor::{Called, Direction, Reactor, Source};
pub use requests::Requests;
pub use stats::Stats;
