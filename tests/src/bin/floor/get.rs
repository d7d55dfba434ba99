//! The floor of a download.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use dunlin_core::metainfo::{Info, Torrent};
use rustix::io::pwritev;
use sha1::{Digest, Sha1};

use crate::{BLOCK, BUFFER, PIECE_HEAD, file_path, id, invalid, number, shake_hands};

/// Most slices of one `pwritev` (UIO_MAXIOV).
const MAX_SLICES: usize = 1024;

pub(crate) fn run(torrent: &Torrent, dir: &Path, peer: &str, pipeline: usize) -> io::Result<()> {
    let info = &*torrent.info;
    let file = File::create(file_path(info, dir))?;
    let mut stream = TcpStream::connect(peer)?;
    stream.set_nodelay(true)?;
    shake_hands(&mut stream, info, b"-FL0001-floor-get-00")?;
    stream.write_all(&[0, 0, 0, 1, id::INTERESTED])?;

    let mut get = Get {
        info,
        file,
        pipeline,
        todo: (0..info.piece_count())
            .flat_map(|piece| blocks(info, piece))
            .collect(),
        asked: VecDeque::new(),
        pieces: BTreeMap::new(),
        verified: 0,
        choked: true,
        block: None,
    };
    let (mut buffer, mut filled, mut requests) = (vec![0; BUFFER], 0, Vec::new());
    while get.verified < info.piece_count() {
        match stream.read(&mut buffer[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
        let used = get.consume(&buffer[..filled])?;
        buffer.copy_within(used..filled, 0); // less than one head, or a bitfield
        filled -= used;
        get.request(&mut requests);
        stream.write_all(&requests)?;
        requests.clear();
    }
    Ok(())
}

/// Every block of a piece: piece, offset, length.
fn blocks(info: &Info, piece: u32) -> impl Iterator<Item = Block> + '_ {
    let size = info.piece_size(piece);
    (0..size).step_by(BLOCK as usize).map(move |begin| Block {
        piece,
        begin,
        len: BLOCK.min(size - begin),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Block {
    piece: u32,
    begin: u32,
    len: u32,
}

/// A piece that has begun: hashed up to `next`, with what came too early kept aside.
#[derive(Default)]
struct Piece {
    sha: Sha1,
    next: u32,
    early: BTreeMap<u32, Vec<u8>>,
}

struct Get<'a> {
    info: &'a Info,
    file: File,
    pipeline: usize,
    todo: VecDeque<Block>,
    asked: VecDeque<Block>,
    pieces: BTreeMap<u32, Piece>,
    verified: u32,
    choked: bool,
    /// The block whose bytes are arriving: what is left of it.
    block: Option<Block>,
}

impl Get<'_> {
    /// Takes what is whole, and block bytes as far as they have come; says how much it took.
    fn consume(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut run = Run::default();
        let mut at = 0;
        loop {
            if let Some(block) = self.block {
                let len = (block.len as usize).min(bytes.len() - at);
                if len == 0 {
                    break;
                }
                let slice = &bytes[at..at + len];
                run.push(
                    &self.file,
                    self.info.piece_offset(block.piece) + u64::from(block.begin),
                    slice,
                )?;
                self.hash(block, slice)?;
                at += len;
                let left = block.len - len as u32;
                self.block = (left > 0).then_some(Block {
                    begin: block.begin + len as u32,
                    len: left,
                    ..block
                });
                continue;
            }
            let rest = &bytes[at..];
            if rest.len() < 4 {
                break;
            }
            let len = number(rest, 0) as usize;
            if rest.len() >= PIECE_HEAD && rest[4] == id::PIECE && len > 9 {
                let block = Block {
                    piece: number(rest, 5),
                    begin: number(rest, 9),
                    len: len as u32 - 9,
                };
                self.answered(block)?;
                self.block = Some(block);
                at += PIECE_HEAD;
                continue;
            }
            if rest.len() < 4 + len || (len > 0 && rest[4] == id::PIECE) {
                break;
            }
            self.control(&rest[4..4 + len]);
            at += 4 + len;
        }
        run.flush(&self.file)?;
        Ok(at)
    }

    fn control(&mut self, message: &[u8]) {
        match message.first() {
            Some(&id::CHOKE) => {
                self.choked = true;
                for block in self.asked.drain(..).rev() {
                    self.todo.push_front(block);
                }
            }
            Some(&id::UNCHOKE) => self.choked = false,
            _ => {} // a seed has everything, and keeps it
        }
    }

    fn answered(&mut self, block: Block) -> io::Result<()> {
        let place = self
            .asked
            .iter()
            .position(|asked| *asked == block)
            .ok_or_else(|| invalid("an unasked block"))?;
        self.asked.remove(place);
        Ok(())
    }

    fn hash(&mut self, part: Block, bytes: &[u8]) -> io::Result<()> {
        let piece = self.pieces.entry(part.piece).or_default();
        if part.begin != piece.next {
            piece.early.insert(part.begin, bytes.to_vec());
            return Ok(());
        }
        piece.sha.update(bytes);
        piece.next += bytes.len() as u32;
        while let Some(bytes) = piece.early.remove(&piece.next) {
            piece.sha.update(&bytes);
            piece.next += bytes.len() as u32;
        }
        if piece.next == self.info.piece_size(part.piece)
            && let Some(piece) = self.pieces.remove(&part.piece)
        {
            if self.info.piece_hash(part.piece) != Some(piece.sha.finalize().into()) {
                return Err(invalid("a piece with another hash"));
            }
            self.verified += 1;
        }
        Ok(())
    }

    /// Fills the pipeline, once half of it is free: requests in few, large writes.
    fn request(&mut self, out: &mut Vec<u8>) {
        if self.choked || self.asked.len() > self.pipeline / 2 {
            return;
        }
        while self.asked.len() < self.pipeline
            && let Some(block) = self.todo.pop_front()
        {
            out.extend([0, 0, 0, 13, id::REQUEST]);
            for field in [block.piece, block.begin, block.len] {
                out.extend(field.to_be_bytes());
            }
            self.asked.push_back(block);
        }
    }
}

/// Adjacent slices on their way to the file in one call.
#[derive(Default)]
struct Run<'a> {
    at: u64,
    len: u64,
    slices: Vec<IoSlice<'a>>,
}

impl<'a> Run<'a> {
    fn push(&mut self, file: &File, at: u64, bytes: &'a [u8]) -> io::Result<()> {
        if at != self.at + self.len || self.slices.len() == MAX_SLICES {
            self.flush(file)?;
            self.at = at;
        }
        self.slices.push(IoSlice::new(bytes));
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self, file: &File) -> io::Result<()> {
        let mut slices = self.slices.as_mut_slice();
        while !slices.is_empty() {
            let n = pwritev(file, slices, self.at)?;
            self.at += n as u64;
            IoSlice::advance_slices(&mut slices, n);
        }
        self.slices.clear();
        self.len = 0;
        Ok(())
    }
}
