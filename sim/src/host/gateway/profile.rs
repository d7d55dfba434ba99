//! What a gateway speaks, and within which limits.

use std::{net::Ipv4Addr, time::Duration};

use super::{Quirk, Quirks};

/// A version of UPnP's internet gateway device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Igd {
    /// InternetGatewayDevice:1 with WANIPConnection:1: a lease of 0 never ends.
    V1,
    /// InternetGatewayDevice:2 with WANIPConnection:2: every lease ends, and `AddAnyPortMapping`
    /// finds a free port.
    V2,
}

/// How requests are read and answered that a specification forbids or leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As the specifications say.
    Standard,
    /// As miniupnpd 2.3.1 does, which reads what it can and refuses little.
    Miniupnpd,
}

/// The address that a gateway with [`Quirk::OffSubnet`] or [`Quirk::LocationElsewhere`] has beside
/// its LAN address. The box must own it, too.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 1);

/// A gateway: its protocols, limits and quirks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayProfile {
    /// The UPnP gateway device that it is, if it is one.
    pub igd: Option<Igd>,
    /// It speaks NAT-PMP (RFC 6886).
    pub nat_pmp: bool,
    /// It speaks PCP (RFC 6887).
    pub pcp: bool,
    /// How it reads what is not quite right.
    pub manner: Manner,
    /// The shortest lease that NAT-PMP and PCP grant.
    pub min_lease: Duration,
    /// The longest lease that any protocol grants.
    pub max_lease: Duration,
    /// The most port mappings.
    pub max_mappings: u32,
    /// The most port mappings of one client.
    pub max_per_client: Option<u32>,
    /// The external ports that may be mapped, both ends included.
    pub ports: (u16, u16),
    /// The port of its web server.
    pub http_port: u16,
    /// How long its SSDP announcements are valid. They are repeated after half of this time.
    pub max_age: Duration,
    /// What it does differently.
    pub quirks: Quirks,
}

impl Default for GatewayProfile {
    fn default() -> Self {
        Self {
            igd: Some(Igd::V2),
            nat_pmp: true,
            pcp: true,
            manner: Manner::Standard,
            min_lease: Duration::from_secs(120),
            max_lease: Duration::from_secs(86_400),
            max_mappings: 128,
            max_per_client: None,
            ports: (1_024, 65_535),
            http_port: 5_000,
            max_age: Duration::from_secs(1_800),
            quirks: Quirks::NONE.with(Quirk::ForgetsMappings),
        }
    }
}

/// The name of a profile, what it is, and how it is made.
pub type GatewayPreset = (&'static str, &'static str, fn() -> GatewayProfile);

impl GatewayProfile {
    /// The profiles that a scenario may name, each with a description.
    pub const PRESETS: &'static [GatewayPreset] = &[
        (
            "standard",
            "UPnP IGD 2, NAT-PMP and PCP as their specifications say; the limits are a guess",
            Self::default,
        ),
        (
            "igd1",
            "UPnP IGD 1 alone, as its specification says; the limits are a guess",
            || Self {
                igd: Some(Igd::V1),
                nat_pmp: false,
                pcp: false,
                ..Self::default()
            },
        ),
        (
            "nat-pmp",
            "NAT-PMP alone, as RFC 6886 says; the limits are a guess",
            || Self {
                igd: None,
                pcp: false,
                ..Self::default()
            },
        ),
        (
            "pcp",
            "PCP alone, as RFC 6887 says; the limits are a guess",
            || Self {
                igd: None,
                nat_pmp: false,
                ..Self::default()
            },
        ),
        (
            "miniupnpd",
            "miniupnpd 2.3.1 as Debian 12 configures it, measured in a network namespace",
            || Self {
                manner: Manner::Miniupnpd,
                max_age: Duration::from_secs(120),
                // The limit of the model: the daemon has none.
                max_mappings: 1_024,
                quirks: [Quirk::ForgetsMappings, Quirk::CallerOnly]
                    .into_iter()
                    .collect(),
                ..Self::default()
            },
        ),
    ];

    /// The profile of this name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let found = Self::PRESETS.iter().find(|(n, ..)| *n == name);
        found.map(|(.., make)| make())
    }

    /// This profile with a quirk more.
    #[must_use]
    pub const fn with(mut self, quirk: Quirk) -> Self {
        self.quirks = self.quirks.with(quirk);
        self
    }

    pub(super) const fn has(&self, quirk: Quirk) -> bool {
        self.quirks.has(quirk)
    }

    pub(super) fn is_lax(&self) -> bool {
        self.manner == Manner::Miniupnpd
    }

    /// The lease that is granted when `seconds` are asked for.
    pub(super) fn lease(&self, seconds: u32) -> Duration {
        let wanted = Duration::from_secs(seconds.into());
        wanted.max(self.min_lease).min(self.max_lease)
    }
}
