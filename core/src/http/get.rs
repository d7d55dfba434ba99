//! A GET from the URL to the outcome.

use alloc::{format, string::String, vec, vec::Vec};
use core::{net::IpAddr, time::Duration};

use super::platform::Platform;
use super::{
    Fault, Host, MAX_REDIRECTS,
    body::Body,
    coding::Coding,
    policy::{Origin, Policy, Refused},
    response::{Answer, Collector},
    url::{Url, shown},
};
use crate::{
    net::Family,
    outcome::{CloseReason, OpError, OpErrorKind, Outcome},
    time::Instant,
};

/// The most bytes reserved for a body before it arrives, whatever length the server claims.
const MAX_RESERVE: u64 = 16 * 1024;

/// An HTTP GET. Proxy, TLS, redirects and name resolution are up to the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// The absolute `http://` or `https://` URL.
    pub url: String,
    /// The `User-Agent` to send.
    pub user_agent: String,
    /// Connect over this family only, so that a tracker learns both our addresses (BEP 7).
    pub family: Option<Family>,
    /// The longest body that is accepted, in bytes; more is [`OpErrorKind::TooLarge`].
    pub max_body: usize,
    /// The time limit for the whole request.
    pub timeout: Duration,
    /// The source of the URL. With [`Policy`] it decides which addresses the driver may ask.
    pub origin: Origin,
}

/// What a driver has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Continue: send what [`Get::write_buf`] returns, read, wait.
    NeedMore,
    /// Close the stream, open another one to the current [`Get::host`] and [`Get::port`], and continue with
    /// that.
    Redirect,
    /// Close the stream and take [`Get::into_outcome`]. Every later call returns this as well.
    Done,
}

/// A GET, over one stream after another if it is redirected.
///
/// Holds at most [`MAX_HEAD`](super::MAX_HEAD) and `max_body` bytes. Every call is legal at any time, and
/// its work is proportional to the bytes passed in.
#[derive(Debug)]
pub struct Get {
    /// The URL as the application gave it, for messages.
    asked: String,
    platform: Platform,
    url: Url,
    policy: Policy,
    redirects: u8,
    user_agent: String,
    family: Option<Family>,
    max_body: usize,
    timeout: Duration,
    deadline: Instant,
    request: Vec<u8>,
    written: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Head(Collector),
    Body {
        status: u16,
        body: Body,
        coding: Option<Coding>,
        bytes: Vec<u8>,
    },
    Done(Result<(u16, Vec<u8>), OpError>),
}

impl Get {
    /// Starts a request that has to be answered within its `timeout` from `now`, including redirects.
    ///
    /// # Errors
    /// The URL is not an `http://` URL, or its address is of another family than the request demands, or
    /// the user agent is not a valid header value. An `https://` URL is [`OpErrorKind::Unsupported`].
    pub fn new(now: Instant, request: &HttpRequest) -> Result<Self, OpError> {
        Self::on(now, request, Platform::default())
    }

    /// The same on a platform with more capabilities.
    ///
    /// # Errors
    /// As [`Get::new`], except for what the platform supports.
    pub fn on(now: Instant, request: &HttpRequest, platform: Platform) -> Result<Self, OpError> {
        let asked = shown(&request.url);
        let mut policy = Policy::new(request.origin);
        let url = Url::parse(&request.url, platform)
            .and_then(|url| check(url, request))
            .and_then(|url| admitted(url, &mut policy))
            .map_err(|fault| OpError {
                kind: fault.kind,
                detail: format!("{asked}: {}", fault.reason),
            })?;
        let mut get = Self {
            asked,
            platform,
            url,
            policy,
            redirects: 0,
            user_agent: request.user_agent.clone(),
            family: request.family,
            max_body: request.max_body,
            timeout: request.timeout,
            deadline: now + request.timeout,
            request: Vec::new(),
            written: 0,
            stage: Stage::Head(Collector::default()),
        };
        get.begin();
        Ok(get)
    }

