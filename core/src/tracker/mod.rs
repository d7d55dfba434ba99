//! Trackers as machines: [`Announcer`] knows when to ask whom for one torrent,
//! [`UdpTrackers`] speaks BEP 15 for all torrents.
//!
//! ```text
//!   Announcer ──Query──▶ owner ──http(s): Op::Http──────────────────▶ platform
//!       ▲                  └────udp: Op::Resolve, then UdpTrackers──▶ socket
//!       └──handle_http / handle_answer──┘
//! ```
//!
//! Names are resolved and HTTP is spoken by the owner. For an `udp` query it resolves the host
//! of [`parse_url`], takes the addresses of the query's family (none: [`TrackerError::NoAddress`])
//! and hands them to [`UdpTrackers`]; if that is [`Full`] it answers [`TrackerError::Busy`], upon
//! which the announcer asks again a second later.
//!
//! [`Announcer::add_dht`] adds a pseudo-tracker, [`DHT_URL`]: the owner searches the DHT for it.
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
