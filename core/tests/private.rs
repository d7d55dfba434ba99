//! What a private torrent keeps to itself (BEP 27), and how often and from whom peers are heard:
//! peers made of bytes against one engine.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use common::bench::{self, message, number_of, pex_payload};
use common::commands::Commands;
use common::torrent;
use dunlin_core::dht::DhtConfig;
use dunlin_core::engine::Source;
use dunlin_core::hash::sha1;
use dunlin_core::metainfo::{Builder, Info};
use dunlin_core::{CloseReason, Config, ConnId, DhtMode, EncryptionPolicy, TorrentId};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// A node of the DHT that the engine begins with.
const NODE: &str = "10.99.0.1:6881";

/// One engine with one torrent, connected to peers made of bytes.
struct Bench {
    bench: bench::Bench,
    torrent: TorrentId,
}

impl Deref for Bench {
    type Target = bench::Bench;

    fn deref(&self) -> &bench::Bench {
        &self.bench
    }
}

impl DerefMut for Bench {
    fn deref_mut(&mut self) -> &mut bench::Bench {
        &mut self.bench
    }
}

/// A peer that has connected, and all that the engine said to it.
struct Stranger {
    conn: ConnId,
    heard: Vec<u8>,
}

fn config() -> Config {
    Config {
        listen: ["10.0.0.1:6881".parse().unwrap()].into_iter().collect(),
        encryption: EncryptionPolicy::Off,
        dht: DhtMode::On,
        dht_config: DhtConfig {
            local: true,
            ..DhtConfig::default()
        },
        dht_routers: vec![NODE.parse().unwrap()],
        ..Config::default()
    }
}

fn info(private: bool) -> Arc<Info> {
    let mut builder = Builder::file("x.bin", 100_000);
    builder.piece_len = Some(16 << 10);
    builder.private = private;
    let hashes = [[1; 20]; 7];
    builder.draft().unwrap().finish(&hashes).unwrap().info
}

fn magnet(info: &Info) -> Source {
    Source::Hash {
        info_hash: info.info_hash(),
        name: None,
    }
}

impl Bench {
    fn new(source: Source, config: Config) -> Self {
        let mut bench = bench::Bench::new(config);
        let torrent = bench.add(source, &[]);
        Self { bench, torrent }
    }

    /// Somebody connects from `from` and says hello; `None` if it is turned away at the door.
    fn caller(&mut self, from: &str, info: &Info) -> Option<Stranger> {
        let from: SocketAddr = from.parse().unwrap();
        let conn = self.accept(from)?;
        let mut stranger = Stranger {
            conn,
            heard: Vec::new(),
        };
        self.greet(&mut stranger, from, info);
        Some(stranger)
    }

    /// Both handshakes; the extension handshake offers what there is, and names a port for calls
    /// that nobody else names.
    fn greet(&mut self, stranger: &mut Stranger, from: SocketAddr, info: &Info) {
        // Everybody has an id of their own.
        let id = sha1(from.to_string().as_bytes());
        self.handshake(stranger.conn, info.info_hash(), &id);
        self.listen(stranger);
        let (size, port) = (info.raw().len(), from.port() + 3000);
        let text =
            format!("\0d1:md11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei{size}e1:pi{port}ee");
        self.say(stranger, &message(20, text.as_bytes()));
    }

    /// The engine's attempt to connect to `remote` succeeds.
    fn answer_call(&mut self, conn: ConnId, remote: &str, info: &Info) -> Stranger {
        let now = self.now;
        self.e.handle_connected(now, conn);
        let mut stranger = Stranger {
            conn,
            heard: Vec::new(),
        };
        self.listen(&mut stranger);
        self.greet(&mut stranger, remote.parse().unwrap(), info);
        stranger
    }

    fn say(&mut self, stranger: &mut Stranger, bytes: &[u8]) {
        self.bench.say(stranger.conn, bytes);
        self.listen(stranger);
    }

    fn listen(&mut self, stranger: &mut Stranger) {
        stranger.heard.extend(self.bench.hear(stranger.conn));
    }

    /// The whole metadata, under the number that the engine's extension handshake gave.
    fn send_metadata(&mut self, stranger: &mut Stranger, info: &Info) {
        let size = info.raw().len();
        let mut payload = vec![stranger.number("ut_metadata").unwrap()];
        payload.extend(format!("d8:msg_typei1e5:piecei0e10:total_sizei{size}ee").bytes());
        payload.extend_from_slice(info.raw());
        self.say(stranger, &message(20, &payload));
        assert!(
            self.e.torrent(self.torrent).unwrap().info().is_some(),
            "the metadata was not taken"
        );
    }

