//! What the contract says of streams: those that do not come about, and those that end badly.

use std::time::Duration;

use dunlin_core::engine::{Event, State, What};
use dunlin_core::{Config, TorrentId};
use dunlin_tests::driver::{Content, Life, Line, Node, Setup, Spec, TestDriver, TestDriverExt};

/// Waits until a node says why it ended a connection.
fn reason<H: TestDriver>(h: &mut H, node: Node) -> String {
    h.wait("a connection to end", |h| {
        h.events(node).into_iter().find_map(|event| match event {
            Event::Notice(notice) => match notice.what {
                What::Disconnected { reason } => Some(reason),
                _ => None,
            },
            _ => None,
        })
    })
}

pub(crate) fn a_refused_connection_is_said<H: TestDriver>() {
    for v6 in [false, true] {
        let mut h = H::new(21);
        let content = Content::new(21, 300_000);
        let (node, _) = h.listen(Setup {
            v6,
            ..Setup::default()
        });
        let closed = h.guest(|g| g.closed_addr(v6));
        h.add(node, &content, Spec::from(&[closed]));
        assert_eq!(reason(&mut h, node), "connection refused");
        assert_eq!(h.status(node).half_open, 0);
        h.end(node);
    }
}

pub(crate) fn an_unanswered_connection_is_given_up<H: TestDriver>() {
    let mut h = H::new(22);
    let content = Content::new(22, 300_000);
    let config = Config {
        connect_timeout: Duration::from_secs(2),
        ..Setup::default().config
    };
    let (node, _) = h.listen(Setup {
        config,
        ..Setup::default()
    });
    let silent = h.silent_addr();
    let start = h.elapsed();
    h.add(node, &content, Spec::from(&[silent]));
    assert_eq!(reason(&mut h, node), "no answer");
    let took = h.elapsed() - start;
    let about = Duration::from_millis(1_900)..Duration::from_secs(6);
    assert!(about.contains(&took), "{took:?}");
    assert_eq!(h.status(node).connections, 0);
    h.end(node);
}

/// A peer made by hand that has asked a seed for `blocks` blocks.
fn asker<H: TestDriver>(
    h: &mut H,
    content: &Content,
    addr: std::net::SocketAddr,
    blocks: u32,
) -> Line {
    let line = h.guest(|g| g.connect(addr));
    h.until("the seed to accept", |h| {
        h.guest(|g| g.life(line)) == Life::Open
    });
    let mut bytes = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(content.info().info_hash().0);
    bytes.extend(b"-XX0001-abcdefghijkl");
    // Interested.
    bytes.extend([0, 0, 0, 1, 2]);
    assert_eq!(h.guest(|g| g.write(line, &bytes)), bytes.len());
    // The handshake and what follows, until a message says `unchoke`.
    let mut got = Vec::new();
    h.until("the seed to unchoke", |h| {
        got.extend(h.guest(|g| g.read(line, 4_096)));
        messages(&got).contains(&1)
    });
    let mut requests = Vec::new();
    for n in 0..blocks {
        requests.extend([0, 0, 0, 13, 6]);
        let (piece, begin) = (n / 4, n % 4 * 16_384);
        for number in [piece, begin, 16_384] {
            requests.extend(number.to_be_bytes());
        }
    }
    let mut sent = 0;
    h.until("the requests to be sent", |h| {
        sent += h.guest(|g| g.write(line, &requests[sent..]));
        sent == requests.len()
    });
    line
}

/// The ids of the messages after a handshake, as far as they are complete.
fn messages(stream: &[u8]) -> Vec<u8> {
    let mut ids = Vec::new();
    let mut rest = stream.get(68..).unwrap_or_default();
    while let Some((len, tail)) = rest.split_first_chunk() {
        let len = u32::from_be_bytes(*len) as usize;
        let Some(message) = tail.get(..len) else {
            break;
        };
        ids.extend(message.first());
        rest = &tail[len..];
    }
    ids
}

/// Nothing is left of a connection.
fn at_rest<H: TestDriver>(h: &mut H, node: Node) {
    h.until("everything to come home", |h| {
        let status = h.status(node);
        status.connections == 0 && status.jobs == 0 && status.blocks_lent == 0
    });
    h.with_engine(node, |e, _| e.audit()).unwrap();
}

/// So that there is something in flight.
fn big() -> Content {
    Content::new(23, 8_000_000)
}

