//! What encryption costs: RC4 per byte, and the key exchange per handshake.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dunlin_core::peer::crypto::{Encryption, MseHandshake, Progress, Rc4Stream, req2};
use dunlin_core::wire::mse::PrivateKey;
use dunlin_core::{BLOCK_LEN, Cx, InfoHash, Instant};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use rc4::{KeyInit, Rc4, StreamCipher};

fn rc4(c: &mut Criterion) {
    let mut group = c.benchmark_group("rc4");
    let mut stream = Rc4Stream::new(&[7; 20]);
    let mut block = vec![1; BLOCK_LEN];
    group.throughput(Throughput::Bytes(block.len() as u64));
    group.bench_function("block", |b| b.iter(|| stream.apply(black_box(&mut block))));
    // The yardstick: what the well-kept crate takes for the same.
    let mut theirs = Rc4::new_from_slice(&[7; 20]).unwrap();
    group.bench_function("block, rc4 crate", |b| {
        b.iter(|| theirs.apply_keystream(black_box(&mut block)));
    });
    group.finish();
    c.bench_function("rc4/key", |b| {
        b.iter(|| Rc4Stream::new(black_box(&[7; 20])));
    });
}

fn key_exchange(c: &mut Criterion) {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut cx = Cx {
        now: Instant::ORIGIN,
        rng: &mut rng,
    };
    let (ours, theirs) = (PrivateKey::random(&mut cx), PrivateKey::random(&mut cx));
    let theirs = theirs.public();
    c.bench_function("dh/public", |b| b.iter(|| black_box(&ours).public()));
    c.bench_function("dh/agree", |b| {
        b.iter(|| black_box(&ours).agree(black_box(&theirs)));
    });
}

/// Both sides of a whole handshake: four exponentiations, four ciphers.
fn handshake(c: &mut Criterion) {
    let torrent = InfoHash([3; 20]);
    let name = req2(&torrent);
    let known = |n: &[u8; 20]| (*n == name).then_some(torrent);
    let offer = Encryption::Required.offer().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    c.bench_function("handshake/both sides", |b| {
        b.iter_batched(
            || (),
            |()| {
                let mut cx = Cx {
                    now: Instant::ORIGIN,
                    rng: &mut rng,
                };
                let mut a = MseHandshake::outgoing(&mut cx, torrent, offer, &[9; 68]);
                let mut b = MseHandshake::incoming(&mut cx, offer);
                loop {
                    let _ = b.receive(&mut cx, a.output(), &known).unwrap();
                    a.sent(a.output().len());
                    let progress = a.receive(&mut cx, b.output(), &known).unwrap();
                    b.sent(b.output().len());
                    if progress == Progress::Done {
                        return (a.finish().unwrap(), b.finish().unwrap());
                    }
                }
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, rc4, key_exchange, handshake);
criterion_main!(benches);
