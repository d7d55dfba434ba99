//! The head of an answer: what it means for the body (RFC 9112 §6.3).

use alloc::{format, string::String, vec::Vec};

use httparse::Header;

use super::{
    Fault, MAX_HEAD,
    body::{Body, Chunked, too_large},
    coding::Coding,
};
use crate::{outcome::OpErrorKind, wire::tracker::printable};

/// How an answer begins, whatever the case of its letters; what begins otherwise is not waited for.
/// The second is what some streaming servers say for `HTTP/1.0`.
const PREFIXES: [&[u8]; 2] = [b"HTTP/", b"ICY "];

/// Whether `bytes` may grow into an answer.
fn may_begin(bytes: &[u8]) -> bool {
    PREFIXES.iter().any(|prefix| {
        let len = prefix.len().min(bytes.len());
        prefix[..len].eq_ignore_ascii_case(&bytes[..len])
    })
}

/// Collects a head until it is whole.
#[derive(Debug, Default)]
pub(super) struct Collector {
    bytes: Vec<u8>,
    /// Bytes of the interim answers before.
    spent: usize,
    /// Bytes of the line that was begun, its CR not counted.
    line: usize,
}

impl Collector {
    /// Takes from `data`: how much, and whether the head is whole.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<(usize, bool), Fault> {
        for (i, &byte) in data.iter().enumerate() {
            // An empty line before an answer is skipped, as by most parsers (RFC 9112 §2.2).
            let blank = self.bytes.is_empty() && matches!(byte, b'\r' | b'\n');
            if self.spent + self.bytes.len() == MAX_HEAD {
                let reason = format!("the head of the answer is longer than {MAX_HEAD} bytes");
                return Err(Fault::protocol(reason));
            }
            if blank {
                self.spent += 1;
                continue;
            }
            self.bytes.push(byte);
            if self.bytes.len() <= PREFIXES[0].len() && !may_begin(&self.bytes) {
                return Err(Fault::protocol("the server does not answer in HTTP/1"));
            }
            match byte {
                b'\n' if self.line == 0 => return Ok((i + 1, true)),
                b'\n' => self.line = 0,
                b'\r' => {}
                _ => self.line += 1,
            }
        }
        Ok((data.len(), false))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads the head that is whole, and makes room for the next.
    pub(super) fn take(&mut self, max_body: usize) -> Result<Answer, Fault> {
        let answer = read(&self.bytes, max_body);
        self.spent += self.bytes.len();
        self.bytes.clear();
        self.line = 0;
        answer
    }
}

/// What a head says.
#[derive(Debug)]
pub(super) enum Answer {
    /// The answer is still to come (RFC 9110 §15.2).
    Interim,
    /// Ask there instead.
    Redirect(String),
    /// Status, and the body unless there is none, with its content coding.
    Final(u16, Option<(Body, Option<Coding>)>),
}

/// A head, read as trackers send them: lines may end in a bare LF, the reason and the blank
/// behind a colon may be missing, and a line that is not a field is passed over.
struct Head<'a>(&'a [u8]);

impl<'a> Head<'a> {
    fn lines(&self) -> impl Iterator<Item = &'a [u8]> {
        self.0.split(|&b| b == b'\n').map(<[u8]>::trim_ascii_end)
    }

    /// The three digits behind the version.
    fn status(&self) -> Option<u16> {
        let line = self.lines().next()?;
        let mut words = line.split(u8::is_ascii_whitespace);
        words.next()?;
        let digits = words.find(|word| !word.is_empty())?;
        let three = digits.len() == 3 && digits.iter().all(u8::is_ascii_digit);
        let value = |n: u16, digit: &u8| n * 10 + u16::from(digit - b'0');
        three.then(|| digits.iter().fold(0, value))
    }

    /// The values of all fields of this name, in order.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.lines().skip(1).filter_map(move |line| {
            // A line that begins with a blank goes on with the field before it.
            let begins = line.first().is_some_and(|b| !b.is_ascii_whitespace());
            let colon = line.iter().position(|&b| b == b':').filter(|_| begins)?;
            let (field, value) = (line[..colon].trim_ascii_end(), &line[colon + 1..]);
            field
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| value.trim_ascii())
        })
    }

    /// The elements of a list-valued field, empty ones left out (RFC 9110 §5.6.1).
    fn list(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|value| value.split(|&b| b == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
    }
}

