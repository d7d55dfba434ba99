//! The DHT in the simulator.
//!
//! - [`swarm`]: a DHT of real nodes, in homes as people have them, that come and go.
//! - [`farm`]: one host that emulates a wide-area DHT of any size, and [`trial`] puts one real
//!   [`Dht`](dunlin_core::dht::Dht) before it and measures its searches.

mod draw;
pub mod farm;
pub mod measure;
pub mod space;
pub mod swarm;
pub mod trial;

pub use draw::lognormal;
pub use farm::{Farm, FarmConfig};
pub use measure::Summary;
pub use space::Space;
pub use swarm::{Reach, Swarm, SwarmConfig};
pub use trial::{Search, Trial};
