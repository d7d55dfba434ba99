//! A machine on bare IP with scripted DNS, HTTP and tracker servers.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use dunlin_core::Instant;
use dunlin_smoltcp::time::{to_engine, to_stack};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::wire::destination;
use super::{Station, Wire};

/// The answers of the servers, and the requests that they received.
#[derive(Default)]
pub struct Script {
    /// Names and their addresses. Other names do not exist.
    pub names: Vec<(String, Vec<IpAddr>)>,
    /// The questions that were answered: the name, and whether IPv6 was asked for.
    pub asked: Vec<(String, bool)>,
    /// The HTTP requests: the client and the first line.
    pub requests: Vec<(SocketAddr, String)>,
    /// The complete response for a target. Other targets get a 404.
    pub pages: Vec<(String, Vec<u8>)>,
    /// No question is answered.
    pub silent: bool,
    /// No question for IPv6 is answered.
    pub silent_v6: bool,
    /// The peers in the responses of the UDP tracker (BEP 15).
    pub peers: Vec<SocketAddr>,
    /// The clients that announced to the UDP tracker.
    pub announced: Vec<SocketAddr>,
}

pub struct Server {
    ip: Ipv4Addr,
    wire: Wire,
    iface: Interface,
    sockets: SocketSet<'static>,
    dns: SocketHandle,
    tracker: SocketHandle,
    http: Vec<(SocketHandle, Vec<u8>)>,
    now: Instant,
    pub script: Rc<RefCell<Script>>,
}

/// The port of the HTTP server.
pub const HTTP: u16 = 8080;
/// The port of the UDP tracker.
pub const TRACKER: u16 = 6969;

impl Server {
    pub fn new(ip: Ipv4Addr, now: Instant, script: Script) -> Self {
        let mut wire = Wire::ip();
        let config = Config::new(HardwareAddress::Ip);
        let mut iface = Interface::new(config, &mut wire, to_stack(now));
        iface.update_ip_addrs(|a| a.push(IpCidr::new(ip.into(), 24)).unwrap());
        let mut sockets = SocketSet::new(vec![]);
        let packets = || {
            let meta = vec![udp::PacketMetadata::EMPTY; 16];
            udp::PacketBuffer::new(meta, vec![0; 8192])
        };
        let mut dns = udp::Socket::new(packets(), packets());
        dns.bind(53).unwrap();
        let dns = sockets.add(dns);
        let mut tracker = udp::Socket::new(packets(), packets());
        tracker.bind(TRACKER).unwrap();
        let tracker = sockets.add(tracker);
        let ring = || tcp::SocketBuffer::new(vec![0; 8192]);
        let http = (0..32)
            .map(|_| (sockets.add(tcp::Socket::new(ring(), ring())), Vec::new()))
            .collect();
        Self {
            ip,
            wire,
            iface,
            sockets,
            dns,
            tracker,
            http,
            now,
            script: Rc::new(RefCell::new(script)),
        }
    }

    fn pump(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.now = now;
        for _ in 0..4 {
            let at = to_stack(now);
            self.iface.poll(at, &mut self.wire, &mut self.sockets);
            self.answer_names();
            self.answer_tracker();
            for index in 0..self.http.len() {
                self.answer_http(index);
            }
        }
        out.append(&mut self.wire.tx);
    }

