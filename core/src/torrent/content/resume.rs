//! The resume record: what a torrent needs to continue after a restart.
//!
//! It is a bencoded dictionary with a version. A killed process loses nothing that reached the page cache, but a power cut does
//! lose it. A piece is in `have` once it is verified, and in `durable` once it was flushed after that. The driver's boot token
//! decides which of them a restart trusts.

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use bendy::encoding::{Encoder, SingleItemEncoder};

use crate::op::FileStat;
use crate::torrent::status::FilePriority;
use crate::tracker::{MAX_TRACKERS, SavedTracker};
use crate::wire::bencode::{Dict, Limits, List, Value};
use crate::{Bitfield, InfoHash};

/// The version of the format. Records of another version are not read.
const VERSION: i64 = 1;
/// The maximum number of peers in a record.
pub(crate) const MAX_PEERS: usize = 100;

/// The resume record of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) info_hash: InfoHash,
    /// The boot in which it was written, see [`Config::boot`](crate::Config::boot).
    pub(crate) boot: Option<[u8; 16]>,
    /// Whether it was written at a stop, so that lengths and times of the files have to be unchanged.
    pub(crate) clean: bool,
    /// Whether a flush covered everything that was written, including blocks of partial pieces.
    pub(crate) synced: bool,
    /// The verified pieces. It is empty while the metadata is unknown.
    pub(crate) have: Vec<u8>,
    /// Those of them that were flushed after they were verified.
    pub(crate) durable: Vec<u8>,
    /// The blocks on disk of incomplete pieces.
    pub(crate) partial: BTreeMap<u32, Vec<u8>>,
    pub(crate) files: Vec<Option<FileStat>>,
    pub(crate) priorities: Vec<FilePriority>,
    pub(crate) downloaded: u64,
    pub(crate) uploaded: u64,
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) trackers: Vec<SavedTracker>,
}

impl Record {
    /// The record of a torrent whose files were never opened.
    pub(crate) const fn unchecked(info_hash: InfoHash) -> Self {
        Self {
            info_hash,
            boot: None,
            clean: false,
            synced: false,
            have: Vec::new(),
            durable: Vec::new(),
            partial: BTreeMap::new(),
            files: Vec::new(),
            priorities: Vec::new(),
            downloaded: 0,
            uploaded: 0,
            peers: Vec::new(),
            trackers: Vec::new(),
        }
    }

