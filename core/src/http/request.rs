//! The head of a request, as a simulated server reads it (RFC 9112 §3).

use httparse::{EMPTY_HEADER, Status};

use super::{
    MAX_HEADERS,
    response::{Length, all, content_length},
};

/// The longest head of a request, in bytes; shorter than [`super::MAX_HEAD`] because a server has many
/// clients.
pub const MAX_HEAD: usize = 8 * 1024;

/// A request, borrowed from where it was read. Its body follows the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// `GET`, `POST`, `M-POST`, …; case matters.
    pub method: &'a str,
    /// Path and query, or whatever else the client requested.
    pub target: &'a str,
    /// The `Host` field, or the empty string (only HTTP/1.0 may omit it).
    pub host: &'a str,
    /// The length of the head in bytes: the body follows.
    pub head_len: usize,
    /// The length of the body in bytes (`Content-Length`).
    pub body_len: u64,
    head: &'a [u8],
}

impl<'a> Request<'a> {
    /// The value of the first field of this name, such as `SOAPAction`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        // The head is well-formed: one line for each field, without folding.
        self.head.split(|&b| b == b'\n').skip(1).find_map(|line| {
            let colon = line.iter().position(|&b| b == b':')?;
            let (field, value) = (&line[..colon], &line[colon + 1..]);
            field
                .eq_ignore_ascii_case(name.as_bytes())
                .then(|| value.trim_ascii())
        })
    }
}

/// The reason why a request is invalid; [`BadRequest::status`] is the status of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadRequest {
    /// It is not HTTP/1.0 or HTTP/1.1, or violates its rules.
    Malformed,
    /// The head has more than [`MAX_HEAD`] bytes or too many fields.
    TooLong,
    /// It has a transfer coding: these servers only read bodies of a known length.
    Coded,
    /// It is another version of HTTP.
    Version,
}

impl BadRequest {
    /// The status of the response.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooLong => 431,
            Self::Coded => 501,
            Self::Version => 505,
        }
    }
}

impl core::fmt::Display for BadRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not an HTTP/1 request",
            Self::TooLong => "the head of the request is too long",
            Self::Coded => "requests with a transfer coding are not read",
            Self::Version => "only HTTP/1.0 and HTTP/1.1 are spoken",
        })
    }
}

impl core::error::Error for BadRequest {}

/// Parses the head at the start of `data`, which is everything received so far; `None` if it is not
/// complete yet.
///
/// # Errors
/// It cannot become a valid request, whatever follows.
pub fn parse(data: &[u8]) -> Result<Option<Request<'_>>, BadRequest> {
    let window = &data[..data.len().min(MAX_HEAD)];
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head_len = match request.parse(window) {
        Ok(Status::Complete(len)) => len,
        Ok(Status::Partial) if data.len() < MAX_HEAD => return Ok(None),
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(BadRequest::TooLong);
        }
        Err(httparse::Error::Version) => return Err(BadRequest::Version),
        Err(_) => return Err(BadRequest::Malformed),
    };
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(BadRequest::Malformed);
    };
    let head = &window[..head_len];
    let mut hosts = all(request.headers, "host");
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (None, None) if minor == 0 => &[],
        _ => return Err(BadRequest::Malformed),
    };
    let Ok(host) = core::str::from_utf8(host) else {
        return Err(BadRequest::Malformed);
    };
    if all(request.headers, "transfer-encoding").next().is_some() {
        return Err(BadRequest::Coded);
    }
    let body_len = match content_length(all(request.headers, "content-length")) {
        Ok(None) => 0,
        Ok(Some(Length::Bytes(n))) => n,
        Ok(Some(Length::Huge)) | Err(_) => return Err(BadRequest::Malformed),
    };
    Ok(Some(Request {
        method,
        target,
        host,
        head_len,
        body_len,
        head,
    }))
}
