//! Magnet links.

use dunlin_core::metainfo::Magnet;

use super::{Area, Shape};

const HEX: &str = "0123456789abcdef0123456789abcdef01234567";
const BASE32: &str = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH";

pub(super) fn shapes() -> Vec<Shape> {
    let xt = format!("xt=urn:btih:{HEX}");
    let rows: Vec<(&str, String, &str, &str)> = vec![
        (
            "a hash of 40 digits",
            format!("magnet:?{xt}"),
            "accepts",
            "",
        ),
        (
            "a hash in base32",
            format!("magnet:?xt=urn:btih:{BASE32}"),
            "accepts",
            "",
        ),
        (
            "a hash in lower-case base32",
            format!("magnet:?xt=urn:btih:{}", BASE32.to_lowercase()),
            "accepts",
            "",
        ),
        (
            "a hash of 39 digits",
            format!("magnet:?{}", &xt[..xt.len() - 1]),
            "refuses",
            "",
        ),
        (
            "a hash with a digit that is not one",
            format!("magnet:?{}g", &xt[..xt.len() - 1]),
            "refuses",
            "unsafe: it would be the hash of another torrent",
        ),
        (
            "a scheme in capitals",
            format!("MAGNET:?{xt}"),
            "accepts",
            "a scheme has no case (RFC 3986)",
        ),
        (
            "keys in capitals",
            format!("magnet:?XT=urn:btih:{HEX}"),
            "accepts",
            "it cannot mean anything else",
        ),
        (
            "`urn:btih` in capitals",
            format!("magnet:?xt=URN:BTIH:{HEX}"),
            "accepts",
            "the kind of a URN has no case (RFC 8141)",
        ),
        (
            "`magnet:///?`",
            format!("magnet:///?{xt}"),
            "accepts",
            "it cannot mean anything else",
        ),
        (
            "`magnet:` without `?`",
            format!("magnet:{xt}"),
            "refuses",
            "",
        ),
        (
            "`&amp;` for `&`",
            format!("magnet:?dn=a&amp;{xt}"),
            "accepts",
            "links copied out of the source of a page have it",
        ),
        (
            "`xt.1` for `xt`",
            format!("magnet:?xt.1=urn:btih:{HEX}"),
            "accepts",
            "programs number what occurs more than once",
        ),
        (
            "the hash percent-encoded",
            format!("magnet:?xt=urn%3Abtih%3A{HEX}"),
            "accepts",
            "any character of a URI may be encoded (RFC 3986)",
        ),
        (
            "the hash not first",
            format!("magnet:?dn=a&tr=http://t/&{xt}"),
            "accepts",
            "",
        ),
        (
            "two hashes",
            format!("magnet:?{xt}&xt=urn:btih:{BASE32}"),
            "accepts",
            "",
        ),
        (
            "another kind of hash first",
            format!("magnet:?xt=urn:sha1:AAAA&{xt}"),
            "accepts",
            "",
        ),
        ("no hash", "magnet:?dn=a".into(), "refuses", ""),
        (
            "a v2 hash alone",
            format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32)),
            "refuses",
            "v2 alone is not supported yet",
        ),
        (
            "a `so=` that is not a list",
            format!("magnet:?{xt}&so=x-y"),
            "accepts, with a warning",
            "",
        ),
        (
            "a name that is not UTF-8",
            format!("magnet:?{xt}&dn=caf%E9"),
            "accepts",
            "",
        ),
        (
            "a name with a broken escape",
            format!("magnet:?{xt}&dn=100%"),
            "accepts",
            "",
        ),
        (
            "a tracker that is not a URL",
            format!("magnet:?{xt}&tr=nonsense"),
            "accepts",
            "",
        ),
        (
            "a peer without a port",
            format!("magnet:?{xt}&x.pe=10.0.0.1"),
            "accepts",
            "",
        ),
        (
            "parameters without values",
            format!("magnet:?&&dn&tr=&{xt}&"),
            "accepts",
            "",
        ),
        (
            "blanks around",
            format!("  magnet:?{xt} \n"),
            "accepts",
            "it cannot mean anything else",
        ),
        (
            "quotes around",
            format!("\"magnet:?{xt}\""),
            "accepts",
            "it cannot mean anything else",
        ),
    ];
    let shape = |(name, link, dunlin, why): (_, String, _, _)| Shape {
        area: Area::Magnet,
        name,
        bytes: link.into_bytes(),
        dunlin,
        why,
    };
    rows.into_iter().map(shape).collect()
}

pub(super) fn verdict(bytes: &[u8]) -> String {
    let link = std::str::from_utf8(bytes).unwrap();
    match Magnet::read(link) {
        Ok((_, warnings)) if warnings.is_empty() => "accepts".into(),
        Ok(_) => "accepts, with a warning".into(),
        Err(_) => "refuses".into(),
    }
}
