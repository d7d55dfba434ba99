//! Input that is dropped without a sound, and input that is answered with an error.

use std::time::Duration;

use dunlin_core::dht::{DhtConfig, DhtEvent};
use dunlin_core::wire::krpc::ReplyOut;

use crate::bench::*;

/// Everything that a datagram could have changed.
fn state(b: &Bench) -> impl PartialEq + core::fmt::Debug + use<> {
    let stats = b.dht.stats();
    (
        b.nodes(),
        stats.peers,
        stats.items,
        stats.pending,
        stats.replies_received,
    )
}

fn is_dropped(b: &mut Bench, from: &str, data: &[u8]) -> bool {
    let before = state(b);
    b.give(addr(from), data);
    b.sends().is_empty() && state(b) == before
}

const STRANGER: &str = "198.51.100.7:4444";

#[test]
fn what_is_no_message_is_dropped() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let sound = ping(&id(7));
    let deep = |n| {
        let nested = [b"l".repeat(n), b"e".repeat(n)].concat();
        raw("ping", &[("id", string(&[7; 20])), ("x", nested)])
    };
    let many = |n| {
        let items = [b"l".to_vec(), b"i1e".repeat(n), b"e".to_vec()].concat();
        raw("ping", &[("id", string(&[7; 20])), ("x", items)])
    };
    let long = |n: usize| {
        raw(
            "ping",
            &[("id", string(&[7; 20])), ("x", string(&vec![0; n]))],
        )
    };
    let tid = |n: usize| {
        dict(&[
            ("a", dict(&[("id", string(&[7; 20]))])),
            ("q", string(b"ping")),
            ("t", string(&vec![b't'; n])),
            ("y", string(b"q")),
        ])
    };
    let bad: [(&str, Vec<u8>); 18] = [
        ("empty", Vec::new()),
        ("text", b"hello, is anybody there?".to_vec()),
        ("a list", b"l1:ad2:id20:abcdefghij0123456789ee".to_vec()),
        ("an integer", b"i123456789012345678e".to_vec()),
        ("a short dictionary", b"d1:t1:x1:y1:q".to_vec()),
        ("an empty dictionary", b"de".to_vec()),
        ("cut", sound[..sound.len() - 1].to_vec()),
        ("cut in the middle", sound[..30].to_vec()),
        (
            "a length that lies",
            b"d1:ad2:id99:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe".to_vec(),
        ),
        (
            "a huge length",
            b"d1:ad2:id99999999999999999999:e1:q4:ping1:t2:aa1:y1:qe".to_vec(),
        ),
        ("too deep", deep(20)),
        ("too many items", many(400 + 101)),
        ("too long", long(1500)),
        (
            "an unknown kind",
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:xe".to_vec(),
        ),
        (
            "no kind",
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aae".to_vec(),
        ),
        (
            "no transaction",
            b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:y1:qe".to_vec(),
        ),
        ("a long transaction", tid(21)),
        (
            "keys that are not strings",
            b"di1e2:id20:abcdefghij01234567891:t2:aa1:y1:qe".to_vec(),
        ),
    ];
    for (what, data) in bad {
        assert!(is_dropped(&mut b, STRANGER, &data), "{what}");
    }
    // The same with what is wrong mended is answered, so that it is this that was dropped.
    for (what, data) in [
        ("sound", sound),
        ("not too deep", deep(5)),
        ("not too many", many(100)),
        ("not too long", long(1300)),
        ("a transaction that fits", tid(20)),
    ] {
        assert!(b.ask(addr(STRANGER), &data).is_some(), "{what}");
    }
}

