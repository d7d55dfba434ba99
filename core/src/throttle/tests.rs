use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;
use Direction::{Down, Up};

fn at(micros: u64) -> Instant {
    Instant::from_micros(1 + micros)
}

fn waiter(index: u32) -> Waiter {
    let generation = 0;
    Waiter::Conn(ConnId { index, generation })
}

fn number(waiter: Waiter) -> usize {
    match waiter {
        Waiter::Conn(conn) => conn.index as usize,
        Waiter::Dht => panic!("nobody of this kind waits"),
    }
}

fn rate_from(n: u8) -> Option<u64> {
    match n % 8 {
        0 | 1 => None,
        2 => Some(0),
        n => Some(1000 << (u64::from(n) * 2)),
    }
}

/// Lets `hungry` nodes pass all they can until `end`, each asking again as soon as it was served;
/// returns what passed: (when, node, bytes).
fn run(throttle: &mut Throttle, hungry: &[BucketId], end: u64) -> Vec<(Instant, BucketId, u32)> {
    let mut passed = Vec::new();
    for (n, &node) in hungry.iter().enumerate() {
        throttle.wait(at(0), node, Down, waiter(n as u32));
    }
    let mut now = at(0);
    loop {
        while let Some((ready, _)) = throttle.poll_ready(now) {
            let node = hungry[number(ready)];
            let bytes = throttle.available(now, node, Down, 50_000);
            assert!(bytes > 0, "a turn without bytes");
            throttle.consume(now, node, Down, bytes);
            passed.push((now, node, bytes));
            throttle.wait(now, node, Down, ready);
            if passed.len() > 20_000 {
                return passed;
            }
        }
        match throttle.poll_timeout() {
            Some(next) if next <= at(end) => {
                assert!(next > now, "spin");
                now = next;
            }
            _ => return passed,
        }
    }
}

fn sum(passed: &[(Instant, BucketId, u32)], node: BucketId) -> u64 {
    passed
        .iter()
        .filter(|(_, n, _)| *n == node)
        .map(|&(.., b)| u64::from(b))
        .sum()
}

#[test]
fn what_is_given_back_is_there_for_others_at_once() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Up, Some(64 << 10));
    let peers: Vec<_> = (0..3).map(|_| throttle.add(BucketId::ROOT)).collect();
    // Two turns are all that the bucket holds, and these pass one short message each.
    for &peer in &peers[..2] {
        throttle.wait(at(0), peer, Up, waiter(0));
        assert!(throttle.poll_ready(at(0)).is_some());
        throttle.consume(at(0), peer, Up, 17);
    }
    assert_eq!(throttle.available(at(0), peers[2], Up, 4_000), 0);
    for &peer in &peers[..2] {
        throttle.release(at(0), peer, Up);
    }
    assert_eq!(throttle.available(at(0), peers[2], Up, 4_000), 4_000);
    assert_eq!(throttle.poll_timeout(), None);
}

#[test]
fn hungry_children_share_equally_and_use_it_all() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(1_000_000));
    let peers: Vec<_> = (0..7).map(|_| throttle.add(BucketId::ROOT)).collect();
    let passed = run(&mut throttle, &peers, 10_000_000);
    let shares: Vec<_> = peers.iter().map(|&p| sum(&passed, p)).collect();
    let (low, high) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(high - low <= 2 * u64::from(QUANTUM), "{shares:?}");
    let all: u64 = shares.iter().sum();
    assert!(all > 9_900_000 && all <= 10_000_000 + burst(1_000_000));
}

/// Serves every waiter that is granted a turn with up to 16 KiB until `end`; each asks again at once, for a
/// turn of this length.
fn run_long(throttle: &mut Throttle, hungry: &[(BucketId, u64)], end: u64) -> Vec<(usize, u32)> {
    run_long_from(throttle, hungry, 0, end)
}

