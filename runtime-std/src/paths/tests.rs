use std::{collections::HashSet, path::Component};

use quickcheck::{Arbitrary, Gen, TestResult, quickcheck};

use super::*;

fn map(files: &[&str], names: Names) -> Vec<String> {
    let files: Vec<Vec<&str>> = files.iter().map(|f| f.split('/').collect()).collect();
    safe_paths(files.iter().map(Vec::as_slice), names)
        .into_iter()
        .map(|p| p.to_str().unwrap().replace('\\', "/"))
        .collect()
}

#[test]
fn ways_out_of_the_folder_are_closed() {
    assert_eq!(
        map(
            &["../../etc/passwd", "/etc/x", "a/./b//c", ".."],
            Names::Unix
        ),
        ["__/__/etc/passwd", "etc/x", "a/b/c", "__ (2)"]
    );
    assert_eq!(
        safe_name("a/b\0c\x1b[2J", Names::Unix).unwrap(),
        "a_b_c_[2J"
    );
    assert_eq!(
        safe_name("gpj\u{202e}.exe", Names::Unix).unwrap(),
        "gpj_.exe"
    );
    assert_eq!(map(&[""], Names::Unix), ["_"]);
}

#[test]
fn windows_rules_apply_to_windows_only() {
    for (name, windows) in [
        ("con", "_con"),
        ("Com1.txt", "_Com1.txt"),
        ("lpt²", "_lpt²"),
        ("console", "console"),
        ("a:b?", "a_b_"),
        ("dir.", "dir_"),
        ("c:\\x", "c__x"),
    ] {
        assert_eq!(safe_name(name, Names::Windows).unwrap(), windows);
        assert_eq!(safe_name(name, Names::Unix).unwrap(), name);
    }
}

#[test]
fn clashes_are_numbered_and_case_counts_where_it_counts() {
    assert_eq!(
        map(&["a.txt", "a.txt", "a (2).txt", "A.txt"], Names::Unix),
        ["a.txt", "a (2).txt", "a (2) (2).txt", "A.txt"]
    );
    assert_eq!(
        map(&["D/a", "d/A", "d"], Names::Windows),
        ["D/a", "D/A (2)", "d (2)"]
    );
    // A file where another file needs a folder of this name.
    assert_eq!(
        map(&["x", "x/y", "x/z"], Names::Unix),
        ["x", "x (2)/y", "x (2)/z"]
    );
}

#[test]
fn long_names_are_cut_and_stay_distinct_with_their_extension() {
    let (a, b) = ("ä".repeat(200) + "1.flac", "ä".repeat(200) + "2.flac");
    let [a, b] = [a, b].map(|n| safe_name(&n, Names::Unix).unwrap());
    assert!(a.len() <= MAX_NAME && a.len() > MAX_NAME - 4);
    assert!(a.ends_with(".flac") && b.ends_with(".flac") && a != b);
    let deep = "d/".repeat(500) + "f.bin";
    let [flat] = map(&[&deep], Names::Unix).try_into().unwrap();
    assert!(!flat.contains('/') && flat.ends_with(".bin"));
}

#[test]
fn many_equal_names_take_linear_time() {
    let files = vec![["same"].as_slice(); 50_000];
    let paths = safe_paths(files, Names::Unix);
    assert_eq!(paths.iter().collect::<HashSet<_>>().len(), 50_000);
}

/// The info dictionary of one piece with these entries, each with its length.
fn info(entries: &[&str]) -> Info {
    let mut raw = format!("d5:filesl{}e4:name1:t", entries.concat());
    raw.push_str("12:piece lengthi16384e6:pieces20:01234567890123456789e");
    Info::from_raw(raw.into_bytes()).unwrap()
}

#[test]
fn what_is_never_made_takes_no_name() {
    let info = info(&[
        "d4:attr1:l6:lengthi0e4:pathl1:ae12:symlink pathl4:goneee",
        "d4:attr1:p6:lengthi1e4:pathl1:bee",
        "d6:lengthi0e4:pathl1:d0:ee",
        "d6:lengthi1e4:pathl1:aee",
        "d6:lengthi1e4:pathl1:bee",
        "d6:lengthi1e4:pathl1:d1:xee",
        "d4:attr1:l6:lengthi0e4:pathl1:xe12:symlink pathl1:aee",
        "d6:lengthi1e4:pathl1:xee",
    ]);
    let paths = layout(&info, None, Names::Unix);
    let paths: Vec<&str> = paths.iter().map(|p| p.to_str().unwrap()).collect();
    let made = ["t/a", "t/b", "t/d/x", "t/x", "t/x (2)"];
    assert_eq!(paths[3..], made);
    assert!(
        paths[..3].iter().all(|path| !made.contains(path)),
        "{paths:?}"
    );
}

