//! With a proxy nothing goes around it (RFC 1928, RFC 1929).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use common::{Content, Node, PATIENCE, tracker};
use dunlin_mio::{Event, What};
use dunlin_std::testing::socks::{Asked, proxy};

/// Where the session is bound to.
const BOUND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// The messages about the proxy and the tracker, once both have arrived.
fn said(proxy: &str) -> (String, String) {
    let content = Content::small();
    let node = Node::with(|c| c.session.route.proxy = Some(proxy.parse().unwrap()));
    let add = content.add().peers([SocketAddr::from(([127, 0, 0, 1], 9))]);
    let add = add.trackers(["http://tracker.invalid/announce"]);
    node.handle.add(add).unwrap();
    let (mut of_proxy, mut of_tracker) = (Vec::new(), None);
    while of_proxy.is_empty() || of_tracker.is_none() {
        let event = node.event("what is said", |e| {
            matches!(e, Event::Notice(n)
                if matches!(n.what, What::Proxy { .. } | What::Tracker { .. }))
        });
        match event {
            Event::Notice(notice) => match notice.what {
                What::Proxy { message } => of_proxy.push(message),
                What::Tracker { message, .. } => of_tracker = Some(message),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(of_proxy.len(), 1, "{of_proxy:?}");
    node.stop();
    (of_proxy.remove(0), of_tracker.unwrap())
}

#[test]
fn a_dead_proxy_is_named() {
    // Nobody listens here any more.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (of_proxy, of_tracker) = said(&format!("socks5://me:secret@{name}"));
    assert!(of_proxy.starts_with(&format!("{name}: ")), "{of_proxy}");
    let named = format!("the proxy {name}: ");
    assert!(of_tracker.contains(&named), "{of_tracker}");
}

#[test]
fn what_answers_in_place_of_a_proxy_is_named() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let (of_proxy, of_tracker) = said(&format!("socks5://{name}"));
    assert!(of_proxy.starts_with(&format!("{name}: ")), "{of_proxy}");
    let named = format!("the proxy {name}: ");
    assert!(of_tracker.contains(&named), "{of_tracker}");
}

#[test]
fn peers_and_trackers_are_reached_through_the_proxy_alone() {
    let content = Content::small();
    let (seeder, _) = Node::sharing(&content);
    for login in ["", "me:p%40ss@"] {
        let tracker = tracker::http();
        let at = tracker.url.split('/').nth(2).unwrap().parse().unwrap();
        let (proxy, asked) = proxy(at, login);
        let fetcher = Node::with(|c| {
            c.session.route.proxy = Some(proxy);
            c.session.route.egress.v4 = Some(BOUND);
        });
        let add = content.add().peers([seeder.addr]).trackers([
            // No resolver knows the name: only the proxy can lead there.
            "http://tracker.invalid:8000/announce",
            "udp://127.0.0.1:9/announce",
        ]);
        let torrent = fetcher.handle.add(add).unwrap();
        // The UDP tracker is not asked directly, and that is reported.
        fetcher.event("a word about the UDP tracker", |e| {
            matches!(e, Event::Notice(n) if matches!(&n.what,
                What::Tracker { url, .. } if url.starts_with("udp:")))
        });
        fetcher.wait_complete(torrent);

        let (mut peer, mut name) = (false, false);
        while !(peer && name) {
            let Asked {
                login: given,
                target,
                from,
            } = asked.recv_timeout(PATIENCE).unwrap();
            let expected = (!login.is_empty()).then(|| ("me".into(), "p@ss".into()));
            assert_eq!(given, expected);
            assert_eq!(from, BOUND, "the proxy is reached from the bound address");
            peer |= target == seeder.addr.to_string();
            name |= target == "tracker.invalid:8000";
        }
        assert!(fetcher.handle.engine_status().unwrap().listening.is_empty());
        let (dir, stats) = fetcher.stop();
        content.assert_copied(dir.path());
        assert_eq!((stats.datagrams_in, stats.datagrams_out), (0, 0));
        // The proxy chooses the family: the tracker is not asked twice.
        let told: Vec<String> = tracker.asked.try_iter().collect();
        let events: Vec<&str> = told
            .iter()
            .map(|query| {
                let event = query.split('&').find_map(|p| p.strip_prefix("event="));
                event.unwrap_or_default()
            })
            .collect();
        assert_eq!(events, ["started", "completed", "stopped"]);
    }
    seeder.stop();
}
