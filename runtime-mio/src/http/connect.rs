//! How the HTTP client reaches a server: by admitted addresses, from the configured source, or
//! through the proxy alone.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    time::{Duration, Instant as Clock},
};

use dunlin_core::http::{Get, Host, Progress};
use dunlin_std::{
    net::http::{MAX_ADDRESSES, PATIENCE},
    net::proxy::Watch,
    net::resolve,
    net::socket::{self, Route},
    net::socks::{Handshake, Target},
};

use super::NOW;

/// A stream whose every call ends by a deadline.
#[derive(Debug)]
pub(super) struct Stream {
    stream: TcpStream,
    deadline: Clock,
}

/// A stream to the server that is to be asked; `None` if it may not be. Names are looked up on this
/// thread; the pool gives up one that the system does not let go of.
///
/// # Errors
/// What the system or the proxy says.
pub(super) fn open(
    route: &Route,
    watch: Option<&Watch>,
    get: &mut Get,
    deadline: Clock,
) -> io::Result<Option<Stream>> {
    if let Some(proxy) = &route.proxy {
        // The proxy looks the name up, always: looking it up here would go around it.
        if get.handle_proxied(NOW) == Progress::Done {
            return Ok(None);
        }
        let fails = |error: io::Error| match watch {
            // Not what the system says of it: that would be said of the server behind the proxy.
            Some(watch) => io::Error::other(watch.fails(&in_words(&error))),
            None => error,
        };
        // It is named by the user, so its own name may be looked up here.
        let own = look_up(&proxy.host).map_err(fails)?;
        let mut stream = first(route, &own, proxy.port, deadline).map_err(fails)?;
        let target = match get.host() {
            Host::Ip(ip) => Target::Address(SocketAddr::new(ip, get.port())),
            Host::Name(name) => Target::Name(name.to_owned(), get.port()),
        };
        let mut handshake = Handshake::new(proxy, target)?;
        let greeted = greet(&mut stream, &mut handshake);
        if greeted.is_err() && !handshake.is_about_target() {
            return greeted.map(|()| None).map_err(fails);
        }
        if let Some(watch) = watch {
            watch.works();
        }
        return greeted.map(|()| Some(stream));
    }
    let mut found = match get.host() {
        Host::Ip(ip) => vec![ip],
        Host::Name(name) => look_up(name)?,
    };
    found.retain(|ip| route.egress.allows(*ip));
    if get.handle_resolved(NOW, &mut found) == Progress::Done {
        return Ok(None);
    }
    first(route, &found, get.port(), deadline).map(Some)
}

/// The addresses of a host, in the system's order.
///
/// # Errors
/// The name does not exist.
fn look_up(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = (host, 0)
        .to_socket_addrs()
        .map_err(|error| io::Error::new(io::ErrorKind::NotFound, resolve::reason(&error)))?;
    let mut ips: Vec<IpAddr> = Vec::new();
    for ip in found.map(|address| address.ip()) {
        if !ips.contains(&ip) {
            ips.push(ip);
        }
    }
    Ok(ips)
}

/// The first of `addresses` that answers.
fn first(route: &Route, addresses: &[IpAddr], port: u16, deadline: Clock) -> io::Result<Stream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    let addresses = &addresses[..addresses.len().min(MAX_ADDRESSES)];
    for (n, &ip) in addresses.iter().enumerate() {
        let mut limit = left(deadline)?;
        if n + 1 < addresses.len() {
            limit = limit.min(PATIENCE);
        }
        match one(route, SocketAddr::new(ip, port), limit) {
            Ok(stream) => return Ok(Stream { stream, deadline }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn one(route: &Route, address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let socket = socket::outgoing(address, &route.egress)?;
    socket.connect_timeout(&address.into(), limit)?;
    socket.set_nonblocking(false)?;
    socket::tune(&socket);
    Ok(socket.into())
}

/// Time until `deadline`.
///
/// # Errors
/// `TimedOut` when it has passed: the system takes no limit of zero.
fn left(deadline: Clock) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Clock::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// What the system says of a server that did not answer, or of anything else that failed.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        // A blocking call that runs into its limit says `WouldBlock` on Unix.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".into(),
        _ => error.to_string(),
    }
}

/// Asks the proxy at the other end.
fn greet(stream: &mut Stream, handshake: &mut Handshake) -> io::Result<()> {
    let mut buf = [0; 512];
    loop {
        stream.write_all(handshake.output())?;
        handshake.sent(handshake.output().len());
        let want = handshake.wanted().min(buf.len());
        let len = stream.read(&mut buf[..want])?;
        if len == 0 {
            let reason = "it hung up";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        if handshake.input(&buf[..len])? {
            return Ok(());
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(buf)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
