//! Torrent files, magnets, and the layout of pieces, blocks and files.
//!
//! ```text
//! torrent file ──Torrent::parse──▶ Torrent { info, trackers, … } ──to_bytes──▶ torrent file
//! magnet link  ──parse──▶ Magnet ──BEP 9──▶ Info::from_metadata ──▶ Info { layout, hashes, raw }
//! names, sizes ──Builder──▶ Draft { layout } ──piece hashes──▶ Torrent
//! ```
//!
//! Everything here is checked once, when it is read; what comes out can be relied on.
//! This is BitTorrent v1 (BEP 3). A hybrid (BEP 52) is read as the v1 torrent it also is; a torrent
//! or magnet that is v2 only is refused by that name.

mod create;
mod error;
mod info;
mod layout;
mod magnet;
mod names;
mod torrent;

pub use create::{Builder, Draft};
pub use error::{Error, Place, Problem};
pub use info::Info;
pub use layout::{Extent, File, FileKind, Layout};
pub use magnet::{Magnet, MagnetError, MagnetWarning, MutableKey, bare};
pub use torrent::{HostPort, NotHostPort, Torrent};

/// Largest torrent file or info dictionary that is read, in bytes: room for [`MAX_PIECES`] hashes
/// and a long list of files. Whoever collects metadata from peers should stop here too.
pub const MAX_TORRENT_LEN: usize = 64 << 20;
/// Most pieces. Their hashes take 40 MiB and a `bitfield` message 256 KiB.
pub(crate) const MAX_PIECES: u32 = 1 << 21;
/// Longest piece, in bytes: offsets in a piece travel as 32 bits and stay positive when signed.
pub const MAX_PIECE_LEN: u32 = 1 << 30;
/// Most files; each costs some 100 bytes of memory.
pub(crate) const MAX_FILES: usize = 1 << 19;
/// Most folders and files on one path, link targets included.
pub(crate) const MAX_PATH_DEPTH: usize = 100;
/// Most path elements of all files together: in memory each is a string of its own.
pub(crate) const MAX_PATH_ELEMENTS: usize = 1 << 21;
/// Most trackers, web seeds, DHT nodes or peers, each, that a torrent or magnet may list; more are
/// left out.
pub(crate) const MAX_ADDRESSES: usize = 256;

/// Size of a SHA-1 piece hash.
const HASH_LEN: usize = 20;

#[cfg(test)]
mod tests;