    /// A message of peer exchange that tells of `peers`.
    fn send_pex(&mut self, stranger: &mut Stranger, peers: &[&str]) {
        let number = stranger.number("ut_pex").expect("the engine offers it");
        self.send_pex_as(stranger, number, peers);
    }

    /// The same under a number of our choice.
    fn send_pex_as(&mut self, stranger: &mut Stranger, number: u8, peers: &[&str]) {
        let peers: Vec<_> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        self.say(stranger, &message(20, &pex_payload(number, &peers)));
    }

    /// The last attempt to connect to `peer`.
    fn call(&self, peer: &str) -> Option<ConnId> {
        let peer: SocketAddr = peer.parse().unwrap();
        let to = self.calls.iter().rev().find(|(_, addr)| *addr == peer)?;
        Some(to.0)
    }

    /// Whether there is a connection to `remote`, or an attempt at one.
    fn connected(&self, remote: &str) -> bool {
        let remote: SocketAddr = remote.parse().unwrap();
        let peers = self.e.torrent(self.torrent).unwrap().peers(self.now);
        peers.iter().any(|p| p.addr == remote)
    }

    fn established(&self) -> usize {
        let peers = self.e.torrent(self.torrent).unwrap().peers(self.now);
        peers.iter().filter(|p| p.established).count()
    }
}

impl Stranger {
    /// The messages after the engine's handshake: id and payload.
    fn messages(&self) -> Vec<(u8, &[u8])> {
        let (mut rest, mut out) = (&self.heard[68..], Vec::new());
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let len = u32::from_be_bytes(*len) as usize;
            let (message, after) = after.split_at(len);
            if let Some((id, payload)) = message.split_first() {
                out.push((*id, payload));
            }
            rest = after;
        }
        out
    }

    fn says(&self, id: u8) -> bool {
        self.messages().iter().any(|(got, _)| *got == id)
    }

    /// The number under which the engine's last extension handshake takes an extension.
    fn number(&self, extension: &str) -> Option<u8> {
        let messages = self.messages();
        let is_handshake = |m: &&(u8, &[u8])| m.0 == 20 && m.1.first() == Some(&0);
        let (_, last) = messages.iter().rev().find(is_handshake)?;
        number_of(last, extension)
    }

    /// Messages of peer exchange, which we take under number 2.
    fn pex_heard(&self) -> usize {
        let is_pex = |m: &&(u8, &[u8])| m.0 == 20 && m.1.first() == Some(&2);
        self.messages().iter().filter(is_pex).count()
    }
}

const PORT: u8 = 9;

#[test]
fn the_dht_is_told_of_on_public_torrents_only() {
    for private in [false, true] {
        let info = info(private);
        let mut b = Bench::new(Source::Info(info.clone()), config());
        assert!(b.e.dht().unwrap().status().port.is_some());
        let caller = b.caller("10.8.0.1:4000", &info).unwrap();
        assert_eq!(
            caller.heard[27] & 1 == 1,
            !private,
            "the DHT bit of the handshake"
        );
        assert_eq!(caller.says(PORT), !private, "the port of our node");
    }
}

#[test]
fn a_dht_port_is_heard_on_public_torrents_only() {
    for private in [false, true] {
        let info = info(private);
        let mut b = Bench::new(Source::Info(info.clone()), config());
        b.wait(MINUTE);
        let mut caller = b.caller("10.8.0.1:4000", &info).unwrap();
        b.say(&mut caller, &message(PORT, &7777u16.to_be_bytes()));
        b.wait(MINUTE);
        let node: SocketAddr = "10.8.0.1:7777".parse().unwrap();
        let dht = b.e.dht().unwrap().node().unwrap();
        assert_eq!(dht.nodes().any(|c| c.addr == node), !private);
    }
}

