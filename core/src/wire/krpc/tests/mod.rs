//! Messages of every kind: the examples of the standards, and what is tolerated and refused.

mod property;

use alloc::{format, string::ToString, vec, vec::Vec};
use core::net::IpAddr;

use super::*;

fn id(text: &[u8; 20]) -> Option<NodeId> {
    Some(NodeId(*text))
}

fn query_of(data: &[u8]) -> (Method, Args<'_>) {
    match parse(data).unwrap().body {
        Body::Query(method, args) => (method, args),
        other => panic!("{other:?}"),
    }
}

fn reply_of(data: &[u8]) -> Reply<'_> {
    match parse(data).unwrap().body {
        Body::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

// ---- the examples of BEP 5 ----

#[test]
fn bep5_queries() {
    let data = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let (method, args) = query_of(data);
    assert_eq!(parse(data).unwrap().tid, b"aa");
    assert_eq!(
        (method, args.id),
        (Method::Ping, id(b"abcdefghij0123456789"))
    );

    let (method, args) = query_of(
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
    );
    assert_eq!(
        (method, args.target),
        (Method::FindNode, id(b"mnopqrstuvwxyz123456"))
    );

    let (method, args) = query_of(
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
    );
    assert_eq!(
        (method, args.info_hash),
        (Method::GetPeers, id(b"mnopqrstuvwxyz123456"))
    );

    let (method, args) = query_of(
        b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
    );
    assert_eq!(method, Method::AnnouncePeer);
    assert_eq!(
        (args.port, args.implied_port, args.token),
        (Some(6881), true, Some(&b"aoeusnth"[..]))
    );
}

#[test]
fn bep5_replies() {
    let reply = reply_of(b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re");
    assert_eq!(reply.id, id(b"mnopqrstuvwxyz123456"));

    let reply = reply_of(
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    );
    assert_eq!(reply.token, Some(&b"aoeusnth"[..]));
    let peers: Vec<_> = reply.peers().map(|peer| format!("{peer}")).collect();
    assert_eq!(peers, ["97.120.106.101:11893", "105.100.104.116:28269"]);

    let message = parse(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee").unwrap();
    assert_eq!(message.body, Body::Error(201, b"A Generic Error Ocurred"));
}

/// Two of the examples have `nodes` of 9 bytes: no nodes, but a sound reply.
#[test]
fn bep5_nodes_of_a_wrong_length_are_none() {
    for data in [
        &b"d1:rd2:id20:0123456789abcdefghij5:nodes9:def456...e1:t2:aa1:y1:re"[..],
        b"d1:rd2:id20:abcdefghij01234567895:nodes9:def456...5:token8:aoeusnthe1:t2:aa1:y1:re",
    ] {
        let reply = reply_of(data);
        assert!(reply.id.is_some() && reply.nodes.is_empty());
    }
}

// ---- what is tolerated, and what is not ----

#[test]
fn unsorted_duplicate_unknown_and_trailing_are_tolerated() {
    let data = b"d1:y1:q1:y1:r1:xd3:fool1:a2:bcee1:t02:aa1:zi-7e1:q4:ping1:q3:get\
        1:ad4:porti007e3:abcle2:id20:abcdefghij01234567892:id20:zzzzzzzzzzzzzzzzzzzzeeJUNK";
    let message = parse(data).unwrap();
    assert_eq!(message.tid, b"aa");
    let (method, args) = query_of(data);
    assert_eq!(
        (method, args.id, args.port),
        (Method::Ping, id(b"abcdefghij0123456789"), Some(7))
    );
}

#[test]
fn a_field_of_the_wrong_type_or_length_is_absent() {
    let (_, args) = query_of(
        b"d1:ad2:id19:abcdefghij0123456789:info_hashi5e4:port5:hello5:tokenle6:target21:aaaaaaaaaaaaaaaaaaaaa4:wanti1ee1:qi5e1:t2:aa1:y1:qe",
    );
    assert_eq!(args, Args::default());
    for port in ["i0e", "i65536e", "i-1e", "i18446744073709551615e"] {
        let data = format!("d1:ad4:port{port}e1:q4:ping1:t2:aa1:y1:qe");
        assert_eq!(query_of(data.as_bytes()).1.port, None, "{port}");
    }
    assert_eq!(
        reply_of(b"d1:rd2:idle5:nodesi1e6:valuesdee1:t2:aa1:y1:re"),
        Reply::default()
    );
    assert_eq!(
        parse(b"d1:e4:oops1:t2:aa1:y1:ee").unwrap().body,
        Body::Error(0, b"")
    );
}

#[test]
fn what_is_no_message_is_refused() {
    let deep = |n: usize| {
        let (open, close) = ("l".repeat(n), "e".repeat(n));
        format!("d1:t2:aa1:x{open}{close}1:y1:qe")
    };
    assert!(parse(deep(9).as_bytes()).is_ok());
    let many = |n: usize| format!("d1:t2:aa1:xl{}e1:y1:qe", "0:".repeat(n));
    assert!(parse(many(493).as_bytes()).is_ok());
    let long = |n: usize| format!("d1:t2:aa1:x{n}:{}1:y1:qe", "z".repeat(n));
    assert!(parse(long(1477).as_bytes()).is_ok());
    assert_eq!(long(1477).len(), MAX_DATAGRAM);
    let tid = |n: usize| format!("d1:t{n}:{}1:y1:qe", "t".repeat(n));
    assert!(parse(tid(MAX_TID).as_bytes()).is_ok());
    for data in [
        deep(10),
        many(494),
        long(1478),
        tid(MAX_TID + 1),
        "d1:t1:a1:y1:xe".into(),         // unknown kind
        "d1:ade1:q4:ping1:y1:qe".into(), // no tid
        "d1:ade1:q4:ping1:t1:ae".into(), // no kind
        "d1:t0:1:y1:qe".into(),          // 14 bytes: too short
        "li1ei2ei3ei4ei5ei6ee".into(),
        "d1:t2:aa1:y1:q1:zi1".into(),   // torn
        "d1:t2:aa1:y1:qi1ei2ee".into(), // key is not a string
        "d1:t2:aa1:y1:q1:ze".into(),    // key without value
        "d1:t2:aa1:y1:q1:zi--1ee".into(),
        "d1:t2:aa1:y1:q1:zi18446744073709551616ee".into(),
        "d1:t2:aa1:y1:q1:z99999999999999999999:e".into(),
        "GET / HTTP/1.1\r\nHost: x\r\n".into(),
    ] {
        assert_eq!(parse(data.as_bytes()), Err(Malformed), "{data}");
    }
}

#[test]
fn peers_that_cannot_be_dialled_are_skipped() {
    let mut data =
        b"d1:rd6:valuesl6:\x0a\0\0\x01\x1a\xe16:\0\0\0\0\x1a\xe1i5e6:\x0a\0\0\x01\0\0".to_vec();
    data.extend(b"5:abcde18:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1lee");
    data.extend(b"e1:t2:aa1:y1:re");
    let peers: Vec<_> = reply_of(&data).peers().collect();
    assert_eq!(
        peers,
        [
            "10.0.0.1:6881".parse().unwrap(),
            "[2001:db8::1]:6881".parse().unwrap()
        ]
    );
}

#[test]
fn canonical_values_are_told_from_others() {
    for good in [
        &b"12:Hello World!"[..],
        b"i0e",
        b"i-7e",
        b"i100e",
        b"0:",
        b"le",
        b"de",
        b"d1:ai1e2:aali2e0:d1:xleeee",
    ] {
        assert!(is_canonical(good), "{}", good.escape_ascii());
    }
    for bad in [
        &b""[..],
        b"i00e",
        b"i-0e",
        b"i01e",
        b"i-01e",
        b"ie",
        b"01:a",
        b"00:",
        b"2:a",
        b"i1ei2e",
        b"d1:bi1e1:ai1ee",
        b"d1:ai1e1:ai1ee",
        b"d01:ai1ee",
        b"di1ei1ee",
        b"d1:ae",
        b"l",
        b"e",
        b"lllllllllllleeeeeeeeeeee",
        b"d1:ad1:b0:1:a0:ee",
    ] {
        assert!(!is_canonical(bad), "{}", bad.escape_ascii());
    }
}

// ---- what we send ----

#[test]
fn queries_and_replies_look_as_they_should() {
    let mut buf = [0; 512];
    let us = NodeId(*b"abcdefghij0123456789");
    let target = NodeId(*b"mnopqrstuvwxyz123456");
    let find = QueryOut::FindNode {
        target,
        want: Some(Want { v4: true, v6: true }),
    };
    let len = query(&mut buf, b"aa", &us, true, &find).unwrap();
    assert_eq!(
        buf[..len].escape_ascii().to_string(),
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n42:n6ee1:q9:find_node2:roi1e1:t2:aa1:v4:DN\\x00\\x011:y1:qe"
    );
    let to = "65.66.67.68:17734".parse().unwrap();
    let out = ReplyOut {
        nodes: Some(b""),
        token: b"tok",
        values: b"abcdefghijkl",
        value_len: 6,
        ..ReplyOut::default()
    };
    let len = reply(&mut buf, b"aa", &us, &to, &out).unwrap();
    assert_eq!(
        buf[..len].escape_ascii().to_string(),
        "d2:ip6:ABCDEF1:rd2:id20:abcdefghij01234567895:nodes0:5:token3:tok6:valuesl6:abcdef6:ghijklee1:t2:aa1:v4:DN\\x00\\x011:y1:re"
    );
    assert_eq!(parse(&buf[..len]).unwrap().ip, Some(to));
}

/// The bytes of a `put`, under the longest transaction id that we use.
fn put_of(token: &[u8], item: Item<'_>) -> Vec<u8> {
    let mut buf = [0; MAX_DATAGRAM];
    let us = NodeId(*b"abcdefghij0123456789");
    let put = QueryOut::Put {
        target: NodeId(*b"mnopqrstuvwxyz123456"),
        token,
        item,
    };
    let len = query(&mut buf, b"aaaa", &us, true, &put).unwrap();
    buf[..len].to_vec()
}

/// A node could derive the target from the item (BEP 44); some refuse a query that does not name it.
#[test]
fn a_put_names_its_target() {
    let item = Item {
        v: Some(b"12:Hello World!"),
        ..Item::default()
    };
    assert_eq!(
        put_of(b"tok", item).escape_ascii().to_string(),
        "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234565:token3:tok1:v12:Hello World!e1:q3:put2:roi1e1:t4:aaaa1:v4:DN\\x00\\x011:y1:qe"
    );
    let item = Item {
        k: Some(b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"),
        sig: Some(b"ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss"),
        seq: Some(4),
        cas: Some(3),
        salt: Some(b"foobar"),
        ..item
    };
    assert_eq!(
        put_of(b"tok", item).escape_ascii().to_string(),
        "d1:ad3:casi3e2:id20:abcdefghij01234567891:k32:kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk4:salt6:foobar3:seqi4e3:sig64:ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss6:target20:mnopqrstuvwxyz1234565:token3:tok1:v12:Hello World!e1:q3:put2:roi1e1:t4:aaaa1:v4:DN\\x00\\x011:y1:qe"
    );
}

/// An Ethernet frame carries 1500 bytes, of which IPv6 and UDP take 48.
#[test]
fn the_longest_put_fits_into_one_frame() {
    let value = [b"996:".to_vec(), vec![7; 996]].concat();
    let item = Item {
        v: Some(&value),
        k: Some(&[8; 32]),
        sig: Some(&[9; 64]),
        seq: Some(i64::MAX),
        cas: Some(i64::MAX),
        salt: Some(&[7; 64]),
        malformed: false,
    };
    assert_eq!(put_of(&[6; MAX_TOKEN], item).len(), 1416);
}

#[test]
fn an_error_is_cut_to_its_room() {
    let mut buf = [0; 200];
    let full = error(&mut buf, b"aa", 203, "Invalid token.", 500).unwrap();
    assert_eq!(&buf[..full], b"d1:eli203e14:Invalid token.e1:t2:aa1:y1:ee");
    for room in 0..full {
        let len = error(&mut buf, b"aa", 203, "Invalid token.", room);
        match len {
            None => assert!(room < 27),
            Some(len) => {
                assert!(len <= room && len + 2 >= room);
                let Body::Error(203, text) = parse(&buf[..len]).unwrap().body else {
                    panic!("{room}");
                };
                assert!(b"Invalid token.".starts_with(text));
            }
        }
    }
    // A ping with the shortest transaction id leaves room for a word.
    let ping = query(&mut buf, b"", &NodeId([1; 20]), false, &QueryOut::Ping).unwrap();
    assert_eq!(error(&mut buf, b"", 203, "Protocol error.", ping), Some(41));
}
