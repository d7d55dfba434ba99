//! A folder of files, and the torrent of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use dunlin_core::{engine::Check, hash::sha1, metainfo};
use tempfile::TempDir;

use crate::session::add::Add;

/// Length of a piece.
const PIECE: u32 = 64 << 10;

/// A folder of files, and the torrent of it.
#[derive(Debug)]
pub struct Content {
    pub dir: TempDir,
    pub files: Vec<(PathBuf, Vec<u8>)>,
    pub torrent: metainfo::Torrent,
}

/// Bytes that neither repeat nor compress.
#[must_use]
pub fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        data.extend_from_slice(&seed.to_le_bytes());
    }
    data.truncate(len);
    data
}

impl Content {
    /// Files of the given lengths, in pieces of 64 KiB, which they share.
    #[must_use]
    pub fn new(lengths: &[usize]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut builder = metainfo::Builder::folder("content");
        builder.piece_len = Some(PIECE);
        let mut files = Vec::new();
        fs::create_dir_all(dir.path().join("content")).unwrap();
        for (i, &len) in lengths.iter().enumerate() {
            let name = format!("file{i:02}");
            let data = noise(i as u64 + 1, len);
            builder.add(vec![name.clone()], len as u64);
            let path = Path::new("content").join(name);
            fs::write(dir.path().join(&path), &data).unwrap();
            files.push((path, data));
        }
        let all: Vec<u8> = files.iter().flat_map(|(_, data)| data.clone()).collect();
        let hashes: Vec<_> = all.chunks(PIECE as usize).map(sha1).collect();
        let torrent = builder.draft().unwrap().finish(&hashes).unwrap();
        Self {
            dir,
            files,
            torrent,
        }
    }

    /// About 4 MiB in three files.
    #[must_use]
    pub fn small() -> Self {
        Self::new(&[1 << 20, 77, (3 << 20) + 12_345])
    }

    /// To fetch it.
    #[must_use]
    pub fn add(&self) -> Add {
        Add::torrent(self.torrent.clone())
    }

    /// To share the original.
    #[must_use]
    pub fn share(&self) -> Add {
        self.add().dir(self.dir.path()).check(Check::All)
    }

    /// To fetch it by its magnet link.
    #[must_use]
    pub fn magnet(&self) -> Add {
        Add::magnet(&self.torrent.magnet().to_string()).unwrap()
    }

    /// Every byte below `dir` is as it should be.
    pub fn assert_copied(&self, dir: &Path) {
        for (path, data) in &self.files {
            let copy = fs::read(dir.join(path)).unwrap_or_default();
            assert!(copy == *data, "{} differs", path.display());
        }
    }
}
