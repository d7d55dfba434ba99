//! The floor of an upload.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

use dunlin_core::metainfo::{Info, Torrent};

use crate::{BLOCK, HANDSHAKE, PIECE_HEAD, file_path, id, invalid, number, shake_hands};

/// Blocks that go out in one `send`.
const BATCH: usize = 16;
/// A request message, length prefix included.
const REQUEST: usize = 17;

pub(crate) fn run(torrent: &Torrent, dir: &Path, listen: &str) -> io::Result<()> {
    let file = File::open(file_path(&torrent.info, dir))?;
    let listener = TcpListener::bind(listen)?;
    println!("listening");
    loop {
        let (stream, _) = listener.accept()?;
        match serve(stream, &torrent.info, &file) {
            Err(e)
                if e.kind() != io::ErrorKind::UnexpectedEof
                    && e.kind() != io::ErrorKind::ConnectionReset =>
            {
                println!("{e}");
            }
            _ => {}
        }
    }
}

fn serve(mut stream: TcpStream, info: &Info, file: &File) -> io::Result<()> {
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, info, b"-FL0001-floor-seed-0")?;
    let mut hello = bitfield(info.piece_count());
    hello.extend([0, 0, 0, 1, id::UNCHOKE]);
    stream.write_all(&hello)?;

    let (mut inbox, mut filled) = (vec![0; 64 << 10], 0);
    let mut outbox = vec![0; BATCH * (PIECE_HEAD + BLOCK as usize)];
    loop {
        match stream.read(&mut inbox[filled..])? {
            0 => return Ok(()),
            n => filled += n,
        }
        let (mut used, mut out) = (0, 0);
        while let Some(message) = message(&inbox[used..filled]) {
            used += message.len();
            if message.len() == REQUEST && message[4] == id::REQUEST {
                let len = number(message, 13) as usize;
                if len > BLOCK as usize {
                    return Err(invalid("a request beyond 16 KiB"));
                }
                let head = &mut outbox[out..out + PIECE_HEAD];
                head[..4].copy_from_slice(&(len as u32 + 9).to_be_bytes());
                head[4] = id::PIECE;
                head[5..].copy_from_slice(&message[5..13]);
                out += PIECE_HEAD;
                let at = info.piece_offset(number(message, 5)) + u64::from(number(message, 9));
                file.read_exact_at(&mut outbox[out..out + len], at)?;
                out += len;
                if out + PIECE_HEAD + BLOCK as usize > outbox.len() {
                    stream.write_all(&outbox[..out])?;
                    out = 0;
                }
            }
        }
        stream.write_all(&outbox[..out])?;
        inbox.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// The first whole message; none larger than a handshake's worth but bitfields and metadata, which downloaders
/// without pieces do not send.
fn message(bytes: &[u8]) -> Option<&[u8]> {
    let len = (bytes.len() >= 4).then(|| 4 + number(bytes, 0) as usize)?;
    bytes.get(..len)
}

fn bitfield(pieces: u32) -> Vec<u8> {
    let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
    if !pieces.is_multiple_of(8)
        && let Some(last) = bits.last_mut()
    {
        *last <<= 8 - pieces % 8;
    }
    let mut out = Vec::with_capacity(HANDSHAKE);
    out.extend((bits.len() as u32 + 1).to_be_bytes());
    out.push(id::BITFIELD);
    out.extend(bits);
    out
}
