//! What a 16 KiB block costs on its way through `Peer`, per block: the engine's share alone, and
//! beside it the copy that stands for `readv`.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant as Clock};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dunlin_core::peer::{Local, MAX_IOV, Peer, PeerConfig, PeerEvent};
use dunlin_core::wire::peer::{Handshake, Message, Reserved, piece_header};
use dunlin_core::{BLOCK_LEN, BlockPool, BlockRef, Cx, InfoHash, Instant, PeerId};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const LEN: u32 = BLOCK_LEN as u32;
const DEPTH: u32 = 500;
const TORRENT: InfoHash = InfoHash([7; 20]);

fn local(id: u8) -> Local<'static> {
    Local {
        info_hash: TORRENT,
        peer_id: PeerId([id; 20]),
        dht: false,
        pex: false,
        listen_port: None,
        version: "bench",
        remote_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        metadata_size: None,
        upload_only: false,
    }
}

/// What a seeder sends: one block after the other.
struct Source {
    piece: u32,
    /// Control bytes that come before the payload.
    control: Vec<u8>,
    payload: usize,
    data: Vec<u8>,
    /// A have message before every so many blocks.
    haves: u32,
}

impl Source {
    fn fill(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.control.is_empty() && self.payload == 0 {
                if self.piece.checked_rem(self.haves) == Some(0) {
                    Message::Have(self.piece % 1000).emit(&mut self.control);
                }
                self.control.extend(piece_header(at(self.piece)));
                self.payload = BLOCK_LEN;
                self.piece += 1;
            }
            let n = if self.control.is_empty() {
                let n = self.payload.min(out.len());
                out[..n].copy_from_slice(&self.data[..n]);
                self.payload -= n;
                n
            } else {
                let n = self.control.len().min(out.len());
                out[..n].copy_from_slice(&self.control[..n]);
                self.control.drain(..n);
                n
            };
            out = &mut out[n..];
        }
    }
}

/// A leecher with a full pipeline.
struct Bench {
    now: u64,
    rng: ChaCha8Rng,
    pool: BlockPool,
    peer: Peer,
    next: u32,
    source: Source,
    engine: Duration,
    copy: Duration,
}

fn at(piece: u32) -> BlockRef {
    BlockRef {
        piece,
        begin: 0,
        len: LEN,
    }
}

impl Bench {
    fn new(haves: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let cx = &mut Cx {
            now: Instant::from_micros(1),
            rng: &mut rng,
        };
        let cfg = PeerConfig::default();
        let mut peer = Peer::outgoing(cx, &cfg, &local(1), None);
        let mut pool = BlockPool::new(256);
        let hello = Handshake {
            reserved: Reserved::ours(false),
            info_hash: TORRENT,
            peer_id: PeerId([2; 20]),
        };
        let mut first = hello.emit().to_vec();
        Message::Unchoke.emit(&mut first);
        let mut bufs = heapless::Vec::new();
        peer.read_bufs(&mut pool, first.len(), &mut bufs);
        bufs[0].copy_from_slice(&first);
        drop(bufs);
        peer.handle_read(cx, &mut pool, first.len(), &|_| None);
        peer.set_pieces(1 << 20);
        while peer.poll_event().is_some() {}
        for piece in 0..DEPTH {
            peer.request(cx, at(piece));
        }
        Self {
            now: 1,
            rng,
            pool,
            peer,
            next: DEPTH,
            source: Source {
                piece: 0,
                control: Vec::new(),
                payload: 0,
                data: vec![0x55; BLOCK_LEN],
                haves,
            },
            engine: Duration::ZERO,
            copy: Duration::ZERO,
        }
    }

    /// One read of at most a socket buffer, all that follows from it, and one write. Returns the
    /// blocks that came.
    fn turn(&mut self) -> u32 {
        self.now += 100;
        let t0 = Clock::now();
        let mut bufs: heapless::Vec<&mut [u8], MAX_IOV> = heapless::Vec::new();
        self.peer.read_bufs(&mut self.pool, 1 << 20, &mut bufs);
        let t1 = Clock::now();
        let mut total = 0;
        for buf in &mut bufs {
            self.source.fill(buf);
            total += buf.len();
        }
        drop(bufs);
        let t2 = Clock::now();
        let blocks = self.digest(total);
        let t3 = Clock::now();
        self.engine += (t1 - t0) + (t3 - t2);
        self.copy += t2 - t1;
        blocks
    }

