//! Datagrams. There is one socket for each port, because smoltcp gives all datagrams of a port to
//! the first socket that has it, whatever the family.

use alloc::{vec, vec::Vec};
use core::net::SocketAddr;
use core::time::Duration;

use dunlin_core::engine::Engine;
use dunlin_core::{Ecn, Instant, RecvMeta, SocketId};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{self, PacketBuffer, PacketMetadata, UdpMetadata};
use smoltcp::wire::IpEndpoint;

use super::{Net, socket_addr};
use crate::config::NetConfig;
use crate::stats::Stats;

/// The most datagrams received, or sent, in one turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How long a datagram may block others while its neighbour is resolved.
const STUCK: Duration = Duration::from_secs(3);

struct Port {
    handle: SocketHandle,
    /// The port; 0 when the socket is not in use.
    number: u16,
    /// The engine's ids for IPv4 and IPv6.
    ids: [Option<SocketId>; 2],
    /// A datagram has arrived.
    ready: bool,
    /// The total of bytes handed to the stack.
    enqueued: u64,
    /// Since when datagrams have been waiting, and how many bytes had been sent by then.
    waiting: Option<(Instant, u64)>,
}

/// All UDP sockets.
pub(crate) struct Udp {
    ports: Vec<Port>,
    buf: Vec<u8>,
}

impl Udp {
    /// Creates the sockets, whose bits begin at 0. `mtu` is the length of the longest IP packet.
    pub(crate) fn new(net: &mut Net, config: &NetConfig, mtu: usize) -> Self {
        let buffer = || {
            PacketBuffer::new(
                vec![PacketMetadata::EMPTY; config.udp_packets],
                vec![0; config.udp_bytes],
            )
        };
        let port = |_| Port {
            handle: net.sockets.add(udp::Socket::new(buffer(), buffer())),
            number: 0,
            ids: [None; 2],
            ready: false,
            enqueued: 0,
            waiting: None,
        };
        let ports = (0..config.udp_sockets).map(port).collect();
        // The headers take at least 20 bytes for IPv4 and 8 for UDP.
        let buf = vec![0; mtu.saturating_sub(28).min(config.udp_bytes)];
        Self { ports, buf }
    }

    /// Binds a socket. Returns `false` when there is no socket left, or the port is taken.
    pub(crate) fn bind(&mut self, net: &mut Net, id: SocketId, local: SocketAddr) -> bool {
        let family = usize::from(local.is_ipv6());
        let same = self.ports.iter().position(|p| p.number == local.port());
        let Some(index) = same.or_else(|| self.ports.iter().position(|p| p.number == 0)) else {
            return false;
        };
        let port = &mut self.ports[index];
        if port.ids[family].is_some_and(|old| old != id) {
            return false;
        }
        let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
        if port.number == 0 && socket.bind(local.port()).is_err() {
            return false;
        }
        port.number = local.port();
        port.ids[family] = Some(id);
        socket.register_recv_waker(net.ready.waker(index));
        socket.register_send_waker(net.ready.waker(index));
        true
    }

    /// Removes an id, and closes the port when it has no other id.
    pub(crate) fn unbind(&mut self, net: &mut Net, id: SocketId) {
        for port in &mut self.ports {
            for name in &mut port.ids {
                *name = name.filter(|name| *name != id);
            }
            if port.number != 0 && port.ids == [None; 2] {
                net.sockets.get_mut::<udp::Socket<'_>>(port.handle).close();
                port.number = 0;
                port.waiting = None;
            }
        }
    }

    /// Returns `true` when a port is bound.
    pub(crate) fn uses(&self, port: u16) -> bool {
        self.ports.iter().any(|p| p.number == port)
    }

    /// Handles a socket that has become ready.
    pub(crate) fn became_ready(&mut self, net: &mut Net, index: usize) {
        let port = &mut self.ports[index];
        port.ready = true;
        let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
        socket.register_recv_waker(net.ready.waker(index));
        socket.register_send_waker(net.ready.waker(index));
    }

