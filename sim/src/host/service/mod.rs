//! Servers of the simulated internet: trackers, name servers, STUN servers; and a client of the last.

mod dns;
mod stun;
mod stun_client;
mod swarm;
mod tracker;

pub use dns::{Dns, DnsAnswer};
pub use stun::StunServer;
pub use stun_client::StunClient;
pub use swarm::{Swarm, SwarmStats};
pub use tracker::{Tracker, TrackerConfig};
