//! A client that finds out how a NAT maps and filters (RFC 5780 §4.3 and §4.4).

use std::net::SocketAddr;

use dunlin_core::{
    Instant,
    wire::stun::{Attribute, Builder, ChangeRequest, Class, Message, TransactionId},
};

use crate::{
    host::{Host, HostCx},
    middlebox::nat::{Filtering, Mapping},
    packet::{Packet, Proto},
};

/// How often a request is sent, and how long each waits for its response.
const TRIES: u8 = 3;
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
/// The longest request.
const MAX_REQUEST: usize = 64;

/// What is asked at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Whether the server answers at all.
    Reach,
    /// For an answer from another address and port.
    Elsewhere,
    /// For an answer from another port.
    OtherPort,
    /// For the mapped endpoint towards the server, its other address, and its other port there.
    Mapped(u8),
    Done,
}

/// Asks a server as soon as it is switched on. Filtering is tried from the port after its own, so
/// that no packet of the other requests opens the way.
#[derive(Clone, Debug)]
pub struct StunClient {
    local: SocketAddr,
    server: SocketAddr,
    step: Step,
    tries: u8,
    due: Option<Instant>,
    transaction: TransactionId,
    other: Option<SocketAddr>,
    mapped: [Option<SocketAddr>; 3],
    mapping: Option<Mapping>,
    filtering: Option<Filtering>,
}

impl StunClient {
    /// Creates a client with this endpoint.
    #[must_use]
    pub const fn new(local: SocketAddr, server: SocketAddr) -> Self {
        Self {
            local,
            server,
            step: Step::Reach,
            tries: 0,
            due: None,
            transaction: TransactionId([0; 12]),
            other: None,
            mapped: [None; 3],
            mapping: None,
            filtering: None,
        }
    }

    /// How the NAT maps; `None` while it is not known, and when the server does not answer or has
    /// one address only.
    #[must_use]
    pub const fn mapping(&self) -> Option<Mapping> {
        self.mapping
    }

    /// How the NAT filters, like [`StunClient::mapping`].
    #[must_use]
    pub const fn filtering(&self) -> Option<Filtering> {
        self.filtering
    }

    /// The endpoint that the server saw.
    #[must_use]
    pub const fn endpoint(&self) -> Option<SocketAddr> {
        self.mapped[0]
    }

    /// Where the present request is sent from and to, and what it asks for.
    fn request(&self) -> Option<(SocketAddr, SocketAddr, ChangeRequest)> {
        let mut filter_from = self.local;
        filter_from.set_port(self.local.port().wrapping_add(1).max(1));
        let change = |ip, port| ChangeRequest { ip, port };
        let other = self.other.unwrap_or(self.server);
        let second = SocketAddr::new(other.ip(), self.server.port());
        Some(match self.step {
            Step::Reach => (filter_from, self.server, change(false, false)),
            Step::Elsewhere => (filter_from, self.server, change(true, true)),
            Step::OtherPort => (filter_from, self.server, change(false, true)),
            Step::Mapped(0) => (self.local, self.server, change(false, false)),
            Step::Mapped(1) => (self.local, second, change(false, false)),
            Step::Mapped(_) => (self.local, other, change(false, false)),
            Step::Done => return None,
        })
    }

    fn ask(&mut self, cx: &mut HostCx<'_>) {
        let Some((from, to, change)) = self.request() else {
            self.due = None;
            return;
        };
        if self.tries == 0 {
            cx.rng.fill_bytes(&mut self.transaction.0);
        }
        self.tries += 1;
        self.due = Some(cx.now + PATIENCE);
        let mut buf = [0; MAX_REQUEST];
        let len = Builder::new(&mut buf, Class::Request, self.transaction)
            .and_then(|b| b.attribute(&Attribute::ChangeRequest(change)))
            .and_then(Builder::finish_with_fingerprint);
        if let Some(len) = len {
            cx.send_udp(from, to, &buf[..len]);
        }
    }

