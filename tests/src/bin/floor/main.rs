//! The floor: the least work that moves a torrent over TCP, as a measure for clients that do it all.
//!
//!     floor get  TORRENT DIR PEER [PIPELINE]   receive, SHA-1, positional write
//!     floor seed TORRENT DIR LISTEN            positional read, send; serves until it is killed
//!
//!     floor dht  LISTEN                        answer datagrams, all the same way
//!
//! One thread, one connection at a time, single-file torrents, BEP 3 without extensions, plain streams. Nothing is
//! copied in user space: `get` hashes and writes from the buffer that `recv` filled, `seed` reads blocks
//! behind the headers that go out with them.

#![allow(clippy::print_stdout, reason = "a command")]

mod dht;
mod get;
mod seed;

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use dunlin_core::metainfo::{Info, Torrent};

/// Bytes of a request: what every client asks for.
const BLOCK: u32 = 16 << 10;
/// Length prefix, id, piece and offset: what precedes the bytes of a block.
const PIECE_HEAD: usize = 13;
/// One `recv`: large enough that calls are few, small enough that the bytes are still in cache when hashed.
const BUFFER: usize = 512 << 10;
/// Of a handshake (BEP 3).
const HANDSHAKE: usize = 68;

/// Message ids (BEP 3 §peer messages).
mod id {
    pub(crate) const CHOKE: u8 = 0;
    pub(crate) const UNCHOKE: u8 = 1;
    pub(crate) const INTERESTED: u8 = 2;
    pub(crate) const BITFIELD: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const PIECE: u8 = 7;
}

fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["get", torrent, dir, peer] => get::run(&load(torrent)?, Path::new(dir), peer, 500),
        ["get", torrent, dir, peer, pipeline] => {
            let pipeline = pipeline
                .parse()
                .map_err(|_| invalid("PIPELINE is a number"))?;
            get::run(&load(torrent)?, Path::new(dir), peer, pipeline)
        }
        ["seed", torrent, dir, listen] => seed::run(&load(torrent)?, Path::new(dir), listen),
        ["dht", listen] => dht::run(listen),
        _ => Err(invalid(
            "usage: floor get TORRENT DIR PEER [PIPELINE] | floor seed TORRENT DIR LISTEN | floor dht LISTEN",
        )),
    }
}

fn load(path: &str) -> io::Result<Torrent> {
    let torrent = Torrent::parse(&fs::read(path)?).map_err(|e| invalid(&format!("{path}: {e}")))?;
    if torrent.info.multi_file() {
        Err(invalid("a single-file torrent, please"))
    } else {
        Ok(torrent)
    }
}

fn file_path(info: &Info, dir: &Path) -> PathBuf {
    dir.join(info.name())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Exchanges handshakes; no extension bits.
fn shake_hands(stream: &mut TcpStream, info: &Info, peer_id: &[u8; 20]) -> io::Result<()> {
    let mut ours = Vec::with_capacity(HANDSHAKE);
    ours.extend(b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0");
    ours.extend(info.info_hash().0);
    ours.extend(peer_id);
    stream.write_all(&ours)?;
    let mut theirs = [0; HANDSHAKE];
    stream.read_exact(&mut theirs)?;
    if theirs[..20] == ours[..20] && theirs[28..48] == ours[28..48] {
        Ok(())
    } else {
        Err(invalid("another torrent"))
    }
}

/// The big-endian number at `at`.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
