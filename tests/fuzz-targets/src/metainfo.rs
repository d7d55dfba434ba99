//! Torrent files, and the paths they lead to.

use std::path::Component;

use dunlin_core::metainfo::{Info, Torrent};
use dunlin_std::paths::{self, Names};

/// Parses `data` as a torrent file and as an info dictionary.
pub fn run(data: &[u8]) {
    match Torrent::parse(data) {
        Ok(torrent) => {
            sound(&torrent.info);
            let again = Torrent::parse(&torrent.to_bytes()).expect("what we write we can read");
            assert_eq!(again.info.info_hash(), torrent.info.info_hash());
            let magnet = torrent.magnet();
            assert_eq!(magnet.info_hash, Some(torrent.info.info_hash()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(info) = Info::from_raw(data.to_vec()) {
        sound(&info);
    }
}

fn sound(info: &Info) {
    let (pieces, total) = (info.piece_count(), info.total_len());
    assert!(pieces > 0);
    for piece in (0..pieces.min(16)).chain([pieces - 1]) {
        let (at, len) = (info.piece_offset(piece), u64::from(info.piece_size(piece)));
        assert!(len > 0 && at + len <= total);
        assert!(info.piece_hash(piece).is_some());
        let extents: u64 = info.extents(at, len).take(10_000).map(|e| e.len).sum();
        assert!(extents <= len);
        let blocks = info.blocks_in(piece);
        let last = info.block(piece, blocks - 1).expect("the last block");
        assert_eq!(u64::from(last.begin + last.len), len);
        assert!(info.block(piece, blocks).is_none());
    }
    assert!(info.piece_hash(pieces).is_none());
    let lengths: u64 = info.files().iter().map(|f| f.len).sum();
    assert_eq!(lengths, total);
    for names in [Names::Native, Names::Windows] {
        let paths = paths::layout(info, None, names);
        assert_eq!(paths.len(), info.files().len());
        let inside = |c: Component<'_>| matches!(c, Component::Normal(_));
        for path in &paths {
            assert!(
                path.components().all(inside),
                "{} leads out",
                path.display()
            );
        }
    }
}
