//! What the contract says of trackers and of names.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use dunlin_core::Config;
use dunlin_core::engine::State;
use dunlin_core::tracker::{NO_PORT, TrackerState, TrackerStatus};
use dunlin_tests::driver::{
    Answer, Content, HttpServer, Setup, Spec, TestDriver, TestDriverExt, UdpTracker, announced,
    peers_answer,
};

fn good(path: &'static str, peers: &[SocketAddr]) -> Answer {
    Answer::new(path, "200 OK", "", &peers_answer(peers))
}

/// Asks all trackers at once.
fn asks_all() -> Setup {
    Setup {
        config: Config {
            announce_to_all: true,
            ..Setup::default().config
        },
        ..Setup::default()
    }
}

pub(crate) fn an_http_tracker_introduces_and_hears_all<H: TestDriver>() {
    let mut h = H::new(41);
    let content = Content::new(41, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    server.pages.push(good("/announce", &[addr]));
    let url = format!("http://{}/announce", server.addr);
    let (fetcher, own) = h.listen(Setup::default());
    let spec = Spec {
        trackers: vec![url],
        ..Spec::default()
    };
    let id = h.add(fetcher, &content, spec);
    let heard = |server: &HttpServer| -> Vec<String> {
        server.targets.iter().map(|t| announced(t)).collect()
    };
    h.until("the tracker to hear that it is complete", |h| {
        h.guest(|g| server.poll(g));
        heard(&server).len() == 2
    });
    h.exact(fetcher, id, &content);
    let port = format!("port={}", own.port());
    assert!(server.targets.iter().all(|t| t.contains(&port)));
    h.stop(fetcher);
    h.wait("a farewell", |h| {
        h.guest(|g| server.poll(g));
        h.ended(fetcher)
    });
    assert_eq!(heard(&server), ["started", "completed", "stopped"]);
    h.end(seeder);
}

pub(crate) fn http_answers_of_all_kinds<H: TestDriver>() {
    let mut h = H::new(42);
    let content = Content::new(42, 300_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    let base = format!("http://{}", server.addr);
    let moved = format!("Location: {base}/announce-good\r\n");
    let circle = format!("Location: {base}/announce-circle\r\n");
    let large = [&peers_answer(&[])[..], &vec![b'x'; 400_000]].concat();
    let refusal = b"d14:failure reason9:not todaye";
    server.pages = vec![
        good("/announce-good", &[]),
        Answer::new("/announce-moved", "302 Found", &moved, b""),
        Answer::new("/announce-circle", "302 Found", &circle, b""),
        Answer::new(
            "/announce-garbage",
            "200 OK",
            "",
            b"<html>this is not a tracker</html>",
        ),
        Answer::new("/announce-large", "200 OK", "", &large),
        Answer::new("/announce-refusal", "200 OK", "", refusal),
        Answer {
            path: "/announce-noise",
            bytes: content.data[..3_000].to_vec(),
        },
        Answer {
            path: "/announce-silence",
            bytes: Vec::new(),
        },
        Answer {
            path: "/announce-short",
            bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nd8:inter".to_vec(),
        },
    ];
    let paths = [
        "good", "moved", "circle", "garbage", "large", "refusal", "noise", "short", "missing",
    ];
    let closed = h.guest(|g| g.closed_addr(false));
    let mut trackers: Vec<_> = paths
        .iter()
        .map(|p| format!("{base}/announce-{p}"))
        .collect();
    trackers.push(format!("http://{closed}/announce-closed"));
    let count = trackers.len();
    let (node, _) = h.listen(asks_all());
    let spec = Spec {
        trackers,
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    let states = h.wait("all answers", |h| {
        h.guest(|g| server.poll(g));
        let states: BTreeMap<String, TrackerState> = h.with_engine(node, move |e, _| {
            let last = |url: &str| url.rsplit('-').next().unwrap().to_owned();
            // The DHT is off here.
            let all = e
                .torrent(id)
                .unwrap()
                .trackers()
                .into_iter()
                .filter(|t| t.dht.is_none());
            all.map(|t| (last(t.url), t.state)).collect()
        });
        let over = |s: &TrackerState| matches!(s, TrackerState::Working | TrackerState::Failed);
        (states.len() == count && states.values().all(over)).then_some(states)
    });
    for (name, state) in states {
        let works = name == "good" || name == "moved";
        let wanted = match works {
            true => TrackerState::Working,
            false => TrackerState::Failed,
        };
        assert_eq!(state, wanted, "{}: {name}", H::NAME);
    }
    h.end_with(node, |h| h.guest(|g| server.poll(g)));
}

pub(crate) fn a_udp_tracker_introduces_and_hears_all<H: TestDriver>() {
    let mut h = H::new(43);
    let content = Content::new(43, 700_000);
    for v6 in [false, true] {
        let setup = || Setup {
            v6,
            ..Setup::default()
        };
        let (seeder, addr, _) = h.seed(setup(), &content);
        let mut tracker = h.guest(|g| UdpTracker::new(g, v6));
        tracker.peers.push(addr);
        // The first question is lost, where that does not cost a quarter of a minute.
        tracker.deaf = u32::from(H::VIRTUAL);
        let (fetcher, _) = h.listen(setup());
        let spec = Spec {
            trackers: vec![format!("udp://{}/announce", tracker.addr)],
            ..Spec::default()
        };
        let id = h.add(fetcher, &content, spec);
        h.until("the tracker to hear that it is complete", |h| {
            h.guest(|g| tracker.poll(g));
            tracker.events.len() == 2
        });
        h.exact(fetcher, id, &content);
        h.stop(fetcher);
        h.wait("a farewell", |h| {
            h.guest(|g| tracker.poll(g));
            h.ended(fetcher)
        });
        // Started, completed, stopped (BEP 15).
        assert_eq!(tracker.events, [2, 1, 3]);
        h.end(seeder);
    }
}

pub(crate) fn names_are_looked_up<H: TestDriver>() {
    let mut h = H::new(44);
    let content = Content::new(44, 300_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    server.pages.push(good("/announce", &[]));
    let mut tracker = h.guest(|g| UdpTracker::new(g, false));
    // The name has addresses of both families, and the engine asks the first.
    h.guest(|g| tracker.also(g, true));
    let (known, unknown) = (h.known_name(), h.unknown_name());
    let (http, udp) = (server.addr.port(), tracker.addr.port());
    let trackers = vec![
        format!("http://{known}:{http}/announce"),
        format!("http://{unknown}:{http}/announce"),
        format!("udp://{known}:{udp}/known-udp"),
        format!("udp://{unknown}:{udp}/unknown-udp"),
    ];
    let (node, _) = h.listen(asks_all());
    let spec = Spec {
        trackers,
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    let states = h.wait("all names", |h| {
        h.guest(|g| {
            server.poll(g);
            tracker.poll(g);
        });
        let states: Vec<TrackerState> = h.with_engine(node, move |e, _| {
            let all = e
                .torrent(id)
                .unwrap()
                .trackers()
                .into_iter()
                .filter(|t| t.dht.is_none());
            all.map(|t| t.state).collect()
        });
        let over = |s: &TrackerState| matches!(s, TrackerState::Working | TrackerState::Failed);
        states.iter().all(over).then_some(states)
    });
    use TrackerState::{Failed, Working};
    assert_eq!(states, [Working, Failed, Working, Failed], "{}", H::NAME);
    assert_eq!(server.targets.len(), 1);
    h.end_with(node, |h| {
        h.guest(|g| {
            server.poll(g);
            tracker.poll(g);
        });
    });
}

/// Addresses in this suite are local. A torrent may name any service there as its tracker, and a
/// tracker may redirect to one: it is not asked, whatever the driver's client of HTTP.
pub(crate) fn other_services_are_not_asked<H: TestDriver>() {
    let mut h = H::new(45);
    let content = Content::new(45, 100_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    let base = format!("http://{}", server.addr);
    let away = format!("Location: {base}/api/shutdown?force=1\r\n");
    server.pages = vec![
        Answer::new("/announce-away", "302 Found", &away, b""),
        good("/", &[]),
    ];
    let named = format!("http://{}:{}", h.known_name(), server.addr.port());
    let trackers = vec![
        format!("{base}/api/shutdown?force=1"),
        format!("{named}/api/shutdown?x=/announce"),
        format!("{base}/announce-away"),
        format!("{named}/announce-away"),
    ];
    let (node, _) = h.listen(asks_all());
    let spec = Spec {
        trackers,
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    let states = h.wait("all answers", |h| {
        h.guest(|g| server.poll(g));
        let states: Vec<TrackerState> = h.with_engine(node, move |e, _| {
            let all = e
                .torrent(id)
                .unwrap()
                .trackers()
                .into_iter()
                .filter(|t| t.dht.is_none());
            all.map(|t| t.state).collect()
        });
        let over = |s: &TrackerState| matches!(s, TrackerState::Working | TrackerState::Failed);
        states.iter().all(over).then_some(states)
    });
    assert_eq!(states, [TrackerState::Failed; 4], "{}", H::NAME);
    assert!(!server.targets.is_empty());
    let asked = |t: &String| t.starts_with("/announce-away?");
    assert!(server.targets.iter().all(asked), "{:?}", server.targets);
    h.end_with(node, |h| h.guest(|g| server.poll(g)));
}

/// More torrents with a tracker that accepts and never answers than there are places for requests
/// or ops: a torrent beside them is checked, announced and fetched at once.
pub(crate) fn silent_trackers_hold_up_nobody<H: TestDriver>() {
    let mut h = H::new(46);
    let content = Content::new(46, 700_000);
    let (seeder, addr, _) = h.seed(Setup::default(), &content);
    let mut silent = h.guest(|g| HttpServer::new(g, false));
    silent.pages.push(Answer {
        path: "/announce",
        bytes: Vec::new(),
    });
    let mut server = h.guest(|g| HttpServer::new(g, false));
    server.pages.push(good("/announce", &[addr]));
    let (fetcher, _) = h.listen(Setup::default());
    let url = format!("http://{}/announce", silent.addr);
    for i in 0..100 {
        let spec = Spec {
            magnet: true,
            trackers: vec![url.clone()],
            ..Spec::default()
        };
        h.add(fetcher, &Content::new(1000 + i, 1000), spec);
    }
    h.until("the silent tracker to be asked", |h| {
        h.guest(|g| silent.poll(g));
        !silent.targets.is_empty()
    });
    let spec = Spec {
        trackers: vec![format!("http://{}/announce", server.addr)],
        ..Spec::default()
    };
    let begun = h.elapsed();
    let id = h.add(fetcher, &content, spec);
    h.until("the torrent to be complete", |h| {
        h.guest(|g| {
            silent.poll(g);
            server.poll(g);
        });
        h.torrent(fetcher, id)
            .is_some_and(|t| t.state == State::Seeding)
    });
    let took = h.elapsed() - begun;
    // A request that is not answered is given up after half a minute.
    assert!(took < Duration::from_secs(20), "{}: {took:?}", H::NAME);
    h.exact(fetcher, id, &content);
    h.end_with(fetcher, |h| {
        h.guest(|g| {
            silent.poll(g);
            server.poll(g);
        });
    });
    h.end(seeder);
}

/// `body` as a gzip file whose only block is not compressed (RFC 1951, RFC 1952).
fn gzip(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap();
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    packed.extend(len.to_le_bytes());
    packed.extend((!len).to_le_bytes());
    packed.extend(body);
    // The checksum is not looked at.
    packed.extend([0; 8]);
    packed
}

/// Answers that general clients refuse and trackers send: libtorrent reads them all.
pub(crate) fn sloppy_answers_are_read<H: TestDriver>() {
    let mut h = H::new(47);
    let content = Content::new(47, 100_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    let body = peers_answer(&[]);
    let len = body.len();
    let with = |head: &str| {
        let head = head.replace("LEN", &len.to_string());
        [head.as_bytes(), &body].concat()
    };
    let chunks: Vec<u8> = body
        .chunks(7)
        .flat_map(|c| [format!("{:x}\r\n", c.len()).as_bytes(), c, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    let chunked = |head: &str| [head.as_bytes(), &chunks].concat();
    let packed = |head: &str| {
        let packed = gzip(&body);
        let head = head.replace("LEN", &packed.len().to_string());
        [head.as_bytes(), &packed].concat()
    };
    let many = |n: usize| {
        format!(
            "HTTP/1.1 200 OK\r\n{}Content-Length: LEN\r\n\r\n",
            "X-H: y\r\n".repeat(n)
        )
    };
    let answers: [(&'static str, Vec<u8>); 16] = [
        ("lf", with("HTTP/1.1 200 OK\nContent-Length: LEN\n\n")),
        (
            "reason",
            with("HTTP/1.1 200\r\nContent-Length: LEN\r\n\r\n"),
        ),
        (
            "lower",
            with("http/1.1 200 ok\r\ncontent-length: LEN\r\n\r\n"),
        ),
        (
            "blank",
            with("HTTP/1.1 200 OK\r\nContent-Length:LEN\r\n\r\n"),
        ),
        (
            "name",
            with("HTTP/1.1 200 OK\r\nX-Powered By: PHP\r\nContent-Length: LEN\r\n\r\n"),
        ),
        (
            "field",
            with("HTTP/1.1 200 OK\r\nnot a field\r\nContent-Length: LEN\r\n\r\n"),
        ),
        (
            "close",
            with("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
        ),
        ("old", with("HTTP/1.0 200 OK\r\n\r\n")),
        ("icy", with("ICY 200 OK\r\n\r\n")),
        (
            "long",
            with("HTTP/1.1 200 OK\r\nContent-Length: 1LEN\r\n\r\n"),
        ),
        ("sixty", with(&many(60))),
        ("hundreds", with(&many(300))),
        (
            "chunked",
            chunked("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        (
            "oldchunks",
            chunked("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        (
            "gzip",
            packed("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: LEN\r\n\r\n"),
        ),
        (
            "oldgzip",
            packed("HTTP/1.0 200 OK\r\nContent-Encoding: x-gzip\r\n\r\n"),
        ),
    ];
    let base = format!("http://{}", server.addr);
    let url = |name: &str| format!("{base}/announce-{name}");
    let trackers: Vec<String> = answers.iter().map(|(name, _)| url(name)).collect();
    // A name may begin as another does, so the longer one comes first.
    let mut pages: Vec<Answer> = answers
        .into_iter()
        .map(|(name, bytes)| Answer {
            path: Box::leak(format!("/announce-{name}").into_boxed_str()),
            bytes,
        })
        .collect();
    pages.sort_by_key(|page| std::cmp::Reverse(page.path.len()));
    server.pages = pages;
    let count = trackers.len();
    let (node, _) = h.listen(asks_all());
    let spec = Spec {
        trackers,
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    let states = h.wait("all answers", |h| {
        h.guest(|g| server.poll(g));
        let states: Vec<(String, TrackerState, String)> = h.with_engine(node, move |e, _| {
            let all = e
                .torrent(id)
                .unwrap()
                .trackers()
                .into_iter()
                .filter(|t| t.dht.is_none());
            let error = |t: &TrackerStatus<'_>| t.error.map(ToString::to_string);
            all.map(|t| (t.url.to_owned(), t.state, error(&t).unwrap_or_default()))
                .collect()
        });
        let over = |s: &TrackerState| matches!(s, TrackerState::Working | TrackerState::Failed);
        (states.len() == count && states.iter().all(|(_, s, _)| over(s))).then_some(states)
    });
    for (url, state, error) in states {
        assert_eq!(state, TrackerState::Working, "{}: {url}: {error}", H::NAME);
    }
    h.end_with(node, |h| h.guest(|g| server.poll(g)));
}

/// Another program has the port: the tracker is asked for peers, and not told of it.
pub(crate) fn a_port_that_is_not_bound_is_not_announced<H: TestDriver>() {
    let mut h = H::new(48);
    let content = Content::new(48, 100_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    server.pages.push(good("/announce", &[]));
    let taken = h.taken_addr();
    let node = h.boot(Setup {
        listen: Some(taken),
        ..Setup::default()
    });
    let spec = Spec {
        trackers: vec![format!("http://{}/announce", server.addr)],
        ..Spec::default()
    };
    h.add(node, &content, spec);
    h.until("the tracker to be asked", |h| {
        h.guest(|g| server.poll(g));
        !server.targets.is_empty()
    });
    let none = format!("&port={NO_PORT}&");
    let told = |target: &String| target.contains(&none);
    assert!(server.targets.iter().all(told), "{:?}", server.targets);
    assert_eq!(h.listening(node), None);
    h.end_with(node, |h| h.guest(|g| server.poll(g)));
}

pub(crate) fn a_url_with_spaces_and_unicode_is_asked<H: TestDriver>() {
    let mut h = H::new(49);
    let content = Content::new(49, 100_000);
    let mut server = h.guest(|g| HttpServer::new(g, false));
    server
        .pages
        .push(good("/my%20tracker/%D1%91/announce?k=a%20b&", &[]));
    let (node, _) = h.listen(Setup::default());
    let spec = Spec {
        trackers: vec![format!(
            "http://{}/my tracker/ё/announce?k=a b",
            server.addr
        )],
        ..Spec::default()
    };
    let id = h.add(node, &content, spec);
    h.until("the tracker to work", |h| {
        h.guest(|g| server.poll(g));
        h.with_engine(node, move |e, _| {
            let mut all = e.torrent(id).unwrap().trackers().into_iter();
            all.any(|t| t.state == TrackerState::Working)
        })
    });
    h.end_with(node, |h| h.guest(|g| server.poll(g)));
}
