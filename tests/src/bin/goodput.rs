//! The goodput of the kernel's TCP on a path with a rate, a delay and random losses: what `sim/GOODPUT.md` compares the
//! simulator's with. Root, Linux, `ip` and `ss` (iproute2).
//!
//! ```text
//! cargo run --release -p dunlin-tests --features lab --bin goodput -- MBIT RTT_MS LOSS_PERCENT [RUNS]
//! ```
//!
//! Two network namespaces are joined by a path between two TUN devices. The bottleneck is a drop-tail queue of one
//! bandwidth-delay product, and at least 64 KiB, towards the receiver; half of the delay lies in each direction; losses are in
//! the direction of the data. Sockets have windows of up to 16 MiB, and everything else is as the kernel has it. The path is a
//! loop of this process; the round-trip time that the kernel measured is printed with each run and tells when it was late.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the figures are the output"
)]

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use dunlin_tests::lab::Lab;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rustix::net::sockopt::set_tcp_congestion;
use smoltcp::phy::{Device, Medium, RxToken, TunTapInterface, TxToken};
use smoltcp::time::Instant as Moment;

/// How long each transfer lasts.
const TRANSFER: Duration = Duration::from_secs(60);
/// How long the path sleeps when it has nothing to do.
const NAP: Duration = Duration::from_micros(50);
/// The most packets under way in each direction.
const MOST: usize = 65_536;
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PORT: u16 = 5_000;

/// What the path does to packets.
#[derive(Clone, Copy, Debug)]
struct Path {
    /// Bits per second.
    rate: f64,
    /// In each direction.
    delay: Duration,
    /// Of the packets with data, from 0 to 1.
    loss: f64,
    /// The length of the queue in bytes.
    queue: f64,
}

/// One direction of the path.
#[derive(Debug)]
struct Direction {
    path: Path,
    loses: bool,
    /// When the last packet has left the bottleneck.
    idle_at: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Direction {
    fn new(path: Path, loses: bool) -> Self {
        Self {
            path,
            loses,
            idle_at: Instant::now(),
            under_way: VecDeque::new(),
        }
    }

    fn enter(&mut self, packet: Vec<u8>, rng: &mut ChaCha8Rng) {
        let now = Instant::now();
        let lost = f64::from(rng.next_u32()) / f64::from(u32::MAX) < self.path.loss;
        if (self.loses && lost) || self.under_way.len() == MOST {
            return;
        }
        let bytes_per_second = self.path.rate / 8.0;
        let waits = self.idle_at.saturating_duration_since(now).as_secs_f64();
        if waits * bytes_per_second > self.path.queue {
            return;
        }
        let takes = Duration::from_secs_f64(packet.len() as f64 / bytes_per_second);
        self.idle_at = self.idle_at.max(now) + takes;
        self.under_way
            .push_back((self.idle_at + self.path.delay, packet));
    }

    fn leave(&mut self) -> Option<Vec<u8>> {
        let (due, _) = self.under_way.front()?;
        if *due > Instant::now() {
            return None;
        }
        self.under_way.pop_front().map(|(_, packet)| packet)
    }
}

/// Carries packets between the two namespaces until it is told to stop. It tells when the devices exist, and begins when they
/// are configured: a device that is down takes no packet.
fn carry(
    path: Path,
    [from, to]: [&Lab; 2],
    exist: &mpsc::Sender<()>,
    configured: &mpsc::Receiver<()>,
    stop: &AtomicBool,
) {
    let device = |lab: &Lab| {
        lab.enter();
        TunTapInterface::new("path", Medium::Ip).expect("a TUN device (/dev/net/tun, root)")
    };
    let mut ends = [device(from), device(to)];
    let mut directions = [Direction::new(path, true), Direction::new(path, false)];
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .expect("random bytes");
    let mut rng = ChaCha8Rng::from_seed(seed);
    exist.send(()).expect("somebody waits");
    configured.recv().expect("they are configured");
    while !stop.load(Ordering::Relaxed) {
        let mut busy = false;
        for (n, direction) in directions.iter_mut().enumerate() {
            while let Some((packet, _)) = ends[n].receive(Moment::ZERO) {
                direction.enter(packet.consume(<[u8]>::to_vec), &mut rng);
                busy = true;
            }
            while let Some(packet) = direction.leave() {
                let device = &mut ends[1 - n];
                let token = device.transmit(Moment::ZERO).expect("it always takes one");
                token.consume(packet.len(), |buffer| buffer.copy_from_slice(&packet));
                busy = true;
            }
        }
        if !busy {
            thread::sleep(NAP);
        }
    }
}

fn configure(address: Ipv4Addr) {
    for (key, value) in [
        ("tcp_rmem", "4096 131072 16777216"),
        ("tcp_wmem", "4096 16384 16777216"),
        ("tcp_no_metrics_save", "1"),
    ] {
        let key = format!("/proc/sys/net/ipv4/{key}");
        fs::write(&key, value).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    let address = format!("{address}/24");
    for args in [
        ["addr", "add", &address, "dev", "path"].as_slice(),
        &["link", "set", "path", "txqueuelen", "10000", "up"],
    ] {
        let status = Command::new("ip").args(args).status().expect("ip runs");
        assert!(status.success(), "ip {args:?}: {status}");
    }
}

/// Sends until the transfer is over, and returns the smoothed round-trip times, in milliseconds.
fn send(began: Instant) -> Vec<f64> {
    let mut stream = TcpStream::connect((RECEIVER, PORT)).expect("the receiver listens");
    set_tcp_congestion(&stream, "cubic").expect("the kernel has CUBIC");
    stream.set_write_timeout(Some(TRANSFER)).expect("a timeout");
    let data = vec![0; 1 << 16];
    let watch = thread::spawn(move || {
        let mut seen = Vec::new();
        while began.elapsed() < TRANSFER - Duration::from_secs(2) {
            thread::sleep(Duration::from_secs(1));
            let filter = format!("dport = {PORT}");
            let out = Command::new("ss").args(["-tin", &filter]).output();
            let out = String::from_utf8_lossy(&out.expect("ss runs").stdout).into_owned();
            let rtt = out.split_whitespace().find_map(|w| w.strip_prefix("rtt:"));
            seen.extend(rtt.and_then(|w| w.split('/').next()?.parse::<f64>().ok()));
        }
        seen
    });
    while began.elapsed() < TRANSFER + Duration::from_secs(1) {
        // The receiver leaves when the time is over.
        if stream.write_all(&data).is_err() {
            break;
        }
    }
    watch.join().expect("it only reads")
}

/// The bytes that arrive in order until the transfer is over.
fn receive(listener: &TcpListener, began: Instant) -> io::Result<u64> {
    let (mut stream, _) = listener.accept()?;
    let (mut buffer, mut received) = (vec![0; 1 << 18], 0);
    loop {
        let left = TRANSFER.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(received);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(received),
            Ok(n) => received += n as u64,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) => {}
            Err(e) => return Err(e),
        }
    }
}

