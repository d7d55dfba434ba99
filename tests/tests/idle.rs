//! An idle session: 200 torrents, 500 silent peers. It sleeps.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use dunlin_tests::lab::{Family, Lab};
use dunlin_tests::payload::{Payload, Torrent};
use dunlin_tests::peers::dunlin;
use dunlin_tests::tracker::{self, Small, Tracker};
use dunlin_tests::usage;
use dunlin_tests::wait::until;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const TORRENTS: usize = 200;
const CONNECTIONS: usize = 500;
/// Source addresses of the peers: enough that no two of a torrent share one, and that none has more than the 32
/// connections that `Config::max_connections_per_ip_in_all` allows.
const ADDRESSES: usize = 25;
const WINDOW: Duration = Duration::from_secs(30);
/// An idle session may use one part in this many of one core.
const MAX_SHARE: u32 = 100;
/// Wakeups a second: 200 torrents may each have a timer of ten seconds (BEP 3's choking), and no more.
const MAX_WAKEUPS: u64 = TORRENTS as u64 / 10 + 5;

#[test]
fn two_hundred_torrents_and_five_hundred_peers_at_rest_use_no_cpu() {
    let lab = Lab::new();
    let root = lab.folder("payload");
    let tracker = Small::start(&lab, tracker::address_for(&lab, Family::V4));
    let torrents: Vec<Torrent> = (0..TORRENTS)
        .map(|n| {
            let payload = Payload::single(&root, &format!("idle-{n}"), n as u64, 40_000);
            payload.torrent(15, &[tracker::http_url(tracker.address())])
        })
        .collect();

    let listen = SocketAddr::new(lab.address(Family::V4), 6881);
    let (ip, port, dir) = (
        listen.ip().to_string(),
        listen.port().to_string(),
        root.to_string_lossy().into_owned(),
    );
    let mut args = vec!["seed".to_owned()];
    args.extend(
        torrents
            .iter()
            .map(|torrent| torrent.path.to_string_lossy().into_owned()),
    );
    args.extend(
        [
            "--dir",
            &dir,
            "--json",
            "--bind",
            &ip,
            "--port",
            &port,
            "--max-peers",
            "600",
            "--no-session",
        ]
        .map(String::from),
    );
    let process = lab.spawn(dunlin::command(), &args);
    until(
        "every torrent to be announced",
        Duration::from_secs(60),
        || {
            torrents
                .iter()
                .all(|torrent| tracker.seeds(&lab, &torrent.info_hash) > 0)
                .then_some(())
        },
    );

    let sources: Vec<IpAddr> = (0..ADDRESSES).map(|_| lab.address(Family::V4)).collect();
    let peers: Vec<TcpStream> = lab.inside(|| {
        (0..CONNECTIONS)
            .map(|n| {
                silent_peer(
                    listen,
                    sources[(n + n / TORRENTS) % ADDRESSES],
                    &torrents[n % TORRENTS],
                    n,
                )
                .unwrap_or_else(|e| panic!("connection {n}: {e}"))
            })
            .collect()
    });

    // Greetings are exchanged; then the clock runs.
    let pid = process.pid();
    until("the greetings to be over", Duration::from_secs(20), || {
        let before = usage::cpu(pid);
        let second = Instant::now();
        until("a second", WINDOW, || {
            (second.elapsed() > Duration::from_secs(1)).then_some(())
        });
        let after = usage::cpu(pid);
        (after.0 + after.1 - before.0 - before.1 <= Duration::from_millis(20)).then_some(())
    });
    let (began, cpu, wakeups) = (Instant::now(), usage::cpu(pid), usage::wakeups(pid));
    until("the window to pass", WINDOW * 2, || {
        (began.elapsed() >= WINDOW).then_some(())
    });
    let after = usage::cpu(pid);
    let used = after.0 + after.1 - cpu.0 - cpu.1;
    let woken = usage::wakeups_since(&wakeups, pid) / WINDOW.as_secs();
    println!("at rest for {WINDOW:?}: {used:?} of CPU, {woken} wakeups a second");

    let gone = peers.iter().filter(|peer| hung_up(peer)).count();
    assert_eq!(gone, 0, "peers were let go");
    assert!(used <= WINDOW / MAX_SHARE, "{used:?} of CPU in {WINDOW:?}");
    assert!(woken <= MAX_WAKEUPS, "{woken} wakeups a second");
}

/// Connects from `source`, shakes hands and says nothing more.
fn silent_peer(
    to: SocketAddr,
    source: IpAddr,
    torrent: &Torrent,
    n: usize,
) -> io::Result<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&fd, &SocketAddr::new(source, 0))?;
    connect(&fd, &to)?;
    let mut stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let id = format!("-SI0001-silent{n:06}");
    stream.write_all(
        &[
            &b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"[..],
            &torrent.info_hash,
            id.as_bytes(),
        ]
        .concat(),
    )?;
    let mut answer = [0; 68];
    stream.read_exact(&mut answer)?;
    assert_eq!(
        answer[28..48],
        torrent.info_hash,
        "another torrent's handshake"
    );
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Reads what it sent, and tells whether it closed.
fn hung_up(mut peer: &TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match peer.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != io::ErrorKind::WouldBlock,
        }
    }
}
