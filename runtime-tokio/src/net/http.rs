//! HTTP and HTTPS GET, for trackers and for torrent files by URL.
//!
//! The protocol is core's client; this module opens the streams. Names are resolved here, and the addresses
//! of each hop are checked by core's policy before any connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use dunlin_core::{
    Instant, OpErrorKind, Outcome,
    http::{Get, Host, HttpRequest, Progress},
};
use dunlin_std::{
    net::http::{self, Answer, Failure, MAX_ADDRESSES, PATIENCE, PLATFORM},
    net::proxy::Watch,
    net::resolve,
    net::socket::{self, Route},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::TlsConnector;

use super::proxy;

/// Bytes read at a time.
const BUFFER: usize = 8 << 10;
/// The runtime's timers limit a request, so the client's own clock stands still.
const NOW: Instant = Instant::ORIGIN;

/// The client.
#[derive(Debug)]
pub(crate) struct Http {
    route: Route,
    /// Watches the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    /// Created when it is first needed: loading the root certificates takes time.
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Http {
    pub(crate) fn new(route: Route, watch: Option<Arc<Watch>>) -> Arc<Self> {
        Arc::new(Self {
            route,
            watch,
            tls: OnceLock::new(),
        })
    }

    /// Carries out an HTTP op.
    pub(crate) async fn answer(self: Arc<Self>, request: HttpRequest) -> Outcome {
        self.outcome(&request).await
    }

    /// Makes a request for a caller that names the URL in its own message.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) async fn get(&self, request: &HttpRequest) -> Result<Answer, Failure> {
        http::result(request, self.outcome(request).await)
    }

    async fn outcome(&self, request: &HttpRequest) -> Outcome {
        let mut get = match Get::on(NOW, request, PLATFORM) {
            Ok(get) => get,
            Err(error) => return Outcome::failed(error.kind, error.detail),
        };
        let whole = tokio::time::timeout(request.timeout, self.follow(&mut get)).await;
        match whole {
            Ok(Ok(())) => {}
            Ok(Err(error)) => http::fail(&mut get, &error),
            Err(_) => {
                let _ = get.fail(OpErrorKind::TimedOut, "no answer in time");
            }
        }
        get.into_outcome()
    }

    /// Makes the request and follows redirects.
    ///
    /// # Errors
    /// Errors of the system. A request that was refused has ended, which is not an error here.
    async fn follow(&self, get: &mut Get) -> io::Result<()> {
        loop {
            let Some(mut stream) = self.open(get).await? else {
                return Ok(());
            };
            let step = if get.is_secure() {
                let name = http::server_name(get.host())?;
                let tls = Arc::clone(self.tls.get_or_init(http::tls));
                let mut secure = TlsConnector::from(tls).connect(name, stream).await?;
                exchange(get, &mut secure).await?
            } else {
                exchange(get, &mut stream).await?
            };
            if step != Progress::Redirect {
                return Ok(());
            }
        }
    }

    /// A stream to the server, directly or through the proxy; `None` if the server may not be asked.
    async fn open(&self, get: &mut Get) -> io::Result<Option<TcpStream>> {
        if let Some(proxy) = &self.route.proxy {
            // `watch` and `proxy` are set together; nothing bypasses the proxy in any case.
            let Some(watch) = &self.watch else {
                return Err(io::Error::other("the proxy is not watched"));
            };
            // The proxy always resolves the name: resolving it here would bypass the proxy.
            if get.handle_proxied(NOW) == Progress::Done {
                return Ok(None);
            }
            // Not the system's own error, which would be taken for that of the server.
            let unreachable = |error: io::Error| io::Error::other(watch.fails(&error));
            // The user named the proxy, so its name may be resolved here.
            let own = look_up(&proxy.host).await.map_err(unreachable)?;
            let stream = self.first(&own, proxy.port).await.map_err(unreachable)?;
            return proxy::connect(proxy, watch, stream, get.host(), get.port())
                .await
                .map(Some);
        }
        let mut found = match get.host() {
            Host::Ip(ip) => vec![ip],
            Host::Name(name) => look_up(name).await?,
        };
        found.retain(|ip| self.route.egress.allows(*ip));
        if get.handle_resolved(NOW, &mut found) == Progress::Done {
            return Ok(None);
        }
        self.first(&found, get.port()).await.map(Some)
    }

    /// Connects to the first of `addresses` that answers.
    async fn first(&self, addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
        for (n, &ip) in addresses.iter().enumerate() {
            let one = self.one(SocketAddr::new(ip, port));
            let tried = if n + 1 == addresses.len() {
                one.await
            } else {
                let limited = tokio::time::timeout(PATIENCE, one).await;
                limited.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket::outgoing(address, &self.route.egress)?;
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(address)
            .await?;
        socket::tune(&stream);
        Ok(stream)
    }
}

/// The addresses of a host, in the system's order.
///
/// # Errors
/// The name does not exist.
async fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => {
            let mut ips: Vec<IpAddr> = Vec::new();
            for ip in found.map(|address| address.ip()) {
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
            Ok(ips)
        }
        Err(error) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            resolve::reason(&error),
        )),
    }
}

/// Sends the request, and reads the answer.
async fn exchange<S>(get: &mut Get, stream: &mut S) -> io::Result<Progress>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while !get.write_buf().is_empty() {
        let written = stream.write(get.write_buf()).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        get.handle_written(written);
    }
    stream.flush().await?;
    let mut buf = vec![0; BUFFER];
    loop {
        let step = match stream.read(&mut buf).await {
            Ok(0) => return Ok(get.handle_eof(NOW)),
            Ok(len) => get.handle_read(NOW, &buf[..len]),
            // Many servers end a TLS stream without a close notification.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(get.handle_eof(NOW));
            }
            Err(error) => return Err(error),
        };
        if step != Progress::NeedMore {
            return Ok(step);
        }
    }
}

#[cfg(test)]
mod tests;
