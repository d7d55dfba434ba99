//! Hosts that transfer data over one connection as fast as their TCP allows: measurements, and
//! traffic beside which others must live.

use std::{net::SocketAddr, time::Duration};

use dunlin_core::Instant;

use crate::{
    host::{
        Host, HostCx,
        stack::{
            build,
            tcp::{Conn, Header, TcpConfig},
        },
    },
    packet::{Packet, Proto, TcpFlags},
};

/// The most data in a segment without options, over Ethernet.
const MSS: u16 = 1_460;
const MSS_V6: u16 = 1_440;
/// What is written at once.
const CHUNK: [u8; 16 << 10] = [0x64; 16 << 10];

/// One end of a transfer.
#[derive(Debug)]
pub struct BulkHost {
    config: TcpConfig,
    local: SocketAddr,
    /// The receiver, for the sender.
    peer: Option<SocketAddr>,
    conn: Option<(SocketAddr, Conn)>,
    received: u64,
}

impl BulkHost {
    /// A host that connects to `peer` when it is switched on, and sends without end.
    #[must_use]
    pub fn sender(config: TcpConfig, local: SocketAddr, peer: SocketAddr) -> Self {
        Self {
            peer: Some(peer),
            ..Self::receiver(config, local)
        }
    }

    /// A host that takes what one sender sends.
    #[must_use]
    pub const fn receiver(config: TcpConfig, local: SocketAddr) -> Self {
        Self {
            config,
            local,
            peer: None,
            conn: None,
            received: 0,
        }
    }

    /// The bytes that have arrived in order.
    #[must_use]
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// The smoothed round-trip time of the connection.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.conn.as_ref()?.1.round_trip()
    }

    const fn mss(&self) -> u16 {
        match self.local {
            SocketAddr::V4(_) => MSS,
            SocketAddr::V6(_) => MSS_V6,
        }
    }

    fn work(&mut self, cx: &mut HostCx<'_>) {
        let Some((peer, conn)) = &mut self.conn else {
            return;
        };
        let readable = conn.readable();
        self.received += readable as u64;
        conn.consume(cx.now, readable);
        if self.peer.is_some() {
            loop {
                let len = conn.room().min(CHUNK.len());
                if len == 0 || conn.write(cx.now, &CHUNK[..len]) == 0 {
                    break;
                }
            }
        }
        while let Some((header, data)) = conn.poll(cx.now) {
            let packet = build(cx, [self.local, *peer], &header, data, true);
            cx.send(packet);
        }
    }
}

impl Host for BulkHost {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        let iss = cx.rng.next_u32();
        self.conn = self.peer.map(|peer| {
            let conn = Conn::connect(&self.config, cx.now, iss, self.mss());
            (peer, conn)
        });
        self.work(cx);
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        let (from, to) = (packet.flow().src, packet.flow().dst);
        let ours = packet.flow().proto == Proto::Tcp && to == self.local;
        if !ours || packet.fragment().is_some() || !packet.checksums_hold() {
            return cx.recycle(packet);
        }
        if let Some((header, data)) = Header::parse(packet.transport()) {
            let syn = header.flags.0 & 0x17 == TcpFlags::SYN.0;
            match &mut self.conn {
                Some((peer, conn)) if *peer == from => conn.segment(cx.now, &header, data),
                None if syn => {
                    let mut conn = Conn::accept(&self.config, cx.now, self.mss(), &header);
                    conn.admit(cx.rng.next_u32());
                    self.conn = Some((from, conn));
                }
                _ => {
                    if let Some(reset) = header.reset(data.len()) {
                        let reset = build(cx, [to, from], &reset, [&[], &[]], true);
                        cx.send(reset);
                    }
                }
            }
        }
        cx.recycle(packet);
        self.work(cx);
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        if let Some((_, conn)) = &mut self.conn {
            conn.timeout(cx.now);
        }
        self.work(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.conn.as_ref()?.1.deadline()
    }
}
