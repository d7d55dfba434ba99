//! Servers that a simulated internet has: trackers, names, STUN.

mod dns;
mod stun;
mod swarm;
mod tracker;

pub use dns::Dns;
pub use stun::StunServer;
pub use swarm::{Swarm, SwarmStats};
pub use tracker::{Tracker, TrackerConfig};
