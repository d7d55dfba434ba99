//! Whose files are, which pieces are trusted, and which files are lost.

use alloc::vec;

use super::*;
use crate::metainfo::Builder;
use crate::sync::Arc;
use crate::torrent::status::FilePriority;
use crate::{Config, InfoHash};

const PIECE: u64 = 16 << 10;
const ID: TorrentId = TorrentId(1);

/// A file of two pieces, a file of one, and an empty one.
fn info() -> Arc<Info> {
    let mut builder = Builder::folder("folder");
    builder.piece_len = Some(PIECE as u32);
    for (name, len) in [("a", 2 * PIECE), ("b", PIECE), ("empty", 0)] {
        builder.add(vec![name.into()], len);
    }
    builder.draft().unwrap().finish(&[[7; 20]; 3]).unwrap().info
}

fn wanted(priorities: &[FilePriority]) -> Wanted {
    Wanted::new(priorities.to_vec(), false)
}

fn stat(len: u64, id: u64) -> Option<FileStat> {
    Some(FileStat {
        len,
        mtime_ns: 5,
        id: Some(id),
    })
}

fn pieces(set: &[u32]) -> Bitfield {
    let mut pieces = Bitfield::new(3);
    for piece in set {
        pieces.set(*piece);
    }
    pieces
}

fn record(clean: bool, have: &[u32], files: &[Option<FileStat>]) -> Record {
    Record {
        clean,
        boot: Some([1; 16]),
        have: pieces(have).as_wire().to_vec(),
        files: files.to_vec(),
        ..Record::unchecked(InfoHash([1; 20]))
    }
}

