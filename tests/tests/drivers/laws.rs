//! The eight laws, as far as a driver has a part in keeping them.

use std::time::Duration;

use dunlin_core::engine::{Command, Scope, Source, State};
use dunlin_core::http::{HttpRequest, Origin};
use dunlin_core::{Config, InfoHash, Instant, OpErrorKind};
use dunlin_tests::driver::{Content, Life, Setup, Spec, TestDriver, TestDriverExt};

/// Bytes per second at which a transfer has a middle.
const SLOW: u64 = 1 << 20;

/// A seed, and one that fetches from it, slowly.
fn half_way<H: TestDriver>(
    h: &mut H,
    content: &Content,
    setup: Setup,
) -> (
    dunlin_tests::driver::Node,
    dunlin_tests::driver::Node,
    dunlin_core::TorrentId,
) {
    let (seeder, addr, _) = h.seed(Setup::default(), content);
    let (fetcher, _) = h.listen(setup);
    let spec = Spec {
        down: Some(SLOW),
        ..Spec::from(&[addr])
    };
    let id = h.add(fetcher, content, spec);
    h.until("some pieces", |h| {
        h.torrent(fetcher, id).is_some_and(|t| t.pieces_done > 2)
    });
    (seeder, fetcher, id)
}

pub(crate) fn law_1_every_op_is_answered_once<H: TestDriver>() {
    let content = Content::new(1, 1_500_000);
    for way in ["pause", "remove", "delete", "stop", "recheck"] {
        let mut h = H::new(1);
        let (seeder, fetcher, id) = half_way(&mut h, &content, Setup::default());
        match way {
            "pause" => assert!(h.with_engine(fetcher, move |e, now| {
                e.command(now, Command::Pause(id)).is_ok()
            })),
            "remove" => h.remove(fetcher, id, false),
            "delete" => h.remove(fetcher, id, true),
            "recheck" => assert!(h.with_engine(fetcher, move |e, now| {
                e.command(now, Command::Recheck(id)).is_ok()
            })),
            _ => {}
        }
        if way == "stop" {
            h.end(fetcher);
        } else {
            // Half-received blocks come home when their peer disconnects, so at the end all have.
            h.end(seeder);
            h.until("every block and outcome to come home", |h| {
                let status = h.status(fetcher);
                status.jobs == 0 && status.blocks_lent == 0 && status.connections == 0
            });
            if way == "delete" {
                assert!(!h.exists(fetcher, &content), "{way}");
            }
            h.end(fetcher);
        }
    }
}

/// Web seeds are to come: until then every driver says that it cannot, and keeps nothing that it was lent.
pub(crate) fn law_1_a_fetch_that_is_not_supported_returns_its_blocks<H: TestDriver>() {
    let mut h = H::new(12);
    let (node, _) = h.listen(Setup::default());
    for len in [1, 16 << 10, 100_000] {
        let asked = h.with_engine(node, move |e, now| {
            let request = HttpRequest {
                url: "http://192.0.2.1/content".into(),
                user_agent: "test".into(),
                family: None,
                max_body: 0,
                timeout: Duration::from_secs(30),
                origin: Origin::User,
            };
            e.fetch(now, request, 1 << 33, len)
        });
        assert!(asked, "{}: no blocks for {len} bytes", H::NAME);
        let what = h.wait("the fetch to be answered", |h| {
            h.with_engine(node, |e, _| e.poll_fetched())
        });
        let why = what.map_err(|error| error.kind);
        assert_eq!(why, Err(OpErrorKind::Unsupported), "{}", H::NAME);
        let status = h.status(node);
        assert_eq!((status.jobs, status.blocks_lent), (0, 0), "{}", H::NAME);
    }
    h.end(node);
}

/// The driver's thread is held up in the middle, and commands come in a row, without the driver
/// having a turn in between.
pub(crate) fn law_2_late_and_in_any_order<H: TestDriver>() {
    let content = Content::new(2, 1_500_000);
    let mut h = H::new(2);
    let (seeder, fetcher, id) = half_way(&mut h, &content, Setup::default());
    for round in 0..4u32 {
        h.stall(fetcher, Duration::from_millis(120));
        h.with_engine(fetcher, move |e, now| {
            assert!(e.command(now, Command::Pause(id)).is_ok());
            assert!(e.command(now, Command::Resume(id)).is_ok());
            assert!(
                e.command(
                    now,
                    Command::SetSequential {
                        torrent: id,
                        on: round.is_multiple_of(2)
                    }
                )
                .is_ok()
            );
            e.handle_timeout(now);
            assert!(
                e.command(
                    now,
                    Command::SetLimits {
                        scope: Scope::Torrent(id),
                        down: Some(2 * SLOW),
                        up: None
                    }
                )
                .is_ok()
            );
            e.command(now, Command::SaveAll).unwrap();
            let _ = e.poll_timeout();
        });
        h.stall(seeder, Duration::from_millis(80));
        h.pass(Duration::from_millis(50), |_| ());
    }
    h.with_engine(fetcher, move |e, now| {
        e.command(
            now,
            Command::SetLimits {
                scope: Scope::Torrent(id),
                down: None,
                up: None,
            },
        )
        .is_ok()
    });
    h.exact(fetcher, id, &content);
    h.end(fetcher);
    h.end(seeder);
}

