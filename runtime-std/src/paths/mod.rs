//! Maps the names in a torrent, which anybody may have written, to paths that are safe to use.
//!
//! Every result is relative, consists of plain names of at most [`MAX_NAME`] bytes, and is different for
//! each file of a torrent. The mapping depends on the torrent and the [`Names`] only, and maps its own
//! results to themselves.
//!
//! Replaced on every system: separators, NUL, control characters and the marks that change the direction of
//! text (they hide how a name ends) become `_`; `..` becomes `__`; empty names and `.` are left out. What
//! Windows does not allow (`<>:"|?*\`, `CON`, a dot at the end …) is replaced under [`Names::Windows`]
//! only: such names are valid on Unix, and other clients use them unchanged for the same files.
//! [`Names::Windows`] is also right for a folder on a file system that is shared with Windows.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
};

use dunlin_core::{
    hash::sha1,
    metainfo::{File, FileKind, Info},
};

/// The longest name in bytes: the limit of ext4, APFS and NTFS (NTFS counts UTF-16 units, of which a name
/// has no more than bytes).
pub const MAX_NAME: usize = 255;
/// The longest path below the torrent's folder in bytes; longer paths are flattened. `PATH_MAX` is 4096 on
/// Linux and 1024 on macOS, and the user's own folder needs a part of it.
const MAX_PATH: usize = 768;
const MAX_DEPTH: usize = 32;
/// Extensions of up to this many bytes, including the dot, are kept when a name is shortened.
const MAX_EXTENSION: usize = 16;

/// The rules that names follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// The rules of the system that this process runs on.
    #[default]
    Native,
    /// Unix: names are bytes, and case is significant.
    Unix,
    /// Windows: some names and characters are reserved, and case is not significant.
    Windows,
}

impl Names {
    const fn windows(self) -> bool {
        match self {
            Self::Native => cfg!(windows),
            Self::Unix => false,
            Self::Windows => true,
        }
    }

    pub(crate) const fn folds_case(self) -> bool {
        match self {
            Self::Native => cfg!(any(windows, target_vendor = "apple")),
            Self::Unix => false,
            Self::Windows => true,
        }
    }

    /// Whether one path is equal to the other, or inside it.
    pub(crate) fn clash(self, a: &Path, b: &Path) -> bool {
        let same = |(a, b): (&OsStr, &OsStr)| {
            a == b || self.key(&a.to_string_lossy()) == self.key(&b.to_string_lossy())
        };
        a.iter().zip(b.iter()).all(same)
    }

    /// The form of a name that is equal for all names that the system takes for the same.
    fn key(self, name: &str) -> String {
        if self.folds_case() {
            name.to_lowercase()
        } else {
            name.to_owned()
        }
    }
}

/// The paths of a torrent's files, in their order, relative to the folder in which the torrent is saved.
/// `root` replaces the name that the torrent suggests for its folder or only file.
#[must_use]
pub fn layout(info: &Info, root: Option<&str>, names: Names) -> Vec<PathBuf> {
    let root = safe_name(root.unwrap_or(info.name()), names).unwrap_or_else(|| "_".into());
    if !info.multi_file() {
        return info.files().iter().map(|_| PathBuf::from(&root)).collect();
    }
    let files = info.files();
    let regular = |file: &&File| file.kind == FileKind::Regular;
    let targets: HashSet<&[String]> = (files.iter().filter(regular))
        .map(|file| file.path.as_slice())
        .collect();
    let is_made = |file: &File| match &file.kind {
        FileKind::Regular => true,
        // See `Disk::link_target`.
        FileKind::Symlink(target) => targets.contains(target.as_slice()),
        FileKind::Padding => false,
    };
    let mut tree = Tree::new(names);
    let mut paths = vec![PathBuf::new(); files.len()];
    // Entries that are created get their names first, those that never are afterwards.
    for made in [true, false] {
        for (path, file) in paths.iter_mut().zip(files) {
            if is_made(file) == made {
                *path = Path::new(&root).join(tree.place(&file.path));
            }
        }
    }
    paths
}

/// Safe, distinct relative paths for `files`, in their order.
pub fn safe_paths<'a, S: AsRef<str> + 'a>(
    files: impl IntoIterator<Item = &'a [S]>,
    names: Names,
) -> Vec<PathBuf> {
    let mut tree = Tree::new(names);
    files.into_iter().map(|path| tree.place(path)).collect()
}

/// A safe name made of any name; `None` if nothing of it is left.
#[must_use]
pub fn safe_name(name: &str, names: Names) -> Option<String> {
    if name == ".." {
        return Some("__".into());
    }
    if name.is_empty() || name == "." {
        return None;
    }
    let windows = names.windows();
    let mut safe: String = name
        .chars()
        .map(|c| if bad(c, windows) { '_' } else { c })
        .collect();
    if windows {
        if safe.ends_with(['.', ' ']) {
            safe.pop();
            safe.push('_');
        }
        if reserved(&safe) {
            safe.insert(0, '_');
        }
    }
    Some(cut(safe, MAX_NAME, name))
}

/// Why a file of a torrent is not saved under its `path` in the torrent: of several reasons, the one that a
/// person has to change first. `None` if the path itself is allowed: then another file of the torrent has
/// the same name as far as `names` can tell.
#[must_use]
pub fn unfit(path: &[String], names: Names) -> Option<Unfit> {
    let windows = names.windows();
    for name in path {
        if let Some(c) = name.chars().find(|&c| bad(c, windows)) {
            return Some(Unfit::Character(c));
        }
        if safe_name(name, names).as_ref() != Some(name) {
            return Some(match name.len() > MAX_NAME {
                true => Unfit::Long(MAX_NAME),
                false => Unfit::Reserved(name.clone()),
            });
        }
    }
    let separators = path.len().saturating_sub(1);
    let len = path.iter().map(String::len).sum::<usize>() + separators;
    if path.len() > MAX_DEPTH {
        Some(Unfit::Deep(MAX_DEPTH - 1))
    } else if len > MAX_PATH {
        Some(Unfit::Long(MAX_PATH))
    } else {
        None
    }
}