    fn digest(&mut self, total: usize) -> u32 {
        let cx = &mut Cx {
            now: Instant::from_micros(self.now),
            rng: &mut self.rng,
        };
        self.peer.handle_read(cx, &mut self.pool, total, &|_| None);
        let mut blocks = 0;
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Block { at, block } => {
                    black_box(at);
                    self.pool.give(block);
                    blocks += 1;
                }
                PeerEvent::Closed(fault) => panic!("{fault}"),
                _ => {}
            }
        }
        black_box(self.peer.request_room(cx.now));
        for _ in 0..blocks {
            self.peer.request(cx, at(self.next));
            self.next += 1;
        }
        let mut out = heapless::Vec::new();
        self.peer.write_bufs(usize::MAX, &mut out);
        let n = out.iter().map(|b| b.len()).sum();
        drop(out);
        self.peer.handle_written(cx, &mut self.pool, n);
        blocks
    }

    fn run(&mut self, blocks: u64) {
        let mut left = blocks;
        while left > 0 {
            left = left.saturating_sub(self.turn().into());
        }
    }
}

fn receive(c: &mut Criterion) {
    let mut group = c.benchmark_group("peer/receive");
    group.throughput(Throughput::Bytes(BLOCK_LEN as u64));
    for (name, haves) in [("blocks", 0), ("a have before every 8th block", 8)] {
        let mut bench = Bench::new(haves);
        group.bench_function(format!("{name}, engine alone"), |b| {
            b.iter_custom(|n| {
                bench.engine = Duration::ZERO;
                bench.run(n);
                bench.engine
            });
        });
        group.bench_function(format!("{name}, copy alone"), |b| {
            b.iter_custom(|n| {
                bench.copy = Duration::ZERO;
                bench.run(n);
                bench.copy
            });
        });
    }
    group.finish();
}

/// Requests come in, blocks go out in batches of eight.
fn send(c: &mut Criterion) {
    let mut bench = Bench::new(0);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut asks = Vec::new();
    Message::Interested.emit(&mut asks);
    for piece in 0..8 {
        Message::Request(at(piece)).emit(&mut asks);
    }
    // No requests of ours, so reads go to the small buffer.
    let cx = &mut Cx {
        now: Instant::from_micros(2),
        rng: &mut rng,
    };
    for piece in 0..DEPTH {
        bench.peer.cancel(cx, at(piece));
    }
    bench.peer.unchoke();
    c.bench_function("peer/send, engine alone", |b| {
        b.iter_custom(|n| {
            let start = Clock::now();
            for _ in 0..n.div_ceil(8) {
                serve(&mut bench, &asks);
            }
            start.elapsed()
        });
    });
}

fn serve(bench: &mut Bench, asks: &[u8]) {
    let cx = &mut Cx {
        now: Instant::from_micros(bench.now),
        rng: &mut bench.rng,
    };
    let mut bufs: heapless::Vec<&mut [u8], MAX_IOV> = heapless::Vec::new();
    bench.peer.read_bufs(&mut bench.pool, 1 << 20, &mut bufs);
    bufs[0][..asks.len()].copy_from_slice(asks);
    drop(bufs);
    bench
        .peer
        .handle_read(cx, &mut bench.pool, asks.len(), &|_| None);
    while let Some(event) = bench.peer.poll_event() {
        if let PeerEvent::Requested(at) = event {
            let block = bench.pool.take().expect("a block");
            if let Some(block) = bench.peer.send_block(at, block) {
                bench.pool.give(block);
            }
        }
    }
    while bench.peer.wants_write() {
        let mut out = heapless::Vec::new();
        bench.peer.write_bufs(usize::MAX, &mut out);
        let n = out.iter().map(|b| b.len()).sum();
        drop(out);
        bench.peer.handle_written(cx, &mut bench.pool, n);
    }
}

criterion_group!(benches, receive, send);
criterion_main!(benches);
