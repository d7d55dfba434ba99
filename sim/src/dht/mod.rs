//! The DHT in the simulator.
//!
//! - [`farm`]: one host that emulates a wide-area DHT of any size, and [`trial`] puts one real
//!   [`Dht`](dunlin_core::dht::Dht) before it and measures its searches.

mod draw;
pub mod farm;
pub mod measure;
pub mod space;
pub mod trial;

pub use draw::lognormal;
pub use farm::{Farm, FarmConfig};
pub use measure::Summary;
pub use space::Space;
pub use trial::{Search, Trial};