/// How often drivers may be woken in [`IDLE`] without work: rounds of the choker, keep-alives, timers of
/// the runtime, the test's own calls.
const IDLE_WAKES: u64 = 24;
const IDLE: Duration = Duration::from_secs(3);

/// Wakes of a node while nobody wants anything.
fn wakes<H: TestDriver>(h: &mut H, node: dunlin_tests::driver::Node) -> u64 {
    let before = h.effort(node).wakes;
    h.pass(IDLE, |_| ());
    h.effort(node).wakes - before
}

pub(crate) fn law_3_an_idle_pair_does_not_spin<H: TestDriver>() {
    let content = Content::new(3, 600_000);
    let mut h = H::new(3);
    // Connected, and neither has anything for the other.
    let (a, addr) = h.listen(Setup::default());
    let (b, _) = h.listen(Setup::default());
    let ia = h.add(a, &content, Spec::default());
    let ib = h.add(b, &content, Spec::from(&[addr]));
    for (node, id) in [(a, ia), (b, ib)] {
        h.until("the two to meet", |h| {
            h.torrent(node, id).is_some_and(|t| t.peers == 1)
        });
    }
    h.pass(Duration::from_millis(500), |_| ());
    let before = h.effort(b).wakes;
    let woken = wakes(&mut h, a);
    let woken = [woken, h.effort(b).wakes - before];
    assert!(woken.iter().all(|w| *w <= IDLE_WAKES), "{woken:?}");
    assert_eq!(
        h.torrent(a, ia).unwrap().peers,
        1,
        "they are still connected"
    );
    h.end(a);
    h.end(b);
}

pub(crate) fn law_4_idle_costs_do_not_grow<H: TestDriver>() {
    let mut h = H::new(4);
    let (node, _) = h.listen(Setup::default());
    let mut woken = Vec::new();
    for (first, last) in [(0, 1), (1, 400)] {
        h.with_engine(node, move |e, now| {
            for n in first..last {
                let mut hash = [0; 20];
                hash[..4].copy_from_slice(&u32::to_be_bytes(n));
                let info_hash = InfoHash(hash);
                let name = None;
                let source = Source::Hash { info_hash, name };
                e.add(now, dunlin_core::engine::AddTorrent::new(source))
                    .unwrap();
            }
        });
        // Each is told of and saved once.
        h.until("rest", |h| {
            let _ = h.events(node);
            h.status(node).jobs == 0
        });
        h.pass(Duration::from_millis(500), |_| ());
        woken.push(wakes(&mut h, node));
    }
    assert!(
        woken[1] <= IDLE_WAKES,
        "{woken:?} wakes for 1 and 400 torrents"
    );
    h.end(node);
}

