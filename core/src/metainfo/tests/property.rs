use quickcheck::{Arbitrary, Gen, quickcheck};

use super::*;

/// A torrent that someone may have made.
#[derive(Clone, Debug)]
struct Made(Torrent);

fn text(g: &mut Gen) -> String {
    let text: String = String::arbitrary(g).chars().take(20).collect();
    if text.trim().is_empty() {
        "x".into()
    } else {
        text.trim().into()
    }
}

impl Arbitrary for Made {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut b = if bool::arbitrary(g) {
            Builder::file(&text(g), u64::from(u32::arbitrary(g)) + 1)
        } else {
            let mut b = Builder::folder(&text(g));
            for i in 0..u8::arbitrary(g) % 20 + 1 {
                let path = vec![text(g), format!("{i}")];
                let file = b.add(path, u64::from(u16::arbitrary(g)) + 1);
                file.executable = bool::arbitrary(g);
                file.hidden = bool::arbitrary(g);
            }
            b.align = bool::arbitrary(g);
            b
        };
        b.private = bool::arbitrary(g);
        b.source = Option::<()>::arbitrary(g).map(|()| text(g));
        let draft = b.draft().unwrap();
        let hashes: Vec<[u8; 20]> = (0..draft.layout().piece_count())
            .map(|i| sha1(&i.to_be_bytes()))
            .collect();
        let mut t = draft.finish(&hashes).unwrap();
        t.trackers = (0..u8::arbitrary(g) % 3)
            .map(|i| {
                (0..=u8::arbitrary(g) % 3)
                    .map(|j| format!("http://{i}.{j}/{}", text(g)))
                    .collect()
            })
            .collect();
        t.comment = Option::<()>::arbitrary(g).map(|()| text(g));
        t.creation_date = Option::arbitrary(g);
        Self(t)
    }
}

quickcheck! {
    fn made_torrents_are_read_back(made: Made) -> bool {
        let bytes = made.0.to_bytes();
        Torrent::parse(&bytes).unwrap() == made.0 && made.0.info.canonical()
    }

    fn magnets_are_read_back(made: Made, select: Vec<(u32, u32)>, ports: Vec<u16>, salt: Option<Vec<u8>>) -> bool {
        let mut m = made.0.magnet();
        m.key = salt.map(|mut salt| {
            salt.truncate(64);
            MutableKey { key: [salt.len() as u8; 32], salt }
        });
        m.select = select.into_iter().map(|(a, b)| a.min(b)..=a.max(b)).collect();
        m.peers = ports.iter().filter_map(|&p| HostPort::new("2001:db8::7", p)).take(9).collect();
        m.to_string().parse() == Ok(m)
    }

    /// The files, cut into pieces, cover the torrent once, and so do the pieces, cut into blocks.
    fn extents_and_blocks_tile_the_torrent(made: Made) -> bool {
        let info = &made.0.info;
        let mut at = 0;
        for piece in 0..info.piece_count().min(300) {
            let mut in_piece = 0;
            for e in info.extents(info.piece_offset(piece), info.piece_size(piece).into()) {
                let file = &info.files()[e.file];
                assert_eq!(file.offset + e.offset, at);
                assert!(e.len > 0 && e.offset + e.len <= file.len);
                assert!(info.pieces_of(e.file).contains(&piece));
                (at, in_piece) = (at + e.len, in_piece + e.len);
            }
            assert_eq!(in_piece, u64::from(info.piece_size(piece)));
            let blocks: u32 = (0..info.blocks_in(piece)).map(|b| info.block(piece, b).unwrap().len).sum();
            assert_eq!(blocks, info.piece_size(piece));
        }
        info.piece_count() > 300 || at == info.total_len()
    }

    /// Law 6: whatever is wrong with it, an answer comes, and it can be told.
    fn damaged_torrents_are_survived(made: Made, wounds: Vec<(usize, u8)>, cut: Option<usize>) -> bool {
        let mut data = made.0.to_bytes();
        for (at, byte) in wounds.into_iter().take(8) {
            // Most damage goes where the structure is: before the hashes.
            let at = at % data.len().min(600);
            data[at] = if byte < 128 { b"0123456789:ilde-"[usize::from(byte % 16)] } else { byte };
        }
        if let Some(cut) = cut {
            data.truncate(cut % (data.len() + 1));
        }
        match Torrent::parse(&data) {
            Ok(t) => Torrent::parse(&t.to_bytes()).is_ok_and(|again| again == t),
            Err(e) => e.at.unwrap() <= data.len() && e.to_string().contains("; "),
        }
    }

    fn any_bytes_are_survived(data: Vec<u8>) -> bool {
        let torrent = Torrent::parse(&data).is_err();
        let text = String::from_utf8_lossy(&data).into_owned();
        let link = format!("magnet:?xt=urn:btih:{}&{text}", "00".repeat(20));
        _ = text.parse::<Magnet>();
        torrent && link.parse::<Magnet>().is_ok_and(|m| m.to_string().parse() == Ok(m))
    }
}
