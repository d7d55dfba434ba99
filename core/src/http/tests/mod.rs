//! What a GET does, answer by answer.

mod redirects;
mod requests;

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::{net::IpAddr, time::Duration};

use super::{
    Get, Host, HttpRequest, MAX_CHUNK_LINE, MAX_HEAD, MAX_HEADERS, Origin, Platform, Progress,
    request::{self, BadRequest},
    respond,
};
use crate::{
    net::Family,
    outcome::{CloseReason, OpErrorKind, Outcome},
    time::Instant,
};

pub(in crate::http) const NOW: Instant = Instant::from_micros(1_000_000);
pub(in crate::http) const MAX_BODY: usize = 1000;

pub(in crate::http) fn ask(url: &str) -> HttpRequest {
    HttpRequest {
        url: url.into(),
        user_agent: "dunlin/1".into(),
        family: None,
        max_body: MAX_BODY,
        timeout: Duration::from_secs(30),
        origin: Origin::Torrent,
    }
}

pub(in crate::http) fn get() -> Get {
    Get::new(NOW, &ask("http://tracker.example/announce?key=secret")).unwrap()
}

/// A status and body, or a kind of failure and its words.
pub(in crate::http) type Result = core::result::Result<(u16, Vec<u8>), (OpErrorKind, String)>;

pub(in crate::http) fn result(get: Get) -> Result {
    match get.into_outcome() {
        Outcome::Http { status, body } => Ok((status, body)),
        Outcome::Failed { error, .. } => Err((error.kind, error.detail)),
        other => panic!("{other:?} answers no GET"),
    }
}

/// What comes of an answer behind which the server closes the stream.
fn answered(answer: impl AsRef<[u8]>) -> Result {
    let mut get = get();
    let _ = get.handle_read(NOW, answer.as_ref());
    assert_eq!(get.handle_eof(NOW), Progress::Done);
    result(get)
}

/// What comes of an answer whose end is known before that of the stream.
fn complete(answer: impl AsRef<[u8]>) -> Result {
    let mut get = get();
    assert_eq!(get.handle_read(NOW, answer.as_ref()), Progress::Done);
    assert_eq!((get.poll_timeout(), get.write_buf()), (None, &[][..]));
    result(get)
}

fn ok(body: &[u8]) -> Result {
    Ok((200, body.into()))
}

fn kind(result: Result) -> OpErrorKind {
    result.unwrap_err().0
}

fn redirect(status: u16, to: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nLocation: {to}\r\nContent-Length: 99\r\n\r\nbody")
}

#[test]
fn the_request_says_what_is_wanted_and_is_sent_once() {
    let mut get = get();
    assert_eq!(
        (get.host(), get.port()),
        (Host::Name("tracker.example"), 80)
    );
    let mut sent = Vec::new();
    while !get.write_buf().is_empty() {
        let n = get.write_buf().len().min(7);
        sent.extend_from_slice(&get.write_buf()[..n]);
        get.handle_written(n);
    }
    let expected: &[u8] = b"GET /announce?key=secret HTTP/1.1\r\nHost: tracker.example\r\n\
        User-Agent: dunlin/1\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
        Connection: close\r\n\r\n";
    assert_eq!(sent, expected);
    let read = request::parse(&sent).unwrap().unwrap();
    assert_eq!((read.method, read.target), ("GET", "/announce?key=secret"));
    assert_eq!((read.head_len, read.body_len), (sent.len(), 0));
    assert_eq!(read.header("user-agent"), Some(&b"dunlin/1"[..]));
}

#[test]
fn a_body_of_known_length_ends_there() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-LENGTH:  5 \r\n\r\nhellotail";
    assert_eq!(complete(answer), ok(b"hello"));
    assert_eq!(complete(b"HTTP/1.0 200 OK\nContent-Length: 0\n\n"), ok(b""));
    // Lengths are often wrong; whether content is missing is up to its reader.
    let short = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nhello");
    assert_eq!(short, ok(b"hello"));
    let error = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap_err();
    assert_eq!(error.0, OpErrorKind::Truncated);
    assert_eq!(
        error.1,
        "http://tracker.example/announce: the server closed the connection 5 bytes too early"
    );
}

