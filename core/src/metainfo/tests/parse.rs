use super::*;

fn torrent(info: &[u8]) -> Vec<u8> {
    d(&[("announce", b"16:http://t.x/ann/a"), ("info", info)])
}

fn refusal(info: Vec<u8>) -> (Place, Problem) {
    let e = Info::from_raw(info).unwrap_err();
    assert!(e.at.is_some());
    (e.place, e.problem)
}

#[test]
fn single_file_torrent() {
    let info = single(&[("private", b"i1e"), ("source", b"3:abc")]);
    let t = Torrent::parse(&torrent(&info)).unwrap();
    assert_eq!(t.info.info_hash(), InfoHash(sha1(&info)));
    assert_eq!(t.info.raw(), info);
    assert_eq!(t.info.name(), "file.bin");
    assert_eq!((t.info.piece_count(), t.info.piece_size(2)), (3, 7232));
    assert_eq!(t.info.piece_hash(2), Some([7; 20]));
    assert_eq!(t.info.piece_hash(3), None);
    assert!(t.info.private() && !t.info.multi_file() && !t.info.hybrid());
    assert_eq!(t.info.source(), Some("abc"));
    assert!(t.info.canonical());
    assert_eq!(t.info.files()[0].path, ["file.bin"]);
    assert_eq!(t.trackers, [["http://t.x/ann/a"]]);
}

#[test]
fn what_stands_around_info_is_read() {
    let info = single(&[]);
    let t = Torrent::parse(&d(&[
        ("announce", b"3:a:1"),
        (
            "announce-list",
            &l(&[&l(&[b"3:a:1", b"3:a:2"]), b"le", b"3:b:1", &l(&[b"3:a:1"])]),
        ),
        ("comment", b"2:hi"),
        ("created by", b"1:x"),
        ("creation date", b"i1700000000e"),
        ("encoding", b"5:UTF-8"),
        ("httpseeds", &l(&[b"3:h:1"])),
        ("info", &info),
        (
            "nodes",
            &l(&[
                &l(&[b"9:127.0.0.1", b"i6881e"]),
                &l(&[b"1:h", b"i0e"]),
                b"i3e",
            ]),
        ),
        ("url-list", b"5:w.x/y"),
    ]))
    .unwrap();
    assert_eq!(t.trackers, [vec!["a:1", "a:2"], vec!["b:1"]]);
    assert_eq!(t.comment.as_deref(), Some("hi"));
    assert_eq!(t.created_by.as_deref(), Some("x"));
    assert_eq!(t.creation_date, Some(1_700_000_000));
    assert_eq!(t.encoding.as_deref(), Some("UTF-8"));
    assert_eq!(t.web_seeds, ["w.x/y"]);
    assert_eq!(t.nodes.len(), 1, "port 0 and an integer are not nodes");
    assert_eq!(t.nodes[0].addr(), Some("127.0.0.1:6881".parse().unwrap()));
}

#[test]
fn disorder_outside_and_inside_of_info_is_read() {
    let info = d(&[
        ("pieces", &s([7; 20])),
        ("name", b"1:a"),
        ("piece length", b"i16384e"),
        ("length", b"i1e"),
    ]);
    let mut data = d(&[("info", &info), ("announce", b"3:a:1"), ("comment", b"i1e")]);
    data.extend_from_slice(b"\r\n");
    let t = Torrent::parse(&data).unwrap();
    assert_eq!(t.info.info_hash(), InfoHash(sha1(&info)));
    assert!(!t.info.canonical());
    assert_eq!(t.comment, None);
    // Its bytes survive being written.
    assert_eq!(Torrent::parse(&t.to_bytes()).unwrap(), t);
}

