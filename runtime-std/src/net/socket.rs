//! Sockets with the options that every driver needs.
//!
//! All are non-blocking. There is one socket for each family: an IPv4 peer must not appear a second time
//! with a mapped address.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use dunlin_core::{CloseReason, OpErrorKind, Outcome};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::config::Proxy;

/// The requested buffer of datagram sockets in bytes; the kernel grants what its limits allow. A burst at
/// line rate fills the default of some 200 KiB within a millisecond.
const UDP_BUFFER: usize = 4 << 20;
/// The most streams waiting to be accepted; the kernel limits it as well.
const BACKLOG: i32 = 512;

/// How traffic leaves this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Source addresses and interface.
    pub egress: Egress,
    /// The proxy for all traffic.
    pub proxy: Option<Proxy>,
}

/// The source of outgoing traffic. Only what is named is used: with an address of one family, nothing
/// leaves over the other. Name resolution is not bound by it, as the system's resolver cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Source address of IPv4 traffic.
    pub v4: Option<Ipv4Addr>,
    /// Source address of IPv6 traffic.
    pub v6: Option<Ipv6Addr>,
    /// The network interface that all traffic is bound to, where the platform supports it (Linux, possibly
    /// with privileges). On other platforms naming one is an error.
    pub interface: Option<String>,
}

impl Egress {
    /// The source address for traffic to `remote`, if one was named.
    pub fn source(&self, remote: IpAddr) -> Option<IpAddr> {
        match remote {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// Whether traffic to `remote` may leave: not if only an address of the other family was named.
    #[must_use]
    pub fn allows(&self, remote: IpAddr) -> bool {
        self.source(remote).is_some() || (self.v4.is_none() && self.v6.is_none())
    }

    /// Fails if traffic to or from `ip` may not leave.
    fn check(&self, ip: IpAddr) -> io::Result<()> {
        if self.allows(ip) {
            return Ok(());
        }
        let (bound, other) = match ip {
            IpAddr::V4(_) => ("IPv6", "IPv4"),
            IpAddr::V6(_) => ("IPv4", "IPv6"),
        };
        Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!("traffic is bound to an {bound} address; name an {other} one to use {other}"),
        ))
    }

    /// The address to listen on when `local` is asked for: the source address of its family, if one was
    /// named.
    pub fn listen(&self, local: SocketAddr) -> SocketAddr {
        match self.source(local.ip()) {
            Some(source) if local.ip().is_unspecified() => SocketAddr::new(source, local.port()),
            _ => local,
        }
    }

    fn bind_interface(&self, socket: &Socket) -> io::Result<()> {
        let Some(name) = &self.interface else {
            return Ok(());
        };
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return socket.bind_device(Some(name.as_bytes()));
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = (socket, name);
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this platform cannot bind sockets to an interface; give an address",
            ))
        }
    }
}

fn socket(local: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        // An IPv4 peer must not appear a second time with a mapped address.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// A socket at a local address. An address that was named is used; an unspecified one is refused if only
/// the other family was named.
fn own(local: SocketAddr, egress: &Egress, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    if local.ip().is_unspecified() {
        egress.check(local.ip())?;
    }
    socket(local, kind, protocol)
}

/// Whether this machine supports IPv6.
#[must_use]
pub fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| socket.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into()))
        .is_ok()
}

/// The first of `ports` that is free at all `addresses`, for streams and datagrams; `None` if all are in
/// use. Another process may still take it first. A port that cannot be bound for another reason counts as
/// free: binding it then returns that reason.
#[must_use]
pub fn free_port(ports: RangeInclusive<u16>, addresses: &[IpAddr]) -> Option<u16> {
    let free = |&port: &u16| {
        addresses.iter().all(|&address| {
            let local = SocketAddr::new(address, port);
            let bound = |kind, protocol| {
                let socket = socket(local, kind, protocol)?;
                #[cfg(unix)]
                socket.set_reuse_address(kind == Type::STREAM)?;
                socket.bind(&local.into())
            };
            let kinds = [(Type::STREAM, Protocol::TCP), (Type::DGRAM, Protocol::UDP)];
            kinds.into_iter().all(|(kind, protocol)| {
                let refused = bound(kind, protocol).err();
                refused.is_none_or(|error| error.kind() != io::ErrorKind::AddrInUse)
            })
        })
    };
    ports.into_iter().find(free)
}

/// A datagram socket with the largest receive buffer that the system grants.
///
/// # Errors
/// The platform's error.
pub fn udp(local: SocketAddr, egress: &Egress) -> io::Result<Socket> {
    let socket = own(local, egress, Type::DGRAM, Protocol::UDP)?;
    egress.bind_interface(&socket)?;
    // A small buffer is not a reason to fail.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER / 4);
    socket.bind(&local.into())?;
    Ok(socket)
}

/// A socket that listens for streams.
///
/// # Errors
/// The platform's error.
pub fn listener(local: SocketAddr, egress: &Egress) -> io::Result<Socket> {
    let socket = own(local, egress, Type::STREAM, Protocol::TCP)?;
    egress.bind_interface(&socket)?;
    // On Windows this option would let another process take over the port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&local.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// The address that a socket is bound to.
///
/// # Errors
/// The platform's error.
pub fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    let local = socket.local_addr()?;
    local.as_socket().ok_or(io::ErrorKind::Unsupported.into())
}