/// One transfer: megabits per second, and the mean round-trip time in milliseconds.
fn transfer(path: Path) -> (f64, f64) {
    let (from, to) = (Lab::bare(), Lab::bare());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (exist, existing) = mpsc::channel();
        let (configured, start) = mpsc::channel();
        let (path_stop, ends) = (&stop, [&from, &to]);
        scope.spawn(move || carry(path, ends, &exist, &start, path_stop));
        existing.recv().expect("there are devices");
        from.inside(|| configure(SENDER));
        let listener = to.inside(|| {
            configure(RECEIVER);
            TcpListener::bind((RECEIVER, PORT)).expect("a socket")
        });
        configured.send(()).expect("the path waits");
        let began = Instant::now();
        let receiver = scope.spawn(move || receive(&listener, began));
        let times = from.inside(|| send(began));
        let received = receiver.join().expect("it returns").expect("it receives");
        stop.store(true, Ordering::Relaxed);
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        (received as f64 * 8.0 / TRANSFER.as_secs_f64() / 1e6, mean)
    })
}

fn main() -> ExitCode {
    let args: Option<Vec<f64>> = env::args().skip(1).map(|word| word.parse().ok()).collect();
    let Some(&[mbit, rtt, loss, ref rest @ ..]) = args.as_deref() else {
        eprintln!("usage: goodput MBIT RTT_MS LOSS_PERCENT [RUNS]");
        return ExitCode::from(2);
    };
    let runs = rest.first().map_or(1, |runs| *runs as usize);
    let path = Path {
        rate: mbit * 1e6,
        delay: Duration::from_secs_f64(rtt / 2e3),
        loss: loss / 100.0,
        queue: (mbit * rtt * 125.0).max(65_536.0),
    };
    let mut all = Vec::new();
    for run in 1..=runs {
        let (reached, mean) = transfer(path);
        println!("run {run}: {reached:.2} Mbit/s, mean round-trip time {mean:.1} ms");
        all.push(reached);
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    println!("{mbit} Mbit/s, {rtt} ms, {loss} %: {mean:.2} Mbit/s, the mean of {runs}");
    ExitCode::SUCCESS
}
