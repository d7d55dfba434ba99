//! `demo`: creates, shares and downloads a torrent on this machine alone.

mod tracker;

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use dunlin_tokio::{
    Add, Event, Level, Session, SessionConfig,
    dunlin_core::{
        engine::Check,
        metainfo::{Builder, Torrent},
    },
};

use crate::{
    args,
    exit::Exit,
    output::{complain, say},
    signals::Signals,
    units,
};
use tracker::Tracker;

/// A transfer over loopback that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs `dunlin demo`.
pub(crate) async fn demo(args: args::Demo) -> Exit {
    // With an unused name, and accessible by its owner only.
    let folder = match private_folder() {
        Ok(folder) => folder,
        Err(error) => {
            complain(&at(&std::env::temp_dir(), &error));
            return Exit::Failed;
        }
    };
    let result = match Signals::new() {
        Ok(mut signals) => tokio::select! {
            result = tokio::time::timeout(PATIENCE, run(&args, folder.path())) => {
                let late = || format!("not done after {}", units::time(PATIENCE));
                result.unwrap_or_else(|_| Err(late())).map(|()| Exit::Complete)
            }
            exit = signals.next() => Ok(exit),
        },
        Err(error) => Err(format!("cannot listen for signals: {error}")),
    };
    let path = folder.path().to_path_buf();
    if args.keep {
        say(&format!("The files are in {}.", folder.keep().display()));
    } else if let Err(error) = folder.close() {
        complain(&at(&path, &error));
    }
    result.unwrap_or_else(|message| {
        complain(&message);
        Exit::Failed
    })
}

fn private_folder() -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("dunlin-demo-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

async fn run(args: &args::Demo, folder: &Path) -> Result<(), String> {
    let (shared, fetched) = (folder.join("shared"), folder.join("fetched"));
    let tracker = Tracker::start()
        .await
        .map_err(|e| in_words("tracker", &e))?;
    say(&format!("A tracker listens on {}.", tracker.url()));

    let files = make_files(&shared.join("demo"), args.size)?;
    let mut torrent = make_torrent(&files)?;
    torrent.trackers = vec![vec![tracker.url()]];
    let file = folder.join("demo.torrent");
    fs::write(&file, torrent.to_bytes()).map_err(|e| at(&file, &e))?;
    say(&format!(
        "A torrent of {} files, {}, is made: info-hash {}.",
        files.len(),
        units::size(torrent.info.total_len()),
        torrent.info.info_hash()
    ));

    let seeder = session(args.verbose, "seeder").await?;
    let shares = seeder
        .add(Add::file(&file).dir(&shared).check(Check::All))
        .await
        .map_err(|e| e.to_string())?;
    shares.wait_complete().await.map_err(|e| e.to_string())?;
    tracker.wait_for_peer().await;
    say("The first session has checked the files, shares them, and has told the tracker.");

    let fetcher = session(args.verbose, "fetcher").await?;
    let began = Instant::now();
    let magnet = torrent.magnet().to_string();
    let fetches = fetcher
        .add(
            Add::magnet(&magnet)
                .map_err(|e| e.to_string())?
                .dir(&fetched),
        )
        .await
        .map_err(|e| e.to_string())?;
    say("The second session has been given a magnet link, and asks the tracker for peers.");
    fetches.wait_metadata().await.map_err(|e| e.to_string())?;
    say("It has the metadata, from its peer.");
    let status = fetches.wait_complete().await.map_err(|e| e.to_string())?;
    let took = began.elapsed();
    let rate = status.total as f64 / took.as_secs_f64().max(0.001);
    say(&format!(
        "It has all of it: {} in {:.2} s, {}.",
        units::size(status.total),
        took.as_secs_f64(),
        units::rate(rate as u64)
    ));

    fetcher.shutdown().await;
    seeder.shutdown().await;
    for (path, expected) in &files {
        let copy = fetched.join("demo").join(path);
        let found = fs::read(&copy).map_err(|e| at(&copy, &e))?;
        if &found != expected {
            return Err(format!("{}: the bytes differ", copy.display()));
        }
    }
    say("Every byte is equal, and both sessions have ended in good order.");
    Ok(())
}

/// A session on loopback that keeps nothing.
async fn session(verbose: u8, name: &'static str) -> Result<Session, String> {
    let config = SessionConfig {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        ..SessionConfig::default().without_dht()
    };
    let session = Session::new(config).await.map_err(|e| e.to_string())?;
    let mut events = session.events();
    // This task ends with the session.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Event::Notice(notice) = event
                && (verbose > 0 || notice.level >= Level::Warning)
            {
                let peer = notice.peer.map(|p| format!("{p}: ")).unwrap_or_default();
                complain(&format!("{name}: {peer}{}", notice.what));
            }
        }
    });
    Ok(session)
}

/// Creates files of odd sizes, so that they share pieces, filled with noise. Returns paths and contents.
fn make_files(folder: &Path, size: u64) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let size = usize::try_from(size).map_err(|_| "--size: too large for this machine")?;
    let parts = [
        ("readme.txt", 13),
        ("large.bin", size / 4 * 3),
        ("sub/empty", 0),
        ("sub/small.bin", size - size / 4 * 3),
    ];
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    let mut files = Vec::new();
    for (name, len) in parts {
        let mut data = Vec::with_capacity(len + 8);
        while data.len() < len {
            // xorshift: fast, and the result neither compresses nor repeats.
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            data.extend_from_slice(&noise.to_le_bytes());
        }
        data.truncate(len);
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| at(parent, &e))?;
        }
        fs::write(&path, &data).map_err(|e| at(&path, &e))?;
        files.push((PathBuf::from(name), data));
    }
    Ok(files)
}

fn make_torrent(files: &[(PathBuf, Vec<u8>)]) -> Result<Torrent, String> {
    let mut builder = Builder::folder("demo");
    for (path, data) in files {
        let path = path
            .iter()
            .map(|part| part.to_string_lossy().into())
            .collect();
        builder.add(path, data.len() as u64);
    }
    let draft = builder.draft().map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    for file in draft.layout().files() {
        let path: PathBuf = file.path.iter().collect();
        let data = files.iter().find(|(name, _)| *name == path);
        bytes.extend_from_slice(data.map_or(&[][..], |(_, data)| data));
    }
    let piece_len = draft.layout().piece_len() as usize;
    let hashes: Vec<_> = bytes
        .chunks(piece_len)
        .map(dunlin_tokio::dunlin_core::hash::sha1)
        .collect();
    draft.finish(&hashes).map_err(|e| e.to_string())
}

fn at(path: &Path, error: &io::Error) -> String {
    in_words(&path.display().to_string(), error)
}

fn in_words(what: &str, error: &io::Error) -> String {
    format!("{what}: {error}")
}
