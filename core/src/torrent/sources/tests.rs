use alloc::{string::ToString, vec};

use super::*;
use crate::torrent::io::DhtState;
use crate::torrent::outbox::event::Event;
use crate::torrent::surroundings::Surroundings;
use crate::{Config, OpError, OpErrorKind, OpId, Transmit};

const ID: TorrentId = TorrentId(7);
const HASH: InfoHash = InfoHash([3; 20]);
const FACTS: Facts = Facts {
    uploaded: 0,
    downloaded: 0,
    left: 1,
    partial: false,
    private: false,
    full: false,
};
const DHT_UP: DhtState = DhtState {
    exists: true,
    wanted: true,
    active: true,
    reachable: None,
};

/// Sources without a torrent.
struct Bench {
    around: Surroundings,
    intents: Intents,
    sources: Sources,
}

impl Bench {
    /// They are started, on a machine with IPv4 only.
    fn new(urls: &[&str], prepare: impl FnOnce(&mut Surroundings)) -> Self {
        let mut around = Surroundings::new(Config::default());
        around.setup.caps.ipv6 = false;
        prepare(&mut around);
        let mut add = AddTorrent::new(Source::Hash {
            info_hash: HASH,
            name: None,
        });
        add.trackers = urls.iter().map(|url| vec![url.to_string()]).collect();
        let mut sources = Sources::new(&mut around.io(), ID, HASH, &add, None);
        sources.announcer.start(&mut cx!(around.io()));
        Self {
            around,
            intents: Intents::new(ID),
            sources,
        }
    }