/// A socket to connect to `remote`; see [`connect`].
///
/// # Errors
/// The platform's error.
pub fn outgoing(remote: SocketAddr, egress: &Egress) -> io::Result<Socket> {
    egress.check(remote.ip())?;
    let source = egress.source(remote.ip());
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let local = SocketAddr::new(source.unwrap_or(any), 0);
    let socket = socket(local, Type::STREAM, Protocol::TCP)?;
    egress.bind_interface(&socket)?;
    if source.is_some() {
        socket.bind(&local.into())?;
    }
    Ok(socket)
}

/// Starts to connect; the result is known when the socket becomes writable.
///
/// # Errors
/// The attempt failed at once.
pub fn connect(socket: &Socket, remote: SocketAddr) -> io::Result<()> {
    match socket.connect(&remote.into()) {
        Err(error) if !in_progress(&error) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn in_progress(error: &io::Error) -> bool {
    rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::INPROGRESS)
}

#[cfg(not(unix))]
fn in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Sets the options of streams: requests are small and must not wait for an acknowledgement
/// (`TCP_NODELAY`).
pub fn tune<'s>(stream: impl Into<SockRef<'s>>) {
    // If the stream has ended, reading it will say so.
    let _ = stream.into().set_tcp_nodelay(true);
}

/// Makes dropping `stream` a reset that discards unsent data.
pub fn abort_on_drop<'s>(stream: impl Into<SockRef<'s>>) {
    let _ = stream.into().set_linger(Some(Duration::ZERO));
}

/// Whether `error` means that this process or machine has no descriptor or memory left for another socket,
/// so that trying again at once is useless.
#[must_use]
pub fn out_of_resources(error: &io::Error) -> bool {
    if error.kind() == io::ErrorKind::OutOfMemory {
        return true;
    }
    // EMFILE, ENFILE, ENOMEM, ENOBUFS.
    #[cfg(target_os = "linux")]
    const CODES: &[i32] = &[24, 23, 12, 105];
    #[cfg(all(unix, not(target_os = "linux")))]
    const CODES: &[i32] = &[24, 23, 12, 55];
    // WSAEMFILE, WSAENOBUFS.
    #[cfg(windows)]
    const CODES: &[i32] = &[10024, 10055];
    #[cfg(not(any(unix, windows)))]
    const CODES: &[i32] = &[];
    error
        .raw_os_error()
        .is_some_and(|code| CODES.contains(&code))
}

/// The reason for the engine why a stream ended with `error`.
#[must_use]
pub fn close_reason(error: &io::Error) -> CloseReason {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => CloseReason::Reset,
        Kind::ConnectionRefused => CloseReason::Refused,
        Kind::TimedOut => CloseReason::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable => {
            CloseReason::Unreachable
        }
        Kind::UnexpectedEof => CloseReason::Eof,
        _ => CloseReason::Io,
    }
}

/// The outcome of binding `what` that failed.
#[must_use]
pub fn bind_failure(what: SocketAddr, error: &io::Error) -> Outcome {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::PermissionDenied => OpErrorKind::Denied,
        Kind::AddrNotAvailable | Kind::NotFound => OpErrorKind::NotFound,
        Kind::Unsupported => OpErrorKind::Unsupported,
        _ => OpErrorKind::Io,
    };
    Outcome::failed(kind, format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    #[test]
    fn an_address_of_one_family_leaves_the_other_out() {
        let free = Egress::default();
        assert!(free.allows(V4) && free.allows(V6));
        let only_v4 = Egress {
            v4: Some(Ipv4Addr::LOCALHOST),
            ..Egress::default()
        };
        let only_v6 = Egress {
            v6: Some(Ipv6Addr::LOCALHOST),
            ..Egress::default()
        };
        let interface = Egress {
            interface: Some("lo".into()),
            ..Egress::default()
        };
        assert!(interface.allows(V4) && interface.allows(V6));
        for (egress, yes, no) in [(only_v4, V4, V6), (only_v6, V6, V4)] {
            assert!(egress.allows(yes) && !egress.allows(no));
            let any: SocketAddr = match no {
                IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let kinds = [
                outgoing(SocketAddr::new(no, 1), &egress),
                udp(any, &egress),
                listener(any, &egress),
            ];
            for refused in kinds {
                let error = refused.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
            }
        }
    }

    #[test]
    fn a_port_in_use_is_passed_over_and_no_other_reason_counts() {
        let egress = Egress::default();
        let taken = listener((V4, 0).into(), &egress).unwrap();
        let port = taken.local_addr().unwrap().as_socket().unwrap().port();
        let next = free_port(port..=port.saturating_add(100), &[V4]);
        assert!(next.is_some_and(|next| next > port));
        assert_eq!(free_port(port..=port, &[V4]), None);
        let sent = udp((V4, 0).into(), &egress).unwrap();
        let port = sent.local_addr().unwrap().as_socket().unwrap().port();
        assert_eq!(free_port(port..=port, &[V4]), None, "datagrams count, too");
        // An address that the machine does not have: not a problem of the port.
        let foreign: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(free_port(port..=port, &[foreign]), Some(port));
    }

    /// A mapped address would be reached over IPv4, even if a source address is set for IPv6.
    #[test]
    fn a_mapped_address_is_not_reached_over_ipv4() {
        if !has_ipv6() {
            return;
        }
        let server = listener((Ipv4Addr::LOCALHOST, 0).into(), &Egress::default()).unwrap();
        let port = server.local_addr().unwrap().as_socket().unwrap().port();
        let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), port);
        let socket = outgoing(mapped, &Egress::default()).unwrap();
        assert!(connect(&socket, mapped).is_err());
    }
}