/// The same from a later time on.
fn run_long_from(
    throttle: &mut Throttle,
    hungry: &[(BucketId, u64)],
    start: u64,
    end: u64,
) -> Vec<(usize, u32)> {
    let mut passed = Vec::new();
    let wait = |throttle: &mut Throttle, now, n: usize| {
        throttle.wait_long(now, hungry[n].0, Up, waiter(n as u32), hungry[n].1);
    };
    (0..hungry.len()).for_each(|n| wait(throttle, at(start), n));
    let mut now = at(start);
    while now <= at(end) {
        while let Some((ready, _)) = throttle.poll_ready(now) {
            let n = number(ready);
            let bytes = throttle.available(now, hungry[n].0, Up, QUANTUM);
            throttle.consume(now, hungry[n].0, Up, bytes);
            passed.push((n, bytes));
            wait(throttle, now, n);
        }
        now = throttle.poll_timeout().unwrap();
    }
    passed
}

#[test]
fn long_turns_follow_one_another() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Up, Some(1_000_000));
    let turn = u64::from(QUANTUM) * 5;
    let peers: Vec<_> = (0..3)
        .map(|_| (throttle.add(BucketId::ROOT), turn))
        .collect();
    let passed = run_long(&mut throttle, &peers, 5_000_000);
    assert!(passed.len() > 50);
    for (i, &(n, _)) in passed.iter().enumerate() {
        assert_eq!(n, i / 5 % 3, "grant {i}");
    }
}

#[test]
fn where_many_wait_nobody_waits_for_a_minute() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Up, Some(100_000));
    let peers: Vec<_> = (0..80)
        .map(|_| (throttle.add(BucketId::ROOT), 1 << 20))
        .collect();
    // The first turns are long, as fewer waited then.
    let _ = run_long(&mut throttle, &peers, 120_000_000);
    let passed = run_long_from(&mut throttle, &peers, 120_000_000, 180_000_000);
    let served = |n| passed.iter().any(|&(served, _)| served == n);
    assert!((0..80).all(served));
}

#[test]
fn little_messages_pass_between_the_grants_of_a_long_turn() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Up, Some(200_000));
    let long = [(); 2].map(|()| (throttle.add(BucketId::ROOT), 1 << 20));
    let little = [(); 2].map(|()| (throttle.add(BucketId::ROOT), 0));
    let all = [long[0], little[0], little[1], long[1]];
    let passed = run_long(&mut throttle, &all, 3_000_000);
    let who: Vec<_> = passed.iter().map(|&(n, _)| n).collect();
    assert_eq!(who[..8], [1, 0, 2, 0, 1, 0, 2, 0]);
    assert!(!who.contains(&3), "its turn comes later");
}

#[test]
fn the_lowest_limit_on_the_path_counts() {
    let mut throttle = Throttle::new();
    let group = throttle.add(BucketId::ROOT);
    let peer = throttle.add(group);
    assert_eq!(throttle.limit(peer, Up), None);
    throttle.set_rate(at(0), BucketId::ROOT, Up, Some(500));
    assert_eq!(throttle.limit(peer, Up), Some(500));
    throttle.set_rate(at(0), group, Up, Some(900));
    assert_eq!(throttle.limit(peer, Up), Some(500));
    assert_eq!(throttle.limit(peer, Down), None);
}

#[test]
fn a_child_slower_than_its_share_leaves_the_rest_to_the_others() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(1_000_000));
    let slow = throttle.add(BucketId::ROOT);
    let fast = throttle.add(BucketId::ROOT);
    throttle.set_rate(at(0), slow, Down, Some(50_000));
    let passed = run(&mut throttle, &[slow, fast], 10_000_000);
    assert!(sum(&passed, slow) > 490_000, "{}", sum(&passed, slow));
    assert!(sum(&passed, fast) > 9_350_000, "{}", sum(&passed, fast));
}

#[test]
fn a_newcomer_does_not_overtake_those_who_wait() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(100_000));
    let (a, b) = (throttle.add(BucketId::ROOT), throttle.add(BucketId::ROOT));
    let all = throttle.available(at(0), a, Down, u32::MAX);
    assert_eq!(u64::from(all), burst(100_000));
    throttle.consume(at(0), a, Down, all);
    throttle.wait(at(0), a, Down, waiter(1));
    assert_eq!(throttle.available(at(5_000_000), b, Down, 1000), 0);
    assert_eq!(throttle.poll_ready(at(5_000_000)), Some((waiter(1), Down)));
    assert!(throttle.available(at(5_000_000), a, Down, 1000) == 1000);
}

