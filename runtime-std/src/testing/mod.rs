//! What the tests of more than one driver need. Only with the feature `testing`.
#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    missing_docs,
    reason = "tests"
)]

pub mod content;
pub mod http;
pub mod socks;
