//! What the list of public items holds.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

use std::fs;

use dunlin_structure::figures;
use dunlin_structure::model::Crate;
use dunlin_structure::surface;

fn list(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        fs::write(dir.path().join(path), text).unwrap();
    }
    let krate = Crate::load("one", dir.path(), "lib.rs").unwrap();
    let lines = surface::items(&krate).into_iter();
    lines.map(|l| l.text).collect()
}

#[test]
fn an_item_stands_once_under_its_first_public_path() {
    let list = list(&[
        (
            "lib.rs",
            "pub mod shown; mod inner; pub use inner::{Hidden as Seen, helper}; pub use shown::Value;",
        ),
        (
            "shown.rs",
            "#[derive(Debug, Clone)] #[non_exhaustive] pub struct Value { pub a: u8, b: u8 }\n\
             impl Value { pub const fn get(&self, mut n: &mut [u8; 4]) -> Option<&'static str> { None } fn own(&self) {} }\n\
             impl Iterator for Value { type Item = u8; fn next(&mut self) -> Option<u8> { None } }\n\
             pub enum Kind<T> { A, B(T), C { x: u8 } }\n\
             pub(crate) fn internal() {}",
        ),
        (
            "inner.rs",
            "pub struct Hidden(pub u8); pub fn helper<T: Copy>(_: T) where T: Send {} pub fn unreachable() {}\n\
             trait Own { fn f(&self); } impl Own for Hidden { fn f(&self) {} }",
        ),
    ]);
    assert_eq!(
        list,
        [
            "struct one::Seen",
            "field one::Seen::0: u8",
            "use one::Value = one::shown::Value",
            "fn one::helper<T: Copy>(_: T) where T: Send",
            "mod one::shown",
            "enum one::shown::Kind<T>",
            "variant one::shown::Kind::A",
            "variant one::shown::Kind::B(T)",
            "variant one::shown::Kind::C { x: u8 }",
            "impl Iterator for one::shown::Value",
            "struct one::shown::Value (non-exhaustive): Clone, Debug",
            "field one::shown::Value::a: u8",
            "fn const one::shown::Value::get(&self, n: &mut [u8; 4]) -> Option<&'static str>",
        ]
    );
}

#[test]
fn what_is_hidden_is_left_out_with_all_inside() {
    let list = list(&[(
        "lib.rs",
        "#[doc(hidden)] pub mod bench { pub struct Inside; pub fn f() {} }\n\
         #[doc(hidden)] pub use bench::f;\n\
         #[cfg(test)] pub fn test() {}\n\
         pub struct Shown; impl Shown { #[doc(hidden)] pub fn g(&self) {} pub fn h(&self) {} }",
    )]);
    assert_eq!(list, ["struct one::Shown", "fn one::Shown::h(&self)"]);
}

#[test]
fn a_copy_of_four_lines_is_counted_and_three_are_not() {
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let theirs = [lines("one two three four five"), lines("six seven")];
    assert_eq!(figures::alike(&[lines("x one two three y")], &theirs), 0);
    assert_eq!(
        figures::alike(
            &[lines("x two three four five y two three four five")],
            &theirs
        ),
        8
    );
    assert_eq!(figures::alike(&[lines("four five six seven")], &theirs), 0);
}
