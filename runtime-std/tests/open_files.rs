//! Many torrents with few descriptors. Alone in its program: the limit is the process's.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use dunlin_core::InfoHash;
use dunlin_std::{session::setup, session::setup::SessionConfig, session::store::Store};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn ten_thousand_torrents_and_all_connections_keep_below_the_limit_of_open_files() {
    let before = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(200),
        ..before
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let config = SessionConfig::default();
    let connections = config.for_engine().max_connections;
    let files = config.disk.open_files.min(200 / 4);
    assert!(
        connections as usize + files <= 150,
        "{connections}, {files}"
    );

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let other = Store::open(dir.path()).unwrap();
    for n in 0..10_000_u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        store.claim(InfoHash(hash)).unwrap();
    }
    let last = InfoHash([0; 20]);
    assert!(other.claim(last).is_err(), "it is claimed");
    store.release(last);
    other.claim(last).unwrap();

    setup::raise_open_file_limit();
    let raised = getrlimit(Resource::Nofile).current;
    let most = before.maximum.map_or(65_536, |most| most.min(65_536));
    assert!(raised.is_none_or(|raised| raised >= most), "{raised:?}");
    assert_eq!(
        config.for_engine().max_connections,
        500.min(u32::try_from(most - most / 4 - 128).unwrap())
    );
}
