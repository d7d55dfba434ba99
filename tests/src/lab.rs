//! A network namespace with processes in it, gone when dropped.
//!
//! The namespace has only a loopback interface, with addresses 10.77.0.1–50 and fd77::1–50 on it and a
//! default route into it: Transmission never dials 127/8, and treats two clients behind one
//! address as one, so each client gets an address of its own. Names carry this process's id; the
//! namespaces of processes that died without cleaning up are removed by the next lab.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use wait4::Wait4;

use crate::wait::until;

/// Addresses of each family a lab has.
const ADDRESSES: u8 = 50;
/// Where `ip netns` keeps its names.
const NETNS: &str = "/run/netns";
/// How long a client may take to go when asked.
const FAREWELL: Duration = Duration::from_secs(15);
/// Lines of a log shown when a test fails.
const LOG_TAIL: usize = 60;

/// Address family of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.77.0.0/24.
    V4,
    /// fd77::/64.
    V6,
}

/// A network namespace, a scratch folder, and a supply of addresses.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: tempfile::TempDir,
    next_address: AtomicU8,
}

impl Lab {
    /// Builds the namespace. Needs root.
    ///
    /// # Panics
    /// When it cannot, with what `ip` said.
    #[expect(
        clippy::new_without_default,
        reason = "a default that makes a namespace would surprise"
    )]
    pub fn new() -> Self {
        let lab = Self::bare();
        for n in 1..=ADDRESSES {
            lab.ip(&["addr", "add", &format!("{}/32", v4(n)), "dev", "lo"]);
            lab.ip(&[
                "addr",
                "add",
                &format!("{}/64", v6(n)),
                "dev",
                "lo",
                "nodad",
            ]);
        }
        lab.ip(&["route", "add", "default", "dev", "lo"]);
        lab
    }

    /// Builds a namespace with nothing in it but 127.0.0.1 and ::1. Needs root.
    ///
    /// # Panics
    /// When it cannot, with what `ip` said.
    pub fn bare() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_orphans();
        let name = format!(
            "dunlin-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::Builder::new()
            .prefix("dunlin-lab-")
            .tempdir()
            .expect("a scratch folder");
        // opentracker gives up root before it reads its list.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
        ip(&["netns", "add", &name]);
        let lab = Self {
            name,
            dir,
            next_address: AtomicU8::new(1),
        };
        lab.ip(&["link", "set", "lo", "up"]);
        lab
    }

    /// An address nobody else in the lab has.
    pub fn address(&self, family: Family) -> IpAddr {
        let n = self.next_address.fetch_add(1, Ordering::Relaxed);
        assert!(n <= ADDRESSES, "the lab is out of addresses");
        match family {
            Family::V4 => IpAddr::V4(v4(n)),
            Family::V6 => IpAddr::V6(v6(n)),
        }
    }

    /// A TAP device with these addresses at the kernel's end; the other end belongs to the program that
    /// opens it.
    pub fn tap(&self, name: &str, addresses: &[&str]) {
        self.ip(&["tuntap", "add", "dev", name, "mode", "tap"]);
        for address in addresses {
            // An address whose uniqueness is still being checked cannot be used.
            let checked: &[&str] = if address.contains(':') {
                &["nodad"]
            } else {
                &[]
            };
            self.ip(&[&["addr", "add", address, "dev", name], checked].concat());
        }
        self.ip(&["link", "set", name, "up"]);
    }

    /// A cable to another lab: an interface of this name at both ends, each with an address.
    pub fn wire(&self, name: &str, address: &str, other: &Self, their_address: &str) {
        self.ip(&[
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            name,
            "netns",
            &other.name,
        ]);
        for (lab, address) in [(self, address), (other, their_address)] {
            lab.ip(&["addr", "add", address, "dev", name]);
            lab.ip(&["link", "set", name, "up"]);
        }
    }

    /// Takes the interface `name` away, and with a cable the other end of it.
    pub fn unplug(&self, name: &str) {
        self.ip(&["link", "del", name]);
    }

    /// A new empty folder.
    pub fn folder(&self, prefix: &str) -> PathBuf {
        tempfile::Builder::new()
            .prefix(&format!("{prefix}-"))
            .permissions(fs::Permissions::from_mode(0o755))
            .disable_cleanup(true) // goes with the lab's own folder
            .tempdir_in(self.dir.path())
            .expect("a folder in the lab")
            .keep()
    }

    /// The lab's scratch folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a program in the namespace. Its output goes to a log, shown if the test fails.
    pub fn spawn<S: AsRef<OsStr>>(&self, program: impl AsRef<OsStr>, args: &[S]) -> Proc {
        self.spawn_env(program, args, &[])
    }

    /// As [`Self::spawn`], with environment variables.
    pub fn spawn_env<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: &[S],
        env: &[(&str, &OsStr)],
    ) -> Proc {
        let program = program.as_ref();
        let name = Path::new(program)
            .file_name()
            .unwrap_or(program)
            .to_string_lossy()
            .into_owned();
        let home = self.folder(&name);
        let log = home.join("log");
        let out = File::create(&log).expect("a log file");
        // `ip netns exec` and `setpriv` both replace themselves: the child's pid is the program's.
        let child = Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.name,
                "setpriv",
                "--pdeathsig",
                "KILL",
            ])
            .arg(program)
            .args(args)
            .envs(env.iter().copied())
            .env("HOME", &home)
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("XDG_DATA_HOME")
            .current_dir(&home)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("ip netns exec");
        Proc {
            name,
            log,
            child: Some(child),
        }
    }

    /// Runs `f` on a thread inside the namespace, so that its sockets are there.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    f()
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace; it cannot leave again.
    pub fn enter(&self) {
        let ns = File::open(Path::new(NETNS).join(&self.name)).expect("the namespace's name");
        move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns");
    }

    fn ip(&self, args: &[&str]) {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend(args);
        ip(&all);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, n)
}

