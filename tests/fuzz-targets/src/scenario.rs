//! Scenario files of the simulator.

use dunlin_sim::scenario::{Document, Scenario};

/// Parses `data` as a scenario. A document is written and read again, and says the same, whether
/// or not it is understood as a scenario.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let document = Document::parse(&text, "fuzz.toml");
    let scenario = Scenario::parse(&text, "fuzz.toml");
    if let Ok(document) = &document {
        let written = document.to_toml();
        let again = Document::parse(&written, "fuzz.toml");
        let again = again.unwrap_or_else(|e| panic!("{e} in what we wrote: {written}"));
        assert_eq!(again.to_toml(), written);
        let understood = Scenario::parse(&written, "fuzz.toml").map(|_| ());
        assert_eq!(
            understood.is_ok(),
            scenario.is_ok(),
            "{understood:?} of what we wrote: {written}"
        );
    }
    match scenario {
        Ok(_) => assert!(document.is_ok(), "a scenario is a document"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
