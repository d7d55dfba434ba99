//! A tracker for the demonstration: HTTP, compact answers (BEP 23), no expiry, on loopback only.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::AbortHandle,
};

/// The longest request head that is read, in bytes.
const MAX_HEAD: usize = 8 << 10;

type Peers = BTreeMap<Vec<u8>, BTreeSet<SocketAddrV4>>;

/// A running tracker; it ends when dropped.
pub(super) struct Tracker {
    address: SocketAddr,
    /// The number of announces so far.
    announces: watch::Receiver<u32>,
    task: AbortHandle,
}

impl Tracker {
    /// Starts a tracker on a port that the system chooses.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (count, announces) = watch::channel(0);
        let peers = Arc::new(Mutex::new(Peers::new()));
        let task = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                // Requests are answered one after the other, which is enough here. A client that fails is
                // ignored.
                if let Ok(true) = serve(stream, from, &peers).await {
                    count.send_modify(|n| *n += 1);
                }
            }
        });
        Ok(Self {
            address,
            announces,
            task: task.abort_handle(),
        })
    }

    /// The announce URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// Waits for the first announce.
    pub(super) async fn wait_for_peer(&self) {
        // The sender lives as long as the task, which lives as long as `self`.
        let _ = self.announces.clone().wait_for(|&n| n > 0).await;
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request. Returns whether it was an announce.
async fn serve(mut stream: TcpStream, from: SocketAddr, peers: &Mutex<Peers>) -> io::Result<bool> {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(false);
        }
    }
    let target = head.split(|&b| b == b' ').nth(1).unwrap_or_default();
    let announce = announce(target, from, peers);
    let (status, body) = match &announce {
        Some(body) => ("200 OK", body.as_slice()),
        None => ("404 Not Found", &b""[..]),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await?;
    Ok(announce.is_some())
}

/// Records an announce and lists the other peers of the torrent.
fn announce(target: &[u8], from: SocketAddr, peers: &Mutex<Peers>) -> Option<Vec<u8>> {
    let query = target.strip_prefix(b"/announce?")?;
    let mut hash = None;
    let mut port = None;
    let mut stopped = false;
    for pair in query.split(|&b| b == b'&') {
        let equals = pair.iter().position(|&b| b == b'=')?;
        let (name, value) = (&pair[..equals], &pair[equals + 1..]);
        match name {
            b"info_hash" => hash = Some(value.to_vec()),
            b"port" => port = std::str::from_utf8(value).ok()?.parse::<u16>().ok(),
            b"event" => stopped = value == b"stopped",
            _ => {}
        }
    }
    let SocketAddr::V4(from) = from else {
        return None;
    };
    let own = SocketAddrV4::new(*from.ip(), port?);
    let mut peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
    // Clients escape a hash in different ways, but each always in the same way.
    let swarm = peers.entry(hash?).or_default();
    let others: Vec<u8> = swarm
        .iter()
        .filter(|&&peer| peer != own)
        .flat_map(|peer| [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat())
        .collect();
    if stopped {
        swarm.remove(&own);
    } else {
        swarm.insert(own);
    }
    let mut body = format!("d8:intervali1800e5:peers{}:", others.len()).into_bytes();
    body.extend_from_slice(&others);
    body.push(b'e');
    Some(body)
}
