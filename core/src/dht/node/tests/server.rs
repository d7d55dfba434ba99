//! Which queries are answered, and how often.

use super::*;
use crate::dht::ReadOnly;

fn stranger_at(n: u8) -> SocketAddr {
    SocketAddr::from(([102, n, 3, 1], 5000))
}

/// Reflectors send our own queries back to us. An answer would go on for ever between two of them.
#[test]
fn a_query_under_our_own_id_is_not_answered() {
    let mut net = Net::formed(10, &DhtConfig::default());
    let own = net.nodes[0].1.id(false);
    let before = net.nodes[0].1.stats();
    let mut query = [0; 200];
    let len = krpc::query(&mut query, b"tt", &own, false, &QueryOut::Ping).expect("room");
    assert_eq!(net.tell(0, stranger_at(1), &query[..len]), None);
    let after = net.nodes[0].1.stats();
    assert_eq!(after.errors_caught, before.errors_caught + 1);
    assert_eq!(after.queries_received, before.queries_received);
    let other = stranger(stranger_at(1));
    let len = krpc::query(&mut query, b"tt", &other, false, &QueryOut::Ping).expect("room");
    assert!(net.tell(0, stranger_at(1), &query[..len]).is_some());
}

#[test]
fn a_source_is_answered_as_often_as_its_rate_allows() {
    let config = DhtConfig {
        source_rate: Some(2),
        source_burst: 5,
        ..DhtConfig::default()
    };
    let mut net = Net::formed(10, &config);
    let answers = |net: &mut Net, from| {
        (0..20)
            .filter(|_| net.ask(0, from, &QueryOut::Ping).is_some())
            .count()
    };
    assert_eq!(answers(&mut net, stranger_at(1)), 5, "a burst");
    assert_eq!(answers(&mut net, stranger_at(2)), 5, "another source");
    net.run(Duration::from_secs(2));
    assert_eq!(answers(&mut net, stranger_at(1)), 4, "two a second");
}

#[test]
fn a_read_only_node_answers_nobody() {
    let config = DhtConfig {
        read_only: ReadOnly::Always,
        ..DhtConfig::default()
    };
    let mut net = Net::formed(10, &DhtConfig::default());
    net.add(&config);
    net.with(10, |dht, cx| dht.add_contact(cx, addr(0)));
    net.run(Duration::from_secs(20));
    assert!(net.nodes[10].1.nodes().count() > 0, "it asks");
    assert_eq!(net.ask(10, stranger_at(1), &QueryOut::Ping), None);
    assert!(net.ask(0, stranger_at(1), &QueryOut::Ping).is_some());
}

/// BEP 43: it answers no query, so nodes must not pass it on.
#[test]
fn a_read_only_node_is_not_taken_for_a_contact() {
    let mut net = Net::formed(10, &DhtConfig::default());
    let mut query = [0; 200];
    for (n, read_only) in [(1, true), (2, false)] {
        let from = stranger_at(n);
        let ping = QueryOut::Ping;
        let len = krpc::query(&mut query, b"tt", &stranger(from), read_only, &ping);
        net.watch = Some(from);
        assert!(net.tell(0, from, &query[..len.expect("room")]).is_some());
        net.asked = 0;
        net.run(Duration::from_secs(60));
        assert_eq!(net.asked > 0, !read_only, "whether it is pinged");
    }
}

/// BEP 5: `implied_port` stands above `port`, for peers that do not know how others see theirs.
#[test]
fn an_implied_port_is_the_one_that_the_query_comes_from() {
    let mut net = Net::formed(10, &DhtConfig::default());
    let info_hash = NodeId([9; 20]);
    let get_peers = QueryOut::GetPeers {
        info_hash,
        want: None,
        scrape: false,
        noseed: false,
    };
    for (n, implied_port) in [(1, true), (2, false)] {
        let from = stranger_at(n);
        let answer = net.ask(0, from, &get_peers).expect("an answer");
        let token = reply(&answer).token.expect("a token").to_vec();
        let announce = QueryOut::AnnouncePeer {
            info_hash,
            token: &token,
            port: 4000,
            implied_port,
            seed: false,
        };
        net.ask(0, from, &announce).expect("an answer");
    }
    let answer = net.ask(0, stranger_at(3), &get_peers).expect("an answer");
    let peers: BTreeSet<_> = reply(&answer).peers().collect();
    let explicit = SocketAddr::new(stranger_at(2).ip(), 4000);
    assert_eq!(peers, BTreeSet::from([stranger_at(1), explicit]));
}

/// Replies that cannot leave are bounded by the configuration.
#[test]
fn replies_that_wait_are_bounded() {
    let config = DhtConfig {
        max_replies: 3,
        ..DhtConfig::default()
    };
    let mut net = Net::formed(10, &config);
    let mut query = [0; 200];
    for n in 0..10 {
        let from = stranger_at(n);
        let len = krpc::query(&mut query, b"tt", &stranger(from), false, &QueryOut::Ping);
        let len = len.expect("room");
        let meta = RecvMeta {
            socket: SocketId::V4,
            from,
            local: None,
            ecn: Ecn::NotEct,
        };
        let mut cx = Cx {
            now: net.now,
            rng: &mut net.rng,
        };
        net.nodes[0]
            .1
            .handle_datagram(&mut cx, &meta, &query[..len]);
    }
    net.flush(0);
    let replies = net.flying.iter().filter(|f| {
        f.2 == addr(0) && !matches!(krpc::parse(&f.3).expect("sound").body, Body::Query(..))
    });
    assert_eq!(replies.count(), 3);
}
