//! What a flush covers, and what a flush guarantees after one that failed.

use super::{failures::Unmount, *};
use crate::platform::{
    Root,
    trace::{Recorder, Step},
};

/// What was done to the files since `from`, in short form.
fn steps(recorder: &Recorder, from: usize) -> Vec<String> {
    let recording = recorder.recording();
    let base = recording.base.clone();
    let short = |step: &Step| match step {
        Step::Write { offset, data, .. } => Some(format!("write {offset} {}", data.len())),
        Step::Sync { path, .. } => {
            let path = path.strip_prefix(&base).unwrap();
            Some(format!("sync {}", path.display()))
        }
        Step::SyncAll { .. } => Some("sync all".into()),
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
    // As after a kill: nothing was flushed, and nobody knows what was written.
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
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    // A second failure does not forget them either.
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = None;
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
    // The disk works again: nothing is written a third time.
    let from = recorder.len();
    b.open(Allocation::Sparse);
    assert!(steps(&recorder, from).is_empty());
}

#[test]
fn what_was_lost_stays_lost_while_it_cannot_be_written_again() {
    let mut b = Bench::new(info(16_384, &[("a", 40_000)]));
    b.fill();
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = None;
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
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    // It ends at the first file; the others are not reached.
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = None;
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
    *b.disk.shared.common.faults.folder_error.lock().unwrap() = Some(io::ErrorKind::TimedOut);
    assert_eq!(b.flush(), Err(OpErrorKind::Io));
    *b.disk.shared.common.faults.folder_error.lock().unwrap() = None;
    let recorder = Recorder::new(b.dir.path());
    b.flush().unwrap();
    let done = steps(&recorder, 0);
    for folder in ["save", "save/t", "save/t/d"] {
        assert!(done.contains(&format!("sync {folder}")), "{done:?}");
    }
}

/// A torrent of this many files in each of `folders`, and whether its folder can be flushed as a whole: not
/// every file system or kernel can.
fn many(folders: &[(&str, usize)]) -> (Bench, bool) {
    let names: Vec<String> = (folders.iter())
        .flat_map(|(folder, files)| (0..*files).map(move |i| format!("{folder}/f{i:02}")))
        .collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    let b = Bench::new(info(16_384, &files));
    let root = Root::open(b.dir.path()).unwrap();
    let whole = root.file_system("".as_ref()).unwrap().is_some();
    (b, whole)
}

/// File systems that the torrent has open.
fn systems(b: &Bench) -> usize {
    let files = b.disk.shared.lock().files(T).unwrap();
    files.systems.len()
}

#[test]
fn many_files_are_flushed_with_their_file_system() {
    let (mut b, whole) = many(&[("d", 70)]);
    let recorder = Recorder::new(b.dir.path());
    b.fill();
    // Open since before the first write; otherwise it would not report that one failed.
    assert_eq!(systems(&b), usize::from(whole));
    let from = recorder.len();
    let stats = b.flush().unwrap();
    let done = steps(&recorder, from);
    match whole {
        // The device is flushed with one of the files; the names are with the others.
        true => assert_eq!(done, ["sync all", "sync save/t/d/f69"]),
        false => assert_eq!(done.len(), 70 + 3, "{done:?}"),
    }
    assert!(stats.iter().all(|stat| stat.unwrap().len == 1_000));
    assert_eq!(systems(&b), 0);
    // Nothing is left; and a few are flushed by themselves.
    let from = recorder.len();
    b.flush().unwrap();
    b.write(0, &[1; 16_384]).unwrap();
    b.flush().unwrap();
    let done = steps(&recorder, from);
    assert!(!done.contains(&"sync all".to_owned()), "{done:?}");
    assert!(done.contains(&"sync save/t/d/f16".to_owned()), "{done:?}");
}

#[test]
fn a_flush_of_many_files_that_failed_covers_none_of_them() {
    let (mut b, _) = many(&[("d", 70)]);
    let data = b.fill();
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = None;
    let recorder = Recorder::new(b.dir.path());
    b.flush().unwrap();
    let again = steps(&recorder, 0);
    // Everything in the pieces that it may have lost is written again.
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = Some(io::ErrorKind::StorageFull);
    b.write(0, &data[..16_384]).unwrap();
    assert_eq!(b.flush(), Err(OpErrorKind::NoSpace));
    *b.disk.shared.common.faults.sync_error.lock().unwrap() = None;
    let from = recorder.len();
    b.open(Allocation::Sparse);
    assert_eq!(steps(&recorder, from).len(), 17, "writes of one piece");
    let (mut other, _) = many(&[("d", 70)]);
    other.fill();
    let recorder = Recorder::new(other.dir.path());
    other.flush().unwrap();
    assert_eq!(again, steps(&recorder, 0), "as if it were the first");
}

#[test]
fn a_file_system_is_flushed_for_the_files_on_it_alone() {
    let (mut b, whole) = many(&[("a", 70), ("b", 3)]);
    let other = b.path("b");
    fs::create_dir_all(&other).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &other, "tmpfs", flags, None).is_err() {
        return; // only for root, in a namespace that may mount
    }
    let _unmount = Unmount(other);
    let recorder = Recorder::new(b.dir.path());
    b.fill();
    let from = recorder.len();
    b.flush().unwrap();
    let done = steps(&recorder, from);
    assert_eq!(done.contains(&"sync all".to_owned()), whole, "{done:?}");
    for synced in ["b/f00", "b/f01", "b/f02", "b"] {
        assert!(done.contains(&format!("sync save/t/{synced}")), "{done:?}");
    }
    b.release(true);
}