#[test]
fn a_body_of_unknown_length_ends_with_the_stream() {
    assert_eq!(answered(b"HTTP/1.0 200 OK\r\n\r\nd1:ae"), ok(b"d1:ae"));
    assert_eq!(answered(b"HTTP/1.1 404 \r\n\r\n"), Ok((404, Vec::new())));
    let mut get = get();
    let _ = get.handle_read(NOW, b"HTTP/1.0 200 OK\r\n\r\nd1:a");
    let _ = get.handle_closed(NOW, CloseReason::Reset);
    assert_eq!(
        kind(result(get)),
        OpErrorKind::Refused,
        "the end may be missing"
    );
}

#[test]
fn a_chunked_body_is_put_together() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n";
    for body in [
        "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
        "0005 ; name=\"v;\"\r\nhello\r\n7\t\r\n, world\r\n0;last\r\n\r\n",
        "c\r\nhello, world\r\n0\r\nX-Trailer: 1\r\nY: 2\r\n\r\nignored",
        "C\r\nhello, world\r\n000\r\n\n",
    ] {
        assert_eq!(
            complete(format!("{head}{body}")),
            ok(b"hello, world"),
            "{body}"
        );
    }
    // The zero chunk was there: the body is whole without the end of the trailers.
    assert_eq!(answered(format!("{head}1\r\nx\r\n0\r\nA: b\r\n")), ok(b"x"));
    for cut in ["", "5", "5\r\n"] {
        let cut = answered(format!("{head}{cut}"));
        assert_eq!(kind(cut), OpErrorKind::Truncated);
    }
    for cut in ["5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r"] {
        assert_eq!(answered(format!("{head}{cut}")), ok(b"hello"), "{cut}");
    }
    for bare in [
        "5\nhello\n0\n\n",
        "5;a\nhello\r\n0\r\n\n",
        "5 \nhello\n00;x\n\r\n",
    ] {
        assert_eq!(complete(format!("{head}{bare}")), ok(b"hello"), "{bare}");
    }
    for bad in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+5\r\nhello",
        " 5\r\nhello",
        "5 5\r\nhello",
        "5\rhello",
        "5\r\nhello0\r\n",
        "5\r\nhello\rx",
        ";a\r\n",
    ] {
        assert_eq!(
            kind(complete(format!("{head}{bad}"))),
            OpErrorKind::Io,
            "{bad:?}"
        );
    }
    let huge = format!("{head}ffffffffffffffffffff\r\n");
    assert_eq!(kind(complete(huge)), OpErrorKind::TooLarge);
}

#[test]
fn a_status_without_a_body_waits_for_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(complete(answer).unwrap().1, b"");
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
        HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(complete(answer), ok(b"x"));
    let switched = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    assert_eq!(kind(complete(switched)), OpErrorKind::Io);
    // They end in the limit of the head, however short each is.
    let flood = "HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 25 + 1);
    assert_eq!(kind(complete(flood)), OpErrorKind::Io);
}

#[test]
fn framing_is_what_rfc_9112_6_3_says() {
    let answer = |fields: &str| {
        complete(format!(
            "HTTP/1.1 200 OK\r\n{fields}\r\n2\r\nab\r\n0\r\n\r\n"
        ))
    };
    // Case 3: the coding overrides the length.
    let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(answer(both), ok(b"ab"));
    // Case 5: one length said twice is one length; otherwise the stream's end is waited for.
    assert_eq!(
        answer("Content-Length: 3\r\nContent-Length: 3\r\n"),
        ok(b"2\r\n")
    );
    assert_eq!(answer("Content-Length: 3, 3\r\n"), ok(b"2\r\n"));
    for fields in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 4\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 3,\r\n",
        "Transfer-Encoding: identity\r\n",
    ] {
        let body = "2\r\nab\r\n0\r\n\r\n";
        let whole = answered(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}"));
        assert_eq!(whole, ok(body.as_bytes()), "{fields}");
    }
    for (coding, expected) in [
        ("gzip, chunked", OpErrorKind::Unsupported),
        ("gzip", OpErrorKind::Unsupported),
        ("chunked, gzip", OpErrorKind::Io),
        ("chunked, chunked", OpErrorKind::Io),
    ] {
        let refused = answer(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(kind(refused), expected, "{coding}");
    }
    // §6.1 has a client give up here; servers of HTTP/1.0 send chunks nevertheless.
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_eq!(complete(old), ok(b"ab"));
}