#[test]
fn files_share_pieces_and_empty_files_have_none() {
    let info = folder(
        &[
            &entry(20_000, &["a"]),
            &entry(0, &["b", "empty"]),
            &entry(30_000, &["b", "c"]),
        ],
        4,
    );
    let info = Info::from_raw(info).unwrap();
    assert!(info.multi_file());
    assert_eq!(info.pieces_of(0), 0..2);
    assert_eq!(info.pieces_of(1), 0..0);
    assert_eq!(info.pieces_of(2), 1..4);
    let extents: Vec<Extent> = info.extents(16_384, 16_384).collect();
    let extent = |file, offset, len| Extent { file, offset, len };
    assert_eq!(extents, [extent(0, 16_384, 3616), extent(2, 0, 12_768)]);
    assert_eq!(info.blocks_in(3), 1);
    assert_eq!(info.block(3, 0).unwrap().len, 848);
    assert_eq!(info.block(3, 1), None);
    assert_eq!(info.extents(u64::MAX, 5).count(), 0);
}

#[test]
fn names_in_utf8_are_preferred_and_others_stay_apart() {
    let file = |name: &[u8], more: &[u8]| {
        let plain = l(&[&s(name)]);
        let mut out = d(&[("length", b"i10e"), ("path", &plain)]);
        out.pop();
        [&out, more, b"e"].concat()
    };
    let info = Info::from_raw(folder(
        &[
            &file(b"caf\xe9", b""),
            &file(b"caf\xe8", b""),
            &file(b"?", &[&s("path.utf-8")[..], &l(&[&s("日本")])].concat()),
        ],
        1,
    ))
    .unwrap();
    let names: Vec<&str> = info.files().iter().map(|f| f.path[0].as_str()).collect();
    assert_eq!(names, ["café", "cafè", "日本"]);
}

#[test]
fn attributes_say_what_a_file_is() {
    let with = |attr: &str, len: &[u8], path: &str, more: &[(&str, &[u8])]| {
        let (attr, path) = (s(attr), l(&[&s(path)]));
        let own: [(&str, &[u8]); 3] = [("attr", &attr), ("length", len), ("path", &path)];
        d(&[&own, more].concat())
    };
    let target = l(&[b"1:b", b"1:c"]);
    let link: [(&str, &[u8]); 1] = [("symlink path", &target)];
    let old = entry(
        10,
        &["_____padding_file_0_if you see this file, please update"],
    );
    let info = Info::from_raw(folder(
        &[
            &with("xh", b"i10e", "run", &[]),
            &with("p", b"i10e", "0", &[]),
            &with("l", b"i0e", "link", &link),
            &d(&[
                ("attr", b"1:l"),
                ("path", &l(&[b"1:n"])),
                ("symlink path", &target),
            ]),
            &with("l", b"i10e", "full link", &link),
            &with("l", b"i10e", "link to nothing", &[]),
            &old,
        ],
        1,
    ))
    .unwrap();
    let f = info.files();
    assert!(f[0].executable && f[0].hidden && f[0].kind == FileKind::Regular);
    assert!(!f[1].executable && f[1].kind == FileKind::Padding);
    let to = FileKind::Symlink(vec!["b".into(), "c".into()]);
    assert_eq!((&f[2].kind, &f[3].kind), (&to, &to));
    assert_eq!((&f[4].kind, f[4].len), (&to, 0), "a link has no bytes");
    assert_eq!(f[5].kind, FileKind::Regular);
    assert_eq!(f[6].kind, FileKind::Padding);
}

#[test]
fn v2_alone_is_refused_by_name_and_a_hybrid_is_v1() {
    let tree = d(&[("file.bin", &d(&[("", &d(&[("length", b"i40000e")]))]))]);
    let v2 = d(&[
        ("file tree", &tree),
        ("meta version", b"i2e"),
        ("name", b"1:a"),
        ("piece length", b"i16384e"),
    ]);
    let e = Torrent::parse(&torrent(&v2)).unwrap_err();
    assert_eq!(e.problem, Problem::V2Only);
    assert_eq!(
        e.to_string(),
        "this is a BitTorrent v2 torrent, and Dunlin can read v1 and hybrid (info.meta version, \
         byte 36); look for a v1 or hybrid torrent of the same content"
    );
    let hybrid = single(&[("file tree", &tree), ("meta version", b"i2e")]);
    let info = Info::from_raw(hybrid).unwrap();
    assert!(info.hybrid());
    assert_eq!(info.total_len(), 40_000);
}

