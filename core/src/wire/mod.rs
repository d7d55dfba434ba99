//! Bytes to values and back: borrowed parsers, and emitters that write into a caller's buffer.

pub mod bencode;
pub mod extension;
pub mod krpc;
pub mod mse;
pub mod natpmp;
pub mod pcp;
pub mod peer;
pub mod stun;
pub mod tracker;
