//! Properties: any bytes, in any pieces.

use alloc::{format, string::String, vec::Vec};

use quickcheck::{Arbitrary, Gen, TestResult, quickcheck};

use super::{
    Get, Progress, request, respond,
    tests::{MAX_BODY, NOW, Result, get, result},
};

/// Something like an answer: a well-formed one, a mended one, or noise.
#[derive(Clone, Debug)]
struct Answer(Vec<u8>);

impl Arbitrary for Answer {
    fn arbitrary(g: &mut Gen) -> Self {
        let body = Vec::<u8>::arbitrary(g);
        let mut answer = match u8::arbitrary(g) % 8 {
            0 => return Self(body),
            1 => respond(
                *g.choose(&[200, 204, 404, 304]).unwrap(),
                "text/plain",
                &body,
            ),
            2 => {
                let mut answer = b"HTTP/1.0 200 OK\r\n\r\n".to_vec();
                answer.extend(&body);
                answer
            }
            3 => {
                let to = String::arbitrary(g).replace(['\r', '\n'], "");
                format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n").into_bytes()
            }
            4 => {
                let mut answer = b"HTTP/1.1 100 Go on\r\n\r\n".to_vec();
                answer.extend(respond(200, "", &body));
                answer
            }
            5 => {
                let line = g.choose(&[
                    "Content-Length: 18446744073709551615",
                    "Content-Length: 5, 6",
                    "Transfer-Encoding: chunked, gzip",
                    "Content-Length: -1",
                    "Content-Encoding: gzip",
                    "X",
                ]);
                let line = line.unwrap();
                format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\nhello").into_bytes()
            }
            _ => {
                let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                answer.extend(chunked(&body, g));
                answer
            }
        };
        if u8::arbitrary(g) % 3 == 0 && !answer.is_empty() {
            let at = usize::arbitrary(g) % answer.len();
            answer[at] = *g
                .choose(&[b'\r', b'\n', b'0', b'f', b';', b':', b' ', 0, 255])
                .unwrap();
        }
        if u8::arbitrary(g) % 4 == 0 {
            answer.truncate(usize::arbitrary(g) % (answer.len() + 1));
        }
        Self(answer)
    }

    fn shrink(&self) -> alloc::boxed::Box<dyn Iterator<Item = Self>> {
        alloc::boxed::Box::new(self.0.shrink().map(Self))
    }
}

/// `body` in chunks of random sizes, with extensions and trailers now and then.
fn chunked(body: &[u8], g: &mut Gen) -> Vec<u8> {
    let (mut rest, mut out) = (body, Vec::new());
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + usize::arbitrary(g) % rest.len());
        let extension = *g.choose(&["", ";a", " ;b=\"c d\"", "\t"]).unwrap();
        out.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
        out.extend(chunk);
        out.extend(b"\r\n");
        rest = after;
    }
    out.extend(
        *g.choose(&[&b"0\r\n\r\n"[..], b"00;x\r\nA: b\r\n\r\n"])
            .unwrap(),
    );
    out
}

/// A body and one way to send it in chunks.
#[derive(Clone, Debug)]
struct Chunks(Vec<u8>, Vec<u8>);

impl Arbitrary for Chunks {
    fn arbitrary(g: &mut Gen) -> Self {
        let body = Vec::<u8>::arbitrary(g);
        let coded = chunked(&body, g);
        Self(body, coded)
    }
}

/// What comes of `answer` handed over in pieces of the given sizes, over and over, up to a
/// redirect or the end of the stream; and where a redirect leads.
fn in_pieces(answer: &[u8], sizes: &[u8]) -> (Vec<u8>, Result) {
    let mut get = get();
    let (mut rest, mut sizes) = (answer, sizes.iter().cycle());
    let mut step = Progress::NeedMore;
    while !rest.is_empty() && step == Progress::NeedMore {
        let size = sizes.next().map_or(rest.len(), |&n| usize::from(n).max(1));
        let (piece, after) = rest.split_at(size.min(rest.len()));
        step = get.handle_read(NOW, piece);
        rest = after;
    }
    let next = match step {
        Progress::Redirect => get.write_buf().to_vec(),
        Progress::NeedMore | Progress::Done => Vec::new(),
    };
    if step == Progress::NeedMore {
        assert_eq!(get.handle_eof(NOW), Progress::Done);
    }
    (next, result(get))
}

quickcheck! {
    /// Law 6 and 7: it does not matter how the network cuts an answer.
    fn bytes_one_by_one_mean_what_they_mean_together(answer: Answer, sizes: Vec<u8>) -> bool {
        let whole = in_pieces(&answer.0, &[]);
        in_pieces(&answer.0, &[1]) == whole && in_pieces(&answer.0, &sizes) == whole
    }

    /// Law 6 and 8: whatever comes, nothing panics and no more than asked for is kept.
    fn any_answers_are_survived(answers: Vec<Answer>, noise: Vec<u8>) -> bool {
        let mut get = get();
        for answer in &answers {
            let _ = get.handle_read(NOW, &answer.0);
            let n = get.write_buf().len() / 2;
            get.handle_written(n);
        }
        let _ = get.handle_read(NOW, &noise);
        result(get).map_or(true, |(status, body)| status >= 102 && body.len() <= MAX_BODY)
    }

    fn chunks_decode_to_what_was_sent(chunks: Chunks) -> bool {
        let Chunks(body, coded) = chunks;
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        answer.extend(coded);
        in_pieces(&answer, &[]).1 == Ok((200, body))
    }

    /// What a server sends is what a client takes.
    fn a_response_is_read_back(status: u16, kind: String, body: Vec<u8>) -> TestResult {
        let status = 200 + status % 400;
        if matches!(status, 204 | 304) {
            return TestResult::discard();
        }
        let answer = respond(status, &kind, &body);
        TestResult::from_bool(in_pieces(&answer, &[]).1 == Ok((status, body)))
    }

    /// Any URL is either refused or asked for in one request that a server can read.
    fn any_url_makes_one_request(rest: String) -> bool {
        let request = super::tests::ask(&format!("http://host/{rest}"));
        let Ok(get) = Get::new(NOW, &request) else {
            return false;
        };
        let sent = get.write_buf();
        sent.len() > request::MAX_HEAD || request::parse(sent).is_ok_and(|read| {
            read.is_some_and(|read| read.host == "host" && read.head_len == sent.len())
        })
    }

    fn any_authority_is_survived(url: String, location: String) -> bool {
        let _ = Get::new(NOW, &super::tests::ask(&format!("http://{url}")));
        let _ = Get::new(NOW, &super::tests::ask(&url));
        let mut get = get();
        let _ = get.handle_read(NOW, format!("HTTP/1.1 301 x\r\nLocation: {location}\r\n\r\n").as_bytes());
        get.write_buf().is_empty() || request::parse(get.write_buf()).is_ok_and(|read| read.is_some())
    }

    fn any_request_is_survived(data: Vec<u8>, text: String) -> bool {
        let _ = request::parse(&data);
        let line = format!("GET /{text} HTTP/1.1\r\nHost: a\r\n{text}\r\n\r\n");
        request::parse(line.as_bytes()).map_or(true, |read| read.is_none_or(|r| r.head_len <= line.len()))
    }
}
