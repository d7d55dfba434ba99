//! The ways in which a user may name a torrent.

use std::{
    io::{self, Read},
    path::Path,
};

use dunlin_tokio::{
    Add, Error,
    dunlin_core::metainfo::{MAX_TORRENT_LEN, Magnet, Torrent, bare},
};

/// The numbers of digits of an info-hash: hexadecimal and base32.
const HASH_DIGITS: [usize; 2] = [40, 32];

/// The name of standard input.
pub(crate) const STDIN: &str = "-";

/// The torrent that `text` names, and the number of web seeds it has as far as that is known before it is
/// added. URLs are downloaded later.
pub(crate) async fn add(text: &str) -> Result<(Add, usize), Error> {
    match kind(text) {
        Kind::Magnet => {
            let web_seeds = text
                .parse()
                .map_or(0, |magnet: Magnet| magnet.web_seeds.len());
            Ok((Add::magnet(text)?, web_seeds))
        }
        Kind::Hash => Ok((Add::magnet(&magnet(text))?, 0)),
        Kind::Url => Ok((Add::url(bare(text)), 0)),
        Kind::OtherUrl => Err(Error::Fetch {
            url: text.into(),
            reason: OTHER_URL.into(),
        }),
        Kind::File | Kind::Stdin => {
            // A pipe may never end, and a disk may be slow: neither must delay the others.
            let path = text.to_owned();
            let read = tokio::task::spawn_blocking(move || read(&path)).await;
            let torrent = read.map_err(|_| Error::Stopped)??;
            let web_seeds = torrent.web_seeds.len();
            Ok((Add::torrent(torrent), web_seeds))
        }
    }
}

/// Reads the torrent file `path`, or the one on standard input. Blocks.
pub(crate) fn read(path: &str) -> Result<Torrent, Error> {
    if bare(path).is_empty() {
        return Err(Error::File {
            path: format!("`{path}`").into(),
            source: io::Error::new(
                io::ErrorKind::InvalidInput,
                "no torrent is named: give a torrent file, magnet link, info-hash or URL",
            ),
        });
    }
    if path != STDIN {
        return dunlin_tokio::read_torrent(Path::new(path));
    }
    const NAME: &str = "standard input";
    let failed = |source| Error::File {
        path: NAME.into(),
        source,
    };
    let mut data = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_TORRENT_LEN as u64 + 1)
        .read_to_end(&mut data)
        .map_err(failed)?;
    match data.len() {
        0 => Err(failed(io::Error::other("it is empty"))),
        len if len > MAX_TORRENT_LEN => Err(Error::TooLong {
            name: NAME.into(),
            limit: MAX_TORRENT_LEN,
        }),
        _ => Torrent::parse(&data).map_err(|source| Error::Metainfo {
            name: NAME.into(),
            source,
        }),
    }
}

/// The message for URLs that cannot be used.
pub(crate) const OTHER_URL: &str =
    "only http:// and https:// URLs can be fetched; give the path of a file as it is";

/// The form of a torrent's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Magnet,
    /// A bare info-hash.
    Hash,
    Url,
    /// A URL with a scheme that is not supported.
    OtherUrl,
    File,
    /// A torrent file on standard input.
    Stdin,
}

/// Whether `text` is clearly a torrent, so that a command line may begin with it.
pub(crate) fn is_torrent(text: &str) -> bool {
    match kind(text) {
        Kind::Magnet | Kind::Hash | Kind::Url | Kind::Stdin => true,
        Kind::OtherUrl => false,
        Kind::File => {
            let path = Path::new(text);
            path.is_file()
                || path
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("torrent"))
        }
    }
}

/// The form of `text`. Blanks and quotes are ignored around anything but a path.
pub(crate) fn kind(text: &str) -> Kind {
    let path = Path::new(text);
    let text = bare(text);
    let starts = |prefix: &str| {
        text.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if text == STDIN {
        Kind::Stdin
    } else if starts("magnet:") {
        Kind::Magnet
    } else if starts("http://") || starts("https://") {
        Kind::Url
    } else if has_scheme(text) && !path.exists() {
        Kind::OtherUrl
    } else if HASH_DIGITS.contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
        && !path.exists()
    {
        Kind::Hash
    } else {
        Kind::File
    }
}

/// Whether `text` begins with a scheme such as `ftp://`.
fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// The message for a text that names no torrent.
pub(crate) fn nothing(text: &str) -> String {
    format!(
        "{text}: there is no such file, and it is no info-hash (40 hexadecimal digits or 32 of \
         base32), magnet link or URL"
    )
}

/// The magnet link of a bare info-hash.
pub(crate) fn magnet(hash: &str) -> String {
    format!("magnet:?xt=urn:btih:{}", bare(hash))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
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
        assert_eq!(kind("-"), Kind::Stdin);
        assert_eq!(kind(&format!(" '{}' ", magnet(hash))), Kind::Magnet);
        assert_eq!(kind("magnet:///?xt=1"), Kind::Magnet);
        assert_eq!(kind(&format!("\"{hash}\"")), Kind::Hash);
        assert_eq!(kind("<https://host/a.torrent>"), Kind::Url);
        for (text, clear) in [
            (hash, true),
            ("-", true),
            ("nowhere/a.Torrent", true),
            ("get", false),
            ("ftp://host/a.torrent", false),
        ] {
            assert_eq!(is_torrent(text), clear, "{text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_added_is_refused() {
        assert!(add("file:///a.torrent").await.is_err());
        assert!(add("magnet:?dn=x").await.is_err());
        let hash = "0123456789abcdef0123456789abcdef01234567";
        assert!(add(hash).await.is_ok());
        let with_web_seed = format!("{}&ws=http://host/", magnet(hash));
        assert_eq!(add(&with_web_seed).await.unwrap().1, 1);
    }
}
