//! The content of test torrents: three files that share pieces, generated from a seed.

use dunlin_core::hash::sha1;
use dunlin_core::metainfo::{Builder, Info, Torrent};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::sync::Arc;

/// Bytes in a piece.
pub const PIECE: usize = 64 << 10;
/// The offset within each piece of the byte that [`Content::corrupt`] changes.
const SPOT: usize = 4_321;

/// A torrent and its content.
#[derive(Clone, Debug)]
pub struct Content {
    /// The torrent.
    pub torrent: Torrent,
    /// The concatenated files.
    pub data: Vec<u8>,
}

impl Content {
    /// About `len` bytes.
    #[must_use]
    pub fn new(seed: u64, len: usize) -> Self {
        let mut data = vec![0; len];
        ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut data);
        Self::of(&format!("content-{seed}"), data)
    }

    fn of(name: &str, data: Vec<u8>) -> Self {
        let len = data.len();
        let mut builder = Builder::folder(name);
        builder.piece_len = Some(PIECE as u32);
        let first = len / 3;
        builder.add(vec!["first".into()], first as u64);
        builder.add(vec!["folder".into(), "small".into()], 77);
        builder.add(vec!["last".into()], (len - first - 77) as u64);
        let hashes: Vec<_> = data.chunks(PIECE).map(sha1).collect();
        let torrent = builder.draft().unwrap().finish(&hashes).unwrap();
        Self { torrent, data }
    }

    /// The same torrent, with a wrong byte in every piece.
    #[must_use]
    pub fn corrupt(&self) -> Self {
        let mut other = self.clone();
        for piece in other.data.chunks_mut(PIECE) {
            let spot = SPOT.min(piece.len() - 1);
            piece[spot] ^= 0x55;
        }
        other
    }

    /// Another torrent with the same names and lengths, no piece of which is the same.
    #[must_use]
    pub fn rival(&self) -> Self {
        Self::of(self.torrent.info.name(), self.corrupt().data)
    }

    /// Names, lengths and hashes.
    #[must_use]
    pub fn info(&self) -> Arc<Info> {
        Arc::clone(&self.torrent.info)
    }

    /// Each file's path below a folder, and its bytes.
    pub fn files(&self) -> impl Iterator<Item = (String, &[u8])> {
        let info = &self.torrent.info;
        let mut at = 0;
        info.files().iter().map(move |file| {
            let len = file.len as usize;
            let path = format!("{}/{}", info.name(), file.path.join("/"));
            at += len;
            (path, &self.data[at - len..at])
        })
    }
}