fn quick_choker() -> Setup {
    Setup::default()
}

pub(crate) fn a_reset_in_mid_transfer_leaves_nothing_behind<H: TestDriver>() {
    let mut h = H::new(23);
    let content = big();
    let (seeder, addr, _) = h.seed(quick_choker(), &content);
    let line = asker(&mut h, &content, addr, 400);
    h.until("some of it to come", |h| {
        !h.guest(|g| g.read(line, 50_000)).is_empty()
    });
    let _ = h.events(seeder);
    h.guest(|g| g.reset(line));
    assert_eq!(reason(&mut h, seeder), "reset by the peer");
    at_rest(&mut h, seeder);
    h.end(seeder);
}

pub(crate) fn a_half_closed_stream_is_closed<H: TestDriver>() {
    let mut h = H::new(24);
    let content = big();
    let (seeder, addr, _) = h.seed(quick_choker(), &content);
    let line = asker(&mut h, &content, addr, 8);
    let _ = h.events(seeder);
    h.guest(|g| g.finish(line));
    assert_eq!(reason(&mut h, seeder), "closed by the peer");
    h.until("the seed to close, too", |h| {
        h.guest(|g| {
            let _ = g.read(line, 1 << 20);
            g.life(line) != Life::Open
        })
    });
    at_rest(&mut h, seeder);
    h.end(seeder);
}

pub(crate) fn who_does_not_read_starves_nobody<H: TestDriver>() {
    let mut h = H::new(25);
    let content = big();
    let (seeder, addr, _) = h.seed(quick_choker(), &content);
    let line = asker(&mut h, &content, addr, 480);
    let (fetcher, _) = h.listen(Setup::default());
    let id = h.add(fetcher, &content, Spec::from(&[addr]));
    h.exact(fetcher, id, &content);
    h.end(fetcher);
    let status = h.status(seeder);
    assert_eq!(status.connections, 1, "it still does not read");
    assert!(status.blocks_lent <= Config::default().max_blocks);
    h.guest(|g| g.reset(line));
    at_rest(&mut h, seeder);
    h.end(seeder);
}

/// The numbers of the first request of a stream without its handshake.
fn first_request(stream: &[u8]) -> Option<[u8; 12]> {
    let mut rest = stream.get(68..)?;
    loop {
        let (len, tail) = rest.split_first_chunk()?;
        let len = u32::from_be_bytes(*len) as usize;
        let message = tail.get(..len)?;
        if let Some((6, numbers)) = message.split_first() {
            return numbers.try_into().ok();
        }
        rest = &tail[len..];
    }
}

/// A block that fills the list it is read into makes the driver read once more, for nothing.
pub(crate) fn blocks_that_were_lent_for_nothing_come_home<H: TestDriver>() {
    let mut h = H::new(30);
    let content = big();
    let config = Config {
        write_run: 1,
        ..Setup::default().config
    };
    let (fetcher, addr) = h.listen(Setup {
        config,
        ..Setup::default()
    });
    let id = h.add(fetcher, &content, Spec::default());
    // Before its files are claimed it sends callers away.
    h.state(fetcher, id, "the fetcher to want peers", |s| {
        *s == State::Downloading
    });
    let line = h.guest(|g| g.connect(addr));
    h.until("the fetcher to take the caller in", |h| {
        h.status(fetcher).connections == 1
    });
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    hello.extend(content.info().info_hash().0);
    hello.extend(b"-XX0001-abcdefghijkl");
    // It has everything, and unchokes.
    hello.extend([0, 0, 0, 1, 14, 0, 0, 0, 1, 1]);
    let mut sent = 0;
    h.until("the greeting to be sent", |h| {
        sent += h.guest(|g| g.write(line, &hello[sent..]));
        sent == hello.len()
    });
    let mut got = Vec::new();
    let asked = h.wait("the fetcher to ask", |h| {
        got.extend(h.guest(|g| g.read(line, 4_096)));
        first_request(&got)
    });
    let mut piece = vec![0, 0, 0x40, 9, 7];
    piece.extend(&asked[..8]);
    piece.resize(13 + 16_384, 0);
    let mut sent = 0;
    h.until(
        "the block to arrive and all that was lent to come home",
        |h| {
            sent += h.guest(|g| g.write(line, &piece[sent..]));
            let _ = h.guest(|g| g.read(line, 4_096));
            let arrived = h.torrent(fetcher, id).is_some_and(|t| t.downloaded > 0);
            arrived && h.status(fetcher).blocks_lent == 0
        },
    );
    h.guest(|g| g.reset(line));
    at_rest(&mut h, fetcher);
    h.end(fetcher);
}

