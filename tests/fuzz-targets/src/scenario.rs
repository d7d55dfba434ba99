//! Scenario files of the simulator.

use dunlin_sim::scenario::{Document, Scenario};

/// Parses `data` as a scenario; one that is understood is written and read again.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let document = Document::parse(&text, "fuzz.toml");
    match Scenario::parse(&text, "fuzz.toml") {
        Ok(_) => {
            let document = document.expect("a scenario is a document");
            let written = document.to_toml();
            let again = Scenario::parse(&written, "fuzz.toml").map(|_| ());
            assert!(again.is_ok(), "{again:?} of what we wrote: {written}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
