use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use crate::{
    host::light::Scripted,
    link::{CodelConfig, Discipline, FqCodelConfig, LinkConfig, Rate},
    packet::{Packet, verdict::Rule},
    world::{Action, World},
};

fn at(ms: u64) -> Instant {
    Instant::ORIGIN + Duration::from_millis(ms)
}

/// 8 000 packets of 1 000 bytes a second.
const FAST: Rate = Rate {
    bits_per_second: 64_000_000,
    queue: 1 << 20,
};

fn link(discipline: Discipline, rate: Option<Rate>) -> LinkConfig {
    let mut link = LinkConfig::delayed(Duration::from_millis(1));
    link.up.rate = rate;
    link.up.discipline = discipline;
    link
}

/// A packet of 1 000 bytes whose data say which it is.
fn numbered(n: u64, port: u16) -> Packet {
    let (src, dst): (SocketAddr, SocketAddr) =
        (([1, 0, 0, 1], port).into(), ([2, 0, 0, 1], 9).into());
    let mut data = n.to_be_bytes().to_vec();
    data.resize(972, 0);
    Packet::udp(src, dst, &data)
}

/// Sends `count` packets at `start` over a link that changes at 5 ms; returns the numbers of those
/// that arrive, with the time of each in microseconds.
fn crossing(count: u64, ports: u16, links: [LinkConfig; 2]) -> (World, Vec<(u64, u64)>) {
    let mut world = World::new(1);
    let core = world.core();
    let mut script = Scripted::new();
    for n in 0..count {
        script = script.send(at(0), numbered(n, 1 + (n % u64::from(ports)) as u16));
    }
    let [first, second] = links;
    let a = world.add_host(core, first, &[[1, 0, 0, 1].into()], script);
    let b = world.add_host(
        core,
        LinkConfig::perfect(),
        &[[2, 0, 0, 1].into()],
        Scripted::new(),
    );
    world.at(at(5), Action::SetLink(a, second));
    world.start();
    world.run_until(at(10_000));
    let host = world.host::<Scripted>(b).expect("there");
    let of = |data: &[u8]| data.first_chunk().map_or(0, |n| u64::from_be_bytes(*n));
    let got = host.received().iter();
    let got = got
        .map(|(when, p)| {
            (
                of(p.payload()),
                when.saturating_since(at(0)).as_micros() as u64,
            )
        })
        .collect();
    (world, got)
}

#[test]
fn packets_leave_at_the_rate_of_the_line() {
    for discipline in [
        Discipline::Codel(CodelConfig::default()),
        Discipline::FqCodel(FqCodelConfig::default()),
    ] {
        let same = || link(discipline, Some(FAST));
        let (world, got) = crossing(80, 1, [same(), same()]);
        // The same as without a discipline: nothing waits long enough to be dropped.
        let (_, plain) = crossing(
            80,
            1,
            [(); 2].map(|()| link(Discipline::DropTail, Some(FAST))),
        );
        assert_eq!(got, plain, "{discipline:?}");
        assert_eq!(got.len(), 80);
        assert_eq!(got[79].1, 80 * 125 + 1_000);
        assert_eq!(
            (world.in_flight(), world.backlog(crate::DeviceId(1))),
            (0, (0, 0))
        );
    }
}

/// Whatever a link changes to while packets wait, each arrives once, in order.
#[test]
fn what_waits_survives_a_change_of_the_link() {
    let codel = Discipline::Codel(CodelConfig::default());
    let fq = Discipline::FqCodel(FqCodelConfig::default());
    let slower = Rate {
        bits_per_second: 32_000_000,
        ..FAST
    };
    // 60 packets of 125 µs: at 5 ms, 20 are left.
    for (old, new, last) in [
        ((codel, Some(FAST)), (codel, Some(slower)), 5_000 + 20 * 250),
        ((codel, Some(FAST)), (fq, Some(FAST)), 7_500),
        (
            (codel, Some(FAST)),
            (Discipline::DropTail, Some(FAST)),
            7_500,
        ),
        ((codel, Some(FAST)), (Discipline::DropTail, None), 5_000),
        ((codel, Some(slower)), (codel, Some(FAST)), 5_000 + 40 * 125),
        (
            (Discipline::DropTail, Some(FAST)),
            (codel, Some(FAST)),
            7_500,
        ),
        ((fq, Some(FAST)), (codel, None), 5_000),
    ] {
        let (world, got) = crossing(60, 1, [link(old.0, old.1), link(new.0, new.1)]);
        let numbers: Vec<u64> = got.iter().map(|g| g.0).collect();
        assert_eq!(numbers, (0..60).collect::<Vec<_>>(), "{old:?} to {new:?}");
        let end = got.last().map(|g| g.1);
        assert_eq!(end, Some(last + 1_000), "{old:?} to {new:?}");
        assert_eq!(world.in_flight(), 0);
    }
}

#[test]
fn the_limits_of_a_queue_count_what_waits() {
    let codel = Discipline::Codel(CodelConfig::default());
    let mut by_bytes = link(codel, Some(FAST));
    by_bytes.up.rate = Some(Rate {
        queue: 10_000,
        ..FAST
    });
    let mut by_packets = link(codel, Some(FAST));
    by_packets.up.packets = Some(10);
    let mut plain = link(Discipline::DropTail, Some(FAST));
    plain.up.packets = Some(10);
    for link in [by_bytes, by_packets, plain] {
        let (world, got) = crossing(60, 1, [link.clone(), link.clone()]);
        // One is being sent, and ten wait.
        assert_eq!(got.len(), 11, "{link:?}");
        assert_eq!(world.trace().count(Rule::LinkQueueFull), 49);
    }
}

/// Overload of two to one for two seconds; the flows of a fair queue get equal shares.
#[test]
fn runs_with_kept_packets_can_be_repeated() {
    let run = |discipline: Discipline, seed| {
        let mut world = World::new(seed);
        let core = world.core();
        let mut script = Scripted::new();
        for n in 0..4_000 {
            let when = Instant::from_micros(n * 500);
            script = script.send(when, numbered(n, 1 + (n % 4) as u16));
        }
        let rate = Rate {
            bits_per_second: 8_000_000,
            queue: 1 << 22,
        };
        let mut link = link(discipline, Some(rate));
        link.up.loss = crate::link::Loss::Random(10_000);
        world.add_host(core, link, &[[1, 0, 0, 1].into()], script);
        let b = world.add_host(
            core,
            LinkConfig::perfect(),
            &[[2, 0, 0, 1].into()],
            Scripted::new(),
        );
        world.start();
        world.run_until(at(20_000));
        assert_eq!(world.in_flight(), 0);
        let got = world
            .host::<Scripted>(b)
            .map_or(0, |h| h.received().len() as u64);
        let count = |rule| world.trace().count(rule);
        let gone = count(Rule::LinkManaged) + count(Rule::LinkQueueFull) + count(Rule::LinkLost);
        assert_eq!(got + gone, 4_000, "each packet has one fate");
        assert!(count(Rule::LinkManaged) > 10 && count(Rule::LinkLost) > 10);
        world.trace().hash()
    };
    for discipline in [
        Discipline::Codel(CodelConfig::default()),
        Discipline::FqCodel(FqCodelConfig::default()),
    ] {
        assert_eq!(run(discipline, 1), run(discipline, 1));
        assert_ne!(run(discipline, 1), run(discipline, 2));
    }
}
