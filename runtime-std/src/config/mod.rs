//! Settings: a TOML file with a documented default for everything.
//!
//! An unknown name or an invalid value is an error that gives file, line, column and what is allowed:
//! silently ignoring a setting is worse than failing to start.

mod keys;
pub mod values;

use std::{
    fmt, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use directories::ProjectDirs;
use dunlin_core::{DhtMode, dht, metainfo::HostPort};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

pub use keys::Encryption;
pub use values::{Interface, Ports, Proxy};

use crate::{
    disk::{Allocation, DiskConfig},
    paths::Names,
};
use keys::{KEYS, Key};

/// All settings. Rates are in bytes per second; `None` means unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The folder where torrents are saved; a relative path starts at the current folder.
    pub downloads: PathBuf,
    /// The session folder.
    pub session: PathBuf,
    /// The ports to try to listen on.
    pub ports: Ports,
    /// The addresses and interfaces to listen on and connect from; empty means all.
    pub interfaces: Vec<Interface>,
    /// Encryption of peer connections.
    pub encryption: Encryption,
    /// Whether peer exchange is used.
    pub pex: bool,
    /// The proxy for outgoing connections.
    pub proxy: Option<Proxy>,
    /// The user agent, in place of Dunlin's own.
    pub user_agent: Option<String>,
    /// The limit for all downloads together.
    pub down: Option<u64>,
    /// The limit for all uploads together.
    pub up: Option<u64>,
    /// The limit for the download of each torrent.
    pub torrent_down: Option<u64>,
    /// The limit for the upload of each torrent.
    pub torrent_up: Option<u64>,
    /// The most connections of all torrents together.
    pub connections: u32,
    /// The most connections of one torrent.
    pub torrent_connections: u32,
    /// The most bytes of blocks in use at once.
    pub memory: u64,
    /// The number of disk threads; `None` depends on the number of processors.
    pub disk_threads: Option<usize>,
    /// When disk space is reserved.
    pub allocation: Allocation,
    /// The most files kept open.
    pub open_files: usize,
    /// The rules that file names follow.
    pub names: Names,
    /// The ratio of uploaded bytes to size, in thousandths, at which seeding ends.
    pub seed_ratio: Option<u32>,
    /// The time after which seeding ends.
    pub seed_time: Option<Duration>,
    /// The longest wait when stopping.
    pub shutdown_timeout: Duration,
    /// The DHT.
    pub dht: DhtSettings,
}

/// Settings of the DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtSettings {
    /// Whether and when it runs.
    pub mode: DhtMode,
    /// Its UDP port; `None` shares [`Settings::ports`].
    pub port: Option<u16>,
    /// Nodes to start from if no other node is known; `None` means the usual public ones.
    pub routers: Option<Vec<HostPort>>,
    /// Nodes to start from in any case.
    pub add_node: Vec<HostPort>,
    /// The limit for what the DHT sends.
    pub limit_up: Option<u64>,
    /// Whether to send queries without answering any (BEP 43).
    pub read_only: bool,
    /// The most new remote endpoints a second; `None` means unlimited.
    pub new_remote_budget: Option<u32>,
}

impl Default for Settings {
    /// The defaults of the default file; folders are at the platform's usual places.
    fn default() -> Self {
        let mut settings = Self {
            downloads: ".".into(),
            session: state_folder(),
            ports: Ports { first: 0, last: 0 },
            interfaces: Vec::new(),
            encryption: Encryption::Off,
            pex: false,
            proxy: None,
            user_agent: None,
            down: None,
            up: None,
            torrent_down: None,
            torrent_up: None,
            connections: 0,
            torrent_connections: 0,
            memory: 0,
            disk_threads: None,
            allocation: Allocation::Sparse,
            open_files: 0,
            names: Names::Native,
            seed_ratio: None,
            seed_time: None,
            shutdown_timeout: Duration::ZERO,
            dht: DhtSettings::default(),
        };
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            let set = DeValue::parse(key.default)
                .ok()
                .map(|value| (key.set)(&mut settings, value.get_ref()));
            debug_assert_eq!(set, Some(Ok(())), "default of {}", key.path);
        }
        settings
    }
}

