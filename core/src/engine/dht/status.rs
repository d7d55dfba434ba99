//! What an application sees of the DHT, and why it may not do something.

use alloc::string::String;

use crate::DhtMode;
use crate::dht::{DhtStats, NodeNameError};

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

/// Why a node was not added; the words are rTorrent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DhtNodeError {
    /// There is no DHT: it is disabled, or nothing is kept between sessions.
    NotEnabled,
    /// The text is not the address of a node.
    Name(NodeNameError),
}

impl From<NodeNameError> for DhtNodeError {
    fn from(error: NodeNameError) -> Self {
        Self::Name(error)
    }
}

impl core::fmt::Display for DhtNodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotEnabled => f.write_str("DHT not enabled."),
            Self::Name(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for DhtNodeError {}

/// The rate limit of the DHT is changed only while the node does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleInUse;

impl core::fmt::Display for ThrottleInUse {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cannot set DHT throttle while active.")
    }
}

impl core::error::Error for ThrottleInUse {}
