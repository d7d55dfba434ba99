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