#[test]
fn names_reach_the_disk_as_they_are_shown() {
    let mut bytes: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b'a', b, b'z']).collect();
    bytes.extend(["..", "\u{202e}x", "\u{85}", "caf\u{e9}"].map(|s| s.as_bytes().to_vec()));
    for name in bytes {
        let mut raw = format!("d6:lengthi1e4:name{}:", name.len()).into_bytes();
        raw.extend(&name);
        raw.extend(b"12:piece lengthi16384e6:pieces20:01234567890123456789e");
        let info = Info::from_raw(raw).unwrap();
        let [path] = &layout(&info, None, Names::Unix)[..] else {
            panic!();
        };
        assert_eq!(path.to_str(), Some(info.name()));
        assert_eq!(info.files()[0].path, [info.name()]);
    }
}

/// Names that are likely to cause trouble.
#[derive(Clone, Debug)]
struct Nasty(String);

impl Arbitrary for Nasty {
    fn arbitrary(g: &mut Gen) -> Self {
        const BITS: [&str; 22] = [
            "", ".", "..", "/", "\\", "a", "A", "b", " ", ".txt", " (2)", "con", "NUL", ":", "\0",
            "\u{202e}", "ß", "İ", "x", "com1", "_", "-",
        ];
        let mut name: String = (0..u8::arbitrary(g) % 4)
            .map(|_| *g.choose(&BITS).unwrap_or(&""))
            .collect();
        if u8::arbitrary(g) % 16 == 0 {
            name = name.repeat(usize::from(u8::arbitrary(g))) + &String::arbitrary(g);
        }
        Self(name)
    }
}

impl AsRef<str> for Nasty {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn names(windows: bool) -> Names {
    if windows { Names::Windows } else { Names::Unix }
}

#[test]
fn what_is_wrong_with_a_path_is_named() {
    let path = |path: &str| path.split('/').map(String::from).collect::<Vec<_>>();
    let deep = |folders: usize| path(&("d/".repeat(folders) + "file"));
    let (unix, windows) = (Names::Unix, Names::Windows);
    for (path, names, wrong, says) in [
        (path("a/b"), unix, None, ""),
        (
            path("a/x\ny"),
            unix,
            Some(Unfit::Character('\n')),
            "U+000A (line break)",
        ),
        (
            path("a\tb/c"),
            unix,
            Some(Unfit::Character('\t')),
            "U+0009 (tab)",
        ),
        (
            path("x\u{1b}[2J"),
            unix,
            Some(Unfit::Character('\u{1b}')),
            "U+001B (escape)",
        ),
        (
            path("x\u{202e}gpj"),
            unix,
            Some(Unfit::Character('\u{202e}')),
            "U+202E",
        ),
        (path("a:b"), unix, None, ""),
        (path("a:b"), windows, Some(Unfit::Character(':')), "a `:`"),
        (
            path("con.txt"),
            windows,
            Some(Unfit::Reserved("con.txt".into())),
            "`con.txt`",
        ),
        (deep(31), unix, None, ""),
        (deep(32), unix, Some(Unfit::Deep(31)), "at most 31 folders"),
        (
            path(&"x".repeat(256)),
            unix,
            Some(Unfit::Long(255)),
            "at most 255 bytes",
        ),
        (
            vec!["x".repeat(200); 4],
            unix,
            Some(Unfit::Long(768)),
            "at most 768 bytes",
        ),
    ] {
        // It agrees with `safe_paths`.
        let saved = safe_paths([path.as_slice()], names);
        let changed = saved[0] != path.iter().collect::<PathBuf>();
        assert_eq!(changed, wrong.is_some(), "{path:?}");
        let found = unfit(&path, names);
        let shown = found.as_ref().map_or_else(String::new, ToString::to_string);
        assert!(shown.contains(says), "{shown}");
        assert_eq!(found, wrong, "{path:?}");
    }
}

quickcheck! {
    fn nothing_escapes_and_everything_is_unique(files: Vec<Vec<Nasty>>, windows: bool) -> bool {
        let names = names(windows);
        let paths = safe_paths(files.iter().map(Vec::as_slice), names);
        let mut seen = HashSet::new();
        let mut folders = HashSet::new();
        for path in &paths {
            let plain = path.components().all(|c| match c {
                Component::Normal(n) => n.len() <= MAX_NAME && n.to_str().is_some_and(|n| {
                    safe_name(n, names).as_deref() == Some(n)
                }),
                _ => false,
            });
            let key = names.key(path.to_str().unwrap());
            folders.extend(path.ancestors().skip(1).map(|p| names.key(p.to_str().unwrap())));
            if !plain || path.as_os_str().is_empty() || !seen.insert(key) {
                return false;
            }
        }
        seen.is_disjoint(&folders) && paths.len() == files.len()
    }

    fn results_map_to_themselves(files: Vec<Vec<Nasty>>, windows: bool) -> TestResult {
        let names = names(windows);
        let once = safe_paths(files.iter().map(Vec::as_slice), names);
        let split: Vec<Vec<String>> = once
            .iter()
            .map(|p| p.iter().map(|c| c.to_str().unwrap().to_owned()).collect())
            .collect();
        let twice = safe_paths(split.iter().map(Vec::as_slice), names);
        TestResult::from_bool(once == twice)
    }
}
