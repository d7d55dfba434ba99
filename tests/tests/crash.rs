//! A download killed (-9) at random moments and resumed each time by the same command: never a wrong byte, never more
//! fetched again than what was in flight.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use dunlin_tests::lab::{Family, Lab, Proc};
use dunlin_tests::payload::Payload;
use dunlin_tests::peers::{Crypto, Job, Role, Source, dunlin, libtorrent};
use dunlin_tests::wait::until;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const KILLS: usize = 50;
const LEN: u64 = 256 << 20;
const PIECE_LOG: u32 = 18;
/// Slow enough that the download outlasts the kills.
const RATE: u64 = 4 << 20;
/// A run lives this long, at random: from before its files are open to well into the transfer.
const LIFE_MS: (u64, u64) = (100, 2000);
/// What may be lost with a kill: the piece that is arriving, the one begun beyond it, the one whose hash or write is
/// under way, and what the seed had sent and the sockets still held.
const IN_FLIGHT: u64 = (3 << PIECE_LOG) + SOCKETS;
/// A throttled seed sends in slices of a tenth of a second or so.
const SOCKETS: u64 = RATE / 4;

#[test]
fn killed_fifty_times_it_ends_bit_exact_and_fetches_little_twice() {
    let seed = std::env::var("CRASH_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    println!("CRASH_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let lab = Lab::new();
    let payload = Payload::tree(&lab.folder("payload"), "crash", 3, LEN);
    let torrent = payload.torrent(PIECE_LOG, &[]);
    let (dir, session) = (lab.folder("download"), lab.folder("session"));

    let job = |role, dir: &Path| Job {
        listen: SocketAddr::new(lab.address(Family::V4), 6881),
        crypto: Crypto::Off,
        role,
        source: Source::File(torrent.clone()),
        dir: dir.to_owned(),
        marker: None,
        dht: None,
    };
    let seeding = job(Role::Seed, &payload.root);
    let mut description = libtorrent::description(&seeding);
    description["seed_mode"] = true.into();
    description["up_limit"] = RATE.into();
    // Every peer is served at once, not only in the next round of the choker.
    description["settings"] = serde_json::json!({ "unchoke_slots_limit": -1 });
    let uploader = libtorrent::spawn(&lab, libtorrent::DEBIAN_PYTHON, &description);
    until("the seed", Duration::from_secs(20), || {
        libtorrent::events(&uploader)
            .any(|event| event["event"] == "seeding")
            .then_some(())
    });

    let downloading = job(Role::Download, &dir);
    let peer = seeding.listen.to_string();
    let start = || dunlin::spawn(&lab, &downloading, &session, &["--peer", &peer]);
    let (mut kept, mut sent, mut again) = (0, 0, 0);
    for kill in 1..=KILLS {
        let life = LIFE_MS.0 + u64::from(rng.next_u32()) % (LIFE_MS.1 - LIFE_MS.0);
        let mut run = start();
        let death = Instant::now() + Duration::from_millis(life);
        until("the moment of its death", Duration::from_secs(10), || {
            (Instant::now() >= death).then_some(())
        });
        assert!(run.running(), "complete or dead before kill {kill}");
        let said = progress(&run, "pieces_done").unwrap_or(0);
        run.kill();

        // What it keeps, it says itself once it has looked at its files.
        let mut look = start();
        let (pieces, resumed) = until("the resumed download", Duration::from_secs(30), || {
            resumed(&look)
        });
        look.kill();
        let uploaded = libtorrent::uploaded(&uploader);
        let lost = (uploaded - sent).saturating_sub(resumed.saturating_sub(kept));
        println!("kill {kill} after {life} ms: {resumed} kept, {lost} lost");
        assert!(
            pieces >= said,
            "kill {kill}: it had verified {said} pieces, and kept {pieces}"
        );
        // Two runs were killed since the last count.
        assert!(
            lost <= 2 * IN_FLIGHT,
            "kill {kill}: {lost} bytes are fetched again"
        );
        (kept, sent, again) = (resumed, uploaded, again + lost);
    }

    let mut last = start();
    assert!(
        last.wait(Duration::from_secs(LEN / RATE * 2 + 30))
            .success(),
        "the last run"
    );
    payload.assert_same(&dir, false);
    println!(
        "{again} bytes of {} fetched again over {KILLS} kills",
        payload.len
    );
}

/// A field of the last progress line.
fn progress(run: &Proc, field: &str) -> Option<u64> {
    let events = dunlin::events(run);
    events
        .iter()
        .rev()
        .find(|event| event["type"] == "progress")?[field]
        .as_u64()
}

/// Pieces and bytes it has, once it goes on downloading.
fn resumed(run: &Proc) -> Option<(u64, u64)> {
    let events = dunlin::events(run);
    let event = events
        .iter()
        .find(|event| event["type"] == "progress" && event["state"] == "downloading")?;
    Some((event["pieces_done"].as_u64()?, event["done"].as_u64()?))
}
