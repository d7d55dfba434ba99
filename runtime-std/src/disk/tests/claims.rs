//! Which files a torrent may take, write and delete.

use super::*;

/// The other torrent.
const O: TorrentId = TorrentId(4);

impl Bench {
    fn claim_of(
        &mut self,
        torrent: TorrentId,
        whose: &[Whose],
        have: &[u32],
        claim: Claim,
    ) -> Result<Vec<Option<FileStat>>, OpError> {
        let whose = whose.to_vec();
        let mut known = Bitfield::new(self.info.piece_count());
        for piece in have {
            known.set(*piece);
        }
        match self.run(|op| Op::Claim {
            op,
            torrent,
            whose,
            have: known,
            claim,
        }) {
            Outcome::Flushed(stats) => Ok(stats),
            Outcome::Failed { error, .. } => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// Opens the torrent like a process that knows nothing of it, and claims its files.
    fn claim_anew(&mut self, claim: Claim) -> Result<Vec<Option<FileStat>>, OpError> {
        self.release(false);
        self.open_only(Allocation::Sparse);
        self.claim_of(T, &[], &[], claim)
    }

    /// Opens another torrent, below `dir`.
    fn open_other(&mut self, info: Arc<Info>, dir: PathBuf) {
        let placement = Placement {
            dir,
            ..Placement::default()
        };
        self.disk.place(O, placement);
        let opened = self.run(|op| Op::Open {
            op,
            torrent: O,
            info,
        });
        assert!(matches!(opened, Outcome::Opened(_)), "{opened:?}");
    }

    fn confirm(&mut self, done: bool) -> Vec<Option<FileStat>> {
        match self.run(|op| Op::Confirm {
            op,
            torrent: T,
            done,
        }) {
            Outcome::Flushed(stats) => stats,
            other => panic!("{other:?}"),
        }
    }
}

fn refused(
    claimed: Result<Vec<Option<FileStat>>, OpError>,
    names: &[&str],
) -> Result<(), TestFailed> {
    refused_as(OpErrorKind::Exists, claimed, names)
}

fn refused_as(
    kind: OpErrorKind,
    claimed: Result<Vec<Option<FileStat>>, OpError>,
    names: &[&str],
) -> Result<(), TestFailed> {
    let error = claimed.err().ok_or("it was claimed")?;
    if error.kind != kind || !names.iter().all(|n| error.detail.contains(n)) {
        return Err(format!("{:?}: {}", error.kind, error.detail).into());
    }
    Ok(())
}

type TestFailed = Box<dyn std::error::Error>;

#[test]
fn what_the_user_put_there_is_refused_by_name_and_left_alone() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 20_000), ("d/b", 20_000), ("c", 0)]));
    fs::create_dir_all(b.path("d")).unwrap();
    for (name, content) in [("a", "mine"), ("d/b", "and this"), ("c", "too")] {
        fs::write(b.path(name), content).unwrap();
    }
    refused(b.claim_anew(Claim::Write), &["t/a", "t/d/b", "t/c"])?;
    // A torrent without a claim may not write either.
    assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::Exists));
    assert_eq!(fs::read(b.path("a")).unwrap(), b"mine");
    b.release(true);
    assert_eq!(fs::read(b.path("d/b")).unwrap(), b"and this");
    assert_eq!(fs::read(b.path("c")).unwrap(), b"too");
    Ok(())
}

/// Only the user decides to overwrite, which helps only with files; an obstacle that overwriting does not
/// remove is named first.
#[test]
fn the_kind_of_a_refusal_says_what_would_help() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 16_384), ("b", 16_384), ("c", 16_384)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), "mine").unwrap();
    refused(b.claim_anew(Claim::Write), &["t/a"])?;
    fs::create_dir(b.path("b")).unwrap();
    for claim in [Claim::Write, Claim::Overwrite] {
        let claimed = b.claim_of(T, &[], &[], claim);
        refused_as(OpErrorKind::NotAFile, claimed, &["t/b", "not a regular"])?;
    }
    fs::remove_dir(b.path("b")).unwrap();
    assert!(b.claim_anew(Claim::Overwrite).is_ok());
    Ok(())
}

