//! HTTP and HTTPS GET: trackers, and torrent files by URL.
//!
//! Redirects are followed here, not by the client, and names are looked up here: each hop is held
//! against core's [`Policy`], and the client connects to the addresses that were admitted, without
//! a second look-up.

use std::{
    error::Error as _,
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use dunlin_core::{
    http::{Policy, Refused},
    op::{Family, HttpRequest, OpErrorKind, Outcome},
};
use dunlin_std::{add::shown, socket::Route};
use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{LOCATION, USER_AGENT},
};

use super::proxy::{self, Watch};

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 5;

/// The client. A hop gets a client of its own, as it knows that hop's addresses alone; what is
/// costly, the roots of trust, is built when it is first needed.
#[derive(Debug)]
pub(crate) struct Http {
    route: Route,
    /// Of the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    tls: OnceLock<rustls::ClientConfig>,
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
    pub(crate) fn new(route: Route, watch: Option<Arc<Watch>>) -> Arc<Self> {
        Arc::new(Self {
            route,
            watch,
            tls: OnceLock::new(),
        })
    }

    /// The watch over the proxy, if there is one.
    pub(crate) fn watch(&self) -> Option<Arc<Watch>> {
        self.watch.clone()
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
        let whole = tokio::time::timeout(request.timeout, self.follow(request));
        whole.await.unwrap_or_else(|_| {
            Err(Failure {
                kind: OpErrorKind::TimedOut,
                reason: "no answer in time".into(),
            })
        })
    }

    async fn follow(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        let mut policy = Policy::new(request.origin);
        let bad_url = |error| Failure {
            kind: OpErrorKind::Io,
            reason: format!("not a URL: {error}"),
        };
        let mut url = Url::parse(&request.url).map_err(bad_url)?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.ask(request, &mut policy, &url).await?;
            let Some(location) = redirect(&response) else {
                return read(response, request.max_body).await;
            };
            policy.redirected();
            url = url.join(&location).map_err(bad_url)?;
        }
        Err(Failure {
            kind: OpErrorKind::Io,
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// Asks one server.
    async fn ask(
        &self,
        request: &HttpRequest,
        policy: &mut Policy,
        url: &Url,
    ) -> Result<reqwest::Response, Failure> {
        let denied = |refused: Refused| Failure {
            kind: OpErrorKind::Denied,
            reason: refused.to_string(),
        };
        let client = match &self.route.proxy {
            // The proxy looks the name up, always: looking it up here would go around it.
            Some(proxy) => {
                let host = url.host_str().unwrap_or_default();
                policy.admit_name(host, url.path()).map_err(denied)?;
                // It is named by the user, so its own name may be looked up here.
                let own = look_up(&proxy.host, proxy.port).await;
                let own = own.map_err(|failure| self.proxy_failure(&failure.reason))?;
                let (own, source) = self.way(own, None, &proxy.host)?;
                let proxy = proxy::for_http(proxy).map_err(|error| failure(&error))?;
                self.client(source).dns_resolver(Pinned(own)).proxy(proxy)
            }
            None => {
                let (host, port) = host_and_port(url)?;
                let found = look_up(&host, port).await?;
                let (mut found, source) = self.way(found, request.family, &host)?;
                let mut admitted: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
                policy.admit(&mut admitted, url.path()).map_err(denied)?;
                found.retain(|address| admitted.contains(&address.ip()));
                self.client(source).dns_resolver(Pinned(found))
            }
        };
        let client = client.build().map_err(|error| failure(&error))?;
        client
            .get(url.clone())
            .header(USER_AGENT, &request.user_agent)
            .send()
            .await
            .inspect(|_| self.watch.iter().for_each(|watch| watch.works()))
            .map_err(|error| match proxy_unreachable(&error) {
                Some(why) if self.watch.is_some() => self.proxy_failure(&why),
                _ => failure(&error),
            })
    }

    /// Says that the proxy fails, and that the request fails for it.
    fn proxy_failure(&self, why: &dyn Display) -> Failure {
        let reason = match &self.watch {
            Some(watch) => watch.fails(why),
            None => why.to_string(),
        };
        Failure {
            // Not "refused": that would be said of the server behind the proxy.
            kind: OpErrorKind::Io,
            reason,
        }
    }

    /// Those of a host's addresses that traffic may leave for, and where from. The client takes one
    /// source address: where both are given, addresses of the first one's family are kept.
    fn way(
        &self,
        mut found: Vec<SocketAddr>,
        family: Option<Family>,
        host: &str,
    ) -> Result<(Vec<SocketAddr>, Option<IpAddr>), Failure> {
        let egress = &self.route.egress;
        found.retain(|address| match family {
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
            None => true,
        });
        found.retain(|address| egress.allows(address.ip()));
        let Some(first) = found.first().map(SocketAddr::ip) else {
            return Err(Failure {
                kind: OpErrorKind::NotFound,
                reason: format!("{host}: no address of a family that can be used"),
            });
        };
        let source = egress.source(first);
        if source.is_some() {
            found.retain(|address| address.is_ipv4() == first.is_ipv4());
        }
        Ok((found, source))
    }

    fn client(&self, source: Option<IpAddr>) -> reqwest::ClientBuilder {
        let tls = self.tls.get_or_init(tls).clone();
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // The environment's proxy is for browsers; ours comes from the configuration.
            .no_proxy()
            .referer(false)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .local_address(source);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(interface) = &self.route.egress.interface {
            return builder.interface(interface);
        }
        builder
    }
}

/// Answers every look-up of one hop with the addresses that were admitted for it.
struct Pinned(Vec<SocketAddr>);

impl Resolve for Pinned {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(self.0.clone().into_iter());
        Box::pin(std::future::ready(Ok(addresses)))
    }
}

fn host_and_port(url: &Url) -> Result<(String, u16), Failure> {
    let host = url.host_str().map(|host| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        bare.unwrap_or(host).to_owned()
    });
    match (host, url.port_or_known_default(), url.scheme()) {
        (Some(host), Some(port), "http" | "https") => Ok((host, port)),
        _ => Err(Failure {
            kind: OpErrorKind::Unsupported,
            reason: format!(
                "{}: only http and https URLs can be asked",
                shown(url.as_str())
            ),
        }),
    }
}

/// # Errors
/// The name does not exist.
async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(error) => Err(Failure {
            kind: OpErrorKind::NotFound,
            reason: format!("{host}: {error}"),
        }),
    }
}

/// Where an answer leads, if it is a redirect (RFC 9110 §15.4).
fn redirect(response: &reqwest::Response) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

async fn read(mut response: reqwest::Response, max: usize) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
        if chunk.len() > max - body.len() {
            return Err(Failure {
                kind: OpErrorKind::TooLarge,
                reason: format!("the answer is longer than {max} bytes"),
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
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

/// What kept the client from reaching its proxy, if that is why a request failed. The client has no
/// type for it that can be named, only these words before the cause.
fn proxy_unreachable(error: &reqwest::Error) -> Option<String> {
    const WORDS: &str = "failed to create underlying connection";
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    let at = words.iter().position(|text| text.contains(WORDS))?;
    Some(match words.get(at + 1..) {
        Some([.., last]) => last.clone(),
        _ => "it cannot be reached".into(),
    })
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