    /// Encodes the record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new().with_max_depth(6);
        let written = out.emit_dict(|mut d| {
            if let Some(boot) = &self.boot {
                d.emit_pair_with(b"boot", |e| e.emit_bytes(boot))?;
            }
            d.emit_pair(b"clean", u8::from(self.clean))?;
            d.emit_pair(b"downloaded", self.downloaded)?;
            d.emit_pair_with(b"durable", |e| e.emit_bytes(&self.durable))?;
            d.emit_pair_with(b"files", |e| emit_files(e, &self.files))?;
            d.emit_pair_with(b"have", |e| e.emit_bytes(&self.have))?;
            d.emit_pair_with(b"ids", |e| emit_ids(e, &self.files))?;
            d.emit_pair_with(b"info-hash", |e| e.emit_bytes(&self.info_hash.0))?;
            d.emit_pair_with(b"partial", |e| {
                e.emit_list(|l| {
                    for (piece, blocks) in &self.partial {
                        l.emit_int(*piece)?;
                        l.emit_bytes(blocks)?;
                    }
                    Ok(())
                })
            })?;
            d.emit_pair_with(b"peers", |e| e.emit_bytes(&pack_peers(&self.peers)))?;
            let priorities: Vec<u8> = self.priorities.iter().map(|p| *p as u8).collect();
            d.emit_pair_with(b"priorities", |e| e.emit_bytes(&priorities))?;
            d.emit_pair(b"synced", u8::from(self.synced))?;
            d.emit_pair_with(b"trackers", |e| emit_trackers(e, &self.trackers))?;
            d.emit_pair(b"uploaded", self.uploaded)?;
            d.emit_pair(b"version", VERSION)
        });
        // Keys are sorted above and the depth is fixed, so encoding cannot fail.
        written.and_then(|()| out.get_output()).unwrap_or_default()
    }

    /// Decodes a record. The error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let (d, rest) = Dict::parse(bytes, Limits::TORRENT).map_err(|_| "it is not bencoded")?;
        if !rest.is_empty() {
            return Err("bytes follow its end");
        }
        if d.int(b"version") != Some(VERSION) {
            return Err("its version is unknown");
        }
        let bytes = |key: &[u8]| d.bytes(key).unwrap_or_default();
        let number = |key: &[u8]| d.int(key).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let info_hash = bytes(b"info-hash")
            .try_into()
            .map_err(|_| "its info-hash is damaged")?;
        let mut partial = BTreeMap::new();
        if let Some(list) = d.list(b"partial") {
            let mut items = list.iter();
            while let (Some(piece), Some(blocks)) = (items.next(), items.next()) {
                let piece = piece.int().and_then(|n| u32::try_from(n).ok());
                let (Some(piece), Some(blocks)) = (piece, blocks.bytes()) else {
                    return Err("its list of partial pieces is damaged");
                };
                partial.insert(piece, blocks.to_vec());
            }
        }
        let mut files = Vec::new();
        if let Some(list) = d.list(b"files") {
            let mut items = list.iter();
            while let (Some(len), Some(mtime)) = (items.next(), items.next()) {
                let (Some(len), Some(mtime_ns)) = (len.int(), mtime.int()) else {
                    return Err("its list of files is damaged");
                };
                let stat = |len| FileStat {
                    len,
                    mtime_ns,
                    id: None,
                };
                files.push(u64::try_from(len).ok().map(stat));
            }
        }
        // Earlier versions did not write it.
        for (file, id) in files.iter_mut().zip(read_ids(bytes(b"ids"))) {
            if let Some(file) = file {
                file.id = id;
            }
        }
        Ok(Self {
            info_hash: InfoHash(info_hash),
            boot: bytes(b"boot").try_into().ok(),
            clean: d.int(b"clean") == Some(1),
            synced: d.int(b"synced") == Some(1),
            have: bytes(b"have").to_vec(),
            durable: bytes(b"durable").to_vec(),
            partial,
            files,
            priorities: bytes(b"priorities").iter().map(|b| priority(*b)).collect(),
            downloaded: number(b"downloaded"),
            uploaded: number(b"uploaded"),
            peers: unpack_peers(bytes(b"peers")),
            trackers: d.list(b"trackers").map(read_trackers).unwrap_or_default(),
        })
    }

    /// Whether blocks of partial pieces are still on the medium if the files are unchanged.
    pub(crate) fn keeps_partial(&self, boot: Option<[u8; 16]>) -> bool {
        // Without a boot token, every stop flushes.
        self.clean && (self.synced || self.boot == boot)
    }

    /// The pieces that were flushed.
    pub(crate) fn flushed(&self, pieces: u32) -> Option<Bitfield> {
        Bitfield::from_wire(&self.durable, pieces)
    }

    /// A piece is not known to be on disk any more.
    pub(crate) fn withdraw(&mut self, piece: u32) {
        for pieces in [&mut self.have, &mut self.durable] {
            if let Some(byte) = pieces.get_mut(piece as usize / 8) {
                *byte &= !(0x80 >> (piece % 8));
            }
        }
    }

    /// The pieces to trust before the files are examined.
    pub(crate) fn believed(&self, boot: Option<[u8; 16]>, pieces: u32) -> Option<Bitfield> {
        let same_boot = self.boot.is_some() && self.boot == boot;
        let bytes = if same_boot { &self.have } else { &self.durable };
        Bitfield::from_wire(bytes, pieces)
    }
}

const fn priority(byte: u8) -> FilePriority {
    match byte {
        0 => FilePriority::Skip,
        1 => FilePriority::Low,
        3 => FilePriority::High,
        _ => FilePriority::Normal,
    }
}

/// Writes pairs of length and modification time. A length of -1 stands for a missing file.
fn emit_files(
    e: SingleItemEncoder<'_>,
    files: &[Option<FileStat>],
) -> Result<(), bendy::encoding::Error> {
    e.emit_list(|l| {
        for file in files {
            let (len, mtime) = file.map_or((-1, 0), |f| {
                (i64::try_from(f.len).unwrap_or(i64::MAX), f.mtime_ns)
            });
            l.emit_int(len)?;
            l.emit_int(mtime)?;
        }
        Ok(())
    })
}

/// Writes, for each file, a byte that says whether its file number follows in eight bytes.
fn emit_ids(
    e: SingleItemEncoder<'_>,
    files: &[Option<FileStat>],
) -> Result<(), bendy::encoding::Error> {
    let mut out = Vec::with_capacity(files.len() * 9);
    for file in files {
        match file.and_then(|f| f.id) {
            Some(id) => {
                out.push(1);
                out.extend_from_slice(&id.to_be_bytes());
            }
            None => out.push(0),
        }
    }
    e.emit_bytes(&out)
}