#[test]
fn martians_are_dropped_unless_the_network_is_private() {
    let martian = [
        "0.1.2.3:6881",
        "224.0.0.1:6881",
        "255.255.255.255:6881",
        "240.1.1.1:6881",
        "8.8.8.8:0",
    ];
    let private = [
        "127.0.0.1:6881",
        "10.1.2.3:6881",
        "192.168.1.1:6881",
        "169.254.1.1:6881",
    ];
    let mut public = Bench::settled(DhtConfig::default(), 60);
    let mut local = Bench::new(DhtConfig {
        local: true,
        ..DhtConfig::default()
    });
    for from in martian {
        assert!(is_dropped(&mut public, from, &ping(&id(7))), "{from}");
        assert!(is_dropped(&mut local, from, &ping(&id(7))), "{from}");
    }
    for from in private {
        assert!(is_dropped(&mut public, from, &ping(&id(7))), "{from}");
        assert!(local.ask(addr(from), &ping(&id(7))).is_some(), "{from}");
    }
}

#[test]
fn our_own_id_is_a_reflection() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let own = b.dht.id(false);
    assert!(is_dropped(&mut b, STRANGER, &ping(&own)));
    assert!(is_dropped(&mut b, STRANGER, &get_peers(&own, &id(1))));
    // A reply with our own id to a query of ours does not enter the table either.
    let to = addr(STRANGER);
    let sent = b.pinged(to);
    let reflected = reply(parse(&sent).tid, &own, &to, &ReplyOut::default());
    b.give(to, &reflected);
    assert!(!b.nodes().contains_key(&to));
}

#[test]
fn replies_that_nobody_asked_for_are_dropped() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let to = addr(STRANGER);
    let nothing = ReplyOut::default();
    assert!(is_dropped(
        &mut b,
        STRANGER,
        &reply(b"aa", &id(7), &to, &nothing)
    ));
    assert!(is_dropped(
        &mut b,
        STRANGER,
        b"d1:eli201e1:xe1:t2:aa1:y1:ee"
    ));

    let sent = b.pinged(to);
    let tid = parse(&sent).tid.to_vec();
    let right = reply(&tid, &id(7), &to, &nothing);
    let mut wrong = tid.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(
        is_dropped(&mut b, STRANGER, &reply(&wrong, &id(7), &to, &nothing)),
        "transaction"
    );
    assert!(
        is_dropped(&mut b, STRANGER, &reply(&tid[..3], &id(7), &to, &nothing)),
        "cut"
    );
    assert!(is_dropped(&mut b, "198.51.100.7:4445", &right), "port");
    assert!(is_dropped(&mut b, "198.51.100.8:4444", &right), "address");
    // It waits still: the right one is taken, once.
    let replies = b.dht.stats().replies_received;
    b.give(to, &right);
    assert_eq!(b.dht.stats().replies_received, replies + 1);
    assert!(is_dropped(&mut b, STRANGER, &right), "again");
}

#[test]
fn a_late_reply_is_dropped() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let to = addr(STRANGER);
    let sent = b.pinged(to);
    b.run(Duration::from_secs(30));
    let late = reply(parse(&sent).tid, &id(7), &to, &ReplyOut::default());
    assert!(is_dropped(&mut b, STRANGER, &late));
}

#[test]
fn who_asks_too_much_is_dropped() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let answered = |b: &mut Bench, n: u32| {
        let from = addr(&format!("198.51.100.{}:{}", n % 256, 1000 + n));
        b.ask(from, &ping(&id(7))).is_some()
    };
    let mut at_once = 0;
    for n in 0..1000 {
        at_once += u32::from(answered(&mut b, n));
    }
    assert_eq!(at_once, 200, "the burst of a /24");
    assert!(
        b.ask(addr("198.51.101.1:1"), &ping(&id(8))).is_some(),
        "its neighbour"
    );
    let mut later = 0;
    for n in 0..1000 {
        b.now += Duration::from_millis(10);
        later += u32::from(answered(&mut b, n));
    }
    assert!(
        (480..=520).contains(&later),
        "50 a second for ten seconds, not {later}"
    );
}

