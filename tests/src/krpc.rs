//! As much of the DHT's messages (BEP 5) as a load and a probe need, without core's code, which is under test.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::lab::Lab;

/// Bytes of a compact node.
const COMPACT: usize = 26;
/// Nodes in a full answer.
pub(crate) const K: usize = 8;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// `ping`
    Ping,
    /// `find_node` for a random id
    FindNode,
    /// `get_peers` of a random info-hash
    GetPeers,
}

/// Asks a node for those closest to a random id: how many it names, or `None` if it does not answer soon.
pub fn closest(lab: &Lab, from: SocketAddr, node: SocketAddr) -> Option<usize> {
    /// A node next door answers within this.
    const SOON: Duration = Duration::from_secs(1);
    let ask = || {
        let socket = UdpSocket::bind(from)?;
        socket.connect(node)?;
        socket.set_read_timeout(Some(SOON))?;
        let (mut query, mut answer) = (Vec::new(), [0; 2048]);
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(node.port()));
        write_query(
            &mut query,
            Query::FindNode,
            b"a node that will end",
            1,
            &mut rng,
        );
        socket.send(&query)?;
        loop {
            let len = socket.recv(&mut answer)?;
            // It may ask us, too.
            if holds(&answer[..len], b"1:y1:r") {
                return Ok::<_, io::Error>(nodes_in(&answer[..len]));
            }
        }
    };
    lab.inside(|| ask().ok())
}

/// Writes a query of node `id`.
pub(crate) fn write_query(
    out: &mut Vec<u8>,
    query: Query,
    id: &[u8; 20],
    tid: u32,
    rng: &mut ChaCha8Rng,
) {
    let mut target = [0; 20];
    out.clear();
    out.extend(b"d1:ad2:id20:");
    out.extend(id);
    match query {
        Query::Ping => out.extend(b"e1:q4:ping"),
        Query::FindNode => {
            rng.fill_bytes(&mut target);
            out.extend(b"6:target20:");
            out.extend(target);
            out.extend(b"e1:q9:find_node");
        }
        Query::GetPeers => {
            rng.fill_bytes(&mut target);
            return write_get_peers(out, id, &target, tid);
        }
    }
    out.extend(b"1:t4:");
    out.extend(tid.to_be_bytes());
    out.extend(b"1:y1:qe");
}

/// Writes a `get_peers`.
pub(crate) fn write_get_peers(out: &mut Vec<u8>, id: &[u8; 20], hash: &[u8; 20], tid: u32) {
    out.clear();
    out.extend(b"d1:ad2:id20:");
    out.extend(id);
    out.extend(b"9:info_hash20:");
    out.extend(hash);
    out.extend(b"e1:q9:get_peers1:t4:");
    out.extend(tid.to_be_bytes());
    out.extend(b"1:y1:qe");
}

/// Writes an `announce_peer`, of a peer that listens where it asks from.
pub(crate) fn write_announce(out: &mut Vec<u8>, id: &[u8; 20], hash: &[u8; 20], token: &[u8]) {
    out.clear();
    out.extend(b"d1:ad2:id20:");
    out.extend(id);
    out.extend(b"12:implied_porti1e9:info_hash20:");
    out.extend(hash);
    out.extend(b"4:porti6881e5:token");
    out.extend(format!("{}:", token.len()).bytes());
    out.extend(token);
    out.extend(b"e1:q13:announce_peer1:t2:aa1:y1:qe");
}

/// The token of a reply to `get_peers`.
pub(crate) fn token(reply: &[u8]) -> Option<&[u8]> {
    let at = reply.windows(7).position(|w| w == b"5:token")? + 7;
    text(reply, at)
}

/// Answers any query with our id, the nodes there are, and a token; `false` if there is no transaction to answer.
pub(crate) fn write_answer(
    out: &mut Vec<u8>,
    query: &[u8],
    id: &[u8; 20],
    nodes: &[([u8; 20], SocketAddr)],
) -> bool {
    let Some(tid) = transaction(query) else {
        return false;
    };
    out.clear();
    out.extend(b"d1:rd2:id20:");
    out.extend(id);
    if !holds(query, b"1:q4:ping") {
        let some = nodes.iter().filter(|(other, _)| other != id).take(K);
        let mut compact = Vec::with_capacity(K * COMPACT);
        for (id, address) in some {
            if let SocketAddr::V4(address) = address {
                compact.extend(id);
                compact.extend(address.ip().octets());
                compact.extend(address.port().to_be_bytes());
            }
        }
        out.extend(format!("5:nodes{}:", compact.len()).bytes());
        out.extend(compact);
        out.extend(b"5:token4:aoeu");
    }
    out.extend(b"e1:t");
    out.extend(format!("{}:", tid.len()).bytes());
    out.extend(tid);
    out.extend(b"1:y1:re");
    true
}

/// The transaction id: what follows the last key `t`, for the keys are sorted.
pub(crate) fn transaction(message: &[u8]) -> Option<&[u8]> {
    let at = message.windows(3).rposition(|w| w == b"1:t")? + 3;
    text(message, at)
}

/// The bencoded string that starts at `at`.
fn text(message: &[u8], at: usize) -> Option<&[u8]> {
    let colon = at + message[at..].iter().position(|b| *b == b':')?;
    let len: usize = std::str::from_utf8(&message[at..colon])
        .ok()?
        .parse()
        .ok()?;
    message.get(colon + 1..colon + 1 + len)
}

/// How many nodes an answer names.
pub(crate) fn nodes_in(answer: &[u8]) -> usize {
    let key = b"5:nodes";
    let Some(at) = answer.windows(key.len()).position(|w| w == key) else {
        return 0;
    };
    let rest = &answer[at + key.len()..];
    let digits = rest.iter().take_while(|b| b.is_ascii_digit());
    digits.fold(0, |n, b| n * 10 + usize::from(b - b'0')) / COMPACT
}

/// Whether `part` is somewhere in a message.
pub(crate) fn holds(message: &[u8], part: &[u8]) -> bool {
    message.windows(part.len()).any(|w| w == part)
}