    /// Hands received datagrams to the engine. Returns whether there were any.
    pub(crate) fn receive(
        &mut self,
        net: &mut Net,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        let mut any = false;
        for port in &mut self.ports {
            if !core::mem::take(&mut port.ready) {
                continue;
            }
            let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
            for _ in 0..DATAGRAMS_PER_TURN {
                let Ok((data, meta)) = socket.recv() else {
                    break;
                };
                any = true;
                let from = socket_addr(meta.endpoint);
                let id = port.ids[usize::from(from.is_ipv6())];
                // The stack lends the datagram read-only, and the engine may change it in place.
                let (Some(socket), Some(buf)) = (id, self.buf.get_mut(..data.len())) else {
                    stats.datagrams_dropped += 1;
                    continue;
                };
                buf.copy_from_slice(data);
                stats.datagrams_in += 1;
                let meta = RecvMeta {
                    socket,
                    from,
                    local: meta.local_address.map(Into::into),
                    ecn: Ecn::NotEct,
                };
                engine.handle_udp(now, &meta, buf);
            }
            port.ready |= socket.can_recv();
        }
        any
    }

    /// Sends datagrams while every socket has room for the longest one. Returns whether any was
    /// sent.
    pub(crate) fn send(
        &mut self,
        net: &mut Net,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        let mut any = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            // Datagrams are not built before there is room for them.
            let room = self.ports.iter().all(|port| {
                let socket = net.sockets.get::<udp::Socket<'_>>(port.handle);
                let free = socket.payload_send_capacity() - socket.send_queue();
                // Up to as much space again may be skipped at the end of the ring.
                socket.can_send() && (socket.send_queue() == 0 || free >= 2 * self.buf.len())
            });
            if !room {
                break;
            }
            let Some(transmit) = engine.poll_transmit(now, 1, &mut self.buf) else {
                break;
            };
            any = true;
            self.lend(transmit.socket, transmit.dst.is_ipv6());
            let sender = |port: &&mut Port| port.ids.contains(&Some(transmit.socket));
            let sent = net.has_route(transmit.dst.ip())
                && self.ports.iter_mut().find(sender).is_some_and(|port| {
                    let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
                    let dst = transmit.dst;
                    let mut meta = UdpMetadata::from(IpEndpoint::new(dst.ip().into(), dst.port()));
                    meta.local_address = transmit.src.map(Into::into);
                    port.enqueued += transmit.len as u64;
                    socket.send_slice(&self.buf[..transmit.len], meta).is_ok()
                });
            if sent {
                stats.datagrams_out += 1;
                net.dirty = true;
            } else {
                stats.datagrams_dropped += 1;
                engine.handle_unsent(now, transmit.dst);
            }
        }
        any
    }

    /// Lets a family without a bound socket send from the port of the other one, because trackers
    /// are asked over both.
    fn lend(&mut self, id: SocketId, v6: bool) {
        let family = usize::from(v6);
        let bound = self.ports.iter().any(|p| p.ids.contains(&Some(id)));
        let free = |p: &&mut Port| p.number != 0 && p.ids[family].is_none();
        if !bound && let Some(port) = self.ports.iter_mut().find(free) {
            port.ids[family] = Some(id);
        }
    }

    /// Drops the datagrams of sockets whose first datagram waits for a neighbour that does not
    /// answer, because those behind it would wait forever. Returns whether there were any.
    pub(crate) fn drop_stuck(&mut self, net: &mut Net, now: Instant, stats: &mut Stats) -> bool {
        let mut any = false;
        for (index, port) in self.ports.iter_mut().enumerate() {
            let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
            let sent = port.enqueued.wrapping_sub(socket.send_queue() as u64);
            port.waiting = match port.waiting {
                _ if socket.send_queue() == 0 => None,
                Some((since, before)) if sent == before => Some((since, before)),
                _ => Some((now, sent)),
            };
            if port.waiting.is_some_and(|(since, _)| since + STUCK <= now) && !socket.can_recv() {
                socket.close();
                let _ = socket.bind(port.number);
                socket.register_recv_waker(net.ready.waker(index));
                socket.register_send_waker(net.ready.waker(index));
                port.waiting = None;
                stats.datagrams_dropped += 1;
                any = true;
            }
        }
        any
    }

    /// When [`Udp::drop_stuck`] may have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.ports.iter().filter_map(|p| p.waiting);
        waiting.map(|(since, _)| since + STUCK).min()
    }
}