fn read(head: &[u8], max_body: usize) -> Result<Answer, Fault> {
    let head = Head(head);
    let Some(status) = head.status() else {
        return Err(Fault::protocol("the answer has no status"));
    };
    match status {
        0..100 | 101 => {
            let reason = format!("status {status} answers no GET");
            Err(Fault::protocol(reason))
        }
        102..200 | 100 => Ok(Answer::Interim),
        301 | 302 | 303 | 307 | 308 if let Some(to) = head.all("location").next() => {
            match core::str::from_utf8(to) {
                Ok(to) => Ok(Answer::Redirect(to.into())),
                Err(_) => Err(Fault::protocol("the Location of the redirect is not UTF-8")),
            }
        }
        204 | 304 => Ok(Answer::Final(status, None)),
        _ => {
            let body = framing(&head, max_body)?;
            let coding = match body {
                Body::Length(0) => None,
                _ => content_coding(&head)?,
            };
            Ok(Answer::Final(status, Some((body, coding))))
        }
    }
}

/// Where the body ends (RFC 9112 §6.3, cases 3 to 8). Where the RFC has the client give up, the
/// stream's end is waited for instead: no later answer follows on this connection, so a server
/// that smuggles gains nothing.
fn framing(head: &Head<'_>, max_body: usize) -> Result<Body, Fault> {
    let mut chunked = false;
    for coding in head.list("transfer-encoding") {
        if coding.eq_ignore_ascii_case(b"identity") {
            continue;
        }
        if chunked {
            return Err(Fault::protocol("a transfer coding behind chunked"));
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            let reason = format!("transfer coding {} is not supported", printable(coding));
            return Err(Fault::new(OpErrorKind::Unsupported, reason));
        }
        chunked = true;
    }
    // A length beside chunked is overridden (case 3), and servers that say HTTP/1.0 send chunks.
    if chunked {
        return Ok(Body::Chunked(Chunked::START));
    }
    match content_length(head.all("content-length")) {
        Ok(None) | Err(_) => Ok(Body::Close),
        Ok(Some(Length::Bytes(n))) if n <= max_body as u64 => Ok(Body::Length(n)),
        Ok(Some(_)) => Err(too_large(max_body)),
    }
}

/// A `Content-Length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(u64),
    /// Digits beyond 64 bits.
    Huge,
}

/// The length all fields agree on; a list of the same number counts once (RFC 9112 §6.3).
pub(super) fn content_length<'a>(
    values: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Length>, Fault> {
    let mut agreed = None;
    for value in values.flat_map(|value| value.split(|&b| b == b',')) {
        let value = value.trim_ascii();
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Fault::protocol("malformed Content-Length"));
        }
        let length = value.iter().try_fold(0u64, |n, digit| {
            n.checked_mul(10)?.checked_add((digit - b'0').into())
        });
        let length = length.map_or(Length::Huge, Length::Bytes);
        if agreed.is_some_and(|before| before != length) {
            return Err(Fault::protocol("two different Content-Lengths"));
        }
        agreed = Some(length);
    }
    Ok(agreed)
}

/// How the body is compressed, asked for or not.
fn content_coding(head: &Head<'_>) -> Result<Option<Coding>, Fault> {
    let mut codings = head
        .list("content-encoding")
        .filter(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let Some(name) = codings.next() else {
        return Ok(None);
    };
    match (Coding::named(name), codings.next()) {
        (Some(coding), None) => Ok(Some(coding)),
        (None, _) | (_, Some(_)) => {
            let reason = format!(
                "the answer is compressed ({}), which is not supported",
                printable(name)
            );
            Err(Fault::new(OpErrorKind::Unsupported, reason))
        }
    }
}

/// The values of all fields of this name, in order.
pub(super) fn all<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}
