mod trains;

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use quickcheck::quickcheck;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    id::PeerId,
    machine::{Ecn, SocketId},
    wire::tracker::{AnnounceEvent, Crypto},
};

const CONNECTION: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn tracker() -> SocketAddr {
    "192.0.2.1:6969".parse().unwrap()
}

fn request() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash([1; 20]),
        peer_id: PeerId([2; 20]),
        downloaded: 0,
        uploaded: 0,
        left: 1,
        event: AnnounceEvent::None,
        key: 7,
        numwant: None,
        port: 6881,
        crypto: Crypto::Plain,
        ipv4: None,
        ipv6: None,
    }
}

/// What was sent: action and transaction id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    dst: SocketAddr,
    action: u8,
    transaction: [u8; 4],
    connection: [u8; 8],
}

/// The machine, its clock and what it sends.
struct Bench {
    now: Instant,
    rng: ChaCha8Rng,
    udp: UdpTrackers,
}

impl Bench {
    fn new(config: UdpConfig) -> Self {
        Self {
            now: Instant::from_micros(1),
            rng: ChaCha8Rng::seed_from_u64(7),
            udp: UdpTrackers::new(config),
        }
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut UdpTrackers, &mut Cx<'_>) -> T) -> T {
        let now = self.now;
        let rng = &mut self.rng;
        call(&mut self.udp, &mut Cx { now, rng })
    }

    fn announce(&mut self, dst: SocketAddr) -> Result<QueryId, Full> {
        self.with(|udp, cx| udp.announce(cx, dst, "/announce", request()))
    }

    fn sent(&mut self) -> Option<Sent> {
        let mut buf = [0; 1500];
        let t = self.with(|udp, cx| udp.poll_transmit(cx, &mut buf))?;
        assert!(t.len >= 16);
        Some(Sent {
            dst: t.dst,
            action: buf[11],
            transaction: buf[12..16].try_into().unwrap(),
            connection: buf[..8].try_into().unwrap(),
        })
    }

