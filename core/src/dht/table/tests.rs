use alloc::vec::Vec;
use core::net::Ipv4Addr;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;

const OWN: NodeId = NodeId([0xa5; 20]);
const LIMITS: Limits = Limits {
    max_buckets: 50,
    max_replacements: 128,
    local: false,
};
const RTT: Duration = Duration::from_millis(80);

fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000 + 1)
}

fn addr(n: u32) -> SocketAddr {
    // One address per /24.
    SocketAddr::from((Ipv4Addr::from(0x0b00_0001 + (n << 8)), 6881))
}

/// An id that shares exactly `bits` bits with ours.
fn sharing(rng: &mut ChaCha8Rng, bits: usize) -> NodeId {
    let mut id = NodeId([0; 20]);
    rng.fill_bytes(&mut id.0);
    for i in 0..=bits {
        let bit = 0x80 >> (i % 8);
        let ours = OWN.0[i / 8] & bit;
        id.0[i / 8] = (id.0[i / 8] & !bit) | if i == bits { ours ^ bit } else { ours };
    }
    id
}

fn audit(routes: &Routes) {
    each!(&routes.inner, t => t.audit());
}

#[test]
fn the_table_splits_towards_its_own_id_and_answers_from_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut routes = Routes::new(Family::V4, OWN, LIMITS);
    let mut n = 0;
    for bits in 0..10 {
        for _ in 0..8 {
            n += 1;
            let id = sharing(&mut rng, bits);
            assert_eq!(routes.replied(at(1), &id, addr(n), RTT), Added::New);
            audit(&routes);
        }
    }
    assert_eq!((routes.len(), routes.good()), (80, 80));
    let mut out = [0; 8 * COMPACT_V4];
    let target = sharing(&mut rng, 3);
    assert_eq!(routes.write_closest(&target, &mut out), out.len());
    for node in out.chunks(COMPACT_V4) {
        let id = NodeId(node[..20].try_into().unwrap());
        assert_eq!(OWN.common_prefix(&id), 3);
    }
    let mut all: Vec<_> = routes.nodes(at(1)).map(|(c, ..)| c).collect();
    all.sort_by_key(|c| c.id.distance(&target));
    let mut out = heapless::Vec::<_, 20>::new();
    routes.closest(&target, &mut out);
    assert_eq!(out, all[..20]);
}
