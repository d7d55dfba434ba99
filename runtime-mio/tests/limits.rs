//! A process without descriptors to spare. Alone in its program: the limit is the process's.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    fs::File,
    net::TcpStream,
    time::{Duration, Instant},
};

use common::{PATIENCE, config};
use dunlin_mio::{Add, Driver};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CLIENTS: u32 = 4;

/// Turns until `done` says so, of what it is given each time.
fn turn_until(driver: &mut Driver, what: &str, mut done: impl FnMut(&mut Driver) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(driver) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "waited in vain: {what}");
        driver.turn(Some(left), |_, _| ()).unwrap();
    }
}

#[test]
fn accepting_pauses_without_descriptors_and_goes_on_with_them() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut driver = Driver::new(config(dir.path())).unwrap();
    let hash = "magnet:?xt=urn:btih:0123456789abcdef0123456789abcdef01234567";
    driver.control().add(Add::magnet(hash).unwrap()).unwrap();
    let status = |driver: &mut Driver| driver.control().engine_status();
    turn_until(&mut driver, "listening", |d| {
        !status(d).listening.is_empty()
    });
    let address = status(&mut driver).listening[0];
    // The kernel takes them in; nobody turns meanwhile.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();

    let before = getrlimit(Resource::Nofile);
    let highest = File::open("/dev/null").unwrap();
    let least = Rlimit {
        current: Some(u64::from(std::os::fd::AsRawFd::as_raw_fd(&highest).unsigned_abs()) + 1),
        ..before
    };
    setrlimit(Resource::Nofile, least).unwrap();
    // Gaps below the highest one.
    let fillers: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    turn_until(&mut driver, "a pause", |d| {
        d.control().stats().accept_pauses > 0
    });
    assert_eq!(status(&mut driver).connections, 0);
    // It does not spin meanwhile: the next pauses come a quarter of a second after each other.
    let turns = driver.control().stats().turns;
    turn_until(&mut driver, "more pauses", |d| {
        d.control().stats().accept_pauses > 3
    });
    let turns = driver.control().stats().turns - turns;
    assert!(turns < 20, "{turns} turns for three pauses");

    drop((fillers, highest));
    setrlimit(Resource::Nofile, before).unwrap();
    turn_until(&mut driver, "the clients", |d| {
        status(d).connections == CLIENTS
    });
    drop(clients);
    driver.control().stop();
    turn_until(&mut driver, "the end", |d| {
        !d.turn(Some(Duration::ZERO), |_, _| ()).unwrap()
    });
}
