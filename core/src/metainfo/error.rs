//! The reasons why a torrent file or an info dictionary is invalid.

use core::fmt;

use super::{
    MAX_FILES, MAX_PATH_DEPTH, MAX_PATH_ELEMENTS, MAX_PIECE_LEN, MAX_PIECES, MAX_TORRENT_LEN,
};
use crate::{InfoHash, wire::bencode};

/// What is wrong with a torrent, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The value.
    pub place: Place,
    /// The offset in bytes of that value, or of the dictionary that lacks it; `None` for a torrent that is
    /// being created.
    pub at: Option<usize>,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The key path of a value in a torrent file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole file.
    Whole,
    /// A key beside `info`, or `info` itself.
    Top(&'static str),
    /// A key in `info`.
    Info(&'static str),
    /// A key of an entry of `info.files`.
    File(usize, &'static str),
}

/// What is wrong with a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not valid bencode.
    Bencode(bencode::Fault),
    /// It starts like a web page.
    WebPage,
    /// It starts like a gzip stream.
    Compressed,
    /// It starts like a magnet link.
    MagnetLink,
    /// Longer than [`MAX_TORRENT_LEN`].
    TooLong(usize),
    /// A necessary key is missing.
    Missing,
    /// The value has another type.
    WrongType(&'static str),
    /// The info dictionary is followed by more bytes, which its hash would cover.
    TrailingBytes,
    /// The torrent is a v2 torrent without the keys of v1 (BEP 52).
    V2Only,
    /// The info dictionary belongs to another torrent.
    WrongHash(InfoHash),
    /// A name of a torrent that is being created is empty.
    EmptyName,
    /// A path has no elements.
    EmptyPath,
    /// A path has more elements than are allowed: this many.
    PathTooDeep(usize),
    /// All paths together have too many elements.
    TooManyPathElements,
    /// There are too many files.
    TooManyFiles,
    /// The list of files is empty.
    NoFiles,
    /// A length is negative.
    NegativeLen,
    /// Not between 1 and [`MAX_PIECE_LEN`].
    PieceLen(u64),
    /// The total length is more than 2^63 - 1 bytes.
    TotalTooLarge,
    /// All files are empty.
    NoData,
    /// There are too many pieces: this many.
    TooManyPieces(u64),
    /// The length of the hashes is not a multiple of 20 bytes.
    RaggedHashes(usize),
    /// The numbers of hashes and of pieces differ.
    HashCount {
        /// The number of hashes.
        found: usize,
        /// The number of pieces.
        pieces: u32,
    },
    /// Two files have the same path, or a file is where another one has a folder.
    DuplicatePath,
    /// A symbolic link has a length.
    LinkWithData,
}

impl Problem {
    /// At `place`, byte `at`.
    pub(super) const fn at(self, place: Place, at: usize) -> Error {
        Error {
            place,
            at: Some(at),
            problem: self,
        }
    }

    /// In a torrent that is being made.
    pub(super) const fn made(self, place: Place) -> Error {
        Error {
            place,
            at: None,
            problem: self,
        }
    }

    /// What its user can do about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::WebPage => "open the page in a browser and save the torrent it links to",
            Self::Compressed => "unpack it with gunzip first",
            Self::MagnetLink => "pass the link itself instead of a file that holds it",
            Self::TooLong(_) => "check that this is the torrent file and not its content",
            Self::V2Only => "look for a v1 or hybrid torrent of the same content",
            Self::WrongHash(_) | Self::TrailingBytes => "get the torrent from another source",
            Self::TooManyFiles | Self::TooManyPathElements => {
                "pack the files into an archive or split the torrent"
            }
            Self::PieceLen(_) | Self::TooManyPieces(_) => {
                "the torrent has to be made anew with another piece length"
            }
            Self::NoData | Self::NoFiles => "there is nothing to transfer",
            Self::EmptyName | Self::EmptyPath | Self::PathTooDeep(_) | Self::DuplicatePath => {
                "the torrent has to be made anew with other file names"
            }
            Self::LinkWithData => "give a link the length 0",
            Self::TotalTooLarge | Self::NegativeLen => {
                "the program that made this torrent is faulty: look for another one"
            }
            Self::Bencode(_)
            | Self::Missing
            | Self::WrongType(_)
            | Self::RaggedHashes(_)
            | Self::HashCount { .. } => {
                "the torrent is damaged or incomplete: get it again from its source"
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => f.write_str("the torrent as a whole"),
            Self::Top(key) => f.write_str(key),
            Self::Info(key) => write!(f, "info.{key}"),
            Self::File(index, "") => write!(f, "info.files[{index}]"),
            Self::File(index, key) => write!(f, "info.files[{index}].{key}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bencode(fault) => write!(f, "this is not a sound torrent file: {fault}"),
            Self::WebPage => f.write_str("this is a web page, not a torrent file"),
            Self::Compressed => f.write_str("this is a gzip archive, not a torrent file"),
            Self::MagnetLink => f.write_str("this is a magnet link, not a torrent file"),
            Self::TooLong(len) => write!(
                f,
                "{len} bytes are too many for a torrent file, the limit is {MAX_TORRENT_LEN}"
            ),
            Self::Missing => f.write_str("this key is missing"),
            Self::WrongType(wanted) => write!(f, "this should be {wanted}"),
            Self::TrailingBytes => f.write_str("there are bytes after the end of the metadata"),
            Self::V2Only => {
                f.write_str("this is a BitTorrent v2 torrent, and Dunlin can read v1 and hybrid")
            }
            Self::WrongHash(found) => {
                write!(f, "this is the metadata of another torrent, {found}")
            }
            Self::EmptyName => f.write_str("a name is empty"),
            Self::EmptyPath => f.write_str("the path is empty"),
            Self::PathTooDeep(depth) => write!(
                f,
                "the path has {depth} elements, the limit is {MAX_PATH_DEPTH}"
            ),
            Self::TooManyPathElements => write!(
                f,
                "the paths have more than {MAX_PATH_ELEMENTS} elements in all, which is the limit"
            ),
            Self::TooManyFiles => write!(f, "there are more files than {MAX_FILES}, the limit"),
            Self::NoFiles => f.write_str("there are no files"),
            Self::NegativeLen => f.write_str("the length is negative"),
            Self::PieceLen(len) => write!(
                f,
                "a piece length of {len} is not between 1 and {MAX_PIECE_LEN}"
            ),
            Self::TotalTooLarge => f.write_str("the files are too long in all"),
            Self::NoData => f.write_str("all files are empty"),
            Self::TooManyPieces(count) => {
                write!(f, "there are {count} pieces, the limit is {MAX_PIECES}")
            }
            Self::RaggedHashes(len) => {
                write!(f, "{len} bytes of piece hashes are not a multiple of 20")
            }
            Self::HashCount { found, pieces } => write!(
                f,
                "there are {found} piece hashes for the {pieces} pieces of the files"
            ),
            Self::DuplicatePath => f.write_str("another file has this path, or has it as a folder"),
            Self::LinkWithData => f.write_str("a symbolic link has no bytes of its own"),
        }
    }
}

impl fmt::Display for Error {
    /// "{what} ({where}, byte {n}); {what to do}".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.problem, self.place)?;
        if let Some(at) = self.at {
            write!(f, ", byte {at}")?;
        }
        write!(f, "); {}", self.problem.advice())
    }
}

impl core::error::Error for Error {}
