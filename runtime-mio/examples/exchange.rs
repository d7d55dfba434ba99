//! Fetches or seeds one torrent with the blocking driver.
//!
//! ```text
//! cargo run -p dunlin-mio --example exchange -- [OPTION…] FOLDER TORRENT|MAGNET
//!
//!   --listen ADDR      where to listen, and unless it is 0.0.0.0 or [::] to leave from, more than
//!                      once if need be (all addresses, a port that the system chooses)
//!   --peer ADDR        a peer to try at once, more than once if need be
//!   --seed             check FOLDER's content first, and upload until SIGTERM or Ctrl-C
//!   --encryption HOW   off or required (preferred)
//!   --session DIR      keep resume records there, and go on from them
//!   --threads N        disk threads (1)
//! ```
//!
//! Prints what happens; ends when the download is complete, or when told to.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command")]

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use dunlin_mio::{
    Add, Changes, Driver, DriverConfig, EncryptionPolicy, Event, Level, State, TorrentStatus,
    dunlin_core::engine::Check,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Progress is printed this often while it changes.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Options {
    config: DriverConfig,
    listen: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    seed: bool,
    folder: PathBuf,
    source: String,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut o = Options::default();
    let mut plain = Vec::new();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--listen" => o.listen.push(value()?.parse()?),
            "--peer" => o.peers.push(value()?.parse()?),
            "--seed" => o.seed = true,
            "--session" => o.config.session.folder = Some(value()?.into()),
            "--threads" => o.config.session.disk.threads = value()?.parse()?,
            "--encryption" => {
                o.config.session.engine.encryption = match value()?.as_str() {
                    "off" => EncryptionPolicy::Off,
                    "required" => EncryptionPolicy::Required,
                    other => return Err(format!("--encryption {other}: off or required").into()),
                }
            }
            option if option.starts_with("--") => return Err(format!("no option {option}").into()),
            _ => plain.push(arg),
        }
    }
    let [folder, source] = <[String; 2]>::try_from(plain).map_err(|_| "FOLDER TORRENT|MAGNET")?;
    o.folder = folder.into();
    o.source = source;
    if !o.listen.is_empty() {
        let egress = &mut o.config.session.route.egress;
        for address in o.listen.iter().filter(|at| !at.ip().is_unspecified()) {
            match address.ip() {
                IpAddr::V4(ip) => egress.v4 = Some(ip),
                IpAddr::V6(ip) => egress.v6 = Some(ip),
            }
        }
        o.config.session.listen.clone_from(&o.listen);
    }
    Ok(o)
}

fn run(o: Options) -> Result<()> {
    let mut add = match o.source.starts_with("magnet:") {
        true => Add::magnet(&o.source)?,
        false => Add::file(&o.source),
    };
    add = add.dir(o.folder).peers(o.peers);
    if o.seed {
        add = add.check(Check::All);
    }
    let mut driver = Driver::new(o.config)?;
    stop_on_signals(&driver)?;
    let torrent = driver.control().add(add)?;
    let (mut last, mut failed) = (None, None);
    while driver.turn(Some(PERIOD), |event, ctl| match event {
        Event::Notice(notice) if notice.level >= Level::Warning => eprintln!("{}", notice.what),
        Event::Changed { what, .. } if what.contains(Changes::STATE) => {
            let Some(status) = ctl.status(torrent) else {
                return;
            };
            match status.state {
                State::Seeding => {
                    println!("complete: {}", status.name);
                    if !o.seed {
                        ctl.stop();
                    }
                }
                State::Failed(error) => {
                    failed = Some(error);
                    ctl.stop();
                }
                _ => {}
            }
        }
        _ => {}
    })? {
        report(driver.control().status(torrent), &mut last);
    }
    let stats = driver.control().stats();
    println!("{stats:?}");
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Prints progress once a period, if there was any.
fn report(status: Option<TorrentStatus>, last: &mut Option<(std::time::Instant, u64, u64)>) {
    let Some(status) = status else {
        return;
    };
    let now = std::time::Instant::now();
    let moved = (status.done, status.uploaded);
    if let Some((at, done, uploaded)) = *last
        && (now - at < PERIOD || (done, uploaded) == moved)
    {
        return;
    }
    *last = Some((now, moved.0, moved.1));
    println!(
        "{:?}: {} of {} bytes, {} uploaded, {} peers, {} B/s down, {} B/s up",
        status.state,
        status.done,
        status.total,
        status.uploaded,
        status.peers,
        status.rate_down,
        status.rate_up,
    );
}

/// SIGTERM and Ctrl-C end the driver in good order.
fn stop_on_signals(driver: &Driver) -> Result<()> {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        let handle = driver.handle();
        std::thread::spawn(move || {
            for _ in &mut signals {
                // It may have ended already.
                let _ = handle.stop();
            }
        });
    }
    #[cfg(not(unix))]
    let _ = driver;
    Ok(())
}

fn main() -> ExitCode {
    let done = options(std::env::args().skip(1)).and_then(run);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("exchange: {error}");
            ExitCode::FAILURE
        }
    }
}
