//! HTTP and HTTPS GET: trackers, and torrent files by URL.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, OnceLock},
};

use dunlin_core::op::{Family, HttpRequest, OpErrorKind, Outcome};
use dunlin_std::{add::shown, socket::Route};

use super::proxy;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// The client: built when it is first needed, so that a download without HTTP trackers pays
/// neither the memory nor the time. One for every family that a request may insist on.
#[derive(Debug)]
pub(crate) struct Http {
    route: Route,
    clients: [OnceLock<Result<reqwest::Client, String>>; 3],
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
    pub(crate) fn new(route: Route) -> Arc<Self> {
        Arc::new(Self {
            route,
            clients: [const { OnceLock::new() }; 3],
        })
    }

    /// Answers an HTTP op.
    pub(crate) async fn answer(self: Arc<Self>, request: HttpRequest) -> Outcome {
        match self.get(&request).await {
            Ok(Answer { status, body }) => Outcome::Http { status, body },
            Err(Failure { kind, reason }) => {
                Outcome::failed(kind, format!("{}: {reason}", shown(&request.url)))
            }
        }
    }

    /// Makes a request. The body is cut off, with an error, at the request's limit.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) async fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        let client = self.client(request.family)?;
        let mut response = client
            .get(&request.url)
            .header(reqwest::header::USER_AGENT, &request.user_agent)
            .timeout(request.timeout)
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if chunk.len() > request.max_body - body.len() {
                return Err(Failure {
                    kind: OpErrorKind::TooLarge,
                    reason: format!("the answer is longer than {} bytes", request.max_body),
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    fn client(&self, family: Option<Family>) -> Result<&reqwest::Client, Failure> {
        let slot = match family {
            None => 0,
            Some(Family::V4) => 1,
            Some(Family::V6) => 2,
        };
        self.clients[slot]
            .get_or_init(|| self.build(family).map_err(|error| chain(&error)))
            .as_ref()
            .map_err(|reason| Failure {
                kind: OpErrorKind::Io,
                reason: reason.clone(),
            })
    }

    fn build(&self, family: Option<Family>) -> reqwest::Result<reqwest::Client> {
        let egress = &self.route.egress;
        // The source address decides the family: addresses of the other are not tried.
        let source: Option<IpAddr> = match (family, egress.v4, egress.v6) {
            (Some(Family::V4), v4, _) => Some(v4.unwrap_or(Ipv4Addr::UNSPECIFIED).into()),
            (Some(Family::V6), _, v6) => Some(v6.unwrap_or(Ipv6Addr::UNSPECIFIED).into()),
            (None, Some(v4), _) => Some(v4.into()),
            (None, None, v6) => v6.map(Into::into),
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls())
            // The environment's proxy is for browsers; ours comes from the configuration.
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
            // Announces are minutes apart; and a server that ends a connection without saying so
            // makes the request fail that meant to use it again.
            .pool_max_idle_per_host(0);
        match &self.route.proxy {
            Some(proxy) => builder = builder.proxy(proxy::for_http(proxy)?),
            None => builder = builder.local_address(source),
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(interface) = &egress.interface {
            builder = builder.interface(interface);
        }
        builder.build()
    }
}

/// TLS with Mozilla's roots and ring.
fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn failure(error: &reqwest::Error) -> Failure {
    let kind = if error.is_timeout() {
        OpErrorKind::TimedOut
    } else if let Some(kind) = causes(error).find_map(kind_of) {
        kind
    } else if error.is_connect() {
        OpErrorKind::Refused
    } else {
        OpErrorKind::Io
    };
    Failure {
        kind,
        reason: chain(error),
    }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let mut next = error.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn kind_of(cause: &(dyn std::error::Error + 'static)) -> Option<OpErrorKind> {
    if cause.is::<rustls::Error>() {
        return Some(OpErrorKind::Tls);
    }
    let error = cause.downcast_ref::<io::Error>()?;
    // An I/O error hides what it wraps: its `source` is that of the inner error.
    if let Some(inner) = error.get_ref()
        && let Some(kind) = kind_of(inner)
    {
        return Some(kind);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
            Some(OpErrorKind::Refused)
        }
        io::ErrorKind::TimedOut => Some(OpErrorKind::TimedOut),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NotFound => Some(OpErrorKind::NotFound),
        _ => None,
    }
}

/// The innermost causes say most; the outer ones repeat the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in causes(error) {
        let text = cause.to_string();
        if !words.iter().any(|word| word.contains(&text)) {
            words.push(text);
        }
    }
    match words.len() {
        0 => error.to_string(),
        n => words.split_off(n.saturating_sub(2)).join(": "),
    }
}

#[cfg(test)]
mod tests;
