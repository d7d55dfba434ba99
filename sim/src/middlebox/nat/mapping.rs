//! Making and ending port mappings.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;

use super::{
    Clash, Forward, ForwardError, Nat,
    key::{End, Key, Kind},
};
use crate::packet::Proto;

impl Nat {
    /// Makes a port mapping: what arrives at `external_port`, from anybody, goes to `internal` for
    /// `lifetime`, or forever (RFC 6887 §11). The external address is the one that is paired with
    /// `internal`. A new flow of `internal` uses the port, too, if it has no other mapping. A
    /// second call renews the mapping.
    ///
    /// # Errors
    /// See [`ForwardError`].
    pub fn forward(
        &mut self,
        now: Instant,
        proto: Proto,
        external_port: u16,
        internal: SocketAddr,
        lifetime: Option<Duration>,
    ) -> Result<SocketAddr, ForwardError> {
        self.expire(now);
        let inside = End::of(internal).ok_or(ForwardError::Unsupported)?;
        if proto == Proto::Icmp || external_port == 0 || internal.port() == 0 {
            return Err(ForwardError::Unsupported);
        }
        let external = End::new(self.paired(inside), external_port);
        match self.forwards.inside_of(proto, external) {
            Some(other) if other != inside => return Err(ForwardError::Taken),
            Some(_) => {}
            None if self.forwards.is_full() => return Err(ForwardError::Full),
            None => {}
        }
        let shared = self.translation(proto).clash == Clash::Overload;
        let key = Key::new(Kind::External, proto, external, End::NONE);
        let owner = self.table.oldest(key).map(|s| self.table.flow(s).inside);
        if !shared && owner.is_some_and(|o| o != inside) {
            return Err(ForwardError::Taken);
        }
        let expires = lifetime.map(|l| now + l);
        self.forwards.insert(proto, external, inside, expires);
        Ok(external.addr())
    }

    /// Ends a port mapping. Returns `false` when there was none. Flows that came through it stay.
    pub fn unforward(&mut self, now: Instant, proto: Proto, external: SocketAddr) -> bool {
        self.expire(now);
        End::of(external).is_some_and(|e| self.forwards.remove(proto, e).is_some())
    }

    /// The port mapping of an external endpoint.
    pub fn forward_at(
        &mut self,
        now: Instant,
        proto: Proto,
        external: SocketAddr,
    ) -> Option<Forward> {
        self.expire(now);
        self.forwards.at(proto, End::of(external)?)
    }

    /// Exposes a host, or none: it gets everything that arrives at a port without a mapping, as the
    /// "DMZ host" of a home router does. This survives a restart.
    pub fn expose(&mut self, host: Option<Ipv4Addr>) {
        self.forwards.exposed = host;
    }

    /// The host that is exposed.
    #[must_use]
    pub const fn exposed(&self) -> Option<Ipv4Addr> {
        self.forwards.exposed
    }

    /// Returns `true` while the box restarts: nothing passes, and its services do not answer.
    #[must_use]
    pub fn is_down(&self, now: Instant) -> bool {
        self.down.is_some_and(|until| until > now)
    }

    /// The port mappings, by protocol and external endpoint, including those that have ended since
    /// the last packet.
    pub fn forwards(&self) -> impl Iterator<Item = Forward> {
        self.forwards.iter()
    }
}
