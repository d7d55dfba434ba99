//! The proxy: SOCKS5 (RFC 1928) with user name and password (RFC 1929).

use std::{io, net::SocketAddr};

use dunlin_std::config::Proxy;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;

/// `proxy` for the HTTP client. Names are resolved by the proxy, always: looking them up here
/// would go around it.
pub(super) fn for_http(proxy: &Proxy) -> reqwest::Result<reqwest::Proxy> {
    let (host, port) = (&proxy.host, proxy.port);
    let url = if host.contains(':') {
        format!("socks5h://[{host}]:{port}")
    } else {
        format!("socks5h://{host}:{port}")
    };
    let for_all = reqwest::Proxy::all(url)?;
    Ok(match &proxy.login {
        Some((user, password)) => for_all.basic_auth(user, password),
        None => for_all,
    })
}

/// Asks the proxy at the other end of `stream` to connect it to `remote`.
pub(super) async fn connect(
    proxy: &Proxy,
    stream: TcpStream,
    remote: SocketAddr,
) -> io::Result<TcpStream> {
    let stream = match &proxy.login {
        None => Socks5Stream::connect_with_socket(stream, remote).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, remote, user, password).await
        }
    };
    stream.map(Socks5Stream::into_inner).map_err(refusal)
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
