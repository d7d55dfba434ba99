//! Bad input and attacks against one node: what it must drop, refuse, or not be moved by.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails")]

mod attacks;
mod bench;
mod input;
mod items;
mod ratios;