fn read_ids(mut bytes: &[u8]) -> impl Iterator<Item = Option<u64>> + '_ {
    core::iter::from_fn(move || {
        let (&known, rest) = bytes.split_first()?;
        bytes = rest;
        if known == 0 {
            return Some(None);
        }
        let (id, rest) = bytes.split_first_chunk::<8>()?;
        bytes = rest;
        Some(Some(u64::from_be_bytes(*id)))
    })
}

fn emit_trackers(
    e: SingleItemEncoder<'_>,
    trackers: &[SavedTracker],
) -> Result<(), bendy::encoding::Error> {
    e.emit_list(|l| {
        for tracker in trackers {
            l.emit_dict(|mut d| {
                d.emit_pair(b"enabled", u8::from(tracker.enabled))?;
                if let Some(id) = &tracker.tracker_id {
                    d.emit_pair_with(b"id", |e| e.emit_bytes(id))?;
                }
                d.emit_pair(b"tier", tracker.tier)?;
                d.emit_pair(b"url", &tracker.url)
            })?;
        }
        Ok(())
    })
}

fn read_trackers(list: List<'_>) -> Vec<SavedTracker> {
    let read = |value: Value<'_>| {
        let d = value.dict()?;
        Some(SavedTracker {
            url: d.str(b"url")?.into(),
            tier: d.uint(b"tier").and_then(|n| u32::try_from(n).ok())?,
            enabled: d.int(b"enabled") != Some(0),
            tracker_id: d.bytes(b"id").map(<[u8]>::to_vec),
        })
    };
    list.iter().take(MAX_TRACKERS).filter_map(read).collect()
}

/// Writes a length byte (6 or 18) and a compact address (BEP 23, BEP 7) for each peer.
fn pack_peers(peers: &[SocketAddr]) -> Vec<u8> {
    let mut out = Vec::new();
    for peer in peers.iter().take(MAX_PEERS) {
        match peer.ip() {
            IpAddr::V4(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(18);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&peer.port().to_be_bytes());
    }
    out
}

fn unpack_peers(mut bytes: &[u8]) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let Some((addr, rest)) = rest.split_at_checked(usize::from(len)) else {
            break;
        };
        bytes = rest;
        let Some((ip, &port)) = addr.split_last_chunk::<2>() else {
            break;
        };
        let ip: IpAddr = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(v4), _) => v4.into(),
            (_, Ok(v6)) => v6.into(),
            _ => break,
        };
        out.push(SocketAddr::new(ip, u16::from_be_bytes(port)));
        if out.len() >= MAX_PEERS {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quickcheck::quickcheck;

    use super::*;

    fn record() -> Record {
        Record {
            info_hash: InfoHash([7; 20]),
            boot: Some([9; 16]),
            clean: true,
            synced: true,
            have: vec![0b1110_0000],
            durable: vec![0b1000_0000],
            partial: BTreeMap::from([(4, vec![0x80]), (6, vec![0x40])]),
            files: vec![
                Some(FileStat {
                    len: 5,
                    mtime_ns: -3,
                    id: Some(1 << 63),
                }),
                None,
                Some(FileStat {
                    len: 0,
                    mtime_ns: 7,
                    id: None,
                }),
            ],
            priorities: vec![FilePriority::Skip, FilePriority::High],
            downloaded: 1 << 40,
            uploaded: 3,
            peers: vec![
                "10.0.0.1:6881".parse().unwrap(),
                "[fd00::1]:51413".parse().unwrap(),
            ],
            trackers: vec![SavedTracker {
                url: "udp://tracker.example:80/announce".into(),
                tier: 2,
                enabled: true,
                tracker_id: Some(vec![0, 255]),
            }],
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        assert_eq!(Record::decode(&record().encode()), Ok(record()));
    }

    #[test]
    fn only_the_same_boot_is_believed_without_a_flush() {
        let count = |boot| record().believed(boot, 8).map(|b| b.count());
        assert_eq!(count(Some([9; 16])), Some(3));
        assert_eq!(count(Some([8; 16])), Some(1));
        assert_eq!(count(None), Some(1));
    }

    #[test]
    fn a_torn_record_is_refused() {
        let bytes = record().encode();
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err());
        }
    }

    quickcheck! {
        fn any_bytes_are_survived(data: Vec<u8>, flips: Vec<(u16, u8)>) -> bool {
            let _ = Record::decode(&data);
            let mut bytes = record().encode();
            for (at, with) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] = with;
            }
            let _ = Record::decode(&bytes).map(|r| r.believed(None, 8));
            true
        }
    }
}