#[test]
fn what_is_wrong_with_a_query_is_told_in_no_more_bytes() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let (from, me, hash) = (addr(STRANGER), id(7), id(1));
    let token = b.token(from, &me, &hash);
    let (me20, hash20) = (string(&me.0), string(&hash.0));
    let short = string(&[7; 19]);
    let put = |v: &[u8], token: &[u8]| {
        raw(
            "put",
            &[
                ("id", me20.clone()),
                ("token", string(token)),
                ("v", v.to_vec()),
            ],
        )
    };
    let unsorted = b"d1:bi1e1:ai2ee";
    let target = dunlin_core::dht::item::immutable_target(unsorted);
    let put_token = b.token(from, &me, &target);
    let cases: Vec<(&str, i64, Vec<u8>)> = vec![
        ("no arguments", 203, raw("ping", &[])),
        ("a short id", 203, raw("ping", &[("id", short.clone())])),
        (
            "an id that is a number",
            203,
            raw("ping", &[("id", int(5))]),
        ),
        (
            "no id, find_node",
            203,
            raw("find_node", &[("target", hash20.clone())]),
        ),
        ("no target", 203, raw("find_node", &[("id", me20.clone())])),
        (
            "a short target",
            203,
            raw(
                "find_node",
                &[("id", me20.clone()), ("target", short.clone())],
            ),
        ),
        (
            "no info_hash",
            203,
            raw("get_peers", &[("id", me20.clone())]),
        ),
        (
            "a short info_hash",
            203,
            raw(
                "get_peers",
                &[("id", me20.clone()), ("info_hash", short.clone())],
            ),
        ),
        (
            "no info_hash, announce",
            203,
            raw(
                "announce_peer",
                &[
                    ("id", me20.clone()),
                    ("port", int(1)),
                    ("token", string(&token)),
                ],
            ),
        ),
        (
            "no token",
            203,
            raw(
                "announce_peer",
                &[
                    ("id", me20.clone()),
                    ("info_hash", hash20.clone()),
                    ("port", int(1)),
                ],
            ),
        ),
        ("a wrong token", 203, announce(&me, &hash, 1, b"12345678")),
        ("port 0", 203, announce(&me, &hash, 0, &token)),
        ("port 65536", 203, announce(&me, &hash, 65_536, &token)),
        ("a negative port", 203, announce(&me, &hash, -1, &token)),
        (
            "no port",
            203,
            raw(
                "announce_peer",
                &[
                    ("id", me20.clone()),
                    ("info_hash", hash20.clone()),
                    ("token", string(&token)),
                ],
            ),
        ),
        (
            "get without target",
            203,
            raw("get", &[("id", me20.clone())]),
        ),
        (
            "put without value",
            203,
            raw("put", &[("id", me20.clone()), ("token", string(&token))]),
        ),
        ("put with a wrong token", 203, put(b"i1e", b"12345678")),
        ("put of unsorted keys", 203, put(unsorted, &put_token)),
        (
            "sample without target",
            203,
            raw("sample_infohashes", &[("id", me20.clone())]),
        ),
        ("an unknown method", 204, raw("bogus", &[("id", me20)])),
    ];
    for (what, code, data) in cases {
        let answer = b
            .ask(from, &data)
            .unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(error_of(&answer), code, "{what}");
        assert!(
            answer.len() <= data.len(),
            "{what}: {} of {}",
            answer.len(),
            data.len()
        );
        assert_eq!(parse(&answer).tid, b"aa", "{what}");
    }
    assert_eq!((b.dht.stats().peers, b.dht.stats().items), (0, 0));
    assert!(!b.nodes().contains_key(&from));
}

#[test]
fn a_reply_with_odd_nodes_is_not_held_against_the_node() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let to = addr(STRANGER);
    let sent = b.pinged(to);
    let args = [("id", string(&[7; 20])), ("nodes", string(b"def456..."))];
    let odd = dict(&[
        ("r", dict(&args)),
        ("t", string(parse(&sent).tid)),
        ("y", string(b"r")),
    ]);
    b.give(to, &odd);
    b.run(Duration::from_secs(30));
    let is_answered = |e: &DhtEvent| {
        matches!(
            e,
            DhtEvent::Ping {
                answer: Some(_),
                ..
            }
        )
    };
    assert!(
        b.events.iter().any(is_answered),
        "BEP 5's own example has such a list"
    );
}
