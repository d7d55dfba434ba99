//! HTTP and HTTPS GET: trackers, and torrent files by URL.
//!
//! Core's client speaks, over streams that are opened here. Names are looked up here, and each hop
//! is held against core's policy before anything connects.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

use dunlin_core::{
    Instant,
    http::{Get, Host, HttpRequest, Progress},
    op::{OpErrorKind, Outcome},
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

/// Bytes read at once.
const BUFFER: usize = 8 << 10;
/// The runtime's timers limit a request, so its own clock stands still.
const NOW: Instant = Instant::ORIGIN;

/// The client.
#[derive(Debug)]
pub(crate) struct Http {
    route: Route,
    /// Of the proxy, if there is one.
    watch: Option<Arc<Watch>>,
    /// Made when it is first needed: the roots of trust are many.
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

    /// Answers an HTTP op.
    pub(crate) async fn answer(self: Arc<Self>, request: HttpRequest) -> Outcome {
        self.outcome(&request).await
    }

    /// Makes a request for a caller that names the URL itself.
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

    /// Asks one server after another, as redirects lead.
    ///
    /// # Errors
    /// What the system says; a request that is refused is done, and no error here.
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

    /// A stream to the server, or to the proxy's idea of it; `None` if it may not be asked.
    async fn open(&self, get: &mut Get) -> io::Result<Option<TcpStream>> {
        if let Some(proxy) = &self.route.proxy {
            // They come together; nothing goes around the proxy in any case.
            let Some(watch) = &self.watch else {
                return Err(io::Error::other("the proxy is not watched"));
            };
            // The proxy looks the name up, always: looking it up here would go around it.
            if get.handle_proxied(NOW) == Progress::Done {
                return Ok(None);
            }
            // Not what the system says of it: that would be said of the server behind the proxy.
            let unreachable = |error: io::Error| io::Error::other(watch.fails(&error));
            // It is named by the user, so its own name may be looked up here.
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

    /// The first of `addresses` that answers.
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

/// Says what is to be said on a stream, and reads what comes.
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
            // Many servers end a secure stream without saying so.
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
