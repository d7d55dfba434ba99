//! The small world of one attempt.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;

use super::Run;
use crate::{
    experiment::oracle::{Attempt, End, Family, Meet, Pair, RENDEZVOUS_PORT, Transport},
    host::punch::{EndConfig, Introduction, Observed, Rendezvous, TcpEnd, UdpEnd},
    id::DeviceId,
    link::{Direction, LinkConfig},
    packet::Proto,
    world::World,
};

/// How long an attempt may take from the tick of the rendezvous or, if that never comes, from the
/// beginning.
pub const TIME: Duration = Duration::from_secs(5);
/// How much later the second end is introduced in [`Attempt::First`]: more than a round trip, and
/// different from the intervals between an end's tries.
const LATER: Duration = Duration::from_millis(350);

/// The delays from a host to its first box, between boxes, and from the last box to the core. Each
/// end is nearer to all its boxes than to the point where the paths meet, so that packets of one
/// tick cross there. That point is the core, or the box that both ends are behind, which is as far
/// from its subscribers.
const LAN: Duration = Duration::from_millis(1);
const ACCESS: Duration = Duration::from_millis(2);
const CORE: Duration = Duration::from_millis(10);

const NAMES: [u8; 2] = [b'A', b'B'];

/// A world in which two ends are about to connect.
#[derive(Debug)]
pub struct Scene {
    /// The world, not started.
    pub world: World,
    /// The hosts of the two ends, each a [`UdpEnd`] or a [`TcpEnd`].
    pub ends: [DeviceId; 2],
    /// The host of the rendezvous.
    pub rendezvous: DeviceId,
    transport: Transport,
    seed: u64,
}

/// Builds the world of an attempt.
///
/// # Panics
/// When the ends are behind one box and their outermost boxes differ.
#[must_use]
pub fn scene(pair: Pair<'_>, transport: Transport, attempt: Attempt, seed: u64) -> Scene {
    let mut world = World::new(seed);
    let core = world.core();
    let server = SocketAddr::new(address(pair.family, 0, 0, 0), RENDEZVOUS_PORT);
    let told = |to, about, after| Introduction {
        to: NAMES[to],
        about: NAMES[about],
        after,
    };
    let introductions = match attempt {
        Attempt::Dial => vec![told(0, 1, Duration::ZERO)],
        Attempt::Together => vec![told(0, 1, Duration::ZERO), told(1, 0, Duration::ZERO)],
        Attempt::First => vec![told(0, 1, Duration::ZERO), told(1, 0, LATER)],
    };
    let rendezvous = world.add_host(
        core,
        delayed(CORE),
        &[server.ip()],
        Rendezvous::new(server, introductions),
    );
    world.set_name(rendezvous, "rendezvous");

    let mut shared = None;
    let ends = [(0, pair.a), (1, pair.b)].map(|(n, end)| {
        if pair.meet == Meet::Box {
            assert_eq!(pair.a.path.last(), pair.b.path.last(), "one box is meant");
        }
        let plan = Plan {
            n,
            end,
            meet: pair.meet,
            family: pair.family,
            transport,
            server,
        };
        let id = plan.build(&mut world, &mut shared);
        if pair.meet == Meet::Core {
            shared = None;
        }
        id
    });
    Scene {
        world,
        ends,
        rendezvous,
        transport,
        seed,
    }
}

fn delayed(delay: Duration) -> LinkConfig {
    LinkConfig::both(Direction::delayed(delay))
}

/// The address of device number `place`, counted from the core, on the path of end `n` and behind
/// `nats` NATs.
fn address(family: Family, n: u8, nats: u8, place: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(match nats {
            // The rendezvous and the outermost boxes.
            0 => Ipv4Addr::new(203, 0, 113, 10 * (n + 1) + place),
            // Between a carrier's NAT and the customer's (RFC 6598).
            1 => Ipv4Addr::new(100, 64, n + 1, place + 1),
            _ => Ipv4Addr::new(10, nats, n + 1, place + 1),
        }),
        Family::V6 => {
            let net = 0x100 * (u16::from(n) + 1) + u16::from(place);
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, 1))
        }
    }
}

/// One end, to be built.
struct Plan<'a> {
    n: u8,
    end: &'a End,
    meet: Meet,
    family: Family,
    transport: Transport,
    server: SocketAddr,
}

