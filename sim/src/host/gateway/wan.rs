//! The actions of WANIPConnection and WANPPPConnection (WANIPConnection:2 §2.5).

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use dunlin_core::Instant;

use super::{
    Gateway, Owner, PortMapping, Quirk, Refused, Wanted,
    description::Kind,
    nat_of,
    soap::{Args, Fault, Fields, escaped},
};
use crate::{host::HostCx, packet::Proto};

/// The longest lease in seconds (WANIPConnection:2 §2.3.25).
const MAX_LEASE: u32 = 604_800;
/// The longest description.
const MAX_DESCRIPTION: usize = 256;
/// The longest description that miniupnpd stores.
const LAX_DESCRIPTION: usize = 64;
/// The most mappings in a list.
const MAX_LISTED: usize = 1_024;

impl Gateway {
    /// Carries out an action of a service of this kind and version.
    pub(super) fn act(
        &mut self,
        cx: &mut HostCx<'_>,
        from: SocketAddr,
        (kind, connected, version): (Kind, bool, u8),
        action: &str,
        args: &Args,
    ) -> Result<Fields, Fault> {
        match kind {
            Kind::Firewall => self.firewall_action(cx, from.ip(), action, args),
            Kind::Forwarding => Err(Fault(401)),
            Kind::Common if action == "GetCommonLinkProperties" => Ok(vec![
                ("NewWANAccessType", "Cable".into()),
                ("NewLayer1UpstreamMaxBitRate", "100000000".into()),
                ("NewLayer1DownstreamMaxBitRate", "100000000".into()),
                ("NewPhysicalLinkStatus", "Up".into()),
            ]),
            Kind::Common => Err(Fault(401)),
            Kind::Connection => {
                let call = Call {
                    peer: from.ip(),
                    connected,
                    second: version == 2,
                    args,
                };
                self.connection_action(cx, &call, action)
            }
        }
    }

    fn connection_action(
        &mut self,
        cx: &mut HostCx<'_>,
        call: &Call<'_>,
        action: &str,
    ) -> Result<Fields, Fault> {
        let second = call.second;
        match action {
            "GetExternalIPAddress" => {
                let ip = self.told_address(cx).filter(|_| call.connected);
                let ip = ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
                Ok(vec![("NewExternalIPAddress", ip.to_string())])
            }
            "GetStatusInfo" => {
                let up = call.connected && super::outer(cx).is_some();
                let uptime = cx.now.saturating_since(self.booted).as_secs();
                let status = if up { "Connected" } else { "Disconnected" };
                Ok(vec![
                    ("NewConnectionStatus", status.into()),
                    ("NewLastConnectionError", "ERROR_NONE".into()),
                    ("NewUptime", uptime.to_string()),
                ])
            }
            "GetConnectionTypeInfo" => Ok(vec![
                ("NewConnectionType", "IP_Routed".into()),
                ("NewPossibleConnectionTypes", "IP_Routed".into()),
            ]),
            "GetNATRSIPStatus" => Ok(vec![
                ("NewRSIPAvailable", "0".into()),
                ("NewNATEnabled", "1".into()),
            ]),
            "AddPortMapping" => self.add(cx, call, false).map(|_| Vec::new()),
            "AddAnyPortMapping" if second => {
                let port = self.add(cx, call, true)?;
                Ok(vec![("NewReservedPort", port.to_string())])
            }
            "DeletePortMapping" => self.delete_one(cx, call).map(|()| Vec::new()),
            "DeletePortMappingRange" if second => self.delete_range(cx, call),
            "GetSpecificPortMappingEntry" => self.specific(cx.now, call),
            "GetGenericPortMappingEntry" => self.generic(cx.now, call),
            "GetListOfPortMappings" if second => self.list(cx.now, call),
            _ => Err(Fault(401)),
        }
    }

