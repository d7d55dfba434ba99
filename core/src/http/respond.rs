//! A server's answer.

use alloc::{format, vec::Vec};

/// A whole response with the body `body`. It is sent completely, and then the stream is closed.
///
/// `status` has three digits. `content_type` is a media type such as `text/plain`, of which characters that
/// may not stand in a header are dropped; an empty one is left out.
#[must_use]
pub fn respond(status: u16, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status:03} {}\r\n", reason(status)).into_bytes();
    let visible = |b: &u8| (b' '..0x7f).contains(b);
    if content_type.bytes().any(|b| visible(&b)) {
        answer.extend_from_slice(b"Content-Type: ");
        answer.extend(content_type.bytes().filter(visible));
        answer.extend_from_slice(b"\r\n");
    }
    // RFC 9110 §8.6: no length where there is no body.
    let bodiless = matches!(status, 100..200 | 204 | 304);
    if !bodiless {
        answer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    answer.extend_from_slice(b"Connection: close\r\n\r\n");
    if !bodiless {
        answer.extend_from_slice(body);
    }
    answer
}

/// What a person reads beside the status (RFC 9110 §15); clients ignore it.
const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
