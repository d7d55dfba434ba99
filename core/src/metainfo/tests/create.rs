use super::super::create::auto_piece_len;
use super::*;

fn path(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn finish(b: Builder) -> Torrent {
    let draft = b.draft().unwrap();
    let hashes = vec![[3; 20]; draft.layout().piece_count() as usize];
    draft.finish(&hashes).unwrap()
}

#[test]
fn single_file_bytes_are_canonical_and_complete() {
    let mut b = Builder::file("f", 40_000);
    b.private = true;
    b.source = Some("s".into());
    let mut t = finish(b);
    t.trackers = vec![vec!["a:1".into(), "a:2".into()], vec!["b:1".into()]];
    t.web_seeds = vec!["w".into()];
    t.nodes = vec!["[::1]:6881".parse().unwrap()];
    t.comment = Some("c".into());
    t.created_by = Some("by".into());
    t.creation_date = Some(5);
    let bytes = t.to_bytes();
    let hashes = [3; 60];
    let expected = [
        &b"d8:announce3:a:113:announce-listll3:a:13:a:2el3:b:1ee7:comment1:c10:created by2:by\
           13:creation datei5e4:infod6:lengthi40000e4:name1:f12:piece lengthi16384e6:pieces60:"[..],
        &hashes,
        b"7:privatei1e6:source1:se5:nodesll3:::1i6881eee8:url-listl1:wee",
    ]
    .concat();
    assert_eq!(
        bytes.escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
    assert_eq!(Torrent::parse(&bytes).unwrap(), t);
    assert!(t.info.canonical());
}

#[test]
fn files_are_sorted_and_aligned() {
    let mut b = Builder::folder("top");
    b.piece_len = Some(100);
    b.align = true;
    b.add(path(&["b"]), 200);
    b.add(path(&["c"]), 10).executable = true;
    b.add(path(&["a", "z"]), 130);
    b.add(path(&["d"]), 0).kind = FileKind::Symlink(path(&["a", "z"]));
    let t = finish(b);
    let shape: Vec<(String, u64, u64)> = (t.info.files().iter())
        .map(|f| (f.path.join("/"), f.offset, f.len))
        .collect();
    let row = |p: &str, offset, len| (p.to_string(), offset, len);
    assert_eq!(
        shape,
        [
            row("a/z", 0, 130),
            row(".pad/70", 130, 70),
            row("b", 200, 200),
            row("c", 400, 10),
            row("d", 410, 0),
        ]
    );
    assert_eq!(t.info.files()[1].kind, FileKind::Padding);
    assert!(t.info.files()[3].executable);
    assert_eq!(t.info.files()[4].kind, FileKind::Symlink(path(&["a", "z"])));
    assert_eq!(Torrent::parse(&t.to_bytes()).unwrap(), t);
}

#[test]
fn piece_length_grows_with_the_torrent() {
    assert_eq!(auto_piece_len(0), 16 << 10);
    assert_eq!(auto_piece_len(32 << 20), 16 << 10);
    assert_eq!(auto_piece_len((32 << 20) + 1), 32 << 10);
    assert_eq!(auto_piece_len(1 << 30), 512 << 10);
    assert_eq!(auto_piece_len(1 << 40), 16 << 20);
    assert_eq!(auto_piece_len(1 << 46), 32 << 20);
    assert_eq!(auto_piece_len(u64::MAX), MAX_PIECE_LEN);
}

#[test]
fn a_torrent_that_could_not_be_loaded_is_not_made() {
    let problem = |b: Builder| b.draft().unwrap_err().problem;
    assert_eq!(problem(Builder::file("", 1)), Problem::EmptyName);
    assert_eq!(problem(Builder::file("a", 0)), Problem::NoData);
    assert_eq!(
        Builder::file("a", 0).draft().unwrap_err().to_string(),
        "all files are empty (info.files); there is nothing to transfer"
    );
    assert_eq!(
        problem(Builder::file("a", u64::MAX)),
        Problem::TotalTooLarge
    );
    assert_eq!(problem(Builder::folder("a")), Problem::NoFiles);
    let mut b = Builder::folder("a");
    b.add(path(&["x", "y"]), 1);
    b.add(path(&["x"]), 1);
    assert_eq!(problem(b.clone()), Problem::DuplicatePath);
    b.add(Vec::new(), 1);
    assert_eq!(problem(b), Problem::EmptyPath);
    let mut b = Builder::file("a", 1);
    b.piece_len = Some(0);
    assert_eq!(problem(b), Problem::PieceLen(0));
    let mut b = Builder::folder("a");
    b.add(path(&["x"]), 1).kind = FileKind::Symlink(path(&["y"]));
    assert_eq!(problem(b), Problem::LinkWithData);
    let e = Builder::file("a", 1)
        .draft()
        .unwrap()
        .finish(&[])
        .unwrap_err();
    let wanted = Problem::HashCount {
        found: 0,
        pieces: 1,
    };
    assert_eq!(e.problem, wanted);
}
