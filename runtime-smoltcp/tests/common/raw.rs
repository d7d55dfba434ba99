//! Stations that build TCP segments by hand.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dunlin_core::Instant;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
};

use super::Station;
use super::wire::destination;

/// An IPv4 packet with a segment.
pub fn segment(src: Ipv4Addr, dst: Ipv4Addr, tcp: &TcpRepr<'_>) -> Vec<u8> {
    let ip = Ipv4Repr {
        src_addr: src,
        dst_addr: dst,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; 20 + tcp.buffer_len()];
    let caps = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes[..]), &caps);
    let mut packet = TcpPacket::new_unchecked(&mut bytes[20..]);
    tcp.emit(&mut packet, &src.into(), &dst.into(), &caps);
    bytes
}

/// A segment without options or data.
pub fn plain(src_port: u16, dst_port: u16, control: TcpControl, seq: i32) -> TcpRepr<'static> {
    TcpRepr {
        src_port,
        dst_port,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: None,
        window_len: 60_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// Sends SYNs to a port from many addresses of 10.0.1.0/24.
pub struct Knocker {
    pub target: Ipv4Addr,
    pub port: u16,
    /// When the next SYN is sent, and how many are left.
    pub next: Option<Instant>,
    pub left: u32,
    pub every: Duration,
    /// The number of SYNs sent at once.
    pub burst: u32,
    /// Whether it completes handshakes.
    pub finish: bool,
    /// The number of SYNs so far, which selects the next source address.
    pub count: u32,
    /// The answers received: SYN with ACK, and RST.
    pub synacks: std::rc::Rc<std::cell::Cell<u32>>,
    pub resets: std::rc::Rc<std::cell::Cell<u32>>,
}

impl Knocker {
    pub fn new(target: Ipv4Addr, start: Instant, left: u32, burst: u32, finish: bool) -> Self {
        Self {
            target,
            port: super::PORT,
            next: Some(start),
            left,
            every: Duration::from_millis(2),
            burst,
            finish,
            count: 0,
            synacks: Default::default(),
            resets: Default::default(),
        }
    }
}

impl Station for Knocker {
    fn hears(&self, frame: &[u8]) -> bool {
        matches!(destination(frame), IpAddr::V4(ip) if ip.octets()[..3] == [10, 0, 1])
    }

    fn timeout(&self) -> Option<Instant> {
        self.next
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        for _ in 0..self.burst.min(self.left) {
            self.left -= 1;
            self.count += 1;
            let from = Ipv4Addr::new(10, 0, 1, (self.count % 250) as u8 + 1);
            let port = 1024 + (self.count / 250) as u16;
            let syn = plain(port, self.port, TcpControl::Syn, 1000);
            out.push(segment(from, self.target, &syn));
        }
        self.next = (self.left > 0).then_some(now + self.every);
    }

    fn frame(&mut self, _: Instant, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        let Ok(ip) = Ipv4Packet::new_checked(frame) else {
            return;
        };
        let Ok(tcp) = TcpPacket::new_checked(ip.payload()) else {
            return;
        };
        if tcp.rst() {
            self.resets.set(self.resets.get() + 1);
        } else if tcp.syn() {
            self.synacks.set(self.synacks.get() + 1);
            if self.finish {
                let mut ack = plain(tcp.dst_port(), tcp.src_port(), TcpControl::None, 1001);
                ack.ack_number = Some(tcp.seq_number() + 1);
                out.push(segment(ip.dst_addr(), ip.src_addr(), &ack));
            }
        }
    }
}
