//! The info dictionary (BEP 3, 27, 47), checked when it is parsed.

use alloc::{format, string::String, vec::Vec};
use core::ops::Range;

use bendy::decoding::Decoder;

use super::{
    Error, Extent, File, FileKind, HASH_LEN, Layout, MAX_FILES, MAX_PATH_DEPTH, MAX_PATH_ELEMENTS,
    MAX_TORRENT_LEN, Place, Problem,
    names::{Charset, is_unicode},
};
use crate::{
    BlockRef, InfoHash,
    hash::sha1,
    wire::bencode::{self, Dict, Kind, Limits, Value},
};

/// Name of the padding files that BitComet wrote before BEP 47 gave them an attribute.
const OLD_PADDING_NAME: &str = "_____padding_file";

/// The info dictionary of a torrent: everything that its hash covers. It was checked when it was parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    info_hash: InfoHash,
    name: String,
    layout: Layout,
    /// The range of `raw` with the piece hashes.
    pieces: Range<usize>,
    private: bool,
    multi: bool,
    hybrid: bool,
    raw: Vec<u8>,
}

impl Info {
    /// Parses an info dictionary. Its keys may be unsorted: the hash covers the bytes as they are. No bytes
    /// may follow it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn from_raw(raw: Vec<u8>) -> Result<Self, Error> {
        let hash = InfoHash(sha1(&raw));
        Self::hashed(raw, hash)
    }

    /// Parses an info dictionary that was fetched from peers (BEP 9), if its hash is `expected`.
    pub(crate) fn from_metadata(raw: Vec<u8>, expected: InfoHash) -> Result<Self, Error> {
        let found = InfoHash(sha1(&raw));
        if found != expected {
            return Err(Problem::WrongHash(found).at(Place::Whole, 0));
        }
        Self::hashed(raw, found)
    }

    fn hashed(raw: Vec<u8>, hash: InfoHash) -> Result<Self, Error> {
        let (dict, rest) = parse(&raw)?;
        if !rest.is_empty() {
            return Err(Problem::TrailingBytes.at(Place::Whole, dict.raw().len()));
        }
        Ok(Fields::read(dict, hash, Charset::default())?.with(raw, hash))
    }

    /// Reads the info dictionary inside a torrent file.
    pub(super) fn from_dict(dict: Dict<'_>, charset: Charset) -> Result<Self, Error> {
        let hash = InfoHash(sha1(dict.raw()));
        let fields = Fields::read(dict, hash, charset)?;
        Ok(fields.with(dict.raw().to_vec(), hash))
    }

    /// The info-hash of the torrent.
    #[must_use]
    pub const fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The suggested name of the file or folder; characters that no name should have are replaced (see
    /// [`File::path`]). The name of a torrent without one is its hash.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether peers may come from its trackers only (BEP 27).
    #[must_use]
    pub const fn private(&self) -> bool {
        self.private
    }

    /// Whether the files are in a folder named [`Info::name`].
    #[must_use]
    pub const fn multi_file(&self) -> bool {
        self.multi
    }

    /// Whether the torrent is also a v2 torrent (BEP 52).
    #[must_use]
    pub const fn hybrid(&self) -> bool {
        self.hybrid
    }

    /// The site that the torrent was made for (`source`); it gives equal content another info-hash.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        self.dict().str(b"source")
    }

    /// The bencoded info dictionary, which the hash covers and peers exchange (BEP 9).
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The info dictionary, for keys that have no accessor here.
    #[must_use]
    pub(crate) fn dict(&self) -> Dict<'_> {
        Dict::trusted(&self.raw)
    }

    /// Whether [`Info::raw`] is canonical bencode, as it should be. Others work with peers that keep its
    /// bytes, as Dunlin does.
    #[must_use]
    pub fn canonical(&self) -> bool {
        Decoder::new(&self.raw)
            .with_max_depth(Limits::MAX_DEPTH as usize)
            .tokens()
            .all(|token| token.is_ok())
    }

    /// The SHA-1 of piece `index`; `None` beyond the last piece.
    #[must_use]
    pub fn piece_hash(&self, index: u32) -> Option<[u8; 20]> {
        let hashes = self.raw.get(self.pieces.clone())?;
        hashes.as_chunks().0.get(index as usize).copied()
    }

    /// The layout of pieces, blocks and files.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// See [`Layout::total_len`].
    #[must_use]
    pub const fn total_len(&self) -> u64 {
        self.layout.total_len()
    }

    /// See [`Layout::piece_len`].
    #[must_use]
    pub const fn piece_len(&self) -> u32 {
        self.layout.piece_len()
    }

    /// See [`Layout::piece_count`].
    #[must_use]
    pub const fn piece_count(&self) -> u32 {
        self.layout.piece_count()
    }

    /// See [`Layout::files`].
    #[must_use]
    pub fn files(&self) -> &[File] {
        self.layout.files()
    }

    /// See [`Layout::piece_size`].
    #[must_use]
    pub fn piece_size(&self, index: u32) -> u32 {
        self.layout.piece_size(index)
    }

    /// See [`Layout::piece_offset`].
    #[must_use]
    pub const fn piece_offset(&self, index: u32) -> u64 {
        self.layout.piece_offset(index)
    }

    /// The number of blocks of piece `index`.
    #[must_use]
    #[doc(hidden)]
    pub fn blocks_in(&self, index: u32) -> u32 {
        self.layout.blocks_in(index)
    }

    /// Block number `block` of piece `index`; `None` if there is no such block.
    #[must_use]
    #[doc(hidden)]
    pub fn block(&self, index: u32, block: u32) -> Option<BlockRef> {
        self.layout.block(index, block)
    }

    /// See [`Layout::pieces_of`].
    #[must_use]
    pub fn pieces_of(&self, file: usize) -> Range<u32> {
        self.layout.pieces_of(file)
    }

    /// See [`Layout::extents`].
    pub fn extents(&self, at: u64, len: u64) -> impl Iterator<Item = Extent> + '_ {
        self.layout.extents(at, len)
    }
}

