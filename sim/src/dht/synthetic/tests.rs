//! A synthetic DHT that is queried by hand.

use dunlin_core::wire::krpc::COMPACT_V4;

use super::*;
use crate::{host::light::Scripted, link::LinkConfig, world::World};

fn synthetic() -> SyntheticDht {
    let config = SyntheticConfig {
        nodes: 2_000,
        sybil_ppm: 300_000,
        ..SyntheticConfig::default()
    };
    SyntheticDht::new(3, config)
}

#[test]
fn nodes_tell_who_is_closer_than_themselves_and_always_the_same() {
    let synthetic = synthetic();
    let target = Key([0x5a; 20]);
    for me in (0..2_000).step_by(37) {
        let told = synthetic.told(me, &target);
        assert_eq!(told.len(), K);
        assert_eq!(told, synthetic.told(me, &target));
        let shared = synthetic.space.key(me).common_prefix(&target);
        let branch = synthetic.space.branch(&target, shared + 1);
        if branch.len() > K {
            assert!(told.iter().all(|n| branch.contains(n)));
        } else {
            assert_eq!(told, synthetic.space.closest(&target, K, |_| true));
        }
    }
}

#[test]
fn shares_are_as_configured() {
    let synthetic = synthetic();
    let count = |kind| synthetic.kinds.iter().filter(|k| **k == kind).count();
    assert!(
        count(Kind::Sybil).abs_diff(600) < 80,
        "{}",
        count(Kind::Sybil)
    );
    assert!(
        count(Kind::Dead).abs_diff(700) < 80,
        "{}",
        count(Kind::Dead)
    );
    assert!(synthetic.sybils.len() == count(Kind::Sybil));
    let contacts = synthetic.contacts(8);
    assert_eq!(contacts.len(), 8);
    for contact in contacts {
        let IpAddr::V4(ip) = contact.ip() else {
            panic!("{contact}")
        };
        assert_eq!(
            synthetic.space.at(ip).map(|n| synthetic.kind(n)),
            Some(Kind::Live)
        );
    }
}

#[test]
fn what_is_watched_is_near_the_closest_that_answer() {
    let mut synthetic = synthetic();
    let target = Key([0xa5; 20]);
    let n = synthetic.watch(&target);
    let track = synthetic.track(n).expect("it is watched");
    assert_eq!(track.closest.len(), K);
    assert!(
        track
            .closest
            .iter()
            .all(|(n, _)| synthetic.kind(*n) != Kind::Dead)
    );
}

/// The answer of a node to a query from a stranger, and its delay.
fn asked(dead: bool, query: &krpc::QueryOut<'_>) -> Option<(Duration, Vec<u8>)> {
    let mut synthetic = synthetic();
    let target = Key([0xa5; 20]);
    synthetic.watch(&target);
    let (wanted, me) = (if dead { Kind::Dead } else { Kind::Live }, [9, 9, 9, 9]);
    let nearest = synthetic
        .space
        .closest(&target, 1, |n| synthetic.kinds[n as usize] == wanted);
    let mut buf = [0; 500];
    let len = krpc::query(&mut buf, b"ab", &Key([1; 20]), false, query)?;
    let (from, to) = ((me, 5).into(), synthetic.space.addr(nearest[0]).into());
    let packet = Packet::udp(from, to, &buf[..len]);
    let mut world = World::new(1);
    let (core, link, addrs) = (world.core(), LinkConfig::perfect, synthetic.addresses());
    world.add_host(core, link(), &addrs, synthetic);
    let asker = Scripted::new().send(Instant::ORIGIN, packet);
    let asker = world.add_host(core, link(), &[me.into()], asker);
    world.start();
    world.run_for(Duration::from_secs(5));
    let got = world.host::<Scripted>(asker)?.received().first()?.clone();
    assert_eq!(got.1.flow().src, to);
    let after = got.0.saturating_since(Instant::ORIGIN);
    Some((after, got.1.payload().to_vec()))
}

#[test]
fn the_live_answer_after_their_round_trip_and_the_dead_never() {
    let info_hash = Key([0xa5; 20]);
    let query = krpc::QueryOut::GetPeers {
        info_hash,
        want: None,
        scrape: false,
        noseed: false,
    };
    let (after, reply) = asked(false, &query).expect("an answer");
    assert!(
        after >= LEAST_RTT && after < Duration::from_secs(2),
        "{after:?}"
    );
    let message = krpc::parse(&reply).expect("sound");
    let Body::Reply(reply) = message.body else {
        panic!("{message:?}")
    };
    assert_eq!(
        (message.tid, reply.nodes.len()),
        (&b"ab"[..], K * COMPACT_V4)
    );
    assert_eq!(
        (reply.peers().count(), reply.token.map(<[u8]>::len)),
        (3, Some(8))
    );
    assert_eq!(message.ip, Some(([9, 9, 9, 9], 5).into()));
    assert!(asked(true, &query).is_none());
    let ping = asked(false, &krpc::QueryOut::Ping).expect("an answer");
    let Ok(krpc::Message {
        body: Body::Reply(pong),
        ..
    }) = krpc::parse(&ping.1)
    else {
        panic!("no reply")
    };
    assert!(pong.token.is_none() && pong.nodes.is_empty());
}
