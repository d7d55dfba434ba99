//! A whole DHT node in 64 KiB: what it allocates comes from an arena of that size, and at most half
//! of that is in use at any time, the node itself included.

#![allow(
    unsafe_code,
    clippy::disallowed_types,
    reason = "an allocator over an arena, under a lock"
)]

mod dht_world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::Mutex;

use dht_world::{World, public_ip};
use dunlin_core::dht::{Announce, DhtConfig, Goal};
use dunlin_core::wire::krpc::{self, MAX_DATAGRAM, QueryOut};
use dunlin_core::{InfoHash, Machine, NodeId};

/// All the memory there is for the node.
const ARENA: usize = 64 << 10;
/// What it may use of that.
const BOUND: usize = 32 << 10;
/// Smallest piece that is handed out, in bytes: what a free one needs to be found again.
const GRAIN: usize = 16;
const GRAINS: usize = ARENA / GRAIN;

thread_local! {
    /// Whether what is allocated is the node's.
    static NODE: Cell<bool> = const { Cell::new(false) };
}

#[repr(align(16))]
struct Memory(UnsafeCell<[MaybeUninit<u8>; ARENA]>);

// SAFETY: a piece is used by whom it was handed out to; which those are is kept under a lock.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([MaybeUninit::uninit(); ARENA]));
static BOOKS: Mutex<Books> = Mutex::new(Books {
    taken: [0; GRAINS / 64],
    asked: 0,
    peak: 0,
    grains_peak: 0,
    refused: 0,
});

/// Which grains are taken, one bit each. First fit, as simple as an allocator can be.
struct Books {
    taken: [u64; GRAINS / 64],
    /// Bytes that are in use now, and the most there were.
    asked: usize,
    peak: usize,
    /// The last grain that ever was in use.
    grains_peak: usize,
    refused: usize,
}

impl Books {
    fn is_taken(&self, grain: usize) -> bool {
        self.taken[grain / 64] >> (grain % 64) & 1 == 1
    }

    fn mark(&mut self, from: usize, count: usize) {
        for grain in from..from + count {
            self.taken[grain / 64] ^= 1 << (grain % 64);
        }
    }

    fn take(&mut self, len: usize) -> Option<usize> {
        let count = len.div_ceil(GRAIN).max(1);
        let mut free = 0;
        for grain in 0..GRAINS {
            free = if self.is_taken(grain) { 0 } else { free + 1 };
            if free == count {
                let from = grain + 1 - count;
                self.mark(from, count);
                self.asked += len;
                self.peak = self.peak.max(self.asked);
                self.grains_peak = self.grains_peak.max(grain + 1);
                return Some(from * GRAIN);
            }
        }
        self.refused += 1;
        None
    }

    fn give_back(&mut self, at: usize, len: usize) {
        self.mark(at / GRAIN, len.div_ceil(GRAIN).max(1));
        self.asked -= len;
    }
}

/// The node's allocations go to the arena, all others to the system.
struct Arena;

#[global_allocator]
static ALLOCATOR: Arena = Arena;

// SAFETY: pieces of the arena do not overlap, lie within it, and are aligned to its grain; all else
// is the system's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !NODE.get() {
            // SAFETY: as the caller promised.
            return unsafe { System.alloc(layout) };
        }
        let taken = if layout.align() <= GRAIN {
            BOOKS.lock().ok().and_then(|mut b| b.take(layout.size()))
        } else {
            None
        };
        match taken {
            // SAFETY: `take` hands out what lies within the arena.
            Some(at) => unsafe { MEMORY.0.get().cast::<u8>().add(at) },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let at = (ptr as usize).wrapping_sub(MEMORY.0.get() as usize);
        if at < ARENA {
            if let Ok(mut books) = BOOKS.lock() {
                books.give_back(at, layout.size());
            }
        } else {
            // SAFETY: as the caller promised.
            unsafe { System.dealloc(ptr, layout) }
        }
    }
}

/// What the node uses now, and the most so far, in bytes.
fn used() -> String {
    let books = BOOKS.lock().expect("nobody panicked");
    format!("{} bytes (at most {})", books.asked, books.peak)
}

#[test]
fn a_tiny_node_lives_in_64_kib() {
    let config = DhtConfig::tiny();
    let mut world = World::hooked(config.clone(), 18, 12, |on| NODE.set(on));
    println!("{}: a node that has met nobody", used());

    // Sixteen full buckets, and candidates for their places.
    world.settle(124);
    let stats = world.dht.stats();
    assert_eq!(stats.buckets, 16);
    println!("{}: {} nodes", used(), stats.nodes);

    for n in 0..config.max_peers {
        let hash = NodeId([(n % config.max_hashes) as u8; 20]);
        assert!(world.announce(&hash, SocketAddr::from((public_ip(n * 7919), 6881))));
    }
    let stats = world.dht.stats();
    assert_eq!((stats.peers, stats.torrents), (128, 32));
    println!("{}: 128 peers of 32 torrents", used());

    let value = [b"996:".as_slice(), &[b'x'; 996]].concat();
    for n in 0..config.max_items as u8 {
        let mut value = value.clone();
        value[10] = n;
        assert!(world.put(&value, SocketAddr::from((public_ip(n.into()), 6881))));
    }
    assert_eq!(world.dht.stats().items, config.max_items);
    println!("{}: {} items of 1000 bytes", used(), config.max_items);

    // A search, and as many queries under way as there may be; nobody answers any more.
    world.deaf = true;
    let goal = Goal::Peers {
        hash: InfoHash([9; 20]),
        announce: Some(Announce {
            ports: dunlin_core::net::Ports::both(6881),
            implied: false,
            seed: false,
        }),
        scrape: true,
    };
    world.with(|dht, cx| dht.search(cx, goal)).expect("room");
    world.sent();
    let mut pings = 0;
    for n in 0..200 {
        let addr = SocketAddr::from((public_ip(n * 31), 6881));
        pings += u32::from(world.with(|dht, cx| dht.ping(cx, addr)).is_ok());
    }
    assert_eq!(world.dht.stats().pending, u32::from(config.max_queries));
    assert!(pings > 32, "{pings}");
    let mut buf = [0; MAX_DATAGRAM];
    for n in 0..64 {
        let (from, id) = (
            SocketAddr::from((public_ip(n * 13), 6881)),
            NodeId([n as u8; 20]),
        );
        let find = QueryOut::FindNode {
            target: id,
            want: None,
        };
        let len = krpc::query(&mut buf, &[1; 20], &id, false, &find).expect("room");
        world.arrive(from, &buf[..len]);
    }
    println!("{}: a search, 64 queries, 8 answers under way", used());

    // It lives on, and lets go of what is over.
    for _ in 0..600 {
        world.step(std::time::Duration::from_millis(100));
    }
    world.deaf = false;
    for _ in 0..1800 {
        world.step(std::time::Duration::from_secs(1));
    }
    while world.dht.poll_event().is_some() {}
    assert!(world.dht.stats().nodes >= 100);

    let books = BOOKS.lock().expect("nobody panicked");
    println!(
        "at most {} bytes in use, {} with what is lost between them",
        books.peak,
        books.grains_peak * GRAIN
    );
    assert!(books.peak <= BOUND, "{} bytes", books.peak);
    assert_eq!(books.refused, 0);
}
