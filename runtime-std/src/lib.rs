//! Blocking pieces shared by Dunlin's std drivers: disk, session folder, configuration.

pub mod config;
pub mod disk;
pub mod net;
pub mod paths;
mod platform;
pub mod resolve;
pub mod session;
pub mod tree;
