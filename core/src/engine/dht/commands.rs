//! What an application may ask of the DHT.

use alloc::string::String;
use core::net::SocketAddr;

use super::super::{Engine, cx};
use super::{DhtStatus, Owner, ThrottleInUse};
use crate::dht::{Dht, Full, Goal, LookupId, PingId};
use crate::throttle::Direction;
use crate::{DhtMode, Instant, NodeId};

impl Engine {
    /// The DHT's mode and statistics; `None` while there is no DHT at all.
    #[must_use]
    pub fn dht_stats(&self) -> Option<DhtStatus> {
        let server = self.dht.as_ref()?;
        let active = server.active();
        let node = server.node.as_ref().filter(|_| active.is_some());
        Some(DhtStatus {
            mode: server.mode,
            throttle: server.throttle.clone(),
            port: active,
            stats: node.map(|n| n.stats()).unwrap_or_default(),
        })
    }

    /// The DHT's mode.
    #[must_use]
    pub fn dht_mode(&self) -> DhtMode {
        self.dht.as_ref().map_or(DhtMode::Disable, |s| s.mode)
    }

    /// The node, to look at, once it was started.
    #[must_use]
    pub fn dht_node(&self) -> Option<&Dht> {
        self.dht.as_ref()?.node.as_deref()
    }

    /// Whether the node runs.
    #[must_use]
    pub fn dht_is_active(&self) -> bool {
        self.dht.as_ref().is_some_and(|s| s.active().is_some())
    }

    /// Searches the DHT; [`Event::Dht`](super::super::Event::Dht) tells what is found, and of the
    /// end.
    ///
    /// # Errors
    /// [`Full`] if too many searches are under way, or if the node does not run.
    pub fn dht_search(&mut self, now: Instant, goal: Goal) -> Result<LookupId, Full> {
        self.tick(now);
        let server = self.dht.as_mut().ok_or(Full)?;
        let node = server.running().ok_or(Full)?;
        let lookup = node.search(&mut cx!(self), goal)?;
        server.lookups.insert(lookup, Owner::Application);
        self.after_dht();
        Ok(lookup)
    }

    /// Ends a search of [`Engine::dht_search`] without a word.
    pub fn dht_cancel(&mut self, now: Instant, lookup: LookupId) {
        self.tick(now);
        let Some(server) = &mut self.dht else {
            return;
        };
        if server.lookups.get(&lookup) == Some(&Owner::Application) {
            server.lookups.remove(&lookup);
            if let Some(node) = &mut server.node {
                node.cancel(lookup);
            }
            self.next_search();
            self.after_dht();
        }
    }

    /// Asks a node for a sign of life; [`Event::Dht`](super::super::Event::Dht) tells of it.
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, or if the node does not run.
    pub fn dht_ping(&mut self, now: Instant, addr: SocketAddr) -> Result<PingId, Full> {
        self.tick(now);
        let server = self.dht.as_mut().ok_or(Full)?;
        let node = server.running().ok_or(Full)?;
        let ping = node.ping(&mut cx!(self), addr)?;
        server.pings.insert(ping);
        self.after_dht();
        Ok(ping)
    }

    /// Asks a node which info-hashes it knows (BEP 51); [`Event::Dht`](super::super::Event::Dht)
    /// tells them.
    ///
    /// # Errors
    /// [`Full`] if too many queries are under way, or if the node does not run.
    pub fn dht_sample(
        &mut self,
        now: Instant,
        addr: SocketAddr,
        target: NodeId,
    ) -> Result<(), Full> {
        self.tick(now);
        let server = self.dht.as_mut().ok_or(Full)?;
        let node = server.running().ok_or(Full)?;
        node.sample(&mut cx!(self), addr, target)?;
        server.samples += 1;
        self.after_dht();
        Ok(())
    }

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
        if let Some(node) = self.dht.as_mut().and_then(|s| s.running()) {
            node.send_failed(&mut cx!(self), addr);
            self.after_dht();
        }
    }
}
