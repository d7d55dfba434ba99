//! Many clients that query a DHT node once, each from an address of its own, and announce: the node grows
//! by what it remembers of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::krpc::{holds, token, write_announce, write_get_peers};

/// How many ask at once.
const TOGETHER: usize = 32;
/// An answer that takes longer does not come.
const LATE: Duration = Duration::from_millis(500);

/// What came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// The clients that asked for peers and got an answer.
    pub answered: u32,
    /// The clients whose announce was confirmed.
    pub announced: u32,
}

/// Lets `size` ask `node` for peers of one of `hashes` torrents and, if `announce`, announce themselves. Their addresses
/// are 127.64.0.0 and up, spread over 16384 networks of 256.
///
/// # Errors
/// What the platform says.
pub fn visit(node: SocketAddr, size: u32, hashes: u32, announce: bool) -> io::Result<Crowd> {
    let mut rng = ChaCha8Rng::seed_from_u64(u64::from(size));
    let mut crowd = Crowd::default();
    let (mut message, mut answer) = (Vec::new(), [0; 2048]);
    for first in (0..size).step_by(TOGETHER) {
        let mut group = Vec::with_capacity(TOGETHER);
        for n in first..size.min(first + TOGETHER as u32) {
            let socket = UdpSocket::bind((address(n), 0))?;
            socket.connect(node)?;
            socket.set_read_timeout(Some(LATE))?;
            let (mut id, mut hash) = ([0; 20], [0; 20]);
            rng.fill_bytes(&mut id);
            ChaCha8Rng::seed_from_u64(u64::from(n % hashes)).fill_bytes(&mut hash);
            write_get_peers(&mut message, &id, &hash, n);
            socket.send(&message)?;
            group.push((socket, id, hash));
        }
        let mut waiting = Vec::with_capacity(TOGETHER);
        for (socket, id, hash) in group {
            let Some(len) = reply(&socket, &mut answer)? else {
                continue;
            };
            crowd.answered += 1;
            if let Some(token) = token(&answer[..len]).filter(|_| announce) {
                write_announce(&mut message, &id, &hash, token);
                socket.send(&message)?;
                waiting.push(socket);
            }
        }
        for socket in waiting {
            crowd.announced += u32::from(reply(&socket, &mut answer)?.is_some());
        }
    }
    Ok(crowd)
}

fn address(n: u32) -> Ipv4Addr {
    let part = |n: u32| (n % 256) as u8;
    Ipv4Addr::new(
        127,
        64 + part(n % 64),
        part(n / 64),
        part(n / (64 * 256)) + 1,
    )
}

/// The length of the reply that comes, without what the node asks by itself.
fn reply(socket: &UdpSocket, answer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match socket.recv(answer) {
            Ok(len) if holds(&answer[..len], b"1:y1:r") => return Ok(Some(len)),
            Ok(len) if holds(&answer[..len], b"1:y1:e") => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}
