//! Connecting to a server: to admitted addresses, from the configured source, or through the proxy only.

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

/// A stream all of whose calls return by a deadline.
#[derive(Debug)]
pub(super) struct Stream {
    stream: TcpStream,
    deadline: Clock,
}

/// A stream to the server of the request; `None` if it may not be asked. Names are resolved on this thread;
/// the pool gives up one that takes too long.
///
/// # Errors
/// The error of the system or of the proxy.
pub(super) fn open(
    route: &Route,
    watch: Option<&Watch>,
    get: &mut Get,
    deadline: Clock,
) -> io::Result<Option<Stream>> {
    if let Some(proxy) = &route.proxy {
        // The proxy always resolves the name: resolving it here would bypass the proxy.
        if get.handle_proxied(NOW) == Progress::Done {
            return Ok(None);
        }
        let fails = |error: io::Error| match watch {
            // Not the system's own error, which would be taken for that of the server.
            Some(watch) => io::Error::other(watch.fails(&in_words(&error))),
            None => error,
        };
        // The user named the proxy, so its name may be resolved here.
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

/// Connects to the first of `addresses` that answers.
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

/// The time until `deadline`.
///
/// # Errors
/// `TimedOut` when it has passed: the system does not accept a limit of zero.
fn left(deadline: Clock) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Clock::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// The error in words.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        // A blocking call that reaches its limit returns `WouldBlock` on Unix.
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no answer in time".into(),
        _ => error.to_string(),
    }
}

/// Performs the handshake with the proxy at the other end.
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