    /// The host to connect to; it may change with [`Progress::Redirect`].
    #[must_use]
    pub fn host(&self) -> Host<'_> {
        self.url.host()
    }

    /// The port to connect to; it may change with [`Progress::Redirect`].
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.url.port
    }

    /// Whether the stream has to use TLS, with [`host`](Self::host) as the server's name; it may change
    /// with [`Progress::Redirect`].
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.url.tls
    }

    /// A proxy resolves [`host`](Self::host). Returns [`Progress::Done`] if the name alone shows that it
    /// may not be asked.
    pub fn handle_proxied(&mut self, now: Instant) -> Progress {
        if let Some(progress) = self.over(now) {
            return progress;
        }
        let verdict = match self.url.host() {
            Host::Ip(_) => Ok(()), // was checked
            Host::Name(name) => self.policy.admit_name(name, self.url.path()),
        };
        match verdict {
            Ok(()) => Progress::NeedMore,
            Err(refused) => self.end(refused.into()),
        }
    }

    /// The name of [`host`](Self::host) has these `addresses`. Keeps those that may be connected to: of the
    /// family that the request demands, and allowed by the [`Policy`]. Returns [`Progress::Done`] if there
    /// are none. Addresses in URLs were checked before.
    pub fn handle_resolved(&mut self, now: Instant, addresses: &mut Vec<IpAddr>) -> Progress {
        addresses.retain(|ip| match self.family {
            Some(Family::V4) => ip.is_ipv4(),
            Some(Family::V6) => ip.is_ipv6(),
            None => true,
        });
        if let Some(progress) = self.over(now) {
            addresses.clear();
            return progress;
        }
        match self.policy.admit(addresses, self.url.path()) {
            Err(refused) => self.end(refused.into()),
            Ok(()) if addresses.is_empty() => {
                let reason = "the name has no address of a family that can be used";
                self.fail(OpErrorKind::NotFound, reason)
            }
            Ok(()) => Progress::NeedMore,
        }
    }

    /// The bytes to send on the current stream; empty once all are written.
    #[must_use]
    pub fn write_buf(&self) -> &[u8] {
        match self.stage {
            Stage::Head(_) => &self.request[self.written..],
            // A server that answers has read enough.
            Stage::Body { .. } | Stage::Done(_) => &[],
        }
    }

    /// The stream accepted the first `n` bytes of [`write_buf`](Self::write_buf).
    pub fn handle_written(&mut self, n: usize) {
        self.written = self.written.saturating_add(n).min(self.request.len());
    }

    /// The stream received `data`, all of which is taken.
    pub fn handle_read(&mut self, now: Instant, data: &[u8]) -> Progress {
        if let Some(progress) = self.over(now) {
            return progress;
        }
        match self.read(data) {
            Ok(progress) => progress,
            Err(fault) => self.end(fault),
        }
    }

    /// The server closed its direction of the stream.
    pub fn handle_eof(&mut self, now: Instant) -> Progress {
        if let Some(progress) = self.over(now) {
            return progress;
        }
        match &mut self.stage {
            Stage::Done(_) => Progress::Done,
            Stage::Head(head) => {
                let reason = if head.is_empty() {
                    "the server closed the connection without an answer"
                } else {
                    "the server closed the connection in the middle of the answer's head"
                };
                self.end(Fault::new(OpErrorKind::Truncated, reason))
            }
            Stage::Body { body, bytes, .. } => match body.eof(bytes.len()) {
                Ok(()) => match self.finish() {
                    Ok(progress) => progress,
                    Err(fault) => self.end(fault),
                },
                Err(fault) => self.end(fault),
            },
        }
    }

    /// The stream could not be opened, or broke. If a name has several addresses, only the failure of the
    /// last one is reported here.
    pub fn handle_closed(&mut self, now: Instant, why: CloseReason) -> Progress {
        let (kind, reason) = match why {
            CloseReason::Eof => return self.handle_eof(now),
            CloseReason::Reset => (OpErrorKind::Refused, "the server reset the connection"),
            CloseReason::Refused => (OpErrorKind::Refused, "the server refuses connections"),
            CloseReason::TimedOut => (OpErrorKind::TimedOut, "the server does not respond"),
            CloseReason::Unreachable => (OpErrorKind::NotFound, "no route to the server"),
            CloseReason::Io => (OpErrorKind::Io, "the connection failed"),
        };
        self.fail(kind, reason)
    }

    /// Ends the request for a reason of the driver, such as a name that does not resolve. Does nothing once
    /// it is done.
    pub fn fail(&mut self, kind: OpErrorKind, reason: &str) -> Progress {
        if matches!(self.stage, Stage::Done(_)) {
            return Progress::Done;
        }
        self.end(Fault::new(kind, reason))
    }

    /// The time of [`poll_timeout`](Self::poll_timeout) has passed; a call that comes too early does
    /// nothing.
    pub fn handle_timeout(&mut self, now: Instant) -> Progress {
        self.over(now).unwrap_or(Progress::NeedMore)
    }

    /// The time at which the request is given up; `None` once it is done.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.stage {
            Stage::Done(_) => None,
            Stage::Head(_) | Stage::Body { .. } => Some(self.deadline),
        }
    }

    /// The outcome: [`Outcome::Http`], or [`Outcome::Failed`] with a detail that starts with the URL. A
    /// request that is not done counts as cancelled.
    #[must_use]
    pub fn into_outcome(mut self) -> Outcome {
        let _ = self.fail(OpErrorKind::Cancelled, "cancelled");
        match self.stage {
            Stage::Done(Ok((status, body))) => Outcome::Http { status, body },
            Stage::Done(Err(error)) => Outcome::failed(error.kind, error.detail),
            // `fail` has just ended the request.
            Stage::Head(_) | Stage::Body { .. } => {
                Outcome::failed(OpErrorKind::Cancelled, self.asked)
            }
        }
    }

    /// Writes the request for the current URL, to be sent on a new stream.
    fn begin(&mut self) {
        let mut request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\n",
            self.url.target(),
            self.url.authority()
        );
        if !self.user_agent.is_empty() {
            request.push_str(&format!("User-Agent: {}\r\n", self.user_agent));
        }
        if let Some(login) = &self.url.login {
            request.push_str(&format!("Authorization: Basic {login}\r\n"));
        }
        let coding = if self.platform.compression {
            "gzip"
        } else {
            "identity"
        };
        request.push_str(&format!(
            "Accept: */*\r\nAccept-Encoding: {coding}\r\nConnection: close\r\n\r\n"
        ));
        self.request = request.into_bytes();
        self.written = 0;
        self.stage = Stage::Head(Collector::default());
    }

    fn read(&mut self, mut data: &[u8]) -> Result<Progress, Fault> {
        while let Stage::Head(head) = &mut self.stage {
            let (n, whole) = head.read(data)?;
            if !whole {
                return Ok(Progress::NeedMore);
            }
            data = &data[n..];
            match head.take(self.max_body)? {
                Answer::Interim => {}
                Answer::Redirect(location) => return self.redirect(&location),
                Answer::Final(status, body) => {
                    let Some((body, coding)) = body else {
                        self.stage = Stage::Done(Ok((status, Vec::new())));
                        return Ok(Progress::Done);
                    };
                    let mut bytes = Vec::new();
                    if let Body::Length(len) = body {
                        bytes.reserve(len.min(MAX_RESERVE) as usize);
                    }
                    self.stage = Stage::Body {
                        status,
                        body,
                        coding,
                        bytes,
                    };
                }
            }
        }
        if let Stage::Body { body, bytes, .. } = &mut self.stage
            && !body.read(data, bytes, self.max_body)?
        {
            return Ok(Progress::NeedMore);
        }
        self.finish()
    }

    /// The body is complete.
    fn finish(&mut self) -> Result<Progress, Fault> {
        if let Stage::Body {
            status,
            coding,
            bytes,
            ..
        } = &mut self.stage
        {
            let bytes = core::mem::take(bytes);
            let bytes = match coding {
                Some(coding) if !bytes.is_empty() => coding.decode(&bytes, self.max_body)?,
                _ => bytes,
            };
            self.stage = Stage::Done(Ok((*status, bytes)));
        }
        Ok(Progress::Done)
    }

    fn redirect(&mut self, location: &str) -> Result<Progress, Fault> {
        if self.redirects == MAX_REDIRECTS {
            let reason = format!("more than {MAX_REDIRECTS} redirects");
            return Err(Fault::protocol(reason));
        }
        self.policy.redirected();
        let to = self
            .url
            .join(location, self.platform)
            .and_then(|to| of_family(to, self.family))
            .and_then(|to| admitted(to, &mut self.policy));
        self.url = to.map_err(|fault| {
            let reason = format!("redirected to {}: {}", shown(location), fault.reason);
            Fault::new(fault.kind, reason)
        })?;
        self.redirects += 1;
        self.begin();
        Ok(Progress::Redirect)
    }

    /// Returns [`Progress::Done`] if there is nothing to wait for, including that the time is up now.
    fn over(&mut self, now: Instant) -> Option<Progress> {
        let at = match &self.stage {
            Stage::Done(_) => return Some(Progress::Done),
            _ if now < self.deadline => return None,
            Stage::Head(head) if self.written == 0 && head.is_empty() => "connecting",
            Stage::Head(head) if head.is_empty() => "waiting for the answer",
            Stage::Head(_) => "reading the answer's head",
            Stage::Body { .. } => "reading the answer's body",
        };
        let reason = format!("timed out after {:?}, {at}", self.timeout);
        Some(self.end(Fault::new(OpErrorKind::TimedOut, reason)))
    }

    fn end(&mut self, fault: Fault) -> Progress {
        let via = match self.redirects {
            0 => String::new(),
            _ => format!("redirected to {}: ", self.url),
        };
        self.stage = Stage::Done(Err(OpError {
            kind: fault.kind,
            detail: format!("{}: {via}{}", self.asked, fault.reason),
        }));
        Progress::Done
    }
}

fn check(url: Url, request: &HttpRequest) -> Result<Url, Fault> {
    let visible = |b: u8| b == b'\t' || (b >= b' ' && b != 0x7f);
    if !request.user_agent.bytes().all(visible) {
        return Err(Fault::protocol("the user agent holds control characters"));
    }
    of_family(url, request.family)
}

/// An address in a URL is checked at once, that of a name when it is known.
fn admitted(url: Url, policy: &mut Policy) -> Result<Url, Fault> {
    if let Host::Ip(ip) = url.host() {
        policy.admit(&mut vec![ip], url.path())?;
    }
    Ok(url)
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::new(OpErrorKind::Denied, format!("{refused}"))
    }
}

/// An address of the other family can never be reached.
fn of_family(url: Url, family: Option<Family>) -> Result<Url, Fault> {
    let reason = match (url.host(), family) {
        (Host::Ip(ip), Some(Family::V4)) if ip.is_ipv6() => "an IPv6 address, asked over IPv4",
        (Host::Ip(ip), Some(Family::V6)) if ip.is_ipv4() => "an IPv4 address, asked over IPv6",
        _ => return Ok(url),
    };
    Err(Fault::new(OpErrorKind::NotFound, reason))
}
