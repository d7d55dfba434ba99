//! What picking costs, and how the cost grows with the number of pieces and peers.
//!
//! `cargo bench -p dunlin-core --bench picker`

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dunlin_core::{
    Bitfield, Cx, Instant,
    torrent::picker::{PickHint, PickState, Picker, Received},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

const SIZES: [u32; 3] = [1_000, 10_000, 100_000];
const PEERS: u32 = 1_000;
/// 16 blocks a piece.
const PIECE_LEN: u32 = 1 << 18;
const NOW: Instant = Instant::from_micros(1);
const FAST: PickHint<'_> = PickHint {
    choked_allowed: None,
    suggested: &[],
    fast: true,
    max_new_pieces: None,
};

/// About `percent` of all pieces.
fn some(rng: &mut ChaCha8Rng, pieces: u32, percent: u32) -> Bitfield {
    let mut has = Bitfield::new(pieces);
    for piece in 0..pieces {
        if rng.next_u32() % 100 < percent {
            has.set(piece);
        }
    }
    has
}

/// A picker in a swarm of a thousand peers, each with a share of its own, and their sets.
fn swarm(rng: &mut ChaCha8Rng, pieces: u32) -> (Picker, Vec<Bitfield>) {
    let total = u64::from(pieces) * u64::from(PIECE_LEN);
    let mut picker = Picker::with_sizes(total, PIECE_LEN, Bitfield::new(pieces));
    let peers: Vec<_> = (0..PEERS)
        .map(|i| some(rng, pieces, i % 10 * 10 + 5))
        .collect();
    for has in &peers {
        picker.peer_joined(has);
    }
    (picker, peers)
}

/// Requests, receives and verifies `blocks` blocks from one peer, `batch` requests at a time.
fn pull(
    picker: &mut Picker,
    rng: &mut ChaCha8Rng,
    has: &Bitfield,
    state: &mut PickState,
    batch: u32,
    blocks: u64,
) {
    let mut out = Vec::with_capacity(batch as usize);
    let mut done = 0;
    while done < blocks {
        let mut cx = Cx { now: NOW, rng };
        picker.pick(&mut cx, 1, state, has, FAST, batch, &mut out);
        if out.is_empty() {
            return;
        }
        for at in out.drain(..) {
            done += 1;
            if picker.received(NOW, at, 1)
                == (Received::Fresh {
                    piece_complete: true,
                })
            {
                picker.verified(at.piece);
            }
        }
    }
}

/// The `percent` of all pieces that most peers have: a peer with these has none of the rare ones.
fn commonest(picker: &Picker, pieces: u32, percent: u32) -> Bitfield {
    let mut by_copies: Vec<u32> = (0..pieces).collect();
    by_copies.sort_by_key(|&p| std::cmp::Reverse(picker.availability(p)));
    let mut has = Bitfield::new(pieces);
    for piece in by_copies
        .into_iter()
        .take((pieces * percent / 100) as usize)
    {
        has.set(piece);
    }
    has
}

/// Request, receipt and, once per 16 blocks, verification; per block.
fn per_block(c: &mut Criterion) {
    let mut group = c.benchmark_group("block");
    for pieces in SIZES {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (swarm, _) = swarm(&mut rng, pieces);
        let sets = [
            ("seed", Bitfield::full(pieces), 1),
            ("seed, 16 at a time", Bitfield::full(pieces), 16),
            ("half of the pieces", some(&mut rng, pieces, 50), 1),
            ("5 %", some(&mut rng, pieces, 5), 1),
            ("the commonest 5 %", commonest(&swarm, pieces, 5), 1),
        ];
        for (name, has, batch) in sets {
            let mut picker = swarm.clone();
            picker.peer_joined(&has);
            // Sorts; also takes the torrent past its random first pieces.
            let mut state = PickState::default();
            pull(&mut picker, &mut rng, &has, &mut state, 1, 8 * 16);
            let blocks = 16 * u64::from(has.count() / 2).clamp(10, 1000);
            group.throughput(Throughput::Elements(blocks));
            group.bench_function(BenchmarkId::new(name, pieces), |b| {
                b.iter_batched(
                    || picker.clone(),
                    |mut picker| {
                        let mut state = PickState::default();
                        pull(&mut picker, &mut rng, &has, &mut state, batch, blocks);
                        picker
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

fn announcements(c: &mut Criterion) {
    let mut group = c.benchmark_group("swarm");
    for pieces in SIZES {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (mut picker, mut peers) = swarm(&mut rng, pieces);
        let mut state = PickState::default();
        let seed = Bitfield::full(pieces);
        pull(&mut picker, &mut rng, &seed, &mut state, 1, 8 * 16);

        let has = &mut peers[0];
        group.bench_function(BenchmarkId::new("have and back", pieces), |b| {
            b.iter(|| {
                let piece = rng.next_u32() % pieces;
                if has.set(piece) {
                    picker.peer_has(piece, has);
                    has.clear(piece);
                    picker.peer_lost(piece, has);
                }
            });
        });
        let mut one = |picker: &mut Picker| {
            let mut out = Vec::new();
            let mut cx = Cx {
                now: NOW,
                rng: &mut rng,
            };
            let mut state = PickState::default();
            picker.pick(&mut cx, 2, &mut state, &seed, FAST, 1, &mut out);
            for at in out {
                picker.aborted(at, 2);
            }
        };
        for (name, has) in [
            ("a seed", &seed),
            ("a half", &peers[5]),
            ("5 %", &peers[10]),
        ] {
            let name = format!("join, pick and leave of {name}");
            group.bench_function(BenchmarkId::new(name, pieces), |b| {
                b.iter(|| {
                    picker.peer_joined(has);
                    one(&mut picker);
                    picker.peer_left(has);
                });
            });
        }
        group.bench_function(BenchmarkId::new("interest", pieces), |b| {
            b.iter(|| black_box(&picker).interesting(black_box(&seed)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = per_block, announcements
}
criterion_main!(benches);
