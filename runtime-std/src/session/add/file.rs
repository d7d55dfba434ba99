//! Reading torrent files, from the disk or from a server.

use std::{fs::File, io::Read, path::Path, time::Duration};

use dunlin_core::{
    http::{HttpRequest, Origin},
    metainfo::{self, MAX_TORRENT_LEN},
};

use crate::{
    Error, Result,
    net::http::{Answer, Failure, shown},
};

/// How long downloading a torrent file by URL may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The request for the torrent file at `url`, which the user named.
#[must_use]
pub fn torrent_request(url: &str, user_agent: &str) -> HttpRequest {
    HttpRequest {
        url: url.to_owned(),
        user_agent: user_agent.to_owned(),
        family: None,
        max_body: MAX_TORRENT_LEN,
        timeout: FETCH_TIMEOUT,
        origin: Origin::User,
    }
}

/// Returns the torrent file that was downloaded from `url`.
///
/// # Errors
/// [`Error::Fetch`].
pub fn torrent_file(url: &str, fetched: Result<Answer, Failure>) -> Result<Vec<u8>> {
    let reason = match fetched {
        Ok(answer) if answer.status == 200 => return Ok(answer.body),
        Ok(answer) => format!("the server answered with status {}", answer.status),
        Err(failure) => failure.reason,
    };
    let url = shown(url).to_owned();
    Err(Error::Fetch { url, reason })
}

/// Parses the content of a torrent file; `name` is for messages.
pub(super) fn parse(name: &str, data: &[u8]) -> Result<metainfo::Torrent> {
    metainfo::Torrent::parse(data).map_err(|source| Error::Metainfo {
        name: name.into(),
        source,
    })
}

/// Reads and parses a torrent file; reads no more than a torrent file may have. Blocks.
///
/// # Errors
/// [`Error::File`], [`Error::Metainfo`], [`Error::TooLong`].
pub fn read_torrent(path: &Path) -> Result<metainfo::Torrent> {
    read(path).map(|torrent| *torrent)
}

pub(super) fn read(path: &Path) -> Result<Box<metainfo::Torrent>> {
    let name = path.display().to_string();
    let failed = |source| Error::File {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut data = Vec::new();
    file.take(MAX_TORRENT_LEN as u64 + 1)
        .read_to_end(&mut data)
        .map_err(failed)?;
    if data.len() > MAX_TORRENT_LEN {
        return Err(Error::TooLong {
            name,
            limit: MAX_TORRENT_LEN,
        });
    }
    parse(&name, &data).map(Box::new)
}
