//! A small HTTP/1.1, without I/O: one GET over TCP, or over TLS where the platform brings it, and
//! the two functions a simulated server needs.
//!
//! ```text
//!  Get:  Head ──1xx──▶ Head ──▶ Body ──▶ Done ──▶ Outcome
//!          └──Location──▶ Progress::Redirect: a new stream, Head again (at most five times)
//! ```
//!
//! [`Get`] is stream-shaped: the driver opens a stream to [`Get::host`] and [`Get::port`], sends
//! [`Get::write_buf`], hands in what it reads, and takes the [`Outcome`](crate::Outcome) once a
//! call answers [`Progress::Done`]:
//!
//! ```
//! use core::time::Duration;
//! use dunlin_core::http::{Get, Host, HttpRequest, Origin, Progress};
//! use dunlin_core::{Instant, Outcome};
//!
//! let request = HttpRequest {
//!     url: "http://tracker.example:6969/announce?port=1".into(),
//!     user_agent: "example".into(),
//!     family: None,
//!     max_body: 65536,
//!     timeout: Duration::from_secs(30),
//!     origin: Origin::Torrent,
//! };
//! let now = Instant::ORIGIN;
//! let mut get = Get::new(now, &request)?;
//! assert_eq!((get.host(), get.port()), (Host::Name("tracker.example"), 6969));
//! // Resolve, leave what may be asked, connect, send what there is to send, read what comes:
//! let mut addresses = vec!["203.0.113.5".parse().unwrap()];
//! assert_eq!(get.handle_resolved(now, &mut addresses), Progress::NeedMore);
//! let sent = get.write_buf().len();
//! get.handle_written(sent);
//! let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nde";
//! assert_eq!(get.handle_read(now, answer), Progress::Done);
//! assert!(matches!(get.into_outcome(), Outcome::Http { status: 200, body } if body == b"de"));
//! # Ok::<(), dunlin_core::OpError>(())
//! ```
//!
//! All drivers use it, so that all read the same trackers (RFC 9110, RFC 9112): the body decoded
//! from its transfer and content coding, whatever the status; redirects followed; the user agent
//! and the URL's user sent; nothing longer than asked for. It asks for the connection to be
//! closed, and keeps no cookies. Trackers are read as they are, see `response.rs`: general clients
//! refuse lines without CR, chunks in HTTP/1.0, blanks in field names, more than a hundred fields
//! or a wrong length, all of which trackers send. A server that lies or stalls costs at most
//! [`MAX_HEAD`] and twice the request's `max_body` of memory and its `timeout` of time.

mod body;
mod coding;
mod get;
mod platform;
mod policy;
#[doc(hidden)]
pub mod request;
mod respond;
mod response;
mod url;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use alloc::string::String;

pub use get::{Get, HttpRequest, Progress};
pub use platform::Platform;
pub use policy::{Origin, Refused};
#[doc(hidden)]
pub use policy::{Policy, is_announce_like};
#[doc(hidden)]
pub use respond::respond;
pub use url::Host;

use crate::outcome::OpErrorKind;

/// The longest head of a response, including interim responses, and the longest trailer section, in bytes.
pub const MAX_HEAD: usize = 16 * 1024;
/// The most header fields of a request.
pub(crate) const MAX_HEADERS: usize = 64;
/// The most redirects that are followed.
#[doc(hidden)]
pub const MAX_REDIRECTS: u8 = 5;
/// The longest URL, of a request or of a `Location`, in bytes.
pub(crate) const MAX_URL: usize = 8 * 1024;
/// The longest chunk-size line with its extensions, in bytes (RFC 9112 §7.1.1).
pub(crate) const MAX_CHUNK_LINE: usize = 256;

/// The reason why a request fails; the URL is added for the [`OpError`](crate::OpError).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    kind: OpErrorKind,
    reason: String,
}

impl Fault {
    fn new(kind: OpErrorKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            reason: reason.into(),
        }
    }

    /// The server violates the protocol.
    fn protocol(reason: impl Into<String>) -> Self {
        Self::new(OpErrorKind::Io, reason)
    }
}
