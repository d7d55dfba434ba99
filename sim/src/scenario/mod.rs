//! Scenario files: a network, what happens in it and what is expected of it, in TOML.
//!
//! `SCENARIOS.md` beside the crate's manifest lists every key; it is generated from the tables that
//! the parser uses. An invalid file is rejected; each error has its line, its
//! column and what would be valid:
//!
//! ```
//! let error = dunlin_sim::scenario::Scenario::parse("sede = 5", "home.toml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "home.toml:1:1: `sede` is not a key before the first table\n  \
//!        1 | sede = 5\n    | ^^^^ did you mean `seed`?"
//! );
//! ```

mod limits;
mod model;
mod population;
mod read;
mod reference;
mod run;
mod shrink;
mod syntax;
#[cfg(test)]
mod tests;

pub use limits::{MAX_DEPTH, MAX_EVENTS, MAX_NODES};
pub use model::{
    Action, Advertise, Bound, Check, Event, Expect, Host, Kind, Limit, Link, NameAnswer, NameEntry,
    Options, PortForward, QueueKind, Quota, Random, Router, Scenario, Side, Torrent,
    kinds::{KINDS, KindInfo},
    random::written_out,
};

pub use reference::{
    describe::{PresetList, all_presets, nearest_preset, preset_in_full},
    reference,
};
pub use run::{HostResult, MAX_HOPS, Question, RunOptions, RunResult, TorrentResult, explain, run};
pub use shrink::{Small, shrink};
pub use syntax::{
    document::{Document, Entry, Item, MAX_FILE, Value, ValueKind, quote},
    error::{ScenarioError, ScenarioErrors},
};