    /// Makes a mapping, and returns its external port. With `any`, that may be another than the one
    /// that was asked for.
    fn add(&mut self, cx: &mut HostCx<'_>, call: &Call<'_>, any: bool) -> Result<u16, Fault> {
        let has = |quirk| self.profile.has(quirk);
        let lax = self.profile.is_lax();
        let asked = if lax { call.lax()? } else { self.strict(call)? };
        let leased = asked.lease != 0;
        if leased && has(Quirk::PermanentLeasesOnly) {
            return Err(Fault(725));
        }
        if leased && has(Quirk::LeaseIsInvalid)
            || asked.description.is_empty() && has(Quirk::DescriptionRequired)
        {
            return Err(Fault(402));
        }
        if has(Quirk::RemoteHostRequired) && asked.remote.is_empty() {
            return Err(Fault(715));
        }
        if has(Quirk::OtherMechanism) {
            return Err(Fault(729));
        }
        if asked.external == 0 && !any && has(Quirk::WildcardExposes) {
            let client = *asked.internal.ip();
            nat_of(cx).ok_or(Fault(501))?.expose(Some(client));
            return Ok(0);
        }
        if asked.external != 0 && has(Quirk::ExternalWildcardOnly) {
            return Err(Fault(727));
        }
        if asked.external == 0 && !any {
            return Err(Fault(716));
        }
        if asked.external != asked.internal.port() && has(Quirk::SamePortsOnly) {
            return Err(Fault(724));
        }
        if has(Quirk::CallerOnly) && call.peer != IpAddr::V4(*asked.internal.ip()) {
            return Err(Fault(if lax { 718 } else { 606 }));
        }
        if !any && !self.may_map(asked.external) {
            return Err(Fault(606));
        }
        if !call.connected {
            return Err(Fault(501));
        }
        if leased && has(Quirk::LeasesSilentlyRefused) {
            return Ok(asked.external);
        }
        let lease = self.upnp_lease(asked.lease, call.second);
        let lease = lease.filter(|_| !self.profile.has(Quirk::LeasesNeverEnd));
        let (low, high) = self.profile.ports;
        let external = match asked.external {
            0 => low + (cx.rng.next_u64() % (u64::from(high - low) + 1)) as u16,
            port => port,
        };
        let wanted = Wanted {
            proto: asked.proto,
            external,
            internal: asked.internal,
            enabled: asked.enabled,
            description: asked.description,
            lease,
            owner: Owner::Upnp,
        };
        let second = call.second;
        let made = match any {
            true => self.map_near(cx, wanted, false),
            false => self.map(cx, wanted).map(|()| external),
        };
        made.map_err(|why| match why {
            Refused::Taken | Refused::ByHand if self.profile.has(Quirk::ConflictIsFailure) => {
                Fault(501)
            }
            Refused::Taken | Refused::ByHand if self.profile.has(Quirk::ConflictIsWildcard) => {
                Fault(716)
            }
            Refused::ByHand if second => Fault(729),
            Refused::Taken | Refused::ByHand => Fault(718),
            Refused::Full | Refused::Quota if second => Fault(728),
            Refused::Full | Refused::Quota | Refused::NoAddress => Fault(501),
        })
    }

    /// The lease of a mapping that UPnP makes; `None` for one that never ends.
    fn upnp_lease(&self, seconds: u32, second: bool) -> Option<Duration> {
        let longest = match self.profile.is_lax() {
            true => Duration::from_secs(MAX_LEASE.into()),
            false => self.profile.max_lease,
        };
        let wanted = Duration::from_secs(seconds.into());
        match seconds {
            0 if second => Some(longest),
            0 => None,
            _ => Some(wanted.min(longest)),
        }
    }

    /// Checks the arguments of a new mapping as the specification says.
    fn strict(&self, call: &Call<'_>) -> Result<NewMapping, Fault> {
        let args = call.args;
        let remote = args.need("NewRemoteHost")?.trim();
        let external = args.number("NewExternalPort")?;
        let proto = self.proto(args)?;
        let port: u16 = args.number("NewInternalPort")?;
        let client = args.need("NewInternalClient")?.trim();
        let enabled = match args.need("NewEnabled")?.trim() {
            "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            _ => return Err(Fault(402)),
        };
        let description = args.need("NewPortMappingDescription")?;
        let lease: u32 = args.number("NewLeaseDuration")?;
        if description.len() > MAX_DESCRIPTION {
            return Err(Fault(605));
        }
        if call.second && lease > MAX_LEASE {
            return Err(Fault(402));
        }
        if port == 0 {
            return Err(Fault(if call.second { 732 } else { 402 }));
        }
        let client: Ipv4Addr = client.parse().map_err(|_| Fault(402))?;
        if client.is_unspecified() || client.is_loopback() || client.is_multicast() {
            return Err(Fault(402));
        }
        // A filter on remote hosts is optional, and this gateway has none.
        if !remote.is_empty() && !self.profile.has(Quirk::RemoteHostRequired) {
            return Err(Fault(726));
        }
        Ok(NewMapping {
            remote: remote.into(),
            external,
            proto,
            internal: SocketAddrV4::new(client, port),
            enabled,
            description: description.into(),
            lease,
        })
    }

