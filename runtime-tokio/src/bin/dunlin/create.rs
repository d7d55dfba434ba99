//! `create`: makes a torrent file.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use dunlin_tokio::{
    dunlin_core::metainfo::Torrent,
    system::{
        paths::{Names, Unfit, safe_name, safe_paths, unfit},
        tree::{Scan, hash_all, own_name},
    },
};
use serde_json::json;

use crate::{
    args,
    exit::Exit,
    output::{fail, remark, say, say_json},
    report::Meter,
    settings, units,
};

/// Runs `dunlin create`.
pub(crate) fn create(args: &args::Create) -> Exit {
    let names = match settings::read(None) {
        Ok(settings) => settings.names,
        Err(message) => {
            fail("configuration", &message);
            return Exit::Usage;
        }
    };
    if let Some(message) = args.to_stdout().then(|| unfit_stdout(args)).flatten() {
        fail("-", &message);
        return Exit::Usage;
    }
    match run(args, names) {
        Ok((torrent, Some(file))) => {
            show(&torrent, &file, args.json);
            Exit::Complete
        }
        // Standard output is the torrent file.
        Ok((_, None)) => Exit::Complete,
        Err(message) => {
            fail(&args.path.display().to_string(), &message);
            Exit::Failed
        }
    }
}

/// The reason why the torrent file cannot be written to standard output, if there is one.
fn unfit_stdout(args: &args::Create) -> Option<String> {
    if args.json {
        return Some(
            "--output -: standard output cannot have both the torrent file and --json".into(),
        );
    }
    io::stdout().is_terminal().then(|| {
        "--output -: standard output is a terminal; lead it into a file or another program".into()
    })
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

/// Creates the torrent. Returns it and the path of its file, unless it went to standard output.
fn run(args: &args::Create, names: Names) -> Result<(Torrent, Option<PathBuf>), String> {
    // Checked before the walk, which would take long for `/`.
    if args.name.is_none() && args.path.exists() && own_name(&args.path).is_none() {
        return Err(format!(
            "{}: it has no name that a torrent can hold; give one with --name",
            args.path.display()
        ));
    }
    let mut scan = Scan::new(&args.path, true).map_err(|e| e.to_string())?;
    scan.notes.iter().for_each(|note| remark(note));
    let name = args.name.clone().unwrap_or_else(|| scan.name.clone());
    let file = match &args.output {
        _ if args.to_stdout() => None,
        Some(file) => Some(file.clone()),
        None => Some(PathBuf::from(format!("{name}.torrent"))),
    };
    // Checked before the hashing, which may take an hour.
    if let Some(file) = &file {
        can_write(file, args.force)?;
        leave_out(&mut scan, file)?;
    }
    scan.name = name;
    can_seed(&scan, names)?;
    if !args.web_seeds.is_empty() {
        remark(
            "--web-seed: it is for programs that fetch from web servers; Dunlin does not yet, and \
             needs peers",
        );
    }
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
    let bytes = torrent.to_bytes();
    match &file {
        Some(file) => write(file, &bytes, args.force).map_err(|e| at(file, &e))?,
        None => {
            let mut out = io::stdout().lock();
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            written.map_err(|e| format!("standard output: {e}"))?;
        }
    }
    Ok((torrent, file))
}

/// Whether the torrent file can be written, as far as that can be told before.
fn can_write(file: &Path, force: bool) -> Result<(), String> {
    if !force && file.exists() {
        let file = file.display();
        return Err(format!("{file}: it exists; --force replaces it"));
    }
    let folder = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|dir| !dir.is_dir()) {
        let folder = folder.display();
        return Err(format!("{}: there is no folder {folder}", file.display()));
    }
    Ok(())
}

/// The most files named in a message.
const MAX_NAMED: usize = 8;

/// Whether `dunlin seed` would look for the files under their present names: some names are replaced when a
/// torrent is saved, so that a torrent cannot do harm.
fn can_seed(scan: &Scan, names: Names) -> Result<(), String> {
    let saved_name = safe_name(&scan.name, names).unwrap_or_default();
    if saved_name != scan.name {
        let why = unfit(std::slice::from_ref(&scan.name), names);
        let why = why.map_or_else(String::new, |why| format!(" ({why})"));
        return Err(format!(
            "{}: a torrent of this name is saved as `{saved_name}`{why}; rename the file or \
             folder, or give another name with --name",
            scan.name
        ));
    }
    if !scan.folder {
        return Ok(());
    }
    let paths = safe_paths(scan.files.iter().map(|file| file.path.as_slice()), names);
    let changed: Vec<(String, Option<Unfit>)> = scan
        .files
        .iter()
        .zip(&paths)
        .filter(|(file, saved)| file.path.iter().collect::<PathBuf>() != **saved)
        .map(|(file, _)| (file.source.display().to_string(), unfit(&file.path, names)))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let named = changed.iter().take(MAX_NAMED).map(|(file, why)| match why {
        Some(why) => format!("{file}: {why}"),
        None => format!("{file}: another file has this name but for upper and lower case"),
    });
    let named = named.collect::<Vec<_>>().join("; ");
    let more = match changed.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    // Renaming a file does not help if it is in too many folders, and the other way round.
    let is_deep = |why: &Option<Unfit>| matches!(why, Some(Unfit::Deep(_)));
    let advice = match (
        changed.iter().any(|(_, why)| is_deep(why)),
        changed.iter().all(|(_, why)| is_deep(why)),
    ) {
        (_, true) => "move what is too deep further up",
        (true, _) => "move what is too deep further up, and rename the others",
        _ => "rename them first",
    };
    Err(format!(
        "these files would be saved under other names, and so could not be shared from here: \
         {named}{more}; {advice}"
    ))
}

/// Leaves out the torrent file itself, which is about to be replaced.
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
    remark(&format!("{file}: left out: the torrent file itself"));
    Ok(())
}

/// Writes a file; fails if it exists, unless `replace`.
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
