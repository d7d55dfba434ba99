//! The guest of the machine's own loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::guest::{Door, Guest, Life, Line, Post};

/// The longest datagram that is received.
const DATAGRAM: usize = 2_048;

/// Sockets of the machine.
#[derive(Debug, Default)]
pub(super) struct StdGuest {
    doors: Vec<TcpListener>,
    lines: Vec<Connection>,
    posts: Vec<UdpSocket>,
    /// A listener whose backlog is full, and the connections in it.
    silent: Option<(TcpListener, Vec<TcpStream>)>,
    taken: Vec<(TcpListener, UdpSocket)>,
}

#[derive(Debug)]
struct Connection {
    stream: Option<TcpStream>,
    life: Life,
}

fn ip(v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::LOCALHOST.into(),
        true => Ipv6Addr::LOCALHOST.into(),
    }
}

/// Starts to connect without waiting.
fn dial(to: SocketAddr) -> (TcpStream, Life) {
    let family = match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
    let life = match net::connect(&socket, &to) {
        Ok(()) => Life::Open,
        Err(Errno::INPROGRESS) => Life::Connecting,
        Err(_) => Life::Broken,
    };
    (socket.into(), life)
}

impl StdGuest {
    /// See [`super::TestDriver::taken_addr`].
    pub(super) fn taken_addr(&mut self) -> SocketAddr {
        loop {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr = listener.local_addr().unwrap();
            // Another process may use the port for datagrams.
            if let Ok(socket) = UdpSocket::bind(addr) {
                self.taken.push((listener, socket));
                return addr;
            }
        }
    }

    /// See [`super::TestDriver::silent_addr`].
    pub(super) fn silent_addr(&mut self) -> SocketAddr {
        let (listener, waiting) = self.silent.get_or_insert_with(|| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            // Shortens the backlog to one place; the kernel drops further connections.
            net::listen(&listener, 0).unwrap();
            (listener, Vec::new())
        });
        let addr = listener.local_addr().unwrap();
        while waiting.len() < 8 {
            waiting.push(dial(addr).0);
        }
        addr
    }
}

impl Guest for StdGuest {
    fn ip(&self, v6: bool) -> IpAddr {
        ip(v6)
    }

    fn listen(&mut self, v6: bool) -> (Door, SocketAddr) {
        let listener = TcpListener::bind((ip(v6), 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        self.doors.push(listener);
        (Door(self.doors.len() - 1), addr)
    }

    fn accept(&mut self, door: Door) -> Option<Line> {
        let (stream, _) = self.doors[door.0].accept().ok()?;
        stream.set_nonblocking(true).unwrap();
        self.lines.push(Connection {
            stream: Some(stream),
            life: Life::Open,
        });
        Some(Line(self.lines.len() - 1))
    }

    fn closed_addr(&mut self, v6: bool) -> SocketAddr {
        // The kernel does not give the same port out again at once.
        let listener = TcpListener::bind((ip(v6), 0)).unwrap();
        listener.local_addr().unwrap()
    }

    fn connect(&mut self, to: SocketAddr) -> Line {
        let (stream, life) = dial(to);
        self.lines.push(Connection {
            stream: Some(stream),
            life,
        });
        Line(self.lines.len() - 1)
    }

    fn life(&mut self, line: Line) -> Life {
        let connection = &mut self.lines[line.0];
        let Some(stream) = &connection.stream else {
            return Life::Broken;
        };
        if connection.life == Life::Connecting {
            let mut fds = [PollFd::new(stream, PollFlags::OUT)];
            if poll(&mut fds, Some(&Timespec::default())) == Ok(1) {
                let error = sockopt::socket_error(stream);
                connection.life = match error {
                    Ok(Ok(())) => Life::Open,
                    _ => Life::Broken,
                };
            }
        }
        if connection.life == Life::Open {
            match stream.peek(&mut [0]) {
                Ok(0) => connection.life = Life::Finished,
                Err(e) if e.kind() != ErrorKind::WouldBlock => connection.life = Life::Broken,
                _ => {}
            }
        }
        connection.life
    }

    fn read(&mut self, line: Line, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let stream = self.lines[line.0].stream.as_mut();
        let len = stream.and_then(|s| s.read(&mut bytes).ok()).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    fn write(&mut self, line: Line, bytes: &[u8]) -> usize {
        let stream = self.lines[line.0].stream.as_mut();
        stream.and_then(|s| s.write(bytes).ok()).unwrap_or(0)
    }

    fn finish(&mut self, line: Line) {
        if let Some(stream) = &self.lines[line.0].stream {
            // It may have been reset.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn reset(&mut self, line: Line) {
        if let Some(stream) = self.lines[line.0].stream.take() {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    }

    fn bind(&mut self, v6: bool) -> (Post, SocketAddr) {
        let post = self.bind_at((ip(v6), 0).into());
        (post, self.posts[post.0].local_addr().unwrap())
    }

    fn bind_at(&mut self, addr: SocketAddr) -> Post {
        let socket = UdpSocket::bind(addr).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.posts.push(socket);
        Post(self.posts.len() - 1)
    }

    fn send(&mut self, post: Post, to: SocketAddr, bytes: &[u8]) {
        // A datagram may be lost.
        let _ = self.posts[post.0].send_to(bytes, to);
    }

    fn receive(&mut self, post: Post) -> Option<(SocketAddr, Vec<u8>)> {
        let mut bytes = vec![0; DATAGRAM];
        let (len, from) = self.posts[post.0].recv_from(&mut bytes).ok()?;
        bytes.truncate(len);
        Some((from, bytes))
    }
}
