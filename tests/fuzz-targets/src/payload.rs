//! Torrents that the targets work on. Their content is zeros, so that any block of zeros is right.

use std::sync::{Arc, OnceLock};

use dunlin_core::hash::sha1;
use dunlin_core::metainfo::{Builder, Info};

/// Piece length of all torrents, in bytes: two blocks.
pub const PIECE: u32 = 32 << 10;

/// A folder of three files in five pieces, a private file of two pieces, a file of a hundred bytes.
pub fn torrents() -> &'static [Arc<Info>; 3] {
    static TORRENTS: OnceLock<[Arc<Info>; 3]> = OnceLock::new();
    TORRENTS.get_or_init(|| {
        let mut folder = Builder::folder("folder");
        folder.add(vec!["a".into()], 70_000);
        folder.add(vec!["b".into()], 10);
        folder.add(vec!["c".into(), "d".into()], 80_000);
        let mut private = Builder::file("private", 50_000);
        private.private = true;
        [
            finish(folder),
            finish(private),
            finish(Builder::file("short", 100)),
        ]
    })
}

fn finish(mut builder: Builder) -> Arc<Info> {
    builder.piece_len = Some(PIECE);
    let draft = builder.draft().expect("a sound layout");
    let layout = draft.layout();
    let hashes: Vec<[u8; 20]> = (0..layout.piece_count())
        .map(|piece| sha1(&vec![0; layout.piece_size(piece) as usize]))
        .collect();
    draft.finish(&hashes).expect("a hash for each piece").info
}