/// Reads the dictionary that a torrent file or an info dictionary is.
pub(super) fn parse(data: &[u8]) -> Result<(Dict<'_>, &[u8]), Error> {
    if data.len() > MAX_TORRENT_LEN {
        return Err(Problem::TooLong(data.len()).at(Place::Whole, 0));
    }
    Dict::parse(data, Limits::TORRENT)
        .map_err(|bencode::Error { at, fault }| guess(data, fault).at(Place::Whole, at))
}

/// What was probably meant to be a torrent file.
fn guess(data: &[u8], fault: bencode::Fault) -> Problem {
    match data.trim_ascii_start() {
        [b'<', ..] => Problem::WebPage,
        [0x1f, 0x8b, ..] => Problem::Compressed,
        text if text.starts_with(b"magnet:") => Problem::MagnetLink,
        _ => Problem::Bencode(fault),
    }
}

/// All of [`Info`] but its bytes.
struct Fields {
    name: String,
    layout: Layout,
    pieces: Range<usize>,
    private: bool,
    multi: bool,
    hybrid: bool,
}

impl Fields {
    fn with(self, raw: Vec<u8>, info_hash: InfoHash) -> Info {
        Info {
            info_hash,
            name: self.name,
            layout: self.layout,
            pieces: self.pieces,
            private: self.private,
            multi: self.multi,
            hybrid: self.hybrid,
            raw,
        }
    }

    fn read(dict: Dict<'_>, hash: InfoHash, charset: Charset) -> Result<Self, Error> {
        let keys = InfoKeys::read(dict);
        let here = |key| Spot {
            place: Place::Info(key),
            at: dict.at(),
        };
        let v2 = keys.meta_version.and_then(|v| v.uint()).unwrap_or(1) >= 2;
        if keys.pieces.is_none() && (v2 || keys.file_tree.is_some()) {
            return Err(Problem::V2Only.at(Place::Info("meta version"), dict.at()));
        }

        let charset = charset.of(plain_names(&keys));
        let mut name = best_name(&keys, charset)
            .ok_or_else(|| here("name").fail(keys.name, Problem::Missing))?;
        if name.is_empty() {
            name = format!("{hash}");
        }
        let piece_len = here("piece length").uint(keys.piece_length)?;
        let lay_out = |files| {
            Layout::new(piece_len, files).map_err(|p| match p {
                Problem::PieceLen(_) => here("piece length").fail(keys.piece_length, p),
                _ if keys.files.is_some() => here("files").fail(keys.files, p),
                _ => here("length").fail(keys.length, p),
            })
        };
        let hashes = here("pieces").bytes(keys.pieces);
        let layout = match keys.files {
            Some(files) => {
                let list = FileList::read(files, charset, LinkBytes::None)?;
                let layout = lay_out(list.files)?;
                let fit = |hashes: &[u8]| check_hashes(hashes.len(), &layout).is_ok();
                // To programs that know no links, they are files like others.
                match list.links_have_bytes && !hashes.is_ok_and(fit) {
                    true => lay_out(FileList::read(files, charset, LinkBytes::Counted)?.files)?,
                    false => layout,
                }
            }
            None => lay_out(Vec::from([File {
                path: Vec::from([name.clone()]),
                len: here("length").uint(keys.length)?,
                // There is nothing to align, or to point at.
                kind: FileKind::Regular,
                ..read_attr(keys.attr)
            }]))?,
        };
        let hashes = hashes?;
        check_hashes(hashes.len(), &layout).map_err(|p| here("pieces").fail(keys.pieces, p))?;
        // The string's content is the last thing in its raw bytes.
        let end = keys
            .pieces
            .map_or(0, |v| v.at() - dict.at() + v.raw().len());
        Ok(Self {
            name,
            layout,
            pieces: end - hashes.len()..end,
            // Whatever number it is, also one that is too large.
            private: (keys.private).is_some_and(|v| v.kind() == Kind::Int && v.uint() != Some(0)),
            multi: keys.files.is_some(),
            hybrid: v2 && keys.file_tree.is_some(),
        })
    }
}

