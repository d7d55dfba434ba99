//! The settings file.

use std::path::Path;

use dunlin_std::config::Settings;

/// Parses `data` as `dunlin.toml`.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(error) = Settings::parse(&text, Path::new("dunlin.toml")) {
        assert!(!error.message.is_empty());
        let (line, column) = error.at.expect("a mistake has a place");
        assert!(line >= 1 && column >= 1);
        assert!(line <= text.matches('\n').count() + 1);
    }
}
