//! Properties of a driver's HTTP client, against a server of a few lines, on loopback.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use dunlin_core::{
    OpErrorKind,
    http::{HttpRequest, MAX_REDIRECTS, Origin},
    net::Family,
};

use crate::net::{
    http::{Answer, Failure},
    socket::{Egress, Route},
};

/// Tests of the client `$client`, a function that asks over a route.
#[macro_export]
macro_rules! http_client_tests {
    ($client:path) => {
        $crate::http_client_tests! { $client;
            a_local_tracker_is_asked_to_announce_and_nothing_else
            nothing_leaves_over_a_family_that_is_not_bound
            the_request_is_sent_as_it_is
            a_body_is_cut_off_at_the_limit_also_when_it_swells
            redirects_are_followed_but_not_for_ever
            what_goes_wrong_is_told_apart
            a_family_that_is_asked_for_is_the_only_one_used
        }
    };
    ($client:path; $($property:ident)*) => {
        $(
            #[test]
            fn $property() {
                $crate::testing::http::$property($client);
            }
        )*
    };
}

/// Serves `answers`, one a connection, and returns where and what was asked.
fn serve(answers: Vec<Vec<u8>>) -> (SocketAddr, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let answer = |(mut stream, bytes): (TcpStream, Vec<u8>)| {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
                // A TLS handshake has no head to wait for.
                if head.starts_with(&[22]) {
                    break;
                }
            }
            // A client that has enough hangs up.
            let _ = stream.write_all(&bytes);
            String::from_utf8_lossy(&head).into_owned()
        };
        let accept = |bytes| (listener.accept().unwrap().0, bytes);
        answers.into_iter().map(accept).map(answer).collect()
    });
    (address, server)
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn request(url: String) -> HttpRequest {
    HttpRequest {
        url,
        user_agent: "Dunlin/test".into(),
        family: None,
        max_body: 1000,
        timeout: Duration::from_secs(20),
        origin: Origin::User,
    }
}

impl<C: Fn(Route, &HttpRequest) -> Result<Answer, Failure>> Client for C {}

/// An HTTP client.
pub trait Client: Fn(Route, &HttpRequest) -> Result<Answer, Failure> {
    /// Makes a request without a proxy, from any address.
    ///
    /// # Errors
    /// See [`Failure`].
    fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        self(Route::default(), request)
    }
}

/// Names lead to loopback, so a tracker that a torrent names is asked to announce and nothing else,
/// whatever name or form its address has.
pub fn a_local_tracker_is_asked_to_announce_and_nothing_else(client: impl Client) {
    let away = "302 Found\r\nLocation: /shutdown";
    let answers = vec![answer("200 OK", b"de"), answer(away, b"")];
    let (at, server) = serve(answers);
    let port = at.port();
    let of_torrent = |url: String| HttpRequest {
        origin: Origin::Torrent,
        ..request(url)
    };
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let shutdown = of_torrent(format!("http://{host}:{port}/shutdown"));
        let refused = client.get(&shutdown).unwrap_err();
        assert_eq!(refused.kind, OpErrorKind::Denied, "{host}: {refused:?}");
    }
    // Some read these as addresses, others as names; Dunlin does not connect to them.
    for host in ["2130706433", "127.1", "0x7f.0.0.1"] {
        let shutdown = of_torrent(format!("http://{host}:{port}/announce"));
        assert!(client.get(&shutdown).is_err(), "{host}");
    }
    let announce = of_torrent(format!("http://{at}/announce?x=1"));
    assert_eq!(client.get(&announce).unwrap().body, b"de");
    // Nor is a redirect followed there.
    let refused = client.get(&announce).unwrap_err();
    assert_eq!(refused.kind, OpErrorKind::Denied, "{refused:?}");
    assert_eq!(server.join().unwrap().len(), 2);
}

pub fn nothing_leaves_over_a_family_that_is_not_bound(client: impl Client) {
    let (at, _server) = serve(vec![answer("200 OK", b"four")]);
    let only_v6 = Route {
        egress: Egress {
            v6: Some(Ipv6Addr::LOCALHOST),
            ..Egress::default()
        },
        ..Route::default()
    };
    for family in [None, Some(Family::V4)] {
        let mut asked = request(format!("http://{at}/"));
        asked.family = family;
        let refused = client(only_v6.clone(), &asked).unwrap_err();
        assert_eq!(refused.kind, OpErrorKind::NotFound, "{refused:?}");
    }
}

