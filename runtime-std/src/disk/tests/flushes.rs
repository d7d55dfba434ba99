//! What a flush covers, and what it is worth after one that failed.

use super::*;
use crate::platform::trace::{Recorder, Step};

/// What was done to the files since `from`, in short.
fn steps(recorder: &Recorder, from: usize) -> Vec<String> {
    let recording = recorder.recording();
    let base = recording.base.clone();
    let short = |step: &Step| match step {
        Step::Write { offset, data, .. } => Some(format!("write {offset} {}", data.len())),
        Step::Sync { path, .. } => {
            let path = path.strip_prefix(&base).unwrap();
            Some(format!("sync {}", path.display()))
        }
        _ => None,
    };
    recording.steps[from..].iter().filter_map(short).collect()
}

#[test]
fn the_first_flush_after_an_opening_covers_what_an_earlier_process_wrote() {
    let mut b = Bench::new(info(
        16_384,
        &[("a", 20_000), ("d/b", 20_000), ("c", 20_000)],
    ));
    b.select(&[true, true, false]);
    let data = b.fill();
    // As after a kill: nobody flushed, and nobody knows what was written.
    b.reopen();
    let recorder = Recorder::new(b.dir.path());
    b.select(&[true, true, false]);
    b.flush().unwrap();
    let parts = format!("sync save/.{}.parts", b.info.info_hash());
    let found = [
        "sync save/t/a",
        "sync save/t/d/b",
        &parts,
        "sync save",
        "sync save/t",
        "sync save/t/d",
    ];
    assert_eq!(steps(&recorder, 0), found);
    // Once is enough.
    let from = recorder.len();
    b.flush().unwrap();
    assert!(steps(&recorder, from).is_empty());
    b.write(16_384, &data[16_384..32_768]).unwrap();
    b.flush().unwrap();
    let done = steps(&recorder, from);
    assert_eq!(done[2..], ["sync save/t/a", "sync save/t/d/b"]);
}

#[test]
fn what_a_failed_flush_may_have_lost_is_written_again_when_the_files_are_opened_anew() {
    let mut b = Bench::new(info(16_384, &[("a", 40_000), ("b", 40_000)]));
    let data = b.fill();
    b.flush().unwrap();
    for piece in [0, 2] {
        let at = piece * 16_384;
        b.write(at as u64, &data[at..at + 16_384]).unwrap();
    }
    *b.disk.shared.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    // Nor is it forgotten by a second one.
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    *b.disk.shared.faults.sync_error.lock().unwrap() = None;
    let recorder = Recorder::new(b.dir.path());
    b.open(Allocation::Sparse);
    let again = ["write 0 16384", "write 32768 7232", "write 0 9152"];
    assert_eq!(steps(&recorder, 0), again);
    let from = recorder.len();
    b.flush().unwrap();
    let done = steps(&recorder, from);
    for file in ["sync save/t/a", "sync save/t/b"] {
        assert!(done.contains(&file.to_owned()), "{done:?}");
    }
    assert_eq!(b.read(0, 16_384).unwrap(), data[..16_384]);
    assert_eq!(b.hash(32_768, 16_384).unwrap(), sha1(&data[32_768..49_152]));
    // All is well again: nothing is written a third time.
    let from = recorder.len();
    b.open(Allocation::Sparse);
    assert!(steps(&recorder, from).is_empty());
}

#[test]
fn what_was_lost_stays_lost_while_it_cannot_be_written_again() {
    let mut b = Bench::new(info(16_384, &[("a", 40_000)]));
    b.fill();
    *b.disk.shared.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.faults.sync_error.lock().unwrap() = None;
    let path = b.path("a");
    fs::rename(&path, b.path("aside")).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(b.try_open(Allocation::Sparse), Err(OpErrorKind::Io));
    fs::remove_dir(&path).unwrap();
    fs::rename(b.path("aside"), &path).unwrap();
    let recorder = Recorder::new(b.dir.path());
    b.open(Allocation::Sparse);
    assert_eq!(steps(&recorder, 0).len(), 3, "one write a piece");
}

#[test]
fn a_flush_after_one_that_failed_covers_every_file() {
    let files = [("a", 20_000), ("b", 20_000), ("c", 20_000)];
    let mut b = Bench::new(info(16_384, &files));
    b.fill();
    *b.disk.shared.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    // It ends at the first file; the others are not reached.
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.faults.sync_error.lock().unwrap() = None;
    let recorder = Recorder::new(b.dir.path());
    b.flush().unwrap();
    let done = steps(&recorder, 0);
    for (file, _) in files {
        assert!(done.contains(&format!("sync save/t/{file}")), "{done:?}");
    }
}

#[test]
fn new_folders_that_could_not_be_synced_are_synced_by_the_next_flush() {
    let mut b = Bench::new(info(16_384, &[("a", 20_000), ("d/b", 20_000)]));
    b.fill();
    *b.disk.shared.faults.folder_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.faults.folder_error.lock().unwrap() = None;
    let recorder = Recorder::new(b.dir.path());
    b.flush().unwrap();
    let done = steps(&recorder, 0);
    for folder in ["save", "save/t", "save/t/d"] {
        assert!(done.contains(&format!("sync {folder}")), "{done:?}");
    }
}
