//! A tracker over HTTP (BEP 3, 7, 23, 48) and UDP (BEP 15), on one port and with one state.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use dunlin_core::{InfoHash, Instant, http};

use super::swarm::{Announce, Swarm};
use crate::{
    host::{
        Host, HostCx,
        stack::{MTU, Reply, TcpServer},
    },
    packet::{Packet, Proto},
};

/// The constant at the beginning of a UDP connect request (BEP 15).
const PROTOCOL_ID: u64 = 0x0417_2710_1980;
/// How long a connection id is valid (BEP 15).
const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// The peers in an answer when the request names no number.
const DEFAULT_WANT: usize = 50;
/// The most torrents in one UDP scrape (BEP 15).
const MAX_SCRAPE: usize = 74;

/// The configuration of a tracker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerConfig {
    /// The port, for TCP and UDP.
    pub port: u16,
    /// The announce interval that peers are told.
    pub interval: Duration,
    /// Answers over HTTP.
    pub http: bool,
    /// Answers over UDP.
    pub udp: bool,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            port: 6_969,
            interval: Duration::from_secs(1_800),
            http: true,
            udp: true,
        }
    }
}

/// A tracker. It tells peers about each other by the address from which an announce came.
#[derive(Debug)]
pub struct Tracker {
    config: TrackerConfig,
    addrs: Vec<IpAddr>,
    swarm: Swarm,
    server: Option<TcpServer>,
    secret: u64,
}

impl Tracker {
    /// Creates a tracker on the addresses of its host.
    #[must_use]
    pub fn new(addrs: &[IpAddr], config: TrackerConfig) -> Self {
        Self {
            config,
            addrs: addrs.to_vec(),
            swarm: Swarm::default(),
            server: None,
            secret: 0,
        }
    }

    /// The members of each swarm.
    #[must_use]
    pub const fn swarm(&self) -> &Swarm {
        &self.swarm
    }

    /// A member is dropped after two announce intervals of silence.
    fn lifetime(&self) -> Duration {
        self.config.interval * 2 + Duration::from_secs(60)
    }

    fn datagram(&mut self, cx: &mut HostCx<'_>, packet: &Packet) {
        let (from, to) = (packet.flow().src, packet.flow().dst);
        let Some(answer) = self.udp(cx, from, packet.payload()) else {
            return;
        };
        cx.send_udp(to, from, &answer);
    }

    fn udp(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, data: &[u8]) -> Option<Vec<u8>> {
        let connection = u64_at(data, 0)?;
        let (action, transaction) = (u32_at(data, 8)?, data.get(12..16)?);
        let mut answer = Vec::with_capacity(64);
        answer.extend_from_slice(&action.to_be_bytes());
        answer.extend_from_slice(transaction);
        if action == 0 {
            if connection != PROTOCOL_ID {
                return None;
            }
            answer.extend_from_slice(&self.connection(cx.now, from).to_be_bytes());
            return Some(answer);
        }
        let before = Instant::from_micros(
            cx.now
                .as_micros()
                .saturating_sub(CONNECTION_LIFE.as_micros() as u64),
        );
        let known = [cx.now, before]
            .iter()
            .any(|at| self.connection(*at, from) == connection);
        if !known {
            return Some(error(transaction, "connection id expired"));
        }
        match action {
            1 => self.udp_announce(cx, from, data, &mut answer)?,
            2 => {
                for hash in data[16..].chunks_exact(20).take(MAX_SCRAPE) {
                    let stats = self.swarm.stats(InfoHash(hash.try_into().ok()?));
                    for n in [stats.seeds, stats.completed, stats.leeches] {
                        answer.extend_from_slice(&n.to_be_bytes());
                    }
                }
            }
            _ => return Some(error(transaction, "unknown action")),
        }
        Some(answer)
    }

    fn udp_announce(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddr,
        data: &[u8],
        answer: &mut Vec<u8>,
    ) -> Option<()> {
        let event = u32_at(data, 80)?;
        let want = u32_at(data, 92)? as i32;
        let port = u16::from_be_bytes(data.get(96..98)?.try_into().ok()?);
        let announce = Announce {
            info_hash: InfoHash(data.get(16..36)?.try_into().ok()?),
            peer: SocketAddr::new(from.ip(), port),
            left: u64_at(data, 64)?,
            stopped: event == 3,
            completed: event == 1,
            want: usize::try_from(want).unwrap_or(DEFAULT_WANT),
        };
        let peers = self.announce(cx, &announce);
        let stats = self.swarm.stats(announce.info_hash);
        let interval = self.config.interval.as_secs() as u32;
        for n in [interval, stats.leeches, stats.seeds] {
            answer.extend_from_slice(&n.to_be_bytes());
        }
        compact(&peers, answer);
        Some(())
    }

    /// The connection id of an address at a time. It is computed instead of stored, as BEP 15
    /// permits.
    fn connection(&self, now: Instant, from: SocketAddr) -> u64 {
        let epoch = now.as_micros() / CONNECTION_LIFE.as_micros() as u64;
        let mut seen = Vec::with_capacity(42);
        seen.extend_from_slice(&self.secret.to_be_bytes());
        seen.extend_from_slice(&epoch.to_be_bytes());
        compact(&[from], &mut seen);
        let digest = dunlin_core::hash::sha1(&seen);
        u64_at(&digest, 0).unwrap_or(0)
    }

    fn announce(&mut self, cx: &mut HostCx<'_>, announce: &Announce) -> Vec<SocketAddr> {
        let lifetime = self.lifetime();
        self.swarm.announce(cx.now, cx.rng, lifetime, announce)
    }

