//! Any order of anything, against the plainest table there is.

use quickcheck::quickcheck;

use super::*;

/// Ids of few shapes and few addresses, so that they meet.
fn contact(what: u16) -> Contact {
    let mut id = OWN;
    let bits = usize::from(what % 12);
    id.0[bits / 8] ^= 0x80 >> (bits % 8);
    id.0[10] = (what >> 4) as u8 & 0x3f;
    let [net, host] = what.to_be_bytes();
    let ip = Ipv4Addr::new(11, 0, net & 0x1f, 1 + (host & 3));
    Contact {
        id,
        addr: SocketAddr::from((ip, 1 + (what >> 13))),
    }
}

fn run(steps: &[(u8, u16, u8)], limits: Limits, mut check: impl FnMut(&Routes)) {
    let mut b = Bench::new(limits);
    let (mut now, mut asked) = (Instant::ORIGIN, Vec::new());
    for &(what, which, pause) in steps {
        now += Duration::from_secs(u64::from(pause) * u64::from(pause) / 16);
        let c = contact(which);
        match what % 16 {
            0..5 => {
                let added = b.routes.replied(now, &c.id, c.addr, RTT);
                let inside = matches!(added, Added::Known | Added::New | Added::Replaced);
                assert!(inside == b.routes.nodes(now).any(|(n, _, good)| n == c && good));
            }
            5..8 => b.routes.failed(now, c.addr),
            8 | 9 => {
                let before = (b.routes.len(), b.routes.good());
                let _ = b.routes.queried(now, &c.id, c.addr);
                assert_eq!((b.routes.len(), b.routes.good()), before);
            }
            10 => b.routes.restore(now, &c, Duration::from_secs(which.into())),
            11 => b.routes.housekeeping(now, which % 2 == 0),
            12 => b.routes.set_own(now, c.id),
            13 => b.routes.hurry(now),
            14 => {
                for c in asked.drain(..) {
                    let Contact { id, addr } = c;
                    let _ = b.routes.replied(now, &id, addr, RTT);
                }
            }
            _ => {
                let rng = &mut b.rng;
                for _ in 0..4 {
                    match b.routes.next_action(&mut Cx { now, rng }) {
                        Some(Action::Ping(c)) => asked.push(c),
                        Some(Action::Refresh(target)) => assert_ne!(target, *b.routes.own()),
                        // Law 3.
                        None => assert!(b.routes.due().is_none_or(|at| at > now)),
                    }
                }
            }
        }
        audit(&b.routes);
        check(&b.routes);
    }
}

quickcheck! {
    fn whatever_happens_the_table_is_sound(steps: Vec<(u8, u16, u8)>) -> bool {
        run(&steps, LIMITS, |_| {});
        true
    }

    fn a_small_private_one_as_well(steps: Vec<(u8, u16, u8)>) -> bool {
        let limits = Limits { max_buckets: 3, max_replacements: 4, local: true };
        run(&steps, limits, |r| assert!(r.len() <= 24));
        true
    }

    /// What is handed out is what is closest: by sorting all that answered.
    fn the_closest_are_the_closest(steps: Vec<(u8, u16, u8)>, target: u16, far: bool) -> bool {
        let mut target = contact(target).id;
        target.0[19] ^= u8::from(far);
        run(&steps, LIMITS, |r| {
            let table = match &r.inner {
                Inner::V4(t) => t,
                Inner::V6(_) => unreachable!(),
            };
            let ready = table.buckets.iter().flat_map(bucket::Bucket::entries);
            let ready = ready.filter(|e| e.state.is_ready());
            let mut ready: Vec<_> = ready.map(|e| entry::unpack(&e.node)).collect();
            ready.sort_by_key(|c| c.id.distance(&target));

            let mut all = heapless::Vec::<_, 512>::new();
            r.closest(&target, &mut all);
            assert_eq!(all[..ready.len()], ready);
            let mut few = heapless::Vec::<_, 5>::new();
            r.closest(&target, &mut few);
            assert_eq!(few, all[..all.len().min(5)]);

            let mut out = [0; K * COMPACT_V4 + 7];
            let len = r.write_closest(&target, &mut out);
            let mut written: Vec<_> = out[..len]
                .chunks(COMPACT_V4)
                .map(|n| entry::unpack::<COMPACT_V4>(n.try_into().unwrap()))
                .collect();
            written.sort_by_key(|c| c.id.distance(&target));
            assert_eq!(written, ready[..ready.len().min(K)]);
        });
        true
    }

    /// A cramped buffer gets fewer, never a part of one.
    fn a_short_buffer_gets_whole_nodes(n: u8, room: u8) -> bool {
        let mut b = Bench::new(LIMITS);
        for bits in 0..usize::from(n % 20) {
            let c = b.contact(bits);
            b.replied(1, &c);
        }
        let mut out = [0; 256];
        let len = b.routes.write_closest(&OWN, &mut out[..usize::from(room)]);
        let fits = (usize::from(room) / COMPACT_V4).min(K).min(usize::from(n % 20));
        len == fits * COMPACT_V4
    }
}
