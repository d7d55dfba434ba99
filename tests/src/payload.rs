//! Files to move: made from a seed, put into a torrent by mktorrent, compared by SHA-256.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes handled at a time.
const CHUNK: usize = 1 << 20;

/// Paths below the folder, with '/' between parts, and what each file holds.
pub type Sums = BTreeMap<String, String>;

/// Files below `root/name`, or the one file that is `root/name`.
#[derive(Clone, Debug)]
pub struct Payload {
    /// What a client calls the download folder.
    pub root: PathBuf,
    /// The torrent's name.
    pub name: String,
    /// SHA-256 of each file.
    pub sums: Sums,
    /// Bytes in all.
    pub len: u64,
}

impl Payload {
    /// One file of `len` bytes.
    pub fn single(root: &Path, name: &str, seed: u64, len: u64) -> Self {
        write_random(&root.join(name), seed, len);
        Self::describe(root, name)
    }

    /// About `len` bytes in a tree that has everything layout code gets wrong: files that share a
    /// piece, one that spans many, several within one piece, one of a single byte, an empty one,
    /// folders within folders, names beyond ASCII.
    pub fn tree(root: &Path, name: &str, seed: u64, len: u64) -> Self {
        let files = [
            ("a first file.bin", len * 2 / 5 + 17),
            ("deep/er/and deeper/odd.dat", len / 5 + 1),
            ("deep/one byte", 1),
            ("deep/small-1", 4_099),
            ("deep/small-2", 1_000),
            ("empty", 0),
            ("größe/ключ/文件 ☃.txt", 65_537),
            ("zz last", len * 2 / 5 + 3),
        ];
        for (n, (path, len)) in (0u64..).zip(files) {
            let path = root.join(name).join(path);
            fs::create_dir_all(path.parent().expect("below root")).expect("folders");
            write_random(&path, seed.wrapping_add(n), len);
        }
        Self::describe(root, name)
    }

    fn describe(root: &Path, name: &str) -> Self {
        let sums = sums(&root.join(name));
        let top = root.join(name);
        let path = |file: &String| {
            if file.is_empty() {
                top.clone()
            } else {
                top.join(file)
            }
        };
        let len = sums
            .keys()
            .map(|file| fs::metadata(path(file)).expect("just written").len())
            .sum();
        Self {
            root: root.to_owned(),
            name: name.to_owned(),
            sums,
            len,
        }
    }

    /// Makes the torrent with mktorrent, pieces of `1 << piece_log` bytes, one tier per tracker.
    ///
    /// # Panics
    /// With what mktorrent said.
    pub fn torrent(&self, piece_log: u32, trackers: &[String]) -> Torrent {
        let path = self.root.join(format!("{}.torrent", self.name));
        let mut command = Command::new("mktorrent");
        command
            .args(["-l", &piece_log.to_string(), "-t", "2", "-o"])
            .arg(&path);
        for tracker in trackers {
            command.args(["-a", tracker]);
        }
        let done = command
            .arg(self.root.join(&self.name))
            .output()
            .expect("mktorrent (package mktorrent)");
        assert!(
            done.status.success(),
            "mktorrent: {}",
            String::from_utf8_lossy(&done.stdout)
        );
        Torrent::read(&path, trackers)
    }

    /// Whether a downloaded single file has its size.
    #[must_use]
    pub fn has_size(&self, root: &Path) -> bool {
        fs::metadata(root.join(&self.name)).is_ok_and(|m| m.len() == self.len)
    }

    /// Compares what was downloaded into `root` with the payload, file by file.
    ///
    /// # Panics
    /// If a file is missing, differs or is too much. A missing empty file is overlooked with
    /// `empty_may_lack`: some clients never make one.
    pub fn assert_same(&self, root: &Path, empty_may_lack: bool) {
        let mut got = sums(&root.join(&self.name));
        if empty_may_lack {
            for (path, sum) in &self.sums {
                if *sum == hex(&Sha256::digest(b"")) {
                    got.entry(path.clone()).or_insert_with(|| sum.clone());
                }
            }
        }
        assert_eq!(
            got,
            self.sums,
            "what lies in {} is not the payload",
            root.display()
        );
    }
}

/// A torrent file.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// Where.
    pub path: PathBuf,
    /// SHA-1 of its info dictionary.
    pub info_hash: [u8; 20],
    /// Its trackers.
    pub trackers: Vec<String>,
}