fn v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, n.into())
}

fn ip(args: &[&str]) {
    let done = Command::new("ip")
        .args(args)
        .output()
        .expect("ip (package iproute2)");
    assert!(
        done.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn delete(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).status();
}

/// Removes the namespaces of labs whose process is gone.
fn remove_orphans() {
    let Ok(names) = fs::read_dir(NETNS) else {
        return;
    };
    for name in names
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
    {
        let owner = name
            .strip_prefix("dunlin-")
            .and_then(|rest| rest.split('-').next());
        if owner
            .and_then(|pid| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        {
            delete(&name);
        }
    }
}

/// A child of this process; killed when dropped.
#[derive(Debug)]
pub struct Proc {
    name: String,
    log: PathBuf,
    child: Option<Child>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    /// In user mode.
    pub user: Duration,
    /// In the kernel.
    pub sys: Duration,
    /// Largest resident set, in bytes.
    pub peak_rss: u64,
    /// How it ended.
    pub status: ExitStatus,
}

impl Proc {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("not reaped yet").id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its folder: home and current directory.
    pub fn home(&self) -> &Path {
        self.log.parent().expect("the log lies in the home")
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Never in a sane world: the child is ours.
    pub fn running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("our child").is_none())
    }

    /// Whether it has ended, without reaping it: what it used can still be asked for.
    pub fn exited(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_none_or(|rest| rest.starts_with(['Z', 'X']) || rest.is_empty())
    }

    /// Sends a signal; nothing happens if it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self
            .child
            .as_ref()
            .and_then(|child| Pid::from_raw(child.id().cast_signed()))
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it outlives `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} (pid {}) to end", self.name, self.pid());
        let child = self.child.as_mut().expect("not reaped yet");
        until(&what, limit, || child.try_wait().expect("our child"))
    }

    /// Asks it to go, and waits for that.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(FAREWELL)
    }

    /// kill -9, and what it had used by then.
    ///
    /// # Panics
    /// If it was reaped before.
    pub fn kill(&mut self) -> Used {
        self.signal(Signal::KILL);
        self.reap()
    }

    /// Waits, without limit, for its end, and tells what it used.
    ///
    /// # Panics
    /// If it was reaped before.
    pub fn reap(&mut self) -> Used {
        let mut child = self.child.take().expect("not reaped yet");
        let done = child.wait4().expect("our child");
        Used {
            user: done.rusage.utime,
            sys: done.rusage.stime,
            peak_rss: done.rusage.maxrss,
            status: done.status,
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- log of {} (last of {} lines)", self.name, lines.len());
            for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
                eprintln!("    {line}");
            }
        }
    }
}
