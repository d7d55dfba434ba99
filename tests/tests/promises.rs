//! The table of promises in `docs/USING-DHT.md`: each row names tests, and they exist.

use std::path::{Path, PathBuf};

/// Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the project") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            sources(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_promise_of_the_page_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/USING-DHT.md")).expect("the page");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let code: String = files
        .iter()
        .map(|f| std::fs::read_to_string(f).expect("source"))
        .collect();
    let mut rows = 0;
    for line in page.lines().filter(|l| l.starts_with("| S")) {
        rows += 1;
        let cells: Vec<_> = line.trim_end_matches('|').split('|').collect();
        let tests: Vec<_> = cells.last().map_or(Vec::new(), |c| c.split(',').collect());
        for test in tests {
            let name = test.trim().trim_matches('`');
            assert!(code.contains(&format!("fn {name}(")), "no test for {line}");
        }
    }
    assert_eq!(rows, 34);
}