    fn proto(&self, args: &Args) -> Result<Proto, Fault> {
        let name = args.need("NewProtocol")?.trim();
        if self.profile.is_lax() {
            return Ok(lax_proto(name));
        }
        let any_case = |right: &str| match self.profile.has(Quirk::UpperCaseProtocol) {
            true => name == right,
            false => name.eq_ignore_ascii_case(right),
        };
        if any_case("UDP") {
            Ok(Proto::Udp)
        } else if any_case("TCP") {
            Ok(Proto::Tcp)
        } else {
            Err(Fault(402))
        }
    }

    fn external(&self, args: &Args, name: &str) -> Result<u16, Fault> {
        match self.profile.is_lax() {
            true => args.need(name).map(|text| lax_number(text) as u16),
            false => args.number(name),
        }
    }

    /// Returns `true` when the caller may not touch this mapping.
    fn is_strange(&self, call: &Call<'_>, mapping: &PortMapping) -> bool {
        let other = call.peer != IpAddr::V4(*mapping.internal.ip());
        other && self.profile.has(Quirk::CallerOnly)
    }

    fn delete_one(&mut self, cx: &mut HostCx<'_>, call: &Call<'_>) -> Result<(), Fault> {
        let external = self.external(call.args, "NewExternalPort")?;
        let proto = self.proto(call.args)?;
        if !self.profile.is_lax() {
            call.args.need("NewRemoteHost")?;
        }
        if external == 0 && self.profile.has(Quirk::WildcardExposes) {
            nat_of(cx).ok_or(Fault(501))?.expose(None);
            return Ok(());
        }
        match self.mappings.get(proto, external) {
            Some(mapping) if self.is_strange(call, mapping) => return Err(Fault(606)),
            Some(_) => {}
            None if self.profile.is_lax() => return Ok(()),
            None => return Err(Fault(714)),
        }
        self.mappings.remove(cx.now, nat_of(cx), proto, external);
        Ok(())
    }

    /// The mappings of a range of ports that the caller may see.
    fn range(&self, call: &Call<'_>) -> Result<Vec<&PortMapping>, Fault> {
        let start = self.external(call.args, "NewStartPort")?;
        let end = self.external(call.args, "NewEndPort")?;
        let proto = self.proto(call.args)?;
        let manage = call.args.need("NewManage")?.trim();
        let manage = matches!(manage, "1" | "true" | "yes");
        if start > end {
            return Err(Fault(733));
        }
        let own = |m: &&PortMapping| call.peer == IpAddr::V4(*m.internal.ip());
        let mut found = self.mappings.in_order();
        found.retain(|m| {
            m.proto == proto && (start..=end).contains(&m.external) && (manage || own(m))
        });
        if self.profile.is_lax() {
            found.reverse();
        }
        Ok(found)
    }

    fn delete_range(&mut self, cx: &mut HostCx<'_>, call: &Call<'_>) -> Result<Fields, Fault> {
        let found = self.range(call)?;
        if found.is_empty() {
            return Err(Fault(730));
        }
        let own: Vec<(Proto, u16)> = (found.iter())
            .filter(|m| !self.is_strange(call, m))
            .map(|m| (m.proto, m.external))
            .collect();
        if own.is_empty() {
            return Err(Fault(606));
        }
        for (proto, external) in own {
            self.mappings.remove(cx.now, nat_of(cx), proto, external);
        }
        Ok(Vec::new())
    }

    fn specific(&self, now: Instant, call: &Call<'_>) -> Result<Fields, Fault> {
        let external = self.external(call.args, "NewExternalPort")?;
        let proto = self.proto(call.args)?;
        let found = self.mappings.get(proto, external).ok_or(Fault(714))?;
        Ok(inner(now, found))
    }

    fn generic(&self, now: Instant, call: &Call<'_>) -> Result<Fields, Fault> {
        let index = call.args.need("NewPortMappingIndex")?.trim();
        // What is a number, and none of the table, is not there.
        let index: i64 = index.parse().map_err(|_| Fault(402))?;
        let mut all = self.mappings.in_order();
        if self.profile.is_lax() {
            all.reverse();
        }
        let found = usize::try_from(index).ok().and_then(|n| all.get(n));
        let found = *found.ok_or(Fault(713))?;
        let mut fields = vec![
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", found.external.to_string()),
            ("NewProtocol", upper(found.proto).into()),
        ];
        fields.extend(inner(now, found));
        Ok(fields)
    }

