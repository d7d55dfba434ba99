//! The guest on a network under virtual time: a TCP/IP stack and its sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;
use dunlin_smoltcp::time::{to_engine, to_stack};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use super::guest::{Door, Guest, Life, Line, Post};

/// The buffer of a socket in bytes, in each direction.
const RING: usize = 64 << 10;
/// The sockets that listen on a port: the stack has no backlog.
const BACKLOG: usize = 8;
/// The most datagrams that a socket keeps.
const DATAGRAMS: usize = 64;
/// The first port that is chosen automatically.
const FIRST_PORT: u16 = 20_000;

/// A network card whose packets are taken and inserted by hand.
#[derive(Debug, Default)]
pub(super) struct Card {
    /// Packets for the stack.
    pub(super) rx: VecDeque<Vec<u8>>,
    /// Packets of the stack.
    pub(super) tx: Vec<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Rx(Vec<u8>);
#[derive(Debug)]
pub(super) struct Tx<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Card {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.rx.pop_front()?;
        Some((Rx(packet), Tx(&mut self.tx)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut caps = DeviceCapabilities::default();
        caps.medium = Medium::Ip;
        caps.max_transmission_unit = 1_500;
        caps
    }
}

/// The stack.
pub(super) struct StackGuest {
    pub(super) card: Card,
    iface: Interface,
    sockets: SocketSet<'static>,
    ips: [IpAddr; 2],
    doors: Vec<(SocketAddr, Vec<SocketHandle>)>,
    lines: Vec<Connection>,
    posts: Vec<SocketHandle>,
    next_port: u16,
    now: Instant,
    /// When the stack has to be polled.
    due: Option<Instant>,
    /// The guest was used since its last poll.
    pub(super) touched: bool,
}

struct Connection {
    handle: SocketHandle,
    reset: bool,
    was_open: bool,
}

fn endpoint(addr: SocketAddr) -> IpEndpoint {
    IpEndpoint::new(addr.ip().into(), addr.port())
}

fn listener(addr: SocketAddr) -> tcp::Socket<'static> {
    let ring = || tcp::SocketBuffer::new(vec![0; RING]);
    let mut socket = tcp::Socket::new(ring(), ring());
    let local = IpListenEndpoint::from(endpoint(addr));
    socket.listen(local).unwrap();
    socket
}

impl StackGuest {
    /// A machine with these two addresses, IPv4 and IPv6; all others are on its link.
    pub(super) fn new(now: Instant, ips: [IpAddr; 2]) -> Self {
        let mut card = Card::default();
        let config = Config::new(HardwareAddress::Ip);
        let mut iface = Interface::new(config, &mut card, to_stack(now));
        iface.update_ip_addrs(|addrs| {
            for ip in ips {
                let prefix = if ip.is_ipv4() { 8 } else { 16 };
                addrs.push(IpCidr::new(ip.into(), prefix)).unwrap();
            }
        });
        Self {
            card,
            iface,
            sockets: SocketSet::new(Vec::new()),
            ips,
            doors: Vec::new(),
            lines: Vec::new(),
            posts: Vec::new(),
            next_port: FIRST_PORT,
            now,
            due: None,
            touched: false,
        }
    }

    /// Runs the stack.
    pub(super) fn poll(&mut self, now: Instant) {
        self.now = now;
        self.touched = false;
        let at = to_stack(now);
        self.iface.poll(at, &mut self.card, &mut self.sockets);
        let due = self.iface.poll_at(at, &self.sockets);
        self.due = due.map(|due| to_engine(due).max(now));
    }

    /// When the stack has to be polled.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.touched || !self.card.rx.is_empty() {
            true => Some(self.now),
            false => self.due,
        }
    }

    fn port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    fn socket(&mut self, line: Line) -> &mut tcp::Socket<'static> {
        self.touched = true;
        self.sockets.get_mut(self.lines[line.0].handle)
    }
}

impl Guest for StackGuest {
    fn ip(&self, v6: bool) -> IpAddr {
        self.ips[usize::from(v6)]
    }