#[test]
fn rate_zero_passes_nothing_and_sets_no_timer() {
    let mut throttle = Throttle::new();
    let group = throttle.add(BucketId::ROOT);
    let peer = throttle.add(group);
    throttle.set_rate(at(0), group, Up, Some(0));
    assert_eq!(throttle.available(at(9), peer, Up, 100), 0);
    assert_eq!(throttle.available(at(9), peer, Down, 100), 100);
    throttle.wait(at(9), peer, Up, waiter(3));
    assert_eq!(throttle.poll_timeout(), None);
    assert_eq!(throttle.poll_ready(at(1 << 40)), None);
    // Removing the stop wakes the waiters.
    throttle.set_rate(at(1 << 40), group, Up, None);
    assert_eq!(throttle.poll_timeout(), Some(at(1 << 40)));
    assert_eq!(throttle.poll_ready(at(1 << 40)), Some((waiter(3), Up)));
    assert_eq!(
        throttle.available(at(1 << 40), peer, Up, u32::MAX),
        u32::MAX
    );
}

#[test]
fn a_grant_that_is_not_used_goes_to_the_next() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(8000));
    let peers = [1, 2, 3].map(|token| {
        let peer = throttle.add(BucketId::ROOT);
        throttle.wait(at(0), peer, Down, waiter(token));
        peer
    });
    assert_eq!(throttle.poll_ready(at(0)), Some((waiter(1), Down)));
    assert_eq!(throttle.poll_ready(at(0)), Some((waiter(2), Down)));
    // The grants fill the bucket: nothing for the third until they lapse.
    assert_eq!(throttle.poll_ready(at(0)), None);
    let next = throttle.poll_timeout().unwrap();
    assert_eq!(next, at(0) + HOLD);
    assert_eq!(throttle.poll_ready(next), Some((waiter(3), Down)));
    assert_eq!(
        peers.map(|p| throttle.available(next, p, Down, 4096)),
        [2048, 2048, 4096]
    );
}

#[test]
fn removing_a_node_frees_what_it_held_and_lifts_its_children() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(8000));
    let group = throttle.add(BucketId::ROOT);
    throttle.set_rate(at(0), group, Down, Some(0));
    let (a, b) = (throttle.add(group), throttle.add(BucketId::ROOT));
    throttle.wait(at(0), a, Down, waiter(1));
    assert_eq!(throttle.poll_ready(at(0)), None);
    let all = throttle.available(at(0), b, Down, u32::MAX);
    throttle.consume(at(0), b, Down, all - 2048);
    throttle.wait(at(0), b, Down, waiter(2));
    assert_eq!(throttle.poll_ready(at(0)), Some((waiter(2), Down)));
    throttle.remove(at(0), group);
    assert_eq!(throttle.poll_ready(at(0)), None);
    throttle.remove(at(0), b);
    assert_eq!(throttle.poll_ready(at(0)), Some((waiter(1), Down)));
}

#[derive(Clone, Debug)]
enum Action {
    Pass(u8, u16),
    Wait(u8),
    Cancel(u8),
    Ready,
    Sleep(u32),
}

impl Arbitrary for Action {
    fn arbitrary(g: &mut Gen) -> Self {
        match u8::arbitrary(g) % 12 {
            0..=4 => Self::Pass(u8::arbitrary(g), u16::arbitrary(g)),
            5..=6 => Self::Wait(u8::arbitrary(g)),
            7 => Self::Cancel(u8::arbitrary(g)),
            8..=9 => Self::Ready,
            _ => Self::Sleep(u32::arbitrary(g) % 2_000_000),
        }
    }
}

/// A tree from parent choices and rates; returns its nodes with parent index and rate.
fn tree(throttle: &mut Throttle, shape: &[(u8, u8)]) -> Vec<(BucketId, usize, Option<u64>)> {
    let mut nodes = vec![(BucketId::ROOT, 0, None)];
    for &(parent, rate) in shape.iter().take(12) {
        let parent = usize::from(parent) % nodes.len();
        let node = throttle.add(nodes[parent].0);
        nodes.push((node, parent, rate_from(rate)));
    }
    for &(node, _, rate) in &nodes {
        throttle.set_rate(at(0), node, Down, rate);
    }
    nodes
}

