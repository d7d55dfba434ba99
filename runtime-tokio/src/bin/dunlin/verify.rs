//! `check`: compares files with their torrent.

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Mutex, PoisonError},
};

use dunlin_tokio::{
    dunlin_core::{
        Bitfield, OpErrorKind,
        metainfo::{FileKind, Info},
    },
    system::{
        disk::Placement,
        tree::{hash_pieces, saved_files},
    },
};
use serde_json::json;

use crate::{
    args,
    exit::Exit,
    input,
    output::{fail, say, say_json},
    report::Meter,
    settings, units,
};

/// The most errors of the disk that are shown; more would repeat them.
const MAX_SHOWN: usize = 5;

/// The result of one file.
struct Checked {
    path: String,
    len: u64,
    good: u64,
    /// Length on the disk, in bytes; `None` if the file does not exist.
    found: Option<u64>,
}

impl Checked {
    fn complete(&self) -> bool {
        self.found == Some(self.len) && self.good == self.len
    }

    /// What is wrong with the length of the file.
    fn length(&self) -> Option<String> {
        let found = self.found?;
        match (found.checked_sub(self.len), self.len.checked_sub(found)) {
            (Some(more), _) if more > 0 => Some(format!("{} too long", units::count(more, "byte"))),
            (_, Some(less)) if less > 0 => {
                Some(format!("{} too short", units::count(less, "byte")))
            }
            _ => None,
        }
    }
}

/// Runs `dunlin check`.
pub(crate) fn check(args: &args::Check) -> Exit {
    let torrent = match input::read(&args.torrent) {
        Ok(torrent) => torrent,
        Err(error) => {
            fail(&args.torrent, &error.to_string());
            return Exit::Failed;
        }
    };
    let names = match settings::read(args.config.as_deref()) {
        Ok(settings) => settings.names,
        Err(message) => {
            fail("configuration", &message);
            return Exit::Usage;
        }
    };
    let info = &torrent.info;
    let placement = Placement {
        dir: args.dir.clone(),
        names,
        ..Placement::default()
    };
    let paths = saved_files(info, &placement);
    let good = hash(info, &paths);
    let files: Vec<Checked> = info
        .files()
        .iter()
        .zip(&paths)
        .enumerate()
        .filter(|(_, (file, _))| file.kind == FileKind::Regular)
        .map(|(index, (file, path))| Checked {
            path: path.display().to_string(),
            len: file.len,
            good: good_bytes(info, index, &good),
            found: path
                .metadata()
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|meta| meta.len()),
        })
        .collect();
    show(info, &good, &files, args.json);
    if files.iter().all(Checked::complete) {
        Exit::Complete
    } else {
        Exit::of(good.count() as usize, good.len() as usize + 1)
    }
}

/// The pieces that pass their check.
fn hash(info: &Info, paths: &[std::path::PathBuf]) -> Bitfield {
    let meter = Meter::new("checking", info.total_len());
    let state = Mutex::new((Bitfield::new(info.piece_count()), Vec::new()));
    hash_pieces(info.layout(), paths, None, |piece, hash| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        match hash {
            Ok(hash) if info.piece_hash(piece) == Some(hash) => {
                state.0.set(piece);
            }
            Ok(_) => {}
            // Missing and short files show in the list of files.
            Err(e) if matches!(e.kind, OpErrorKind::NotFound | OpErrorKind::Truncated) => {}
            Err(e) if state.1.len() < MAX_SHOWN && !state.1.contains(&e.detail) => {
                state.1.push(e.detail);
            }
            Err(_) => {}
        }
        meter.add(info.piece_size(piece).into());
        ControlFlow::Continue(())
    });
    drop(meter);
    let (good, errors) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    errors.iter().for_each(|error| fail("disk", error));
    good
}

/// The number of bytes of a file that lie in good pieces.
fn good_bytes(info: &Info, index: usize, good: &Bitfield) -> u64 {
    let Some(file) = info.files().get(index) else {
        return 0;
    };
    let (start, end) = (file.offset, file.offset + file.len);
    info.pieces_of(index)
        .filter(|&piece| good.get(piece))
        .map(|piece| {
            let from = info.piece_offset(piece);
            let to = from + u64::from(info.piece_size(piece));
            to.min(end) - from.max(start)
        })
        .sum()
}

fn show(info: &Info, good: &Bitfield, files: &[Checked], as_json: bool) {
    let complete = files.iter().all(Checked::complete);
    let done: u64 = files.iter().map(|file| file.good).sum();
    let of: u64 = files.iter().map(|file| file.len).sum();
    if as_json {
        let files: Vec<_> = files
            .iter()
            .map(|f| {
                json!({
                    "path": f.path, "length": f.len, "good": f.good,
                    "exists": f.found.is_some(), "found": f.found, "complete": f.complete(),
                })
            })
            .collect();
        let result = json!({
            "type": "checked",
            "name": info.name(),
            "torrent": info.info_hash().to_string(),
            "complete": complete,
            "pieces": info.piece_count(),
            "pieces_good": good.count(),
            "total": of,
            "good": done,
            "files": files,
        });
        return say_json(&result);
    }
    for file in files.iter().filter(|file| !file.complete()) {
        let state = match file.found {
            Some(_) => units::percent(file.good, file.len),
            None => "missing".into(),
        };
        let length = file
            .length()
            .map_or_else(String::new, |l| format!(" ({l})"));
        say(&format!("{state:>8}  {}{length}", file.path));
    }
    say(&format!(
        "{}: {}, {} of {}",
        Path::new(info.name()).display(),
        if complete { "complete" } else { "incomplete" },
        units::percent(done, of),
        units::size(of),
    ));
}
