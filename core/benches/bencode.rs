//! How fast messages and torrent files are read.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dunlin_core::{
    metainfo::{Builder, Torrent},
    wire::bencode::{Dict, Limits},
};

/// A `get_peers` answer as DHT nodes send it (BEP 5): 8 nodes, 8 peers, token, version.
fn krpc() -> Vec<u8> {
    let peers = "6:abcdef".repeat(8);
    let nodes = "n".repeat(208);
    let id = "i".repeat(20);
    format!(
        "d2:ip6:abcdef1:rd2:id20:{id}5:nodes208:{nodes}5:token8:abcdefgh6:valuesl{peers}ee1:t2:aa1:v4:LT011:y1:re"
    )
    .into_bytes()
}

/// A PEX message of 50 added and 50 dropped peers (BEP 11), as an extension message has it.
fn pex() -> Vec<u8> {
    let (peers, flags) = ("p".repeat(300), "f".repeat(50));
    format!("d5:added300:{peers}7:added.f50:{flags}6:added60:8:added6.f0:7:dropped300:{peers}8:dropped60:e")
        .into_bytes()
}

/// A torrent file of some 1 MiB: 10 000 files, 16 000 pieces.
fn torrent() -> Vec<u8> {
    let mut b = Builder::folder("a torrent of many files");
    for i in 0..10_000 {
        let path = [
            format!("folder {:03}", i % 100),
            format!("a file of some name {i:05}.bin"),
        ];
        b.add(path.into(), 419_430);
    }
    b.piece_len = Some(256 << 10);
    let draft = b.draft().expect("sound");
    let hashes = vec![[7; 20]; draft.layout().piece_count() as usize];
    draft.finish(&hashes).expect("sound").to_bytes()
}

fn messages(c: &mut Criterion) {
    let mut g = c.benchmark_group("message");
    let krpc = krpc();
    g.throughput(Throughput::Bytes(krpc.len() as u64));
    g.bench_function("krpc get_peers answer", |b| {
        b.iter(|| {
            let (d, _) = Dict::parse(black_box(&krpc), Limits::MESSAGE).expect("sound");
            let r = d.dict(b"r").expect("there");
            let peers = r.list(b"values").expect("there").iter();
            (
                (
                    d.bytes(b"t"),
                    d.bytes(b"y"),
                    r.bytes(b"id"),
                    r.bytes(b"nodes"),
                ),
                (r.bytes(b"token"), peers.filter_map(|p| p.bytes()).count()),
            )
        });
    });
    let pex = pex();
    g.throughput(Throughput::Bytes(pex.len() as u64));
    g.bench_function("pex", |b| {
        b.iter(|| {
            let (d, rest) = Dict::parse(black_box(&pex), Limits::MESSAGE).expect("sound");
            (
                rest.len(),
                d.bytes(b"added"),
                d.bytes(b"added.f"),
                d.bytes(b"added6"),
                d.bytes(b"dropped"),
            )
        });
    });
    g.finish();
}

fn torrents(c: &mut Criterion) {
    let mut g = c.benchmark_group("torrent");
    let data = torrent();
    g.throughput(Throughput::Bytes(data.len() as u64));
    g.bench_function("validate 10 000 files", |b| {
        b.iter(|| {
            Dict::parse(black_box(&data), Limits::TORRENT)
                .expect("sound")
                .1
                .len()
        });
    });
    g.bench_function("load 10 000 files", |b| {
        b.iter(|| Torrent::parse(black_box(&data)).expect("sound"));
    });
    let info = Torrent::parse(&data).expect("sound").info;
    g.throughput(Throughput::Elements(1));
    g.bench_function("extents of a piece", |b| {
        let mut piece = 0;
        b.iter(|| {
            piece = (piece + 7919) % info.piece_count();
            info.extents(info.piece_offset(piece), info.piece_size(piece).into())
                .map(|e| e.len)
                .sum::<u64>()
        });
    });
    g.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = messages, torrents
}
criterion_main!(benches);
