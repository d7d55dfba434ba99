//! The head of an answer: what it means for the body (RFC 9112 §6.3).

use alloc::{format, string::String, vec::Vec};

use httparse::{EMPTY_HEADER, Header, Status};

use super::{
    Fault, MAX_HEAD, MAX_HEADERS,
    body::{Body, Chunked, too_large},
};
use crate::{op::OpErrorKind, wire::tracker::printable};

/// How every answer begins; what begins otherwise is not waited for.
const PREFIX: &[u8] = b"HTTP/1.";

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
            if PREFIX
                .get(self.bytes.len())
                .is_some_and(|&want| want != byte)
            {
                return Err(Fault::protocol("the server does not answer in HTTP/1"));
            }
            self.bytes.push(byte);
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
    /// Status, and the body unless there is none.
    Final(u16, Option<Body>),
}

fn read(head: &[u8], max_body: usize) -> Result<Answer, Fault> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(head) {
        Ok(Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => {
            let reason = format!("the answer has more than {MAX_HEADERS} header fields");
            return Err(Fault::protocol(reason));
        }
        Ok(_) => return Err(Fault::protocol("malformed head of the answer")),
        Err(error) => {
            let reason = format!("malformed head of the answer: {error}");
            return Err(Fault::protocol(reason));
        }
    }
    let (Some(status), Some(minor)) = (response.code, response.version) else {
        return Err(Fault::protocol("malformed head of the answer"));
    };
    let headers = &*response.headers;
    match status {
        0..100 | 101 => {
            let reason = format!("status {status} answers no GET");
            Err(Fault::protocol(reason))
        }
        102..200 | 100 => Ok(Answer::Interim),
        301 | 302 | 303 | 307 | 308 if let Some(to) = all(headers, "location").next() => {
            match core::str::from_utf8(to) {
                Ok(to) => Ok(Answer::Redirect(to.into())),
                Err(_) => Err(Fault::protocol("the Location of the redirect is not UTF-8")),
            }
        }
        204 | 304 => Ok(Answer::Final(status, None)),
        _ => {
            let body = framing(headers, minor, max_body)?;
            if !matches!(body, Body::Length(0)) {
                content_coding(headers)?;
            }
            Ok(Answer::Final(status, Some(body)))
        }
    }
}

/// Where the body ends (RFC 9112 §6.3, cases 3 to 8).
fn framing(headers: &[Header<'_>], minor: u8, max_body: usize) -> Result<Body, Fault> {
    let mut chunked = false;
    let mut coded = false;
    for coding in list(headers, "transfer-encoding") {
        coded = true;
        if chunked {
            return Err(Fault::protocol("a transfer coding behind chunked"));
        }
        if !coding.eq_ignore_ascii_case(b"chunked") {
            let reason = format!("transfer coding {} is not supported", printable(coding));
            return Err(Fault::new(OpErrorKind::Unsupported, reason));
        }
        chunked = true;
    }
    if coded && minor == 0 {
        // RFC 9112 §6.1: the framing is faulty, whatever the length says.
        return Err(Fault::protocol("a transfer coding in an HTTP/1.0 answer"));
    }
    // A length beside chunked is overridden (case 3). No later request follows on this
    // connection, so a server that smuggles gains nothing.
    if chunked {
        return Ok(Body::Chunked(Chunked::START));
    }
    match content_length(all(headers, "content-length"))? {
        None => Ok(Body::Close),
        Some(Length::Bytes(n)) if n <= max_body as u64 => Ok(Body::Length(n)),
        Some(_) => Err(too_large(max_body)),
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

/// Refuses what we did not ask for and cannot undo.
fn content_coding(headers: &[Header<'_>]) -> Result<(), Fault> {
    match list(headers, "content-encoding").find(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    {
        None => Ok(()),
        Some(coding) => {
            let reason = format!(
                "the answer is compressed ({}), though not asked to be",
                printable(coding)
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

/// The elements of a list-valued field, empty ones left out (RFC 9110 §5.6.1).
fn list<'a>(headers: &[Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    all(headers, name)
        .flat_map(|value| value.split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}
