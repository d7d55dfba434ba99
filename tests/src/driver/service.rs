//! Trackers that run on a [`Guest`].

use std::net::{IpAddr, SocketAddr};

use super::guest::{Door, Guest, Life, Line, Post};

/// The longest request that is read.
const REQUEST: usize = 8 << 10;
/// BEP 15: connect, announce.
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;

/// The answer to requests for a path.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The start of the request's target.
    pub path: &'static str,
    /// All of the answer, as sent.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// An answer with status, headers and body.
    #[must_use]
    pub fn new(path: &'static str, status: &str, headers: &str, body: &[u8]) -> Self {
        let len = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {len}\r\n{headers}\r\n");
        let bytes = [head.as_bytes(), body].concat();
        Self { path, bytes }
    }
}

/// A tracker's answer with these peers (BEP 23).
#[must_use]
pub fn peers_answer(peers: &[SocketAddr]) -> Vec<u8> {
    let mut compact = Vec::new();
    for peer in peers {
        if let IpAddr::V4(ip) = peer.ip() {
            compact.extend(ip.octets());
            compact.extend(peer.port().to_be_bytes());
        }
    }
    let mut body = format!("d8:intervali1800e5:peers{}:", compact.len()).into_bytes();
    body.extend(compact);
    body.push(b'e');
    body
}

/// The `event` of an announce; empty in a regular one.
#[must_use]
pub fn announced(target: &str) -> String {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let event = query.split('&').find_map(|p| p.strip_prefix("event="));
    event.unwrap_or_default().to_owned()
}

/// A web server with a few fixed pages.
#[derive(Debug)]
pub struct HttpServer {
    /// Its address.
    pub addr: SocketAddr,
    /// Its pages; other paths do not exist.
    pub pages: Vec<Answer>,
    /// The targets of requests, in order.
    pub targets: Vec<String>,
    door: Door,
    lines: Vec<(Line, Vec<u8>, Option<Vec<u8>>)>,
}

impl HttpServer {
    /// A server without pages.
    pub fn new(guest: &mut dyn Guest, v6: bool) -> Self {
        let (door, addr) = guest.listen(v6);
        Self {
            addr,
            pages: Vec::new(),
            targets: Vec::new(),
            door,
            lines: Vec::new(),
        }
    }

    /// Handles what has arrived.
    pub fn poll(&mut self, guest: &mut dyn Guest) {
        while let Some(line) = guest.accept(self.door) {
            self.lines.push((line, Vec::new(), None));
        }
        for (line, request, answer) in &mut self.lines {
            if answer.is_none() {
                request.extend(guest.read(*line, REQUEST));
                let Some(text) = head(request) else {
                    continue;
                };
                let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                let page = self.pages.iter().find(|p| target.starts_with(p.path));
                *answer = Some(page.map_or_else(
                    || Answer::new("", "404 Not Found", "", b"no such page").bytes,
                    |page| page.bytes.clone(),
                ));
                self.targets.push(target);
            }
            if let Some(rest) = answer
                && !rest.is_empty()
            {
                let sent = guest.write(*line, rest);
                rest.drain(..sent);
                if rest.is_empty() {
                    guest.finish(*line);
                }
            }
        }
        self.lines.retain(|(line, ..)| {
            let life = guest.life(*line);
            life == Life::Open || life == Life::Connecting
        });
    }
}

fn head(request: &[u8]) -> Option<String> {
    let end = request.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some(String::from_utf8_lossy(&request[..end]).into_owned())
}

/// A UDP tracker (BEP 15).
#[derive(Debug)]
pub struct UdpTracker {
    /// Its address.
    pub addr: SocketAddr,
    /// The peers that it returns.
    pub peers: Vec<SocketAddr>,
    /// The events of announces, in order: 0 none, 1 completed, 2 started, 3 stopped.
    pub events: Vec<u32>,
    /// How many datagrams it ignores before it answers.
    pub deaf: u32,
    posts: Vec<Post>,
}

impl UdpTracker {
    /// A tracker without peers.
    pub fn new(guest: &mut dyn Guest, v6: bool) -> Self {
        let (post, addr) = guest.bind(v6);
        Self {
            addr,
            peers: Vec::new(),
            events: Vec::new(),
            deaf: 0,
            posts: vec![post],
        }
    }

    /// The same tracker on the same port over the other family.
    pub fn also(&mut self, guest: &mut dyn Guest, v6: bool) {
        let addr = SocketAddr::new(guest.ip(v6), self.addr.port());
        self.posts.push(guest.bind_at(addr));
    }

    /// Handles what has arrived.
    pub fn poll(&mut self, guest: &mut dyn Guest) {
        for post in self.posts.clone() {
            while let Some((from, packet)) = guest.receive(post) {
                if self.deaf > 0 {
                    self.deaf -= 1;
                    continue;
                }
                if let Some(answer) = self.answer(&packet) {
                    guest.send(post, from, &answer);
                }
            }
        }
    }

    fn answer(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let action = number(packet, 8)?;
        let mut answer = action.to_be_bytes().to_vec();
        answer.extend(packet.get(12..16)?);
        match action {
            CONNECT => answer.extend([7; 8]),
            ANNOUNCE => {
                self.events.push(number(packet, 80)?);
                // Interval, leechers, seeders.
                answer.extend([0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
                for peer in &self.peers {
                    match peer.ip() {
                        IpAddr::V4(ip) => answer.extend(ip.octets()),
                        IpAddr::V6(ip) => answer.extend(ip.octets()),
                    }
                    answer.extend(peer.port().to_be_bytes());
                }
            }
            _ => return None,
        }
        Some(answer)
    }
}

fn number(packet: &[u8], at: usize) -> Option<u32> {
    let bytes = packet.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}
