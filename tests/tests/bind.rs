//! What is bound to an address leaves from there alone: the command in a network namespace of its
//! own, with every packet looked at.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dunlin_std::net::socket::{self, Egress};
use dunlin_tests::lab::{Family, Lab, Proc};
use dunlin_tests::peers::dunlin;
use dunlin_tests::wait::until;
use nix::sys::socket::{
    self as raw, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt,
    sockopt,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP or UDP packet: what an eavesdropper on any interface of the namespace sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    from: IpAddr,
    to: SocketAddr,
    tcp: bool,
}

/// All packets of the namespace, as they are seen.
#[derive(Clone)]
struct Capture(Arc<Mutex<BTreeSet<Seen>>>);

impl Capture {
    /// Looks on until the process ends.
    fn start(lab: &Lab) -> Self {
        let capture = Self(Arc::default());
        let (kind, flags) = (SockType::Datagram, SockFlag::empty());
        let all = SockProtocol::EthAll;
        let open = || raw::socket(AddressFamily::Packet, kind, flags, all).unwrap();
        let fd: OwnedFd = lab.inside(open);
        setsockopt(&fd, sockopt::RcvBuf, &(4 << 20)).unwrap();
        let seen = Arc::clone(&capture.0);
        thread::spawn(move || {
            let mut buf = [0; 65_536];
            while let Ok(len) = recv(fd.as_raw_fd(), &mut buf, MsgFlags::empty()) {
                if let Some(packet) = parse(&buf[..len]) {
                    seen.lock().unwrap().insert(packet);
                }
            }
        });
        capture
    }

    fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().iter().copied().collect()
    }
}

/// Addresses and destination port of an IP packet with TCP or UDP in it.
fn parse(packet: &[u8]) -> Option<Seen> {
    let v6 = |at: usize| {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(octets)))
    };
    let v4 = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(IpAddr::V4(Ipv4Addr::from(octets)))
    };
    let (from, to, protocol, head) = match packet.first()? >> 4 {
        4 => (
            v4(12)?,
            v4(16)?,
            *packet.get(9)?,
            usize::from(packet[0] & 15) * 4,
        ),
        6 => (v6(8)?, v6(24)?, *packet.get(6)?, 40),
        _ => return None,
    };
    let port = packet.get(head + 2..head + 4)?;
    let to = SocketAddr::new(to, u16::from_be_bytes(port.try_into().ok()?));
    matches!(protocol, 6 | 17).then_some(Seen {
        from,
        to,
        tcp: protocol == 6,
    })
}

/// Something that listens on every address of the lab, over both families on one port: a tracker
/// over HTTP or UDP, a peer, a DHT node.
struct Service {
    port: u16,
    /// The source addresses that were seen.
    heard: Receiver<IpAddr>,
}

impl Service {
    /// Answers as an HTTP tracker that knows nobody. A peer is not disturbed by that.
    fn tcp(lab: &Lab) -> Self {
        Self::start(lab, |at, tell| {
            let listener: TcpListener = socket::listener(at, &Egress::default()).unwrap().into();
            listener.set_nonblocking(false).unwrap();
            let port = listener.local_addr().unwrap().port();
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let from = stream.peer_addr().unwrap();
                    let _ = stream.read(&mut [0; 4096]);
                    let body = "d8:intervali1800e5:peers0:e";
                    let len = body.len();
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
                    let _ = stream.write_all(format!("{head}{body}").as_bytes());
                    let _ = tell.send(from.ip());
                }
            });
            port
        })
    }

    /// Answers nothing.
    fn udp(lab: &Lab) -> Self {
        Self::start(lab, |at, tell| {
            let socket: UdpSocket = socket::udp(at, &Egress::default()).unwrap().into();
            socket.set_nonblocking(false).unwrap();
            let port = socket.local_addr().unwrap().port();
            thread::spawn(move || {
                while let Ok((_, from)) = socket.recv_from(&mut [0; 2048]) {
                    let _ = tell.send(from.ip());
                }
            });
            port
        })
    }

    fn start(lab: &Lab, bind: impl Fn(SocketAddr, Sender<IpAddr>) -> u16 + Send) -> Self {
        let (tell, heard) = channel();
        let port = lab.inside(move || {
            let port = bind((Ipv4Addr::UNSPECIFIED, 0).into(), tell.clone());
            bind((Ipv6Addr::UNSPECIFIED, port).into(), tell)
        });
        Self { port, heard }
    }

    /// Waits until somebody was heard.
    fn wait(&self, what: &str) -> IpAddr {
        let heard = self.heard.recv_timeout(PATIENCE);
        heard.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }
}

/// A torrent that nobody has, and its only tracker: of several one that answers would be enough.
fn magnet(n: usize, tracker: &str) -> String {
    format!("magnet:?xt=urn:btih:{n:040x}&tr={tracker}")
}

/// Whether the machine's own name has an address of a family.
fn localhost_has(family: Family) -> bool {
    let mut found = ("localhost", 0).to_socket_addrs().unwrap();
    found.any(|at| at.is_ipv4() == (family == Family::V4))
}