    fn listen(&mut self, v6: bool) -> (Door, SocketAddr) {
        let addr = SocketAddr::new(self.ip(v6), self.port());
        let handles = (0..BACKLOG).map(|_| self.sockets.add(listener(addr)));
        let handles = handles.collect();
        self.doors.push((addr, handles));
        (Door(self.doors.len() - 1), addr)
    }

    fn accept(&mut self, door: Door) -> Option<Line> {
        let (addr, handles) = &mut self.doors[door.0];
        let come = handles.iter_mut().find(|handle| {
            let state = self.sockets.get::<tcp::Socket<'_>>(**handle).state();
            !matches!(state, tcp::State::Listen | tcp::State::SynReceived)
        })?;
        let handle = std::mem::replace(come, self.sockets.add(listener(*addr)));
        self.lines.push(Connection {
            handle,
            reset: false,
            was_open: true,
        });
        Some(Line(self.lines.len() - 1))
    }

    fn closed_addr(&mut self, v6: bool) -> SocketAddr {
        SocketAddr::new(self.ip(v6), self.port())
    }

    fn connect(&mut self, to: SocketAddr) -> Line {
        let local = SocketAddr::new(self.ip(to.is_ipv6()), self.port());
        let ring = || tcp::SocketBuffer::new(vec![0; RING]);
        let mut socket = tcp::Socket::new(ring(), ring());
        let cx = self.iface.context();
        socket.connect(cx, endpoint(to), endpoint(local)).unwrap();
        self.lines.push(Connection {
            handle: self.sockets.add(socket),
            reset: false,
            was_open: false,
        });
        self.touched = true;
        Line(self.lines.len() - 1)
    }

    fn life(&mut self, line: Line) -> Life {
        let connection = &mut self.lines[line.0];
        let socket = self.sockets.get::<tcp::Socket<'_>>(connection.handle);
        if connection.reset {
            return Life::Broken;
        }
        connection.was_open |= socket.may_send();
        match socket.state() {
            tcp::State::SynSent | tcp::State::SynReceived => Life::Connecting,
            // Closed by the other side, whether we had closed or not.
            tcp::State::CloseWait
            | tcp::State::LastAck
            | tcp::State::Closing
            | tcp::State::TimeWait => match socket.can_recv() {
                true => Life::Open,
                false => Life::Finished,
            },
            tcp::State::Closed => Life::Broken,
            _ => Life::Open,
        }
    }

    fn read(&mut self, line: Line, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let len = self.socket(line).recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    fn write(&mut self, line: Line, bytes: &[u8]) -> usize {
        self.socket(line).send_slice(bytes).unwrap_or(0)
    }

    fn finish(&mut self, line: Line) {
        self.socket(line).close();
    }

    fn reset(&mut self, line: Line) {
        self.socket(line).abort();
        self.lines[line.0].reset = true;
    }

    fn bind(&mut self, v6: bool) -> (Post, SocketAddr) {
        let addr = SocketAddr::new(self.ip(v6), self.port());
        (self.bind_at(addr), addr)
    }

    fn bind_at(&mut self, addr: SocketAddr) -> Post {
        let packets = || {
            let meta = vec![udp::PacketMetadata::EMPTY; DATAGRAMS];
            udp::PacketBuffer::new(meta, vec![0; RING])
        };
        let mut socket = udp::Socket::new(packets(), packets());
        socket.bind(endpoint(addr)).unwrap();
        self.posts.push(self.sockets.add(socket));
        Post(self.posts.len() - 1)
    }

    fn send(&mut self, post: Post, to: SocketAddr, bytes: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.posts[post.0]);
        // A datagram may be lost.
        let _ = socket.send_slice(bytes, endpoint(to));
        self.touched = true;
    }

    fn receive(&mut self, post: Post) -> Option<(SocketAddr, Vec<u8>)> {
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.posts[post.0]);
        let (bytes, meta) = socket.recv().ok()?;
        let from = SocketAddr::new(meta.endpoint.addr.into(), meta.endpoint.port);
        Some((from, bytes.to_vec()))
    }
}
