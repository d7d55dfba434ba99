//! A network card that terminates TCP for its machine, as cards with TCP offload do.
//!
//! The machine's stack, smoltcp, keeps its sockets, its listeners and its timers, and believes to
//! be on a perfect link: the card answers its segments at once. Towards the network the card runs
//! a [TCP](super::tcp) of its own for each connection. A connection is offered to the machine
//! before it is accepted, its end is passed on in both directions, a machine that does not read
//! closes the window, and the machine's keep-alives are answered only when the peer was heard.
//!
//! ```text
//!   engine ── smoltcp ──┤ near: in order, no loss, no delay ├── Conn ──┤ network
//! ```

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
};

use dunlin_core::Instant;
use rustc_hash::FxHashMap;

use super::{
    build,
    near::Near,
    tcp::{Conn, Header, TcpConfig},
};
use crate::{
    host::HostCx,
    packet::{Packet, TcpFlags},
};

/// The most connections. Further ones are refused, or replace one that is only remembered.
const MAX_FLOWS: usize = 8_192;
const IPV4_AND_TCP: usize = 40;
const IPV6_AND_TCP: usize = 60;

/// One connection.
#[derive(Debug)]
struct Flow {
    local: SocketAddr,
    remote: SocketAddr,
    conn: Conn,
    near: Near,
}

/// The card's connections.
#[derive(Debug)]
pub(super) struct Offload {
    config: TcpConfig,
    mtu: usize,
    /// The places of the connections, by local and remote address.
    places: FxHashMap<(SocketAddr, SocketAddr), usize>,
    flows: Vec<Option<Flow>>,
    free: Vec<usize>,
    /// A timer may be due at this time, but not before.
    wake: Option<Instant>,
}

impl Offload {
    pub(super) fn new(config: TcpConfig, mtu: usize) -> Self {
        Self {
            config,
            mtu,
            places: FxHashMap::default(),
            flows: Vec::new(),
            free: Vec::new(),
            wake: None,
        }
    }

