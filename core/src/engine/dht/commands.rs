//! Commands of an application to the DHT.

use alloc::string::String;
use core::net::SocketAddr;

use super::super::torrents::Torrents;
use super::{Owner, Server, ThrottleInUse};
use crate::dht::{Full, Goal, LookupId, NodeNameError, PingId, parse_node};
use crate::throttle::Direction;
use crate::torrent::cx;
use crate::torrent::io::Io;
use crate::{DhtMode, NodeId};

impl Server {
    /// Changes the mode. `Off` stops the node, `On` starts it, and `Auto` changes nothing at once: the next torrent that
    /// starts and is not private starts the node.
    pub(in super::super) fn set_mode(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        mode: DhtMode,
    ) {
        self.service.set_mode(&mut cx!(io), mode);
        self.settle(io, torrents);
    }

    /// The application is about to use the DHT: in mode `auto`, this starts the node, as a torrent would. Returns whether
    /// the node runs, or is being started.
    pub(in super::super) fn want(&mut self, io: &mut Io<'_>, torrents: &mut Torrents) -> bool {
        self.service.want();
        self.settle(io, torrents);
        self.service.is_on()
    }

    /// Starts a search for the application.
    pub(in super::super) fn search(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        goal: Goal,
    ) -> Result<LookupId, Full> {
        let lookup = self
            .service
            .search(&mut cx!(io), Owner::Application, goal)?;
        self.settle(io, torrents);
        Ok(lookup)
    }

    /// Cancels a search of the application. No event follows.
    pub(in super::super) fn cancel(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        lookup: LookupId,
    ) {
        if self.service.owner(lookup) == Some(Owner::Application) {
            self.service.cancel(lookup);
            self.settle(io, torrents);
        }
    }

    /// Pings a node for the application.
    pub(in super::super) fn ping(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        addr: SocketAddr,
    ) -> Result<PingId, Full> {
        let ping = self
            .service
            .ping(&mut cx!(io), Some(Owner::Application), addr)?;
        self.settle(io, torrents);
        Ok(ping)
    }

    /// Asks a node for a sample of its info-hashes (BEP 51).
    pub(in super::super) fn sample(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        (addr, target): (SocketAddr, NodeId),
    ) -> Result<(), Full> {
        self.service
            .sample(&mut cx!(io), Owner::Application, addr, target)?;
        self.settle(io, torrents);
        Ok(())
    }

    /// Adds a node, written as `host` or `host:port`. It is pinged, and added to the routing table if that has room. While
    /// the DHT does not run, it is remembered for the start.
    pub(in super::super) fn add_node(
        &mut self,
        io: &mut Io<'_>,
        torrents: &mut Torrents,
        node: &str,
    ) -> Result<(), NodeNameError> {
        let node = parse_node(node)?;
        self.service.add_node(&mut cx!(io), node);
        self.settle(io, torrents);
        Ok(())
    }

    /// Sets the name and the rate of the upload limit, in bytes per second, while the node does not run.
    pub(in super::super) fn set_limit(
        &mut self,
        io: &mut Io<'_>,
        name: String,
        up: Option<u64>,
    ) -> Result<(), ThrottleInUse> {
        if self.active().is_some() {
            return Err(ThrottleInUse);
        }
        self.throttle = name;
        io.throttle.set_rate(io.now, self.bucket, Direction::Up, up);
        Ok(())
    }
}
