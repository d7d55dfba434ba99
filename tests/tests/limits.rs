//! Rate limits on real sockets: ten peers that move payload and two hundred that say little, in each
//! direction, over loopback.
//!
//! What is judged is bytes of the driver's streams over a period, in a way that a busy machine
//! does not upset. *No more than the limit* holds in every period: a token bucket passes its rate
//! times the time, and a burst of an eighth of a second, however late anybody runs. *All of the
//! limit* holds in one period of several: a busy machine can only make a period slower, whereas a
//! limiter that loses tokens loses them in every period.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dunlin_core::engine::{Check, Command, Scope, State};
use dunlin_core::hash::sha1;
use dunlin_core::metainfo::Builder;
use dunlin_core::{BLOCK_LEN, Config, TorrentId};
use dunlin_tests::driver::{Content, Mio, Node, Setup, Spec, TestDriver, TestDriverExt, Tokio};

const BULK: usize = 10;
const QUIET: usize = 200;
/// How often a quiet peer says something.
const PERIOD: Duration = Duration::from_secs(2);
/// Bytes per second, each way.
const RATES: [u64; 2] = [500_000, 5_000_000];
/// Long enough for a burst of an eighth of a second to be less than the tolerance.
const WINDOW: Duration = Duration::from_millis(2_700);
/// Periods in which the limit may be reached; the first is enough on an idle machine.
const ATTEMPTS: usize = 10;
/// In percent of the limit. The burst is 4.6 % of a period.
const LEAST: u64 = 95;
const MOST: u64 = 105;

const PIECE: u32 = 256 << 10;
/// More than all periods of all rates can move.
const FETCHED: u64 = 192 << 20;
/// Sent over and over again.
const SEEDED: u64 = 8 << 20;

const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const HAVE: u8 = 4;
const REQUEST: u8 = 6;
const PIECE_MESSAGE: u8 = 7;
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;
/// Requests that a leech keeps under way.
const PIPELINE: u32 = 16;

fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(payload);
    out
}

fn request(block: u32) -> Vec<u8> {
    let per_piece = PIECE / BLOCK_LEN as u32;
    let (piece, begin) = (block / per_piece, block % per_piece * BLOCK_LEN as u32);
    let fields = [piece, begin, BLOCK_LEN as u32];
    message(REQUEST, &fields.map(u32::to_be_bytes).concat())
}

/// A torrent of zeros; `data` holds as many of them as there are to be on the disk.
fn zeros(name: &str, len: u64, on_disk: bool) -> Content {
    let mut builder = Builder::folder(name);
    builder.piece_len = Some(PIECE);
    builder.add(vec!["zeros".into()], len);
    let hashes = vec![sha1(&vec![0; PIECE as usize]); (len / u64::from(PIECE)) as usize];
    let torrent = builder.draft().unwrap().finish(&hashes).unwrap();
    let data = if on_disk {
        vec![0; len as usize]
    } else {
        Vec::new()
    };
    Content { torrent, data }
}

/// Connects, shakes hands and sends `hello`; reads the handshake of the other side.
fn join(addr: SocketAddr, content: &Content, number: usize, hello: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut out = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    out.extend_from_slice(&content.info().info_hash().0);
    out.extend_from_slice(format!("-XX0001-{number:012}").as_bytes());
    out.extend_from_slice(hello);
    stream.write_all(&out).unwrap();
    stream.read_exact(&mut [0; 68]).unwrap();
    stream
}

/// The next message without its length; empty for a keep-alive.
fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Sends every block that is asked for at once.
fn play_seed(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let body = read_message(&mut stream)?;
        if body.first() == Some(&REQUEST) {
            let mut piece = body[1..9].to_vec();
            piece.resize(8 + BLOCK_LEN, 0);
            stream.write_all(&message(PIECE_MESSAGE, &piece))?;
        }
    }
}

/// Keeps [`PIPELINE`] requests under way while it is unchoked.
fn play_leech(mut stream: TcpStream, mut next: u32) -> io::Result<()> {
    let blocks = (SEEDED / BLOCK_LEN as u64) as u32;
    let mut ask = |stream: &mut TcpStream| {
        next = (next + 1) % blocks;
        stream.write_all(&request(next))
    };
    loop {
        match read_message(&mut stream)?.first() {
            Some(&UNCHOKE) => (0..PIPELINE).try_for_each(|_| ask(&mut stream))?,
            Some(&PIECE_MESSAGE) => ask(&mut stream)?,
            Some(&CHOKE) => panic!("there is a slot for everyone who wants one"),
            _ => {}
        }
    }
}

/// Has every one of `streams` say something every two seconds, spread evenly: a `have`, which
/// costs the engine's download, a request although it is choked, which costs its upload a
/// reject, and a keep-alive.
fn play_quiet(mut streams: Vec<TcpStream>, pieces: u32) -> io::Result<()> {
    let mut scratch = [0; 4096];
    for turn in 0.. {
        let count = streams.len();
        let stream = &mut streams[turn % count];
        let piece = turn as u32 % pieces;
        let has = message(HAVE, &piece.to_be_bytes());
        let begs = request(piece * (PIECE / BLOCK_LEN as u32));
        stream.write_all(&[has, begs, vec![0; 4]].concat())?;
        stream.set_nonblocking(true)?;
        while matches!(stream.read(&mut scratch), Ok(1..)) {}
        stream.set_nonblocking(false)?;
        thread::sleep(PERIOD / count as u32);
    }
    Ok(())
}

/// The peers of one torrent. They leave when this goes.
struct Crowd {
    /// For the end: every player reads or writes one of them.
    streams: Vec<TcpStream>,
    players: Vec<JoinHandle<io::Result<()>>>,
}