pub(crate) fn law_5_a_jump_of_time_is_survived<H: TestDriver>() {
    let content = Content::new(5, 1_500_000);
    let mut h = H::new(5);
    let (seeder, fetcher, id) = half_way(&mut h, &content, Setup::default());
    // Backwards, which a driver's clock does not go; the engine would not mind.
    h.with_engine(fetcher, |e, _| {
        let before = e.poll_timeout();
        e.handle_timeout(Instant::ORIGIN);
        assert_eq!(e.poll_timeout(), before);
    });
    // A night's sleep, where the clock is ours; elsewhere a second, in which the machine stood.
    if !h.jump(Duration::from_secs(8 * 3_600)) {
        h.stall(fetcher, Duration::from_secs(1));
        h.stall(seeder, Duration::from_secs(1));
    }
    h.exact(fetcher, id, &content);
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn law_6_hostile_bytes_end_the_peer_at_most<H: TestDriver>() {
    let content = Content::new(6, 1_500_000);
    let mut h = H::new(6);
    let (seeder, fetcher, id) = half_way(&mut h, &content, Setup::default());
    let addr = h.addr(seeder);

    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
    hello.extend(content.info().info_hash().0);
    hello.extend(b"-XX0001-abcdefghijkl");
    let noise = &content.data;
    let attacks: Vec<Vec<u8>> = vec![
        // A message longer than any.
        [&hello[..], &[0xff; 64]].concat(),
        // A bitfield that does not fit.
        [&hello[..], &[0, 0, 0, 3, 5, 0xff, 0xff]].concat(),
        // A piece that does not exist.
        [&hello[..], &[0, 0, 0, 5, 4, 0xff, 0xff, 0xff, 0xff]].concat(),
        // Noise after the handshake, noise in its place, and half of one.
        [&hello[..], &noise[..5_000]].concat(),
        noise[..5_000].to_vec(),
        hello[..30].to_vec(),
    ];
    let lines = h.guest(|g| attacks.iter().map(|_| g.connect(addr)).collect::<Vec<_>>());
    let (post, _) = h.guest(|g| g.bind(false));
    let mut sent = vec![0; attacks.len()];
    h.until("the attacks to be over", |h| {
        h.guest(|g| {
            for (n, (line, bytes)) in lines.iter().zip(&attacks).enumerate() {
                if g.life(*line) == Life::Open && sent[n] < bytes.len() {
                    sent[n] += g.write(*line, &bytes[sent[n]..]);
                }
                let _ = g.read(*line, 4_096);
            }
            g.send(post, addr, &noise[..100]);
            g.send(post, addr, b"d1:ad2:id20:");
            g.send(post, addr, b"");
        });
        let status = h.status(seeder);
        status.hostile_peers >= 3 && status.stray_datagrams >= 10
    });
    h.guest(|g| lines.iter().for_each(|line| g.reset(*line)));
    h.exact(fetcher, id, &content);
    h.end(fetcher);
    h.end(seeder);
}

/// Under virtual time: the same seed gives the same packets at the same times. On a machine with
/// a clock of its own only the result is the same.
pub(crate) fn law_7_what_is_promised_of_two_runs<H: TestDriver>() {
    let content = Content::new(7, 700_000);
    let run = |seed| {
        let mut h = H::new(seed);
        let (seeder, addr, is) = h.seed(Setup::default(), &content);
        let (fetcher, _) = h.listen(Setup::default());
        let id = h.add(fetcher, &content, Spec::from(&[addr]));
        h.exact(fetcher, id, &content);
        let got = h.torrent(fetcher, id).unwrap();
        let gave = h.torrent(seeder, is).unwrap();
        h.end(fetcher);
        h.end(seeder);
        let figures = (got.downloaded, got.wasted, gave.uploaded, got.pieces_done);
        (h.trace(), figures)
    };
    let (first, second) = (run(7), run(7));
    assert_eq!(first, second);
    assert_eq!(first.1.0, content.data.len() as u64, "each byte once");
    if H::VIRTUAL {
        assert!(first.0.is_some());
        assert_ne!(first.0, run(8).0, "the trace sees nothing");
    }
}

pub(crate) fn law_8_nothing_exceeds_its_limit<H: TestDriver>() {
    let content = Content::new(8, 1_500_000);
    let mut h = H::new(8);
    let config = Config {
        max_connections: 5,
        max_half_open: 2,
        max_jobs: 4,
        max_blocks: 8,
        max_known_peers: 20,
        max_torrents: 2,
        ..Setup::default().config
    };
    let setup = Setup {
        config: config.clone(),
        ..Setup::default()
    };
    let (seeder, fetcher, id) = half_way(&mut h, &content, setup);
    let addr = h.addr(fetcher);
    // A crowd that stays, knocks again when it is sent away, and addresses where nobody is.
    let mut crowd = h.guest(|g| (0..12).map(|_| g.connect(addr)).collect::<Vec<_>>());
    let closed = h.guest(|g| (0..60).map(|_| g.closed_addr(false)).collect::<Vec<_>>());
    h.with_engine(fetcher, move |e, now| {
        e.command(
            now,
            Command::AddPeers {
                torrent: id,
                peers: closed,
            },
        )
        .is_ok()
    });
    let (mut most, mut knocks) = ([0; 5], 0);
    let max = [5, 2, 4, 8, 20];
    h.until("completion in a crowd", |h| {
        let (status, torrent) = h.with_engine(fetcher, move |e, now| {
            (e.status(now), e.torrent(id).unwrap().status(now))
        });
        let now = [
            status.connections,
            status.half_open,
            status.jobs,
            status.blocks_lent,
            torrent.known,
        ];
        for (most, now) in most.iter_mut().zip(now) {
            *most = now.max(*most);
        }
        h.guest(|g| {
            for line in &mut crowd {
                let life = g.life(*line);
                if knocks < 200 && (life == Life::Broken || life == Life::Finished) {
                    g.reset(*line);
                    *line = g.connect(addr);
                    knocks += 1;
                }
            }
        });
        torrent.state == State::Seeding
    });
    let within = most.iter().zip(max).all(|(most, max)| *most <= max);
    assert!(within, "{most:?} of {max:?}");
    assert!(knocks > 0 && most[0] == max[0], "the crowd came: {most:?}");
    h.guest(|g| crowd.iter().for_each(|line| g.reset(*line)));
    h.exact(fetcher, id, &content);
    let torrents = h.with_engine(fetcher, |e, now| {
        let mut taken = 0;
        for n in 0..5 {
            let info_hash = InfoHash([n; 20]);
            let name = None;
            let source = Source::Hash { info_hash, name };
            let add = dunlin_core::engine::AddTorrent::new(source);
            taken += u32::from(e.add(now, add).is_ok());
        }
        (taken, e.status(now).torrents)
    });
    assert_eq!(torrents, (1, 2));
    h.end(fetcher);
    h.end(seeder);
}
