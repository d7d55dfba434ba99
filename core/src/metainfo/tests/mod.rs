//! Tests with torrent files as they are found, and as an attacker would make them.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::*;
use crate::{InfoHash, hash::sha1, wire::bencode};

mod create;
mod magnet;
mod parse;
mod property;

/// A bencoded string.
fn s(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [format!("{}:", text.len()).as_bytes(), text].concat()
}

/// A bencoded dictionary of the pairs as given: keys in text, values already bencoded.
fn d(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (key, value) in pairs {
        out.extend_from_slice(&s(key));
        out.extend_from_slice(value);
    }
    out.push(b'e');
    out
}

/// A bencoded list.
fn l(values: &[&[u8]]) -> Vec<u8> {
    [b"l", &values.concat()[..], b"e"].concat()
}

/// Info of one file of 40 000 bytes in three pieces, with `more` keys at the end.
fn single(more: &[(&str, &[u8])]) -> Vec<u8> {
    let hashes = s([7; 60]);
    let own: [(&str, &[u8]); 4] = [
        ("length", b"i40000e"),
        ("name", b"8:file.bin"),
        ("piece length", b"i16384e"),
        ("pieces", &hashes),
    ];
    d(&[&own, more].concat())
}

/// Info of a folder of these entries, of `pieces` pieces of 16 KiB.
fn folder(files: &[&[u8]], pieces: usize) -> Vec<u8> {
    d(&[
        ("files", &l(files)),
        ("name", b"6:folder"),
        ("piece length", b"i16384e"),
        ("pieces", &s(vec![9; pieces * 20])),
    ])
}

fn entry(len: u64, path: &[&str]) -> Vec<u8> {
    let path: Vec<Vec<u8>> = path.iter().map(s).collect();
    let path: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
    d(&[
        ("length", format!("i{len}e").as_bytes()),
        ("path", &l(&path)),
    ])
}
