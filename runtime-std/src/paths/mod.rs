//! From the names in a torrent, which anybody may have written, to paths that are safe to use.
//!
//! Every result is relative, made of plain names only, at most [`MAX_NAME`] bytes a name, and
//! no two files of a torrent get the same one. The mapping is a function of the torrent and
//! the [`Names`] alone, and maps its own results to themselves.
//!
//! What is replaced everywhere: separators, NUL, control characters and the marks that turn
//! the direction of writing (they hide what a name ends in) become `_`; `..` becomes `__`;
//! empty names and `.` are left out. What Windows cannot have (`<>:"|?*\`, `CON`, a dot at the
//! end …) is replaced under [`Names::Windows`] only: on Unix such names are fine, and other
//! clients that have the same files there use them as they are. Use [`Names::Windows`] also
//! when the folder lies on a file system that another system shares.

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

/// Longest name in bytes: the limit of ext4, APFS, NTFS (there in UTF-16 units, so never more).
pub const MAX_NAME: usize = 255;
/// Longest path below the torrent's folder in bytes, and deepest; more is flattened. Ours:
/// `PATH_MAX` is 4096 on Linux and 1024 on macOS, and the user's own folder needs some of it.
const MAX_PATH: usize = 768;
const MAX_DEPTH: usize = 32;
/// Extensions up to this many bytes, dot included, survive the cutting of a name.
const MAX_EXTENSION: usize = 16;

/// Whose rules names have to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Those of the system this runs on.
    #[default]
    Native,
    /// Unix: bytes, case matters.
    Unix,
    /// Windows: reserved names and characters, and case does not matter.
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

    /// Whether one path is the other, or lies in it.
    pub(crate) fn clash(self, a: &Path, b: &Path) -> bool {
        let same = |(a, b): (&OsStr, &OsStr)| {
            a == b || self.key(&a.to_string_lossy()) == self.key(&b.to_string_lossy())
        };
        a.iter().zip(b.iter()).all(same)
    }

    /// What two names have in common that this system takes for the same.
    fn key(self, name: &str) -> String {
        if self.folds_case() {
            name.to_lowercase()
        } else {
            name.to_owned()
        }
    }
}

/// Paths of a torrent's files, in their order, below the folder that it is saved in. `root`
/// replaces the torrent's own suggestion for the name of its folder or only file.
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
    // What is never made takes no name from what is.
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

/// One safe name from one that may be anything; `None` if nothing is left of it.
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

/// Why a file of a torrent is not saved under `path`, which is what it has in the torrent: of all
/// that may be the case, what a person would have to change first. `None` if nothing is wrong with
/// the path itself: another file of the torrent has the same name then, as far as `names` can tell.
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
    /// This character is not kept.
    Character(char),
    /// Windows has other uses for this name, or none for its end.
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

/// Device names, with whatever extension.
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

/// Splits before the last dot, if what follows is short enough to be an extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// `name` in at most `max` bytes: the middle gives way to a hash of `whole`.
fn cut(name: String, max: usize, whole: &str) -> String {
    if name.len() <= max {
        return name;
    }
    let (stem, extension) = split(&name);
    let mark = mark(whole);
    let keep = stem.floor_char_boundary(max.saturating_sub(extension.len() + mark.len()));
    format!("{}{mark}{extension}", &stem[..keep])
}

/// `-` and eight hex digits that stand for `whole`.
fn mark(whole: &str) -> String {
    let [a, b, c, d, ..] = sha1(whole.as_bytes());
    format!("-{a:02x}{b:02x}{c:02x}{d:02x}")
}

/// The names given out so far. Folders are numbers; 0 is the top.
struct Tree {
    names: Names,
    /// (folder, key) of every name, with the number that a clash tries next.
    taken: HashMap<(usize, String), u32>,
    /// (folder, key of the wanted name) of every folder, with its real name and number.
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
            // Measured as it came out, so that measuring it again says the same.
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
