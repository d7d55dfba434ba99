//! Trackers in the lab: opentracker, and a small one of our own.
//!
//! Debian's opentracker is built for IPv4 alone and in whitelist mode. What it cannot do, IPv6,
//! [`Small`] does: HTTP (BEP 3, 7, 23) and UDP (BEP 15) on one port.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::http;
use crate::lab::{Family, Lab, Proc};
use crate::payload::Torrent;
use crate::wait::until;

/// The customary port.
const PORT: u16 = 6969;
/// Seconds between announces that [`Small`] asks for.
const INTERVAL: u32 = 1800;
/// First words of a UDP tracker conversation (BEP 15).
const UDP_MAGIC: u64 = 0x0417_2710_1980;
/// How often [`Small`] looks whether it is to stop.
const GLANCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// What a test asks of a tracker.
pub trait Tracker {
    /// Where it listens, TCP and UDP.
    fn address(&self) -> SocketAddr;
    /// Complete peers it knows of a torrent.
    fn seeds(&self, lab: &Lab, info_hash: &[u8; 20]) -> u64;

    /// Waits until it knows a complete peer.
    ///
    /// # Panics
    /// When none announces itself within `limit`.
    fn wait_for_seed(&self, lab: &Lab, torrent: &Torrent, limit: Duration) {
        until("a seed to announce itself", limit, || {
            (self.seeds(lab, &torrent.info_hash) > 0).then_some(())
        });
    }
}

/// Where the tracker that a lab starts will be: known before it runs, because torrents name it.
pub fn address_for(lab: &Lab, family: Family) -> SocketAddr {
    SocketAddr::new(lab.address(family), PORT)
}

/// Its announce URL over HTTP.
pub fn http_url(tracker: SocketAddr) -> String {
    format!("http://{tracker}/announce")
}

/// Its announce URL over UDP.
pub fn udp_url(tracker: SocketAddr) -> String {
    format!("udp://{tracker}/announce")
}

/// A running opentracker.
#[derive(Debug)]
pub struct Opentracker {
    address: SocketAddr,
    _process: Proc,
}

impl Opentracker {
    /// Starts it for the torrents given, on an IPv4 address.
    pub fn start(lab: &Lab, address: SocketAddr, torrents: &[&Torrent]) -> Self {
        // It chroots into the folder, so the list is named from there.
        let root = lab.folder("opentracker-root");
        let list: String = torrents
            .iter()
            .map(|t| t.hex().to_uppercase() + "\n")
            .collect();
        fs::write(root.join("whitelist"), list).expect("the whitelist");
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let root = root.to_string_lossy();
        let process = lab.spawn(
            "opentracker",
            &[
                "-i",
                &ip,
                "-p",
                &port,
                "-P",
                &port,
                "-d",
                &root,
                "-w",
                "whitelist",
            ],
        );
        until("opentracker to listen", Duration::from_secs(10), || {
            lab.inside(|| TcpStream::connect(address).ok())
        });
        Self {
            address,
            _process: process,
        }
    }
}

impl Tracker for Opentracker {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn seeds(&self, lab: &Lab, info_hash: &[u8; 20]) -> u64 {
        let path = format!("/scrape?info_hash={}", http::percent(info_hash));
        let Ok(answer) = lab.inside(|| http::request(self.address, "GET", &path, &[], b"")) else {
            return 0;
        };
        number_after(&answer.body, b"8:completei").unwrap_or(0)
    }
}

fn number_after(bytes: &[u8], key: &[u8]) -> Option<u64> {
    let start = bytes.windows(key.len()).position(|w| w == key)? + key.len();
    let digits = bytes[start..].split(|b| *b == b'e').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Peers by torrent; the flag tells complete ones.
type Swarms = BTreeMap<[u8; 20], BTreeMap<SocketAddr, bool>>;

/// A tracker in this process, in the lab's namespace, for either family.
#[derive(Debug)]
pub struct Small {
    address: SocketAddr,
    swarms: Arc<Mutex<Swarms>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Small {
    /// Starts it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub fn start(lab: &Lab, address: SocketAddr) -> Self {
        let swarms = Arc::<Mutex<Swarms>>::default();
        let stop = Arc::<AtomicBool>::default();
        let (tcp, udp) = lab.inside(|| {
            (
                TcpListener::bind(address).expect("TCP"),
                UdpSocket::bind(address).expect("UDP"),
            )
        });
        let thread = thread::spawn({
            let (swarms, stop) = (Arc::clone(&swarms), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut fds = [
                        PollFd::new(&tcp, PollFlags::IN),
                        PollFd::new(&udp, PollFlags::IN),
                    ];
                    poll(&mut fds, Some(&GLANCE)).expect("poll");
                    let (stream, datagram) = (fds[0].revents(), fds[1].revents());
                    // A client that misbehaves is its own test's failure, not the tracker's.
                    if stream.contains(PollFlags::IN) {
                        let _ = serve_http(&tcp, &swarms);
                    }
                    if datagram.contains(PollFlags::IN) {
                        let _ = serve_udp(&udp, &swarms);
                    }
                }
            }
        });
        Self {
            address,
            swarms,
            stop,
            thread: Some(thread),
        }
    }
}