impl Settings {
    /// Reads `path`. A file that does not exist counts as an empty one.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(ConfigError {
                file: path.into(),
                at: None,
                message: e.to_string(),
            }),
        }
    }

    /// Parses `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let fail = |at: usize, message: String| ConfigError {
            file: file.into(),
            at: Some(line_and_column(text, at)),
            message,
        };
        let table = DeTable::parse(text)
            .map_err(|e| fail(e.span().map_or(0, |s| s.start), e.message().into()))?;
        let mut settings = Self::default();
        for (section, content) in table.get_ref() {
            let name = section.get_ref().as_ref();
            let at = section.span().start;
            if !sections().any(|s| s == name) {
                return Err(fail(at, unknown_section(name)));
            }
            let DeValue::Table(content) = content.get_ref() else {
                return Err(fail(at, format!("`{name}` is a section: write [{name}]")));
            };
            for (key, value) in content {
                let path = format!("{name}.{}", key.get_ref());
                let Some(known) = KEYS.iter().find(|k| k.path == path) else {
                    return Err(fail(key.span().start, unknown_key(name, key.get_ref())));
                };
                settings
                    .take(known, value)
                    .map_err(|e| fail(value.span().start, format!("{path}: {e}")))?;
            }
        }
        Ok(settings)
    }

    fn take(&mut self, key: &Key, value: &Spanned<DeValue<'_>>) -> Result<(), values::Expected> {
        (key.set)(self, value.get_ref())
    }

    /// The UDP port of a DHT node that runs alone: its own, or else the first port to listen on.
    #[must_use]
    pub fn dht_port(&self) -> u16 {
        match self.ports.first {
            0 => self.dht.port.unwrap_or(dht::DEFAULT_PORT),
            first => self.dht.port.unwrap_or(first),
        }
    }

    /// The settings of the disk.
    #[must_use]
    pub fn disk(&self) -> DiskConfig {
        let default = DiskConfig::default();
        DiskConfig {
            threads: self.disk_threads.unwrap_or(default.threads),
            open_files: self.open_files,
        }
    }
}

/// The path of the settings file if no other is named.
#[must_use]
pub fn default_path() -> PathBuf {
    project().map_or_else(
        || "dunlin.toml".into(),
        |dirs| dirs.config_dir().join("dunlin.toml"),
    )
}

/// The file with every setting, explained and commented out.
#[must_use]
pub fn default_file() -> String {
    let mut text = String::from(
        "# Dunlin's settings. Every line that starts with `#` and a name shows the default;\n\
         # take the `#` away to change it.\n",
    );
    let defaults = Settings::default();
    for section in sections() {
        text.push_str(&format!("\n[{section}]\n"));
        let in_section = |k: &&Key| split(k.path).0 == section;
        for key in KEYS.iter().filter(in_section) {
            for line in key.doc.lines() {
                text.push_str(&format!("# {line}\n"));
            }
            let folder = (key.path == "folders.session").then_some(&defaults.session);
            // For a path of plain text, Rust's debug form is a valid TOML string.
            let value = folder.map_or(key.default.into(), |f| format!("{:?}", f.to_string_lossy()));
            text.push_str(&format!("#{} = {value}\n", split(key.path).1));
        }
    }
    text
}

/// The reason why settings were refused, and the position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, counted from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

fn split(path: &'static str) -> (&'static str, &'static str) {
    path.split_once('.').unwrap_or((path, ""))
}

/// The sections, in the order of the default file.
fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    let section = KEYS.iter().map(|k| split(k.path).0);
    section.filter(move |s| std::mem::replace(&mut last, s) != *s)
}

fn unknown_section(name: &str) -> String {
    let known: Vec<_> = sections().map(|s| format!("[{s}]")).collect();
    // A setting outside its section is the most likely mistake.
    let home = KEYS.iter().map(|k| split(k.path)).find(|k| k.1 == name);
    let hint = match (home, nearest(name, sections())) {
        (Some((section, _)), _) => format!("it belongs into [{section}]"),
        (_, Some(near)) => format!("did you mean [{near}]?"),
        _ => format!("there are {}", known.join(", ")),
    };
    format!("unknown section `{name}`: {hint}")
}

fn unknown_key(section: &str, name: &str) -> String {
    let here = || {
        KEYS.iter()
            .map(|k| split(k.path))
            .filter(|k| k.0 == section)
    };
    let names: Vec<_> = here().map(|k| k.1).collect();
    let home = KEYS.iter().map(|k| split(k.path)).find(|k| k.1 == name);
    let hint = match (nearest(name, names.iter().copied()), home) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (_, Some((other, _))) => format!("it belongs into [{other}]"),
        _ => format!("there are {}", names.join(", ")),
    };
    format!("unknown setting `{name}` in [{section}]: {hint}")
}

/// The name most similar to `wrong`, if one is similar.
fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LIKE: f64 = 0.75;
    let wrong = wrong.to_lowercase().replace('-', "_");
    names
        .map(|name| (strsim::jaro_winkler(&wrong, name), name))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Line and column, counted from 1; columns count characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line..].chars().count() + 1,
    )
}

fn project() -> Option<ProjectDirs> {
    ProjectDirs::from("", "", "dunlin")
}

fn state_folder() -> PathBuf {
    let dir = |dirs: &ProjectDirs| {
        dirs.state_dir()
            .unwrap_or(dirs.data_local_dir())
            .join("session")
    };
    project()
        .as_ref()
        .map_or_else(|| "dunlin-session".into(), dir)
}

#[cfg(test)]
mod tests;
