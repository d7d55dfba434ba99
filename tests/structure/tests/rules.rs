//! The rules find what is planted, and the workspace keeps them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dunlin_structure::cli;
use dunlin_structure::model::Crate;
use dunlin_structure::rules::{self, Edge};

/// A crate made of the files given, and what breaks the rules in it.
fn faults_of(name: &str, files: &[(&str, &str)], known: &[&str]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let krate = Crate::load(name, dir.path(), "lib.rs").unwrap();
    let known: BTreeSet<Edge> = known.iter().map(|l| Edge::parse(l).unwrap()).collect();
    rules::check(&[(krate, &[])], &known)
}

const DOWN: &[(&str, &str)] = &[
    ("lib.rs", "mod a; mod b; pub use a::A;"),
    ("a.rs", "use crate::b::B; pub struct A(B);"),
    ("b.rs", "pub struct B;"),
];

#[test]
fn imports_that_run_one_way_are_no_fault() {
    assert_eq!(faults_of("one", DOWN, &[]), Vec::<String>::new());
}

#[test]
fn a_cycle_is_found_whatever_names_it() {
    for planted in [
        "pub struct B; use crate::a::A;",
        "pub struct B; use super::a::{self, *}; fn f(_: A) {}",
        "pub struct B; fn f(_: crate::A) {}",
        "pub struct B; fn f() { let _ = crate::a::A::new(); }",
        "pub struct B; fn f() { assert!(matches!(1, crate::a::X)); }",
        "use crate as one; pub struct B(one::a::A);",
        "pub struct B; impl From<super::a::A> for B {}",
        "pub struct B; mod inner { fn f(_: crate::a::A) {} }",
        "pub struct B; fn f() { use crate::a::A as Other; }",
    ] {
        let files = [DOWN[0], DOWN[1], ("b.rs", planted)];
        let faults = faults_of("one", &files, &[]);
        assert_eq!(faults.len(), 1, "{planted}: {faults:?}");
        assert!(
            faults[0].starts_with("cycle inside one: a, b"),
            "{planted}: {faults:?}"
        );
    }
}

#[test]
fn a_longer_cycle_between_folders_is_found_at_their_parent() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a/mod.rs", "mod deep;"),
        ("a/deep.rs", "pub struct Deep(crate::b::inner::Inner);"),
        ("b/mod.rs", "pub mod inner;"),
        ("b/inner.rs", "pub struct Inner(crate::c::C);"),
        ("c.rs", "pub struct C(Option<crate::a::deep::Deep>);"),
    ];
    let faults = faults_of("one", &files, &[]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("cycle inside one: a, b, c"));
}

#[test]
fn tests_parents_and_the_use_of_a_module_alone_are_free() {
    let files = [
        (
            "lib.rs",
            "mod a; mod b; pub struct Shared; pub use a::A; fn f(_: b::B) {}",
        ),
        ("a.rs", "use crate::b; pub struct A(b::B);"),
        (
            "b.rs",
            "pub struct B(super::Shared); use super::a as _;\n\
             #[cfg(test)] mod tests { use crate::a::A; }\n\
             #[cfg(all(test, unix))] fn g(_: crate::a::A) {}\n\
             /// See [`crate::a::A`].\n fn h() {}",
        ),
    ];
    assert_eq!(faults_of("one", &files, &[]), Vec::<String>::new());
}

#[test]
fn a_known_use_is_let_pass_until_it_is_not_needed() {
    let cycle = [DOWN[0], DOWN[1], ("b.rs", "pub struct B; use crate::A;")];
    let known = ["one: b -> a"];
    assert_eq!(faults_of("one", &cycle, &known), Vec::<String>::new());
    let faults = faults_of("one", DOWN, &known);
    assert_eq!(
        faults,
        ["known without need, take it out: one: b -> a"],
        "an entry that is not needed any more"
    );
}

#[test]
fn a_lower_layer_of_core_may_not_use_a_higher_one() {
    let files = [
        ("lib.rs", "mod wire; mod engine;"),
        ("engine.rs", "pub struct Engine;"),
        ("wire.rs", "fn f(_: &crate::engine::Engine) {}"),
    ];
    let faults = faults_of("dunlin_core", &files, &[]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("upwards: dunlin_core: wire -> engine\n"));
    assert!(faults[0].contains("wire.rs:1 crate::engine::Engine"));
}

#[test]
fn a_new_module_of_core_needs_a_layer_and_core_knows_nobody() {
    let files = [
        ("lib.rs", "mod novel;"),
        ("novel.rs", "use dunlin_std::Error;"),
    ];
    let faults = faults_of("dunlin_core", &files, &[]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("dunlin_core may not use dunlin_std: "));
    assert!(faults[1].starts_with("novel has no layer"));
}

/// Not only small crates: a use planted in a copy of core is found too.
#[test]
fn a_cycle_planted_in_core_is_found() {
    let root = cli::workspace();
    let dir = tempfile::tempdir().unwrap();
    copy(&root.join("core/src"), dir.path());
    let file = dir.path().join("wire/mod.rs");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text + "\nfn planted(_: &crate::engine::Engine) {}\n").unwrap();
    let krate = Crate::load("dunlin_core", dir.path(), "lib.rs").unwrap();
    let known = rules::read_known(&cli::known(&root)).unwrap();
    let faults = rules::check(&[(krate, &[])], &known);
    let upwards = |f: &&String| f.starts_with("upwards: dunlin_core: wire -> engine\n");
    assert_eq!(faults.iter().filter(upwards).count(), 1, "{faults:?}");
    let cycle = |f: &&String| f.starts_with("cycle inside dunlin_core: ");
    assert_eq!(faults.iter().filter(cycle).count(), 1, "{faults:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