/// Trackers over HTTP and UDP, by address and by name, peers and DHT nodes, all of them over both
/// families: only the family of the bound address is used, and only from that address.
fn leaves_from(family: Family) {
    let lab = Lab::new();
    let (own, servers) = (lab.address(family), [Family::V4, Family::V6]);
    let servers = servers.map(|family| lab.address(family));
    let (http, udp) = (Service::tcp(&lab), Service::udp(&lab));
    let (peer, node) = (Service::tcp(&lab), Service::udp(&lab));
    let named = Service::tcp(&lab);
    let capture = Capture::start(&lab);
    let at = |ip: IpAddr, service: &Service| SocketAddr::new(ip, service.port).to_string();
    let (out, session) = (lab.folder("out"), lab.folder("session"));
    let mut args: Vec<String> = vec!["get".into()];
    let mut trackers = vec![format!("http://localhost:{}/announce", named.port)];
    let mut option = |name: &str, value: String| args.extend([name.to_owned(), value]);
    option("--output", out.to_string_lossy().into());
    option("--session", session.to_string_lossy().into());
    option("--bind", own.to_string());
    option("--encryption", "off".into());
    option("--dht", "on".into());
    for ip in servers {
        trackers.push(format!("http://{}/announce", at(ip, &http)));
        trackers.push(format!("udp://{}/announce", at(ip, &udp)));
        option("--peer", at(ip, &peer));
        option("--dht-node", at(ip, &node));
    }
    args.push("--dht-local".into());
    let magnets = trackers.iter().enumerate();
    args.extend(magnets.map(|(n, tracker)| magnet(n, tracker)));
    let mut command = lab.spawn(dunlin::command(), &args);
    let mut services = vec![
        (&http, "the HTTP tracker"),
        (&udp, "the UDP tracker"),
        (&peer, "the peer"),
        (&node, "the DHT node"),
    ];
    if localhost_has(family) {
        services.push((&named, "the HTTP tracker that has a name"));
    }
    for (service, what) in &services {
        assert_eq!(service.wait(what), own, "{what}");
    }
    // A farewell to the trackers is traffic, too.
    command.terminate();

    let ports = [&http, &named, &udp, &peer, &node].map(|service| service.port);
    let asked = |seen: &&Seen| ports.contains(&seen.to.port());
    let seen = capture.seen();
    let asked: Vec<&Seen> = seen.iter().filter(asked).collect();
    for (service, what) in &services {
        let to = |seen: &&&Seen| seen.to.port() == service.port;
        assert!(asked.iter().any(|s| to(&s)), "{what} was not seen");
    }
    let leaks: Vec<_> = asked.iter().filter(|seen| seen.from != own).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
    // Nothing at all of the other family, not even to a service that is not known here.
    let other = seen.iter().find(|s| s.from.is_ipv4() != own.is_ipv4());
    assert_eq!(other, None);
}

#[test]
fn an_ipv4_address_is_the_only_one_used() {
    leaves_from(Family::V4);
}

#[test]
fn an_ipv6_address_is_the_only_one_used() {
    leaves_from(Family::V6);
}

/// The interface that all is bound to goes away and another of its name comes, as when a VPN is
/// started again: both are said, the tracker is asked again and peers come in again.
#[test]
fn an_interface_goes_away_and_comes_back() {
    const PORT: u16 = 7001;
    let (near, far) = (Lab::bare(), Lab::bare());
    let plug = || near.wire("wire0", "10.9.0.1/24", &far, "10.9.0.2/24");
    plug();
    let tracker = Service::tcp(&far);
    let url = format!("http://10.9.0.2:{}/announce", tracker.port);
    let (out, port) = (near.folder("out"), PORT.to_string());
    let magnet = magnet(1, &url);
    let args = [
        "get",
        &magnet,
        "--dir",
        out.to_str().unwrap(),
        "--no-session",
        "--bind",
        "wire0",
        "--port",
        &port,
    ];
    let mut command = near.spawn(dunlin::command(), &args);
    let own: IpAddr = [10, 9, 0, 1].into();
    assert_eq!(tracker.wait("the first announce"), own);
    let reached = || {
        let at = SocketAddr::new(own, PORT);
        let limit = Duration::from_secs(1);
        far.inside(|| std::net::TcpStream::connect_timeout(&at, limit).is_ok())
    };
    assert!(reached(), "a peer comes in");

    near.unplug("wire0");
    let said = |command: &Proc, words: &str| {
        until(words, PATIENCE, || {
            command.log().contains(words).then_some(())
        });
    };
    said(&command, "interface wire0 is gone");
    plug();
    said(&command, "interface wire0 is back");
    // Whatever was said before is not counted: the interface was gone.
    assert_eq!(tracker.wait("another announce"), own);
    until("a peer to come in again", PATIENCE, || {
        reached().then_some(())
    });
    command.terminate();
}
