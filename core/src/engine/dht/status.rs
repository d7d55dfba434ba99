//! Read access to the DHT for applications.

use alloc::string::String;

use super::Server;
use crate::DhtMode;
use crate::dht::{Dht, DhtStats};

/// Read access to the DHT.
#[derive(Clone, Copy, Debug)]
pub struct DhtRef<'a>(&'a Server);

impl<'a> DhtRef<'a> {
    pub(in super::super) const fn new(server: &'a Server) -> Self {
        Self(server)
    }

    /// Its mode and statistics.
    #[must_use]
    pub fn status(&self) -> DhtStatus {
        let Self(server) = self;
        let port = server.active();
        let node = server.service.node().filter(|_| port.is_some());
        DhtStatus {
            mode: server.service.mode(),
            throttle: server.throttle.clone(),
            port,
            stats: node.map(Dht::stats).unwrap_or_default(),
        }
    }

    /// The node, if it was started.
    #[must_use]
    pub fn node(&self) -> Option<&'a Dht> {
        self.0.service.node()
    }
}

/// A snapshot of the DHT: rTorrent's `dht_statistics`, and more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtStatus {
    /// Its mode.
    pub mode: DhtMode,
    /// The name of its rate limit. Empty if it has none of its own.
    pub throttle: String,
    /// Its UDP port, while it runs.
    pub port: Option<u16>,
    /// Its counters since the start, and its present state.
    pub stats: DhtStats,
}

/// A value of rTorrent's statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatValue {
    /// A text.
    Text(String),
    /// A flag, shown as 1 or 0.
    Flag(bool),
    /// A number.
    Number(u64),
}

impl core::fmt::Display for StatValue {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Flag(flag) => write!(f, "{}", u8::from(*flag)),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl DhtStatus {
    /// The statistics with rTorrent's keys, in rTorrent's order. Keys from `cycle` on exist only while the node runs.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, StatValue)> {
        let s = &self.stats;
        let text = |text: &str| StatValue::Text(text.into());
        let always = [
            ("dht", text(&alloc::format!("{}", self.mode))),
            ("active", StatValue::Flag(s.active)),
            ("throttle", text(&self.throttle)),
        ];
        let counts = s.counts().map(|(key, n)| (key, StatValue::Number(n)));
        always.into_iter().chain(counts)
    }
}

/// The error of changing the DHT's rate limit while the node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleInUse;

impl core::fmt::Display for ThrottleInUse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cannot set DHT throttle while active.")
    }
}

impl core::error::Error for ThrottleInUse {}
