//! What trackers are told by an engine: ports that are bound, what is missing, that we stop.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::commands::Commands;
use common::{World, add, torrent};
use dunlin_core::engine::{
    AddTorrent, Engine, Event, FilePriority, Level, ReadBufs, Source, State, What, WriteBufs,
};
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::tracker::NO_PORT;
use dunlin_core::{Caps, Config, InfoHash, Instant, Op, OpErrorKind, Outcome, TorrentId, Transmit};
use dunlin_core::{http::HttpRequest, op::SocketKind};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const SECOND: Duration = Duration::from_secs(1);
const V4: &str = "0.0.0.0:6881";
const V6: &str = "[::]:6882";

/// An engine whose sockets, names and HTTP trackers the test plays.
struct Host {
    e: Engine,
    now: Instant,
    /// Addresses that others have.
    taken: Vec<(SocketAddr, SocketKind)>,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// What every HTTP tracker answers.
    body: &'static [u8],
    asked: Vec<HttpRequest>,
    sent: Vec<(Transmit, Vec<u8>)>,
    /// Datagrams to these cannot be sent.
    unreachable: Vec<SocketAddr>,
    notices: Vec<(Level, What)>,
}

impl Host {
    fn new(listen: &[&str], taken: &[(&str, SocketKind)]) -> Self {
        let mut config = Config::default();
        config.listen.clear();
        for at in listen {
            config.listen.push(at.parse().unwrap()).unwrap();
        }
        let now = Instant::from_micros(10);
        let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
        Self {
            e: Engine::new(now, config, Caps::all(), rng),
            now,
            taken: taken
                .iter()
                .map(|(at, kind)| (at.parse().unwrap(), *kind))
                .collect(),
            names: BTreeMap::new(),
            body: b"d8:intervali1800e5:peers0:e",
            asked: Vec::new(),
            sent: Vec::new(),
            unreachable: Vec::new(),
            notices: Vec::new(),
        }
    }

    /// Adds a magnet with these trackers, a tier each.
    fn magnet(&mut self, trackers: &[&str]) -> TorrentId {
        let source = Source::Hash {
            info_hash: InfoHash([7; 20]),
            name: None,
        };
        let torrent = AddTorrent {
            trackers: trackers.iter().map(|t| vec![t.to_string()]).collect(),
            ..add(source)
        };
        let id = self.e.add(self.now, torrent).unwrap();
        self.pump();
        id
    }

    fn pump(&mut self) {
        let mut buf = [0; 1500];
        loop {
            if let Some(op) = self.e.poll_op() {
                let Some(id) = op.id() else {
                    continue;
                };
                let outcome = match op {
                    Op::Bind { local, kind, .. } if self.taken.contains(&(local, kind)) => {
                        Outcome::failed(OpErrorKind::Io, format!("{local}: in use"))
                    }
                    Op::Bind { local, .. } => Outcome::Bound(local),
                    Op::Resolve { host, .. } => match self.names.get(&host) {
                        Some(ips) => Outcome::Resolved(ips.clone()),
                        None => Outcome::failed(OpErrorKind::NotFound, "no such host"),
                    },
                    Op::Http { request, .. } => {
                        self.asked.push(request);
                        let body = self.body.to_vec();
                        Outcome::Http { status: 200, body }
                    }
                    _ => Outcome::Done,
                };
                self.e.handle_op(self.now, id, outcome);
            } else if let Some(transmit) = self.e.poll_transmit(self.now, 1, &mut buf) {
                if self.unreachable.contains(&transmit.dst) {
                    self.e.handle_unsent(self.now, transmit.dst);
                }
                self.sent.push((transmit, buf[..transmit.len].to_vec()));
            } else if let Some(event) = self.e.poll_event() {
                if let Event::Notice(notice) = event {
                    self.notices.push((notice.level, notice.what));
                }
            } else {
                break;
            }
        }
        self.e.audit().unwrap();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.e.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.e.handle_timeout(at);
            self.pump();
        }
        self.now = end;
    }

    /// The ports that HTTP trackers were told, over IPv4 and IPv6.
    fn ports(&self) -> [Vec<String>; 2] {
        let over = |v6: bool| {
            let of = |r: &&HttpRequest| {
                let family = r.family.unwrap();
                (family == dunlin_core::net::Family::V6) == v6
            };
            let asked = self.asked.iter().filter(of);
            asked.map(|r| parameter(&r.url, "port")).collect()
        };
        [over(false), over(true)]
    }
}

