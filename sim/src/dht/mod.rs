//! DHTs in the simulator.
//!
//! - [`swarm`]: a DHT of real nodes in homes, which come and go.
//! - [`synthetic`]: one host that emulates a wide-area DHT of any size. [`trial`] connects one real
//!   [`Dht`](dunlin_core::dht::Dht) to it and measures its searches.

mod draw;
pub mod measure;
pub mod space;
pub mod swarm;
pub mod synthetic;
pub mod trial;

pub use draw::lognormal;
pub use measure::Summary;
pub use space::Space;
pub use swarm::{Reach, Swarm, SwarmConfig};
pub use synthetic::{SyntheticConfig, SyntheticDht};
pub use trial::{Search, Trial};
