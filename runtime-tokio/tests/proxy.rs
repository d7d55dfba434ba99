//! With a proxy nothing goes around it (RFC 1928, RFC 1929).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};

use common::{Content, Node, PATIENCE, event, within};
use dunlin_std::testing::socks::{Asked, proxy};
use dunlin_tokio::{Event, What};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

/// Where the session is bound to.
const BOUND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A tracker that knows nobody, and what it was told.
async fn tracker() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let event = head
                .split(['&', ' '])
                .find_map(|p| p.strip_prefix("event="));
            let _ = tell.send(event.unwrap_or_default().to_owned());
            let body = "d8:intervali1800e5:peers0:e";
            let len = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_and_trackers_are_reached_through_the_proxy_alone() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    for login in ["", "me:p%40ss@"] {
        let (tracker, mut told) = tracker().await;
        let (proxy, asked) = proxy(tracker, login);
        let dir = tempfile::TempDir::new().unwrap();
        let mut config = common::config(dir.path());
        config.route.proxy = Some(proxy);
        config.route.egress.v4 = Some(BOUND);
        let session = dunlin_tokio::Session::new(config).await.unwrap();
        let mut events = session.events();
        let add = content.add().peers([seeder.addr]).trackers([
            // No resolver knows the name: only the proxy can lead there.
            "http://tracker.invalid:8000/announce",
            "udp://127.0.0.1:9/announce",
        ]);
        let torrent = session.add(add).await.unwrap();
        within(torrent.wait_complete()).await.unwrap();
        content.assert_copied(dir.path());

        let (mut peer, mut name) = (false, false);
        while !(peer && name) {
            let Asked {
                login: given,
                target,
                from,
            } = tokio::task::block_in_place(|| asked.recv_timeout(PATIENCE)).unwrap();
            let expected = (!login.is_empty()).then(|| ("me".into(), "p@ss".into()));
            assert_eq!(given, expected);
            assert_eq!(from, BOUND, "the proxy is reached from the bound address");
            peer |= target == seeder.addr.to_string();
            name |= target == "tracker.invalid:8000";
        }
        // The UDP tracker is not asked around the proxy; it fails and says so.
        event(&mut events, |e| {
            matches!(e, Event::Notice(n) if matches!(&n.what,
                What::Tracker { url, .. } if url.starts_with("udp:")))
        })
        .await;
        let stats = session.stats().await.unwrap();
        assert_eq!((stats.datagrams_in, stats.datagrams_out), (0, 0));
        assert!(session.status().await.unwrap().listening.is_empty());
        session.shutdown().await;
        // The proxy chooses the family: nothing is reported twice.
        let events: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(events, ["started", "completed", "stopped"]);
    }
}
