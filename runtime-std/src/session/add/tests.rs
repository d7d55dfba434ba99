//! Adding torrents: reading, claiming, refusing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::*;
use crate::session::{setup::SessionConfig, store::Store};

#[test]
fn a_url_has_to_be_fetched_before_it_is_loaded() {
    let add = Add::url("http://host/a.torrent?key=secret");
    let error = add.load().unwrap_err().to_string();
    assert!(error.contains("a.torrent") && !error.contains("secret"));
    let add = Add::url("http://host/a.torrent?key=secret");
    let error = add.fetched(b"<html>").unwrap_err().to_string();
    assert!(error.contains("a.torrent") && !error.contains("secret"));
}

#[test]
fn a_magnet_tells_its_addresses_from_its_hosts() {
    let link = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567\
                &x.pe=127.0.0.1:7&x.pe=peer.example:8";
    let loaded = Add::magnet(link).unwrap().load().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ready = loaded.claim(None, &saving_to(dir.path())).unwrap();
    assert_eq!(ready.hosts, [("peer.example".to_owned(), 8)]);
    assert_eq!(ready.torrent.peers, ["127.0.0.1:7".parse().unwrap()]);
}

/// A torrent of one file named `one`.
fn one() -> metainfo::Torrent {
    let draft = metainfo::Builder::file("one", 1).draft().unwrap();
    draft.finish(&[dunlin_core::hash::sha1(b"x")]).unwrap()
}

fn saving_to(dir: &Path) -> SessionConfig {
    SessionConfig {
        dir: dir.into(),
        ..SessionConfig::default()
    }
}

/// Adds the torrent to a session that saves to `usual`, and releases it again. Returns the folder in which
/// it would be saved.
fn recalled(add: Add, store: Option<&Arc<Store>>, usual: &Path) -> Result<PathBuf> {
    let loaded = add.load().unwrap();
    let ready = loaded.claim(store.cloned(), &saving_to(usual))?;
    Ok(ready.placement.dir)
}

#[test]
fn a_folder_that_is_gone_is_not_replaced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("session")).unwrap());
    let (disk, home) = (dir.path().join("disk"), dir.path().join("home"));
    let (mounted, aside) = (disk.join("saved"), dir.path().join("aside"));
    let add = || Add::torrent(one());
    let place = recalled(add(), Some(&store), &mounted).unwrap();
    assert!(place == mounted && mounted.is_dir());
    fs::rename(&disk, &aside).unwrap();
    // With another usual folder, and with the same one.
    for (add, usual) in [
        (add(), &home),
        (add(), &mounted),
        (add().existing(Existing::ReadOnly), &home),
        (Add::magnet(&one().magnet().to_string()).unwrap(), &home),
    ] {
        let error = recalled(add, Some(&store), usual).unwrap_err();
        assert!(
            matches!(&error, Error::Gone { dir, .. } if *dir == mounted),
            "{error}"
        );
        assert!(error.to_string().contains("saved before"), "{error}");
    }
    assert!(!disk.exists() && !home.exists(), "a folder was made");
    // The disk is mounted again; nothing was forgotten meanwhile.
    fs::rename(&aside, &disk).unwrap();
    assert_eq!(recalled(add(), Some(&store), &home).unwrap(), mounted);
    // A folder that is named has precedence, and so has one to which the files were moved by hand.
    fs::rename(&disk, &aside).unwrap();
    let named = dir.path().join("named");
    let place = recalled(add().dir(&named), Some(&store), &home).unwrap();
    assert!(place == named && named.is_dir());
    fs::remove_dir(&named).unwrap();
    fs::create_dir(&home).unwrap();
    fs::write(home.join("one"), "x").unwrap();
    assert_eq!(recalled(add(), Some(&store), &home).unwrap(), home);
}

#[test]
fn a_folder_is_made_or_refused_when_a_torrent_is_added() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&dir.path().join("session")).unwrap());
    let file = dir.path().join("file");
    fs::write(&file, "the user's").unwrap();
    let inside = file.join("below/it");
    let new = dir.path().join("new/folder");
    for store in [None, Some(&store)] {
        for (dir, read_only, says) in [
            (&file, false, "file: it is not a folder"),
            (&file, true, "file: it is not a folder"),
            (&inside, false, "file is not a folder"),
            (&inside, true, "file is not a folder"),
            (&new, true, "new/folder: "),
        ] {
            let mut add = Add::torrent(one());
            if read_only {
                add = add.existing(Existing::ReadOnly);
            }
            let error = recalled(add, store, dir).unwrap_err();
            assert!(matches!(error, Error::Dir { .. }), "{error}");
            assert!(error.to_string().contains(says), "{says} in {error}");
            assert!(!new.exists());
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"the user's");
    // A folder that was refused is not remembered.
    recalled(Add::torrent(one()), Some(&store), &new).unwrap();
    assert!(new.is_dir());
}

#[test]
fn what_is_ignored_of_a_magnet_is_said() {
    let link = "'magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567&so=x'";
    let loaded = Add::magnet(link).unwrap().load().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ready = loaded.claim(None, &saving_to(dir.path())).unwrap();
    let [note] = ready.notes.as_slice() else {
        panic!("{:?}", ready.notes);
    };
    assert!(note.contains("`so=`") && note.contains("ignored"), "{note}");
}
