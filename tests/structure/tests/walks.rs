//! The architecture page links functions and types: each of them stands in the file that is linked.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

use std::fs;

use dunlin_structure::cli;

const PAGE: &str = "docs/ARCHITECTURE.md";

/// The links of a text whose name is code: the name and the target.
fn links(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for part in text.split("[`").skip(1) {
        if let Some((name, rest)) = part.split_once("`](")
            && let Some((target, _)) = rest.split_once(')')
        {
            found.push((name, target));
        }
    }
    found
}

/// Whether Rust code defines a function, a type or a module of this name.
fn defines(code: &str, name: &str) -> bool {
    let kinds = ["fn", "struct", "enum", "trait", "type", "mod"];
    let words = |line: &str| -> Vec<String> {
        let parts = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        parts.filter(|p| !p.is_empty()).map(str::to_owned).collect()
    };
    code.lines().any(|line| {
        let words = words(line);
        words
            .windows(2)
            .any(|w| kinds.contains(&w[0].as_str()) && w[1] == name)
    })
}

#[test]
fn what_the_architecture_page_links_is_there() {
    let root = cli::workspace();
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let (mut checked, mut faults) = (0, Vec::new());
    for (name, target) in links(&page) {
        let path = root.join("docs").join(target);
        let Ok(code) = fs::read_to_string(&path) else {
            faults.push(format!("{target}: there is no such file"));
            continue;
        };
        let item = name.rsplit("::").next().unwrap();
        let is_file = name.ends_with(".rs") || name.ends_with(".txt") || !name.contains("::");
        if item.starts_with(char::is_uppercase) || !is_file {
            checked += 1;
            if !defines(&code, item) {
                faults.push(format!("{target} does not define {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(checked > 30, "only {checked} links are to code");
}

#[test]
fn a_link_to_what_has_moved_is_found() {
    assert_eq!(links("see [`A::b`](../c.rs)."), [("A::b", "../c.rs")]);
    let code = "pub(crate) fn received(&mut self) {}\npub struct Open<T> {}";
    assert!(defines(code, "received") && defines(code, "Open"));
    assert!(!defines(code, "self") && !defines(code, "receive"));
}
