//! Where the engine is reached.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use crate::SocketId;
use crate::net::Ports;

/// The main sockets, and how others see us.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// Where streams are accepted.
    pub(crate) listening: BTreeMap<SocketId, SocketAddr>,
    /// Where datagrams are received.
    pub(crate) udp_bound: BTreeMap<SocketId, SocketAddr>,
    /// Sockets that are not bound yet.
    pub(crate) binding: u32,
    /// The interface that all traffic is bound to is gone: nothing is dialled.
    pub(crate) lost: bool,
    /// Our address as somebody told it.
    pub(crate) external: Option<IpAddr>,
}

impl Endpoints {
    /// The ports that peers, trackers and the DHT are told: where streams are accepted, over each
    /// family.
    pub(crate) fn ports(&self) -> Ports {
        Ports::bound(self.listening.values())
    }
}
