//! The proxy: SOCKS5 (RFC 1928) with user name and password (RFC 1929).

use std::{
    fmt::Display,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use dunlin_core::{
    engine::{Event, What},
    http::Host,
};
use dunlin_std::{config::Proxy, torrents::warning};
use tokio::{net::TcpStream, sync::broadcast};
use tokio_socks::{IntoTargetAddr, tcp::Socks5Stream};

/// Says that the proxy itself fails: every peer and tracker behind it fails then, and none of them
/// is to blame. It is said once, and again only after the proxy worked in between.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Host and port; never the login.
    name: String,
    failing: AtomicBool,
    events: broadcast::WeakSender<Event>,
}

impl Watch {
    pub(crate) fn new(proxy: &Proxy, events: broadcast::WeakSender<Event>) -> Arc<Self> {
        let name = match proxy.host.contains(':') {
            true => format!("[{}]:{}", proxy.host, proxy.port),
            false => format!("{}:{}", proxy.host, proxy.port),
        };
        Arc::new(Self {
            name,
            failing: AtomicBool::new(false),
            events,
        })
    }

    /// It did its part, whatever became of the connection behind it.
    pub(super) fn works(&self) {
        self.failing.store(false, Ordering::Relaxed);
    }

    /// It did not; returns that in words.
    pub(super) fn fails(&self, why: &dyn Display) -> String {
        let message = format!("{}: {why}", self.name);
        if !self.failing.swap(true, Ordering::Relaxed)
            && let Some(events) = self.events.upgrade()
        {
            let message = message.clone();
            // Nobody listens: fine.
            let _ = events.send(warning(What::Proxy { message }));
        }
        format!("the proxy {message}")
    }
}

/// Asks the proxy at the other end of `stream` to connect it to a host, whose name the proxy looks
/// up.
pub(super) async fn connect_to(
    proxy: &Proxy,
    watch: &Watch,
    stream: TcpStream,
    host: Host<'_>,
    port: u16,
) -> io::Result<TcpStream> {
    match host {
        Host::Ip(ip) => connect(proxy, watch, stream, SocketAddr::new(ip, port)).await,
        Host::Name(name) => connect(proxy, watch, stream, (name, port)).await,
    }
}

/// Asks the proxy at the other end of `stream` to connect it to `remote`.
pub(super) async fn connect(
    proxy: &Proxy,
    watch: &Watch,
    stream: TcpStream,
    remote: impl IntoTargetAddr<'_>,
) -> io::Result<TcpStream> {
    let stream = match &proxy.login {
        None => Socks5Stream::connect_with_socket(stream, remote).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, remote, user, password).await
        }
    };
    match &stream {
        Err(error) if is_own_fault(error) => drop(watch.fails(error)),
        _ => watch.works(),
    }
    stream.map(Socks5Stream::into_inner).map_err(refusal)
}

/// Whether an answer is about the proxy, and not about the peer behind it.
fn is_own_fault(error: &tokio_socks::Error) -> bool {
    use tokio_socks::Error as Socks;
    !matches!(
        error,
        Socks::HostUnreachable
            | Socks::NetworkUnreachable
            | Socks::ConnectionRefused
            | Socks::TtlExpired
            | Socks::GeneralSocksServerFailure
            | Socks::ConnectionNotAllowedByRuleset
            | Socks::AddressTypeNotSupported
    )
}

/// What the proxy's answer means for the peer behind it.
fn refusal(error: tokio_socks::Error) -> io::Error {
    use tokio_socks::Error as Socks;
    let kind = match &error {
        Socks::Io(inner) => inner.kind(),
        Socks::HostUnreachable => io::ErrorKind::HostUnreachable,
        Socks::NetworkUnreachable => io::ErrorKind::NetworkUnreachable,
        Socks::ConnectionRefused => io::ErrorKind::ConnectionRefused,
        Socks::TtlExpired => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
