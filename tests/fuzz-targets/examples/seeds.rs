//! Writes the inputs that a new corpus begins with: one sound example or two for each target.
//!
//! `cargo run -p dunlin-fuzz-targets --example seeds FOLDER`

use std::path::Path;
use std::{env, fs, io};

use dunlin_core::dht::{Contact, Saved, cache};
use dunlin_core::engine::{AddTorrent, Check, Command, Engine, Source};
use dunlin_core::metainfo::Torrent;
use dunlin_core::op::FileStat;
use dunlin_core::{Caps, Config, Instant, NodeId, Op, Outcome};
use dunlin_fuzz_targets::payload::torrents;
use dunlin_fuzz_targets::resume::BOOT;
use dunlin_std::config;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const SCENARIOS: [&str; 3] = [
    include_str!("../../../sim/scenarios/02-two-homes.toml"),
    include_str!("../../../sim/scenarios/08-reboot.toml"),
    include_str!("../../../sim/scenarios/09-outbound-only-torrent.toml"),
];
const MAGNET: &str = "magnet:?xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&dn=a%20b&tr=udp%3A%2F%2Ft.example%3A80&x.pe=10.0.0.1:6881&so=0,2-4&ws=http%3A%2F%2Fw.example%2F";
const KEY_MAGNET: &str =
    "magnet:?xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e&s=6e";

fn main() -> io::Result<()> {
    let folder = env::args()
        .nth(1)
        .unwrap_or_else(|| "tests/fuzz/corpus".into());
    for (target, inputs) in seeds() {
        let folder = Path::new(&folder).join(target);
        fs::create_dir_all(&folder)?;
        for (n, input) in inputs.iter().enumerate() {
            fs::write(folder.join(format!("seed-{n}")), input)?;
        }
    }
    Ok(())
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let torrent = |n: usize| {
        let mut torrent = Torrent::new(torrents()[n].clone());
        torrent.trackers = vec![vec!["http://t.example/announce".into()]];
        torrent.to_bytes()
    };
    let text = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect();
    let announce = "d8:completei1e10:incompletei2e8:intervali60e12:min intervali30e10:tracker id2:ab5:peers6:abcdef6:peers618:abcdefghijklmnopqre";
    let with = |head: u8, rest: &str| [&[head], rest.as_bytes()].concat();
    vec![
        ("bencode", vec![torrent(0), b"d1:ai-1e1:bl1:ce1:dde1:ai2ee".to_vec()]),
        ("config", vec![settings().into_bytes()]),
        ("dht_cache", vec![cache::encode(&saved(), 2_000_000_000)]),
        ("engine", engine()),
        ("http", text(&[
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: //other:81/../x?y\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\n\r\nrest",
            "GET /announce?a=b HTTP/1.1\r\nHost: a:80\r\nUser-Agent: x\r\n\r\n",
        ])),
        ("krpc", vec![
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe".to_vec(),
            b"d1:rd2:id20:abcdefghij01234567895:nodes26:abcdefghij0123456789abcdef5:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re".to_vec(),
            b"d1:eli201e5:errore1:t2:aa1:y1:ee".to_vec(),
            [b"\x01\x2e5:nodes26:abcdefghij0123456789abcdef5:token2:ab\x00".as_slice(), b"\x02\x429:info_hash20:mnopqrstuvwxyz1234561:q9:get_peers"].concat(),
        ]),
        ("magnet", text(&[MAGNET, KEY_MAGNET])),
        ("metainfo", vec![torrent(0), torrent(1), torrents()[2].raw().to_vec()]),
        ("mux", vec![
            b"\x01\x2e5:nodes26:abcdefghij0123456789abcdef5:token2:ab\x00\x00\x10\x00\x00\x00\x00tidsidididid".to_vec(),
            [b"\x01\x3ad1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe".as_slice(), b"\x03\x14\x21\x00", &[7; 18], b"\x04\x14\x01\x01", &[0; 18]].concat(),
        ]),
        ("peer", peer()),
        ("resume", {
            let record = record();
            [0, 1, 3, 0x80].into_iter().map(|how| [&[how], &record[..]].concat()).collect()
        }),
        ("scenario", text(&SCENARIOS)),
        ("tracker", vec![
            with(0, announce),
            with(1, announce),
            with(0, "d14:failure reason4:oops8:retry in5:nevere"),
            with(0, "d5:filesd20:\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07d8:completei1e10:downloadedi2e10:incompletei3eeee"),
            [&[2, 2, 16][..], &[0; 8], &[1, 2, 3, 4, 5, 6, 7, 8], &[2, 26], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 2], &[10, 0, 0, 9, 26, 225]].concat(),
        ]),
    ]
}

/// Every setting at its default.
fn settings() -> String {
    let is_prose = |line: &&str| line.starts_with("# ");
    let file = config::default_file();
    file.lines()
        .filter(|l| !is_prose(l))
        .map(|l| format!("{}\n", l.trim_start_matches('#')))
        .collect()
}

