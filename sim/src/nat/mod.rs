//! NAT boxes: pure tables with timers, without a network. A box is asked about one packet at a
//! time and rewrites it in place.

mod config;

pub use config::{
    Clash, Fault, Filtering, Full, Hairpin, Mapping, NatConfig, Pooling, PortPolicy, Timeouts,
    Translation, UnsolicitedSyn, WanInput,
};
