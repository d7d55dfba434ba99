//! The behaviour of a NAT, seen from both sides.

mod kernel;
mod limits;
mod linux;
mod properties;
mod rfc;

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use super::{Nat, NatConfig};
use crate::packet::{
    Packet, TcpFlags,
    verdict::{Rule, Verdict},
};

/// A NAT and a clock.
struct Lab {
    nat: Nat,
    now: Instant,
}

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("an endpoint")
}

impl Lab {
    fn new(config: NatConfig) -> Self {
        let public = ["203.0.113.11".parse().expect("an address")];
        Self {
            nat: Nat::new(config, &public, 7),
            now: Instant::from_micros(1_000_000),
        }
    }

    fn wait(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
    }

    /// Sends a packet out. Returns the external endpoint, if it passed, and the rule.
    fn out(&mut self, packet: &mut Packet) -> (Option<SocketAddr>, Rule) {
        let verdict = self.nat.outbound(self.now, packet);
        assert!(packet.checksums_hold());
        let passed = matches!(verdict, Verdict::Pass(_));
        (passed.then_some(packet.flow().src), verdict.rule())
    }

    /// Sends a packet in. Returns the internal endpoint that gets it, if it passed, and the rule.
    fn enter(&mut self, packet: &mut Packet) -> (Option<SocketAddr>, Rule) {
        let verdict = self.nat.inbound(self.now, packet);
        assert!(packet.checksums_hold());
        let passed = matches!(verdict, Verdict::Pass(_));
        (passed.then_some(packet.flow().dst), verdict.rule())
    }

    fn udp_out(&mut self, from: &str, to: &str) -> (Option<SocketAddr>, Rule) {
        self.out(&mut Packet::udp(addr(from), addr(to), b"out"))
    }

    fn udp_in(&mut self, from: &str, to: SocketAddr) -> (Option<SocketAddr>, Rule) {
        self.enter(&mut Packet::udp(addr(from), to, b"in"))
    }

    /// The external endpoint of a datagram that must pass.
    fn ext(&mut self, from: &str, to: &str) -> SocketAddr {
        let (external, rule) = self.udp_out(from, to);
        external.unwrap_or_else(|| panic!("{from} to {to}: {rule:?}"))
    }

    fn tcp_out(&mut self, from: &str, to: &str, flags: TcpFlags) -> (Option<SocketAddr>, Rule) {
        self.out(&mut Packet::tcp(addr(from), addr(to), flags, 1, 1, b""))
    }

    fn tcp_in(
        &mut self,
        from: &str,
        to: SocketAddr,
        flags: TcpFlags,
    ) -> (Option<SocketAddr>, Rule) {
        self.enter(&mut Packet::tcp(addr(from), to, flags, 1, 1, b""))
    }
}