    fn list(&self, now: Instant, call: &Call<'_>) -> Result<Fields, Fault> {
        let most: usize = call.args.number("NewNumberOfPorts")?;
        let most = if most == 0 {
            MAX_LISTED
        } else {
            most.min(MAX_LISTED)
        };
        let found = self.range(call)?;
        if found.is_empty() && !self.profile.is_lax() {
            return Err(Fault(730));
        }
        let mut list = String::from(
            "<p:PortMappingList xmlns:p=\"urn:schemas-upnp-org:gw:WANIPConnection\" \
             xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:schemaLocation=\
             \"urn:schemas-upnp-org:gw:WANIPConnection \
             http://www.upnp.org/schemas/gw/WANIPConnection-v2.xsd\">",
        );
        for m in found.into_iter().take(most) {
            list.push_str("<p:PortMappingEntry>");
            for (name, value) in [
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", m.external.to_string()),
                ("NewProtocol", upper(m.proto).into()),
                ("NewInternalPort", m.internal.port().to_string()),
                ("NewInternalClient", m.internal.ip().to_string()),
                ("NewEnabled", u8::from(m.enabled).to_string()),
                ("NewDescription", escaped(&m.description)),
                ("NewLeaseTime", m.left(now).to_string()),
            ] {
                // Writing to a string cannot fail.
                let _ = write!(list, "<p:{name}>{value}</p:{name}>");
            }
            list.push_str("</p:PortMappingEntry>");
        }
        list.push_str("</p:PortMappingList>");
        Ok(vec![("NewPortListing", list)])
    }
}

/// An action with where it came from.
struct Call<'a> {
    peer: IpAddr,
    connected: bool,
    /// It is of version 2 of the service.
    second: bool,
    args: &'a Args,
}

/// The arguments of a new mapping.
struct NewMapping {
    remote: String,
    external: u16,
    proto: Proto,
    internal: SocketAddrV4,
    enabled: bool,
    description: String,
    lease: u32,
}

impl Call<'_> {
    /// Reads the arguments of a new mapping as miniupnpd does: numbers as far as they go, protocols
    /// by their first alternative, and no more than it needs.
    fn lax(&self) -> Result<NewMapping, Fault> {
        let args = self.args;
        let client = args.need("NewInternalClient")?.trim();
        let port = args.need("NewInternalPort")?;
        let external = args.need("NewExternalPort")?;
        let proto = args.need("NewProtocol")?.trim();
        if client.is_empty() {
            return Err(Fault(501));
        }
        let client: Ipv4Addr = client.parse().map_err(|_| Fault(402))?;
        let description = args.get("NewPortMappingDescription").unwrap_or_default();
        let lease = args.get("NewLeaseDuration").map_or(0, lax_number);
        let external = lax_number(external) as u16;
        Ok(NewMapping {
            remote: String::new(),
            external,
            proto: lax_proto(proto),
            internal: SocketAddrV4::new(client, lax_number(port) as u16),
            enabled: true,
            description: description.chars().take(LAX_DESCRIPTION).collect(),
            lease: match u32::try_from(lease) {
                Ok(lease) => lease.min(MAX_LEASE),
                Err(_) => MAX_LEASE,
            },
        })
    }
}

/// The digits at the beginning of a text, with their sign; 0 when there are none.
fn lax_number(text: &str) -> i64 {
    let text = text.trim_start();
    let sign = usize::from(text.starts_with(['-', '+']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].parse().unwrap_or(0)
}

const fn lax_proto(name: &str) -> Proto {
    match name.eq_ignore_ascii_case("TCP") {
        true => Proto::Tcp,
        false => Proto::Udp,
    }
}

const fn upper(proto: Proto) -> &'static str {
    match proto {
        Proto::Tcp => "TCP",
        _ => "UDP",
    }
}

/// The part of a mapping that `GetSpecificPortMappingEntry` tells.
fn inner(now: Instant, m: &PortMapping) -> Fields {
    vec![
        ("NewInternalPort", m.internal.port().to_string()),
        ("NewInternalClient", m.internal.ip().to_string()),
        ("NewEnabled", u8::from(m.enabled).to_string()),
        ("NewPortMappingDescription", m.description.clone()),
        ("NewLeaseDuration", m.left(now).to_string()),
    ]
}