/// A parameter of an announce.
fn parameter(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap().1;
    let mut values = query.split('&').filter_map(|p| p.split_once('='));
    values
        .find(|(n, _)| *n == name)
        .map(|(_, value)| value.to_owned())
        .unwrap_or_default()
}

#[test]
fn only_bound_ports_are_announced_each_to_its_own_family() {
    let none = NO_PORT.to_string();
    let (tcp, udp) = (SocketKind::TcpListener, SocketKind::Udp);
    for (listen, taken, v4, v6) in [
        (&[V4, V6][..], &[][..], "6881", "6882"),
        (&[V4, V6], &[(V4, tcp)], &none, "6882"),
        (&[V4, V6], &[(V6, tcp)], "6881", &none),
        (&[V4, V6], &[(V4, tcp), (V6, tcp)], &none, &none),
        // Datagrams carry no peers: their socket is neither enough nor needed.
        (&[V4, V6], &[(V4, udp), (V6, udp)], "6881", "6882"),
        (&[V4], &[], "6881", &none),
        (&[], &[], &none, &none),
    ] {
        let mut host = Host::new(listen, taken);
        host.magnet(&["http://t.example/announce"]);
        let told = host.ports();
        assert_eq!(
            told,
            [vec![v4.to_owned()], vec![v6.to_owned()]],
            "{listen:?} {taken:?}"
        );
        let said = host
            .notices
            .iter()
            .filter(|(level, what)| *level == Level::Warning && matches!(what, What::Bind { .. }));
        assert_eq!(said.count(), taken.len());
    }
}

#[test]
fn a_udp_tracker_is_told_the_port_of_the_family_it_is_asked_over() {
    let mut host = Host::new(&[V4, V6], &[(V4, SocketKind::TcpListener)]);
    let ips = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
    host.names.insert("t.example".into(), ips.to_vec());
    host.magnet(&["udp://t.example:6969/announce"]);
    for (connect, request) in std::mem::take(&mut host.sent) {
        // A connection id (BEP 15).
        let answer = [&[0; 4][..], &request[12..16], &[7; 8]].concat();
        let meta = dunlin_core::RecvMeta {
            socket: connect.socket,
            from: connect.dst,
            local: None,
            ecn: dunlin_core::Ecn::NotEct,
        };
        host.e.handle_udp(host.now, &meta, &mut answer.clone());
        host.pump();
    }
    let told: Vec<(IpAddr, u16)> = host
        .sent
        .iter()
        .map(|(t, data)| (t.dst.ip(), u16::from_be_bytes([data[96], data[97]])))
        .collect();
    assert_eq!(told, [(ips[0], NO_PORT), (ips[1], 6882)]);
}

#[test]
fn a_udp_tracker_is_asked_at_its_other_addresses() {
    let mut host = Host::new(&[V4], &[]);
    let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|ip| ip.parse().unwrap());
    host.names.insert("t.example".into(), ips.to_vec());
    // One cannot be sent to, one is silent.
    host.unreachable.push((ips[0], 6969).into());
    host.magnet(&["udp://t.example:6969/announce"]);
    host.wait(16 * SECOND);
    let asked: Vec<IpAddr> = host.sent.iter().map(|(t, _)| t.dst.ip()).collect();
    assert_eq!(asked, ips);
}

