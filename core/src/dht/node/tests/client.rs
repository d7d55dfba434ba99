//! What we ask of others, and what we take from their replies.

use super::*;
use crate::dht::item;

/// Runs until node `n` sends a query of a kind; its argument `target`.
fn target_of(net: &mut Net, n: usize, method: Method) -> Option<NodeId> {
    let end = net.now + Duration::from_secs(5);
    while net.now < end {
        for (.., from, data) in &net.flying {
            if let Body::Query(what, args) = krpc::parse(data).expect("sound").body
                && (*from, what) == (addr(n), method)
            {
                return args.target;
            }
        }
        net.run(DELAY / 4);
    }
    panic!("node {n} sends no such query");
}

#[test]
fn a_put_names_the_target_of_its_item() {
    let mut net = Net::formed(20, &DhtConfig::default());
    let value = b"5:value".to_vec();
    let goal = Goal::PutImmutable(value.clone());
    net.with(3, |dht, cx| dht.search(cx, goal).expect("room"));
    assert_eq!(
        target_of(&mut net, 3, Method::Put),
        Some(item::immutable_target(&value))
    );
    let (secret, salt) = ([7; 32], b"salt".to_vec());
    let key = item::public_key(&secret);
    let goal = Goal::PutMutable {
        sig: item::sign(&secret, &salt, 1, &value).expect("sound"),
        value,
        key,
        salt: salt.clone(),
        seq: 1,
        cas: None,
    };
    net.with(5, |dht, cx| dht.search(cx, goal).expect("room"));
    assert_eq!(
        target_of(&mut net, 5, Method::Put),
        Some(item::mutable_target(&key, &salt))
    );
}

/// A node that answers under another id than the one it was told of by is not the one that was asked.
#[test]
fn a_reply_under_another_id_is_no_answer() {
    // Stores and confirmations of an announce.
    for (to_searches, expected) in [(true, (1, 1)), (false, (2, 1))] {
        let mut net = Net::formed(3, &DhtConfig::default());
        let id = net.nodes[1].1.id(false);
        net.with(0, |dht, cx| {
            dht.search(cx, peers(9, Some(4000))).expect("room")
        });
        for _ in 0..1000 {
            net.run(DELAY / 4);
            for (.., data) in net.flying.iter_mut().filter(|f| f.2 == addr(1)) {
                let Body::Reply(reply) = krpc::parse(data).expect("sound").body else {
                    continue;
                };
                // A confirmation brings no token.
                if to_searches != reply.token.is_none()
                    && let Some(at) = data.windows(20).position(|w| w == id.0)
                {
                    data[at..at + 20].fill(0x55);
                }
            }
        }
        let report = net.report(0);
        assert_eq!((report.stores, report.stored), expected, "{report:?}");
    }
}

/// Every endpoint that is asked costs routers on the way an entry.
#[test]
fn new_endpoints_are_asked_no_faster_than_the_budget_allows() {
    let config = DhtConfig {
        new_remote_budget: Some(5),
        new_remote_burst: 10,
        ..DhtConfig::default()
    };
    let mut net = Net::formed(140, &DhtConfig::default());
    net.add(&config);
    // An answer to a node that sends queries costs nothing: it does not matter whether it hears ours.
    net.deaf = Some(140);
    net.with(140, |dht, cx| dht.add_contact(cx, addr(0)));
    let mut asked = BTreeSet::new();
    for n in 0..200 {
        if n % 20 == 0 {
            net.with(140, |dht, cx| dht.search(cx, peers(n, None)).expect("room"));
        }
        net.run(DELAY / 2);
        let sent = net.flying.iter().filter(|f| f.2 == addr(140));
        asked.extend(sent.map(|f| f.1));
    }
    // In two seconds: ten at once, and five in each.
    assert!((18..=20).contains(&asked.len()), "{}", asked.len());
}