/// What is claimed once the pieces `have` are verified, and whose the files are.
fn claimed(files: &mut Files, expected: Expected<'_>, have: &[u32]) -> (Claim, Vec<Whose>) {
    let mut ops = Ops::new(&Config::default());
    let picker = Picker::new(expected.info, pieces(have));
    files.claim(&mut ops, ID, expected, &picker);
    match ops.poll() {
        Some(Op::Claim { claim, whose, .. }) => (claim, whose),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_claimed_as_ours_only_if_the_record_or_its_pieces_say_so() {
    let (info, wanted) = (info(), wanted(&[]));
    let found = [stat(2 * PIECE, 1), stat(PIECE, 2), None];
    let whose = |record: Option<&Record>, have: &[u32]| {
        let expected = Expected {
            info: &info,
            wanted: &wanted,
            record,
        };
        let mut files = Files::new(Existing::Adopt, Check::Doubted);
        files.opened(expected, found.to_vec(), Some([1; 16]));
        let (claim, whose) = claimed(&mut files, expected, have);
        assert_eq!(claim, Claim::Write);
        let own = files.own(&info, false);
        let ours = |w: &Whose| matches!(w, Whose::Checked | Whose::Recorded);
        for (file, whose) in whose.iter().enumerate() {
            assert_eq!(own[file], found[file].filter(|_| ours(whose)));
        }
        whose
    };
    use Whose::{Checked, Partly, Recorded, Unknown};
    assert_eq!(whose(None, &[]), [Unknown; 3]);
    assert_eq!(whose(None, &[0]), [Partly, Unknown, Unknown]);
    assert_eq!(whose(None, &[0, 1]), [Checked, Unknown, Unknown]);
    // The record knows the first file by its number, and another one in place of the second.
    let known = record(true, &[], &[stat(2 * PIECE, 1), stat(PIECE, 9), None]);
    assert_eq!(whose(Some(&known), &[]), [Recorded, Unknown, Unknown]);
    // It was shorter then. Only a process that was interrupted can have written on.
    let shorter = [stat(PIECE, 1), None, None];
    let stopped = record(true, &[], &shorter);
    assert_eq!(whose(Some(&stopped), &[]), [Unknown; 3]);
    let killed = record(false, &[], &shorter);
    assert_eq!(whose(Some(&killed), &[]), [Recorded, Unknown, Unknown]);
}

#[test]
fn the_permission_to_overwrite_applies_to_one_claim() {
    let (info, wanted) = (info(), wanted(&[]));
    let expected = Expected {
        info: &info,
        wanted: &wanted,
        record: None,
    };
    let mut files = Files::new(Existing::Overwrite, Check::Doubted);
    files.opened(expected, vec![None; 3], None);
    assert_eq!(claimed(&mut files, expected, &[0]).0, Claim::Overwrite);
    // It was refused, so the permission still stands.
    assert_eq!(claimed(&mut files, expected, &[0]).0, Claim::Overwrite);
    files.granted();
    assert_eq!(claimed(&mut files, expected, &[0]).0, Claim::Write);
}

#[test]
fn complete_files_are_claimed_to_write_only_if_one_has_to_be_mended() {
    let (info, all) = (info(), wanted(&[]));
    let claim = |existing, wanted: &Wanted, found: [Option<FileStat>; 3]| {
        let expected = Expected {
            info: &info,
            wanted,
            record: None,
        };
        let mut files = Files::new(existing, Check::Doubted);
        files.opened(expected, found.to_vec(), None);
        claimed(&mut files, expected, &[0, 1, 2]).0
    };
    let right = [stat(2 * PIECE, 1), stat(PIECE, 2), stat(0, 3)];
    assert_eq!(claim(Existing::Adopt, &all, right), Claim::Read);
    let too_long = [right[0], stat(PIECE + 1, 2), right[2]];
    assert_eq!(claim(Existing::Adopt, &all, too_long), Claim::Write);
    assert_eq!(claim(Existing::ReadOnly, &all, too_long), Claim::Read);
    let no_empty_file = [right[0], right[1], None];
    assert_eq!(claim(Existing::Adopt, &all, no_empty_file), Claim::Write);
    // A file that is not wanted is left as it is.
    let normal = FilePriority::Normal;
    let some = wanted(&[normal, FilePriority::Skip, normal]);
    assert_eq!(claim(Existing::Adopt, &some, too_long), Claim::Read);
}

#[test]
fn pieces_are_hashed_where_the_files_are_not_as_the_record_says() {
    let (info, wanted) = (info(), wanted(&[]));
    let then = [stat(2 * PIECE, 1), stat(PIECE, 2), stat(0, 3)];
    let record = record(true, &[0, 2], &then);
    let judge = |check, found: [Option<FileStat>; 3], unreadable: &[u32]| {
        let expected = Expected {
            info: &info,
            wanted: &wanted,
            record: Some(&record),
        };
        let mut files = Files::new(Existing::Adopt, check);
        files.before.doubted = unreadable.to_vec();
        let judged = files.opened(expected, found.to_vec(), Some([1; 16]));
        assert!(files.before.doubted.is_empty());
        (judged.have, judged.doubted)
    };
    let nothing = Vec::new;
    assert_eq!(
        judge(Check::Doubted, then, &[]),
        (pieces(&[0, 2]), nothing())
    );
    assert_eq!(judge(Check::Doubted, then, &[2]), (pieces(&[0]), vec![2]));
    let replaced = [stat(2 * PIECE, 8), then[1], then[2]];
    assert_eq!(
        judge(Check::Doubted, replaced, &[]),
        (pieces(&[2]), vec![0, 1])
    );
    let cut = [stat(PIECE, 1), then[1], then[2]];
    assert_eq!(judge(Check::Doubted, cut, &[]), (pieces(&[2]), vec![0]));
    let gone = [None, then[1], then[2]];
    assert_eq!(judge(Check::Doubted, gone, &[]), (pieces(&[2]), nothing()));
    assert_eq!(judge(Check::All, then, &[]), (pieces(&[]), vec![0, 1, 2]));
    assert_eq!(
        judge(Check::Nothing, cut, &[]),
        (pieces(&[0, 2]), nothing())
    );
}

#[test]
fn a_file_is_lost_if_verified_pieces_are_missing_from_it() {
    let info = info();
    let right = [stat(2 * PIECE, 1), stat(PIECE, 2), None];
    let lost = |wanted: &Wanted, now: [Option<FileStat>; 3], have: &[u32], whole| {
        let mut files = Files::new(Existing::Adopt, Check::Doubted);
        files.stats = vec![stat(2 * PIECE, 1), None, None];
        files.lost(&info, wanted, &now, &pieces(have), whole)
    };
    let all = wanted(&[]);
    assert_eq!(lost(&all, right, &[0, 1, 2], true), [0; 0]);
    let cut = [stat(PIECE, 1), None, None];
    assert_eq!(lost(&all, cut, &[0], false), [0; 0]);
    assert_eq!(lost(&all, cut, &[1], false), [0]);
    assert_eq!(lost(&all, cut, &[0], true), [0]);
    let too_long = [right[0], stat(PIECE + 1, 2), None];
    assert_eq!(lost(&all, too_long, &[0, 1, 2], false), [0; 0]);
    assert_eq!(lost(&all, too_long, &[0, 1, 2], true), [1]);
    assert_eq!(lost(&all, [None; 3], &[0, 2], false), [0, 1]);
    // The pieces of a file that was skipped from the start are in the parts file.
    let some = wanted(&[FilePriority::Skip, FilePriority::Skip]);
    assert_eq!(lost(&some, [None; 3], &[0, 2], true), [0]);
}

#[test]
fn our_own_writes_do_not_make_the_other_files_doubtful() {
    let info = info();
    let now = vec![stat(2 * PIECE, 1), stat(7, 2), None];
    for writing in [true, false] {
        let mut files = Files::new(Existing::Adopt, Check::Doubted);
        files.stats = vec![stat(PIECE, 1), stat(PIECE, 2), None];
        let messages = files.lose(&info, now.clone(), &[1], writing);
        assert_eq!(
            messages,
            ["folder/b: it was cut short meanwhile; it is checked again"]
        );
        let kept = if writing { 2 * PIECE } else { PIECE };
        assert_eq!(files.stats, [stat(kept, 1), None, None]);
    }
}
