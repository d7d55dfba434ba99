//! Whose a datagram is, when UDP trackers and the DHT share a socket.

use std::net::SocketAddr;

use arbitrary::Unstructured;
use dunlin_core::dht::{Dht, DhtConfig};
use dunlin_core::mux::{Pending, Proto, classify};
use dunlin_core::tracker::{UdpConfig, UdpTrackers};
use dunlin_core::wire::stun;
use dunlin_core::{Cx, Ecn, Handled, InfoHash, Instant, Machine, RecvMeta, SocketId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const TRACKER: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::new(10, 0, 0, 1),
    80,
));
const OTHER: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(
    std::net::Ipv4Addr::new(10, 0, 0, 2),
    6881,
));

/// Cuts `data` into datagrams; each is taken by one machine at most, and by the one that is said to.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let now = Instant::from_micros(1_000_000);
    let mut cx = Cx { now, rng: &mut rng };
    let mut trackers = UdpTrackers::new(UdpConfig::default());
    let config = DhtConfig {
        local: true,
        ..DhtConfig::tiny()
    };
    let mut dht = Dht::new(&mut cx, config);
    dht.start(&mut cx, 6881);
    let mut last = [0; 4];
    while !u.is_empty() {
        let how: u8 = u.arbitrary().unwrap_or(0);
        // As many as it takes; a table that is full refuses.
        let _ = trackers.scrape(&mut cx, TRACKER, &[InfoHash([how; 20])]);
        let mut buf = [0; 1500];
        while let Some(sent) = trackers.poll_train(&mut cx, usize::from(how >> 4), &mut buf) {
            assert!(sent.dst == TRACKER && sent.len <= buf.len());
            let each = sent.segment.map_or(sent.len, std::num::NonZeroUsize::get);
            for datagram in buf[..sent.len].chunks(each) {
                last.copy_from_slice(&datagram[12..16]);
            }
        }
        while dht.poll_transmit(&mut cx, &mut buf).is_some() {}

        let len = usize::from(u.arbitrary::<u8>().unwrap_or(0)).min(u.len());
        let mut datagram = u.bytes(len).unwrap_or_default().to_vec();
        if how & 2 == 0 && datagram.len() >= 8 {
            datagram[4..8].copy_from_slice(match how & 4 {
                0 => &last,
                _ => &stun::MAGIC_COOKIE,
            });
        }
        let meta = RecvMeta {
            socket: SocketId::V4,
            from: if how & 1 == 0 { TRACKER } else { OTHER },
            local: None,
            ecn: Ecn::NotEct,
        };
        let pending = Pending {
            trackers: &trackers,
        };
        let proto = classify(&pending, &meta, &datagram);
        let mut of_tracker =
            || trackers.handle_datagram(&mut cx, &meta, &datagram) == Handled::Consumed;
        if proto == Some(Proto::Tracker) {
            assert!(of_tracker(), "what answers a transaction ends it");
            assert!(!of_tracker(), "a transaction is answered once");
        } else {
            assert!(!of_tracker(), "it was said to be {proto:?}");
            let of_dht = dht.handle_datagram(&mut cx, &meta, &datagram) == Handled::Consumed;
            assert_eq!(of_dht, proto == Some(Proto::Dht));
        }
        while trackers.poll_event().is_some() {}
        while dht.poll_event().is_some() {}
    }
}
