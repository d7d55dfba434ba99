//! Experiments: many worlds, each run and judged, and what they come to.
//!
//! [`sweep`] runs a property over a range of seeds and [`shrink`] makes a failing input small; both know
//! nothing of networks. [`oracle`] predicts which hosts can connect, and [`matrix`] compares it with what
//! the simulator does. [`ledger`] accounts for every packet of a random script, and [`swarm`] lets engines
//! in simulated homes exchange a torrent.

pub mod ledger;
pub mod matrix;
pub mod oracle;
pub mod shrink;
pub mod swarm;
pub mod sweep;
