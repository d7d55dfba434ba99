//! The smoltcp driver as a machine of its own behind a TAP device, with a real Transmission on the
//! kernel's side: a TCP that shares no line with ours.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use dunlin_tests::lab::{Family, Lab, Proc};
use dunlin_tests::payload::{Payload, Torrent};
use dunlin_tests::peers::{Client, Crypto, Job, Role, Source};
use dunlin_tests::tracker::{self, Opentracker, Tracker};
use dunlin_tests::wait::until;

const LEN: u64 = 12 << 20;
const PIECE_LOG: u32 = 17;
const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 6881;

/// The example: `DUNLIN_TAP_BIN`, else the release build of the target folder this program lies in.
fn command() -> PathBuf {
    let built = || {
        let own = std::env::current_exe().expect("this program");
        own.ancestors()
            .map(|dir| dir.join("release/examples/tap"))
            .find(|path| path.exists())
    };
    let named = std::env::var_os("DUNLIN_TAP_BIN").map(PathBuf::from);
    named
        .or_else(built)
        .expect("cargo build --release -p dunlin-smoltcp --example tap, or DUNLIN_TAP_BIN")
}

/// A lab with a device in it, and a tracker.
struct Scene {
    lab: Lab,
    payload: Payload,
    torrent: Torrent,
    tracker: Opentracker,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        lab.tap("tap0", &["10.78.0.1/24", "fd78::1/64"]);
        let payload = Payload::tree(&lab.folder("payload"), "tap tree", 7, LEN);
        let address = tracker::address_for(&lab, Family::V4);
        let torrent = payload.torrent(PIECE_LOG, &[tracker::http_url(address)]);
        let tracker = Opentracker::start(&lab, address, &[&torrent]);
        Self {
            lab,
            payload,
            torrent,
            tracker,
        }
    }

    /// The machine behind the device, with more options at the end.
    fn machine(&self, options: &[&str]) -> Proc {
        let torrent = self.torrent.path.to_string_lossy();
        let addresses = ["--ip", "10.78.0.2/24", "--ip", "fd78::2/64"];
        let gateways = ["--gateway", "10.78.0.1", "--gateway", "fd78::1"];
        let mut args = vec!["--tap", "tap0", "--torrent", &torrent];
        args.extend(addresses.iter().chain(&gateways).chain(options));
        self.lab.spawn(command(), &args)
    }

    fn transmission(&self, role: Role, family: Family, crypto: Crypto, dir: &Path) -> Job {
        Job {
            listen: SocketAddr::new(self.lab.address(family), PORT),
            crypto,
            role,
            source: Source::File(self.torrent.clone()),
            dir: dir.to_owned(),
            marker: None,
            dht: None,
        }
    }

    /// Transmission seeds, the machine downloads; `told`: it is given the address and need not
    /// ask the tracker, which knows none of this family.
    fn download(&self, family: Family, crypto: Crypto, told: bool) {
        let job = self.transmission(Role::Seed, family, crypto, &self.payload.root);
        let mut seed = Client::Transmission.start(&self.lab, &job);
        let ready = || seed.complete(&self.lab).then_some(());
        until("the seed to have checked its files", PATIENCE, ready);
        if !told {
            self.tracker
                .wait_for_seed(&self.lab, &self.torrent, PATIENCE);
        }
        let out = self.lab.folder("download");
        let peer = job.listen.to_string();
        let mut options = vec!["--out", out.to_str().expect("made of ASCII")];
        if told {
            options.extend(["--peer", &peer]);
        }
        let mut machine = self.machine(&options);
        let status = machine.wait(PATIENCE);
        assert!(status.success(), "{status}: {}", machine.log());
        self.payload.assert_same(&out, false);
    }

    /// The machine seeds, Transmission downloads.
    fn upload(&self, crypto: Crypto) {
        let root = self.payload.root.to_string_lossy();
        let _machine = self.machine(&["--seed", &root]);
        self.tracker
            .wait_for_seed(&self.lab, &self.torrent, PATIENCE);
        let out = self.lab.folder("download");
        let job = self.transmission(Role::Download, Family::V4, crypto, &out);
        let mut leech = Client::Transmission.start(&self.lab, &job);
        let complete = || leech.complete(&self.lab).then_some(());
        until("the download", PATIENCE, complete);
        self.payload.assert_same(&out, true);
    }
}

#[test]
fn from_transmission() {
    Scene::new().download(Family::V4, Crypto::Off, false);
}

#[test]
fn from_transmission_encrypted() {
    Scene::new().download(Family::V4, Crypto::Required, false);
}

#[test]
fn from_transmission_over_ipv6() {
    Scene::new().download(Family::V6, Crypto::Off, true);
}

#[test]
fn to_transmission() {
    Scene::new().upload(Crypto::Off);
}

#[test]
fn to_transmission_encrypted() {
    Scene::new().upload(Crypto::Required);
}

/// The kernel opens connections to it over both families.
#[test]
fn the_machine_is_on_the_network() {
    let scene = Scene::new();
    let root = scene.payload.root.to_string_lossy();
    let _machine = scene.machine(&["--seed", &root]);
    for ip in ["10.78.0.2", "fd78::2"] {
        let ip: IpAddr = ip.parse().expect("an address");
        let open = || {
            let to = SocketAddr::new(ip, PORT);
            let timeout = Duration::from_secs(1);
            let stream = scene
                .lab
                .inside(|| std::net::TcpStream::connect_timeout(&to, timeout));
            stream.is_ok().then_some(())
        };
        until("a connection", PATIENCE, open);
    }
}
