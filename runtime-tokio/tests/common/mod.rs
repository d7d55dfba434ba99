//! A content, its torrent, and sessions on loopback.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests, and each uses a part of it"
)]

#[cfg(feature = "cli")]
pub(crate) mod command;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use dunlin_tokio::{
    Add, Config, Event, Session, SessionConfig, Torrent,
    dunlin_core::{engine::Check, hash::sha1, metainfo},
};
use tempfile::TempDir;

/// Longer than any of these transfers takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The command, far from the user's own configuration and state.
#[cfg(feature = "cli")]
pub(crate) fn dunlin(args: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dunlin"));
    command.args(args).stdin(std::process::Stdio::null());
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"] {
        command.env(name, &nowhere);
    }
    command
}

/// A folder of files, and the torrent of it.
pub(crate) struct Content {
    pub(crate) dir: TempDir,
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) torrent: metainfo::Torrent,
}

/// Bytes that neither repeat nor compress.
pub(crate) fn noise(mut seed: u64, len: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        data.extend_from_slice(&seed.to_le_bytes());
    }
    data.truncate(len);
    data
}

impl Content {
    /// Files of the given lengths, in pieces of 64 KiB, which they share.
    pub(crate) fn new(lengths: &[usize]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut builder = metainfo::Builder::folder("content");
        builder.piece_len = Some(64 << 10);
        let mut files = Vec::new();
        for (i, &len) in lengths.iter().enumerate() {
            let name = format!("file{i:02}");
            let data = noise(i as u64 + 1, len);
            builder.add(vec![name.clone()], len as u64);
            let path = Path::new("content").join(name);
            fs::create_dir_all(dir.path().join("content")).unwrap();
            fs::write(dir.path().join(&path), &data).unwrap();
            files.push((path, data));
        }
        let draft = builder.draft().unwrap();
        let all: Vec<u8> = files.iter().flat_map(|(_, data)| data.clone()).collect();
        let hashes: Vec<_> = all.chunks(64 << 10).map(sha1).collect();
        let torrent = draft.finish(&hashes).unwrap();
        Self {
            dir,
            files,
            torrent,
        }
    }

    /// About 4 MiB in three files.
    pub(crate) fn small() -> Self {
        Self::new(&[1 << 20, 77, (3 << 20) + 12_345])
    }

    pub(crate) fn add(&self) -> Add {
        Add::torrent(self.torrent.clone())
    }

    /// To share the original.
    pub(crate) fn share(&self) -> Add {
        self.add().dir(self.dir.path()).check(Check::All)
    }

    pub(crate) fn magnet(&self) -> Add {
        Add::magnet(&self.torrent.magnet().to_string()).unwrap()
    }

    /// Every byte below `dir` is as it should be.
    pub(crate) fn assert_copied(&self, dir: &Path) {
        for (path, data) in &self.files {
            let copy = fs::read(dir.join(path)).unwrap_or_default();
            assert!(copy == *data, "{} differs", path.display());
        }
    }
}

/// A session on loopback, where it listens, and a folder of its own.
pub(crate) struct Node {
    pub(crate) session: Session,
    pub(crate) addr: SocketAddr,
    pub(crate) dir: TempDir,
}

pub(crate) fn config(dir: &Path) -> SessionConfig {
    SessionConfig {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        dir: dir.into(),
        // No DHT that asks the public routers.
        engine: Config::default(),
        dht_without_folder: false,
        ..SessionConfig::default()
    }
}

impl Node {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut SessionConfig)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let session = Session::new(config).await.unwrap();
        let addr = listening(&session).await;
        Self { session, addr, dir }
    }

    /// A session that shares `content`, and its torrent, complete.
    pub(crate) async fn sharing(content: &Content) -> (Self, Torrent) {
        let node = Self::new().await;
        let torrent = node.session.add(content.share()).await.unwrap();
        within(torrent.wait_complete()).await.unwrap();
        (node, torrent)
    }
}

/// Where a session listens, as soon as it does.
pub(crate) async fn listening(session: &Session) -> SocketAddr {
    within(async {
        loop {
            if let Some(&addr) = session.status().await.unwrap().listening.first() {
                return addr;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Waits for what must come.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(PATIENCE, what).await else {
        panic!("not within {PATIENCE:?}");
    };
    done
}

/// Waits for an event that `wanted` recognises.
pub(crate) async fn event(
    events: &mut dunlin_tokio::Events,
    wanted: impl Fn(&Event) -> bool,
) -> Event {
    within(async {
        loop {
            let event = events.next().await.expect("the session lives");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
}