#[test]
fn nothing_longer_than_asked_for_is_kept() {
    let (fits, over) = ("x".repeat(MAX_BODY), "x".repeat(MAX_BODY + 1));
    assert_eq!(
        answered(format!("HTTP/1.1 200 OK\r\n\r\n{fits}")),
        ok(fits.as_bytes())
    );
    for answer in [
        format!("HTTP/1.1 200 OK\r\n\r\n{over}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", over.len()),
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n".into(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n{MAX_BODY:x}\r\n"),
    ] {
        let (kind, detail) = complete(answer).unwrap_err();
        assert_eq!(kind, OpErrorKind::TooLarge);
        assert!(
            detail.ends_with("the answer is longer than 1000 bytes"),
            "{detail}"
        );
    }
}

#[test]
fn a_head_has_limits() {
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
    assert_eq!(kind(complete(endless)), OpErrorKind::Io);
    let fields = |n: usize| format!("HTTP/1.0 200 OK\r\n{}\r\n", "A: b\r\n".repeat(n));
    assert_eq!(answered(fields(2000)), ok(b""));
    assert_eq!(kind(complete(fields(MAX_HEAD / 6))), OpErrorKind::Io);
    assert_eq!(kind(complete("\r\n".repeat(MAX_HEAD))), OpErrorKind::Io);

    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = |n: usize| format!("{chunked}0;{}\r\n\r\n", "x".repeat(n - 2));
    assert_eq!(complete(line(MAX_CHUNK_LINE)), ok(b""));
    assert_eq!(kind(complete(line(MAX_CHUNK_LINE + 1))), OpErrorKind::Io);
    let trailers = format!("{chunked}0\r\n{}", "A: b\r\n".repeat(MAX_HEAD / 6 + 1));
    assert_eq!(kind(complete(trailers)), OpErrorKind::Io);
}

#[test]
fn what_is_not_http_is_told_at_once() {
    for answer in [
        "SSH-2.0-x",
        "<html>",
        "HTTPS",
        "d8:intervali60ee",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 20\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "\r\nIKEA",
    ] {
        assert_eq!(kind(complete(answer)), OpErrorKind::Io, "{answer}");
    }
    for nothing in ["", "\r\n", "HTTP/1.1 200 OK\r\n"] {
        assert_eq!(kind(answered(nothing)), OpErrorKind::Truncated);
    }
}

/// Heads as trackers send them, each followed by `hello`: what libtorrent reads is read here.
#[test]
fn sloppy_heads_are_read() {
    for head in [
        "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
        "HTTP/1.1 200 OK\nContent-Length: 5\r\n\n",
        "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1  200   Fine \r\nContent-Length:5\r\n\r\n",
        "http/1.1 200 ok\r\ncontent-length : 5\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "icy 200 OK\r\nicy-name: x\r\n\r\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Powered By: PHP\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nnot a field\r\n: no name\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded: Content-Length: 1\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \u{0}\u{7f}\u{e9}\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n",
    ] {
        assert_eq!(answered(format!("{head}hello")), ok(b"hello"), "{head:?}");
    }
    for fields in [60, 120, 1000] {
        let fields = "X-H: y\r\n".repeat(fields);
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 5\r\n\r\nhello");
        assert_eq!(complete(answer), ok(b"hello"));
    }
}

#[test]
fn an_answer_compressed_unasked_is_read() {
    let coded = |coding: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n");
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        complete([head.as_bytes(), body].concat())
    };
    assert_eq!(coded("identity", b"x"), ok(b"x"));
    let packed = miniz_oxide::deflate::compress_to_vec(&[b'x'; MAX_BODY], 6);
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &packed, &[0; 8]].concat();
    for name in ["gzip", "GZIP", "x-gzip", "identity, gzip"] {
        assert_eq!(coded(name, &gzip), ok(&[b'x'; MAX_BODY]));
    }
    assert_eq!(coded("deflate", &packed), ok(&[b'x'; MAX_BODY]));
    assert_eq!(kind(coded("br", b"x")), OpErrorKind::Unsupported);
    assert_eq!(kind(coded("gzip, gzip", &gzip)), OpErrorKind::Unsupported);
    assert_eq!(kind(coded("gzip", b"hello")), OpErrorKind::Io);
    let packed = miniz_oxide::deflate::compress_to_vec(&[b'x'; MAX_BODY + 1], 6);
    assert_eq!(kind(coded("deflate", &packed)), OpErrorKind::TooLarge);
    let empty = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(complete(empty), ok(b""));
}

