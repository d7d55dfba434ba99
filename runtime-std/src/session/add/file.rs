//! Reading torrent files.

use std::{fs::File, io::Read, path::Path};

use dunlin_core::metainfo::{self, MAX_TORRENT_LEN};

use crate::{Error, Result};

/// Reads what is in a torrent file that is called `name`.
pub(super) fn parse(name: &str, data: &[u8]) -> Result<metainfo::Torrent> {
    metainfo::Torrent::parse(data).map_err(|source| Error::Metainfo {
        name: name.into(),
        source,
    })
}

/// Reads a torrent file, and no more of it than a torrent file may have. Blocks.
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
