//! The proxy: SOCKS5 (RFC 1928) with user name and password (RFC 1929).

use std::{io, net::SocketAddr};

use dunlin_core::http::Host;
use dunlin_std::{config::Proxy, net::proxy::Watch};
use tokio::net::TcpStream;
use tokio_socks::{IntoTargetAddr, tcp::Socks5Stream};

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