#[test]
fn what_is_no_torrent_file_is_told_what_it_is() {
    let problem = |data: &[u8]| Torrent::parse(data).unwrap_err().problem;
    assert_eq!(problem(b" <!DOCTYPE html>"), Problem::WebPage);
    assert_eq!(problem(&[0x1f, 0x8b, 8]), Problem::Compressed);
    assert_eq!(problem(b"magnet:?xt="), Problem::MagnetLink);
    assert_eq!(problem(b""), Problem::Bencode(bencode::Fault::Truncated));
    assert_eq!(problem(b"i1e"), Problem::Bencode(bencode::Fault::NotDict));
    assert_eq!(problem(b"de"), Problem::Missing);
    assert_eq!(problem(b"d4:infoi1ee"), Problem::WrongType("a dictionary"));
    let whole = torrent(&single(&[]));
    let e = Torrent::parse(&whole[..whole.len() / 2]).unwrap_err();
    assert_eq!(e.problem, Problem::Bencode(bencode::Fault::Truncated));
    let huge = vec![0; MAX_TORRENT_LEN + 1];
    assert_eq!(problem(&huge), Problem::TooLong(MAX_TORRENT_LEN + 1));
}

#[test]
fn every_violation_says_where() {
    let with = |key: &str, value: &[u8]| {
        let hashes = s([7; 60]);
        let own: [(&str, &[u8]); 4] = [
            ("length", b"i40000e"),
            ("name", b"8:file.bin"),
            ("piece length", b"i16384e"),
            ("pieces", &hashes),
        ];
        let changed = own.map(|(k, v)| (k, if k == key { value } else { v }));
        let kept: Vec<_> = changed.into_iter().filter(|(_, v)| !v.is_empty()).collect();
        refusal(d(&kept))
    };
    use Place::Info as In;
    for key in ["length", "name", "piece length", "pieces"] {
        assert_eq!(with(key, b"").1, Problem::Missing);
    }
    assert_eq!(
        with("length", b"i-1e"),
        (In("length"), Problem::NegativeLen)
    );
    assert_eq!(
        with("length", b"1:1"),
        (In("length"), Problem::WrongType("an integer"))
    );
    assert_eq!(with("length", b"i0e"), (In("length"), Problem::NoData));
    let over = format!("i{}e", 1u64 << 63);
    assert_eq!(
        with("length", over.as_bytes()),
        (In("length"), Problem::TotalTooLarge)
    );
    let many = Problem::TooManyPieces((1 << 40) / 16384);
    assert_eq!(with("length", b"i1099511627776e"), (In("length"), many));
    for len in [0, (1 << 30) + 1, u64::MAX] {
        let found = with("piece length", format!("i{len}e").as_bytes());
        assert_eq!(found, (In("piece length"), Problem::PieceLen(len)));
    }
    assert_eq!(
        with("pieces", &s([7; 61])),
        (In("pieces"), Problem::RaggedHashes(61))
    );
    let count = |found| Problem::HashCount { found, pieces: 3 };
    assert_eq!(with("pieces", &s([7; 40])), (In("pieces"), count(2)));
    assert_eq!(with("pieces", &s([7; 80])), (In("pieces"), count(4)));

    let good = entry(1, &["a"]);
    let deep = vec!["a"; MAX_PATH_DEPTH + 1];
    let cases: [(&[u8], &str, Problem); 6] = [
        (b"i1e", "", Problem::WrongType("a dictionary")),
        (b"d6:lengthi1ee", "path", Problem::Missing),
        (b"d4:pathl1:aee", "length", Problem::Missing),
        (&entry(1, &[]), "path", Problem::EmptyPath),
        (&entry(1, &[]), "path", Problem::EmptyPath),
        (&entry(1, &deep), "path", Problem::PathTooDeep(deep.len())),
    ];
    for (bad, key, problem) in cases {
        let found = refusal(folder(&[&good, bad], 1));
        assert_eq!(found, (Place::File(1, key), problem));
    }
    assert_eq!(refusal(folder(&[], 1)), (In("files"), Problem::NoFiles));
    let half = entry(1 << 62, &["a"]);
    assert_eq!(
        refusal(folder(&[&half, &half], 1)),
        (In("files"), Problem::TotalTooLarge)
    );
}

