//! Names in torrents: from bytes that should be UTF-8 to text that is the same on a disk, on a
//! screen and in JSON.
//!
//! ```text
//! bytes ──UTF-8? │ declared encoding │ damaged UTF-8 │ windows-1252──▶ text ──▶ no separators, no
//!                                                                control characters
//! ```

use alloc::{
    borrow::{Cow, ToOwned},
    string::String,
    vec::Vec,
};

use encoding_rs::{
    BIG5, EUC_KR, Encoding, GBK, REPLACEMENT, SHIFT_JIS, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252,
    X_USER_DEFINED,
};

use super::{MAX_PATH_DEPTH, Problem};
use crate::wire::bencode::{List, Value};

/// Names of code pages that the Encoding Standard does not list, as Windows programs write them.
const CODE_PAGES: [(&str, &Encoding); 8] = [
    ("cp936", GBK),
    ("cp932", SHIFT_JIS),
    ("ms932", SHIFT_JIS),
    ("cp949", EUC_KR),
    ("ms949", EUC_KR),
    ("uhc", EUC_KR),
    ("cp950", BIG5),
    ("ms950", BIG5),
];

/// How the names of one torrent are encoded if they are not UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Charset {
    declared: Option<&'static Encoding>,
    /// Some name is not UTF-8, so that one of which every character could also be two of the
    /// declared encoding is not taken for UTF-8.
    foreign: bool,
}

impl Charset {
    /// The encoding that a torrent file declares (`encoding`), if it is known and not UTF-8.
    pub(super) fn declared(label: Option<&str>) -> Self {
        let label = label.unwrap_or_default().trim();
        let listed =
            |(name, encoding): &(&str, _)| name.eq_ignore_ascii_case(label).then_some(*encoding);
        let declared = Encoding::for_label(label.as_bytes())
            .or_else(|| CODE_PAGES.iter().find_map(listed))
            // No file name is UTF-16 without its zero bytes being noticed; the others are no
            // encodings of text.
            .filter(|e| ![UTF_8, UTF_16LE, UTF_16BE, REPLACEMENT, X_USER_DEFINED].contains(e));
        Self {
            declared,
            foreign: false,
        }
    }

    /// The same for a torrent with these names.
    pub(super) fn of<'a>(self, mut names: impl Iterator<Item = &'a [u8]>) -> Self {
        let foreign = self.declared.is_some_and(|e| !e.is_single_byte())
            && names.any(|name| core::str::from_utf8(name).is_err());
        Self { foreign, ..self }
    }

    /// Text of any kind.
    pub(super) fn text(self, bytes: &[u8]) -> String {
        match core::str::from_utf8(bytes) {
            Ok(text) if !(self.foreign && is_ambiguous(text)) => return text.into(),
            _ => {}
        }
        if let Some(encoding) = self.declared {
            return encoding.decode_without_bom_handling(bytes).0.into_owned();
        }
        if is_damaged_utf8(bytes) {
            return String::from_utf8_lossy(bytes).into_owned();
        }
        // What old Windows programs wrote; it keeps different names different.
        WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned()
    }

    /// The name of a file or folder; empty if there is nothing that could be one.
    pub(super) fn name(self, bytes: &[u8]) -> String {
        plain(&self.text(bytes)).into_owned()
    }

    /// A path of at least one element. Elements that name nothing are left out, as libtorrent and
    /// Transmission do; a path of nothing else has one element, `_`.
    pub(super) fn path(self, path: &List<'_>) -> Result<Vec<String>, Problem> {
        if path.is_empty() {
            return Err(Problem::EmptyPath);
        }
        let mut out = Vec::new();
        for element in path.iter() {
            let name = element.bytes().ok_or(Problem::WrongType("a string"))?;
            let name = self.name(name);
            if name.is_empty() {
                continue;
            }
            if out.len() == MAX_PATH_DEPTH {
                return Err(Problem::PathTooDeep(path.iter().count()));
            }
            out.push(name);
        }
        if out.is_empty() {
            out.push("_".to_owned());
        }
        Ok(out)
    }
}

/// A name that a path may have everywhere: without separators, control characters and the marks
/// that turn the direction of writing, which hide what a name ends in. `.` is empty and `..` is
/// `__`.
fn plain(name: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || c == '/'
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    match name {
        "." => Cow::Borrowed(""),
        ".." => Cow::Borrowed("__"),
        _ if name.contains(bad) => Cow::Owned(name.replace(bad, "_")),
        _ => Cow::Borrowed(name),
    }
}