/// Declares a struct of the values of a dictionary's known keys, found in one scan.
macro_rules! keys {
    ($name:ident { $($field:ident: $key:literal,)* }) => {
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: Option<Value<'a>>,)*
        }

        impl<'a> $name<'a> {
            pub(super) fn read(dict: crate::wire::bencode::Dict<'a>) -> Self {
                let mut keys = Self::default();
                for (key, value) in dict.iter() {
                    let slot = match key {
                        $($key => &mut keys.$field,)*
                        _ => continue,
                    };
                    // Of duplicates the first counts.
                    slot.get_or_insert(value);
                }
                keys
            }
        }
    };
}
pub(super) use keys;

keys!(InfoKeys {
    attr: b"attr",
    file_tree: b"file tree",
    files: b"files",
    length: b"length",
    meta_version: b"meta version",
    name: b"name",
    name_utf8: b"name.utf-8",
    piece_length: b"piece length",
    pieces: b"pieces",
    private: b"private",
});

keys!(FileKeys {
    attr: b"attr",
    length: b"length",
    path: b"path",
    path_utf8: b"path.utf-8",
    symlink: b"symlink path",
});

/// Where a value is looked for, to say so when it is not right.
#[derive(Clone, Copy)]
struct Spot {
    place: Place,
    /// Of the dictionary.
    at: usize,
}

impl Spot {
    fn fail(self, value: Option<Value<'_>>, problem: Problem) -> Error {
        problem.at(self.place, value.map_or(self.at, |v| v.at()))
    }

    fn uint(self, value: Option<Value<'_>>) -> Result<u64, Error> {
        let read = |v: Value<'_>| match (v.uint(), v.int()) {
            (Some(n), _) => Ok(n),
            (None, Some(_)) => Err(Problem::NegativeLen),
            (None, None) => Err(Problem::WrongType("an integer")),
        };
        value
            .ok_or(Problem::Missing)
            .and_then(read)
            .map_err(|p| self.fail(value, p))
    }

    fn bytes<'a>(self, value: Option<Value<'a>>) -> Result<&'a [u8], Error> {
        value
            .ok_or(Problem::Missing)
            .and_then(|v| v.bytes().ok_or(Problem::WrongType("a string")))
            .map_err(|p| self.fail(value, p))
    }
}

fn check_hashes(len: usize, layout: &Layout) -> Result<(), Problem> {
    let (found, pieces) = (len / HASH_LEN, layout.piece_count());
    if !len.is_multiple_of(HASH_LEN) {
        return Err(Problem::RaggedHashes(len));
    }
    if found != pieces as usize {
        return Err(Problem::HashCount { found, pieces });
    }
    Ok(())
}

/// Whether a symbolic link with a length has bytes in the torrent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LinkBytes {
    /// No: BEP 47 gives links the length 0, and libtorrent takes it for granted.
    None,
    /// Yes: then it is a file like others, as for programs that know no links.
    Counted,
}

struct FileList {
    files: Vec<File>,
    /// There is a link with a length.
    links_have_bytes: bool,
}

impl FileList {
    fn read(value: Value<'_>, charset: Charset, links: LinkBytes) -> Result<Self, Error> {
        let fail = |p: Problem| p.at(Place::Info("files"), value.at());
        let list = value
            .list()
            .ok_or_else(|| fail(Problem::WrongType("a list")))?;
        if list.is_empty() {
            return Err(fail(Problem::NoFiles));
        }
        let mut this = Self {
            files: Vec::new(),
            links_have_bytes: false,
        };
        let mut elements = 0;
        for (index, entry) in list.iter().enumerate() {
            if index == MAX_FILES {
                return Err(fail(Problem::TooManyFiles));
            }
            let file = this.read_file(index, entry, charset, links)?;
            elements += file.path.len();
            if let FileKind::Symlink(target) = &file.kind {
                elements += target.len();
            }
            if elements > MAX_PATH_ELEMENTS {
                return Err(fail(Problem::TooManyPathElements));
            }
            this.files.push(file);
        }
        this.files.shrink_to_fit();
        Ok(this)
    }