#[test]
fn an_error_is_a_sentence_with_a_place() {
    let data = torrent(&folder(
        &[&entry(1, &["a"]), b"d6:lengthi-5e4:pathl1:bee"],
        1,
    ));
    let e = Torrent::parse(&data).unwrap_err();
    assert_eq!(
        e.to_string(),
        "the length is negative (info.files[1].length, byte 78); the program that made this \
         torrent is faulty: look for another one"
    );
    assert_eq!(&data[e.at.unwrap()..][..4], b"i-5e");
}

#[test]
fn metadata_from_peers_must_have_the_hash() {
    let raw = single(&[]);
    let hash = InfoHash(sha1(&raw));
    assert_eq!(
        Info::from_metadata(raw.clone(), hash).unwrap().info_hash(),
        hash
    );
    let e = Info::from_metadata(raw, InfoHash([1; 20])).unwrap_err();
    assert_eq!(e.problem, Problem::WrongHash(hash));
}

#[test]
fn metadata_ends_where_its_hash_ends() {
    let raw = [&single(&[])[..], b"x"].concat();
    let e = Info::from_metadata(raw.clone(), InfoHash(sha1(&raw))).unwrap_err();
    assert_eq!(
        (e.at, e.problem),
        (Some(raw.len() - 1), Problem::TrailingBytes)
    );
}

/// The paths of a folder of these entries.
fn paths(files: &[&[u8]], pieces: usize) -> Vec<String> {
    let info = Info::from_raw(folder(files, pieces)).unwrap();
    info.files().iter().map(|f| f.path.join("/")).collect()
}

#[test]
fn path_elements_that_name_nothing_are_left_out() {
    let found = paths(
        &[
            &entry(1, &["", "a"]),
            &entry(1, &["d", "", ".", "b"]),
            &entry(1, &["d", "c", ""]),
            &entry(1, &[""]),
            &entry(1, &["..", "e/f", "g\0h"]),
        ],
        1,
    );
    assert_eq!(found, ["a", "d/b", "d/c", "_", "__/e_f/g_h"]);
    // They do not count against the depth of a path.
    let mut long = vec![""; 1000];
    long.push("x");
    assert_eq!(paths(&[&entry(1, &long)], 1), ["x"]);
}

#[test]
fn an_entry_that_stands_for_an_empty_folder_is_never_written() {
    let info = folder(&[&entry(0, &["d", ""]), &entry(7, &["d", "a"])], 1);
    let info = Info::from_raw(info).unwrap();
    let kinds: Vec<_> = info.files().iter().map(|f| f.kind.clone()).collect();
    assert_eq!(kinds, [FileKind::Padding, FileKind::Regular]);
}

#[test]
fn a_torrent_without_a_name_is_named_by_its_hash() {
    for name in ["0:", "1:."] {
        let raw = d(&[
            ("length", b"i1e"),
            ("name", name.as_bytes()),
            ("piece length", b"i16384e"),
            ("pieces", &s([7; 20])),
        ]);
        let info = Info::from_raw(raw).unwrap();
        let hash = info.info_hash().to_string();
        assert_eq!((info.name(), &info.files()[0].path[0]), (&hash[..], &hash));
    }
}

