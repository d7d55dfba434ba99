//! The ways in which gateways deviate from their specifications, each of which was seen in a device.

/// Builds [`Quirk`] and its table.
macro_rules! quirks {
    ($($(#[doc = $doc:literal])+ $variant:ident = $number:literal, $name:literal, $source:literal;)+) => {
        /// A deviation of a gateway. They can be combined freely.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Quirk {
            $($(#[doc = $doc])+ #[doc = concat!("\n\nSource: ", $source, ".")] $variant,)+
        }

        impl Quirk {
            /// Every quirk.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The group that it belongs to: quirks of one group call for one rule in a client.
            #[must_use]
            pub const fn group(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The name in scenarios.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// What the gateway does.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_start()),+ }
            }

            /// The bug report or document that tells of it.
            #[must_use]
            pub const fn source(self) -> &'static str {
                match self { $(Self::$variant => $source),+ }
            }
        }
    };
}

quirks! {
    /// The protocol of a mapping must be upper-case; `udp` is answered with error 402.
    UpperCaseProtocol = 1, "upper-case-protocol", "tailscale issue 7377";
    /// A lease other than 0 is answered with error 725, OnlyPermanentLeasesSupported.
    PermanentLeasesOnly = 2, "permanent-leases-only", "tailscale issue 9343";
    /// A lease other than 0 is answered with error 402, where 725 is meant.
    LeaseIsInvalid = 3, "lease-is-invalid", "tailscale issue 15223";
    /// A port that is taken is answered with error 501, where 718 is meant.
    ConflictIsFailure = 4, "conflict-is-failure", "libtorrent, how its UPnP client treats 501";
    /// A port that is taken is answered with error 716, where 718 is meant.
    ConflictIsWildcard = 4, "conflict-is-wildcard", "libtorrent, how its UPnP client treats 716";
    /// An external port other than the internal one is answered with error 724.
    SamePortsOnly = 4, "same-ports-only", "WANIPConnection:1, section 2.4.16, error 724";
    /// Every external port but the wildcard 0 is answered with error 727.
    ExternalWildcardOnly = 4, "external-wildcard-only", "WANIPConnection:1, section 2.4.16, error 727";
    /// Every mapping is answered with error 729, because another mechanism owns the ports.
    OtherMechanism = 4, "other-mechanism", "WANIPConnection:2, section 2.5.16, error 729";
    /// A mapping for any remote host is answered with error 715.
    RemoteHostRequired = 4, "remote-host-required", "WANIPConnection:1, section 2.4.16, error 715";
    /// A mapping with a lease other than 0 is acknowledged and not made.
    LeasesSilentlyRefused = 5, "leases-silently-refused", "libtorrent issue 4406";
    /// Leases are acknowledged and never end.
    LeasesNeverEnd = 5, "leases-never-end", "libtorrent issue 4406";
    /// The external address is said to be 0.0.0.0.
    AddressUnspecified = 6, "address-unspecified", "routers that are asked before their line is up";
    /// The external address is said to be 127.0.0.1.
    AddressLoopback = 6, "address-loopback", "a guess: the check that clients make";
    /// The external address is said to be a private one, as behind another NAT.
    AddressPrivate = 6, "address-private", "RFC 6886, section 3.2 and home routers behind others";
    /// The description is at another address than the one that answers the search.
    LocationElsewhere = 7, "location-elsewhere", "tailscale issue 5502";
    /// The description is said to be at 127.0.0.1.
    LocationLoopback = 7, "location-loopback", "a guess: what a client must not fetch";
    /// The description is said to be at 169.254.1.1.
    LocationLinkLocal = 7, "location-link-local", "a guess: what a client must not fetch";
    /// The description is said to be at a multicast address.
    LocationMulticast = 7, "location-multicast", "a guess: what a client must not fetch";
    /// The names of header fields are lower-case, in SSDP and HTTP.
    LowerCaseHeaders = 8, "lower-case-headers", "RFC 9110, section 5.1: names are case-insensitive";
    /// The description has a `URLBase`, and its URLs are relative to that, without a slash.
    UrlBase = 9, "url-base", "UPnP Device Architecture 1.0, section 2.1";
    /// The description has a `URLBase` that ends in a slash, and its URLs begin with one. Two
    /// slashes in a request are not found.
    UrlBaseSlash = 9, "url-base-slash", "UPnP Device Architecture 1.0, section 2.1";
    /// The URLs of the description are absolute.
    AbsoluteUrls = 9, "absolute-urls", "UPnP Device Architecture 1.0, section 2.1";
    /// Elements have unusual namespace prefixes, in descriptions and answers.
    NamespacePrefixes = 10, "namespace-prefixes", "Namespaces in XML 1.0, section 3";
    /// Values are in CDATA sections.
    CdataValues = 10, "cdata-values", "XML 1.0, section 2.7";
    /// The names of elements are upper-case.
    UpperCaseTags = 10, "upper-case-tags", "miniupnpc, which compares names without case";
    /// There are two WAN devices, and the first one is not connected.
    TwoWanDevices = 11, "two-wan-devices", "miniupnpc, which prefers a connected device";
    /// The only connection service is WANPPPConnection:1.
    PppOnly = 12, "ppp-only", "Huawei HG531, in libtorrent's UPnP client";
    /// A mapping without a description is answered with error 402.
    DescriptionRequired = 13, "description-required", "qBittorrent issue 19586";
    /// A mapping of the external port 0 exposes the host to everything.
    WildcardExposes = 14, "wildcard-exposes", "WANIPConnection:1, section 2.2.16: 0 is the wildcard";
    /// XML is sent as `application/soap+xml`.
    SoapContentType = 15, "soap-content-type", "SOAP 1.2, part 1, appendix A";
    /// XML is sent without a content type.
    NoContentType = 15, "no-content-type", "RFC 9110, section 8.3: it may be absent";
    /// A refusal comes with the HTTP status 200 instead of 500.
    ErrorsAreOk = 16, "errors-are-ok", "UPnP Device Architecture 1.1, section 3.2.5 requires 500";
    /// A restart forgets all port mappings, also permanent ones. Without this they are stored.
    ForgetsMappings = 17, "forgets-mappings", "WANIPConnection:1, section 2.2.22";
    /// The gateway answers searches from an address outside the subnet of its clients, and is there.
    OffSubnet = 18, "off-subnet", "qBittorrent issues 12610 and 19586";
    /// A mapping to another machine than the one that asks is answered with error 606, 718 on
    /// miniupnpd.
    CallerOnly = 19, "caller-only", "miniupnpd, secure_mode";
    /// Each protocol has mappings of its own: UPnP's are strangers to NAT-PMP and PCP, which give
    /// another port for the same internal endpoint.
    SeparateMappings = 20, "separate-mappings", "RFC 6886, section 9.5 and clients that use both";
    /// A request is read as far as its first segments go: a body that comes after the head is lost.
    OneSegment = 21, "one-segment", "clients that send head and body in two writes";
    /// The web server speaks HTTP/1.0: it answers without a length and closes the connection, and
    /// refuses HTTP/1.1 with status 505.
    Http10Only = 21, "http-1.0-only", "UPnP Device Architecture 1.0, section 2.4";
}

impl Quirk {
    /// The quirk of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|q| q.name() == name)
    }
}

/// A set of quirks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks(u64);

impl Quirks {
    /// No quirk.
    pub const NONE: Self = Self(0);

    const fn bit(quirk: Quirk) -> u64 {
        1 << quirk as u8
    }

    /// This set and `quirk`.
    #[must_use]
    pub const fn with(self, quirk: Quirk) -> Self {
        Self(self.0 | Self::bit(quirk))
    }

    /// This set without `quirk`.
    #[must_use]
    pub const fn without(self, quirk: Quirk) -> Self {
        Self(self.0 & !Self::bit(quirk))
    }

    /// Returns `true` when `quirk` is in the set.
    #[must_use]
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & Self::bit(quirk) != 0
    }

    /// The quirks in the set.
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.iter().copied().filter(move |q| self.has(*q))
    }
}

impl FromIterator<Quirk> for Quirks {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Self {
        quirks.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_21_groups_and_every_quirk_has_a_name_and_a_bit() {
        let groups: BTreeSet<u8> = Quirk::ALL.iter().map(|q| q.group()).collect();
        assert_eq!(groups, (1..=21).collect());
        let names: BTreeSet<&str> = Quirk::ALL.iter().map(|q| q.name()).collect();
        assert_eq!(names.len(), Quirk::ALL.len());
        let all: Quirks = Quirk::ALL.iter().copied().collect();
        assert_eq!(all.iter().count(), Quirk::ALL.len());
        for quirk in Quirk::ALL {
            assert!(!all.without(*quirk).has(*quirk));
            assert_eq!(Quirk::find(quirk.name()), Some(*quirk));
            assert!(!quirk.about().is_empty() && !quirk.source().is_empty());
        }
    }
}
