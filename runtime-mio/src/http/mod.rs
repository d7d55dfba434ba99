//! HTTP and HTTPS GET by a blocking client: trackers, and torrent files by URL.
//!
//! A request takes a thread of a small pool for as long as it lasts. No connection is kept: a
//! tracker is asked again after half an hour, and an idle one costs memory and a descriptor.

mod connect;

use std::{error::Error as _, io, io::Read, time::Duration};

use dunlin_core::{
    http::Refused,
    op::{Family, HttpRequest, OpErrorKind, Outcome},
};
use dunlin_std::{add::shown, socket::Route};
use ureq::{
    Agent,
    config::{Config, IpFamily},
    tls::{RootCerts, TlsConfig},
    unversioned::transport::{Connector, RustlsConnector},
};

use self::connect::{Names, Streams};

/// Redirects that are followed.
const MAX_REDIRECTS: u32 = 5;
/// Beyond a request's own limit, for a name that the system's resolver does not let go of.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long fetching a torrent file by URL may take.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest head of an answer, and longest request with its head, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Http {
    config: Config,
    route: Route,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: OpErrorKind,
    pub(crate) reason: String,
}

impl Http {
    pub(crate) fn new(route: Route) -> Self {
        // Mozilla's roots compiled in: the same trust on every system, also on a bare router.
        let tls = TlsConfig::builder().root_certs(RootCerts::WebPki).build();
        let config = Config::builder()
            .tls_config(tls)
            // The environment's proxy is for browsers; ours comes from the configuration.
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(MAX_REDIRECTS)
            .max_redirects_will_error(true)
            .max_idle_connections(0)
            // Each thread has its own; small machines have little to spare.
            .max_response_header_size(MAX_HEAD)
            .input_buffer_size(2 * MAX_HEAD)
            .output_buffer_size(MAX_HEAD)
            .build();
        Self { config, route }
    }

    /// The client for one request: it knows where the redirects of this one may lead.
    fn agent(&self, request: &HttpRequest) -> Agent {
        let streams = Streams::new(self.route.clone()).chain(RustlsConnector::default());
        let names = Names::new(self.route.clone(), request.origin);
        Agent::with_parts(self.config.clone(), streams, names)
    }

    /// Answers an HTTP op. Blocks.
    pub(crate) fn answer(&self, request: &HttpRequest) -> Outcome {
        match self.get(request) {
            Ok(Answer { status, body }) => Outcome::Http { status, body },
            Err(Failure { kind, reason }) => {
                Outcome::failed(kind, format!("{}: {reason}", shown(&request.url)))
            }
        }
    }

    /// Makes a request. The body is cut off, with an error, at the request's limit. Blocks.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        let mut response = self
            .agent(request)
            .get(&request.url)
            .config()
            .user_agent(&request.user_agent)
            .ip_family(match request.family {
                Some(Family::V4) => IpFamily::Ipv4Only,
                Some(Family::V6) => IpFamily::Ipv6Only,
                None => IpFamily::Any,
            })
            .timeout_global(Some(request.timeout))
            .build()
            .call()
            .map_err(|error| failure(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        // One byte more than allowed tells that there is more.
        response
            .body_mut()
            .as_reader()
            .take(request.max_body as u64 + 1)
            .read_to_end(&mut body)
            .map_err(|error| failure(&ureq::Error::from(error)))?;
        if body.len() > request.max_body {
            return Err(Failure {
                kind: OpErrorKind::TooLarge,
                reason: format!("the answer is longer than {} bytes", request.max_body),
            });
        }
        Ok(Answer { status, body })
    }
}

fn failure(error: &ureq::Error) -> Failure {
    use ureq::Error as E;
    let kind = match error {
        E::Timeout(_) => OpErrorKind::TimedOut,
        E::HostNotFound => OpErrorKind::NotFound,
        E::Tls(_) | E::Rustls(_) | E::TlsRequired => OpErrorKind::Tls,
        E::Io(error) => io_kind(error),
        E::Decompress(_, error) => io_kind(error),
        E::Other(cause) if cause.is::<Refused>() => OpErrorKind::Denied,
        _ => OpErrorKind::Io,
    };
    Failure {
        kind,
        reason: words(error),
    }
}

/// An I/O error may hide what it wraps.
fn io_kind(error: &io::Error) -> OpErrorKind {
    if let Some(inner) = error.get_ref() {
        if inner.is::<rustls::Error>() {
            return OpErrorKind::Tls;
        }
        if let Some(inner) = inner.downcast_ref::<ureq::Error>() {
            return failure(inner).kind;
        }
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return io_kind(inner);
        }
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => OpErrorKind::Refused,
        io::ErrorKind::TimedOut => OpErrorKind::TimedOut,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NotFound => OpErrorKind::NotFound,
        _ => OpErrorKind::Io,
    }
}

fn words(error: &ureq::Error) -> String {
    match (error, error.source()) {
        (ureq::Error::Timeout(_), _) => "no answer in time".into(),
        (ureq::Error::Io(error), _) => error.to_string(),
        (ureq::Error::Other(cause), _) => cause.to_string(),
        (_, Some(source)) => format!("{error}: {source}"),
        (_, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
