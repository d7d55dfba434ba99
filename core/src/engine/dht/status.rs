//! What an application sees of the DHT, and why it may not do something.

use alloc::string::String;

use super::Server;
use crate::DhtMode;
use crate::dht::{Dht, DhtStats};

/// The DHT, to look at.
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

    /// The node, once it was started.
    #[must_use]
    pub fn node(&self) -> Option<&'a Dht> {
        self.0.service.node()
    }
}

/// The DHT, now: rTorrent's `dht_statistics`, and more.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DhtStatus {
    /// Whether and when it runs.
    pub mode: DhtMode,
    /// The name of its rate limit; empty if it has none of its own.
    pub throttle: String,
    /// UDP port, while it runs.
    pub port: Option<u16>,
    /// Counters since the start, and the present state.
    pub stats: DhtStats,
}

/// A value of rTorrent's map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatValue {
    /// Text.
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
    /// rTorrent's map: its keys, in its order. Those from `cycle` on are there only while the
    /// node runs.
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

/// The rate limit of the DHT is changed only while the node does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleInUse;

impl core::fmt::Display for ThrottleInUse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cannot set DHT throttle while active.")
    }
}

impl core::error::Error for ThrottleInUse {}
