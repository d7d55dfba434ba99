//! Experiments: many worlds that are run and judged.
//!
//! - [`sweep`] runs a case over a range of seeds, and [`shrink`] reduces a failing script. Neither
//!   knows about networks.
//! - [`oracle`] predicts which hosts can connect, and [`matrix`] compares the simulator with it.
//! - [`ledger`] checks that NATs keep what their timeouts promise.
//! - [`swarm`] lets engines in simulated homes exchange a torrent.

pub mod ledger;
pub mod matrix;
pub mod oracle;
pub mod shrink;
pub mod swarm;
pub mod sweep;
