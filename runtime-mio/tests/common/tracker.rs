//! Trackers of a few lines, on loopback: HTTP (BEP 3, BEP 23) and UDP (BEP 15).

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    sync::mpsc::{Receiver, Sender, channel},
};

/// First words of a UDP tracker conversation (BEP 15).
const UDP_MAGIC: u64 = 0x0417_2710_1980;

/// A running tracker. It ends with the test's process.
pub(crate) struct Tracker {
    pub(crate) url: String,
    /// The query, or the event's number, of every announce.
    pub(crate) asked: Receiver<String>,
}

/// All addresses on loopback that have announced themselves, in compact form.
#[derive(Default)]
struct Swarm(Vec<u8>);

impl Swarm {
    fn announce(&mut self, port: u16) -> Vec<u8> {
        let others = self.0.clone();
        self.0.extend(Ipv4Addr::LOCALHOST.octets());
        self.0.extend(port.to_be_bytes());
        others
    }
}

pub(crate) fn http() -> Tracker {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        let mut swarm = Swarm::default();
        for stream in listener.incoming().flatten() {
            serve_http(stream, &mut swarm, &tell);
        }
    });
    Tracker { url, asked }
}

fn serve_http(mut stream: TcpStream, swarm: &mut Swarm, tell: &Sender<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let query = head.split(['?', ' ']).nth(2).unwrap_or_default().to_owned();
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key));
    let port = value("port=").and_then(|port| port.parse().ok());
    let peers = port.map_or_else(Vec::new, |port| swarm.announce(port));
    let body = [
        format!("d8:intervali1800e5:peers{}:", peers.len()).as_bytes(),
        &peers,
        b"e",
    ]
    .concat();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    // Sent before the answer, so that a test that got the answer finds the query.
    let _ = tell.send(query);
    // A client that has enough hangs up.
    let _ = stream.write_all(&[answer.as_bytes(), &body].concat());
}

pub(crate) fn udp() -> Tracker {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        let mut swarm = Swarm::default();
        let mut buf = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buf) {
            if let Some(answer) = answer_udp(&buf[..len], &mut swarm, &tell) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Tracker { url, asked }
}

/// Connect is action 0, announce 1; the connection id is the magic's complement.
fn answer_udp(d: &[u8], swarm: &mut Swarm, tell: &Sender<String>) -> Option<Vec<u8>> {
    let id = u64::from_be_bytes(d.get(..8)?.try_into().ok()?);
    match (id, d.get(8..12)?) {
        (UDP_MAGIC, [0, 0, 0, 0]) => Some([&d[8..16], &(!UDP_MAGIC).to_be_bytes()].concat()),
        (id, [0, 0, 0, 1]) if id == !UDP_MAGIC && d.len() >= 98 => {
            let _ = tell.send(format!("event {}", d[83]));
            let peers = swarm.announce(u16::from_be_bytes([d[96], d[97]]));
            let (interval, rest) = (1800u32.to_be_bytes(), [0; 8]);
            Some([&d[8..16], &interval, &rest, &peers].concat())
        }
        _ => None,
    }
}