fn saved() -> Saved {
    let node = |n: u8| {
        let addr = format!("10.0.0.{n}:6881").parse().expect("an address");
        (
            Contact {
                id: NodeId([n; 20]),
                addr,
            },
            60,
        )
    };
    Saved {
        id: Some(NodeId([1; 20])),
        id6: Some(NodeId([2; 20])),
        nodes: vec![node(3), node(4)],
        contacts: vec!["router.example:6881".parse().expect("a name")],
    }
}

/// A stop in the middle of a download, as an engine records it.
fn record() -> Vec<u8> {
    let now = Instant::from_micros(1_000_000);
    let config = Config {
        boot: Some(BOOT),
        ..Config::default()
    };
    let rng = Box::new(ChaCha8Rng::seed_from_u64(1));
    let mut engine = Engine::new(now, config, Caps::all(), rng);
    let info = torrents()[0].clone();
    let stats: Vec<_> = info
        .files()
        .iter()
        .map(|f| {
            Some(FileStat {
                len: f.len,
                mtime_ns: 5,
                id: Some(3),
            })
        })
        .collect();
    let mut torrent = AddTorrent::new(Source::Info(info));
    torrent.check = Check::Nothing;
    torrent.peers = vec!["10.0.0.9:6881".parse().expect("an address")];
    torrent.trackers = vec![vec!["http://t.example/announce".into()]];
    engine.add(now, torrent).expect("there is room");
    let mut saved = Vec::new();
    for turn in 0..2 {
        while let Some(op) = engine.poll_op() {
            let Some(id) = op.id() else { continue };
            let outcome = match op {
                Op::Open { .. } => Outcome::Opened(stats.clone()),
                Op::Flush { .. } => Outcome::Flushed(stats.clone()),
                Op::Save { record, .. } => {
                    saved = record;
                    Outcome::Done
                }
                _ => Outcome::Done,
            };
            engine.handle_op(now, id, outcome);
        }
        if turn == 0 {
            engine
                .command(now, Command::Shutdown)
                .expect("it is always carried out");
        }
    }
    saved
}

/// A leech and its seed, a magnet, a tracker and the DHT, in the order of `engine::Rig::step`.
fn engine() -> Vec<Vec<u8>> {
    let download: &[&[u8]] = &[
        &[0, 0],
        &[8, 4],
        // Hello, extension handshake, a seed that unchokes; then it serves what it is asked for.
        &[11, 0, 0, 11, 0, 7, 11, 0, 3, 17, 0],
        &[11, 0, 4, 0, 11, 0, 4, 8, 5, 0, 7, 0],
        &[11, 0, 4, 1, 11, 0, 4, 9, 5, 0, 7, 0, 17, 0],
        &[11, 0, 6, 0, 17, 0, 2, 0, 16, 0, 1, 20],
    ];
    let magnet: &[&[u8]] = &[
        &[132, 0, 19, 68, 0, 5, 0, 7, 0, 8, 5],
        &[
            11, 0, 0, 11, 0, 7, 17, 0, 11, 0, 8, 5, 0, 7, 0, 11, 0, 3, 17, 0,
        ],
        &[
            2, 0, 2, 0, 16, 0, 3, 1, 4, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 0, 16, 0,
        ],
    ];
    let commands: &[&[u8]] = &[
        &[
            20, 0xc0, 19, 65, 0, 5, 0, 6, 0, 0, 6, 1, 7, 19, 0, 3, 19, 0, 4, 19, 0, 6, 5, 0, 7, 0,
        ],
        &[
            19, 1, 2, 5, 0, 7, 0, 16, 0, 19, 9, 7, 19, 0, 14, 19, 0, 15, 16, 0, 19, 0, 16, 5, 0, 7,
            0,
        ],
    ];
    [download, magnet, commands].map(<[&[u8]]>::concat).into()
}

/// Plain and encrypted, both ways, with messages of most kinds behind the handshake.
fn peer() -> Vec<Vec<u8>> {
    let messages: &[&[u8]] = &[
        // Bitfield, unchoke, interested; we unchoke and ask; a block comes; it asks.
        &[
            0x53, 5, 0xff, 0xff, 0xff, 0xff, 0xff, 0x13, 0, 0x23, 0, 10, 1, 8, 0, 8, 8,
        ],
        &[
            6, 0, 6, 8, 0x63, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 64, 0, 14, 255,
        ],
        &[7, 40, 0],
        b"d1:md11:ut_metadatai1e6:ut_pexi2eee    ",
        &[12, 200, 14, 255],
    ];
    let messages = messages.concat();
    [0x08, 0x1b, 0x12, 0x13, 0x15, 0x03]
        .into_iter()
        .map(|how| [&[how], &messages[..]].concat())
        .collect()
}
