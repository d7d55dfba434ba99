//! Torrent files, magnets, and the layout of pieces, blocks and files.
//!
//! ```text
//! torrent file ──Torrent::parse──▶ Torrent { info, trackers, … } ──to_bytes──▶ torrent file
//! magnet link  ──parse──▶ Magnet ──BEP 9──▶ Info::from_metadata ──▶ Info { layout, hashes, raw }
//! names, sizes ──Builder──▶ Draft { layout } ──piece hashes──▶ Torrent
//! ```
//!
//! Everything is checked once, when it is parsed, and is valid from then on. This is BitTorrent v1 (BEP 3).
//! A hybrid (BEP 52) is read as the v1 torrent that it contains; a v2-only torrent or magnet is refused
//! with an error of its own.

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

/// The longest torrent file or info dictionary that is parsed, in bytes: enough for the hashes of 2^21
/// pieces and a long list of files. Metadata from peers should be limited to this as well.
pub const MAX_TORRENT_LEN: usize = 64 << 20;
/// The most pieces. Their hashes take 40 MiB and a `bitfield` message 256 KiB.
pub(crate) const MAX_PIECES: u32 = 1 << 21;
/// The longest piece, in bytes: offsets in a piece have 32 bits and stay positive when they are taken as
/// signed.
pub const MAX_PIECE_LEN: u32 = 1 << 30;
/// The most files; each takes some 100 bytes of memory.
pub(crate) const MAX_FILES: usize = 1 << 19;
/// The most elements of one path, including link targets.
pub(crate) const MAX_PATH_DEPTH: usize = 100;
/// The most path elements of all files together: each is a string in memory.
pub(crate) const MAX_PATH_ELEMENTS: usize = 1 << 21;
/// The most trackers, web seeds, DHT nodes or peers, each, of a torrent or magnet; more are ignored.
pub(crate) const MAX_ADDRESSES: usize = 256;

/// The length of a SHA-1 piece hash.
const HASH_LEN: usize = 20;

#[cfg(test)]
mod tests;
