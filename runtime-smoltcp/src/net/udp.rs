//! Datagrams. One socket of the stack per port: smoltcp would hand all datagrams of a port to
//! the first socket that has it, whatever their family.

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

/// Datagrams taken in or sent in one turn.
const DATAGRAMS_PER_TURN: usize = 64;
/// How long a datagram may keep others waiting while its neighbour is looked for.
const STUCK: Duration = Duration::from_secs(3);

struct Port {
    handle: SocketHandle,
    /// 0 while not in use.
    number: u16,
    /// The engine's names: IPv4, IPv6.
    ids: [Option<SocketId>; 2],
    /// Something came in.
    ready: bool,
    /// Bytes handed to the stack, ever.
    enqueued: u64,
    /// Since when datagrams have been waiting, and how many bytes were sent before.
    waiting: Option<(Instant, u64)>,
}

/// All UDP sockets.
pub(crate) struct Udp {
    ports: Vec<Port>,
    buf: Vec<u8>,
}

impl Udp {
    /// Makes the sockets, with bits from 0; `mtu` is the longest IP packet.
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
        // An IPv4 header of 20 bytes and a UDP one of 8 are the least.
        let buf = vec![0; mtu.saturating_sub(28).min(config.udp_bytes)];
        Self { ports, buf }
    }

    /// Binds; false if there is no socket left, or the port is taken.
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

    /// Closes what is bound by this name; its port, too, if no other name has it.
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

    /// Whether a port is bound.
    pub(crate) fn uses(&self, port: u16) -> bool {
        self.ports.iter().any(|p| p.number == port)
    }

    /// A socket rang.
    pub(crate) fn rang(&mut self, net: &mut Net, index: usize) {
        let port = &mut self.ports[index];
        port.ready = true;
        let socket = net.sockets.get_mut::<udp::Socket<'_>>(port.handle);
        socket.register_recv_waker(net.ready.waker(index));
        socket.register_send_waker(net.ready.waker(index));
    }

    /// Hands in what came; whether anything did.
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
                // The stack lends it read-only, the engine may change it in place.
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

    /// Sends while every socket has room for whatever comes; whether anything was sent.
    pub(crate) fn send(
        &mut self,
        net: &mut Net,
        engine: &mut Engine,
        now: Instant,
        stats: &mut Stats,
    ) -> bool {
        let mut any = false;
        for _ in 0..DATAGRAMS_PER_TURN {
            // No packet waits outside: it is not built before there is room.
            let room = self.ports.iter().all(|port| {
                let socket = net.sockets.get::<udp::Socket<'_>>(port.handle);
                let free = socket.payload_send_capacity() - socket.send_queue();
                // At the end of its ring as much may be skipped.
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

    /// A family that is not listened on sends from the other's port: trackers are asked over both.
    fn lend(&mut self, id: SocketId, v6: bool) {
        let family = usize::from(v6);
        let bound = self.ports.iter().any(|p| p.ids.contains(&Some(id)));
        let free = |p: &&mut Port| p.number != 0 && p.ids[family].is_none();
        if !bound && let Some(port) = self.ports.iter_mut().find(free) {
            port.ids[family] = Some(id);
        }
    }

    /// Sockets whose first datagram waits for a neighbour that does not answer: those behind it
    /// would wait forever, so all are dropped. Whether there was one.
    pub(crate) fn unstick(&mut self, net: &mut Net, now: Instant, stats: &mut Stats) -> bool {
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

    /// When [`Udp::unstick`] may have something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waiting = self.ports.iter().filter_map(|p| p.waiting);
        waiting.map(|(since, _)| since + STUCK).min()
    }
}
