use alloc::{boxed::Box, collections::BTreeSet, format, string::String, vec, vec::Vec};
use core::{net::SocketAddr, time::Duration};

use quickcheck::{Arbitrary, Gen, quickcheck};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    id::PeerId,
    net::{Family, Ports},
    tracker::{Families, NO_PORT, QueryKind, TrackerState},
    wire::tracker::{AnnounceEvent, AnnounceRequest, Crypto, Retry, ScrapeAnswer, ScrapeFile},
};

const STATS: Stats = Stats {
    uploaded: 1,
    downloaded: 2,
    left: 3,
    partial: false,
    ports: Ports::both(6881),
    peer_id: PeerId([2; 20]),
    key: 7,
    numwant: Some(50),
    crypto: Crypto::Plain,
    ipv4: None,
    ipv6: None,
};

/// An announcer, its clock and its owner's habits.
struct Bench {
    now: Instant,
    rng: ChaCha8Rng,
    trackers: Announcer,
}

impl Bench {
    /// Started; tiers by spaces and bars: `"a b | c"`.
    fn new(tiers: &str, config: AnnounceConfig) -> Self {
        let url = |name: &str| match name {
            name if name.contains(':') => String::from(name),
            name => format!("udp://{name}:1/announce"),
        };
        let tiers = tiers.split('|');
        let tiers: Vec<Vec<String>> = tiers
            .map(|tier| tier.split_whitespace().map(url).collect())
            .collect();
        let (now, mut rng) = (Instant::from_micros(1), ChaCha8Rng::seed_from_u64(7));
        let cx = &mut Cx { now, rng: &mut rng };
        let mut trackers = Announcer::new(cx, InfoHash([1; 20]), &tiers, config);
        trackers.start(cx);
        Self { now, rng, trackers }
    }

    /// Over one family, to keep things short.
    fn v4(tiers: &str) -> Self {
        Self::new(
            tiers,
            AnnounceConfig {
                families: Families::V4,
                ..AnnounceConfig::default()
            },
        )
    }

