//! The `dunlin` command as a child process.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

use super::{Content, dunlin};

pub(crate) fn run(args: &[&str]) -> Output {
    dunlin(args).output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The first object of what a command printed.
pub(crate) fn json(text: &str) -> Value {
    let line = text.lines().next().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// A running `seed`, which tells where it listens by the port it was given.
pub(crate) struct Seed {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    pub(crate) peer: String,
}

impl Seed {
    pub(crate) fn start(torrent: &Path, dir: &Path, more: &[&str]) -> Self {
        // Free a moment ago; another process may take it, but none here does.
        let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let peer = port.local_addr().unwrap().to_string();
        drop(port);
        let (torrent, dir) = (torrent.to_str().unwrap(), dir.to_str().unwrap());
        let port = peer.rsplit(':').next().unwrap();
        let mut command = dunlin(&["seed", torrent, "--dir", dir, "--port", port]);
        command.args(["--bind", "127.0.0.1", "--no-session", "--json"]);
        command.args(more);
        Self::of(command, peer)
    }

    /// Runs `command`, a `seed --json`, until it shares.
    pub(crate) fn of(mut command: Command, peer: String) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seed = Self { child, lines, peer };
        seed.until(|v| v["state"] == "seeding");
        seed
    }

    /// Sends a signal by its name.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &id]).status();
        assert!(kill.unwrap().success());
    }

    /// What the system calls the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, after the end.
    pub(crate) fn code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.lines.next().expect("it runs").unwrap();
            let value = json(&line);
            if wanted(&value) {
                return value;
            }
        }
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn torrent_file(content: &Content) -> std::path::PathBuf {
    let path = content.dir.path().join("content.torrent");
    fs::write(&path, content.torrent.to_bytes()).unwrap();
    path
}