/// What is wrong with a path; see [`unfit`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A name contains this character, which is replaced.
    Character(char),
    /// Windows reserves this name, or does not allow its end.
    Reserved(String),
    /// A name or the path is longer than this many bytes.
    Long(usize),
    /// It is in more than this many folders below the torrent's own.
    Deep(usize),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(c) => {
                let name = match c {
                    '\n' => " (line break)",
                    '\r' => " (carriage return)",
                    '\t' => " (tab)",
                    '\u{1b}' => " (escape)",
                    c if c.is_control() => " (control character)",
                    c if c.is_ascii() => return write!(f, "its name has a `{c}`"),
                    _ => " (turns the direction of writing)",
                };
                write!(f, "its name has U+{:04X}{name}", u32::from(*c))
            }
            Self::Reserved(name) => write!(f, "`{name}` is not a name that Windows can have"),
            Self::Long(max) => write!(f, "too long: at most {max} bytes"),
            Self::Deep(max) => write!(f, "too deep: at most {max} folders below the torrent's own"),
        }
    }
}

fn bad(c: char, windows: bool) -> bool {
    c.is_control()
        || c == '/'
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || windows && matches!(c, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '\\')
}

/// Whether a name is a device name, with any extension.
fn reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let upper = stem.to_uppercase();
    match upper.as_str() {
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" => true,
        _ => upper
            .strip_prefix("COM")
            .or_else(|| upper.strip_prefix("LPT"))
            .is_some_and(|n| {
                let mut chars = n.chars();
                matches!(chars.next(), Some('0'..='9' | '¹' | '²' | '³')) && chars.next().is_none()
            }),
    }
}

/// Splits a name before its last dot, if what follows is short enough for an extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Shortens `name` to at most `max` bytes: its middle is replaced by a hash of `whole`.
fn cut(name: String, max: usize, whole: &str) -> String {
    if name.len() <= max {
        return name;
    }
    let (stem, extension) = split(&name);
    let mark = mark(whole);
    let keep = stem.floor_char_boundary(max.saturating_sub(extension.len() + mark.len()));
    format!("{}{mark}{extension}", &stem[..keep])
}

/// `-` and the first eight hex digits of a hash of `whole`.
fn mark(whole: &str) -> String {
    let [a, b, c, d, ..] = sha1(whole.as_bytes());
    format!("-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// The names assigned so far. Folders have numbers; 0 is the top.
struct Tree {
    names: Names,
    /// (folder, key) of every name, and the next number to try when it is wanted again.
    taken: HashMap<(usize, String), u32>,
    /// (folder, key of the wanted name) of every folder, and its actual name and number.
    folders: HashMap<(usize, String), (String, usize)>,
}

impl Tree {
    fn new(names: Names) -> Self {
        Self {
            names,
            taken: HashMap::new(),
            folders: HashMap::new(),
        }
    }

    fn place<S: AsRef<str>>(&mut self, path: &[S]) -> PathBuf {
        let parts: Vec<String> = path
            .iter()
            .filter_map(|part| safe_name(part.as_ref(), self.names))
            .collect();
        if parts.len() <= MAX_DEPTH {
            let out = self.walk(&parts);
            // The result is measured, not the input, so that applying the mapping to its result changes
            // nothing.
            if out.as_os_str().len() <= MAX_PATH {
                return out;
            }
        }
        let mark = mark(&parts.join("/"));
        let (stem, extension) = split(parts.last().map_or("", String::as_str));
        let name = cut(format!("{stem}{mark}{extension}"), MAX_NAME, &mark);
        self.claim(0, name).into()
    }

    fn walk(&mut self, parts: &[String]) -> PathBuf {
        let (mut at, mut out) = (0, PathBuf::new());
        let (file, folders) = match parts.split_last() {
            Some((file, folders)) => (file.clone(), folders),
            None => ("_".into(), parts),
        };
        for part in folders {
            let key = (at, self.names.key(part));
            if let Some((name, number)) = self.folders.get(&key) {
                out.push(name);
                at = *number;
                continue;
            }
            let name = self.claim(at, part.clone());
            out.push(&name);
            at = self.folders.len() + 1;
            self.folders.insert(key, (name, at));
        }
        out.push(self.claim(at, file));
        out
    }

    /// `name` in `folder`, or `name (2)`, `name (3)` … if it is taken.
    fn claim(&mut self, folder: usize, name: String) -> String {
        let key = (folder, self.names.key(&name));
        let Some(mut next) = self.taken.get(&key).copied() else {
            self.taken.insert(key, 2);
            return name;
        };
        let (stem, extension) = split(&name);
        loop {
            let number = format!(" ({next}){extension}");
            next += 1;
            let keep = stem.floor_char_boundary(MAX_NAME - number.len());
            let other = format!("{}{number}", &stem[..keep]);
            let other_key = (folder, self.names.key(&other));
            if !self.taken.contains_key(&other_key) {
                self.taken.insert(key, next);
                self.taken.insert(other_key, 2);
                return other;
            }
        }
    }
}

#[cfg(test)]
mod tests;