    /// When [`Offload::run_timers`] may have something to do.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    fn mss(&self, ip: IpAddr) -> u16 {
        let headers = if ip.is_ipv4() {
            IPV4_AND_TCP
        } else {
            IPV6_AND_TCP
        };
        u16::try_from(self.mtu.saturating_sub(headers)).unwrap_or(u16::MAX)
    }

    /// A segment of the network has arrived.
    pub(super) fn network_sent(
        &mut self,
        cx: &mut HostCx<'_>,
        packet: Packet,
        inside: &mut VecDeque<Vec<u8>>,
    ) {
        let (local, remote) = (packet.flow().dst, packet.flow().src);
        if packet.fragment().is_some() || !packet.checksums_hold() {
            return cx.recycle(packet);
        }
        let Some((header, data)) = Header::parse(packet.transport()) else {
            return cx.recycle(packet);
        };
        let syn = header.flags.0 & 0x17 == TcpFlags::SYN.0;
        let mut place = self.places.get(&(local, remote)).copied();
        if let Some(at) = place
            && syn
            && let Some(Some(flow)) = self.flows.get(at)
            && flow.conn.may_reopen(&header)
        {
            self.remove(at);
            place = None;
        }
        match place {
            Some(at) => {
                if let Some(Some(flow)) = self.flows.get_mut(at) {
                    flow.conn.segment(cx.now, &header, data);
                }
                self.work(cx, at, inside);
            }
            None if syn && self.make_room() => {
                let mss = self.mss(local.ip());
                let flow = Flow {
                    local,
                    remote,
                    conn: Conn::accept(&self.config, cx.now, mss, &header),
                    near: Near::offering(header.seq),
                };
                let at = self.add(flow);
                self.work(cx, at, inside);
            }
            None => {
                if let Some(reset) = header.reset(data.len()) {
                    send(cx, local, remote, &reset, [&[], &[]]);
                }
            }
        }
        cx.recycle(packet);
    }

    /// A segment of the machine's stack has left it.
    pub(super) fn machine_sent(
        &mut self,
        cx: &mut HostCx<'_>,
        packet: Packet,
        inside: &mut VecDeque<Vec<u8>>,
    ) {
        let (local, remote) = (packet.flow().src, packet.flow().dst);
        let Some((header, data)) = Header::parse(packet.transport()) else {
            return cx.recycle(packet);
        };
        let opens = header.flags.0 & 0x17 == TcpFlags::SYN.0;
        let mut place = self.places.get(&(local, remote)).copied();
        if let Some(at) = place
            && opens
            && let Some(Some(flow)) = self.flows.get_mut(at)
            && !flow.near.is_opening(header.seq)
        {
            // The machine has forgotten the old connection.
            flow.conn.abort();
            self.work(cx, at, inside);
            self.remove(at);
            place = None;
        }
        match place {
            Some(at) => {
                if let Some(Some(flow)) = self.flows.get_mut(at) {
                    flow.near.segment(cx.now, &mut flow.conn, &header, data);
                }
                self.work(cx, at, inside);
            }
            None if opens && self.make_room() => {
                let mss = self.mss(local.ip());
                let flow = Flow {
                    local,
                    remote,
                    conn: Conn::connect(&self.config, cx.now, header.seq, mss),
                    near: Near::opening(&header),
                };
                let at = self.add(flow);
                self.work(cx, at, inside);
            }
            None => {
                // Its last acknowledgement may come when the connection is forgotten already.
                let says = !data.is_empty() || header.has(TcpFlags::FIN) || opens;
                if let Some(reset) = header.reset(data.len()).filter(|_| says) {
                    inside.push_back(inner(cx, remote, local, &reset, [&[], &[]]));
                }
            }
        }
        cx.recycle(packet);
    }

    /// Runs the timers that are due.
    pub(super) fn run_timers(&mut self, cx: &mut HostCx<'_>, inside: &mut VecDeque<Vec<u8>>) {
        if self.wake.is_none_or(|at| at > cx.now) {
            return;
        }
        self.wake = None;
        for at in 0..self.flows.len() {
            let Some(flow) = &mut self.flows[at] else {
                continue;
            };
            match flow.conn.deadline() {
                Some(due) if due <= cx.now => {
                    flow.conn.timeout(cx.now);
                    self.work(cx, at, inside);
                }
                due => self.sooner(due),
            }
        }
    }

    fn sooner(&mut self, at: Option<Instant>) {
        self.wake = self.wake.into_iter().chain(at).min();
    }

    /// Does everything that a connection has to do now, in both directions.
    fn work(&mut self, cx: &mut HostCx<'_>, at: usize, inside: &mut VecDeque<Vec<u8>>) {
        let Some(Some(flow)) = self.flows.get_mut(at) else {
            return;
        };
        let (local, remote) = (flow.local, flow.remote);
        while let Some((header, len)) = flow.near.poll(&flow.conn) {
            inside.push_back(inner(cx, remote, local, &header, flow.conn.peek(len)));
            flow.conn.consume(cx.now, len);
        }
        while let Some((header, data)) = flow.conn.poll(cx.now) {
            send(cx, local, remote, &header, data);
        }
        let deadline = flow.conn.deadline();
        if flow.conn.end().is_some() && flow.near.is_over() {
            self.remove(at);
        } else {
            self.sooner(deadline);
        }
    }

    fn add(&mut self, flow: Flow) -> usize {
        let key = (flow.local, flow.remote);
        let at = match self.free.pop() {
            Some(at) => {
                self.flows[at] = Some(flow);
                at
            }
            None => {
                self.flows.push(Some(flow));
                self.flows.len() - 1
            }
        };
        self.places.insert(key, at);
        at
    }

    fn remove(&mut self, at: usize) {
        if let Some(flow) = self.flows[at].take() {
            self.places.remove(&(flow.local, flow.remote));
            self.free.push(at);
        }
    }

    /// Returns `true` when there is room for one more connection.
    fn make_room(&mut self) -> bool {
        if self.places.len() < MAX_FLOWS {
            return true;
        }
        let waits = |flow: &Option<Flow>| flow.as_ref().is_some_and(|f| f.conn.is_waiting());
        let waiting = self.flows.iter().position(waits);
        if let Some(at) = waiting {
            self.remove(at);
        }
        waiting.is_some()
    }
}

/// Sends a segment to the network.
fn send(
    cx: &mut HostCx<'_>,
    local: SocketAddr,
    remote: SocketAddr,
    header: &Header,
    data: [&[u8]; 2],
) {
    let packet = build(cx, [local, remote], header, data, true);
    cx.send(packet);
}

/// A segment for the machine's stack, which does not verify checksums of TCP.
fn inner(
    cx: &mut HostCx<'_>,
    remote: SocketAddr,
    local: SocketAddr,
    header: &Header,
    data: [&[u8]; 2],
) -> Vec<u8> {
    build(cx, [remote, local], header, data, false).into_bytes()
}
