//! One peer connection as a stream-shaped machine.

pub mod crypto;
