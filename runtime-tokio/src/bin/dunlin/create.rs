//! `create`: makes a torrent file.

use std::{
    fs,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use dunlin_tokio::{
    core::metainfo::Torrent,
    system::tree::{Scan, hash_all},
};
use serde_json::json;

use crate::{
    args,
    exit::Exit,
    report::{Meter, complain, say, say_json},
    units,
};

/// Runs `dunlin create`.
pub(crate) fn create(args: &args::Create) -> Exit {
    match run(args) {
        Ok((torrent, file)) => {
            show(&torrent, &file, args.json);
            Exit::Complete
        }
        Err(message) => {
            complain(&message);
            Exit::Failed
        }
    }
}

fn show(torrent: &Torrent, file: &Path, as_json: bool) {
    let info = &torrent.info;
    if as_json {
        let made = json!({
            "type": "created",
            "file": file.display().to_string(),
            "name": info.name(),
            "torrent": info.info_hash().to_string(),
            "total": info.total_len(),
            "piece_length": info.piece_len(),
            "pieces": info.piece_count(),
            "files": info.files().len(),
            "magnet": torrent.magnet().to_string(),
        });
        return say_json(&made);
    }
    say(&format!(
        "{}: {} in {} pieces of {}",
        file.display(),
        units::size(info.total_len()),
        info.piece_count(),
        units::size(info.piece_len().into()),
    ));
    say(&torrent.magnet().to_string());
}

fn run(args: &args::Create) -> Result<(Torrent, PathBuf), String> {
    let mut scan = Scan::new(&args.path, true).map_err(|e| e.to_string())?;
    scan.notes.iter().for_each(|note| complain(note));
    let name = args.name.clone().unwrap_or_else(|| scan.name.clone());
    let file = match &args.output {
        Some(file) => file.clone(),
        None => PathBuf::from(format!("{name}.torrent")),
    };
    // Found out now, not after an hour of hashing.
    if !args.force && file.exists() {
        let file = file.display();
        return Err(format!("{file}: it exists; --force replaces it"));
    }
    let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|dir| !dir.is_dir()) {
        let folder = folder.display();
        return Err(format!("{}: there is no folder {folder}", file.display()));
    }

    leave_out(&mut scan, &file)?;
    scan.name = name;
    let mut builder = scan.builder();
    builder.piece_len = args.piece_size;
    builder.private = args.private;
    builder.source.clone_from(&args.source);
    builder.align = args.align;
    let draft = builder.draft().map_err(|e| at(&args.path, &e))?;
    let sources = scan.sources(draft.layout());
    let meter = Meter::new("hashing", draft.layout().total_len());
    let hashes = hash_all(draft.layout(), &sources, None, |bytes| {
        meter.add(bytes);
        ControlFlow::Continue(())
    });
    drop(meter);
    let hashes = hashes.map_err(|e| e.to_string())?;
    let mut torrent = draft.finish(&hashes).map_err(|e| at(&args.path, &e))?;
    torrent.trackers = args.trackers.iter().map(|url| vec![url.clone()]).collect();
    torrent.web_seeds.clone_from(&args.web_seeds);
    torrent.comment.clone_from(&args.comment);
    torrent.created_by = Some(concat!("Dunlin/", env!("CARGO_PKG_VERSION")).into());
    if !args.no_date {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        torrent.creation_date = now.ok().and_then(|t| i64::try_from(t.as_secs()).ok());
    }
    write(&file, &torrent.to_bytes(), args.force).map_err(|e| at(&file, &e))?;
    Ok((torrent, file))
}

/// A torrent does not hold its own torrent file, which is replaced in a moment.
fn leave_out(scan: &mut Scan, output: &Path) -> Result<(), String> {
    let Ok(output) = fs::canonicalize(output) else {
        return Ok(());
    };
    let is_output = |source: &Path| fs::canonicalize(source).is_ok_and(|real| real == output);
    let before = scan.files.len();
    scan.files.retain(|file| !is_output(&file.source));
    if scan.files.len() == before {
        return Ok(());
    }
    let file = output.display();
    if !scan.folder {
        return Err(format!(
            "{file}: the torrent file would replace its own content; name another with --output"
        ));
    }
    complain(&format!("{file}: left out: the torrent file itself"));
    Ok(())
}

/// Writes a file that must not be there yet, unless `replace`.
fn write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true);
    match replace {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    options.open(path)?.write_all(bytes)
}

fn at(path: &Path, error: &dyn std::error::Error) -> String {
    format!("{}: {error}", path.display())
}
