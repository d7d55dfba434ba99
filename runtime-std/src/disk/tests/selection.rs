//! Unwanted files and the parts file.

use super::*;

#[test]
fn unwanted_files_are_not_made_and_their_shared_bytes_survive_until_wanted() {
    let info = info(40_000, &[("a", 50_000), ("b", 100_000), ("c", 10_000)]);
    let mut b = Bench::new(info);
    b.select(&[true, false, true]);
    let data = content(&b.info);
    for range in [0..40_000, 40_000..80_000, 120_000..160_000] {
        b.write(range.start as u64, &data[range]).unwrap();
    }
    b.flush().unwrap();
    assert!(!b.path("b").exists());
    let parts = fs::metadata(b.parts()).unwrap().len();
    assert!(
        parts <= 2 * 40_000,
        "no larger than the shared pieces: {parts}"
    );
    let check = |b: &mut Bench| {
        assert_eq!(b.read(40_000, 40_000).unwrap(), data[40_000..80_000]);
        assert_eq!(b.hash(120_000, 40_000).unwrap(), sha1(&data[120_000..]));
    };
    check(&mut b);
    // Over a restart.
    assert_eq!(b.reopen()[1], None);
    b.select(&[true, false, true]);
    check(&mut b);
    // Now wanted: the bytes are in the file, and the parts file is gone.
    b.select(&[true, true, true]);
    check(&mut b);
    assert!(!b.parts().exists());
    b.write(80_000, &data[80_000..120_000]).unwrap();
    b.flush().unwrap();
    assert_eq!(fs::read(b.path("b")).unwrap(), data[50_000..150_000]);
    // Deselected again, the file stays where it is.
    b.select(&[true, false, true]);
    b.write(120_000, &data[120_000..]).unwrap();
    assert!(!b.parts().exists());
    b.release(true);
    assert!(!b.path("").exists());
}

#[test]
fn a_restart_that_selects_nothing_wants_everything() {
    let mut b = Bench::new(info(40_000, &[("a", 50_000), ("b", 30_000)]));
    b.select(&[true, false]);
    let data = b.fill();
    assert!(b.parts().exists() && !b.path("b").exists());
    b.reopen();
    assert_eq!(b.read(40_000, 40_000).unwrap(), data[40_000..]);
    assert!(!b.parts().exists());
    assert_eq!(fs::read(b.path("b")).unwrap(), data[50_000..]);
}

#[test]
fn bytes_of_a_file_deselected_meanwhile_are_kept() {
    let mut b = Bench::new(info(16_384, &[("a", 20_000), ("b", 80_000)]));
    b.select(&[true, false]);
    let data = b.fill();
    assert!(!b.path("b").exists());
    for (i, piece) in data.chunks(16_384).enumerate() {
        let hash = b.hash(i as u64 * 16_384, piece.len() as u64);
        assert_eq!(hash.unwrap(), sha1(piece), "piece {i}");
    }
    b.select(&[]);
    assert_eq!(fs::read(b.path("b")).unwrap(), data[20_000..]);
}

#[test]
fn a_parts_file_that_is_gone_is_not_flushed_back_into_being() {
    let mut b = Bench::new(info(40_000, &[("a", 50_000), ("b", 30_000)]));
    b.select(&[true, false]);
    b.fill();
    b.select(&[]);
    b.flush().unwrap();
    assert!(!b.parts().exists());
}

#[test]
fn a_file_whose_shared_bytes_are_zeros_appears_when_it_is_wanted() {
    let mut b = Bench::new(info(
        40_000,
        &[("a", 50_000), ("d/b", 10_000), ("c", 20_000)],
    ));
    b.select(&[true, false, true]);
    let mut data = content(&b.info);
    data[50_000..60_000].fill(0);
    b.write(0, &data[..40_000]).unwrap();
    b.write(40_000, &data[40_000..]).unwrap();
    assert!(!b.path("d/b").exists());
    b.select(&[]);
    assert_eq!(fs::read(b.path("d/b")).unwrap(), [0; 10_000]);
    assert_eq!(b.hash(40_000, 40_000).unwrap(), sha1(&data[40_000..]));
    assert!(!b.parts().exists());
}

#[test]
fn a_file_that_somebody_put_there_is_not_replaced_by_a_wanted_one() {
    let mut b = Bench::new(info(40_000, &[("a", 50_000), ("b", 30_000)]));
    b.select(&[true, false]);
    let data = b.fill();
    fs::write(b.path("b"), b"the user's own").unwrap();
    let told = b.try_select(&[]).unwrap_err();
    assert!(
        told.contains("t/b: a file that the torrent did not write"),
        "{told}"
    );
    assert_eq!(fs::read(b.path("b")).unwrap(), b"the user's own");
    assert_eq!(
        fs::read_dir(b.path("")).unwrap().count(),
        2,
        "nothing is left over"
    );
    assert!(b.parts().exists(), "no byte is lost");
    // Out of the way, the same selection works.
    fs::remove_file(b.path("b")).unwrap();
    b.select(&[]);
    assert_eq!(fs::read(b.path("b")).unwrap(), data[50_000..]);
}

#[test]
fn what_is_put_together_from_the_parts_file_is_durable_before_that_goes() {
    use crate::platform::trace::{Recorder, Step};
    let mut b = Bench::new(info(40_000, &[("a", 50_000), ("d/e/b", 30_000)]));
    b.select(&[true, false]);
    b.fill();
    b.flush().unwrap();
    let recorder = Recorder::new(b.dir.path());
    b.select(&[]);
    let recording = recorder.recording();
    let synced = |name: &str| {
        let is = |s: &Step| matches!(s, Step::Sync { path, .. } if path.ends_with(name));
        recording.steps.iter().position(is).unwrap()
    };
    let removed = |s: &Step| matches!(s, Step::Remove { .. });
    let removed = recording.steps.iter().position(removed).unwrap();
    for folder in ["save/t", "save/t/d", "save/t/d/e"] {
        assert!(synced(folder) < removed, "{folder}");
    }
}

#[test]
fn the_parts_file_is_reported_behind_the_files_while_there_is_one() {
    let mut b = Bench::new(info(40_000, &[("a", 50_000), ("b", 30_000)]));
    b.select(&[true, false]);
    b.fill();
    let flushed = b.flush().unwrap();
    assert!(flushed.len() == 3 && flushed[1].is_none());
    assert_eq!(b.reopen(), flushed);
    fs::remove_file(b.parts()).unwrap();
    assert_eq!(b.reopen(), flushed[..2]);
    b.select(&[]);
    assert_eq!(b.flush().unwrap().len(), 2);
}
