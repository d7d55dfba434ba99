//! With a proxy nothing goes around it (RFC 1928, RFC 1929).
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use common::{Content, Node, event, within};
use dunlin_tokio::{Event, Proxy, What};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Where the session is bound to.
const BOUND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// What a client asked the proxy for: login, and target by address or name.
#[derive(Debug)]
struct Asked {
    login: Option<(String, String)>,
    target: String,
    /// Where the client connected from.
    from: IpAddr,
}

async fn text(stream: &mut TcpStream) -> String {
    String::from_utf8(bytes(stream).await).unwrap()
}

/// One client; names lead to `named`.
async fn serve(mut stream: TcpStream, named: SocketAddr, asked: mpsc::UnboundedSender<Asked>) {
    assert_eq!(stream.read_u8().await.unwrap(), 5);
    let methods = bytes(&mut stream).await;
    let login = methods.contains(&2);
    stream
        .write_all(&[5, if login { 2 } else { 0 }])
        .await
        .unwrap();
    let login = if login {
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        let login = (text(&mut stream).await, text(&mut stream).await);
        stream.write_all(&[1, 0]).await.unwrap();
        Some(login)
    } else {
        None
    };
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..3], [5, 1, 0]);
    let (target, to) = match head[3] {
        1 => {
            let ip = Ipv4Addr::from(stream.read_u32().await.unwrap());
            let to = SocketAddr::from((ip, stream.read_u16().await.unwrap()));
            (to.to_string(), to)
        }
        3 => {
            let name = text(&mut stream).await;
            let port = stream.read_u16().await.unwrap();
            (format!("{name}:{port}"), named)
        }
        other => panic!("address type {other}"),
    };
    let from = stream.peer_addr().unwrap().ip();
    let whole = Asked {
        login,
        target,
        from,
    };
    asked.send(whole).unwrap();
    let mut far = TcpStream::connect(to).await.unwrap();
    stream
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    // Either side may hang up as it likes.
    let _ = copy_bidirectional(&mut stream, &mut far).await;
}

async fn bytes(stream: &mut TcpStream) -> Vec<u8> {
    let len = stream.read_u8().await.unwrap();
    let mut bytes = vec![0; len.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn proxy(named: SocketAddr, login: &str) -> (Proxy, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, named, tell.clone()));
        }
    });
    // By name, which may have addresses that the proxy does not listen on.
    let port = address.port();
    let proxy = format!("socks5://{login}localhost:{port}");
    (proxy.parse().unwrap(), asked)
}

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

#[tokio::test]
async fn peers_and_trackers_are_reached_through_the_proxy_alone() {
    let content = Content::small();
    let (seeder, _shares) = Node::sharing(&content).await;
    for login in ["", "me:p%40ss@"] {
        let (tracker, mut told) = tracker().await;
        let (proxy, mut asked) = proxy(tracker, login).await;
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
            } = within(asked.recv()).await.unwrap();
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
        // Which family the proxy asks over is its own affair: nothing is said twice.
        let events: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(events, ["started", "completed", "stopped"]);
    }
}
