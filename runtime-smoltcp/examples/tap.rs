//! Downloads or seeds a torrent over a TAP device with a network stack of its own (Linux).
//!
//! ```sh
//! ip tuntap add mode tap name tap0 && ip addr add 10.78.0.1/24 dev tap0 && ip link set tap0 up
//! cargo run --release -p dunlin-smoltcp --example tap -- --tap tap0 --ip 10.78.0.2/24 \
//!     --gateway 10.78.0.1 --torrent some.torrent --out downloads
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    let args: Vec<String> = std::env::args().skip(1).collect();
    match linux::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tap: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("tap: TAP devices are Linux's");
    println!();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::error::Error;
    use std::fs;
    use std::io::Read;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::AsRawFd;
    use std::path::{Component, Path, PathBuf};
    use std::time::{Duration, Instant as Clock};

    use dunlin_core::engine::{AddTorrent, Command, Event, Level, Source, State};
    use dunlin_core::metainfo::{FileKind, Info, Torrent};
    use dunlin_core::{Config, EncryptionPolicy, Instant, TorrentId};
    use dunlin_smoltcp::{Driver, Hardware, NetConfig, Polled, RamDisk};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;
    use smoltcp::phy::{Medium, TunTapInterface, wait};

    type Result<T> = std::result::Result<T, Box<dyn Error>>;

    const USAGE: &str = "tap --tap NAME --ip ADDRESS/PREFIX… [--gateway ADDRESS…] [--dns ADDRESS…]
    --torrent FILE (--out FOLDER | --seed FOLDER) [--peer ADDRESS:PORT…] [--port PORT]
    [--encryption off|preferred|required]

