//! Encrypted handshakes that fail: which one is tried next.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::bench::Bench;
use common::torrent;
use dunlin_core::engine::Source;
use dunlin_core::wire::mse::{KEY_LEN, PrivateKey};
use dunlin_core::{CloseReason, Config, Cx, EncryptionPolicy};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What the engine began a connection with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hello {
    Plain,
    Encrypted,
}

/// The first `attempts` of a connection to a peer that closes each stream when the keys are exchanged. Its secrets begin with
/// a zero byte, or with another, as `short` says.
fn attempts(encryption: EncryptionPolicy, short: &[bool], attempts: usize) -> Vec<Hello> {
    let (info, _) = torrent(100_000, 32 << 10);
    let config = Config {
        encryption,
        ..Config::default()
    };
    let mut b = Bench::new(config);
    let addr: SocketAddr = "10.8.0.1:6881".parse().unwrap();
    b.add(Source::Info(info), &[addr]);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut short = short.iter().chain(std::iter::repeat(&false));
    let mut hellos = Vec::new();
    for n in 0..attempts {
        // Less than the wait after a failure.
        b.wait(Duration::from_millis(100));
        let Some(&(conn, to)) = b.calls.get(n) else {
            break;
        };
        assert_eq!(to, addr);
        b.e.handle_connected(b.now, conn);
        let heard = b.hear(conn);
        if heard.starts_with(b"\x13BitTorrent protocol") {
            hellos.push(Hello::Plain);
        } else {
            hellos.push(Hello::Encrypted);
            let theirs = heard[..KEY_LEN].try_into().unwrap();
            let short = *short.next().unwrap();
            let key = loop {
                let mut cx = Cx {
                    now: b.now,
                    rng: &mut rng,
                };
                let key = PrivateKey::random(&mut cx);
                if key.agree(&theirs).unwrap().begins_with_zero() == short {
                    break key;
                }
            };
            b.say(conn, &key.public());
            // Who would wait for a hash that never comes is not left to wait.
            let refused = short && n == 0;
            assert_eq!(b.closed.contains(&conn), refused);
            assert_eq!(b.hear(conn).is_empty(), refused, "step 3 of the handshake");
            if refused {
                continue;
            }
        }
        b.e.handle_closed(b.now, conn, CloseReason::Eof);
        b.pump();
    }
    hellos
}

/// libtorrent before June 2026 closes the stream at one secret in 256, and rTorrent before August 2026 waits.
#[test]
fn a_handshake_with_a_short_secret_is_tried_again_with_another() {
    use EncryptionPolicy::{Preferred, Required};
    use Hello::{Encrypted, Plain};
    assert_eq!(attempts(Preferred, &[false], 3), [Encrypted, Plain]);
    assert_eq!(
        attempts(Preferred, &[true], 4),
        [Encrypted, Encrypted, Plain]
    );
    assert_eq!(attempts(Required, &[false], 2), [Encrypted]);
    assert_eq!(attempts(Required, &[true], 3), [Encrypted, Encrypted]);
}

/// A peer that can choose the secret cannot make the engine connect without end.
#[test]
fn a_short_secret_gives_one_more_attempt() {
    use EncryptionPolicy::{Preferred, Required};
    use Hello::{Encrypted, Plain};
    assert_eq!(
        attempts(Preferred, &[true; 9], 9),
        [Encrypted, Encrypted, Plain]
    );
    assert_eq!(attempts(Required, &[true; 9], 9), [Encrypted, Encrypted]);
}