impl Torrent {
    fn read(path: &Path, trackers: &[String]) -> Self {
        let bytes = fs::read(path).expect("the torrent just made");
        let info = info_slice(&bytes).expect("mktorrent writes bencode");
        Self {
            path: path.to_owned(),
            info_hash: Sha1::digest(info).into(),
            trackers: trackers.to_vec(),
        }
    }

    /// The info-hash in hex.
    pub fn hex(&self) -> String {
        hex(&self.info_hash)
    }

    /// A magnet link with the hash and the trackers, nothing else.
    pub fn magnet(&self) -> String {
        let trackers: String = self
            .trackers
            .iter()
            .map(|t| format!("&tr={}", crate::http::percent(t.as_bytes())))
            .collect();
        format!("magnet:?xt=urn:btih:{}{trackers}", self.hex())
    }
}

/// The raw bytes of the info dictionary: told apart without core's parser, which is under test.
fn info_slice(torrent: &[u8]) -> Option<&[u8]> {
    let mut at = 1;
    while torrent.get(at)? != &b'e' {
        let key_end = skip(torrent, at)?;
        let value_end = skip(torrent, key_end)?;
        if torrent[at..key_end].ends_with(b":info") {
            return torrent.get(key_end..value_end);
        }
        at = value_end;
    }
    None
}

/// Where the bencoded item that starts at `at` ends.
fn skip(bytes: &[u8], mut at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'i' => Some(at + bytes[at..].iter().position(|b| *b == b'e')? + 1),
        b'l' | b'd' => {
            at += 1;
            while bytes.get(at)? != &b'e' {
                at = skip(bytes, at)?;
            }
            Some(at + 1)
        }
        _ => {
            let colon = at + bytes[at..].iter().position(|b| *b == b':')?;
            let len: usize = std::str::from_utf8(&bytes[at..colon]).ok()?.parse().ok()?;
            Some(colon + 1 + len)
        }
    }
}

fn write_random(path: &Path, seed: u64, len: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut file = File::create(path).expect("a payload file");
    let mut chunk = vec![0; CHUNK];
    let mut left = len;
    while left > 0 {
        let n = left.min(CHUNK as u64) as usize;
        rng.fill_bytes(&mut chunk[..n]);
        file.write_all(&chunk[..n]).expect("room for the payload");
        left -= n as u64;
    }
}

/// SHA-256 of every file at or below `path`; a single file has the empty name.
fn sums(path: &Path) -> Sums {
    let mut found = Sums::new();
    collect(path, String::new(), &mut found);
    found
}

fn collect(path: &Path, name: String, found: &mut Sums) {
    if path.is_dir() {
        for entry in fs::read_dir(path)
            .expect("a folder")
            .map(|entry| entry.expect("an entry"))
        {
            let part = entry.file_name().to_string_lossy().into_owned();
            let name = if name.is_empty() {
                part
            } else {
                format!("{name}/{part}")
            };
            collect(&entry.path(), name, found);
        }
    } else if let Ok(mut file) = File::open(path) {
        found.insert(name, file_sum(&mut file));
    }
}

fn file_sum(file: &mut File) -> String {
    let mut sha = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).expect("a readable file") {
            0 => return hex(&sha.finalize()),
            n => sha.update(&chunk[..n]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_info_slice_is_found_between_other_keys() {
        assert_eq!(
            info_slice(b"d8:announce3:url4:infod1:ai1e1:bl1:xee3:zzz1:ye"),
            Some(&b"d1:ai1e1:bl1:xee"[..])
        );
        assert_eq!(info_slice(b"d8:announce3:urle"), None);
    }

    #[test]
    fn the_same_seed_makes_the_same_tree_and_a_changed_byte_shows() {
        let (a, b) = (
            tempfile::tempdir().expect("a"),
            tempfile::tempdir().expect("b"),
        );
        let tree = Payload::tree(a.path(), "t", 7, 100_000);
        assert_eq!(tree.sums.len(), 8);
        assert_eq!(tree.sums, Payload::tree(b.path(), "t", 7, 100_000).sums);
        tree.assert_same(b.path(), false);
        fs::write(b.path().join("t/deep/one byte"), [0, 0]).expect("a change");
        assert_ne!(tree.sums, sums(&b.path().join("t")));
    }
}