    fn with<T>(&mut self, call: impl FnOnce(&mut Announcer, &mut Cx<'_>) -> T) -> T {
        let now = self.now;
        let rng = &mut self.rng;
        call(&mut self.trackers, &mut Cx { now, rng })
    }

    fn query(&mut self) -> Option<Query> {
        self.with(|t, cx| t.poll_query(cx, &STATS))
    }

    /// The next query, and the event it carries.
    fn asks(&mut self) -> (Query, AnnounceEvent) {
        let query = self.query().expect("a query");
        let QueryKind::Announce(request) = query.kind else {
            panic!("an announce");
        };
        (query, request.event)
    }

    fn answer(&mut self, query: &Query, answer: AnnounceAnswer) {
        self.with(|t, cx| t.handle_answer(cx, query.key, Ok(Answer::Announce(answer))));
    }

    fn ok(&mut self, query: &Query) {
        self.answer(query, answer(1800, None));
    }

    fn fail(&mut self, query: &Query, error: TrackerError) {
        self.with(|t, cx| t.handle_answer(cx, query.key, Err(error)));
    }

    /// Jumps to the next timeout; how many seconds that took.
    fn step(&mut self) -> u64 {
        let at = self.trackers.poll_timeout().expect("a timeout");
        let passed = at.saturating_since(self.now).as_secs();
        self.now = self.now.max(at);
        passed
    }

    fn pass(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
    }

    /// Names of the trackers in the order they are tried in.
    fn order(&self) -> Vec<&str> {
        self.trackers.status().map(|s| name(s.url)).collect()
    }

    fn failures(&mut self) -> Vec<TrackerError> {
        let events = core::iter::from_fn(|| self.trackers.poll_event());
        let failed = events.filter_map(|e| match e {
            TrackerEvent::Failed { error, .. } => Some(error),
            _ => None,
        });
        failed.collect()
    }
}

fn name(url: &str) -> &str {
    url.trim_start_matches("udp://")
        .trim_end_matches(":1/announce")
}

fn answer(interval: u64, min: Option<u64>) -> AnnounceAnswer {
    AnnounceAnswer {
        interval: Some(Duration::from_secs(interval)),
        min_interval: min.map(Duration::from_secs),
        ..AnnounceAnswer::default()
    }
}

mod dht;
mod events;
mod tiers;

// ---- changes at run time ----

#[test]
fn wrong_urls_become_trackers_with_an_error() {
    let mut b = Bench::v4("wss://t/announce a");
    let shown: Vec<_> = b.trackers.status().collect();
    let bad = shown.iter().find(|s| s.url.starts_with("wss")).unwrap();
    assert_eq!(bad.state, TrackerState::Unusable);
    assert_eq!(
        format!("{}", bad.error.unwrap()),
        "unsupported kind of tracker: wss"
    );
    assert_eq!(name(&b.asks().0.url), "a");
}

#[test]
fn removed_and_disabled_trackers_hear_that_we_stop() {
    let mut b = Bench::v4("a");
    let (query, _) = b.asks();
    b.ok(&query);
    b.with(|t, cx| t.set_enabled(cx, query.tracker, false));
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    b.ok(&stop);
    assert_eq!(b.trackers.poll_timeout(), None);
    b.with(|t, cx| t.set_enabled(cx, query.tracker, true));
    let (query, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Started);
    b.ok(&query);
    b.with(|t, cx| t.remove(cx, query.tracker));
    assert_eq!(b.order(), [""; 0]);
    let (stop, event) = b.asks();
    assert_eq!(event, AnnounceEvent::Stopped);
    b.ok(&stop);
    assert_eq!(b.trackers.trackers.len(), 0);
}

#[test]
fn added_trackers_are_used() {
    let mut b = Bench::v4("a | b");
    let (a, _) = b.asks();
    let id = b.with(|t, cx| t.add(cx, 0, "udp://c:1/announce")).unwrap();
    assert_eq!(b.order(), ["a", "c", "b"]);
    assert_eq!(
        b.with(|t, cx| t.add(cx, 1, " udp://c:1/announce\n")),
        Ok(id)
    );
    b.fail(&a, TrackerError::Timeout);
    assert_eq!(b.asks().0.tracker, id);
    for i in 0..MAX_TRACKERS - 3 {
        b.with(|t, cx| t.add(cx, 0, &format!("udp://h:{}/", i + 1)))
            .unwrap();
    }
    assert_eq!(b.with(|t, cx| t.add(cx, 0, "udp://x:1/")), Err(Full));
}

#[test]
fn saved_order_switches_and_ids_come_back() {
    let mut b = Bench::v4("a b c | d");
    let (first, _) = b.asks();
    b.fail(&first, TrackerError::Timeout);
    let (second, _) = b.asks();
    let mut good = answer(1800, None);
    good.tracker_id = Some(b"id".to_vec());
    b.answer(&second, good);
    b.with(|t, cx| t.set_enabled(cx, first.tracker, false));
    let saved = b.trackers.save();
    let order: Vec<String> = b.order().into_iter().map(String::from).collect();
    let mut again = Bench::v4("c e b | d");
    again.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(
        again.order(),
        [&*order[0], &*order[1], &*order[2], "e", "d"]
    );
    let kept = &again.trackers.trackers[0].tracker_id;
    assert_eq!(kept.as_deref(), Some(&b"id"[..]));
    assert_eq!(
        again.trackers.status().nth(1).unwrap().state,
        TrackerState::Disabled
    );
    let mut empty = Bench::v4("");
    empty.with(|t, cx| t.restore(cx, &saved));
    assert_eq!(empty.trackers.save(), saved);
}

// ---- HTTP and scrapes ----

#[test]
fn http_answers_are_read_and_the_tracker_id_sent_back() {
    let mut b = Bench::v4("http://t/announce");
    let (query, _) = b.asks();
    assert!(
        query.url.starts_with("http://t/announce?info_hash=%01"),
        "{}",
        query.url
    );
    let body = b"d8:completei5e8:intervali60e5:peers6:\x0a\x00\x00\x01\x1a\xe1\
        10:tracker id2:id11:external ip4:\x01\x02\x03\x04e";
    b.with(|t, cx| t.handle_http(cx, query.key, 200, body));
    let tracker = query.tracker;
    let events: Vec<_> = core::iter::from_fn(|| b.trackers.poll_event()).collect();
    assert_eq!(
        events,
        [
            TrackerEvent::ExternalIp {
                tracker,
                ip: [1, 2, 3, 4].into()
            },
            TrackerEvent::Scraped {
                tracker,
                complete: Some(5),
                incomplete: None,
                downloaded: None
            },
            TrackerEvent::Peers {
                tracker,
                peers: vec!["10.0.0.1:6881".parse().unwrap()]
            },
        ]
    );
    assert_eq!(b.step(), 60);
    let (query, _) = b.asks();
    assert!(query.url.ends_with("&trackerid=id"), "{}", query.url);
    b.with(|t, cx| t.handle_http(cx, query.key, 404, b"gone"));
    assert_eq!(b.failures(), [TrackerError::Http(404)]);
}

#[test]
fn scrapes_are_asked_where_possible_and_not_too_often() {
    let mut b = Bench::v4("http://t/announce http://no/a");
    b.with(Announcer::stop);
    b.with(Announcer::scrape);
    let query = b.query().unwrap();
    assert_eq!(query.kind, QueryKind::Scrape);
    assert!(query.url.starts_with("http://t/scrape?info_hash=%01"));
    assert_eq!(b.query(), None);
    let file = ScrapeFile {
        complete: 1,
        incomplete: 2,
        downloaded: 3,
    };
    let answer = ScrapeAnswer {
        files: vec![Some(file)],
        min_interval: Some(Duration::from_secs(900)),
    };
    b.with(|t, cx| t.handle_answer(cx, query.key, Ok(Answer::Scrape(answer))));
    let event = TrackerEvent::Scraped {
        tracker: query.tracker,
        complete: Some(1),
        incomplete: Some(2),
        downloaded: Some(3),
    };
    assert_eq!(b.trackers.poll_event(), Some(event));
    b.with(Announcer::scrape);
    assert_eq!(b.step(), 900);
    assert!(b.query().is_some());
}

/// What may befall an announcer.
#[derive(Clone, Debug)]
enum Call {
    Start,
    Stop,
    Completed,
    Reannounce {
        force: bool,
    },
    NeedPeers,
    Scrape,
    Add {
        tier: u32,
        port: u8,
    },
    Remove(TrackerId),
    SetEnabled(TrackerId, bool),
    /// Time passes: tens of seconds.
    Pass(u8),
    /// One of the queries that are out is answered: which, and the interval.
    Answer(usize, u8),
    /// One of the queries that are out fails.
    Fail(usize, TrackerError),
    Poll,
}

impl Arbitrary for Call {
    fn arbitrary(g: &mut Gen) -> Self {
        let id = TrackerId(u32::arbitrary(g) % 8);
        let errors = [
            TrackerError::Timeout,
            TrackerError::NoAddress,
            TrackerError::Cancelled,
            TrackerError::Failure {
                reason: "no".into(),
                retry: Some(Retry::Never),
            },
        ];
        let calls = [
            Self::Start,
            Self::Stop,
            Self::Completed,
            Self::Reannounce {
                force: bool::arbitrary(g),
            },
            Self::NeedPeers,
            Self::Scrape,
            Self::Add {
                tier: u32::arbitrary(g) % 3,
                port: u8::arbitrary(g),
            },
            Self::Remove(id),
            Self::SetEnabled(id, bool::arbitrary(g)),
            Self::Pass(u8::arbitrary(g)),
            Self::Answer(usize::arbitrary(g), u8::arbitrary(g)),
            Self::Fail(usize::arbitrary(g), g.choose(&errors).unwrap().clone()),
            Self::Poll,
        ];
        g.choose(&calls).unwrap().clone()
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match self.clone() {
            Self::Pass(tens) => Box::new(tens.shrink().map(Self::Pass)),
            Self::Answer(which, interval) => {
                let simpler = (which, interval).shrink();
                Box::new(simpler.map(|(which, interval)| Self::Answer(which, interval)))
            }
            Self::Fail(which, error) => {
                Box::new(which.shrink().map(move |n| Self::Fail(n, error.clone())))
            }
            _ => quickcheck::empty_shrinker(),
        }
    }
}

quickcheck! {
    /// Law 3: whenever a timeout is due there is a query, and only then; and all of it ends in
    /// `all_stopped`. Law 2: in whatever order things are called.
    fn any_order_of_calls_is_legal(reach: usize, calls: Vec<Call>) -> bool {
        let config = AnnounceConfig {
            reach: [Reach::First, Reach::EachTier, Reach::All][reach % 3],
            max_queries: 3,
            ..AnnounceConfig::default()
        };
        let mut b = Bench::new("a b | http://c/announce [::1]:x | d", config);
        let mut out: Vec<Query> = Vec::new();
        for call in calls {
            match call {
                Call::Start => b.with(Announcer::start),
                Call::Stop => b.with(Announcer::stop),
                Call::Completed => b.with(Announcer::completed),
                Call::Reannounce { force } => b.with(|t, cx| t.reannounce(cx, force)),
                Call::NeedPeers => b.with(Announcer::need_peers),
                Call::Scrape => b.with(Announcer::scrape),
                Call::Add { tier, port } => b.with(|t, cx| _ = t.add(cx, tier, &format!("udp://n:{port}"))),
                Call::Remove(id) => b.with(|t, cx| t.remove(cx, id)),
                Call::SetEnabled(id, enabled) => b.with(|t, cx| t.set_enabled(cx, id, enabled)),
                Call::Pass(tens) => b.pass(u64::from(tens) * 10),
                Call::Answer(which, interval) if !out.is_empty() => {
                    let query = out.swap_remove(which % out.len());
                    b.answer(&query, answer(u64::from(interval), None));
                }
                Call::Fail(which, error) if !out.is_empty() => {
                    let query = out.swap_remove(which % out.len());
                    b.fail(&query, error);
                }
                Call::Answer(..) | Call::Fail(..) | Call::Poll => {
                    let due = b.trackers.poll_timeout().is_some_and(|t| t <= b.now);
                    let query = b.query();
                    if query.is_some() != due {
                        return false;
                    }
                    out.extend(query);
                }
            }
            if usize::from(b.trackers.asking) != out.len() || out.len() > 3 {
                return false;
            }
            while b.trackers.poll_event().is_some() {}
        }
        b.with(Announcer::stop);
        for _ in 0..2 * MAX_TRACKERS {
            out.extend(core::iter::from_fn(|| b.query()));
            for query in out.drain(..) {
                b.ok(&query);
            }
        }
        b.trackers.all_stopped() && b.trackers.poll_timeout().is_none()
    }
}
