//! A client that sends one request over TCP and reads the answer until the server closes.

use std::net::{IpAddr, SocketAddr};

use dunlin_core::Instant;
use dunlin_smoltcp::time;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Duration,
    wire::{HardwareAddress, IpAddress, IpCidr},
};

use super::Cable;
use crate::{host::HostCx, packet::Packet};

/// The size of the connection's buffer in each direction.
const BUFFER: usize = 16 << 10;
/// The longest answer. What exceeds it is dropped.
const MAX_ANSWER: usize = 256 << 10;
/// A server that is silent for this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client with one connection.
pub struct TcpClient {
    iface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    cable: Cable,
    request: Vec<u8>,
    sent: usize,
    /// A pause before the bytes from here on are sent.
    split: Option<usize>,
    answer: Vec<u8>,
    done: bool,
    next: Option<Instant>,
}

impl std::fmt::Debug for TcpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpClient").finish_non_exhaustive()
    }
}

impl TcpClient {
    /// Opens a connection from `local` to `server`, to send `request`. `seed` selects its sequence
    /// numbers. Returns `None` when the two addresses cannot be connected.
    #[must_use]
    pub fn new(
        local: SocketAddr,
        server: SocketAddr,
        request: Vec<u8>,
        mtu: usize,
        seed: u64,
    ) -> Option<Self> {
        let mut cable = Cable::bare(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        iface.update_ip_addrs(|own| {
            // There is room for one address.
            let _ = own.push(IpCidr::new(IpAddress::from(local.ip()), 0));
        });
        match local.ip() {
            IpAddr::V4(ip) => drop(iface.routes_mut().add_default_ipv4_route(ip)),
            IpAddr::V6(ip) => drop(iface.routes_mut().add_default_ipv6_route(ip)),
        }
        let mut sockets = SocketSet::new(Vec::new());
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_timeout(Some(PATIENCE));
        socket.set_nagle_enabled(false);
        socket.connect(iface.context(), server, local).ok()?;
        let handle = sockets.add(socket);
        Some(Self {
            iface,
            sockets,
            handle,
            cable,
            request,
            sent: 0,
            split: None,
            answer: Vec::new(),
            done: false,
            next: None,
        })
    }

    /// Sends the bytes of the request from `at` on only after the server has acknowledged those
    /// before, in segments of their own.
    #[must_use]
    pub const fn split(mut self, at: usize) -> Self {
        self.split = Some(at);
        self
    }

    /// A segment for this client has arrived.
    pub fn arrive(&mut self, packet: Packet) {
        self.cable.arrive(packet);
    }

    /// Runs the stack. Returns the answer once the connection is over; it is empty when the server
    /// could not be reached.
    pub fn run(&mut self, cx: &mut HostCx<'_>) -> Option<Vec<u8>> {
        let now = time::to_stack(cx.now);
        // Each iteration makes progress or is the last.
        loop {
            self.iface.poll(now, &mut self.cable, &mut self.sockets);
            if !self.talk() {
                break;
            }
        }
        // Without an offload, nothing comes back.
        let _ = self.cable.pass(cx);
        let next = self.iface.poll_at(now, &self.sockets);
        self.next = next.map(time::to_engine);
        let over = matches!(
            self.sockets.get::<Socket<'_>>(self.handle).state(),
            State::Closed | State::TimeWait
        );
        (over && !std::mem::replace(&mut self.done, true)).then(|| std::mem::take(&mut self.answer))
    }

    fn talk(&mut self) -> bool {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let mut progress = false;
        let until = match self.split {
            Some(at) if self.sent < at => at,
            Some(at) if self.sent == at && socket.send_queue() > 0 => at,
            _ => self.request.len(),
        };
        if self.sent < until && socket.can_send() {
            let taken = socket.send_slice(&self.request[self.sent..until]);
            let taken = taken.unwrap_or(0);
            self.sent += taken;
            progress |= taken > 0;
        }
        while socket.can_recv() {
            progress = true;
            let room = MAX_ANSWER.saturating_sub(self.answer.len());
            let answer = &mut self.answer;
            // Receiving fails only when there is nothing to receive.
            let _ = socket.recv(|data| {
                answer.extend_from_slice(&data[..data.len().min(room)]);
                (data.len(), ())
            });
        }
        if socket.state() == State::CloseWait {
            socket.close();
            progress = true;
        }
        progress
    }

    /// When the stack wants to act next.
    #[must_use]
    pub const fn next_wake(&self) -> Option<Instant> {
        if self.done { None } else { self.next }
    }
}