    fn with<T>(&mut self, what: impl FnOnce(&mut Sources, &mut Io<'_>, &mut Intents) -> T) -> T {
        what(&mut self.sources, &mut self.around.io(), &mut self.intents)
    }

    fn ask(&mut self, facts: &Facts) {
        self.with(|s, io, intents| s.ask(io, intents, facts));
    }

    /// The query that the driver is to carry out.
    fn op(&mut self) -> (OpId, QueryKey, Op) {
        let op = self.around.out.ops.poll().unwrap();
        let id = op.id().unwrap();
        match self.around.out.ops.answered(id) {
            Some(Purpose::Http(ID, key) | Purpose::Resolve(ID, key)) => (id, key, op),
            other => panic!("{other:?}"),
        }
    }

    fn datagram_to(&mut self) -> Option<SocketAddr> {
        let io = &mut self.around.io();
        let sent: Option<Transmit> = io.trackers.udp.poll_transmit(&mut cx!(io), &mut [0; 1500]);
        sent.map(|t| t.dst)
    }

    /// The level and the text of each notice, and the peers that were found.
    fn heard(&mut self, knows_peers: bool) -> (Vec<(Level, What)>, Vec<SocketAddr>) {
        let mut all = Vec::new();
        while let Some(found) = self.with(|s, io, intents| s.poll_found(io, intents, knows_peers)) {
            all.extend(found.peers);
        }
        let notices = core::iter::from_fn(|| self.around.out.poll_notice());
        let notices = notices.filter_map(|event| match event {
            Event::Notice(notice) => Some((notice.level, notice.what)),
            _ => None,
        });
        (notices.collect(), all)
    }
}

#[test]
fn a_query_that_cannot_be_sent_is_answered_at_once() {
    for (url, resolve, error) in [
        ("https://a/announce", true, "Https"),
        ("udp://a:1/", false, "no names can be looked up here"),
        // Nothing is sent to an address of a group, or to port 0.
        ("udp://224.0.0.1:1/", true, "no address"),
        ("udp://10.0.0.1:0/", true, ""),
        ("udp://[2001:db8::1]:1/", true, "no address"),
    ] {
        let mut bench = Bench::new(&[url], |around| {
            around.setup.caps.https = false;
            around.setup.caps.resolve = resolve;
        });
        bench.ask(&FACTS);
        assert!(bench.around.out.ops.poll().is_none() && bench.datagram_to().is_none());
        let (notices, peers) = bench.heard(false);
        let [(Level::Warning, What::Tracker { message, .. })] = &notices[..] else {
            panic!("{url}: {notices:?}");
        };
        assert!(message.contains(error), "{url}: {message}");
        assert!(peers.is_empty());
    }
}

#[test]
fn peers_of_a_tracker_are_found_and_its_failure_is_noticed() {
    let mut bench = Bench::new(&["http://a/announce"], |_| {});
    bench.ask(&FACTS);
    let (_, key, op) = bench.op();
    let Op::Http { request, .. } = op else {
        panic!("{op:?}");
    };
    assert!(request.url.starts_with("http://a/announce?info_hash="));
    let body = b"d8:intervali900e5:peers6:\x0a\x00\x00\x01\x1a\xe1e".to_vec();
    let outcome = Outcome::Http { status: 200, body };
    bench.with(|s, io, intents| s.fetched(io, intents, key, outcome));
    assert!(bench.intents.take_wants().contains(Wants::TRACKERS));
    let (_, peers) = bench.heard(false);
    assert_eq!(peers, [SocketAddr::from(([10, 0, 0, 1], 6881))]);

    let mut bench = Bench::new(&["http://a/announce"], |_| {});
    bench.ask(&FACTS);
    let (_, key, _) = bench.op();
    let outcome = Outcome::Failed {
        error: OpError {
            kind: OpErrorKind::Refused,
            detail: "refused".into(),
        },
        blocks: Vec::new(),
    };
    bench.with(|s, io, intents| s.fetched(io, intents, key, outcome));
    let (notices, _) = bench.heard(true);
    assert!(matches!(
        &notices[..],
        [(Level::Warning, What::Tracker { .. })]
    ));
}

#[test]
fn a_udp_tracker_is_asked_after_its_name_was_looked_up() {
    let mut bench = Bench::new(&["udp://tracker:80/"], |_| {});
    bench.ask(&FACTS);
    let (_, key, op) = bench.op();
    assert!(matches!(op, Op::Resolve { host, .. } if host == "tracker"));
    assert_eq!(bench.datagram_to(), None);
    let found = ["2001:db8::1", "10.0.0.9"].map(|ip| ip.parse().unwrap());
    let outcome = Outcome::Resolved(found.into());
    bench.with(|s, io, intents| s.resolved(io, intents, key, outcome));
    let v4 = SocketAddr::from(([10, 0, 0, 9], 80));
    assert_eq!(bench.datagram_to(), Some(v4));
    assert!(bench.around.out.timers.is_armed(Timer::Udp));
}

#[test]
fn a_private_torrent_does_not_search_the_dht() {
    let mut bench = Bench::new(&[], |around| around.dht = DHT_UP);
    bench.ask(&Facts {
        private: true,
        ..FACTS
    });
    assert!(!bench.sources.search.is_waiting());
    assert!(!bench.intents.take_wants().contains(Wants::DHT_SEARCH));

    let mut bench = Bench::new(&[], |around| around.dht = DHT_UP);
    bench.ask(&FACTS);
    assert!(bench.intents.take_wants().contains(Wants::DHT_SEARCH));
    let goal = bench.with(|s, io, _| s.search_goal(io, false));
    assert!(matches!(goal, Some(Goal::Peers { hash: HASH, .. })));
    // The announcer hears of the end, once.
    let cancel = |s: &mut Sources, io: &mut Io<'_>, _: &mut Intents| {
        s.end_search(io, TrackerError::Cancelled)
    };
    assert!(bench.with(cancel));
    assert!(!bench.with(cancel));
    assert!(bench.with(|s, io, _| s.search_goal(io, false)).is_none());
}

#[test]
fn a_tracker_that_cannot_be_used_is_a_warning_unless_peers_are_known() {
    for (knows_peers, dht, level) in [
        (false, false, Level::Warning),
        (true, false, Level::Detail),
        (false, true, Level::Detail),
    ] {
        let mut bench = Bench::new(&["wss://a/"], |around| {
            if dht {
                around.dht = DHT_UP;
            }
        });
        let (notices, _) = bench.heard(knows_peers);
        assert!(
            matches!(&notices[..], [(told, What::Tracker { .. })] if *told == level),
            "{notices:?}"
        );
    }
}