#[test]
fn who_insists_overwrites_and_cuts() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384), ("c", 0)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), vec![7; 20_000]).unwrap();
    fs::write(b.path("c"), b"junk").unwrap();
    let stats = b.claim_anew(Claim::Overwrite).unwrap();
    let lens: Vec<_> = stats.iter().map(|s| s.unwrap().len).collect();
    assert_eq!(lens, [16_384, 0]);
    let notes = b.disk.take_notes().join(" ");
    assert!(notes.contains("t/a") && notes.contains("3616"), "{notes}");
    let data = b.fill();
    assert_eq!(fs::read(b.path("a")).unwrap(), data);
}

#[test]
fn what_holds_nothing_is_taken_unless_it_is_too_long() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 100_000), ("b", 300_000), ("c", 100)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), b"").unwrap();
    let sparse = fs::File::create(b.path("b")).unwrap();
    sparse.set_len(300_000).unwrap();
    fs::write(b.path("c"), [0; 50]).unwrap();
    assert!(b.claim_anew(Claim::Write).is_ok());
    // One byte is enough, wherever it is.
    transfer::write_all(&sparse, &[1], 299_999).unwrap();
    fs::write(b.path("c"), [0; 101]).unwrap();
    refused(
        b.claim_anew(Claim::Write),
        &["t/b", "t/c", "1 byte too long"],
    )
}

#[test]
fn a_file_of_ours_that_is_too_long_is_cut_and_said() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), vec![7; 20_000]).unwrap();
    b.release(false);
    b.open_only(Allocation::Sparse);
    // A claim for reading does not truncate anything.
    assert!(b.claim_of(T, &[Whose::Recorded], &[], Claim::Read).is_ok());
    assert_eq!(fs::metadata(b.path("a")).unwrap().len(), 20_000);
    let stats = b
        .claim_of(T, &[Whose::Recorded], &[], Claim::Write)
        .unwrap();
    assert_eq!(stats[0].unwrap().len, 16_384);
    assert_eq!(fs::metadata(b.path("a")).unwrap().len(), 16_384);
    assert_eq!(b.disk.take_notes().len(), 1);
}

#[test]
fn of_what_is_partly_the_torrents_nothing_is_lost() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 50_000), ("b", 50_000)]));
    fs::create_dir_all(b.path("")).unwrap();
    // Of the file "a", the second piece passes its check.
    let mut content = vec![0; 50_000];
    content[16_384..32_768].fill(7);
    fs::write(b.path("a"), &content).unwrap();
    let claim = |b: &mut Bench| {
        b.release(false);
        b.open_only(Allocation::Sparse);
        b.claim_of(T, &[Whose::Partly], &[1], Claim::Write)
    };
    assert!(claim(&mut b).is_ok(), "the rest holds nothing");
    for (at, whole) in [
        (0, 50_000),
        (16_383, 20_000),
        (32_768, 50_000),
        (49_999, 50_000),
    ] {
        let mut content = content[..whole].to_vec();
        content[at] = 1;
        fs::write(b.path("a"), &content).unwrap();
        refused(claim(&mut b), &["t/a", "part of it"])?;
        assert!(fs::read(b.path("a")).unwrap() == content, "{at}");
    }
    // A file that was only read, and is not entirely the torrent's, is not deleted with it.
    b.release(false);
    b.open_only(Allocation::Sparse);
    fs::write(b.path("b"), vec![7; 50_000]).unwrap();
    b.release(false);
    b.open_only(Allocation::Sparse);
    let whose = [Whose::Partly, Whose::Checked];
    assert!(b.claim_of(T, &whose, &[1, 4], Claim::Read).is_ok());
    b.release(true);
    assert!(b.path("a").exists() && !b.path("b").exists());
    Ok(())
}

#[test]
fn what_cannot_be_checked_goes_with_what_passed() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 50_000)]));
    fs::create_dir_all(b.path("")).unwrap();
    let claim = |b: &mut Bench| {
        b.release(false);
        b.open_only(Allocation::Sparse);
        b.claim_of(T, &[Whose::Checked], &[0], Claim::Write)
    };
    // A download that was broken off within the second piece.
    fs::write(b.path("a"), vec![7; 20_000]).unwrap();
    assert!(claim(&mut b).is_ok());
    // Zeros pass the check of many torrents.
    let mut content = vec![0; 20_000];
    content[19_999] = 1;
    fs::write(b.path("a"), &content).unwrap();
    refused(claim(&mut b), &["t/a", "part of it"])
}

