//! Trackers as machines: [`Announcer`] decides which tracker to ask when, for one torrent; [`UdpTrackers`] implements BEP 15
//! for all torrents.
//!
//! ```text
//!   Announcer ──Query──▶ owner ──http(s): Op::Http──────────────────▶ platform
//!       ▲                  └────udp: Op::Resolve, then UdpTrackers──▶ socket
//!       └──handle_http / handle_answer──┘
//! ```
//!
//! The owner resolves names and sends HTTP requests. For a `udp` query, it resolves the host of [`parse_url`], takes the
//! addresses of the query's family (if there are none, the answer is [`TrackerError::NoAddress`]) and passes them to
//! [`UdpTrackers`]. If that is [`Full`], the answer is [`TrackerError::Busy`], and the announcer asks again a second later.
//!
//! [`Announcer::add_dht`] adds a pseudo-tracker, [`DHT_URL`], for which the owner searches the DHT.
//!
//! [`parse_url`]: crate::wire::tracker::parse_url
//! [`TrackerError::Busy`]: crate::wire::tracker::TrackerError::Busy
//! [`TrackerError::NoAddress`]: crate::wire::tracker::TrackerError::NoAddress

mod announcer;
mod dht;
mod endpoint;
mod entry;
mod plan;
mod types;
#[doc(hidden)]
pub mod udp;

#[doc(hidden)]
pub use announcer::Announcer;
#[doc(hidden)]
#[doc(hidden)]
pub use types::{
    AnnounceConfig, DHT_URL, Families, MAX_TRACKERS, NO_PORT, Query, QueryKey, QueryKind,
    SERVER_DOWN, Stats, TrackerEvent,
};
pub use types::{
    DhtFound, DhtProgress, DhtState, Reach, SavedTracker, TrackerId, TrackerState, TrackerStatus,
};
#[doc(hidden)]
pub use udp::{Full, QueryId, UdpConfig, UdpTrackers};

pub use crate::wire::tracker::TrackerError;
