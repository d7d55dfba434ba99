//! Scenario files: a network, what happens in it and what is expected of it, in TOML.
//!
//! `SCENARIOS.md` beside the crate's manifest lists every key; it is made from the same tables
//! as the parser. A file that makes no sense is refused with its line and column and what would
//! be right:
//!
//! ```
//! let error = dunlin_sim::scenario::Scenario::parse("sede = 5", "home.toml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "home.toml:1:1: `sede` is not a key before the first table\n  \
//!        1 | sede = 5\n    | ^^^^ did you mean `seed`?"
//! );
//! ```

mod build;
mod check;
mod describe;
mod document;
mod engines;
mod error;
mod hosts;
mod keys;
mod keys_nat;
mod keys_parts;
mod kinds;
mod links;
mod model;
mod names;
mod plan;
mod presets;
mod random;
mod read;
mod reference;
mod run;
mod sequence;
mod shrink;
#[cfg(test)]
mod tests;
mod timeline;
mod value;
pub mod words;

pub use describe::{PresetList, all_presets, nearest_preset, preset_in_full};
pub use document::{Document, Entry, Item, MAX_FILE, Value, ValueKind, quote};
pub use error::ScenarioError;
pub use kinds::{KINDS, KindInfo};
pub use model::{
    Action, Bound, Check, Event, Expect, Host, Kind, Link, Options, Random, Router, Scenario,
    Torrent,
};
pub use random::written_out;
pub use read::{MAX_DEPTH, MAX_EVENTS, MAX_NODES};
pub use reference::reference;
pub use run::{MAX_HOPS, Question, RunOptions, RunResult, explain, run};
pub use shrink::{Small, shrink};
