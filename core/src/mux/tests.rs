use alloc::vec::Vec;
use core::net::SocketAddr;

use quickcheck::{Arbitrary, Gen, quickcheck};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::dht::{Dht, DhtConfig};
use crate::id::InfoHash;
use crate::machine::{Cx, Ecn, Handled, Machine, SocketId, Transmit};
use crate::time::Instant;
use crate::tracker::UdpConfig;
use crate::wire::stun::{Builder, Class, TransactionId};

const NOW: Instant = Instant::from_micros(1_000_000);

fn at(host: u8, port: u16) -> SocketAddr {
    ([10, 0, 0, host], port).into()
}

fn meta(from: SocketAddr) -> RecvMeta {
    RecvMeta {
        socket: SocketId::for_addr(&from),
        from,
        local: None,
        ecn: Ecn::NotEct,
    }
}

/// A node of the DHT and a tracker's client, which have sent their first datagrams.
struct World {
    rng: ChaCha8Rng,
    trackers: UdpTrackers,
    dht: Dht,
    connect: Vec<u8>,
    query: (Transmit, Vec<u8>),
}

const TRACKER: u8 = 1;
const NODE: u8 = 2;

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let cx = &mut Cx {
            now: NOW,
            rng: &mut rng,
        };
        let mut trackers = UdpTrackers::new(UdpConfig::default());
        trackers
            .scrape(cx, at(TRACKER, 80), &[InfoHash([7; 20])])
            .expect("room");
        let mut dht = node(cx);
        dht.add_contact(cx, at(NODE, 6881));
        dht.handle_timeout(cx);
        let (_, connect) = send(&mut trackers, cx).expect("a connect");
        let query = send(&mut dht, cx).expect("a query");
        Self {
            rng,
            trackers,
            dht,
            connect,
            query,
        }
    }

    fn classify(&self, meta: &RecvMeta, data: &[u8]) -> Option<Proto> {
        let trackers = &self.trackers;
        classify(&Pending { trackers }, meta, data)
    }
}

/// A node that runs.
fn node(cx: &mut Cx<'_>) -> Dht {
    let config = DhtConfig {
        local: true,
        ..DhtConfig::tiny()
    };
    let mut dht = Dht::new(cx, config);
    dht.start(cx, 6881);
    dht
}

/// The next datagram of a machine.
fn send(machine: &mut impl Machine, cx: &mut Cx<'_>) -> Option<(Transmit, Vec<u8>)> {
    let mut buf = [0; 1500];
    let transmit = machine.poll_transmit(cx, &mut buf)?;
    Some((transmit, buf[..transmit.len].to_vec()))
}

/// A packet of uTP without payload.
fn utp(kind: u8, timestamp: [u8; 4]) -> Vec<u8> {
    let head = [kind << 4 | UTP_VERSION, 0, 1, 2];
    [&head[..], &timestamp, &[0; 12]].concat()
}

/// What begins and is addressed so that it may be anybody's.
#[derive(Clone, Debug)]
struct Datagram {
    begins: Begins,
    from: SocketAddr,
    rest: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Begins {
    Anyhow,
    /// With a byte, and the transaction that is open with the tracker.
    Answers(u8),
    /// As a dictionary.
    Dictionary,
    /// As a packet of uTP.
    Utp(u8),
    /// With a byte, and STUN's cookie where it belongs.
    Cookie(u8),
}

impl Datagram {
    fn bytes(&self, world: &World) -> Vec<u8> {
        let with = |first: u8, at_four: &[u8]| [&[first, 0, 0, 0], at_four, &self.rest].concat();
        match self.begins {
            Begins::Anyhow => self.rest.clone(),
            Begins::Answers(first) => with(first, &world.connect[12..16]),
            Begins::Dictionary => [b"d", &self.rest[..]].concat(),
            Begins::Utp(kind) => with(kind << 4 | UTP_VERSION, b""),
            Begins::Cookie(first) => with(first, &stun::MAGIC_COOKIE),
        }
    }
}

impl Arbitrary for Datagram {
    fn arbitrary(g: &mut Gen) -> Self {
        let byte = u8::arbitrary(g);
        // Half of the first bytes mean something to somebody.
        let first = *g
            .choose(&[0, 1, 0x21, b'd', byte, byte, byte, byte])
            .unwrap_or(&0);
        let begins = [
            Begins::Anyhow,
            Begins::Answers(first),
            Begins::Dictionary,
            Begins::Utp(byte % 8),
            Begins::Cookie(first),
        ];
        let from = [at(TRACKER, 80), at(TRACKER, 81), at(NODE, 6881)];
        Self {
            begins: *g.choose(&begins).unwrap_or(&Begins::Anyhow),
            from: *g.choose(&from).unwrap_or(&from[0]),
            rest: Vec::arbitrary(g),
        }
    }

