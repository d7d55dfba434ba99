//! Answers of trackers, over HTTP and UDP.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use dunlin_core::net::Ports;
use dunlin_core::tracker::{AnnounceConfig, Announcer, QueryKind, Stats, UdpConfig, UdpTrackers};
use dunlin_core::wire::tracker::{AnnounceEvent, AnnounceRequest, Answer, Crypto, MAX_PEERS, http};
use dunlin_core::{Cx, Ecn, InfoHash, Instant, Machine, PeerId, RecvMeta, SocketId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const HASH: InfoHash = InfoHash([7; 20]);
/// Times that an interval of the tracker's may name, with room for rounding.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

/// The first byte chooses the parser of the rest.
pub fn run(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else {
        return;
    };
    let status = if how & 4 == 0 { 200 } else { 404 };
    match how % 3 {
        0 => parsed(status, data),
        1 => announced(status, data),
        _ => datagrams(data),
    }
}

fn parsed(status: u16, body: &[u8]) {
    if let Ok(answer) = http::parse_announce(status, body) {
        assert!(answer.peers.len() <= MAX_PEERS);
        assert!(
            answer
                .tracker_id
                .is_none_or(|id| id.len() <= http::MAX_TRACKER_ID)
        );
    }
    if let Ok(answer) = http::parse_scrape(status, body, &[HASH, InfoHash([8; 20])]) {
        assert_eq!(answer.files.len(), 2);
    }
}

/// A torrent's announcer gets the same answer again and again.
fn announced(status: u16, body: &[u8]) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut now = Instant::from_micros(1_000_000);
    let tiers = [
        vec!["http://a.example/announce".to_owned()],
        vec!["http://b.example/announce".to_owned()],
    ];
    let mut cx = Cx { now, rng: &mut rng };
    let mut announcer = Announcer::new(&mut cx, HASH, &tiers, AnnounceConfig::default());
    announcer.start(&mut cx);
    for turn in 0..12 {
        let mut cx = Cx { now, rng: &mut rng };
        if turn == 6 {
            announcer.scrape(&mut cx);
        }
        if turn == 10 {
            announcer.stop(&mut cx);
        }
        let mut asked = 0;
        while let Some(query) = announcer.poll_query(&mut cx, &stats()) {
            asked += 1;
            assert!(asked <= 64, "it asks without an end");
            assert!(
                query.url.len() < 2_000 && query.url.is_ascii(),
                "{}",
                query.url
            );
            let _ = matches!(query.kind, QueryKind::Scrape);
            announcer.handle_http(&mut cx, query.key, status, body);
        }
        while announcer.poll_event().is_some() {}
        if let Some(at) = announcer.poll_timeout() {
            assert!(
                at > now,
                "it wants to be called at once, and has nothing to ask"
            );
            assert!(at.saturating_since(now) <= LONGEST);
            now = at;
        }
    }
}

/// Datagrams from the tracker and from others, with the right transaction id in half of them.
fn datagrams(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut now = Instant::from_micros(1_000_000);
    let tracker = SocketAddr::from(([10, 0, 0, 1], 80));
    let mut udp = UdpTrackers::new(UdpConfig::default());
    let mut cx = Cx { now, rng: &mut rng };
    let asked = [
        udp.announce(&mut cx, tracker, "/announce", request()),
        udp.scrape(&mut cx, tracker, &[HASH]),
    ];
    let mut answered = [0; 2];
    let mut transactions: Vec<[u8; 4]> = Vec::new();
    while !u.is_empty() {
        let mut cx = Cx { now, rng: &mut rng };
        let mut buf = [0; 1500];
        while let Some(t) = udp.poll_transmit(&mut cx, &mut buf) {
            assert!(t.dst == tracker && t.len <= 1500);
            transactions.push(buf[12..16].try_into().expect("four bytes"));
        }
        let how: u8 = u.arbitrary().unwrap_or(0);
        match how % 4 {
            0 => {
                now += Duration::from_secs(u64::from(how));
                udp.handle_timeout(&mut Cx { now, rng: &mut rng });
                assert!(udp.poll_timeout().is_none_or(|at| at > now));
            }
            way => {
                let from = if how & 0x80 == 0 {
                    tracker
                } else {
                    SocketAddr::from(([10, 0, 0, 2], 80))
                };
                let len = usize::from(u.arbitrary::<u8>().unwrap_or(0)).min(u.len());
                let mut datagram = u.bytes(len).unwrap_or_default().to_vec();
                if way != 1
                    && datagram.len() >= 8
                    && let Some(last) = transactions.last()
                {
                    datagram[4..8].copy_from_slice(last);
                }
                let meta = RecvMeta {
                    socket: SocketId::V4,
                    from,
                    local: None,
                    ecn: Ecn::NotEct,
                };
                let _ = udp.handle_datagram(&mut cx, &meta, &datagram);
            }
        }
        while let Some(event) = udp.poll_event() {
            let which = asked
                .iter()
                .position(|id| *id == Ok(event.id))
                .expect("a query of ours");
            answered[which] += 1;
            assert_eq!(answered[which], 1, "a query is answered once");
            if let Ok(Answer::Announce(answer)) = event.result {
                assert!(answer.peers.len() <= MAX_PEERS);
            }
        }
    }
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: HASH,
        peer_id: PeerId([1; 20]),
        downloaded: 0,
        uploaded: 0,
        left: 1,
        event: AnnounceEvent::Started,
        key: 9,
        numwant: None,
        port: 6881,
        crypto: Crypto::Plain,
        ipv4: None,
        ipv6: None,
    }
}

fn stats() -> Stats {
    Stats {
        uploaded: 0,
        downloaded: 0,
        left: 1,
        partial: false,
        ports: Ports::both(6881),
        peer_id: PeerId([1; 20]),
        key: 9,
        numwant: Some(50),
        crypto: Crypto::Plain,
        ipv4: None,
        ipv6: None,
    }
}