Downloads into FOLDER and ends, or seeds what lies in FOLDER until it is killed.";
    /// The longest sleep, so that progress is printed every second.
    const SECOND: Duration = Duration::from_secs(1);

    struct Args {
        tap: String,
        net: NetConfig,
        config: Config,
        torrent: PathBuf,
        out: Option<PathBuf>,
        seed: Option<PathBuf>,
        peers: Vec<SocketAddr>,
    }

    fn parse(args: &[String]) -> Result<Args> {
        let mut config = Config {
            max_connections: 50,
            ..Config::default()
        };
        // A locally administered address for the machine behind the device.
        let hardware = Hardware::Ethernet([2, 0x44, 0x55, 0x4e, 0, 1]);
        let mut net = NetConfig::for_engine(hardware, &config);
        let (mut tap, mut torrent, mut out, mut seed) = (None, None, None, None);
        let (mut peers, mut port) = (Vec::new(), 6881);
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match name.as_str() {
                "--tap" => tap = Some(value.clone()),
                "--ip" => {
                    let (address, prefix) = value.split_once('/').ok_or(USAGE)?;
                    net = net.address(address.parse()?, prefix.parse()?);
                }
                "--gateway" => net = net.gateway(value.parse()?),
                "--dns" => net.dns.push(value.parse()?),
                "--torrent" => torrent = Some(PathBuf::from(value)),
                "--out" => out = Some(PathBuf::from(value)),
                "--seed" => seed = Some(PathBuf::from(value)),
                "--peer" => peers.push(value.parse()?),
                "--port" => port = value.parse()?,
                "--encryption" => {
                    config.encryption = match value.as_str() {
                        "off" => EncryptionPolicy::Off,
                        "preferred" => EncryptionPolicy::Preferred,
                        "required" => EncryptionPolicy::Required,
                        _ => return Err(USAGE.into()),
                    };
                }
                _ => return Err(USAGE.into()),
            }
        }
        for (any, v6) in [
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), false),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), true),
        ] {
            if net.addresses.iter().any(|(a, _)| a.is_ipv6() == v6) {
                let _ = config.listen.push(SocketAddr::new(any, port));
            }
        }
        if out.is_some() == seed.is_some() {
            return Err(USAGE.into());
        }
        Ok(Args {
            tap: tap.ok_or(USAGE)?,
            net,
            config,
            torrent: torrent.ok_or(USAGE)?,
            out,
            seed,
            peers,
        })
    }

    pub(super) fn run(args: &[String]) -> Result<()> {
        let args = parse(args)?;
        let torrent = Torrent::parse(&fs::read(&args.torrent)?)?;
        let info = torrent.info;
        let mut disk = RamDisk::new(info.total_len());
        if let Some(folder) = &args.seed {
            let content = read(&info, folder)?;
            disk.put(&info, content)
                .map_err(|_| "the files are not as long as the torrent says")?;
        }
        let mut entropy = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut entropy)?;
        let rng = Box::new(ChaCha8Rng::from_seed(entropy));
        let mut device = TunTapInterface::new(&args.tap, Medium::Ethernet)?;
        let clock = Clock::now();
        let now = || {
            let micros = clock.elapsed().as_micros();
            Instant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        };
        let mut driver = Driver::new(now(), &mut device, &args.net, args.config, disk, rng)?;
        let add = AddTorrent {
            trackers: torrent.trackers,
            peers: args.peers,
            ..AddTorrent::new(Source::Info(info.clone()))
        };
        let id = driver.engine_mut().add(now(), add)?;
        let mut said = Clock::now();
        let mut stopping = false;
        loop {
            while driver.poll(now(), &mut device) == Polled::Busy {}
            while let Some(event) = driver.poll_event() {
                match event {
                    Event::Stopped => return Ok(()),
                    Event::Notice(n) if n.level != Level::Detail => println!("{}", n.what),
                    _ => {}
                }
            }
            let status = driver.engine().torrent(id).map(|t| t.status(now()));
            if let Some(State::Failed(error)) = status.as_ref().map(|s| &s.state) {
                return Err(error.detail.clone().into());
            }
            let complete = status.is_some_and(|s| s.state == State::Seeding);
            if said.elapsed() >= SECOND {
                said = Clock::now();
                progress(&driver, now(), id);
            }
            if let Some(folder) = args.out.as_ref().filter(|_| complete && !stopping) {
                let content = driver.storage().content(info.info_hash());
                write(&info, content.unwrap_or_default(), folder)?;
                println!("saved");
                stopping = true;
                driver
                    .engine_mut()
                    .command(now(), Command::Shutdown)
                    .expect("it is always carried out");
                continue;
            }
            let until = driver.poll_timeout();
            let sleep = until.map_or(SECOND, |at| at.saturating_since(now()).min(SECOND));
            // The system waits in whole milliseconds, and waking too early would mean waking twice.
            let sleep =
                smoltcp::time::Duration::from_millis(sleep.as_micros().div_ceil(1000) as u64);
            wait(device.as_raw_fd(), Some(sleep))?;
        }
    }

    fn progress(driver: &Driver<RamDisk>, now: Instant, id: TorrentId) {
        if let Some(s) = driver.engine().torrent(id).map(|t| t.status(now)) {
            println!(
                "{} of {} pieces, {} peers, {} KiB/s down, {} KiB/s up",
                s.pieces_done,
                s.pieces,
                s.peers,
                s.rate_down >> 10,
                s.rate_up >> 10
            );
        }
    }

    /// The paths of a torrent's files below `folder`, with their ranges in its bytes.
    fn places(info: &Info, folder: &Path) -> Result<Vec<(PathBuf, usize, usize)>> {
        let mut places = Vec::new();
        for file in info.files() {
            if file.kind != FileKind::Regular {
                continue;
            }
            let mut path = PathBuf::from(info.name());
            if info.files().len() > 1 || file.path != [info.name()] {
                path.extend(&file.path);
            }
            // Names in torrent files are not trusted.
            if !path.components().all(|c| matches!(c, Component::Normal(_))) {
                return Err(format!("{}: not a name for a file", path.display()).into());
            }
            let (at, len) = (usize::try_from(file.offset)?, usize::try_from(file.len)?);
            places.push((folder.join(path), at, len));
        }
        Ok(places)
    }

    fn read(info: &Info, folder: &Path) -> Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(info.total_len())?];
        for (path, at, len) in places(info, folder)? {
            let named = |e| format!("{}: {e}", path.display());
            fs::File::open(&path)
                .and_then(|mut file| file.read_exact(&mut content[at..at + len]))
                .map_err(named)?;
        }
        Ok(content)
    }

    fn write(info: &Info, content: &[u8], folder: &Path) -> Result<()> {
        for (path, at, len) in places(info, folder)? {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, &content[at..at + len])?;
        }
        Ok(())
    }
}
