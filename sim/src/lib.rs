//! The deterministic network simulator.
//!
//! What stands here so far is its clock: one queue of events ordered by (time, sequence), so that
//! two runs with one seed are the same run. Hosts, links and NAT boxes are to come.

#![forbid(unsafe_code)]

mod agenda;

pub use agenda::Agenda;