/// Whether a list names a path in UTF-8.
pub(super) fn is_unicode(path: &List<'_>) -> bool {
    let named = |v: Value<'_>| v.str().map(|s| !plain(s).is_empty());
    // Every element is text, and some element names something.
    path.iter().all(|v| named(v).is_some()) && path.iter().any(|v| named(v) == Some(true))
}

/// Whether UTF-8 has characters of two bytes only: in East Asian encodings those are characters
/// too.
fn is_ambiguous(text: &str) -> bool {
    !text.is_ascii() && text.chars().all(|c| c.len_utf8() <= 2)
}

/// Whether most of what is not ASCII is UTF-8: a name that was cut in the middle of a character.
fn is_damaged_utf8(bytes: &[u8]) -> bool {
    let (mut sound, mut broken) = (0usize, 0usize);
    for chunk in bytes.utf8_chunks() {
        sound += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        broken += usize::from(!chunk.invalid().is_empty());
    }
    sound > broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;

    fn name(label: &str, bytes: &[u8]) -> String {
        let charset = Charset::declared(Some(label));
        charset.of([bytes].into_iter()).name(bytes)
    }

    #[test]
    fn names_are_read_in_the_encoding_that_is_declared() {
        for (label, text) in [
            ("GBK", "中文字幕.avi"),
            ("gb2312", "歌"),
            (" CP936 ", "联通"),
            ("GB18030", "𠀀.avi"),
            ("Shift_JIS", "別の世界.avi"),
            ("ms932", "ﾂｱ 表"),
            ("Big5", "許功蓋"),
            ("EUC-KR", "한글.txt"),
            ("euc-jp", "日本"),
            ("windows-1251", "Чужой.mkv"),
            ("KOI8-R", "Чужой.mkv"),
            ("ISO-8859-1", "gioventù.avi"),
            ("iso-8859-2", "Zażółć"),
        ] {
            let label_only = label.trim();
            let encoding = Charset::declared(Some(label_only)).declared.unwrap();
            let (bytes, _, lossy) = encoding.encode(text);
            assert!(!lossy, "{label}");
            assert_eq!(name(label, &bytes), text, "{label}");
            assert_eq!(
                name(label, text.as_bytes()),
                text,
                "{label} declared, UTF-8 given"
            );
        }
    }

    #[test]
    fn an_ambiguous_name_is_read_as_the_others_of_its_torrent() {
        // This is UTF-8, and GBK.
        let bytes = [0xc2, 0xb7, 0xc2, 0xb7];
        let gbk = Charset::declared(Some("gbk"));
        assert_eq!(gbk.name(&bytes), "··");
        let others: [&[u8]; 2] = [&bytes, b"\xd6\xd0\xce\xc4"];
        let of = gbk.of(others.into_iter());
        assert_eq!(of.name(&bytes), "路路");
        assert_eq!(of.name(b"\xd6\xd0\xce\xc4"), "中文");
        assert_eq!(of.name("日本".as_bytes()), "日本");
    }

    #[test]
    fn without_an_encoding_names_stay_apart_and_damaged_utf8_stays_legible() {
        for label in ["", "UTF-8", "nonsense", "utf-16le", "replacement"] {
            assert_eq!(name(label, b"caf\xe9"), "café");
            assert_eq!(name(label, b"caf\xe8 \x80\x95"), "cafè €•");
            let cut = &"日本語の長い名前".as_bytes()[..10];
            assert_eq!(name(label, cut), "日本語\u{fffd}");
        }
        // A character of the declared encoding that is cut.
        assert_eq!(name("gbk", b"\xd6\xd0\xce"), "中\u{fffd}");
    }

    #[test]
    fn what_no_name_can_have_is_replaced_once_and_for_all() {
        for (bytes, text) in [
            (&b"a/b\0c\x1b[2J"[..], "a_b_c_[2J"),
            (b"..", "__"),
            (b".", ""),
            (b"", ""),
            (b"...", "..."),
            ("gpj\u{202e}.exe".as_bytes(), "gpj_.exe"),
            // Undefined in windows-1252, where it is a control character.
            (b"\xe9\x81", "é_"),
        ] {
            assert_eq!(name("", bytes), text);
        }
    }

    quickcheck! {
        fn names_have_nothing_that_steers_a_terminal_or_leaves_a_folder(bytes: Vec<u8>, label: u8) -> bool {
            const LABELS: [&str; 6] = ["", "gbk", "shift_jis", "iso-2022-jp", "windows-1251", "big5"];
            let name = name(LABELS[usize::from(label) % LABELS.len()], &bytes);
            !name.contains(|c: char| c.is_control() || c == '/') && name != "." && name != ".."
                && plain(&name) == name.as_str()
        }
    }
}