#[test]
fn an_unsendable_request_to_a_udp_tracker_fails_at_once() {
    let mut host = Host::new(&[V4], &[]);
    let at = "192.0.2.1:6969".parse().unwrap();
    host.unreachable.push(at);
    host.magnet(&["udp://192.0.2.1:6969/announce", "http://t.example/announce"]);
    // The next tier does not wait until the first has timed out.
    assert!(!host.asked.is_empty());
    let told = |(level, what): &(Level, What)| match what {
        What::Tracker { message, .. } => {
            *level == Level::Warning && message.contains("cannot be sent")
        }
        _ => false,
    };
    assert!(host.notices.iter().any(told), "{:?}", host.notices);
}

/// Two files of four pieces each.
fn two_files() -> (std::sync::Arc<Info>, Vec<u8>) {
    let piece = 16 << 10;
    let data: Vec<u8> = (0..8 * piece).map(|i| (i / 7) as u8).collect();
    let hashes: Vec<[u8; 20]> = data.chunks(piece).map(dunlin_core::hash::sha1).collect();
    let half = 4 * piece as u64;
    let mut builder = Builder::folder("two");
    for name in ["a", "b"] {
        builder.add(vec![name.into()], half);
    }
    builder.piece_len = Some(piece as u32);
    (builder.draft().unwrap().finish(&hashes).unwrap().info, data)
}

#[test]
fn left_is_what_is_missing_of_the_whole_torrent() {
    let (info, data) = two_files();
    let mut w = World::new(1);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    w.nodes[l].http = Some(b"d8:intervali1800e12:min intervali30e5:peers0:e".to_vec());
    let partly = AddTorrent {
        priorities: vec![FilePriority::Normal, FilePriority::Skip],
        trackers: vec![vec!["http://t.example/announce".into()]],
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, partly).unwrap();
    let state = |w: &World| w.nodes[l].engine.torrent(id).unwrap().status(w.now).state;
    assert!(w.run_until(60 * SECOND, |w| state(w) == State::Seeding));
    w.run(60 * SECOND);
    let (half, all) = (data.len() / 2, data.len());
    let told = |w: &World| -> Vec<(String, String)> {
        let asked = w.nodes[l].requested.iter();
        let told = |(_, url): &(Instant, String)| (parameter(url, "event"), parameter(url, "left"));
        asked.map(told).collect()
    };
    let said = told(&w);
    let first = said.iter().filter(|(event, _)| event == "started");
    assert!(first.clone().count() > 0 && first.clone().all(|(_, left)| *left == all.to_string()));
    assert!(
        said.contains(&("paused".into(), half.to_string())),
        "{said:?}"
    );
    assert!(!said.iter().any(|(event, _)| event == "completed"));
    // The rest is wanted after all: now it is complete, and no partial seed any more.
    let everything = [FilePriority::Normal; 2];
    w.nodes[l].engine.set_priorities(w.now, id, &everything);
    assert!(w.run_until(60 * SECOND, |w| {
        told(w).contains(&("completed".into(), "0".into()))
    }));
}