pub fn the_request_is_sent_as_it_is(client: impl Client) {
    let (at, server) = serve(vec![answer("200 OK", b"d8:intervali60ee")]);
    let query = "info_hash=%124Vx%9a%bc%de%f1%23Eg%89%ab%cd%ef%124Vx%9a&port=1";
    let got = client
        .get(&request(format!("http://{at}/announce?{query}")))
        .unwrap();
    assert_eq!(
        (got.status, got.body.as_slice()),
        (200, &b"d8:intervali60ee"[..])
    );
    let head = server.join().unwrap().remove(0);
    assert!(
        head.starts_with(&format!("GET /announce?{query} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("user-agent: dunlin/test"),
        "{head}"
    );
    assert!(
        head.to_lowercase().contains("accept-encoding: gzip"),
        "{head}"
    );
}

pub fn a_body_is_cut_off_at_the_limit_also_when_it_swells(client: impl Client) {
    // 20 000 zeros, packed.
    let mut packed = vec![
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 0x0d, 0, 0, 0, 0xc2, 0xa0, 0xf7, 0x4f,
        0x6d, 0x0e, 0x37, 0xa0,
    ];
    packed.extend_from_slice(&[0; 20]);
    let (at, _server) = serve(vec![
        answer("200 OK", &[b'x'; 1000]),
        answer("200 OK", &[b'x'; 1001]),
        answer("200 OK\r\nContent-Encoding: gzip", &packed),
    ]);
    let request = request(format!("http://{at}/"));
    assert_eq!(client.get(&request).unwrap().body.len(), 1000);
    assert_eq!(
        client.get(&request).unwrap_err().kind,
        OpErrorKind::TooLarge
    );
    // Whatever it unpacks to, it is not more than allowed.
    match client.get(&request) {
        Ok(answer) => assert!(answer.body.len() <= 1000),
        Err(failure) => assert!(failure.kind == OpErrorKind::TooLarge, "{failure:?}"),
    }
}

pub fn redirects_are_followed_but_not_for_ever(client: impl Client) {
    let (end, _server) = serve(vec![answer("200 OK", b"here")]);
    let to = format!("302 Found\r\nLocation: http://{end}/");
    let (start, _other) = serve(vec![answer(&to, b"")]);
    let got = client.get(&request(format!("http://{start}/"))).unwrap();
    assert_eq!(got.body, b"here");

    let rounds = usize::from(MAX_REDIRECTS) + 1;
    let (at, _server) = serve(vec![answer("302 Found\r\nLocation: /again", b""); rounds]);
    let failure = client.get(&request(format!("http://{at}/"))).unwrap_err();
    assert!(failure.reason.contains("redirect"), "{failure:?}");
}

pub fn what_goes_wrong_is_told_apart(client: impl Client) {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mut slow = request(format!("http://{}/", silent.local_addr().unwrap()));
    slow.timeout = Duration::from_millis(50);
    assert_eq!(client.get(&slow).unwrap_err().kind, OpErrorKind::TimedOut);

    let free = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let nobody = client.get(&request(format!("http://{free}/")));
    assert_eq!(nobody.unwrap_err().kind, OpErrorKind::Refused);

    let (at, _server) = serve(vec![b"SSH-2.0-not-tls\r\n".to_vec()]);
    let failure = client.get(&request(format!("https://{at}/"))).unwrap_err();
    assert_eq!(failure.kind, OpErrorKind::Tls, "{}", failure.reason);
    assert!(client.get(&request("gopher://host/".into())).is_err());
}

pub fn a_family_that_is_asked_for_is_the_only_one_used(client: impl Client) {
    let (at, server) = serve(vec![answer("200 OK", b"four")]);
    let mut asked = request(format!("http://{at}/"));
    asked.family = Some(Family::V6);
    assert!(
        client.get(&asked).is_err(),
        "an IPv4 address is not an IPv6 one"
    );
    asked.family = Some(Family::V4);
    assert_eq!(client.get(&asked).unwrap().body, b"four");
    assert_eq!(server.join().unwrap().len(), 1);
}