impl Plan<'_> {
    /// The link to device number `place`, counted from the core.
    fn link(&self, place: usize) -> LinkConfig {
        let beyond = match self.meet {
            Meet::Core => 1,
            Meet::Box => 2,
        };
        delayed(if place <= beyond {
            CORE
        } else if place > self.end.path.len() {
            LAN
        } else {
            ACCESS
        })
    }

    /// Adds the boxes from the core inwards, and the host. `shared` is the outermost box of the
    /// previous end, if this end is behind it too; otherwise it is set to this end's.
    fn build(&self, world: &mut World, shared: &mut Option<DeviceId>) -> DeviceId {
        let (mut parent, mut nats) = (world.core(), 0);
        let mut boxes = Vec::new();
        let path = &self.end.path;
        // The rendezvous is end 0's neighbour in the address plan, so places begin at 1.
        for (place, one) in (1u8..).zip(path.iter().rev()) {
            let translates = one.nat.is_some() && self.family == Family::V4;
            let outermost = place == 1;
            if let (true, Some(there)) = (outermost, *shared) {
                parent = there;
            } else {
                let wan = address(self.family, self.n, nats, place);
                let link = self.link(place.into());
                // A NAT needs an IPv4 address even when the attempt uses IPv6.
                let wan = match (one.nat.is_some(), self.family) {
                    (false, _) => Vec::new(),
                    (true, Family::V4) => vec![wan],
                    (true, Family::V6) => vec![address(Family::V4, self.n, nats, place)],
                };
                parent = world.add_router(parent, link, one.clone(), &wan);
                let name = format!("box {}{}", char::from(NAMES[usize::from(self.n)]), place);
                world.set_name(parent, &name);
            }
            if outermost {
                *shared = Some(parent);
            }
            nats += u8::from(translates);
            boxes.push(parent);
        }
        let place = path.len() as u8 + 1;
        let local = address(self.family, self.n, nats, place);
        let local = SocketAddr::new(local, self.end.port);
        let link = self.link(place.into());
        let config = EndConfig {
            name: NAMES[usize::from(self.n)],
            local,
            rendezvous: self.server,
            advertised: self.forward(world, &boxes, local),
        };
        let id = match self.transport {
            Transport::Udp => world.add_host(parent, link, &[local.ip()], UdpEnd::new(config)),
            Transport::Tcp => world.add_host(parent, link, &[local.ip()], TcpEnd::new(config)),
        };
        let name = char::from(NAMES[usize::from(self.n)]).to_string();
        world.set_name(id, &name);
        id
    }

    /// Forwards the port at every box, from the host outwards. Returns the endpoint at which the
    /// host can be reached then.
    fn forward(
        &self,
        world: &mut World,
        boxes: &[DeviceId],
        local: SocketAddr,
    ) -> Option<SocketAddr> {
        if !self.end.forwarded {
            return None;
        }
        let proto = match self.transport {
            Transport::Udp => Proto::Udp,
            Transport::Tcp => Proto::Tcp,
        };
        let now = world.now();
        boxes.iter().rev().try_fold(local, |at, id| {
            let Some(one) = world.middlebox_mut(*id) else {
                return Some(at);
            };
            if let Some(firewall) = one.firewall_mut() {
                firewall.pinhole(now, proto, at, 2 * TIME).ok()?;
            }
            match one.nat_mut() {
                Some(nat) if self.family == Family::V4 => {
                    nat.forward(now, proto, at.port(), at, None).ok()
                }
                _ => Some(at),
            }
        })
    }
}

impl Scene {
    /// Runs until both are connected or the time is over.
    #[must_use]
    pub fn run(mut self) -> Run {
        self.world.start();
        let begun = self.world.now();
        let untold = |world: &World, id| {
            world
                .host::<Rendezvous>(id)
                .is_some_and(|host| host.tick().is_none())
        };
        let rendezvous = self.rendezvous;
        self.world
            .run_while(|world| untold(world, rendezvous), begun + TIME);
        let server = self.world.host::<Rendezvous>(rendezvous);
        if let Some(tick) = server.and_then(Rendezvous::tick) {
            let (ends, transport) = (self.ends, self.transport);
            let trying = |world: &World| {
                let open = |id: &DeviceId| look(world, *id, transport).connected.is_some();
                !ends.iter().all(open)
            };
            self.world.run_while(trying, tick + TIME);
        }
        self.outcome()
    }

    /// The outcome so far.
    #[must_use]
    pub fn outcome(&self) -> Run {
        let ends = self.ends.map(|id| look(&self.world, id, self.transport));
        let server = self.world.host::<Rendezvous>(self.rendezvous);
        let tick = server.and_then(Rendezvous::tick);
        let after = match (ends.map(|end| end.connected), tick) {
            ([Some(a), Some(b)], Some(tick)) => Some(a.at.max(b.at).saturating_since(tick)),
            _ => None,
        };
        Run {
            seed: self.seed,
            connected: after.is_some(),
            after,
            packets: ends.iter().map(|end| end.stats.sent).sum(),
            hash: self.world.trace().hash(),
        }
    }
}

fn look(world: &World, id: DeviceId, transport: Transport) -> Observed {
    let seen = match transport {
        Transport::Udp => world.host::<UdpEnd>(id).map(UdpEnd::observed),
        Transport::Tcp => world.host::<TcpEnd>(id).map(TcpEnd::observed),
    };
    seen.unwrap_or_default()
}

impl Scene {
    /// When the rendezvous introduces the ends, once that is known.
    #[must_use]
    pub fn tick(&self) -> Option<Instant> {
        self.world.host::<Rendezvous>(self.rendezvous)?.tick()
    }
}
