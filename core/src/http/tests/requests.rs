//! The head of a request, as a simulated server reads it.

use super::*;

#[test]
fn a_server_reads_requests_as_they_come() {
    let whole = b"POST /ctl HTTP/1.1\r\nHost: 192.0.2.1:5000\r\nSOAPAction: \"a:b#C\"\r\n\
        Content-Length: 4\r\n\r\nbody";
    for n in 0..whole.len() - 4 {
        assert_eq!(request::parse(&whole[..n]), Ok(None));
    }
    let read = request::parse(whole).unwrap().unwrap();
    assert_eq!(
        (read.method, read.target, read.host),
        ("POST", "/ctl", "192.0.2.1:5000")
    );
    assert_eq!((&whole[read.head_len..], read.body_len), (&b"body"[..], 4));
    assert_eq!(read.header("soapaction"), Some(&b"\"a:b#C\""[..]));
    assert_eq!(read.header("body"), None);
    let old = request::parse(b"GET / HTTP/1.0\n\n").unwrap().unwrap();
    assert_eq!(old.host, "");
}

#[test]
fn a_server_tells_what_is_no_request() {
    let bad = |text: &str| request::parse(text.as_bytes()).unwrap_err();
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\x13BitTorrent protocol",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \u{e9}\u{0}\r\n\r\n",
    ] {
        assert_eq!(bad(text), BadRequest::Malformed, "{text:?}");
    }
    assert_eq!(bad("GET / HTTP/2.0\r\n\r\n").status(), 505);
    let coded = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(bad(coded).status(), 501);
    assert_eq!(
        bad(&format!("GET /{}", "x".repeat(request::MAX_HEAD))).status(),
        431
    );
    let many = format!(
        "GET / HTTP/1.0\r\n{}\r\n",
        "A: b\r\n".repeat(MAX_HEADERS + 1)
    );
    assert_eq!(bad(&many).status(), 431);
    // A head within the limit may be followed by a body of any length.
    let long = format!(
        "GET / HTTP/1.0\r\n\r\n{}",
        "x".repeat(2 * request::MAX_HEAD)
    );
    assert!(request::parse(long.as_bytes()).unwrap().is_some());
}
