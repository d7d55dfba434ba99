//! Torrent files.

use dunlin_core::hash::sha1;
use dunlin_core::metainfo::{FileKind, Torrent};

use super::bencode::{B, l, s};
use super::{Area, Shape};

/// Bytes of the content.
const LEN: u64 = 40_000;
const BIG: B = B::Int("99999999999999999999999");
/// Why links count as they do.
const LINKS: &str = "a symbolic link has no bytes (BEP 47) unless the hashes are of them too";

/// The hashes of the first `len` bytes, in pieces of 16 KiB.
fn hashes(len: u64) -> Vec<u8> {
    let data: Vec<u8> = (0..len as u32).map(|i| (i >> 3) as u8).collect();
    data.chunks(16_384).flat_map(sha1).collect()
}

/// An entry of `files`.
fn file(len: u64, path: &[&[u8]]) -> B {
    B::Dict(vec![("length", B::Num(len)), ("path", l(path))])
}

/// An entry of `files` with other keys.
fn entry(keys: &[(&'static str, B)]) -> B {
    B::Dict(keys.to_vec())
}

/// The keys of an info dictionary.
fn folder(files: Vec<B>) -> Vec<(&'static str, B)> {
    vec![
        ("files", B::List(files)),
        ("name", s("n")),
        ("piece length", B::Num(16_384)),
        ("pieces", s(hashes(LEN))),
    ]
}

fn single() -> Vec<(&'static str, B)> {
    vec![
        ("length", B::Num(LEN)),
        ("name", s("n")),
        ("piece length", B::Num(16_384)),
        ("pieces", s(hashes(LEN))),
    ]
}

/// The same with a key of another value, or without it.
fn with(
    mut keys: Vec<(&'static str, B)>,
    key: &'static str,
    value: Option<B>,
) -> Vec<(&'static str, B)> {
    keys.retain(|(k, _)| *k != key);
    if let Some(value) = value {
        let at = keys.partition_point(|(k, _)| *k < key);
        keys.insert(at, (key, value));
    }
    keys
}

fn torrent(info: Vec<(&'static str, B)>) -> Vec<u8> {
    B::Dict(vec![("info", B::Dict(info))]).bytes()
}

fn link(len: Option<u64>, target: &[&[u8]]) -> B {
    let mut keys = vec![("attr", s("l"))];
    keys.extend(len.map(|len| ("length", B::Num(len))));
    keys.push(("path", l(&[b"l"])));
    if !target.is_empty() {
        keys.push(("symlink path", l(target)));
    }
    B::Dict(keys)
}

pub(super) fn shapes() -> Vec<Shape> {
    let all = [
        all_paths(),
        all_names(),
        all_links(),
        all_numbers(),
        all_others(),
    ];
    let shape = |(name, bytes, dunlin, why)| Shape {
        area: Area::Torrent,
        name,
        bytes,
        dunlin,
        why,
    };
    all.into_iter().flatten().map(shape).collect()
}

type Row = (&'static str, Vec<u8>, &'static str, &'static str);

fn all_paths() -> Vec<Row> {
    let a = || file(LEN, &[b"a"]);
    vec![
        (
            "a path with an empty element before its name",
            torrent(folder(vec![file(LEN, &[b"", b"a"])])),
            "accepts: a",
            "",
        ),
        (
            "a path with an empty element in the middle",
            torrent(folder(vec![file(LEN, &[b"d", b"", b"a"])])),
            "accepts: d/a",
            "",
        ),
        (
            "a path that ends in an empty element",
            torrent(folder(vec![file(LEN, &[b"d", b""])])),
            "accepts: d",
            "",
        ),
        (
            "an empty folder as BitComet marks it",
            torrent(folder(vec![a(), file(0, &[b"d", b""])])),
            "accepts: a, (d)",
            "",
        ),
        (
            "a marked folder that has files",
            torrent(folder(vec![
                file(0, &[b"d", b""]),
                file(LEN, &[b"d", b"a"]),
            ])),
            "accepts: (d), d/a",
            "",
        ),
        (
            "a path of one empty element",
            torrent(folder(vec![file(LEN, &[b""])])),
            "accepts: _",
            "",
        ),
        (
            "a path of no elements",
            torrent(folder(vec![file(LEN, &[])])),
            "refuses",
            "",
        ),
        (
            "a file without a path",
            torrent(folder(vec![entry(&[("length", B::Num(LEN))])])),
            "refuses",
            "",
        ),
        (
            "a path that is a string",
            torrent(folder(vec![entry(&[
                ("length", B::Num(LEN)),
                ("path", s("a")),
            ])])),
            "refuses",
            "",
        ),
        (
            "a path element that is a number",
            torrent(folder(vec![entry(&[
                ("length", B::Num(LEN)),
                ("path", B::List(vec![B::Num(1)])),
            ])])),
            "refuses",
            "",
        ),
        (
            "path elements of dots",
            torrent(folder(vec![
                file(20_000, &[b".", b"a"]),
                file(20_000, &[b"..", b"b"]),
            ])),
            "accepts: a, __/b",
            "",
        ),
        (
            "a path element with a slash",
            torrent(folder(vec![file(LEN, &[b"../a/b"])])),
            "accepts: .._a_b",
            "",
        ),
        (
            "two files of one path",
            torrent(folder(vec![file(20_000, &[b"a"]), file(20_000, &[b"a"])])),
            "accepts: a, a",
            "",
        ),
        (
            "a file where another has a folder",
            torrent(folder(vec![
                file(20_000, &[b"a"]),
                file(20_000, &[b"a", b"b"]),
            ])),
            "accepts: a, a/b",
            "",
        ),
        ("no files", torrent(folder(vec![])), "refuses", ""),
        (
            "padding without a path",
            torrent(folder(vec![
                file(20_000, &[b"a"]),
                entry(&[("attr", s("p")), ("length", B::Num(12_768))]),
                file(7_232, &[b"b"]),
            ])),
            "accepts: a, (.pad/12768), b",
            "nobody needs a name for zeros",
        ),
        (
            "padding with a path of no elements",
            torrent(folder(vec![
                file(20_000, &[b"a"]),
                entry(&[
                    ("attr", s("p")),
                    ("length", B::Num(12_768)),
                    ("path", B::List(vec![])),
                ]),
                file(7_232, &[b"b"]),
            ])),
            "accepts: a, (.pad/12768), b",
            "",
        ),
    ]
}

fn all_names() -> Vec<Row> {
    let gbk = |encoding: Option<&str>| {
        let mut keys = vec![];
        keys.extend(encoding.map(|e| ("encoding", s(e))));
        keys.push((
            "info",
            B::Dict(folder(vec![file(LEN, &[b"\xb1\xf0\xb5\xc4"])])),
        ));
        B::Dict(keys).bytes()
    };
    let both = entry(&[
        ("length", B::Num(LEN)),
        ("path", l(&[b"\xb1\xf0"])),
        ("path.utf-8", l(&["日本".as_bytes()])),
    ]);
    vec![
        (
            "an empty name",
            torrent(with(single(), "name", Some(s("")))),
            "accepts: named by its hash",
            "the hash names it as well",
        ),
        (
            "no name",
            torrent(with(single(), "name", None)),
            "refuses",
            "",
        ),
        (
            "a name of a dot",
            torrent(with(single(), "name", Some(s(".")))),
            "accepts: named by its hash",
            "it counts as empty",
        ),
        (
            "a name with a slash",
            torrent(with(single(), "name", Some(s("a/b")))),
            "accepts: a_b",
            "",
        ),
        (
            "a name with a NUL",
            torrent(with(single(), "name", Some(s("a\0b")))),
            "accepts: a_b",
            "",
        ),
        (
            "a name with control characters",
            torrent(with(single(), "name", Some(s("a\x1b[2Jb")))),
            "accepts: a_[2Jb",
            "",
        ),
        (
            "a name in Latin-1, undeclared",
            torrent(with(single(), "name", Some(s(b"caf\xe9")))),
            "accepts: café",
            "",
        ),
        (
            "a path in GBK, declared",
            gbk(Some("GBK")),
            "accepts: 别的",
            "",
        ),
        ("a path in GBK, undeclared", gbk(None), "accepts: ±ðµÄ", ""),
        (
            "a path in GBK, an unknown encoding declared",
            gbk(Some("klingon")),
            "accepts: ±ðµÄ",
            "",
        ),
        (
            "path.utf-8 beside a path in GBK",
            torrent(folder(vec![both])),
            "accepts: 日本",
            "",
        ),
        (
            "name.utf-8 that is a list",
            torrent(with(single(), "name.utf-8", Some(l(&[b"x"])))),
            "accepts: n",
            "",
        ),
    ]
}

fn all_links() -> Vec<Row> {
    let a = |len| file(len, &[b"a"]);
    vec![
        (
            "a link",
            torrent(folder(vec![a(LEN), link(Some(0), &[b"a"])])),
            "accepts: a, l -> a",
            "",
        ),
        (
            "a link without a length",
            torrent(folder(vec![a(LEN), link(None, &[b"a"])])),
            "accepts: a, l -> a",
            LINKS,
        ),
        (
            "a link with a length that the hashes leave out",
            torrent(folder(vec![a(LEN), link(Some(30_000), &[b"a"])])),
            "accepts: a, l -> a",
            "",
        ),
        (
            "a link with a length that the hashes include",
            torrent(folder(vec![a(20_000), link(Some(20_000), &[b"a"])])),
            "accepts: a, l",
            "",
        ),
        (
            "a link without a target",
            torrent(folder(vec![a(20_000), link(Some(20_000), &[])])),
            "accepts: a, l",
            "",
        ),
        (
            "a link that leaves the torrent",
            torrent(folder(vec![
                a(LEN),
                link(Some(0), &[b"..", b"..", b"etc", b"passwd"]),
            ])),
            "accepts: a, l -> __/__/etc/passwd",
            "",
        ),
    ]
}

fn all_numbers() -> Vec<Row> {
    let odd = |value| torrent(with(single(), "foo", Some(value)));
    vec![
        (
            "a key that nobody reads beyond 64 bits",
            odd(BIG),
            "accepts: n",
            "it does no harm where nobody reads it",
        ),
        (
            "`private` beyond 64 bits",
            torrent(with(single(), "private", Some(BIG))),
            "accepts: n, private",
            "it is not zero",
        ),
        (
            "`private` that is a string",
            torrent(with(single(), "private", Some(s("1")))),
            "accepts: n",
            "",
        ),
        (
            "a length beyond 64 bits",
            torrent(with(single(), "length", Some(BIG))),
            "refuses",
            "",
        ),
        (
            "a negative length",
            torrent(with(single(), "length", Some(B::Int("-5")))),
            "refuses",
            "",
        ),
        (
            "a negative length of one file",
            torrent(folder(vec![
                file(LEN, &[b"a"]),
                entry(&[("length", B::Int("-1")), ("path", l(&[b"b"]))]),
            ])),
            "refuses",
            "unsafe: offsets would go backwards",
        ),
        (
            "an integer with a plus sign",
            odd(B::Int("+5")),
            "accepts: n",
            "",
        ),
        (
            "an integer of minus zero",
            odd(B::Int("-0")),
            "accepts: n",
            "",
        ),
        (
            "an integer with a leading zero",
            odd(B::Int("03")),
            "accepts: n",
            "",
        ),
        ("an integer of no digits", odd(B::Int("")), "accepts: n", ""),
        (
            "a string length with a leading zero",
            odd(B::Raw(b"03:abc")),
            "accepts: n",
            "",
        ),
        (
            "a piece length of zero",
            torrent(with(single(), "piece length", Some(B::Num(0)))),
            "refuses",
            "",
        ),
        (
            "a piece length that is not a power of two",
            torrent(with(single(), "piece length", Some(B::Num(16_385)))),
            "accepts: n",
            "",
        ),
    ]
}

fn all_others() -> Vec<Row> {
    let plain = || torrent(single());
    let unsorted = || {
        let mut keys = single();
        keys.reverse();
        torrent(keys)
    };
    let longer = [hashes(LEN), vec![b'x'; 20]].concat();
    vec![
        ("keys in no order", unsorted(), "accepts: n", ""),
        (
            "`files` beside `length`",
            torrent(with(
                folder(vec![file(LEN, &[b"a"])]),
                "length",
                Some(B::Num(LEN)),
            )),
            "accepts: a",
            "",
        ),
        (
            "no bytes at all",
            torrent(with(
                with(single(), "length", Some(B::Num(0))),
                "pieces",
                Some(s("")),
            )),
            "refuses",
            "",
        ),
        (
            "a hash too many",
            torrent(with(single(), "pieces", Some(s(longer)))),
            "refuses",
            "",
        ),
        (
            "a hash too few",
            torrent(with(single(), "pieces", Some(s(hashes(20_000))))),
            "refuses",
            "",
        ),
        (
            "a byte too many in the hashes",
            torrent(with(
                single(),
                "pieces",
                Some(s([hashes(LEN), vec![b'x']].concat())),
            )),
            "refuses",
            "",
        ),
        (
            "bytes after the end",
            [plain(), b"junk".to_vec()].concat(),
            "accepts: n",
            "",
        ),
        (
            "a line break before the beginning",
            [b"\n".to_vec(), plain()].concat(),
            "refuses",
            "",
        ),
        (
            "a byte order mark before the beginning",
            [b"\xef\xbb\xbf".to_vec(), plain()].concat(),
            "refuses",
            "",
        ),
        ("cut in the middle", plain()[..80].to_vec(), "refuses", ""),
    ]
}

/// The files, those that are never written in brackets, and whether the torrent is private.
pub(super) fn verdict(bytes: &[u8]) -> String {
    let Ok(torrent) = Torrent::parse(bytes) else {
        return "refuses".into();
    };
    let info = &torrent.info;
    if info.name() == info.info_hash().to_string() {
        return "accepts: named by its hash".into();
    }
    let mut files: Vec<String> = vec![];
    for file in info.files() {
        let path = file.path.join("/");
        files.push(match &file.kind {
            FileKind::Regular => path,
            FileKind::Padding => format!("({path})"),
            FileKind::Symlink(to) => format!("{path} -> {}", to.join("/")),
        });
    }
    if info.private() {
        files.push("private".into());
    }
    format!("accepts: {}", files.join(", "))
}