    fn shrink(&self) -> alloc::boxed::Box<dyn Iterator<Item = Self>> {
        let (begins, from) = (self.begins, self.from);
        let shorter = self.rest.shrink();
        alloc::boxed::Box::new(shorter.map(move |rest| Self { begins, from, rest }))
    }
}

quickcheck! {
    /// A machine that is given what is said to be its own takes it, and what no machine is given is nobody's.
    fn every_datagram_goes_to_one_machine_at_most(seed: u64, datagram: Datagram) -> bool {
        let mut world = World::new(seed % 16);
        let data = datagram.bytes(&world);
        let meta = meta(datagram.from);
        let proto = world.classify(&meta, &data);
        let cx = &mut Cx { now: NOW, rng: &mut world.rng };
        let mut takes = |machine: Proto| match machine {
            Proto::Tracker => world.trackers.handle_datagram(cx, &meta, &data),
            _ => world.dht.handle_datagram(cx, &meta, &data),
        } == Handled::Consumed;
        match proto {
            Some(Proto::Tracker) => takes(Proto::Tracker),
            Some(Proto::Dht) => !takes(Proto::Tracker) && takes(Proto::Dht),
            Some(Proto::Stun | Proto::Utp) | None => !takes(Proto::Tracker) && !takes(Proto::Dht),
        }
    }

    /// Whatever is answered to a machine comes back to it, from wherever else datagrams may come.
    fn what_was_asked_for_comes_to_who_asked(seed: u64, body: Vec<u8>, action: u8) -> bool {
        let mut world = World::new(seed);
        let answer = [&[0, 0, 0, action], &world.connect[12..16], &body[..]].concat();
        let tracker = world.classify(&meta(at(TRACKER, 80)), &answer) == Some(Proto::Tracker);
        // Nobody else can answer.
        let forged = world.classify(&meta(at(TRACKER, 81)), &answer) != Some(Proto::Tracker);
        let (asked, query) = &world.query;
        let cx = &mut Cx { now: NOW, rng: &mut world.rng };
        let mut other = node(cx);
        let taken = other.handle_datagram(cx, &meta(at(9, 6881)), query) == Handled::Consumed;
        let (_, answer) = send(&mut other, cx).expect("an answer");
        let dht = world.classify(&meta(asked.dst), &answer) == Some(Proto::Dht);
        tracker && forged && taken && dht
    }

    fn packets_of_utp_and_stun_are_told_apart(kind: u8, timestamp: u32, id: u64) -> bool {
        let world = World::new(1);
        let from = meta(at(7, 7));
        let packet = utp(kind % (UTP_LAST_TYPE + 1), timestamp.to_be_bytes());
        let mut buf = [0; 64];
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&id.to_be_bytes());
        let request = Builder::new(&mut buf, Class::Request, TransactionId(transaction));
        let len = request.expect("room").finish();
        let cookie = timestamp.to_be_bytes() == stun::MAGIC_COOKIE;
        world.classify(&from, &packet) == Some(if cookie { Proto::Stun } else { Proto::Utp })
            && world.classify(&from, &buf[..len]) == Some(Proto::Stun)
    }
}

#[test]
fn a_transaction_goes_before_cookies_and_first_bytes() {
    let world = World::new(3);
    let transaction = &world.connect[12..16];
    let tracker = meta(at(TRACKER, 80));
    for first in [0, b'd', 0x11, 0xff] {
        let data = [&[first, 0, 0, 0], transaction, &[0; 12]].concat();
        assert_eq!(world.classify(&tracker, &data), Some(Proto::Tracker));
    }
    let other = meta(at(NODE, 80));
    let with = |first: u8| [&[first, 0, 0, 0], transaction, &[0; 12]].concat();
    assert_eq!(world.classify(&other, &with(b'd')), Some(Proto::Dht));
    assert_eq!(world.classify(&other, &with(0x11)), Some(Proto::Utp));
    assert_eq!(world.classify(&other, &with(0)), None);
}

#[test]
fn what_is_nobodys_is_given_to_nobody() {
    let world = World::new(4);
    let from = meta(at(7, 7));
    for data in [
        &b""[..],
        b"\x21",
        // Too short for uTP, another version, a type that there is not.
        &utp(2, [0; 4])[..UTP_HEADER - 1],
        &[0x22; 20],
        &[0x51; 20],
        b"NOTIFY * HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(world.classify(&from, data), None, "{data:02x?}");
    }
}

#[test]
fn machines_take_turns() {
    let mut turns = Turns::new();
    let mut waiting = [3u32, 2];
    let mut order = Vec::new();
    let mut send = |turns: &mut Turns, waiting: &mut [u32; 2]| {
        let sender = (0..Turns::MACHINES).find(|n| {
            let left = &mut waiting[turns.after(*n) as usize];
            let sends = *left > 0;
            *left -= u32::from(sends);
            sends
        })?;
        order.push(turns.after(sender));
        turns.sent(sender);
        Some(())
    };
    while send(&mut turns, &mut waiting).is_some() {}
    use Sender::{Dht, Trackers};
    assert_eq!(order, [Trackers, Dht, Trackers, Dht, Trackers]);
}
