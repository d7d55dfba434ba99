//! Hole punching between homes with NATs of four kinds: who connects, and when?
#![allow(clippy::print_stdout)]

use std::{net::SocketAddr, time::Duration};

use dunlin_sim::{Host, HostCx, Instant, LinkConfig, NatConfig, Packet, World};

/// A server that tells its first guest and any other where it sees the other.
struct Meeting(Option<SocketAddr>);

impl Host for Meeting {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let (guest, own) = (packet.flow().src, packet.flow().dst);
        let other = *self.0.get_or_insert(guest);
        if guest != other {
            cx.send_udp(own, guest, other.to_string().as_bytes());
            cx.send_udp(own, other, guest.to_string().as_bytes());
        }
    }
}

/// Sends to the meeting first, and to the other peer as soon as it knows where that one is.
struct Peer {
    own: SocketAddr,
    to: SocketAddr,
    next: Instant,
    connected: Option<Instant>,
}

impl Host for Peer {
    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        match packet.payload() {
            b"hello" => {
                // It is where this came from, whatever the meeting saw.
                self.to = packet.flow().src;
                cx.send_udp(self.own, self.to, b"heard you");
            }
            b"heard you" => drop(self.connected.get_or_insert(cx.now)),
            told => self.to = String::from_utf8_lossy(told).parse().unwrap_or(self.to),
        }
    }
    fn wake(&mut self, cx: &mut HostCx<'_>) {
        cx.send_udp(self.own, self.to, b"hello");
        self.next = cx.now + Duration::from_millis(200);
    }
    fn next_wake(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// When both peers were sure of their connection, if they ever were.
pub(crate) fn punch(nats: [&str; 2], seed: u64) -> Option<Duration> {
    let mut world = World::new(seed);
    let (core, meeting) = (world.core(), SocketAddr::from(([198, 51, 100, 1], 3478)));
    world.add_host(core, LinkConfig::fibre(), &[meeting.ip()], Meeting(None));
    let peers = [(nats[0], 1), (nats[1], 2)].map(|(nat, n)| {
        let nat = NatConfig::preset(nat).expect("the name of a preset");
        let outer = &[[203, 0, 113, n].into()];
        let home = world.add_router(core, LinkConfig::dsl(), nat.into(), outer);
        let peer = Peer {
            own: ([192, 168, 1, 2], 6881).into(),
            to: meeting,
            next: Instant::ORIGIN,
            connected: None,
        };
        world.add_host(home, LinkConfig::lan(), &[[192, 168, 1, 2].into()], peer)
    });
    world.start();
    world.run_for(Duration::from_secs(10));
    let [a, b] = peers.map(|peer| world.host::<Peer>(peer)?.connected);
    Some(a?.max(b?).saturating_since(Instant::ORIGIN))
}

fn main() {
    for nat in ["full-cone", "restricted-cone", "linux", "symmetric"] {
        let [home, work] = ["linux", "symmetric"].map(|other| punch([nat, other], 1));
        println!("{nat}: with linux {home:?}, with symmetric {work:?}");
    }
}
