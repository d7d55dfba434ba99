//! What the user may name a torrent by.

use std::path::Path;

use dunlin_tokio::{Add, Error};

/// Hexadecimal digits of an info-hash; base32 needs 32.
const HASH_DIGITS: [usize; 2] = [40, 32];

/// The torrent that `text` stands for. Files are read and URLs fetched only later.
pub(crate) fn add(text: &str) -> Result<Add, Error> {
    match kind(text) {
        Kind::Magnet => Add::magnet(text),
        Kind::Hash => Add::magnet(&magnet(text)),
        Kind::Url => Ok(Add::url(text)),
        Kind::OtherUrl => Err(Error::Fetch {
            url: text.into(),
            reason: OTHER_URL.into(),
        }),
        Kind::File => Ok(Add::file(text)),
    }
}

/// Why some URLs are of no use.
pub(crate) const OTHER_URL: &str =
    "only http:// and https:// URLs can be fetched; give the path of a file as it is";

/// What a text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Magnet,
    /// A bare info-hash.
    Hash,
    Url,
    /// Of a kind that cannot be fetched.
    OtherUrl,
    File,
}

/// Tells what `text` is.
pub(crate) fn kind(text: &str) -> Kind {
    let starts = |prefix: &str| {
        text.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if starts("magnet:") {
        Kind::Magnet
    } else if starts("http://") || starts("https://") {
        Kind::Url
    } else if has_scheme(text) && !Path::new(text).exists() {
        Kind::OtherUrl
    } else if HASH_DIGITS.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
        && !Path::new(text).exists()
    {
        Kind::Hash
    } else {
        Kind::File
    }
}

/// Whether `text` begins like `ftp://`.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// What is said of a text that is nothing of all that.
pub(crate) fn nothing(text: &str) -> String {
    format!(
        "{text}: there is no such file, and it is no info-hash (40 hexadecimal digits or 32 of \
         base32), magnet link or URL"
    )
}

/// The magnet link of a bare info-hash.
pub(crate) fn magnet(hash: &str) -> String {
    format!("magnet:?xt=urn:btih:{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_told_apart() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(kind(&magnet(hash)), Kind::Magnet);
        assert_eq!(kind("MAGNET:?xt=1"), Kind::Magnet);
        assert_eq!(kind(hash), Kind::Hash);
        assert_eq!(kind("HTTPS://host/a.torrent"), Kind::Url);
        assert_eq!(kind("a.torrent"), Kind::File);
        assert_eq!(kind("ftp://host/a.torrent"), Kind::OtherUrl);
        assert_eq!(kind("://a.torrent"), Kind::File);
        assert!(add("file:///a.torrent").is_err());
        assert!(add(hash).is_ok());
        assert!(add("magnet:?dn=x").is_err());
    }
}
