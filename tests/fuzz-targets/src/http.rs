//! Core's HTTP client and the requests a server reads.

use std::time::Duration;

use dunlin_core::http::HttpRequest;
use dunlin_core::http::{Get, Origin, Progress, request};
use dunlin_core::{Instant, Outcome};

const NOW: Instant = Instant::ORIGIN;
const MAX_BODY: usize = 5_000;
/// Bytes that keep the comparison of ways to cut an answer affordable.
const MAX_INPUT: usize = 8 << 10;

/// Takes `data` for an answer, for a request and for a URL.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(MAX_INPUT)];
    let whole = answered(data, usize::MAX);
    assert_eq!(answered(data, 1), whole, "cut into bytes");
    assert_eq!(answered(data, 7), whole, "cut into sevens");
    if let Ok(Some(read)) = request::parse(data) {
        assert!(read.head_len <= data.len());
    }
    let url = format!("http://{}", String::from_utf8_lossy(data));
    if let Ok(get) = Get::new(NOW, &ask(&url)) {
        let sent = get.write_buf();
        let read = request::parse(sent);
        assert!(
            sent.len() > request::MAX_HEAD || read.is_ok_and(|r| r.is_some()),
            "{url}"
        );
    }
}

fn ask(url: &str) -> HttpRequest {
    HttpRequest {
        url: url.into(),
        user_agent: "fuzz".into(),
        family: None,
        max_body: MAX_BODY,
        timeout: Duration::from_secs(30),
        origin: Origin::User,
    }
}

/// The requests sent after redirects, and what came of it in the end.
fn answered(data: &[u8], size: usize) -> (Vec<Vec<u8>>, String) {
    let mut get = Get::new(NOW, &ask("http://host:80/path/file?query")).expect("a sound URL");
    let mut sent = Vec::new();
    for chunk in data.chunks(size.min(data.len().max(1))) {
        match get.handle_read(NOW, chunk) {
            Progress::NeedMore => {}
            // What follows a redirect in the same read belongs to the old stream.
            Progress::Redirect => {
                sent.push(get.write_buf().to_vec());
                break;
            }
            Progress::Done => break,
        }
    }
    if sent.is_empty() {
        let _ = get.handle_eof(NOW);
        assert_eq!(get.poll_timeout(), None);
    }
    let outcome = get.into_outcome();
    if let Outcome::Http { body, .. } = &outcome {
        assert!(body.len() <= MAX_BODY);
    }
    (sent, format!("{outcome:?}"))
}