/// Silent peers hold no more than there is room for, and are disconnected for peers that send a handshake.
pub(crate) fn silent_strangers_make_way_when_all_is_full<H: TestDriver>() {
    let mut h = H::new(26);
    let content = Content::new(26, 300_000);
    let config = Config {
        max_connections: 2,
        ..Setup::default().config
    };
    let setup = Setup {
        config,
        ..Setup::default()
    };
    let (seeder, addr, _) = h.seed(setup, &content);
    // One after the other: a small driver has few places for handshakes, too.
    let mut lines = Vec::new();
    for n in 1..=6 {
        let line = h.guest(|g| g.connect(addr));
        lines.push(line);
        h.until("a newcomer to be taken in, and one to leave", |h| {
            let settled = lines.iter().all(|line| {
                let life = h.guest(|g| g.life(*line));
                matches!(life, Life::Open | Life::Broken | Life::Finished)
            });
            let open = |line: &&Line| h.guest(|g| g.life(**line)) == Life::Open;
            let open = lines.iter().filter(open).count();
            settled && open == n.min(2) && h.status(seeder).connections as usize == n.min(2)
        });
    }
    let (fetcher, _) = h.listen(Setup::default());
    let id = h.add(fetcher, &content, Spec::from(&[addr]));
    h.exact(fetcher, id, &content);
    h.guest(|g| lines.iter().for_each(|line| g.reset(*line)));
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn an_address_that_cannot_be_had_is_said<H: TestDriver>() {
    let mut h = H::new(27);
    let content = Content::new(27, 300_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let taken = h.taken_addr();
    let node = h.boot(Setup {
        listen: Some(taken),
        ..Setup::default()
    });
    let mut said = 0;
    h.until("both sockets to be missed", |h| {
        let bind = |event: &Event| matches!(event, Event::Notice(n) if matches!(n.what, What::Bind { .. }));
        said += h.events(node).iter().filter(|e| bind(e)).count();
        said == 2
    });
    assert!(h.listening(node).is_none());
    // It goes on without.
    let id = h.add(node, &content, Spec::from(&[addr]));
    h.exact(node, id, &content);
    h.end(node);
    h.end(seeder);
}

pub(crate) fn streams_and_datagrams_have_one_port<H: TestDriver>() {
    let mut h = H::new(28);
    for v6 in [false, true] {
        let (node, addr) = h.listen(Setup {
            v6,
            ..Setup::default()
        });
        let (post, _) = h.guest(|g| g.bind(v6));
        h.until("datagrams to arrive", |h| {
            h.guest(|g| g.send(post, addr, b"nobody understands this"));
            h.status(node).stray_datagrams > 0
        });
        h.end(node);
    }
}

fn transfer<H: TestDriver>(v6: bool, magnet: bool) {
    let mut h = H::new(29);
    let content = Content::new(29, 1_000_003);
    let setup = || Setup {
        v6,
        ..Setup::default()
    };
    let (seeder, addr, _) = h.seed(setup(), &content);
    assert_eq!(addr.is_ipv6(), v6);
    let (fetcher, _) = h.listen(setup());
    let spec = Spec {
        magnet,
        ..Spec::from(&[addr])
    };
    let id: TorrentId = h.add(fetcher, &content, spec);
    h.exact(fetcher, id, &content);
    let info = h
        .with_engine(fetcher, move |e, _| {
            e.torrent(id).and_then(|t| t.info().cloned())
        })
        .unwrap();
    assert_eq!(info.raw(), content.info().raw());
    assert!(h.effort(fetcher).read > content.data.len() as u64);
    h.end(fetcher);
    h.end(seeder);
}

pub(crate) fn a_torrent_travels_over_ipv4<H: TestDriver>() {
    transfer::<H>(false, false);
}

pub(crate) fn a_torrent_travels_over_ipv6<H: TestDriver>() {
    transfer::<H>(true, false);
}

pub(crate) fn a_magnet_travels<H: TestDriver>() {
    transfer::<H>(false, true);
}