impl Tracker for Small {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn seeds(&self, _lab: &Lab, info_hash: &[u8; 20]) -> u64 {
        let swarms = self.swarms.lock().expect("no panic while held");
        swarms.get(info_hash).map_or(0, |peers| {
            peers.values().filter(|complete| **complete).count() as u64
        })
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One announce, however it came.
struct Announce {
    info_hash: [u8; 20],
    peer: SocketAddr,
    complete: bool,
    stopped: bool,
}

/// Notes the peer and answers with the others of its family.
fn announce(swarms: &Mutex<Swarms>, a: &Announce) -> (u32, u32, Vec<u8>) {
    let mut swarms = swarms.lock().expect("no panic while held");
    let peers = swarms.entry(a.info_hash).or_default();
    if a.stopped {
        peers.remove(&a.peer);
    } else {
        peers.insert(a.peer, a.complete);
    }
    let mut compact = Vec::new();
    for other in peers
        .keys()
        .filter(|p| **p != a.peer && p.is_ipv4() == a.peer.is_ipv4())
    {
        match other.ip() {
            IpAddr::V4(ip) => compact.extend(ip.octets()),
            IpAddr::V6(ip) => compact.extend(ip.octets()),
        }
        compact.extend(other.port().to_be_bytes());
    }
    let seeds = peers.values().filter(|complete| **complete).count() as u32;
    (seeds, peers.len() as u32 - seeds, compact)
}

fn serve_http(listener: &TcpListener, swarms: &Mutex<Swarms>) -> io::Result<()> {
    let (mut stream, from) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 2048]);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") && head.len() < 16_384 {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => head.extend(&chunk[..n]),
        }
    }
    let body = http_announce(&head, from.ip()).map_or_else(
        || b"d14:failure reason11:bad requeste".to_vec(),
        |a| {
            let (seeds, rest, peers) = announce(swarms, &a);
            let key = if a.peer.is_ipv4() {
                "5:peers"
            } else {
                "6:peers6"
            };
            let head = format!(
                "d8:completei{seeds}e10:incompletei{rest}e8:intervali{INTERVAL}e{key}{}:",
                peers.len()
            );
            [head.as_bytes(), &peers, b"e"].concat()
        },
    );
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

fn http_announce(head: &[u8], from: IpAddr) -> Option<Announce> {
    let line = head.split(|b| *b == b'\r').next()?;
    let query = line
        .split(|b| *b == b' ')
        .nth(1)?
        .strip_prefix(b"/announce?")?;
    let value = |key: &str| {
        let mut pairs = query.split(|b| *b == b'&');
        pairs
            .find_map(|pair| pair.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
            .map(unpercent)
    };
    let port = String::from_utf8(value("port")?).ok()?.parse().ok()?;
    Some(Announce {
        info_hash: value("info_hash")?.try_into().ok()?,
        peer: SocketAddr::new(from, port),
        complete: value("left")? == b"0",
        stopped: value("event").is_some_and(|event| event == b"stopped"),
    })
}

fn unpercent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'%').then(|| tail.get(..2)).flatten();
        let byte =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    out
}

fn serve_udp(socket: &UdpSocket, swarms: &Mutex<Swarms>) -> io::Result<()> {
    let mut datagram = [0; 2048];
    let (n, from) = socket.recv_from(&mut datagram)?;
    if let Some(reply) = udp_reply(&datagram[..n], from, swarms) {
        socket.send_to(&reply, from)?;
    }
    Ok(())
}

/// BEP 15: connect (action 0) and announce (action 1); the connection id is the magic's complement.
fn udp_reply(d: &[u8], from: SocketAddr, swarms: &Mutex<Swarms>) -> Option<Vec<u8>> {
    let connection = u64::from_be_bytes(d.get(..8)?.try_into().ok()?);
    match (
        connection,
        u32::from_be_bytes(d.get(8..12)?.try_into().ok()?),
    ) {
        (UDP_MAGIC, 0) => Some([&d[8..16], &(!UDP_MAGIC).to_be_bytes()].concat()),
        (id, 1) if id == !UDP_MAGIC && d.len() >= 98 => {
            let a = Announce {
                info_hash: d[16..36].try_into().ok()?,
                peer: SocketAddr::new(from.ip(), u16::from_be_bytes([d[96], d[97]])),
                complete: d[64..72] == [0; 8],
                stopped: d[80..84] == 3u32.to_be_bytes(),
            };
            let (seeds, rest, peers) = announce(swarms, &a);
            Some(
                [
                    &d[8..16],
                    &INTERVAL.to_be_bytes(),
                    &rest.to_be_bytes(),
                    &seeds.to_be_bytes(),
                    &peers,
                ]
                .concat(),
            )
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_announce_is_read_whatever_its_order() {
        let head = b"GET /announce?port=7&left=0&info_hash=%00aaaaaaaaaaaaaaaaaa%FF&event=started HTTP/1.1\r\n\r\n";
        let a = http_announce(head, "fd77::2".parse().expect("an address")).expect("an announce");
        assert_eq!(
            (a.info_hash[0], a.info_hash[1], a.info_hash[19]),
            (0, b'a', 255)
        );
        assert_eq!(a.peer, "[fd77::2]:7".parse().expect("an address"));
        assert!(a.complete && !a.stopped);
    }

    #[test]
    fn peers_of_the_other_family_are_not_given() {
        let swarms = Mutex::default();
        let from = |peer: &str| Announce {
            info_hash: [1; 20],
            peer: peer.parse().expect("an address"),
            complete: false,
            stopped: false,
        };
        announce(&swarms, &from("10.0.0.1:1"));
        announce(&swarms, &from("10.0.0.2:258"));
        assert_eq!(announce(&swarms, &from("[::1]:1")), (0, 3, vec![]));
        assert_eq!(
            announce(&swarms, &from("10.0.0.1:1")).2,
            [10, 0, 0, 2, 1, 2]
        );
    }
}