#[test]
fn a_platform_that_can_do_more_is_asked_to() {
    let platform = Platform {
        tls: true,
        compression: true,
        to_ascii: Some(|_| Some("xn--a.example".into())),
    };
    let mut get = Get::on(NOW, &ask("https://me:pw@ä.example/announce"), platform).unwrap();
    assert!(get.is_secure());
    assert_eq!((get.host(), get.port()), (Host::Name("xn--a.example"), 443));
    let sent = String::from_utf8(get.write_buf().to_vec()).unwrap();
    assert!(sent.contains("\r\nHost: xn--a.example\r\n"), "{sent}");
    assert!(
        sent.contains("\r\nAuthorization: Basic bWU6cHc=\r\n"),
        "{sent}"
    );
    assert!(sent.contains("\r\nAccept-Encoding: gzip\r\n"), "{sent}");
    let plain = redirect(302, "http://b.example/x");
    assert_eq!(get.handle_read(NOW, plain.as_bytes()), Progress::Redirect);
    assert!(!get.is_secure() && get.port() == 80);
    let sent = String::from_utf8(get.write_buf().to_vec()).unwrap();
    assert!(!sent.contains("Authorization"), "another server: {sent}");
}

#[test]
fn what_a_proxy_looks_up_is_judged_by_its_name() {
    let proxied = |url: &str| Get::new(NOW, &ask(url)).unwrap().handle_proxied(NOW);
    assert_eq!(proxied("http://tracker.example/x"), Progress::NeedMore);
    assert_eq!(proxied("http://localhost/announce"), Progress::NeedMore);
    assert_eq!(proxied("http://localhost/x"), Progress::Done);
    assert_eq!(proxied("http://127.0.0.1/announce"), Progress::NeedMore);
}

#[test]
fn time_runs_out_for_the_whole_request() {
    let deadline = NOW + Duration::from_secs(30);
    let early = Instant::from_micros(deadline.as_micros() - 1);
    for (so_far, at) in [
        ("", "connecting"),
        ("HTTP/1.1 ", "reading the answer's head"),
        ("HTTP/1.1 200 OK\r\n\r\nx", "reading the answer's body"),
    ] {
        let mut get = get();
        assert_eq!(
            get.handle_read(NOW, redirect(302, "/").as_bytes()),
            Progress::Redirect
        );
        assert_eq!(
            get.handle_read(early, so_far.as_bytes()),
            Progress::NeedMore
        );
        assert_eq!(get.handle_timeout(early), Progress::NeedMore);
        assert_eq!(get.poll_timeout(), Some(deadline));
        assert_eq!(get.handle_timeout(deadline), Progress::Done);
        // Law 3: nothing is left to wait for.
        assert_eq!(get.poll_timeout(), None);
        let (kind, detail) = result(get).unwrap_err();
        assert_eq!(kind, OpErrorKind::TimedOut);
        assert!(
            detail.ends_with(&format!("timed out after 30s, {at}")),
            "{detail}"
        );
    }
}

#[test]
fn what_the_driver_reports_reaches_the_outcome() {
    for (why, expected) in [
        (CloseReason::Eof, OpErrorKind::Truncated),
        (CloseReason::Reset, OpErrorKind::Refused),
        (CloseReason::Refused, OpErrorKind::Refused),
        (CloseReason::TimedOut, OpErrorKind::TimedOut),
        (CloseReason::Unreachable, OpErrorKind::NotFound),
        (CloseReason::Io, OpErrorKind::Io),
    ] {
        let mut get = get();
        assert_eq!(get.handle_closed(NOW, why), Progress::Done);
        assert_eq!(kind(result(get)), expected);
    }
    let mut unknown = get();
    assert_eq!(
        unknown.fail(OpErrorKind::NotFound, "no such name"),
        Progress::Done
    );
    // The first word stands.
    assert_eq!(unknown.handle_eof(NOW), Progress::Done);
    let (_, detail) = result(unknown).unwrap_err();
    assert_eq!(detail, "http://tracker.example/announce: no such name");
    assert_eq!(kind(result(get())), OpErrorKind::Cancelled);
}

#[test]
fn a_request_that_cannot_be_made_is_refused() {
    let refused = |request: &HttpRequest| Get::new(NOW, request).unwrap_err();
    let error = refused(&ask("https://me:pw@t.example/announce?key=1"));
    assert_eq!(error.kind, OpErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "https://t.example/announce: https: URLs are not supported here, only http:"
    );
    let smuggled = HttpRequest {
        user_agent: "x\r\nHost: y".into(),
        ..ask("http://a/")
    };
    assert_eq!(refused(&smuggled).kind, OpErrorKind::Io);
    let other = HttpRequest {
        family: Some(Family::V6),
        ..ask("http://192.0.2.1/")
    };
    assert_eq!(refused(&other).kind, OpErrorKind::NotFound);
}
