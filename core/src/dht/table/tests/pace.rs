//! How fast the table works, and what it makes of silence.

use super::*;

/// Nodes that answer, or not, and a clock.
struct World {
    b: Bench,
    now: Instant,
    dead: Vec<SocketAddr>,
    up: bool,
    /// What was asked, and when.
    pings: Vec<(Instant, Contact)>,
    refreshes: Vec<(Instant, NodeId)>,
    /// Failures to come.
    waiting: Vec<(Instant, SocketAddr)>,
}

const TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    fn new() -> Self {
        Self {
            b: Bench::new(LIMITS),
            now: at(0),
            dead: Vec::new(),
            up: true,
            pings: Vec::new(),
            refreshes: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// A healthy table: `depth` full buckets and an own one of 4.
    fn healthy(depth: usize) -> Self {
        let mut w = Self::new();
        for bits in 0..depth {
            w.b.fill(0, bits, 8);
        }
        w.b.fill(0, depth, 4);
        w
    }

    /// Lets `time` pass; answers take no time. A refresh finds eight nodes of its bucket.
    fn run(&mut self, time: Duration, finds: bool) {
        let end = self.now + time;
        loop {
            let failure = self.waiting.first().map(|(at, _)| *at);
            let Some(next) = self.b.routes.due().into_iter().chain(failure).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if failure.is_some_and(|at| at <= self.now) {
                let (_, addr) = self.waiting.remove(0);
                self.b.routes.failed(self.now, addr);
                audit(&self.b.routes);
            }
            let (now, rng) = (self.now, &mut self.b.rng);
            match self.b.routes.next_action(&mut Cx { now, rng }) {
                Some(Action::Ping(c)) => {
                    self.pings.push((now, c));
                    self.ask(&c);
                }
                Some(Action::Refresh(target)) => {
                    self.refreshes.push((now, target));
                    let bits = OWN.common_prefix(&target) as usize;
                    if finds && self.up && bits < 8 {
                        for _ in 0..K {
                            let c = self.b.contact(bits);
                            if self.b.routes.queried(now, &c.id, c.addr) {
                                self.ask(&c);
                            }
                        }
                    }
                }
                None => assert!(self.b.routes.due().is_none_or(|at| at > now), "law 3"),
            }
        }
        self.now = end;
    }

    fn ask(&mut self, c: &Contact) {
        if self.up && !self.dead.contains(&c.addr) {
            let _ = self.b.routes.replied(self.now, &c.id, c.addr, RTT);
            audit(&self.b.routes);
        } else {
            self.waiting.push((self.now + TIMEOUT, c.addr));
        }
    }

    fn all(&self) -> Vec<Contact> {
        self.b.routes.nodes(self.now).map(|(c, ..)| c).collect()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// 2 packets a minute are one ping and its answer.
#[test]
fn a_healthy_idle_table_sends_at_most_one_packet_a_minute() {
    let mut w = World::healthy(20);
    w.run(HOUR, false);
    w.pings.clear();
    w.refreshes.clear();
    w.run(HOUR * 8, false);
    // A refresh is one query and at most 8 pings.
    let sent = w.pings.len() + w.refreshes.len() * 9;
    assert!((400..=480).contains(&sent), "{sent} in 8 hours");
    assert_eq!(w.b.routes.good(), 164);
}

#[test]
fn every_node_is_asked_in_time() {
    let mut w = World::healthy(20);
    w.run(HOUR * 6, false);
    let asked = |c: &Contact| w.pings.iter().any(|(_, p)| p == c);
    assert!(w.all().iter().all(asked));
}

/// A tenth of a cache of 200 nodes is alive.
#[test]
fn a_cache_that_is_nine_tenths_dead_is_healthy_within_a_minute() {
    let mut w = World::new();
    let mut alive = 0;
    for n in 0..200 {
        // As in a network of 1000 nodes: 8 full buckets, and fewer and fewer nodes after them.
        let c = w.b.contact(n % 25);
        w.b.routes.restore(w.now, &c, Duration::from_secs(86_400));
        if n % 10 == 3 {
            alive += 1;
        } else {
            w.dead.push(c.addr);
        }
    }
    let cached = w.b.routes.len();
    assert!(alive == 20 && cached > 150, "{cached}");
    w.b.routes.hurry(w.now);
    w.run(Duration::from_secs(3), true);
    assert!(w.b.routes.good() >= 8, "{} after 3 s", w.b.routes.good());
    assert!(w.pings.len() <= 76, "within the budget of the NAT");
    w.run(Duration::from_secs(57), true);
    for bucket in 0..8 {
        let target = sharing(&mut w.b.rng, bucket);
        let near = w.b.closest(&target);
        let good = near.iter().take(8).filter(|c| !w.dead.contains(&c.addr));
        assert_eq!(good.count(), 8, "bucket {bucket}");
        assert_eq!(near[7].id.common_prefix(&OWN) as usize, bucket);
    }
}

/// S22: no node is lost, and no failure counts.
#[test]
fn an_outage_costs_no_node() {
    let mut w = World::healthy(12);
    // Others would like the places.
    for bits in 0..12 {
        let c = w.b.contact(bits);
        assert_eq!(w.b.replied(0, &c), Added::Candidate);
    }
    w.run(HOUR, false);
    let before = w.all();
    w.up = false;
    for _ in 0..60 {
        // Searches go on, and fail.
        for c in w.b.closest(&OWN) {
            w.waiting.push((w.now + TIMEOUT, c.addr));
        }
        w.run(Duration::from_secs(10), false);
    }
    for _ in 0..2 {
        w.b.routes.housekeeping(w.now, true);
    }
    assert_eq!(w.all(), before);
    assert_eq!(w.b.routes.good() as usize, before.len(), "nobody is blamed");
    w.up = true;
    let c = before[0];
    let _ = w.b.routes.replied(w.now, &c.id, c.addr, RTT);
    w.pings.clear();
    w.run(Duration::from_secs(30), false);
    let mut after = w.all();
    after.sort_by_key(|c| c.id);
    let mut before = before;
    before.sort_by_key(|c| c.id);
    assert_eq!(after, before);
    let verified =
        w.b.routes
            .nodes(w.now)
            .filter(|(_, ago, _)| *ago < Duration::from_secs(60));
    assert_eq!(verified.count(), before.len(), "all were asked at once");
}

/// The other half: if somebody answers meanwhile, silence is the node's own.
#[test]
fn a_dead_node_is_found_out_though_the_table_idles() {
    let mut w = World::healthy(12);
    let dead = w.all()[5];
    w.dead.push(dead.addr);
    w.run(HOUR * 3, false);
    assert!(!w.b.hands_out(&dead));
    let spare = w.b.contact(0);
    assert!(
        w.b.routes.queried(w.now, &spare.id, spare.addr),
        "its place is free"
    );
}

#[test]
fn offline_there_is_no_haste() {
    let mut w = World::new();
    for bits in 0..20 {
        for _ in 0..8 {
            let c = w.b.contact(bits);
            w.b.routes.restore(w.now, &c, Duration::ZERO);
        }
    }
    w.up = false;
    w.b.routes.hurry(w.now);
    w.run(HOUR, true);
    assert!(w.pings.len() <= 64 + 1800, "{}", w.pings.len());
    assert_eq!(w.b.routes.len(), 160);
    w.up = true;
    w.run(Duration::from_secs(60), true);
    assert_eq!(w.b.routes.good(), 160, "back within a minute");
}

#[test]
fn a_young_table_asks_around_at_once_and_gives_up_slowly() {
    let mut w = World::new();
    let c = w.b.contact(0);
    w.b.replied(0, &c);
    w.run(Duration::from_secs(2), true);
    assert!(w.b.routes.good() >= 1 && !w.refreshes.is_empty());
    assert_eq!(
        w.refreshes[0].1.common_prefix(&OWN),
        159,
        "our own surroundings first"
    );
    w.run(HOUR, false);
    w.refreshes.clear();
    w.run(HOUR * 24, false);
    assert!(w.refreshes.len() < 24 * 12, "{}", w.refreshes.len());
}
