//! The single-threaded, blocking side of Dunlin, over [mio](https://docs.rs/mio).
//!
//! What stands here so far is the heart of the loop: waiting for sockets, for another thread's
//! wake-up and for the engine's next deadline, whichever comes first. The driver around it is to
//! come.

#![forbid(unsafe_code)]

mod poller;

pub use poller::{Poller, Ready};
