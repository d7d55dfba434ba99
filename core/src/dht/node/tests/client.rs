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