    fn http(&mut self, cx: &mut HostCx<'_>, from: SocketAddr, bytes: &[u8]) -> Reply {
        let request = match http::request::parse(bytes) {
            Ok(Some(request)) => request,
            Ok(None) => return Reply::More,
            Err(bad) => {
                let text = bad.to_string();
                return Reply::Close(http::respond(bad.status(), "text/plain", text.as_bytes()));
            }
        };
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((request.target, ""));
        let body = match path {
            "/announce" => self.http_announce(cx, from, query),
            "/scrape" => self.http_scrape(query),
            _ => return Reply::Close(http::respond(404, "text/plain", b"/announce or /scrape")),
        };
        let body = body
            .unwrap_or_else(|why| format!("d14:failure reason{}:{why}e", why.len()).into_bytes());
        Reply::Close(http::respond(200, "text/plain", &body))
    }

    fn http_announce(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddr,
        query: &str,
    ) -> Result<Vec<u8>, &'static str> {
        let mut fields = BTreeMap::new();
        for (key, value) in pairs(query) {
            fields.insert(key, value);
        }
        let text = |key: &str| fields.get(key).and_then(|v| std::str::from_utf8(v).ok());
        let hash = fields.get("info_hash").ok_or("no info_hash")?;
        let port = text("port").and_then(|p| p.parse().ok()).ok_or("no port")?;
        let announce = Announce {
            info_hash: InfoHash(
                hash.as_slice()
                    .try_into()
                    .map_err(|_| "info_hash is not 20 bytes")?,
            ),
            peer: SocketAddr::new(from.ip(), port),
            left: text("left")
                .and_then(|n| n.parse().ok())
                .unwrap_or(u64::MAX),
            stopped: text("event") == Some("stopped"),
            completed: text("event") == Some("completed"),
            want: text("numwant")
                .and_then(|n| n.parse().ok())
                .unwrap_or(DEFAULT_WANT),
        };
        let peers = self.announce(cx, &announce);
        let stats = self.swarm.stats(announce.info_hash);
        let mut packed = Vec::new();
        compact(&peers, &mut packed);
        let key = if from.is_ipv4() {
            "5:peers"
        } else {
            "6:peers6"
        };
        let mut external = Vec::new();
        compact(&[from], &mut external);
        external.truncate(external.len() - 2);
        let mut body = format!("d8:completei{}e", stats.seeds).into_bytes();
        // The address of the client, as seen from here (BEP 24).
        body.extend_from_slice(format!("11:external ip{}:", external.len()).as_bytes());
        body.extend_from_slice(&external);
        let interval = self.config.interval.as_secs();
        let rest = format!("10:incompletei{}e8:intervali{interval}e", stats.leeches);
        body.extend_from_slice(rest.as_bytes());
        body.extend_from_slice(format!("{key}{}:", packed.len()).as_bytes());
        body.extend_from_slice(&packed);
        body.push(b'e');
        Ok(body)
    }

    fn http_scrape(&self, query: &str) -> Result<Vec<u8>, &'static str> {
        let mut hashes: Vec<[u8; 20]> = pairs(query)
            .filter(|(key, _)| *key == "info_hash")
            .filter_map(|(_, value)| value.try_into().ok())
            .collect();
        // The keys of a dictionary are sorted and distinct.
        hashes.sort_unstable();
        hashes.dedup();
        let mut body = b"d5:filesd".to_vec();
        for hash in hashes {
            let s = self.swarm.stats(InfoHash(hash));
            body.extend_from_slice(b"20:");
            body.extend_from_slice(&hash);
            let (seeds, done, leeches) = (s.seeds, s.completed, s.leeches);
            let figures =
                format!("d8:completei{seeds}e10:downloadedi{done}e10:incompletei{leeches}ee");
            body.extend_from_slice(figures.as_bytes());
        }
        body.extend_from_slice(b"ee");
        Ok(body)
    }

    fn serve(&mut self, cx: &mut HostCx<'_>) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        server.run(cx, |cx, from, bytes| self.http(cx, from, bytes));
        self.server = Some(server);
    }
}

impl Host for Tracker {
    fn start(&mut self, cx: &mut HostCx<'_>) {
        self.secret = cx.rng.next_u64();
        if self.config.http {
            let seed = cx.rng.next_u64();
            self.server = Some(TcpServer::new(&self.addrs, self.config.port, MTU, seed));
        }
    }

    fn packet(&mut self, cx: &mut HostCx<'_>, packet: Packet) {
        match (packet.flow().proto, &mut self.server) {
            (Proto::Udp, _) if self.config.udp && packet.flow().dst.port() == self.config.port => {
                if packet.checksums_hold() {
                    self.datagram(cx, &packet);
                }
                cx.recycle(packet);
            }
            (_, Some(server)) => {
                server.arrive(packet);
                self.serve(cx);
            }
            (_, None) => cx.recycle(packet),
        }
    }

    fn wake(&mut self, cx: &mut HostCx<'_>) {
        self.serve(cx);
    }

    fn next_wake(&self) -> Option<Instant> {
        self.server.as_ref()?.next_wake()
    }
}

fn error(transaction: &[u8], why: &str) -> Vec<u8> {
    [&3_u32.to_be_bytes(), transaction, why.as_bytes()].concat()
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(data.get(at..at + 8)?.try_into().ok()?))
}

/// Addresses in the compact form of BEP 23 and BEP 7.
fn compact(peers: &[SocketAddr], into: &mut Vec<u8>) {
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => into.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => into.extend_from_slice(&ip.octets()),
        }
        into.extend_from_slice(&peer.port().to_be_bytes());
    }
}

/// The fields of a query, with their values decoded.
fn pairs(query: &str) -> impl Iterator<Item = (&str, Vec<u8>)> {
    query.split('&').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        Some((key, percent_encoding::percent_decode_str(value).collect()))
    })
}

#[cfg(test)]
mod tests;
