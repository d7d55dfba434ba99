//! Items (BEP 44) against a node: row 14, and large items of row 8.

use std::net::SocketAddr;

use dunlin_core::NodeId;
use dunlin_core::dht::{DhtConfig, item};
use dunlin_core::wire::krpc::{Body, Item, QueryOut, ReplyOut};

use crate::bench::*;

const SECRET: [u8; 32] = [5; 32];
const HERE: &str = "198.51.100.7:4444";

struct Put {
    v: Vec<u8>,
    salt: Vec<u8>,
    seq: i64,
    cas: Option<i64>,
    sig: [u8; 64],
}

fn signed(v: &str, seq: i64) -> Put {
    let v = string(v.as_bytes());
    Put {
        sig: item::sign(&SECRET, b"", seq, &v).unwrap(),
        v,
        salt: Vec::new(),
        seq,
        cas: None,
    }
}

impl Bench {
    /// What the node says to it: 0, or the code of an error.
    fn put(&mut self, put: &Put) -> i64 {
        let (from, me) = (addr(HERE), id(7));
        let k = item::public_key(&SECRET);
        let target = item::mutable_target(&k, &put.salt);
        let token = self.token(from, &me, &target);
        let item = Item {
            v: Some(&put.v),
            k: Some(&k),
            sig: Some(&put.sig),
            seq: Some(put.seq),
            cas: put.cas,
            salt: (!put.salt.is_empty()).then_some(&put.salt),
            malformed: false,
        };
        let token = &token;
        let mut buf = [0; 1500];
        let what = QueryOut::Put {
            target,
            token,
            item,
        };
        let len = dunlin_core::wire::krpc::query(&mut buf, b"aa", &me, false, &what).unwrap();
        let answer = self.ask(from, &buf[..len]).unwrap();
        assert!(answer.len() <= len);
        match parse(&answer).body {
            Body::Error(code, _) => code,
            Body::Reply(_) => 0,
            Body::Query(..) => panic!("no answer"),
        }
    }

    fn get(&mut self, from: SocketAddr, target: &NodeId, seq: Option<i64>) -> Vec<u8> {
        let (target, want) = (*target, None);
        let get = query(&id(7), &QueryOut::Get { target, seq, want });
        self.ask(from, &get).unwrap()
    }
}

#[test]
fn only_sound_and_newer_items_are_kept() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    assert_eq!(b.put(&signed("two", 2)), 0);
    assert_eq!(b.put(&signed("two", 2)), 0, "the same again");
    let forged = Put {
        sig: [1; 64],
        ..signed("evil", 3)
    };
    assert_eq!(b.put(&forged), 206);
    let negative = Put {
        seq: -1,
        ..signed("minus", 1)
    };
    assert_eq!(b.put(&negative), 203);
    let long = Put {
        v: string(&[b'x'; 1000]),
        ..signed("long", 3)
    };
    assert_eq!(b.put(&long), 205);
    let salted = Put {
        salt: vec![b's'; 65],
        ..signed("salt", 3)
    };
    assert_eq!(b.put(&salted), 207);
    assert_eq!(
        b.put(&Put {
            cas: Some(1),
            ..signed("three", 3)
        }),
        301
    );
    assert_eq!(b.put(&signed("one", 1)), 302);
    assert_eq!(b.put(&signed("other", 2)), 302);
    let target = item::mutable_target(&item::public_key(&SECRET), b"");
    let answer = b.get(addr(HERE), &target, None);
    let got = reply_of(&answer).item;
    assert_eq!((got.v, got.seq), (Some(&b"3:two"[..]), Some(2)));
    assert_eq!(
        b.put(&Put {
            cas: Some(2),
            ..signed("three", 3)
        }),
        0
    );
    // A querier that has the item already gets a short answer.
    let answer = b.get(addr(HERE), &target, Some(3));
    let got = reply_of(&answer).item;
    assert_eq!((got.v, got.sig, got.seq), (None, None, Some(3)));
}

/// Row 8: an item of a thousand bytes that is stored with us must not be thrown at others.
#[test]
fn a_large_item_goes_only_to_who_is_there() {
    let mut b = Bench::settled(DhtConfig::default(), 60);
    let value = string(&[b'x'; 900]);
    let target = item::immutable_target(&value);
    let (from, me) = (addr(HERE), id(7));
    let token = b.token(from, &me, &target);
    let args = [
        ("id", string(&me.0)),
        ("token", string(&token)),
        ("v", value.clone()),
    ];
    assert!(b.ask(from, &raw("put", &args)).is_some());

    // A forged source: it gets a sign of life to answer, and what is left of the item is small.
    let victim = addr("192.0.2.200:5555");
    let (want, seq) = (None, None);
    let get = query(&id(9), &QueryOut::Get { target, seq, want });
    let mut got = 0;
    for _ in 0..20 {
        b.give(victim, &get);
        got += b
            .sends()
            .iter()
            .filter(|(to, _)| *to == victim)
            .map(|(_, d)| d.len())
            .sum::<usize>();
    }
    assert!(got <= 6 * 20 * get.len(), "{got} for {}", 20 * get.len());

    // An honest one answers it, and gets the item.
    let honest = addr("192.0.2.100:5555");
    b.give(honest, &get);
    let mut found = None;
    for _ in 0..3 {
        for (to, data) in b.sends() {
            if to != honest {
                continue;
            }
            match parse(&data).body {
                Body::Query(..) => {
                    let pong = reply(parse(&data).tid, &id(9), &to, &ReplyOut::default());
                    b.give(honest, &pong);
                }
                Body::Reply(r) => found = found.or(r.item.v.map(<[u8]>::to_vec)),
                Body::Error(..) => panic!("an error"),
            }
        }
    }
    assert_eq!(found, Some(value));
}