    /// Goes on with the next request after a response, or after none came.
    fn go_on(&mut self, cx: &mut HostCx<'_>, mapped: Option<SocketAddr>) {
        let last = if self.other.is_some() { 2 } else { 0 };
        self.step = match (self.step, mapped) {
            (Step::Reach, None) => Step::Done,
            (Step::Reach, Some(_)) if self.other.is_none() => Step::Mapped(0),
            (Step::Reach, Some(_)) => Step::Elsewhere,
            (Step::Elsewhere, None) => Step::OtherPort,
            (Step::Elsewhere, Some(_)) => {
                self.filtering = Some(Filtering::EndpointIndependent);
                Step::Mapped(0)
            }
            (Step::OtherPort, answer) => {
                self.filtering = Some(match answer {
                    Some(_) => Filtering::AddressDependent,
                    None => Filtering::AddressAndPortDependent,
                });
                Step::Mapped(0)
            }
            (Step::Mapped(n), answer) => {
                self.mapped[usize::from(n)] = answer;
                let same = |a: usize, b: usize| self.mapped[a] == self.mapped[b];
                match (n, answer) {
                    (_, None) | (0, _) if n == last || answer.is_none() => Step::Done,
                    (1, _) if same(0, 1) => {
                        self.mapping = Some(Mapping::EndpointIndependent);
                        Step::Done
                    }
                    (2, _) => {
                        self.mapping = Some(match same(1, 2) {
                            true => Mapping::AddressDependent,
                            false => Mapping::AddressAndPortDependent,
                        });
                        Step::Done
                    }
                    _ => Step::Mapped(n + 1),
                }
            }
            (Step::Done, _) => Step::Done,
        };
        self.tries = 0;
        self.ask(cx);
    }
}

impl Host for StunClient {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        *self = Self::new(self.local, self.server);
        self.ask(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let flow = *packet.flow();
        let awaited = self.request().is_some_and(|(from, ..)| from == flow.dst);
        if flow.proto == Proto::Udp
            && awaited
            && let Some(message) = Message::parse(packet.payload())
            && message.class == Class::Success
            && message.transaction == self.transaction
            && let Some(mapped) = message.mapped_address()
        {
            let other = message.attributes().find_map(|attribute| match attribute {
                Attribute::OtherAddress(other) => Some(other),
                _ => None,
            });
            // What the other address tells later is where this server is.
            self.other = self.other.or(other);
            self.go_on(cx, Some(mapped));
        }
        cx.recycle(packet);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if self.due.is_some_and(|due| due <= cx.now) {
            match self.tries < TRIES {
                true => self.ask(cx),
                false => self.go_on(cx, None),
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use dunlin_core::Instant;

    use super::*;
    use crate::{BoxConfig, LinkConfig, World, host::service::StunServer, middlebox::nat::presets};

    /// What a client behind a NAT finds out; without one when `name` is empty.
    fn found(name: &str, addrs: [[u8; 4]; 2]) -> (Option<Mapping>, Option<Filtering>) {
        let mut world = World::new(1);
        let core = world.core();
        let config = BoxConfig {
            nat: presets::find(name).ok().map(|p| (p.make)()),
            ..BoxConfig::default()
        };
        let inside = match name {
            "" => [20, 0, 0, 2],
            _ => [192, 168, 1, 2],
        };
        let router = world.add_router(core, LinkConfig::fibre(), config, &[[20, 0, 0, 1].into()]);
        let addrs = addrs.map(IpAddr::from);
        let own: &[IpAddr] = if addrs[0] == addrs[1] {
            &addrs[..1]
        } else {
            &addrs
        };
        world.add_host(core, LinkConfig::fibre(), own, StunServer::new(addrs));
        let client = StunClient::new((inside, 4_000).into(), (addrs[0], 3_478).into());
        let client = world.add_host(router, LinkConfig::lan(), &[inside.into()], client);
        world.start();
        world.run_until(Instant::ORIGIN + std::time::Duration::from_secs(20));
        let client = world.host::<StunClient>(client).expect("there");
        assert!(client.endpoint().is_some(), "{name}: no answer");
        (client.mapping(), client.filtering())
    }

    #[test]
    fn the_behaviour_of_a_nat_is_found_out() {
        let servers = [[5, 0, 0, 1], [5, 0, 0, 2]];
        for name in [
            "full-cone",
            "restricted-cone",
            "port-restricted",
            "symmetric",
            "linux",
        ] {
            let config = presets::find(name).map(|p| (p.make)()).expect("a preset");
            let expected = (Some(config.udp.mapping), Some(config.udp.filtering));
            assert_eq!(found(name, servers), expected, "{name}");
        }
        let open = (
            Some(Mapping::EndpointIndependent),
            Some(Filtering::EndpointIndependent),
        );
        assert_eq!(found("", servers), open);
    }

    #[test]
    fn a_server_with_one_address_tells_the_endpoint_only() {
        assert_eq!(found("linux", [[5, 0, 0, 1]; 2]), (None, None));
    }
}
