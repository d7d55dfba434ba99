//! The DHT's table between sessions.

use dunlin_core::dht::cache;

/// A moment after most times that a cache may hold, in seconds since 1970.
const NOW: u64 = 2_000_000_000;

/// Reads `data`; what is understood is written and read again without a loss.
pub fn run(data: &[u8]) {
    match cache::decode(data, NOW) {
        Ok(saved) => {
            assert!(saved.nodes.len() <= 2 * cache::MAX_NODES);
            assert!(saved.contacts.len() <= cache::MAX_CONTACTS);
            let written = cache::encode(&saved, NOW);
            let again = cache::decode(&written, NOW).expect("what we write we can read");
            assert_eq!(cache::encode(&again, NOW), written);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
