//! What an application may ask of the DHT.

use alloc::string::String;
use core::net::SocketAddr;

use super::super::{Engine, cx};
use super::{DhtNodeError, DhtStatus, Owner, ThrottleInUse};
use crate::dht::{Dht, Full, Goal, LookupId, PingId, parse_node};
use crate::throttle::Direction;
use crate::{DhtMode, Instant, NodeId};

impl Engine {
    // ---- modes ----

    /// Changes the DHT's mode. `Off` stops the node, `On` starts it, `Auto` changes nothing now:
    /// the next torrent that starts, and is not private, starts it. After `Disable` there is no
    /// DHT any more, whatever is commanded later. Returns whether there is one.
    pub fn set_dht(&mut self, now: Instant, mode: DhtMode) -> bool {
        self.tick(now);
        let Some(server) = &mut self.dht else {
            return false;
        };
        server.service.set_mode(&mut cx!(self), mode);
        self.after_dht();
        if mode == DhtMode::Disable {
            self.dht = None;
            let ids = self.torrents.all_ids();
            for id in ids {
                self.dht_tracker(id);
            }
        }
        self.settle();
        self.dht.is_some()
    }

    /// The application is about to use the DHT: in mode `auto` that starts the node, as a torrent
    /// would. Returns whether it runs, or is about to.
    pub fn dht_want(&mut self, now: Instant) -> bool {
        self.tick(now);
        if let Some(server) = &mut self.dht {
            server.service.want();
            self.after_dht();
        }
        self.settle();
        // What cannot be bound has failed by now.
        self.dht.as_ref().is_some_and(|s| s.service.is_on())
    }

    /// Changes the UDP port for the next start; see [`Config::dht_port`](crate::Config::dht_port).
    pub fn set_dht_port(&mut self, now: Instant, port: Option<u16>) {
        self.tick(now);
        if let Some(server) = &mut self.dht {
            server.set_port(port);
        }
    }

    // ---- state ----

    /// The DHT's mode and statistics; `None` while there is no DHT at all.
    #[must_use]
    pub fn dht_stats(&self) -> Option<DhtStatus> {
        let server = self.dht.as_ref()?;
        let ports = server.service.ports();
        let node = server.service.node().filter(|_| ports.is_some());
        Some(DhtStatus {
            mode: server.service.mode(),
            throttle: server.throttle.clone(),
            port: ports.and_then(|ports| ports.any()),
            stats: node.map(Dht::stats).unwrap_or_default(),
        })
    }

    /// The DHT's mode.
    #[must_use]
    pub fn dht_mode(&self) -> DhtMode {
        let server = self.dht.as_ref();
        server.map_or(DhtMode::Disable, |s| s.service.mode())
    }

    /// The node, to look at, once it was started.
    #[must_use]
    pub fn dht_node(&self) -> Option<&Dht> {
        self.dht.as_ref()?.service.node()
    }

    /// Whether the node runs.
    #[must_use]
    pub fn dht_is_active(&self) -> bool {
        let server = self.dht.as_ref();
        server.is_some_and(|s| s.service.ports().is_some())
    }

    // ---- searches and the like ----

    /// Searches the DHT; [`Event::Dht`](super::super::Event::Dht) tells what is found, and of the
    /// end.
    ///
    /// # Errors
    /// [`Full`] if too many searches are under way, or if the node does not run.
    pub fn dht_search(&mut self, now: Instant, goal: Goal) -> Result<LookupId, Full> {
        self.tick(now);
        let service = &mut self.dht.as_mut().ok_or(Full)?.service;
        let lookup = service.search(&mut cx!(self), Owner::Application, goal)?;
        self.after_dht();
        self.settle();
        Ok(lookup)
    }

    /// Ends a search of [`Engine::dht_search`]; nothing more is told of it.
    pub fn dht_cancel(&mut self, now: Instant, lookup: LookupId) {
        self.tick(now);
        let Some(server) = &mut self.dht else {
            return;
        };
        if server.service.owner(lookup) == Some(Owner::Application) {
            server.service.cancel(lookup);
            self.after_dht();
            self.settle();
        }
    }

    /// Pings a node; [`Event::Dht`](super::super::Event::Dht) tells of the answer, or that there is none.
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, or if the node does not run.
    pub fn dht_ping(&mut self, now: Instant, addr: SocketAddr) -> Result<PingId, Full> {
        self.tick(now);
        let service = &mut self.dht.as_mut().ok_or(Full)?.service;
        let ping = service.ping(&mut cx!(self), Some(Owner::Application), addr)?;
        self.after_dht();
        self.settle();
        Ok(ping)
    }

    /// Asks a node which info-hashes it knows (BEP 51); [`Event::Dht`](super::super::Event::Dht)
    /// tells them.
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, if the same node is being asked, or if our node does not run.
    pub fn dht_sample(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        target: NodeId,
    ) -> Result<(), Full> {
        self.tick(now);
        let service = &mut self.dht.as_mut().ok_or(Full)?.service;
        service.sample(&mut cx!(self), Owner::Application, addr, target)?;
        self.after_dht();
        self.settle();
        Ok(())
    }

    /// `host` or `host:port`, the way a person writes it: the node is pinged, and joins the table
    /// if that has space. While the DHT does not run it is remembered as one to begin with.
    ///
    /// # Errors
    /// See [`DhtNodeError`].
    pub fn dht_add_node(&mut self, now: Instant, node: &str) -> Result<(), DhtNodeError> {
        self.tick(now);
        let server = self.dht.as_mut().ok_or(DhtNodeError::NotEnabled)?;
        let node = parse_node(node)?;
        server.service.add_node(&mut cx!(self), node);
        self.after_dht();
        self.settle();
        Ok(())
    }

    /// Pings a node that a peer named, whose answer is of interest to its table alone.
    pub(in super::super) fn dht_ping_quietly(&mut self, addr: SocketAddr) {
        if let Some(server) = &mut self.dht {
            // More than the node can watch are not worth waiting for.
            let _ = server.service.ping(&mut cx!(self), None, addr);
            self.after_dht();
        }
    }

    // ---- sockets and limits ----

    /// Names and sets the DHT's own limit, in bytes per second out.
    ///
    /// # Errors
    /// [`ThrottleInUse`] while the node runs.
    pub fn set_dht_throttle(
        &mut self,
        now: Instant,
        name: &str,
        limit: Option<u64>,
    ) -> Result<(), ThrottleInUse> {
        self.tick(now);
        if self.dht_is_active() {
            return Err(ThrottleInUse);
        }
        if let Some(server) = &mut self.dht {
            server.throttle = String::from(name);
            self.throttle
                .set_rate(self.now, server.bucket, Direction::Up, limit);
        }
        Ok(())
    }

    /// The driver could not send a datagram to `addr`: the platform refused it. If it was a query of
    /// the DHT, that has failed.
    pub fn handle_unsent(&mut self, now: Instant, addr: SocketAddr) {
        self.tick(now);
        self.udp_unsent(addr);
        if let Some(server) = &mut self.dht {
            server.service.handle_unsent(&mut cx!(self), addr);
            self.after_dht();
        }
        self.settle();
    }
}
