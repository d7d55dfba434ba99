//! Servers of the simulated internet: trackers, name servers, STUN servers.

mod dns;
mod stun;
mod swarm;
mod tracker;

pub use dns::Dns;
pub use stun::StunServer;
pub use swarm::{Swarm, SwarmStats};
pub use tracker::{Tracker, TrackerConfig};
