//! Trackers as machines: [`udp::UdpTrackers`] speaks BEP 15 for all torrents.
//!
//! Names are resolved and HTTP is spoken by the owner.

pub mod udp;

pub use udp::{UdpConfig, UdpTrackers};
