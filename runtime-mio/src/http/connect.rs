//! How the HTTP client reaches a server: by addresses of the wanted family, from the configured
//! source, or through the proxy alone.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use dunlin_core::http::{Origin, Policy, Refused};
use dunlin_std::{
    socket::{self, Route},
    socks::{Handshake, Target},
};
use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
    },
};

/// Where a time limit is not known, so that a thread comes back some time.
const LONG: Duration = Duration::from_secs(120);

/// The names of one request and its redirects, looked up on the thread that asks; the pool gives up
/// one that the system does not let go of. With a proxy, nothing is looked up here.
///
/// The client asks once for each server, the first one's first, and connects to what it is told:
/// so this is where addresses are held against the [`Policy`].
#[derive(Debug)]
pub(super) struct Names {
    route: Route,
    policy: Mutex<Policy>,
}

impl Names {
    pub(super) const fn new(route: Route, origin: Origin) -> Self {
        Self {
            route,
            policy: Mutex::new(Policy::new(origin)),
        }
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let (host, port) = host_and_port(uri)?;
        let mut out = self.empty();
        let mut policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = |why: Refused| Error::Other(Box::new(why));
        if self.route.proxy.is_some() {
            policy.admit_name(&host, uri.path()).map_err(refused)?;
            // A place holder: the stream is asked for by name.
            out.push(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port));
            return Ok(out);
        }
        let found = (host.as_str(), port).to_socket_addrs()?;
        let egress = &self.route.egress;
        let mut admitted: Vec<IpAddr> = config
            .ip_family()
            .keep_wanted(found)
            .map(|address| address.ip())
            .filter(|ip| egress.allows(*ip))
            .collect();
        policy.admit(&mut admitted, uri.path()).map_err(refused)?;
        for ip in admitted.into_iter().take(MAX_ADDRESSES) {
            out.push(SocketAddr::new(ip, port));
        }
        if out.is_empty() {
            return Err(Error::HostNotFound);
        }
        Ok(out)
    }
}

/// Addresses of a server that are tried; what the client has room for.
const MAX_ADDRESSES: usize = 16;

fn host_and_port(uri: &Uri) -> Result<(String, u16), Error> {
    let bad = || Error::BadUri("no host".into());
    let host = uri.host().ok_or_else(bad)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let port = match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, _) => 80,
    };
    Ok((bare.unwrap_or(host).to_owned(), port))
}

/// Opens streams.
#[derive(Debug)]
pub(super) struct Streams {
    route: Route,
}

impl Streams {
    pub(super) const fn new(route: Route) -> Self {
        Self { route }
    }

    fn open(&self, details: &ConnectionDetails<'_>) -> io::Result<TcpStream> {
        let limit = details.timeout.not_zero().map_or(LONG, |limit| *limit);
        let deadline = Instant::now() + limit;
        let Some(proxy) = &self.route.proxy else {
            return self.first(details.addrs.iter().copied(), deadline);
        };
        // The proxy is named by the user, so its name may be looked up here.
        let addresses = (proxy.host.as_str(), proxy.port).to_socket_addrs()?;
        let stream = self.first(addresses, deadline)?;
        let (host, port) = host_and_port(details.uri).map_err(Error::into_io)?;
        let target = match host.parse::<IpAddr>() {
            Ok(ip) => Target::Address(SocketAddr::new(ip, port)),
            Err(_) => Target::Name(host, port),
        };
        greet(&stream, Handshake::new(proxy, target)?, deadline)?;
        Ok(stream)
    }

    /// The first of `addresses` that answers; what is left of the time is shared evenly.
    fn first(
        &self,
        addresses: impl Iterator<Item = SocketAddr>,
        deadline: Instant,
    ) -> io::Result<TcpStream> {
        let addresses: Vec<SocketAddr> = addresses.take(MAX_ADDRESSES).collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
        for (tried, &address) in (0u32..).zip(&addresses) {
            let others = u32::try_from(addresses.len()).unwrap_or(1) - tried;
            match self.one(address, left(deadline)? / others) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn one(&self, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let socket = socket::outgoing(address, &self.route.egress)?;
        socket.connect_timeout(&address.into(), limit)?;
        socket.set_nonblocking(false)?;
        socket::tune(&socket);
        Ok(socket.into())
    }
}

/// Time until `deadline`.
///
/// # Errors
/// `TimedOut` when it has passed: the system takes no limit of zero.
fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// Asks the proxy at the other end.
fn greet(mut stream: &TcpStream, mut handshake: Handshake, deadline: Instant) -> io::Result<()> {
    let mut buf = [0; 512];
    loop {
        stream.set_write_timeout(Some(left(deadline)?))?;
        stream.write_all(handshake.output())?;
        handshake.sent(handshake.output().len());
        let want = handshake.wanted().min(buf.len());
        stream.set_read_timeout(Some(left(deadline)?))?;
        let len = stream.read(&mut buf[..want])?;
        if len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the proxy hung up",
            ));
        }
        if handshake.input(&buf[..len])? {
            return Ok(());
        }
    }
}

impl Connector for Streams {
    type Out = Stream;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Stream>, Error> {
        let stream = self
            .open(details)
            .map_err(|error| in_time(error, details.timeout))?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Stream { stream, buffers }))
    }
}

/// A system's time-out, in the client's terms.
fn in_time(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        // A blocking read that runs into its limit says `WouldBlock` on Unix.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

/// One connection.
pub(super) struct Stream {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.stream).finish()
    }
}

/// What is left for one call; `None` without limit.
fn limit(timeout: NextTimeout) -> Result<Option<Duration>, Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    Ok(timeout.not_zero().map(|limit| *limit))
}

impl Transport for Stream {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(limit(timeout)?)?;
        let output = &self.buffers.output()[..amount];
        let written = (&self.stream).write_all(output);
        written.map_err(|error| in_time(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(limit(timeout)?)?;
        let input = self.buffers.input_append_buf();
        let amount = loop {
            match (&self.stream).read(input) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.map_err(|error| in_time(error, timeout))?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // None is kept, so none is asked for again.
        false
    }
}