#[test]
fn a_verified_file_is_not_cut_unless_the_record_vouches_for_it() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), vec![7; 16_391]).unwrap();
    b.release(false);
    b.open_only(Allocation::Sparse);
    let claimed = b.claim_of(T, &[Whose::Checked], &[0], Claim::Write);
    refused(claimed, &["t/a", "it is 7 bytes too long"])?;
    assert_eq!(fs::metadata(b.path("a")).unwrap().len(), 16_391);
    assert!(
        b.claim_of(T, &[Whose::Checked], &[0], Claim::Overwrite)
            .is_ok()
    );
    assert_eq!(fs::metadata(b.path("a")).unwrap().len(), 16_384);
    Ok(())
}

#[test]
fn a_file_that_appears_after_the_claim_is_not_written_to() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384), ("b", 16_384)]));
    fs::create_dir_all(b.path("")).unwrap();
    fs::write(b.path("a"), b"mine").unwrap();
    assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::Exists));
    assert_eq!(b.write(16_384, &[1; 16_384]), Ok(()));
    assert_eq!(fs::read(b.path("a")).unwrap(), b"mine");
}

#[test]
fn two_torrents_do_not_write_to_one_path_and_may_read_it() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 20_000), ("b", 10)]));
    let other = info(16_384, &[("b", 70), ("c", 10)]);
    let save = b.dir.path().join("save");
    b.open_other(Arc::clone(&other), save.clone());
    refused_as(
        OpErrorKind::InUse,
        b.claim_of(O, &[], &[], Claim::Write),
        &["t/b", "\"t\""],
    )?;
    // The same path by another name of the folder.
    fs::create_dir_all(&save).unwrap();
    let alias = b.dir.path().join("alias");
    std::os::unix::fs::symlink(&save, &alias).unwrap();
    b.open_other(other, alias);
    refused_as(
        OpErrorKind::InUse,
        b.claim_of(O, &[], &[], Claim::Write),
        &["t/b"],
    )?;
    b.fill();
    b.flush().unwrap();
    b.confirm(true);
    refused_as(
        OpErrorKind::InUse,
        b.claim_of(O, &[Whose::Recorded], &[], Claim::Read),
        &["t/b"],
    )?;
    assert!(
        b.claim_of(T, &[Whose::Recorded; 2], &[], Claim::Read)
            .is_ok()
    );
    assert!(b.claim_of(O, &[Whose::Recorded], &[], Claim::Read).is_ok());
    refused_as(
        OpErrorKind::InUse,
        b.claim_of(O, &[Whose::Recorded], &[], Claim::Overwrite),
        &["t/b"],
    )?;
    b.release(false);
    assert!(b.claim_of(O, &[Whose::Recorded], &[], Claim::Write).is_ok());
    Ok(())
}

#[test]
fn a_file_that_another_session_writes_is_not_taken() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    let mut other = Bench::new(info(16_384, &[("a", 16_384)]));
    b.write(0, &[0; 16_384]).unwrap();
    let dir = b.dir.path().join("save");
    other.open_other(Arc::clone(&b.info), dir);
    for claim in [Claim::Write, Claim::Overwrite] {
        refused_as(
            OpErrorKind::InUse,
            other.claim_of(O, &[Whose::Recorded], &[], claim),
            &["t/a", "another"],
        )?;
    }
    b.release(false);
    assert!(
        other
            .claim_of(O, &[Whose::Recorded], &[], Claim::Write)
            .is_ok()
    );
    Ok(())
}

#[test]
fn a_file_replaced_while_it_is_written_is_reported_and_left_alone() {
    for evict in [false, true] {
        let config = DiskConfig {
            threads: 2,
            open_files: if evict { 1 } else { 8 },
        };
        let files = info(16_384, &[("a", 32_768), ("b", 16_384)]);
        let mut b = Bench::with(files, config, Allocation::Sparse);
        b.write(0, &[1; 16_384]).unwrap();
        b.write(32_768, &[1; 16_384]).unwrap();
        fs::rename(b.path("a"), b.path("old")).unwrap();
        fs::write(b.path("a"), b"mine").unwrap();
        let written = b.write(16_384, &[1; 16_384]);
        let expected = if evict {
            Err(OpErrorKind::NotFound)
        } else {
            Ok(())
        };
        assert_eq!(written, expected);
        if !evict {
            assert_eq!(b.flush().unwrap()[0], None);
        }
        assert_eq!(b.write(0, &[1; 16_384]), Err(OpErrorKind::Exists));
        assert_eq!(fs::read(b.path("a")).unwrap(), b"mine");
        b.release(true);
        assert!(b.path("a").exists() && b.path("old").exists());
        assert!(!b.path("b").exists());
    }
}