    fn read_file(
        &mut self,
        index: usize,
        entry: Value<'_>,
        charset: Charset,
        links: LinkBytes,
    ) -> Result<File, Error> {
        let here = |key| Spot {
            place: Place::File(index, key),
            at: entry.at(),
        };
        let dict = entry
            .dict()
            .ok_or_else(|| here("").fail(None, Problem::WrongType("a dictionary")))?;
        let keys = FileKeys::read(dict);
        let mut file = read_attr(keys.attr);

        let unicode = keys.path_utf8.and_then(Value::list).filter(is_unicode);
        let plain = keys.path.and_then(Value::list);
        let list = unicode.or(plain);
        if file.kind == FileKind::Padding && list.is_none_or(|path| path.is_empty()) {
            // Padding is never written, so its name does not matter; libtorrent uses this one.
            file.len = here("length").uint(keys.length)?;
            file.path = Vec::from([".pad".into(), format!("{}", file.len)]);
            return Ok(file);
        }
        let wrong = match keys.path {
            Some(_) => Problem::WrongType("a list"),
            None => Problem::Missing,
        };
        let list = list.ok_or_else(|| here("path").fail(keys.path, wrong))?;
        let path = charset.path(&list);
        file.path = path.map_err(|p| here("path").fail(keys.path, p))?;
        if file
            .path
            .last()
            .is_some_and(|name| name.starts_with(OLD_PADDING_NAME))
        {
            file.kind = FileKind::Padding;
        }

        // One without a target is taken for a file.
        if matches!(file.kind, FileKind::Symlink(_)) {
            let target = keys.symlink.and_then(Value::list).filter(|t| !t.is_empty());
            self.links_have_bytes |=
                target.is_some() && keys.length.is_some_and(|v| v.uint() != Some(0));
            match target {
                Some(target) if links == LinkBytes::None || keys.length.is_none() => {
                    let target = charset.path(&target);
                    let target = target.map_err(|p| here("symlink path").fail(keys.symlink, p))?;
                    file.kind = FileKind::Symlink(target);
                    return Ok(file);
                }
                _ => file.kind = FileKind::Regular,
            }
        }
        file.len = here("length").uint(keys.length)?;
        let last = list.iter().last().and_then(|v| v.bytes());
        if file.len == 0 && last.is_some_and(<[u8]>::is_empty) {
            // How BitComet marks an empty folder.
            file.kind = FileKind::Padding;
        }
        Ok(file)
    }
}

/// A file that has only its attributes yet (BEP 47); letters not known are passed over.
fn read_attr(value: Option<Value<'_>>) -> File {
    let attr = value.and_then(|v| v.bytes()).unwrap_or_default();
    let kind = if attr.contains(&b'p') {
        FileKind::Padding
    } else if attr.contains(&b'l') {
        FileKind::Symlink(Vec::new())
    } else {
        FileKind::Regular
    };
    File {
        path: Vec::new(),
        len: 0,
        offset: 0,
        kind,
        executable: attr.contains(&b'x'),
        hidden: attr.contains(&b'h'),
    }
}

pub(super) const fn check_depth(depth: usize) -> Result<(), Problem> {
    match depth {
        0 => Err(Problem::EmptyPath),
        1..=MAX_PATH_DEPTH => Ok(()),
        _ => Err(Problem::PathTooDeep(depth)),
    }
}

/// `name.utf-8` if it is what it says, else `name`.
fn best_name(keys: &InfoKeys<'_>, charset: Charset) -> Option<String> {
    if let Some(name) = keys.name_utf8.and_then(|v| v.str()) {
        let name = charset.name(name.as_bytes());
        if !name.is_empty() {
            return Some(name);
        }
    }
    keys.name?.bytes().map(|name| charset.name(name))
}

/// The names that `encoding` is about: those without `.utf-8`.
fn plain_names<'a>(keys: &InfoKeys<'a>) -> impl Iterator<Item = &'a [u8]> {
    let path = |entry: Value<'a>| FileKeys::read(entry.dict()?).path?.list();
    let files = keys.files.and_then(Value::list);
    let paths = files
        .into_iter()
        .flat_map(|list| list.iter())
        .filter_map(path);
    let elements = paths.flat_map(|path| path.iter());
    keys.name
        .into_iter()
        .chain(elements)
        .filter_map(|v| v.bytes())
}
