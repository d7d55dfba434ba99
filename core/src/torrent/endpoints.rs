//! The addresses at which the engine can be reached.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, SocketAddr};

use crate::SocketId;
use crate::net::Ports;

/// The main sockets, and our external address.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// The addresses that accept connections.
    pub(crate) listening: BTreeMap<SocketId, SocketAddr>,
    /// The addresses that receive datagrams.
    pub(crate) udp_bound: BTreeMap<SocketId, SocketAddr>,
    /// The number of sockets that are not bound yet.
    pub(crate) binding: u32,
    /// The interface that all traffic is bound to does not exist: no connection is opened.
    pub(crate) lost: bool,
    /// Our external address, as it was reported to us.
    pub(crate) external: Option<IpAddr>,
}

impl Endpoints {
    /// The port of each address family that accepts connections: what peers, trackers and the DHT are told.
    pub(crate) fn ports(&self) -> Ports {
        Ports::bound(self.listening.values())
    }
}
