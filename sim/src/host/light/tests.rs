use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use dunlin_core::Transmit;

use super::*;
use crate::{link::LinkConfig, world::World};

const SECOND: Duration = Duration::from_secs(1);

/// Sends `tell` to its peer each second, and reports what it receives.
struct Caller {
    peer: SocketAddr,
    tell: &'static [u8],
    segment: Option<NonZeroUsize>,
    due: Instant,
    heard: Option<(SocketAddr, Vec<u8>)>,
    endless: bool,
}

impl Caller {
    fn new(peer: &str, tell: &'static [u8]) -> Self {
        Self {
            peer: addr(peer),
            tell,
            segment: None,
            due: Instant::ORIGIN,
            heard: None,
            endless: false,
        }
    }
}

impl Machine for Caller {
    type Event = (SocketAddr, Vec<u8>);

    fn handle_datagram(&mut self, _: &mut Cx<'_>, meta: &RecvMeta, data: &[u8]) -> Handled {
        if data.is_empty() {
            return Handled::NotMine;
        }
        self.heard = Some((meta.from, data.to_vec()));
        Handled::Consumed
    }
    fn handle_timeout(&mut self, _: &mut Cx<'_>) {}
    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.due)
    }
    fn poll_transmit(&mut self, cx: &mut Cx<'_>, buf: &mut [u8]) -> Option<Transmit> {
        if self.due > cx.now {
            return None;
        }
        if !self.endless {
            self.due = cx.now + SECOND;
        }
        buf[..self.tell.len()].copy_from_slice(self.tell);
        let mut transmit = Transmit::to(self.peer, self.tell.len());
        transmit.segment = self.segment;
        Some(transmit)
    }
    fn poll_event(&mut self) -> Option<Self::Event> {
        self.heard.take()
    }
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn add(world: &mut World, host: Light<Caller>, addrs: &[&str]) -> crate::id::DeviceId {
    let addrs: Vec<_> = addrs.iter().map(|a| addr(a).ip()).collect();
    world.add_host(world.core(), LinkConfig::perfect(), &addrs, host)
}

#[test]
fn machines_speak_and_are_woken_when_they_want() {
    let mut world = World::new(1);
    let a = Light::new(Caller::new("9.0.0.2:2", b"a"), addr("9.0.0.1:1"));
    let b = Light::new(Caller::new("[2a00::1]:1", b"b"), addr("9.0.0.2:2"));
    let a = add(
        &mut world,
        a.and(addr("[2a00::1]:1")),
        &["9.0.0.1:0", "[2a00::1]:0"],
    );
    let b = add(
        &mut world,
        b.and(addr("[2a00::2]:2")),
        &["9.0.0.2:0", "[2a00::2]:0"],
    );
    world.start();
    world.run_for(SECOND * 3 + SECOND / 2);
    let mut take = |id| {
        let mut events = Vec::new();
        world.call(id, |h: &mut Light<Caller>, _| {
            events.extend(std::iter::from_fn(|| h.take_event()));
        });
        events
    };
    assert_eq!(take(a), vec![(addr("[2a00::2]:2"), b"b".to_vec()); 4]);
    assert_eq!(take(b), vec![(addr("9.0.0.1:1"), b"a".to_vec()); 4]);
}

#[test]
fn a_train_is_sent_as_single_datagrams_and_a_family_it_lacks_is_lost() {
    let mut world = World::new(1);
    let mut caller = Caller::new("9.0.0.2:2", b"one two three");
    caller.segment = NonZeroUsize::new(4);
    add(
        &mut world,
        Light::new(caller, addr("9.0.0.1:1")),
        &["9.0.0.1:0"],
    );
    let mute = Light::new(Caller::new("[2a00::1]:1", b"x"), addr("9.0.0.2:2"));
    let mute = add(&mut world, mute, &["9.0.0.2:0"]);
    world.start();
    world.run_for(SECOND / 2);
    let mut events = Vec::new();
    world.call(mute, |h: &mut Light<Caller>, _| {
        events.extend(std::iter::from_fn(|| h.take_event()).map(|(_, data)| data));
    });
    assert_eq!(events, [&b"one "[..], b"two ", b"thre", b"e"]);
    assert_eq!(world.trace().packets(), 4);
}

#[test]
fn what_is_not_for_its_socket_it_does_not_hear() {
    let mut world = World::new(1);
    let deaf = Light::new(Caller::new("9.0.0.2:2", b""), addr("9.0.0.1:1"));
    let deaf = add(&mut world, deaf, &["9.0.0.1:0"]);
    let mut host = Scripted::new();
    for port in [1, 7] {
        let to = SocketAddr::new(addr("9.0.0.1:0").ip(), port);
        host.plan(Instant::ORIGIN, Packet::udp(addr("9.0.0.2:2"), to, b""));
    }
    let from = addr("9.0.0.2:0").ip();
    world.add_host(world.core(), LinkConfig::perfect(), &[from], host);
    world.start();
    world.run_for(SECOND / 2);
    let host = world.host::<Light<Caller>>(deaf).expect("the light host");
    assert_eq!((host.not_mine(), host.events.len()), (1, 0));
}

#[test]
fn a_machine_that_never_stops_sending_is_caught() {
    let mut world = World::new(1);
    let mut caller = Caller::new("9.0.0.2:2", b"x");
    caller.endless = true;
    let endless = add(
        &mut world,
        Light::new(caller, addr("9.0.0.1:1")),
        &["9.0.0.1:0"],
    );
    world.set_panics(false);
    world.start();
    world.run_for(SECOND);
    let named = match world.stuck() {
        Some(crate::world::Stuck::Packets(id, _) | crate::world::Stuck::Wakes(id, _)) => Some(id),
        None => None,
    };
    assert_eq!(named, Some(endless));
}