    fn answer_names(&mut self) {
        let mut script = self.script.borrow_mut();
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.dns);
        while let Ok((question, meta)) = socket.recv() {
            let Some((name, v6, end)) = parse_question(question) else {
                continue;
            };
            let question = question[..end].to_vec();
            script.asked.push((name.clone(), v6));
            if script.silent || (v6 && script.silent_v6) {
                continue;
            }
            let known = script.names.iter().find(|(n, _)| *n == name);
            let addrs = known.map(|(_, a)| a.iter().filter(|a| a.is_ipv6() == v6));
            let answer = answer(&question, addrs);
            socket.send_slice(&answer, meta.endpoint).unwrap();
        }
    }

    fn answer_tracker(&mut self) {
        let mut script = self.script.borrow_mut();
        let socket = self.sockets.get_mut::<udp::Socket<'_>>(self.tracker);
        while let Ok((request, meta)) = socket.recv() {
            let mut answer = request[8..16].to_vec();
            if request[11] == 0 {
                answer.extend([7; 8]);
            } else {
                // Interval, leechers, seeders, peers.
                answer.extend([0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
                for peer in &script.peers {
                    if let IpAddr::V4(ip) = peer.ip() {
                        answer.extend(ip.octets());
                        answer.extend(peer.port().to_be_bytes());
                    }
                }
                let from = meta.endpoint;
                let from = SocketAddr::new(from.addr.into(), from.port);
                script.announced.push(from);
            }
            socket.send_slice(&answer, meta.endpoint).unwrap();
        }
    }

    fn answer_http(&mut self, index: usize) {
        let (handle, request) = &mut self.http[index];
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(*handle);
        if socket.state() == tcp::State::Closed || socket.state() == tcp::State::TimeWait {
            request.clear();
            socket.abort();
            socket.listen(HTTP).unwrap();
        }
        while socket.can_recv() {
            let _ = socket.recv(|data| {
                request.extend_from_slice(data);
                (data.len(), ())
            });
        }
        if request.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8(std::mem::take(request)).unwrap();
            let line = text.lines().next().unwrap().to_string();
            let target = line.split(' ').nth(1).unwrap();
            let mut script = self.script.borrow_mut();
            let page = script
                .pages
                .iter()
                .find(|(p, _)| target.starts_with(p.as_str()));
            let page = page.map_or(
                &b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"[..],
                |(_, b)| b,
            );
            socket.send_slice(page).unwrap();
            let unbounded = !page.windows(15).any(|w| w == b"Content-Length:");
            let from = socket.remote_endpoint().unwrap();
            let from = SocketAddr::new(from.addr.into(), from.port);
            script.requests.push((from, line));
            if unbounded {
                // The end of the stream ends the body.
                socket.close();
            }
        }
        if socket.state() == tcp::State::CloseWait {
            socket.close();
        }
    }
}

impl Station for Server {
    fn hears(&self, frame: &[u8]) -> bool {
        destination(frame) == IpAddr::V4(self.ip)
    }

    fn frame(&mut self, now: Instant, frame: &[u8], out: &mut Vec<Vec<u8>>) {
        self.wire.rx.push_back(frame.to_vec());
        self.pump(now, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Vec<u8>>) {
        self.pump(now, out);
    }

    fn timeout(&self) -> Option<Instant> {
        // The only timers are those for retransmission, which are polled often enough.
        let busy = self.http.iter().any(|(h, _)| {
            let state = self.sockets.get::<tcp::Socket<'_>>(*h).state();
            !matches!(state, tcp::State::Listen | tcp::State::Closed)
        });
        let next = to_engine(to_stack(self.now)) + std::time::Duration::from_millis(20);
        busy.then_some(next)
    }
}

/// The name, whether IPv6 is asked for, and where the question ends.
fn parse_question(packet: &[u8]) -> Option<(String, bool, usize)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8(packet.get(at..at + len)?.to_vec()).ok()?);
        at += len;
    }
    let kind = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
    Some((labels.join("."), kind == 28, at + 4))
}

/// A response that repeats the question, with answers that point to its name (RFC 1035 §4).
fn answer<'a>(question: &[u8], addrs: Option<impl Iterator<Item = &'a IpAddr>>) -> Vec<u8> {
    let mut packet = question.to_vec();
    let exists = addrs.is_some();
    let addrs: Vec<&IpAddr> = addrs.into_iter().flatten().collect();
    packet[2] = 0x81;
    packet[3] = if exists { 0x80 } else { 0x83 };
    packet[7] = addrs.len() as u8;
    for ip in addrs {
        packet.extend([
            0xc0,
            12,
            0,
            if ip.is_ipv6() { 28 } else { 1 },
            0,
            1,
            0,
            0,
            0,
            60,
            0,
        ]);
        match ip {
            IpAddr::V4(ip) => {
                packet.push(4);
                packet.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                packet.push(16);
                packet.extend(ip.octets());
            }
        }
    }
    packet
}
