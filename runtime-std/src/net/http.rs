//! What the std drivers add to core's HTTP client: TLS, host names beyond ASCII, and messages for errors of
//! the system.
//!
//! A driver opens the streams and moves the bytes in its own way.

use std::{io, sync::Arc, time::Duration};

use dunlin_core::{
    OpErrorKind, Outcome,
    http::{Get, Host, HttpRequest, Platform},
};
use rustls::pki_types::ServerName;

/// The capabilities of this client.
pub const PLATFORM: Platform = Platform {
    tls: true,
    compression: true,
    to_ascii: Some(to_ascii),
};

/// The most addresses of a server that are tried.
pub const MAX_ADDRESSES: usize = 16;
/// How long one of several addresses may take to answer before the next one is tried: longer than any round
/// trip, and short enough that a dead first address does not seem like a hang.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// A host name in ASCII (IDNA, RFC 5891, as browsers do it); `None` if it is not a valid name.
#[must_use]
pub fn to_ascii(host: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii(host).ok()?;
    (!ascii.is_empty()).then_some(ascii)
}

/// TLS with Mozilla's root certificates, compiled in: the same trust on every system, also on a router
/// without any.
///
/// # Panics
/// Never: ring supports TLS 1.2 and 1.3.
#[must_use]
pub fn tls() -> Arc<rustls::ClientConfig> {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// The name that a server's certificate has to have.
///
/// # Errors
/// No certificate can have this name.
pub fn server_name(host: Host<'_>) -> io::Result<ServerName<'static>> {
    match host {
        Host::Ip(ip) => Ok(ServerName::IpAddress(ip.into())),
        Host::Name(name) => ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)),
    }
}

/// Ends a request with an error of the system.
pub fn fail(get: &mut Get, error: &io::Error) {
    let _ = get.fail(kind(error), &error.to_string());
}

/// The kind of an I/O error, which may be that of an error it wraps.
fn kind(error: &io::Error) -> OpErrorKind {
    if let Some(inner) = error.get_ref() {
        if inner.is::<rustls::Error>() {
            return OpErrorKind::Tls;
        }
        if let Some(inner) = inner.downcast_ref::<io::Error>() {
            return kind(inner);
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

/// The answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, decoded from transfer and content coding.
    pub body: Vec<u8>,
}

/// The reason why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What a program can act on.
    pub kind: OpErrorKind,
    /// For people, without the URL.
    pub reason: String,
}

/// The result of `request`, for a caller that names the URL in its own message.
///
/// # Errors
/// See [`Failure`].
pub fn result(request: &HttpRequest, outcome: Outcome) -> Result<Answer, Failure> {
    match outcome {
        Outcome::Http { status, body } => Ok(Answer { status, body }),
        Outcome::Failed { error, .. } => {
            let url = format!("{}: ", shown(&request.url));
            let reason = error.detail.strip_prefix(&url).unwrap_or(&error.detail);
            Err(Failure {
                kind: error.kind,
                reason: reason.into(),
            })
        }
        _ => Err(Failure {
            kind: OpErrorKind::Cancelled,
            reason: "cancelled".into(),
        }),
    }
}

/// The URL without its query, which is long, binary, and may contain a passkey.
#[must_use]
pub fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_secrets() {
        assert_eq!(
            shown("http://host/announce?key=1#x"),
            "http://host/announce"
        );
        assert_eq!(shown("http://host/a#x"), "http://host/a");
    }

    #[test]
    fn names_beyond_ascii_are_written_in_ascii() {
        for (name, ascii) in [
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.example", Some("xn--bcher-kva.example")),
            ("трекер.рф", Some("xn--e1aaowdh.xn--p1ai")),
            ("例え。jp", Some("xn--r8jz45g.jp")),
            ("tracker.example", Some("tracker.example")),
            ("\u{ad}", None),
            ("xn--a\u{308}", None),
        ] {
            let got = to_ascii(name);
            assert_eq!(got.as_deref(), ascii, "{name}");
        }
    }
}
