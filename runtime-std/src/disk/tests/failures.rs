//! Disks that fail, and recover.

use super::*;

#[test]
fn what_blocked_a_file_is_named_and_once_gone_the_same_write_works() {
    let mut b = Bench::new(info(16_384, &[("d/a", 16_384)]));
    fs::create_dir_all(b.path("d/a")).unwrap();
    assert!(b.write(0, &[1; 16_384]).is_err());
    fs::remove_dir_all(b.path("")).unwrap();
    fs::write(b.path(""), b"in the way").unwrap_or(());
    fs::write(b.dir.path().join("save/t"), b"in the way").unwrap();
    assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::NotFound));
    fs::remove_file(b.dir.path().join("save/t")).unwrap();
    assert_eq!(b.write(0, &[1; 16_384]), Ok(()));
}

#[test]
fn every_kind_of_failure_brings_blocks_home_and_passes() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    for (error, kind) in [
        (io::ErrorKind::StorageFull, OpErrorKind::NoSpace),
        (io::ErrorKind::QuotaExceeded, OpErrorKind::NoSpace),
        (io::ErrorKind::PermissionDenied, OpErrorKind::Denied),
        (io::ErrorKind::TimedOut, OpErrorKind::Io),
    ] {
        let data = [kind as u8; 16_384];
        *b.disk.shared.common.faults.error.lock().unwrap() = Some(error);
        assert_eq!(b.write(0, &data), Err(kind));
        assert_eq!(b.read(0, 16_384), Err(kind));
        *b.disk.shared.common.faults.error.lock().unwrap() = None;
        assert_eq!(b.write(0, &data), Ok(()));
        *b.disk.shared.common.faults.error.lock().unwrap() = Some(error);
        assert_eq!(b.flush(), Err(kind));
        *b.disk.shared.common.faults.error.lock().unwrap() = None;
        assert_eq!(b.flush().unwrap()[0].unwrap().len, 16_384);
        assert_eq!(b.read(0, 16_384).unwrap(), data);
    }
    assert_eq!(b.pool.lent(), 0);
}

#[test]
fn a_full_disk_is_reported_and_works_again_when_there_is_room() {
    let mut b = Bench::new(info(1 << 20, &[("a", 4 << 20)]));
    let small = b.dir.path().join("save");
    fs::create_dir(&small).unwrap();
    let options = std::ffi::CString::new("size=1m").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    if rustix::mount::mount("tmpfs", &small, "tmpfs", flags, options.as_c_str()).is_err() {
        return; // only for root, in a namespace that may mount
    }
    let _unmount = Unmount(small.clone());
    fs::write(small.join("ballast"), vec![1; 512 << 10]).unwrap();
    assert_eq!(b.write(0, &[9; 1 << 20]), Err(OpErrorKind::NoSpace));
    fs::remove_file(small.join("ballast")).unwrap();
    assert_eq!(b.write(0, &[9; 1 << 20][..900 << 10]), Ok(()));
    assert_eq!(b.pool.lent(), 0);
    b.release(true);
}

pub(super) struct Unmount(pub(super) PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_panic_costs_one_op_and_nothing_else() {
    let mut b = Bench::new(info(16_384, &[("a", 50_000)]));
    b.disk
        .shared
        .common
        .faults
        .panics
        .store(3, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::Io));
    }
    assert_eq!(b.write(0, &[1; 16_384]), Ok(()));
    assert_eq!(b.pool.lent(), 0);
}

#[test]
fn a_link_planted_in_the_folder_is_not_followed_out() {
    let mut b = Bench::new(info(16_384, &[("d/a", 16_384)]));
    let outside = b.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(b.path("")).unwrap();
    std::os::unix::fs::symlink(&outside, b.path("d")).unwrap();
    assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::Denied));
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn a_file_deleted_behind_our_back_is_reported_missing_and_not_made_anew() {
    for evict in [false, true] {
        let config = DiskConfig {
            threads: 2,
            open_files: if evict { 1 } else { 8 },
        };
        let files = info(16_384, &[("a", 16_384), ("b", 16_384)]);
        let mut b = Bench::with(files, config, Allocation::Sparse);
        let data = b.fill();
        fs::remove_file(b.path("a")).unwrap();
        let stats = b.flush().unwrap();
        assert!(stats[0].is_none() && stats[1].is_some());
        assert!(!b.path("a").exists());
        assert_eq!(b.read(0, 16_384), Err(OpErrorKind::NotFound));
        assert_eq!(b.write(0, &data[..16_384]), Ok(()));
        assert_eq!(fs::read(b.path("a")).unwrap(), data[..16_384]);
    }
    // The whole folder.
    let mut b = Bench::new(info(16_384, &[("d/a", 16_384)]));
    b.fill();
    fs::remove_dir_all(b.dir.path().join("save")).unwrap();
    assert_eq!(b.flush(), Ok(vec![None]));
    assert!(!b.dir.path().join("save").exists());
    b.fill();
    b.flush().unwrap();
    assert!(b.path("d/a").exists());
}

#[test]
fn a_file_that_cannot_be_looked_at_is_not_taken_for_a_missing_one() {
    let mut b = Bench::new(info(40_000, &[("d/a", 50_000), ("b", 30_000)]));
    b.fill();
    let (path, aside) = (b.path("d/a"), b.dir.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    let refused = |b: &mut Bench| {
        b.release(false);
        b.try_open(Allocation::Sparse).unwrap_err()
    };
    // A link to itself, a link that leads outside, a folder.
    std::os::unix::fs::symlink("a", &path).unwrap();
    assert_eq!(refused(&mut b), OpErrorKind::Io);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    assert_eq!(refused(&mut b), OpErrorKind::Denied);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(refused(&mut b), OpErrorKind::NotAFile);
    fs::remove_dir(&path).unwrap();
    // These count as missing.
    let stats = b.reopen();
    assert!(stats[0].is_none() && stats[1].is_some());
    fs::remove_dir(b.path("d")).unwrap();
    fs::write(b.path("d"), b"a file").unwrap();
    b.release(false);
    assert_eq!(b.open_only(Allocation::Sparse), stats);
    // The same holds for the parts file, which may hold all that exists of a file.
    std::os::unix::fs::symlink("/", b.parts()).unwrap();
    assert_eq!(refused(&mut b), OpErrorKind::Denied);
}