    fn receive(&mut self, from: SocketAddr, data: &[u8]) -> Handled {
        let meta = RecvMeta {
            socket: SocketId::for_addr(&from),
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        self.with(|udp, cx| udp.handle_datagram(cx, &meta, data))
    }

    fn answer(&mut self, sent: Sent, action: u8, body: &[u8]) -> Handled {
        let mut data = alloc::vec![0, 0, 0, action];
        data.extend(sent.transaction);
        data.extend(body);
        self.receive(sent.dst, &data)
    }

    /// Answers the connect that was sent and returns what follows.
    fn connect(&mut self) -> Sent {
        let sent = self.sent().unwrap();
        assert_eq!(
            (sent.action, sent.connection),
            (0, [0, 0, 4, 23, 39, 16, 25, 128])
        );
        self.connect_with(sent)
    }

    /// The same for one that was taken before.
    fn connect_with(&mut self, connect: Sent) -> Sent {
        assert_eq!(self.answer(connect, 0, &CONNECTION), Handled::Consumed);
        self.sent().unwrap()
    }

    /// Jumps to the next timeout, as a driver would.
    fn step(&mut self) {
        self.now = self.udp.poll_timeout().unwrap();
        self.with(Machine::handle_timeout);
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
        self.with(Machine::handle_timeout);
    }

    fn secs(&self) -> u64 {
        self.now.as_micros() / 1_000_000
    }
}

const PEERS: [u8; 18] = [0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 1, 10, 0, 0, 1, 0x1a, 0xe1];

#[test]
fn announce_connects_first_and_delivers_peers() {
    let mut b = Bench::new(UdpConfig::default());
    let id = b.announce(tracker()).unwrap();
    let sent = b.connect();
    assert_eq!((sent.action, sent.connection), (1, CONNECTION));
    assert_eq!(b.answer(sent, 1, &PEERS), Handled::Consumed);
    let Some(Event {
        id: answered,
        result: Ok(Answer::Announce(answer)),
    }) = b.udp.poll_event()
    else {
        panic!("an answer");
    };
    assert_eq!(answered, id);
    assert_eq!(answer.peers, ["10.0.0.1:6881".parse().unwrap()]);
    assert_eq!(b.udp.poll_event(), None);
    assert_eq!(b.udp.poll_timeout(), None, "nothing is left to wait for");
    assert_eq!(b.answer(sent, 1, &PEERS), Handled::NotMine, "a duplicate");
}

#[test]
fn silent_tracker_is_asked_after_15_times_2_to_the_n_seconds() {
    let mut b = Bench::new(UdpConfig {
        last_n: MAX_N,
        ..UdpConfig::default()
    });
    let id = b.announce(tracker()).unwrap();
    let (mut at, mut transactions) = (Vec::new(), BTreeSet::new());
    let failed = loop {
        if let Some(sent) = b.sent() {
            at.push(b.secs());
            transactions.insert(sent.transaction);
        }
        if let Some(event) = b.udp.poll_event() {
            break event;
        }
        b.step();
    };
    assert_eq!(at, [0, 15, 45, 105, 225, 465, 945, 1905, 3825]);
    assert_eq!(b.secs(), 7665);
    assert_eq!(b.udp.config().patience(), Duration::from_secs(7665));
    assert_eq!(transactions.len(), 1, "a retransmission keeps its id");
    let result = Err(TrackerError::Timeout);
    assert_eq!(failed, Event { id, result });
}

#[test]
fn announce_that_times_out_reconnects_as_in_the_example_of_bep_15() {
    let mut b = Bench::new(UdpConfig {
        last_n: MAX_N,
        ..UdpConfig::default()
    });
    b.announce(tracker()).unwrap();
    let connect = b.sent().unwrap();
    b.pass(1);
    b.answer(connect, 0, &CONNECTION);
    b.pass(1);
    let mut sent = Vec::new();
    while sent.len() < 5 {
        if let Some(s) = b.sent() {
            sent.push((b.secs(), s.action));
        }
        b.step();
    }
    // t = 2: announce request; 17 and 47 again; 107: connect, as the id expired; 227: again.
    assert_eq!(sent, [(2, 1), (17, 1), (47, 1), (107, 0), (227, 0)]);
}

#[test]
fn tracker_that_only_answers_connects_is_given_up() {
    let mut b = Bench::new(UdpConfig {
        last_n: 4,
        ..UdpConfig::default()
    });
    b.announce(tracker()).unwrap();
    let mut connects = 0;
    while b.udp.poll_event().is_none() {
        while let Some(sent) = b.sent() {
            if sent.action == 0 {
                connects += 1;
                b.answer(sent, 0, &CONNECTION);
            }
        }
        b.step();
    }
    assert_eq!(connects, 3);
    assert_eq!(b.secs(), 15 + 30 + 60 + 120 + 240);
}

#[test]
fn retransmissions_are_counted_across_both_phases() {
    let mut b = Bench::new(UdpConfig::default());
    b.announce(tracker()).unwrap();
    let connect = b.sent().unwrap();
    b.step();
    b.step();
    assert_eq!(b.secs(), 45);
    b.answer(connect, 0, &CONNECTION);
    assert_eq!(b.sent().unwrap().action, 1);
    b.step();
    assert_eq!(b.secs(), 105);
    assert!(
        b.udp.poll_event().is_some(),
        "given up as if never connected"
    );
    assert_eq!(b.udp.config().patience(), Duration::from_secs(105));
}

#[test]
fn connection_id_serves_for_a_minute() {
    let mut b = Bench::new(UdpConfig::default());
    b.announce(tracker()).unwrap();
    let sent = b.connect();
    b.answer(sent, 1, &PEERS);
    b.pass(59);
    b.announce(tracker()).unwrap();
    let sent = b.sent().unwrap();
    assert_eq!((sent.action, sent.connection), (1, CONNECTION));
    b.answer(sent, 1, &PEERS);
    b.pass(1);
    b.announce(tracker()).unwrap();
    assert_eq!(b.sent().unwrap().action, 0, "expired");
}

#[test]
fn waiting_queries_share_one_connect() {
    let mut b = Bench::new(UdpConfig::default());
    b.announce(tracker()).unwrap();
    b.announce(tracker()).unwrap();
    b.with(|udp, cx| udp.scrape(cx, tracker(), &[InfoHash([1; 20])]))
        .unwrap();
    let connect = b.sent().unwrap();
    assert_eq!(b.sent(), None);
    b.answer(connect, 0, &CONNECTION);
    let actions: Vec<_> = core::iter::from_fn(|| b.sent()).map(|s| s.action).collect();
    assert_eq!(actions, [1, 1, 2]);
}

#[test]
fn answers_from_elsewhere_are_ignored() {
    let mut b = Bench::new(UdpConfig::default());
    b.announce(tracker()).unwrap();
    let connect = b.sent().unwrap();
    let spoofed = Sent {
        dst: "192.0.2.1:6970".parse().unwrap(),
        ..connect
    };
    assert_eq!(b.answer(spoofed, 0, &[9; 8]), Handled::NotMine);
    assert_eq!(b.sent(), None);
    assert_eq!(b.answer(connect, 0, &CONNECTION), Handled::Consumed);
    assert_eq!(b.sent().unwrap().connection, CONNECTION);
}

#[test]
fn answers_under_another_transaction_id_are_ignored() {
    let mut b = Bench::new(UdpConfig::default());
    b.announce(tracker()).unwrap();
    let connect = b.sent().unwrap();
    let under = |sent: Sent, bit: u8| {
        let mut transaction = sent.transaction;
        transaction[usize::from(bit / 8)] ^= 1 << (bit % 8);
        Sent {
            transaction,
            ..sent
        }
    };
    for bit in 0..32 {
        let guessed = b.answer(under(connect, bit), 0, &[9; 8]);
        assert_eq!(guessed, Handled::NotMine, "bit {bit} of the connect");
    }
    assert_eq!(b.sent(), None);
    let announce = b.connect_with(connect);
    for bit in 0..32 {
        let guessed = b.answer(under(announce, bit), 1, &PEERS);
        assert_eq!(guessed, Handled::NotMine, "bit {bit} of the announce");
    }
    assert_eq!(b.udp.poll_event(), None);
    // The connect is over: its id opens nothing any more.
    assert_eq!(b.answer(connect, 1, &PEERS), Handled::NotMine);
    assert_eq!(b.answer(announce, 1, &PEERS), Handled::Consumed);
}

/// A sender that cannot see our datagrams has to guess 32 bits.
#[test]
fn transaction_ids_are_drawn_at_random() {
    let mut seen = BTreeSet::new();
    for seed in 0..64 {
        let mut b = Bench::new(UdpConfig::default());
        b.rng = ChaCha8Rng::seed_from_u64(seed);
        b.announce(tracker()).unwrap();
        let connect = b.sent().unwrap();
        let announce = b.connect_with(connect);
        for sent in [connect, announce] {
            seen.insert(u32::from_be_bytes(sent.transaction));
        }
    }
    assert_eq!(seen.len(), 128, "ids repeat");
    let of_bit = |bit: u32| seen.iter().filter(|id| *id >> bit & 1 == 1).count();
    for bit in 0..32 {
        assert!((32..=96).contains(&of_bit(bit)), "bit {bit} is not random");
    }
}

#[test]
fn forgotten_connection_id_is_renewed_once() {
    let mut b = Bench::new(UdpConfig::default());
    let id = b.announce(tracker()).unwrap();
    let sent = b.connect();
    b.answer(sent, 3, b"Connection ID missmatch.\0");
    assert_eq!(b.udp.poll_event(), None);
    let sent = b.connect();
    b.answer(sent, 3, b"Connection ID missmatch.\0");
    let result = Err(TrackerError::Failure {
        reason: "Connection ID missmatch.".into(),
        retry: None,
    });
    assert_eq!(b.udp.poll_event(), Some(Event { id, result }));
}

#[test]
fn tables_are_bounded() {
    let mut b = Bench::new(UdpConfig {
        max_queries: 3,
        max_connections: 2,
        ..UdpConfig::default()
    });
    let addr = |port| SocketAddr::new(tracker().ip(), port);
    b.announce(addr(1)).unwrap();
    b.announce(addr(2)).unwrap();
    assert_eq!(
        b.announce(addr(3)),
        Err(Full),
        "both connections are in use"
    );
    let first = b.connect_any();
    b.answer(first, 1, &PEERS);
    b.announce(addr(3)).unwrap();
    assert_eq!(
        b.announce(addr(3)),
        Err(Full),
        "an event still counts as a query"
    );
    assert!(b.udp.poll_event().is_some());
    b.announce(addr(3)).unwrap();
    assert_eq!(b.udp.connections.len(), 2, "the idle one went");
}

impl Bench {
    /// As `connect`, where other datagrams may be queued.
    fn connect_any(&mut self) -> Sent {
        let connect = self.sent().unwrap();
        self.answer(connect, 0, &CONNECTION);
        loop {
            let sent = self.sent().unwrap();
            if sent.dst == connect.dst {
                return sent;
            }
        }
    }
}

#[test]
fn cancelled_queries_leave_nothing_behind() {
    let mut b = Bench::new(UdpConfig::default());
    let (first, second) = (
        b.announce(tracker()).unwrap(),
        b.announce(tracker()).unwrap(),
    );
    b.udp.cancel(first);
    let sent = b.connect();
    b.udp.cancel(second);
    assert_eq!(b.answer(sent, 1, &PEERS), Handled::NotMine);
    assert_eq!(b.udp.poll_timeout(), None);
    assert_eq!(b.udp.poll_event(), None);
    let third = b.announce("192.0.2.9:1".parse().unwrap()).unwrap();
    b.udp.cancel(third);
    assert_eq!(b.sent(), None);
    assert_eq!(b.udp.poll_timeout(), None);
}

#[test]
fn a_socket_that_takes_nothing_does_not_hold_a_query_for_ever() {
    let mut b = Bench::new(UdpConfig::default());
    let id = b.announce(tracker()).unwrap();
    while b.udp.poll_timeout().is_some() {
        b.step();
    }
    let result = Err(TrackerError::Timeout);
    assert_eq!(b.udp.poll_event(), Some(Event { id, result }));
    assert_eq!(b.sent(), None);
}

quickcheck! {
    /// Law 6: hostile bytes never panic; every query that is not cancelled ends in one event.
    fn any_datagram_is_survived(datagrams: Vec<(u8, bool, Vec<u8>)>) -> bool {
        let mut b = Bench::new(UdpConfig::default());
        let id = b.announce(tracker()).unwrap();
        let mut events = Vec::new();
        for (action, genuine, body) in datagrams {
            match b.sent() {
                Some(sent) if genuine => _ = b.answer(sent, action % 5, &body),
                _ => _ = b.receive(tracker(), &body),
            }
            events.extend(b.udp.poll_event());
        }
        while b.udp.poll_timeout().is_some() {
            while b.sent().is_some() {}
            b.step();
        }
        events.extend(b.udp.poll_event());
        events.len() == 1 && events[0].id == id && b.udp.transactions.is_empty()
            && b.udp.queries.is_empty()
    }

    /// Law 3: after a timeout is handled, the next is later or output is pending.
    fn timers_never_spin(ports: Vec<u8>, lose: Vec<bool>) -> bool {
        let mut b = Bench::new(UdpConfig { last_n: 3, ..UdpConfig::default() });
        for port in ports {
            let _ = b.announce(SocketAddr::new(tracker().ip(), 1 + u16::from(port % 4)));
        }
        let mut lose = lose.into_iter();
        while b.udp.poll_timeout().is_some() {
            while let Some(sent) = b.sent() {
                if !lose.next().unwrap_or(true) {
                    let body = if sent.action == 0 { &CONNECTION[..] } else { &PEERS };
                    b.answer(sent, sent.action, body);
                }
            }
            if b.udp.poll_timeout().is_none() {
                break;
            }
            b.step();
            if b.udp.poll_timeout().is_some_and(|t| t <= b.now) {
                return false;
            }
        }
        true
    }
}

fn other(n: u8) -> SocketAddr {
    SocketAddr::new([192, 0, 2, n].into(), 6969)
}

#[test]
fn the_next_address_is_asked_when_one_is_silent() {
    let mut b = Bench::new(UdpConfig::default());
    let id = b.announce(tracker()).unwrap();
    b.udp.set_alternatives(id, &[tracker(), other(2), other(3)]);
    assert_eq!(b.sent().unwrap().dst, tracker());
    b.step();
    assert_eq!(b.secs(), 15);
    let sent = b.sent().unwrap();
    assert_eq!((sent.dst, sent.action), (other(2), 0));
    assert_eq!(b.sent(), None, "the first is left alone");
    // This one answers the connect, and then no more.
    let sent = b.connect_with(sent);
    assert_eq!((sent.dst, sent.action), (other(2), 1));
    b.step();
    let sent = b.sent().unwrap();
    assert_eq!((sent.dst, sent.action), (other(3), 0));
    let sent = b.connect_with(sent);
    assert_eq!(b.answer(sent, 1, &PEERS), Handled::Consumed);
    let event = b.udp.poll_event().unwrap();
    assert!(event.id == id && event.result.is_ok());
    assert!(b.udp.has_answered(&other(3)) && !b.udp.has_answered(&tracker()));
    b.pass(3600);
    assert!(
        b.udp.has_answered(&other(3)),
        "whatever became of its connection id"
    );
    assert_eq!(b.udp.poll_timeout(), None);
}

#[test]
fn the_last_address_is_asked_with_full_patience() {
    let mut b = Bench::new(UdpConfig::default());
    let id = b.announce(tracker()).unwrap();
    // One that has no other address waits for the same connect.
    let alone = b.announce(tracker()).unwrap();
    b.udp.set_alternatives(id, &[other(2)]);
    let (mut asked, mut over) = (Vec::new(), Vec::new());
    while over.len() < 2 {
        while let Some(sent) = b.sent() {
            asked.push((b.secs(), sent.dst));
        }
        while let Some(event) = b.udp.poll_event() {
            assert_eq!(event.result, Err(TrackerError::Timeout));
            over.push((b.secs(), event.id));
        }
        if over.len() < 2 {
            b.step();
        }
    }
    let (first, second) = (tracker(), other(2));
    let wanted = [
        (0, first),
        (15, first),
        (15, second),
        (30, second),
        (45, first),
        (60, second),
    ];
    asked.sort_unstable();
    assert_eq!(asked, wanted);
    assert_eq!(over, [(105, alone), (120, id)]);
}

#[test]
fn a_datagram_that_cannot_be_sent_frees_its_slot_at_once() {
    let config = UdpConfig {
        max_queries: 2,
        ..UdpConfig::default()
    };
    let mut b = Bench::new(config);
    let (one, two) = (
        b.announce(tracker()).unwrap(),
        b.announce(tracker()).unwrap(),
    );
    b.udp.set_alternatives(two, &[other(2)]);
    assert_eq!(b.announce(tracker()), Err(Full));
    let sent = b.sent().unwrap();
    b.with(|udp, cx| udp.handle_unsent(cx, sent.dst));
    let event = b.udp.poll_event().unwrap();
    assert_eq!(event.id, one);
    assert_eq!(event.result, Err(TrackerError::Unsent));
    assert_eq!(b.udp.poll_event(), None);
    // The other goes on elsewhere; there it is the announce that cannot be sent.
    let sent = b.sent().unwrap();
    assert_eq!(sent.dst, other(2));
    let sent = b.connect_with(sent);
    b.with(|udp, cx| udp.handle_unsent(cx, sent.dst));
    let event = b.udp.poll_event().unwrap();
    assert!(event.id == two && event.result == Err(TrackerError::Unsent));
    assert!(b.announce(other(3)).is_ok());
    // Nobody waits for an answer from an address that was never asked.
    b.with(|udp, cx| udp.handle_unsent(cx, other(9)));
}