#[test]
fn padding_needs_no_path() {
    let pad = |path: &[u8]| [&b"d4:attr1:p6:lengthi12768e"[..], path, b"e"].concat();
    for path in [&b""[..], b"4:pathle", b"4:path1:x"] {
        let info = folder(&[&entry(20_000, &["a"]), &pad(path), &entry(1, &["b"])], 3);
        let info = Info::from_raw(info).unwrap();
        let padding = &info.files()[1];
        assert_eq!(padding.kind, FileKind::Padding);
        assert_eq!(
            (padding.path.join("/"), padding.len),
            (".pad/12768".into(), 12_768)
        );
    }
}

#[test]
fn a_link_has_bytes_only_if_the_hashes_are_of_them_too() {
    let link = b"d4:attr1:l6:lengthi20000e4:pathl1:le12:symlink pathl1:aee";
    for (pieces, kind, len) in [
        (3, FileKind::Symlink(vec!["a".into()]), 0),
        (4, FileKind::Regular, 20_000),
    ] {
        let info = folder(&[&entry(40_000, &["a"]), link], pieces);
        let info = Info::from_raw(info).unwrap();
        let file = &info.files()[1];
        assert_eq!((&file.kind, file.len), (&kind, len));
    }
    let count = Problem::HashCount {
        found: 5,
        pieces: 4,
    };
    let found = refusal(folder(&[&entry(40_000, &["a"]), link], 5));
    assert_eq!(found, (Place::Info("pieces"), count));
}

#[test]
fn a_single_file_is_a_file_whatever_its_attributes_say() {
    for attr in [b"1:p", b"1:l"] {
        let info = Info::from_raw(single(&[("attr", attr)])).unwrap();
        assert_eq!(info.files()[0].kind, FileKind::Regular);
        assert_eq!(info.total_len(), 40_000);
    }
}

#[test]
fn a_number_that_nobody_needs_may_be_any() {
    let big = b"i99999999999999999999999e";
    let info = Info::from_raw(single(&[("xyz", big), ("private", big)])).unwrap();
    assert!(info.private(), "it is not zero");
    let data = d(&[("creation date", big), ("info", &single(&[]))]);
    assert_eq!(Torrent::parse(&data).unwrap().creation_date, None);
    let length = d(&[
        ("length", big),
        ("name", b"1:a"),
        ("piece length", b"i16384e"),
        ("pieces", &s([7; 20])),
    ]);
    let wrong = Problem::WrongType("an integer");
    assert_eq!(refusal(length), (Place::Info("length"), wrong));
}

#[test]
fn names_are_read_in_the_encoding_that_the_torrent_declares() {
    let plain = |name: &[u8]| l(&[&s(name)]);
    let file = |path: &[u8], more: &[u8]| [&b"d6:lengthi1e4:path"[..], path, more, b"e"].concat();
    let info = folder(
        &[
            &file(&plain(b"\xb1\xf0\xb5\xc4.avi"), b""),
            &file(
                &plain(b"\xb1\xf0"),
                &[&s("path.utf-8")[..], &l(&[&s("日本")])].concat(),
            ),
            &file(&plain("日本".as_bytes()), b""),
        ],
        1,
    );
    let names = |torrent: &Torrent| -> Vec<String> {
        torrent
            .info
            .files()
            .iter()
            .map(|f| f.path[0].clone())
            .collect()
    };
    let data = d(&[
        ("comment", &s(b"\xb1\xf0")),
        ("encoding", b"3:GBK"),
        ("info", &info),
    ]);
    let gbk = Torrent::parse(&data).unwrap();
    assert_eq!(names(&gbk), ["别的.avi", "日本", "日本"]);
    assert_eq!(gbk.comment.as_deref(), Some("别"));
    // A session that keeps it reads the same names.
    assert_eq!(Torrent::parse(&gbk.to_bytes()).unwrap(), gbk);
    let undeclared = Torrent::parse(&d(&[("info", &info)])).unwrap();
    assert_eq!(names(&undeclared), ["±ðµÄ.avi", "日本", "日本"]);
    assert_eq!(undeclared.info.info_hash(), gbk.info.info_hash());
}