#[test]
fn peer_exchange_is_offered_sent_and_heard_on_public_torrents_only() {
    for private in [false, true] {
        let info = info(private);
        let mut b = Bench::new(Source::Info(info.clone()), config());
        let mut one = b.caller("10.8.0.1:4000", &info).unwrap();
        let other = b.caller("10.8.0.2:4000", &info).unwrap();
        assert_eq!(one.number("ut_pex").is_some(), !private, "offered");
        assert!(other.number("ut_metadata").is_some());
        b.wait(3 * MINUTE);
        b.listen(&mut one);
        assert_eq!(one.pex_heard() > 0, !private, "sent");
        // Under the number that it has where it is offered.
        let number = one.number("ut_pex").unwrap_or(1);
        b.send_pex_as(&mut one, number, &["10.9.0.1:6969"]);
        b.wait(SECOND);
        assert_eq!(b.call("10.9.0.1:6969").is_some(), !private, "heard");
    }
}

/// A magnet whose metadata is not here yet, with one peer that has it.
fn undecided(private: bool) -> (Bench, Stranger, Arc<Info>) {
    let info = info(private);
    let mut b = Bench::new(magnet(&info), config());
    let caller = b.caller("10.8.0.1:4000", &info).unwrap();
    (b, caller, info)
}

#[test]
fn a_magnet_that_proves_private_sends_and_hears_no_more_peer_exchange() {
    for private in [false, true] {
        let (mut b, mut caller, info) = undecided(private);
        assert!(caller.number("ut_pex").is_some(), "nobody can know yet");
        let number = caller.number("ut_pex").unwrap();
        let mut other = b.caller("10.8.0.2:4000", &info).unwrap();
        // Also while the files are being opened, when the peer's machine knows nothing of it yet.
        b.opens_slowly = true;
        b.send_metadata(&mut caller, &info);
        b.wait(2 * MINUTE);
        b.send_pex_as(&mut caller, number, &["10.9.0.1:6969"]);
        b.say(&mut other, &[0; 4]);
        b.wait(SECOND);
        b.open();
        let _third = b.caller("10.8.0.3:4000", &info).unwrap();
        b.wait(2 * MINUTE);
        b.say(&mut caller, &[0; 4]);
        assert_eq!(caller.pex_heard() > 0, !private, "sent");
        assert_eq!(b.call("10.9.0.1:6969").is_some(), !private, "heard");
        b.send_pex_as(&mut caller, number, &["10.9.0.2:6969"]);
        b.wait(MINUTE);
        assert_eq!(b.call("10.9.0.2:6969").is_some(), !private, "heard later");
    }
}

#[test]
fn peer_exchange_goes_on_after_a_slow_disk_opened_the_files_of_a_magnet() {
    let (mut b, mut caller, info) = undecided(false);
    let mut other = b.caller("10.8.0.2:4000", &info).unwrap();
    b.opens_slowly = true;
    b.send_metadata(&mut caller, &info);
    // Longer than the time between two messages, and nobody connects afterwards.
    for _ in 0..3 {
        b.wait(MINUTE);
        b.say(&mut caller, &[0; 4]);
        b.say(&mut other, &[0; 4]);
    }
    assert_eq!(caller.pex_heard(), 0, "sent while the files are opened");
    b.open();
    b.wait(MINUTE + SECOND);
    b.listen(&mut caller);
    assert!(caller.pex_heard() > 0, "never sent again");
}

/// Three addresses are known: one is connected, one is being called, one waits.
fn peers_go_when_it_proves_private(tell: impl Fn(&mut Bench, &mut Stranger, &[&str])) {
    for private in [false, true] {
        let (mut b, mut caller, info) = undecided(private);
        let found = ["10.9.0.1:6969", "10.9.0.2:6969", "10.9.0.3:6969"];
        tell(&mut b, &mut caller, &found);
        let calls = found.map(|peer| b.call(peer).expect("it is called"));
        let _connected = b.answer_call(calls[0], found[0], &info);
        let now = b.now;
        b.e.handle_closed(now, calls[2], CloseReason::Refused);
        b.pump();
        assert!(b.connected(found[0]) && b.connected(found[1]));
        b.calls.clear();
        b.dht_peers.clear();
        b.send_metadata(&mut caller, &info);
        for peer in &found[..2] {
            assert_eq!(b.connected(peer), !private, "{peer} is connected or called");
        }
        b.wait(10 * MINUTE);
        let again = found.iter().any(|peer| b.call(peer).is_some());
        assert_eq!(again, !private, "peers of others are called");
    }
}

