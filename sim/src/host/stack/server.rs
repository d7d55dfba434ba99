//! A server that answers one request on each connection over a real TCP, such as an HTTP tracker or
//! the control page of a gateway.

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

/// The most connections at once. Further clients find no listening socket and try again.
const SLOTS: usize = 64;
/// The size of a connection's buffer in each direction.
const BUFFER: usize = 8 << 10;
/// The longest request.
const MAX_REQUEST: usize = 64 << 10;
/// A client that is silent for this long is dropped.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to do with the bytes that a client has sent so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Wait for more bytes.
    More,
    /// Send this answer, and close the connection.
    Close(Vec<u8>),
}

#[derive(Debug)]
struct Slot {
    handle: SocketHandle,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    answered: bool,
}

/// A server on one port of every address of its host.
pub struct TcpServer {
    port: u16,
    iface: Interface,
    sockets: SocketSet<'static>,
    cable: Cable,
    slots: Vec<Slot>,
    next: Option<Instant>,
}

impl std::fmt::Debug for TcpServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpServer")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl TcpServer {
    /// Creates a server on `port` of `addrs`. `seed` selects its sequence numbers.
    #[must_use]
    pub fn new(addrs: &[IpAddr], port: u16, mtu: usize, seed: u64) -> Self {
        let mut cable = Cable::bare(mtu);
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut iface = Interface::new(config, &mut cable, smoltcp::time::Instant::ZERO);
        iface.update_ip_addrs(|own| {
            for addr in addrs {
                // Addresses for which the stack has no room are left out; a simulated server has
                // one or two.
                let _ = own.push(IpCidr::new(IpAddress::from(*addr), 0));
            }
        });
        let mut sockets = SocketSet::new(Vec::new());
        let slots = (0..SLOTS)
            .map(|_| {
                let buffer = || SocketBuffer::new(vec![0; BUFFER]);
                let mut socket = Socket::new(buffer(), buffer());
                socket.set_timeout(Some(PATIENCE));
                socket.set_nagle_enabled(false);
                Slot {
                    handle: sockets.add(socket),
                    inbox: Vec::new(),
                    outbox: Vec::new(),
                    sent: 0,
                    answered: false,
                }
            })
            .collect();
        let mut server = Self {
            port,
            iface,
            sockets,
            cable,
            slots,
            next: None,
        };
        server.listen();
        server
    }

    /// The port on which it listens.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes every idle socket listen.
    fn listen(&mut self) {
        for slot in &mut self.slots {
            let socket = self.sockets.get_mut::<Socket<'_>>(slot.handle);
            // A server does not need the TIME-WAIT state.
            if socket.state() == State::TimeWait {
                socket.abort();
            }
            if socket.state() == State::Closed {
                slot.inbox.clear();
                slot.outbox.clear();
                (slot.sent, slot.answered) = (0, false);
                // Listening fails only for port 0 or an open socket.
                let _ = socket.listen(self.port);
            }
        }
    }

    /// A segment for this server has arrived, or another packet that its stack may answer.
    pub fn arrive(&mut self, packet: Packet) {
        self.cable.arrive(packet);
    }

    /// Runs the stack and `answer`, which receives the client's address and everything that it has
    /// sent.
    pub fn run(
        &mut self,
        cx: &mut HostCx<'_>,
        mut answer: impl FnMut(&mut HostCx<'_>, SocketAddr, &[u8]) -> Reply,
    ) {
        let now = time::to_stack(cx.now);
        // Answers are sent by the next iteration. Each iteration makes progress or is the last.
        loop {
            self.iface.poll(now, &mut self.cable, &mut self.sockets);
            if !self.serve(cx, &mut answer) {
                break;
            }
        }
        self.listen();
        // Without an offload, nothing comes back.
        let _ = self.cable.pass(cx);
        let next = self.iface.poll_at(now, &self.sockets);
        self.next = next.map(time::to_engine);
    }

    fn serve(
        &mut self,
        cx: &mut HostCx<'_>,
        answer: &mut impl FnMut(&mut HostCx<'_>, SocketAddr, &[u8]) -> Reply,
    ) -> bool {
        let mut progress = false;
        for slot in &mut self.slots {
            let socket = self.sockets.get_mut::<Socket<'_>>(slot.handle);
            if matches!(
                socket.state(),
                State::Listen | State::Closed | State::TimeWait
            ) {
                continue;
            }
            if socket.can_recv() {
                progress = true;
                // Receiving fails only when there is nothing to receive.
                let _ = socket.recv(|data| {
                    let room = MAX_REQUEST.saturating_sub(slot.inbox.len());
                    slot.inbox.extend_from_slice(&data[..data.len().min(room)]);
                    (data.len(), ())
                });
                if !slot.answered
                    && let Some(remote) = socket.remote_endpoint()
                {
                    let remote = SocketAddr::new(remote.addr.into(), remote.port);
                    match answer(cx, remote, &slot.inbox) {
                        Reply::Close(bytes) => {
                            slot.outbox = bytes;
                            slot.answered = true;
                        }
                        Reply::More if slot.inbox.len() >= MAX_REQUEST => socket.abort(),
                        Reply::More => {}
                    }
                }
            }
            if slot.sent < slot.outbox.len() && socket.can_send() {
                let taken = socket.send_slice(&slot.outbox[slot.sent..]).unwrap_or(0);
                slot.sent += taken;
                progress |= taken > 0;
            }
            let said = slot.answered && slot.sent == slot.outbox.len();
            let left = !slot.answered && !socket.may_recv();
            if (said || left) && socket.may_send() && socket.state() != State::SynReceived {
                socket.close();
                progress = true;
            }
        }
        progress
    }

    /// When the stack wants to act next.
    #[must_use]
    pub const fn next_wake(&self) -> Option<Instant> {
        self.next
    }
}
