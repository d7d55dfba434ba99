//! Magnet links.

use dunlin_core::metainfo::Magnet;

/// Parses `data`; what is understood is written and read again without a loss.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match text.parse::<Magnet>() {
        Ok(magnet) => {
            let written = magnet.to_string();
            let again: Magnet = written.parse().expect("what we write we can read");
            assert_eq!(again, magnet, "{written}");
            let _ = (magnet.selects(0), magnet.selects(u32::MAX));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