#[test]
fn what_the_status_calls_missing_is_what_is_wanted() {
    let (info, data) = two_files();
    let mut w = World::new(2);
    let n = w.node(Config::default());
    w.put(n, &info, data);
    let partly = AddTorrent {
        priorities: vec![FilePriority::Normal, FilePriority::Skip],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[n].engine.add(w.now, partly).unwrap();
    w.run(10 * SECOND);
    let status = w.nodes[n].engine.torrent(id).unwrap().status(w.now);
    assert_eq!(status.wanted, status.total / 2);
    assert_eq!(status.wanted_done, status.wanted);
}

#[test]
fn a_resumed_torrent_counts_from_started() {
    let (info, data) = torrent(500_000, 64 << 10);
    let mut w = World::new(3);
    let (s, _) = w.seed(Config::default(), &info, &data);
    let l = w.node(Config::default());
    w.nodes[l].http = Some(b"d8:intervali1800e5:peers0:e".to_vec());
    let with = AddTorrent {
        trackers: vec![vec!["http://t.example/announce".into()]],
        peers: vec![w.nodes[s].addr],
        ..add(Source::Info(info.clone()))
    };
    let id = w.nodes[l].engine.add(w.now, with).unwrap();
    let state = |w: &World| w.nodes[l].engine.torrent(id).unwrap().status(w.now).state;
    assert!(w.run_until(60 * SECOND, |w| state(w) == State::Seeding));
    w.nodes[l].engine.pause(w.now, id);
    w.run(10 * SECOND);
    w.nodes[l].engine.resume(w.now, id);
    w.run(10 * SECOND);
    let mut told: Vec<(String, String)> = Vec::new();
    for (_, url) in &w.nodes[l].requested {
        let said = (parameter(url, "event"), parameter(url, "downloaded"));
        // Once over each family.
        if told.last() != Some(&said) {
            told.push(said);
        }
    }
    let said = |event: &str, bytes: usize| (event.to_owned(), bytes.to_string());
    let wanted = [
        said("started", 0),
        said("completed", data.len()),
        said("stopped", data.len()),
        said("started", 0),
    ];
    assert_eq!(told, wanted);
}

/// The messages about trackers, with their levels.
fn said(host: &Host) -> Vec<(Level, String)> {
    let of_trackers = host
        .notices
        .iter()
        .filter(|(_, w)| matches!(w, What::Tracker { .. }));
    of_trackers
        .map(|(level, what)| (*level, what.to_string()))
        .collect()
}

#[test]
fn a_tracker_that_cannot_be_used_is_named_once_with_the_reason() {
    for (url, why) in [
        ("http://127.0.0.1:99999/announce", "bad URL: no usable port"),
        ("wss://tracker.example/", "unsupported kind of tracker: wss"),
        ("announce", "bad URL: no scheme"),
        ("http://my tracker/announce", "bad URL: a space in the host"),
    ] {
        let mut alone = Host::new(&[V4], &[]);
        let id = alone.magnet(&[url]);
        alone.wait(3600 * SECOND);
        let line = format!("tracker {url}: it cannot be used: {why}");
        assert_eq!(said(&alone), [(Level::Warning, line.clone())]);
        // If another one works, only people who ask for details need to know.
        let mut among = Host::new(&[V4], &[]);
        among.magnet(&["http://t.example/announce", url]);
        among.wait(60 * SECOND);
        assert_eq!(said(&among), [(Level::Detail, line.clone())]);
        let now = alone.now;
        alone
            .e
            .add_trackers(now, id, &["gopher://x/".into(), url.into()]);
        alone.pump();
        assert_eq!(said(&alone).len(), 2, "that one is known already");
    }
}

#[test]
fn a_tracker_url_with_spaces_and_unicode_is_asked() {
    let mut host = Host::new(&[V4], &[]);
    host.magnet(&["http://t.example/my tracker/announce?k=ё"]);
    let start = "http://t.example/my%20tracker/announce?k=%D1%91&info_hash=";
    assert!(
        host.asked[0].url.starts_with(start),
        "{}",
        host.asked[0].url
    );
    let mut host = Host::new(&[V4], &[]);
    host.names
        .insert("трекер.рф".into(), vec!["192.0.2.1".parse().unwrap()]);
    host.magnet(&["udp://трекер.рф:6969/announce"]);
    assert_eq!(host.sent[0].0.dst, "192.0.2.1:6969".parse().unwrap());
}

#[test]
fn a_network_that_goes_away_and_comes_back_is_said_and_used() {
    let mut host = Host::new(&[V4, V6], &[]);
    let id = host.magnet(&["http://t.example/announce"]);
    let now = host.now;
    let peer = "192.0.2.9:6881".parse().unwrap();
    host.e.add_peers(now, id, &[peer]);
    host.wait(60 * SECOND);
    host.asked.clear();
    let now = host.now;
    host.e.network_lost(now, "tun0");
    host.pump();
    assert_eq!(host.e.status(now).listening, []);
    assert_eq!(host.e.status(now).connections, 0);
    // Nobody is called over an interface that is gone, and an address does not fail for it.
    host.e
        .add_peers(now, id, &["192.0.2.10:6881".parse().unwrap()]);
    host.pump();
    assert_eq!(host.e.status(now).connections, 0);
    host.wait(30 * SECOND);
    assert_eq!(host.e.status(host.now).connections, 0);
    // Meanwhile somebody else took the port of one family.
    host.taken
        .push((V6.parse().unwrap(), SocketKind::TcpListener));
    let now = host.now;
    host.e.network_back(now, "tun0");
    host.pump();
    assert_eq!(host.e.status(now).listening, [V4.parse().unwrap()]);
    host.wait(SECOND);
    assert!(host.e.status(host.now).connections > 0);
    let [v4, v6] = host.ports();
    assert_eq!(
        (v4, v6),
        (vec!["6881".to_owned()], vec![NO_PORT.to_string()])
    );
    let said: Vec<String> = host
        .notices
        .iter()
        .map(|(_, what)| what.to_string())
        .collect();
    for words in [
        "interface tun0 is gone: nothing is sent until it is back",
        "interface tun0 is back",
    ] {
        assert!(said.iter().any(|line| line == words), "{said:?}");
    }
}

#[test]
fn whoever_asks_for_details_is_told_which_tracker_knew_peers() {
    let mut host = Host::new(&[V4], &[]);
    host.body = b"d8:intervali1800e5:peers12:\x0a\0\0\x01\x1a\xe1\x0a\0\0\x02\x1a\xe1e";
    host.magnet(&["http://10.9.9.9/announce"]);
    let line = "tracker http://10.9.9.9/announce: it knows of 2 peers".to_owned();
    assert_eq!(said(&host), [(Level::Detail, line)]);
}

impl Host {
    /// What a peer that comes from there hears after its handshake.
    fn greets(&mut self, from: &str) -> Vec<u8> {
        let from: SocketAddr = from.parse().unwrap();
        let conn = self.e.accept(self.now, from).unwrap();
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
        hello.extend([7; 20]);
        hello.extend(b"-XX0001-");
        // Peers are told apart by their ids.
        hello.extend(format!("{:012}", from.port()).bytes());
        let mut rest = &hello[..];
        while !rest.is_empty() {
            let mut bufs = ReadBufs::new();
            self.e.read_bufs(self.now, conn, &mut bufs);
            let mut len = 0;
            for buf in &mut bufs {
                let n = buf.len().min(rest.len());
                buf[..n].copy_from_slice(&rest[..n]);
                rest = &rest[n..];
                len += n;
            }
            drop(bufs);
            assert!(len > 0);
            self.e.handle_read(self.now, conn, len);
        }
        self.pump();
        let mut heard = Vec::new();
        loop {
            let mut bufs = WriteBufs::new();
            self.e.write_bufs(self.now, conn, &mut bufs);
            let said: Vec<u8> = bufs.iter().flat_map(|b| b.iter().copied()).collect();
            drop(bufs);
            if said.is_empty() {
                return heard;
            }
            self.e.handle_written(self.now, conn, said.len());
            heard.extend(said);
        }
    }
}

#[test]
fn a_peer_is_told_the_port_of_its_own_family_if_it_is_bound() {
    let tcp = SocketKind::TcpListener;
    for (taken, v4, v6) in [
        (&[][..], Some(6881), Some(6882)),
        (&[(V4, tcp)], None, Some(6882)),
        (&[(V6, tcp)], Some(6881), None),
    ] {
        let mut host = Host::new(&[V4, V6], taken);
        host.magnet(&[]);
        for (from, port) in [("192.0.2.1:1000", v4), ("[2001:db8::1]:2000", v6)] {
            let heard = host.greets(from);
            let said = |bytes: &[u8]| heard.windows(bytes.len()).any(|w| w == bytes);
            assert!(said(b"1:md"), "an extended handshake (BEP 10)");
            for other in [6881, 6882] {
                let told = said(format!("1:pi{other}e").as_bytes());
                assert_eq!(told, port == Some(other), "{from} {taken:?} {other}");
            }
            assert!(port.is_some() || !said(b"1:pi"), "{from} {taken:?}");
        }
    }
}