impl Crowd {
    fn new(addr: SocketAddr, content: &Content, seeds: bool) -> Self {
        let mut this = Self {
            streams: Vec::new(),
            players: Vec::new(),
        };
        let none = message(HAVE_NONE, &[]);
        let quiet: Vec<_> = (0..QUIET).map(|n| join(addr, content, n, &none)).collect();
        let pieces = content.info().piece_count();
        this.keep(&quiet);
        this.play(move || play_quiet(quiet, pieces));
        for n in QUIET..QUIET + BULK {
            let (greeting, more) = match seeds {
                true => (message(HAVE_ALL, &[]), message(UNCHOKE, &[])),
                false => (none.clone(), message(INTERESTED, &[])),
            };
            let stream = join(addr, content, n, &[greeting, more].concat());
            this.keep(core::slice::from_ref(&stream));
            this.play(move || match seeds {
                true => play_seed(stream),
                false => play_leech(stream, n as u32 * 31),
            });
        }
        this
    }

    fn keep(&mut self, streams: &[TcpStream]) {
        let clones = streams.iter().map(|s| s.try_clone().unwrap());
        self.streams.extend(clones);
    }

    fn play(&mut self, player: impl FnOnce() -> io::Result<()> + Send + 'static) {
        self.players.push(thread::spawn(player));
    }

    /// Whether everybody is still there: a player ends when its connection does.
    fn is_whole(&self) -> bool {
        self.players.iter().all(|player| !player.is_finished())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for player in self.players.drain(..) {
            let _ = player.join();
        }
    }
}

/// Bytes that the driver has read and written, between two moments around the look at them.
struct Reading {
    before: Instant,
    moved: [u64; 2],
    after: Instant,
}

impl Reading {
    fn take<H: TestDriver>(h: &mut H, node: Node) -> Self {
        let before = Instant::now();
        let effort = h.effort(node);
        Self {
            before,
            moved: [effort.read, effort.written],
            after: Instant::now(),
        }
    }
}

/// Watches both directions until each has reached the limit of `rate` in some period.
fn reach<H: TestDriver>(h: &mut H, node: Node, rate: u64, crowds: &[Crowd; 2]) {
    h.with_engine(node, move |engine, now| {
        let command = Command::SetLimits {
            scope: Scope::Global,
            down: Some(rate),
            up: Some(rate),
        };
        engine.command(now, command).unwrap()
    });
    // What was queued under another limit passes.
    h.pass(Duration::from_millis(500), |_| ());
    let share =
        |moved: u64, time: Duration| moved * 100_000_000 / (rate * time.as_micros() as u64).max(1);
    let mut best = [0; 2];
    for _ in 0..ATTEMPTS {
        let first = Reading::take(h, node);
        h.pass(WINDOW, |_| ());
        let last = Reading::take(h, node);
        assert!(crowds.iter().all(Crowd::is_whole), "a peer was sent away");
        let least = last.before - first.after;
        let most = last.after - first.before;
        for (way, best) in best.iter_mut().enumerate() {
            let moved = last.moved[way] - first.moved[way];
            let name = ["download", "upload"][way];
            let above = share(moved, most);
            assert!(
                above <= MOST,
                "{}: {name} at {rate} B/s: {above} %, {moved} bytes in {most:?}",
                H::NAME
            );
            *best = share(moved, least).max(*best);
        }
        if best.iter().all(|best| *best >= LEAST) {
            return;
        }
    }
    panic!(
        "{}: limits of {rate} B/s: at best {best:?} % of download and upload",
        H::NAME
    );
}

fn limits_are_reached<H: TestDriver>() {
    let mut h = H::new(33);
    let config = Config {
        max_connections: 2 * (BULK + QUIET) as u32 + 10,
        max_connections_per_torrent: (BULK + QUIET) as u32 + 10,
        upload_slots: Some(BULK as u32 + 2),
        // Blocks come to the engine at the pace of its limit, not of the machine.
        limit_down: Some(RATES[0]),
        limit_up: Some(RATES[0]),
        ..Setup::default().config
    };
    let (node, addr) = h.listen(Setup {
        config,
        ..Setup::default()
    });
    let seeded = zeros("seeded", SEEDED, true);
    h.put(node, &seeded);
    let trusting = Spec {
        check: Check::Nothing,
        ..Spec::default()
    };
    let upload = h.add(node, &seeded, trusting);
    h.complete(node, upload);
    let fetched = zeros("fetched", FETCHED, false);
    let download = h.add(node, &fetched, Spec::default());
    h.state(node, download, "the download to want peers", |s| {
        *s == State::Downloading
    });
    let crowds = [
        Crowd::new(addr, &fetched, true),
        Crowd::new(addr, &seeded, false),
    ];
    h.until("everybody to be in, and payload to move", |h| {
        let of = |h: &mut H, id: TorrentId| h.torrent(node, id).unwrap();
        let (down, up) = (of(h, download), of(h, upload));
        let all = (BULK + QUIET) as u32;
        down.peers == all && up.peers == all && down.downloaded > 0 && up.uploaded > 0
    });
    for rate in RATES {
        reach(&mut h, node, rate, &crowds);
    }
    let status = h.torrent(node, download).unwrap();
    assert!(
        status.done < FETCHED,
        "there was something to fetch to the end"
    );
    drop(crowds);
    h.end(node);
}

#[test]
fn limits_are_reached_beside_quiet_peers_under_tokio() {
    limits_are_reached::<Tokio>();
}

#[test]
fn limits_are_reached_beside_quiet_peers_under_mio() {
    limits_are_reached::<Mio>();
}
