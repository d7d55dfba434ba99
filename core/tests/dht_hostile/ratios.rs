//! How much a node can be made to send for how little.

use dunlin_core::dht::DhtConfig;

use crate::bench::*;

/// Replies without peers: 3.2 times the query at most.
const BARE: (usize, usize) = (32, 10);
/// With peers, filters or samples.
const LADEN: (usize, usize) = (6, 1);

fn full() -> Bench {
    let mut b = Bench::settled(DhtConfig::default(), 300);
    // A popular hash: more peers than fit, and enough other ones for samples.
    for n in 0..150 {
        let (from, me) = (public(5_000 + n), id(n as u8));
        for hash in [id(1), id(100 + (n % 50) as u8)] {
            let token = b.token(from, &me, &hash);
            assert!(b.ask(from, &announce(&me, &hash, 5, &token)).is_some());
        }
    }
    b
}

fn bytes_of(b: &mut Bench, n: u32, query: &[u8], (most, of): (usize, usize)) -> usize {
    let answer = b.ask(public(n), query).expect("an answer").len();
    assert!(
        answer * of <= query.len() * most,
        "{answer} bytes for {}: {:?}",
        query.len(),
        String::from_utf8_lossy(query)
    );
    answer
}

#[test]
fn replies_are_little_longer_than_queries() {
    let mut b = full();
    let me = id(7);
    let mut n = 9_000;
    let mut check = |query: &[u8], limit| {
        n += 1;
        bytes_of(&mut b, n, query, limit)
    };
    check(&ping(&me), BARE);
    let nodes = check(&find_node(&me, &id(0x55)), BARE);
    assert!(nodes > 8 * 26, "eight nodes");
    let bare = check(&get_peers(&me, &id(0x55)), BARE);
    assert!(bare > 8 * 26, "eight nodes and a token");
    let get = [("id", string(&me.0)), ("target", string(&[9; 20]))];
    check(&raw("get", &get), BARE);
    let laden = check(&get_peers(&me, &id(1)), LADEN);
    assert!(
        laden > 500 && laden <= 560,
        "eight nodes and some thirty peers: {laden}"
    );
    let args = [("id", string(&me.0)), ("info_hash", string(&[1; 20]))];
    let mut args = args.to_vec();
    args.push(("scrape", int(1)));
    check(&raw("get_peers", &args), LADEN);
    let samples = check(&raw("sample_infohashes", &get), LADEN);
    assert!(samples > 300, "{samples}");
}

/// The shortest transaction, and the most that can be wanted.
#[test]
fn no_spelling_of_a_query_gets_more() {
    let mut b = full();
    let mut n = 9_000;
    let both = b"l2:n42:n6e".to_vec();
    for (method, key, laden) in [
        ("find_node", "target", false),
        ("get_peers", "info_hash", false),
        ("get_peers", "info_hash", true),
        ("get", "target", false),
        ("sample_infohashes", "target", true),
    ] {
        let hash = if laden { id(1) } else { id(0x55) };
        for (tid, want) in [("", None), ("t", None), ("tt", Some(&both))] {
            let mut args = vec![("id", string(&[7; 20])), (key, string(&hash.0))];
            if let Some(want) = want {
                args.push(("want", want.clone()));
            }
            let query = dict(&[
                ("a", dict(&args)),
                ("q", string(method.as_bytes())),
                ("t", string(tid.as_bytes())),
                ("y", string(b"q")),
            ]);
            n += 1;
            bytes_of(&mut b, n, &query, if laden { LADEN } else { BARE });
        }
    }
}

#[test]
fn a_source_that_drains_us_gets_no_more_than_it_sends() {
    let mut b = full();
    let (mut asked, mut got) = (0, 0);
    let query = get_peers(&id(7), &id(1));
    for n in 0..150_u32 {
        let from = addr(&format!("198.51.100.{}:7", n % 250));
        asked += query.len();
        got += b.ask(from, &query).map_or(0, |answer| answer.len());
    }
    assert!(got <= 6 * asked);
    // Its credit is spent: from here on, and without time passing, not a byte more than it sends.
    let (mut asked, mut got) = (0, 0);
    for n in 0..150_u32 {
        let from = addr(&format!("198.51.100.{}:7", n % 250));
        asked += query.len();
        got += b.ask(from, &query).map_or(0, |answer| answer.len());
    }
    assert!(got <= asked, "{got} for {asked}");
}