quickcheck! {
    fn no_window_passes_more_than_rate_and_burst(shape: Vec<(u8, u8)>, actions: Vec<Action>) -> bool {
        let mut throttle = Throttle::new();
        let nodes = tree(&mut throttle, &shape);
        let pick = |n: u8| nodes[usize::from(n) % nodes.len()];
        let mut passed: Vec<Vec<(Instant, u64)>> = vec![Vec::new(); nodes.len()];
        let mut now = at(0);
        for action in actions {
            match action {
                Action::Pass(n, want) => {
                    let node = pick(n).0;
                    let may = throttle.available(now, node, Down, u32::from(want));
                    if may > u32::from(want) { return false; }
                    throttle.consume(now, node, Down, may);
                    let mut i = usize::from(n) % nodes.len();
                    loop {
                        passed[i].push((now, u64::from(may)));
                        if i == 0 { break; }
                        i = nodes[i].1;
                    }
                }
                Action::Wait(n) => throttle.wait(now, pick(n).0, Down, waiter(0)),
                Action::Cancel(n) => throttle.cancel_wait(now, pick(n).0, Down),
                Action::Ready => {
                    while throttle.poll_ready(now).is_some() {}
                    if throttle.poll_timeout().is_some_and(|t| t <= now) { return false; }
                }
                Action::Sleep(micros) => now += Duration::from_micros(micros.into()),
            }
        }
        nodes.iter().zip(&passed).all(|(&(_, _, rate), passed)| {
            let Some(rate) = rate else { return true };
            (0..passed.len()).all(|i| {
                let mut sum = 0;
                passed[i..].iter().all(|&(t, bytes)| {
                    sum += bytes;
                    let micros = t.saturating_since(passed[i].0).as_micros() as u64;
                    sum <= burst(rate) + (rate * micros).div_ceil(1_000_000)
                })
            })
        })
    }

    fn nobody_starves(shape: Vec<(u8, u8)>) -> bool {
        let mut throttle = Throttle::new();
        let nodes = tree(&mut throttle, &shape);
        // Leaves under some limit, and never under a stop.
        let path = |i: usize| core::iter::successors(Some(i), |&i| (i > 0).then(|| nodes[i].1));
        let hungry: Vec<_> = (0..nodes.len())
            .filter(|&i| i > 0 && path(i).any(|n| nodes[n].2.is_some()))
            .collect();
        let ids: Vec<_> = hungry.iter().map(|&i| nodes[i].0).collect();
        let passed = run(&mut throttle, &ids, 3_000_000);
        hungry.iter().all(|&i| {
            let stopped = path(i).any(|n| nodes[n].2 == Some(0));
            (sum(&passed, nodes[i].0) == 0) == stopped
        })
    }
}

#[test]
fn a_turn_waits_for_every_bucket_on_the_path() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(1 << 20));
    let (a, b) = (throttle.add(BucketId::ROOT), throttle.add(BucketId::ROOT));
    throttle.set_rate(at(0), b, Down, Some(512 << 10));
    for node in [b, a] {
        let all = throttle.available(at(0), node, Down, u32::MAX);
        throttle.consume(at(0), node, Down, all);
    }
    // Its own bucket has a block for it after 31.25 ms; just before, the root's is emptied.
    throttle.wait(at(0), b, Down, waiter(7));
    let all = throttle.available(at(30_000), a, Down, u32::MAX);
    assert!(all > QUANTUM);
    throttle.consume(at(30_000), a, Down, all);
    assert_eq!(throttle.poll_ready(at(32_000)), None, "2 KiB are there");
    assert_eq!(throttle.poll_ready(at(46_000)), Some((waiter(7), Down)));
}

#[test]
fn a_lower_limit_leaves_no_more_than_its_own_burst() {
    let mut throttle = Throttle::new();
    throttle.set_rate(at(0), BucketId::ROOT, Down, Some(8 << 20));
    let peer = throttle.add(BucketId::ROOT);
    let now = at(10_000_000);
    assert!(throttle.available(now, peer, Down, u32::MAX) > 1_000_000);
    throttle.consume(now, peer, Down, 1);
    throttle.set_rate(now, BucketId::ROOT, Down, Some(80_000));
    let all = throttle.available(now, peer, Down, u32::MAX);
    assert_eq!(u64::from(all), burst(80_000));
    throttle.consume(now, peer, Down, all);
    assert_eq!(throttle.available(now, peer, Down, u32::MAX), 0);
}