#[test]
fn peers_of_peer_exchange_go_when_a_magnet_proves_private() {
    peers_go_when_it_proves_private(|b, caller, peers| {
        b.send_pex(caller, peers);
        b.wait(SECOND);
    });
}

#[test]
fn peers_of_the_dht_go_when_a_magnet_proves_private() {
    peers_go_when_it_proves_private(|b, caller, peers| {
        b.dht_peers = peers.iter().map(|p| p.parse().unwrap()).collect();
        // A search now and then, and each attempt to connect may be over by then.
        for _ in 0..60 {
            b.calls.clear();
            b.wait(30 * SECOND);
            b.say(caller, &[0; 4]);
            let (torrent, now) = (b.torrent, b.now);
            b.e.reannounce(now, torrent);
            b.wait(2 * SECOND);
            if peers.iter().all(|peer| b.call(peer).is_some()) {
                return;
            }
        }
        panic!("the DHT was not asked");
    });
}

#[test]
fn a_peer_that_tells_of_peers_too_often_is_not_heard() {
    let info = info(false);
    let mut b = Bench::new(Source::Info(info.clone()), config());
    let mut caller = b.caller("10.8.0.1:4000", &info).unwrap();
    b.send_pex(&mut caller, &["10.9.0.1:6969"]);
    b.wait(30 * SECOND);
    b.send_pex(&mut caller, &["10.9.0.2:6969"]);
    b.wait(31 * SECOND);
    assert!(b.call("10.9.0.1:6969").is_some());
    assert!(
        b.call("10.9.0.2:6969").is_none(),
        "the second message came too early"
    );
    b.send_pex(&mut caller, &["10.9.0.3:6969"]);
    b.wait(SECOND);
    assert!(
        b.call("10.9.0.3:6969").is_some(),
        "a message a minute is fine"
    );
}

#[test]
fn peer_exchange_is_sent_once_a_minute_at_most() {
    let info = info(false);
    let mut b = Bench::new(Source::Info(info.clone()), config());
    let mut caller = b.caller("10.8.0.1:4000", &info).unwrap();
    for n in 2..30 {
        // Each one is news.
        let mut other = b.caller(&format!("10.8.0.{n}:4000"), &info).unwrap();
        b.wait(10 * SECOND);
        b.say(&mut other, &[0; 4]);
        b.listen(&mut caller);
    }
    let heard = caller.pex_heard();
    assert!((3..=5).contains(&heard), "{heard} messages in 280 s");
}

#[test]
fn connections_from_one_address_are_capped() {
    let info = info(false);
    let config = Config {
        max_connections_per_ip: 2,
        ..config()
    };
    let mut b = Bench::new(Source::Info(info.clone()), config);
    for port in 4000..4006 {
        let _ = b.caller(&format!("10.8.0.1:{port}"), &info);
    }
    assert_eq!(b.established(), 2);
    let _ = b.caller("10.8.0.2:4000", &info).unwrap();
    assert_eq!(b.established(), 3, "others are let in");
}

#[test]
fn an_address_that_keeps_sending_bad_data_is_refused() {
    // Pieces of one block: their sender is to blame.
    let (info, _) = torrent(100_000, 16 << 10);
    let mut b = Bench::new(Source::Info(info.clone()), config());
    for port in 4000..4003 {
        let mut liar = b.caller(&format!("10.8.0.1:{port}"), &info).unwrap();
        b.say(&mut liar, &[message(14, &[]), message(1, &[])].concat());
        let asked = liar
            .messages()
            .iter()
            .find(|m| m.0 == 6)
            .map(|m| m.1.to_vec());
        let asked = asked.unwrap_or_else(|| panic!("nothing was asked of port {port}"));
        let len = u32::from_be_bytes(asked[8..].try_into().unwrap()) as usize;
        let bad = [&asked[..8], &vec![0xee; len]].concat();
        b.say(&mut liar, &message(7, &bad));
        b.wait(SECOND);
        assert_eq!(
            b.established(),
            0,
            "port {port} sent bad data and is still here"
        );
    }
    let refused = b.caller("10.8.0.1:4003", &info);
    assert!(
        refused.is_none_or(|stranger| stranger.heard.is_empty()),
        "after three pieces nobody from there gets an answer"
    );
    assert_eq!(b.established(), 0);
    let _ = b.caller("10.8.0.2:4000", &info).unwrap();
    assert_eq!(b.established(), 1, "others are let in");
}
