//! The tracker, tested with the core's tracker clients.

use dunlin_core::{
    Cx, Ecn, Handled, Machine, PeerId, RecvMeta, SocketId,
    tracker::{UdpConfig, UdpTrackers},
    wire::tracker::{AnnounceEvent, AnnounceRequest, Answer, Crypto, http as wire},
};

use super::*;
use crate::rng::SimRng;

const HASH: InfoHash = InfoHash([7; 20]);

fn request(port: u16, left: u64) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: HASH,
        peer_id: PeerId([2; 20]),
        downloaded: 0,
        uploaded: 0,
        left,
        event: AnnounceEvent::Started,
        key: 7,
        numwant: Some(30),
        port,
        crypto: Crypto::Plain,
        ipv4: None,
        ipv6: None,
    }
}

fn with_cx<T>(call: impl FnOnce(&mut HostCx<'_>) -> T) -> (T, Vec<Packet>) {
    let (mut out, mut spare) = (Vec::new(), Vec::new());
    let mut cx = HostCx {
        now: Instant::from_micros(5),
        device: crate::id::DeviceId::CORE,
        rng: &mut SimRng::new(3),
        out: &mut out,
        spare: &mut spare,
        middlebox: None,
        marks: &mut Vec::new(),
    };
    let result = call(&mut cx);
    (result, out)
}

fn tracker() -> (Tracker, SocketAddr) {
    let at = SocketAddr::from(([5, 0, 0, 1], 6_969));
    let mut tracker = Tracker::new(&[at.ip()], TrackerConfig::default());
    with_cx(|cx| tracker.start(cx));
    (tracker, at)
}

#[test]
fn our_own_client_announces_by_udp_and_learns_of_another() {
    let (mut tracker, at) = tracker();
    let mut found = Vec::new();
    for (n, left) in [(1, 0), (2, 5)] {
        let from = SocketAddr::from(([9, 0, 0, n], 40_000));
        let mut client = UdpTrackers::new(UdpConfig::default());
        let mut rng = SimRng::new(u64::from(n));
        let now = Instant::from_micros(5);
        let mut cx = Cx { now, rng: &mut rng };
        client
            .announce(&mut cx, at, "", request(6_880 + u16::from(n), left))
            .unwrap();
        let mut buf = [0; 1500];
        while let Some(sent) = client.poll_transmit(&mut cx, &mut buf) {
            let packet = Packet::udp(from, sent.dst, &buf[..sent.len]);
            let ((), answers) = with_cx(|cx| tracker.packet(cx, packet));
            for answer in answers {
                assert_eq!((answer.flow().src, answer.flow().dst), (at, from));
                let meta = RecvMeta {
                    socket: SocketId::V4,
                    from: at,
                    local: None,
                    ecn: Ecn::NotEct,
                };
                let handled = client.handle_datagram(&mut cx, &meta, answer.payload());
                assert_eq!(handled, Handled::Consumed);
            }
        }
        match client.poll_event().unwrap().result.unwrap() {
            Answer::Announce(answer) => found = answer.peers,
            Answer::Scrape(_) => unreachable!("nothing was scraped"),
        }
    }
    assert_eq!(found, [SocketAddr::from(([9, 0, 0, 1], 6_881))]);
    let stats = tracker.swarm().stats(HASH);
    assert_eq!((stats.seeds, stats.leeches), (1, 1));
}

#[test]
fn our_own_client_announces_by_http_over_both_families() {
    let (mut tracker, _) = tracker();
    for (n, first, from) in [
        (0, true, SocketAddr::from(([9, 0, 0, 1], 1_000))),
        (1, false, SocketAddr::from(([9, 0, 0, 2], 1_000))),
        (2, true, "[2001:db8::1]:1000".parse().unwrap()),
        (3, false, "[2001:db8::2]:1000".parse().unwrap()),
    ] {
        let url = wire::announce_url("http://t.example/announce", &request(6_881, n), None);
        let target = url.strip_prefix("http://t.example").unwrap();
        let head = format!("GET {target} HTTP/1.1\r\nHost: t.example\r\n\r\n");
        let (half, _) = with_cx(|cx| tracker.http(cx, from, &head.as_bytes()[..20]));
        assert_eq!(half, Reply::More);
        let (whole, _) = with_cx(|cx| tracker.http(cx, from, head.as_bytes()));
        let Reply::Close(response) = whole else {
            panic!("the request was whole");
        };
        let body = response.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let answer = wire::parse_announce(200, &response[body..]).unwrap();
        assert_eq!(answer.external_ip, Some(from.ip()));
        assert_eq!(answer.peers.is_empty(), first, "{from}: {:?}", answer.peers);
        assert!(
            answer
                .peers
                .iter()
                .all(|p| p.is_ipv4() == from.is_ipv4() && p.port() == 6_881)
        );
    }
}

#[test]
fn a_connection_id_is_for_one_address_and_a_while() {
    let (tracker, _) = tracker();
    let a = SocketAddr::from(([9, 0, 0, 1], 1));
    let b = SocketAddr::from(([9, 0, 0, 2], 1));
    let now = Instant::from_micros(5);
    let late = now + CONNECTION_LIFE * 2;
    assert_eq!(tracker.connection(now, a), tracker.connection(now, a));
    assert_ne!(tracker.connection(now, a), tracker.connection(now, b));
    assert_ne!(tracker.connection(now, a), tracker.connection(late, a));
}

quickcheck::quickcheck! {
    fn no_datagram_panics(bytes: Vec<u8>, action: u8, known: bool) -> bool {
        let (mut tracker, at) = tracker();
        let from = SocketAddr::from(([9, 0, 0, 1], 1));
        let mut data = vec![0; 16];
        if known {
            data[..8].copy_from_slice(&tracker.connection(Instant::from_micros(5), from).to_be_bytes());
        }
        data[11] = action % 4;
        data.extend_from_slice(&bytes);
        with_cx(|cx| tracker.packet(cx, Packet::udp(from, at, &data)));
        with_cx(|cx| tracker.http(cx, from, &bytes));
        true
    }
}
