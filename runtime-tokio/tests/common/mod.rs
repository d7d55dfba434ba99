//! Sessions on loopback.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "tests, and each uses a part of it"
)]

#[cfg(feature = "cli")]
pub(crate) mod command;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

pub(crate) use dunlin_std::testing::content::{Content, noise};
use dunlin_tokio::{Config, Event, Session, SessionConfig, Torrent};
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