#[test]
fn a_killed_process_finds_its_files_again_until_they_are_complete() -> Result<(), TestFailed> {
    let mut b = Bench::new(info(32_768, &[("a", 32_768)]));
    b.write(0, &[1; 16_384]).unwrap();
    let file = fs::File::open(b.path("a")).unwrap();
    if platform::marked(&file).is_none() {
        return Ok(()); // no attributes on this file system
    }
    assert!(b.claim_anew(Claim::Write).is_ok());
    // Another torrent recognises the owner, whatever it believes.
    b.release(false);
    let other = info(16_384, &[("a", 32_768)]);
    let dir = b.dir.path().join("save");
    b.open_other(other, dir);
    refused(
        b.claim_of(O, &[Whose::Recorded], &[], Claim::Write),
        &["t/a", "another torrent"],
    )?;
    b.open(Allocation::Sparse);
    b.write(16_384, &[1; 16_384]).unwrap();
    assert!(b.confirm(true)[0].is_some());
    assert_eq!(platform::marked(&file), None);
    refused(b.claim_anew(Claim::Write), &["t/a"])
}

#[test]
fn a_file_that_changed_since_it_was_checked_is_not_read() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    let data = b.fill();
    b.flush().unwrap();
    b.reopen();
    assert_eq!(b.read(0, 16_384).unwrap(), data);
    b.reopen();
    let old = b.path("old");
    fs::rename(b.path("a"), &old).unwrap();
    fs::write(b.path("a"), vec![9; 16_384]).unwrap();
    assert_eq!(b.read(0, 16_384), Err(OpErrorKind::NotFound));
    fs::rename(&old, b.path("a")).unwrap();
    assert_eq!(b.read(0, 16_384).unwrap(), data);
    b.reopen();
    let file = fs::File::options().write(true).open(b.path("a")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(b.read(0, 16_384), Err(OpErrorKind::Io));
}

#[test]
fn a_folder_that_is_gone_is_not_made_anew_by_looking_again() {
    let mut b = Bench::new(info(16_384, &[("a", 16_384)]));
    b.fill();
    let info = Arc::clone(&b.info);
    let look = |b: &mut Bench| {
        let info = Arc::clone(&info);
        b.run(|op| Op::Open {
            op,
            torrent: T,
            info,
        })
    };
    assert!(matches!(look(&mut b), Outcome::Opened(_)));
    let (save, away) = (b.dir.path().join("save"), b.dir.path().join("away"));
    fs::rename(&save, &away).unwrap();
    for _ in 0..2 {
        let gone = look(&mut b);
        assert!(
            matches!(&gone, Outcome::Failed { error, .. } if error.kind == OpErrorKind::NotFound),
            "{gone:?}"
        );
    }
    fs::rename(&away, &save).unwrap();
    assert!(matches!(look(&mut b), Outcome::Opened(_)));
}

#[test]
fn an_empty_file_is_made_when_it_is_wanted_alone_and_when_it_is_wanted_later() {
    let mut b = Bench::new(info(16_384, &[("a", 20_000), ("d/e", 0), ("f", 0)]));
    b.select(&[false, true, false]);
    let stats = b.confirm(true);
    let there = |b: &Bench| ["a", "d/e", "f"].map(|name| b.path(name).exists());
    assert_eq!(there(&b), [false, true, false]);
    assert_eq!(stats[1].map(|s| s.len), Some(0));
    b.select(&[false, true, true]);
    b.confirm(true);
    assert_eq!(there(&b), [false, true, true]);
    // A restart finds nothing wrong, and creates nothing that is not wanted.
    let stats = b.reopen();
    assert!(stats[0].is_none() && stats[1].is_some() && stats[2].is_some());
}

#[test]
fn a_file_that_is_cut_while_it_is_written_is_not_lengthened_again() {
    let mut b = Bench::new(info(16_384, &[("a", 49_152)]));
    b.write(0, &[1; 16_384]).unwrap();
    b.write(16_384, &[1; 16_384]).unwrap();
    let file = fs::File::options().write(true).open(b.path("a")).unwrap();
    file.set_len(1_000).unwrap();
    assert_eq!(b.write(32_768, &[1; 16_384]), Err(OpErrorKind::Truncated));
    assert_eq!(fs::metadata(b.path("a")).unwrap().len(), 1_000);
    // Once it has been looked at, it is filled again.
    b.reopen();
    assert_eq!(b.write(32_768, &[1; 16_384]), Ok(()));
}
