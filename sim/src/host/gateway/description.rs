//! The description of the gateway and of its services (UPnP Device Architecture 1.1 §2).

use std::fmt::Write;

use super::{Gateway, GatewayProfile, Igd, Quirk, soap::Style};

/// The path of the device description.
pub(super) const ROOT: &str = "/rootDesc.xml";
/// How the gateway names itself.
pub(super) const SERVER: &str = "Dunlin/1 UPnP/1.1 dunlin-sim/1";
/// The devices, from the root on. Each is in the one before.
pub(super) const DEVICES: [&str; 3] = ["InternetGatewayDevice", "WANDevice", "WANConnectionDevice"];

/// What a service does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Layer3Forwarding.
    Forwarding,
    /// WANCommonInterfaceConfig.
    Common,
    /// WANIPConnection or WANPPPConnection.
    Connection,
    /// WANIPv6FirewallControl.
    Firewall,
}

/// A service.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) kind: Kind,
    /// The name of its type.
    name: &'static str,
    pub(super) version: u8,
    id: &'static str,
    scpd: &'static str,
    pub(super) control: &'static str,
    event: &'static str,
    /// The device that it belongs to.
    device: usize,
    /// Its connection to the internet is there.
    pub(super) connected: bool,
}

impl Service {
    pub(super) fn urn(&self) -> String {
        format!(
            "urn:schemas-upnp-org:service:{}:{}",
            self.name, self.version
        )
    }

    /// Returns `true` when actions of this service type are carried out: its own, or an older one.
    pub(super) fn serves(&self, urn: &str) -> bool {
        let asked = urn.rsplit_once(':').and_then(|(name, version)| {
            let own = format!("urn:schemas-upnp-org:service:{}", self.name);
            version.parse::<u8>().ok().filter(|_| name == own)
        });
        asked.is_some_and(|version| (1..=self.version).contains(&version))
    }
}

/// The services of a gateway.
pub(super) fn services(profile: &GatewayProfile) -> Vec<Service> {
    let version = match profile.igd {
        Some(Igd::V2) => 2,
        Some(Igd::V1) => 1,
        None => return Vec::new(),
    };
    let mut all = vec![
        Service {
            kind: Kind::Forwarding,
            name: "Layer3Forwarding",
            version: 1,
            id: "L3Forwarding1",
            scpd: "/L3F.xml",
            control: "/ctl/L3F",
            event: "/evt/L3F",
            device: 0,
            connected: true,
        },
        Service {
            kind: Kind::Common,
            name: "WANCommonInterfaceConfig",
            version: 1,
            id: "WANCommonIFC1",
            scpd: "/WANCfg.xml",
            control: "/ctl/CmnIfCfg",
            event: "/evt/CmnIfCfg",
            device: 1,
            connected: true,
        },
    ];
    let connection = Service {
        kind: Kind::Connection,
        name: "WANIPConnection",
        version,
        id: "WANIPConn1",
        scpd: "/WANIPCn.xml",
        control: "/ctl/IPConn",
        event: "/evt/IPConn",
        device: 2,
        connected: true,
    };
    if profile.has(Quirk::TwoWanDevices) {
        all.push(Service {
            control: "/ctl/IPConn0",
            event: "/evt/IPConn0",
            connected: false,
            ..connection
        });
    }
    all.push(match profile.has(Quirk::PppOnly) {
        true => Service {
            name: "WANPPPConnection",
            version: 1,
            id: "WANPPPConn1",
            scpd: "/WANPPPCn.xml",
            control: "/ctl/PPPConn",
            event: "/evt/PPPConn",
            ..connection
        },
        false => connection,
    });
    if version == 2 {
        all.push(Service {
            kind: Kind::Firewall,
            name: "WANIPv6FirewallControl",
            version: 1,
            id: "WANIPv6Firewall1",
            scpd: "/WANIP6FC.xml",
            control: "/ctl/IP6FCtl",
            event: "/evt/IP6FCtl",
            device: 2,
            connected: true,
        });
    }
    all
}

/// The unique name of a device.
pub(super) fn uuid(device: usize) -> String {
    format!("uuid:00000000-0000-0000-0000-{:012}", device + 1)
}

/// The device that a search target is about.
pub(super) fn owner(target: &str) -> usize {
    let has = |part: &str| target.contains(part);
    if has(":WANIP") || has(":WANPPP") || has(":WANConnectionDevice") {
        2
    } else {
        usize::from(has(":WANDevice") || has(":WANCommon"))
    }
}

/// The document at a path.
pub(super) fn page(gateway: &Gateway, path: &str) -> Option<String> {
    let services = services(&gateway.profile);
    if path == ROOT {
        return Some(root(gateway, &services));
    }
    let service = services.iter().find(|s| s.scpd == path)?;
    Some(scpd(Style::of(&gateway.profile), service))
}

/// Writes the description of the root device.
fn root(gateway: &Gateway, services: &[Service]) -> String {
    let profile = &gateway.profile;
    let style = Style::of(profile);
    let name = style.name("d", "root");
    let namespace = style.namespace("d", "urn:schemas-upnp-org:device-1-0");
    let mut out = format!("<?xml version=\"1.0\"?>\r\n<{name} {namespace}>");
    let spec = style.name("d", "specVersion");
    let (major, minor) = (
        style.value("d", "major", "1"),
        style.value("d", "minor", "1"),
    );
    // Writing to a string cannot fail, here and below.
    let _ = write!(out, "<{spec}>{major}{minor}</{spec}>");
    let host = gateway.upnp_address().map(|ip| ip.to_string());
    let base = format!("http://{}:{}", host.unwrap_or_default(), profile.http_port);
    if profile.has(Quirk::UrlBase) || profile.has(Quirk::UrlBaseSlash) {
        out.push_str(&style.value("d", "URLBase", &format!("{base}/")));
    }
    let branches: &[bool] = match profile.has(Quirk::TwoWanDevices) {
        true => &[false, true],
        false => &[true],
    };
    let writer = Writer {
        style,
        profile,
        base,
        services,
    };
    writer.device(&mut out, 0, branches);
    let _ = write!(out, "</{name}>\r\n");
    out
}

struct Writer<'a> {
    style: Style,
    profile: &'a GatewayProfile,
    base: String,
    services: &'a [Service],
}

impl Writer<'_> {
    /// Writes a device with the devices in it, once for each branch.
    fn device(&self, out: &mut String, level: usize, branches: &[bool]) {
        let version = if self.profile.igd == Some(Igd::V2) {
            2
        } else {
            1
        };
        let name = DEVICES[level];
        let kind = format!("urn:schemas-upnp-org:device:{name}:{version}");
        let tag = self.style.name("d", "device");
        let connected = branches.iter().all(|b| *b);
        let unique = match connected || level == 0 {
            true => uuid(level),
            false => uuid(level + 10),
        };
        let _ = write!(out, "<{tag}>");
        for (field, value) in [
            ("deviceType", kind.as_str()),
            ("friendlyName", name),
            ("manufacturer", "Dunlin"),
            ("modelName", "Simulated gateway"),
            ("UDN", &unique),
        ] {
            out.push_str(&self.style.value("d", field, value));
        }
        let own = |s: &&Service| {
            s.device == level
                && (level == 0 || s.kind != Kind::Connection || s.connected == connected)
        };
        let list = self.style.name("d", "serviceList");
        let _ = write!(out, "<{list}>");
        for service in self.services.iter().filter(own) {
            self.service(out, service);
        }
        let _ = write!(out, "</{list}>");
        if level + 1 < DEVICES.len() {
            let list = self.style.name("d", "deviceList");
            let _ = write!(out, "<{list}>");
            for branch in branches {
                self.device(out, level + 1, &[*branch]);
            }
            let _ = write!(out, "</{list}>");
        }
        let _ = write!(out, "</{tag}>");
    }

    fn service(&self, out: &mut String, service: &Service) {
        let tag = self.style.name("d", "service");
        let url = |path: &str| {
            if self.profile.has(Quirk::AbsoluteUrls) {
                format!("{}{path}", self.base)
            } else if self.profile.has(Quirk::UrlBase) {
                path.trim_start_matches('/').into()
            } else {
                path.into()
            }
        };
        let _ = write!(out, "<{tag}>");
        for (field, value) in [
            ("serviceType", service.urn()),
            (
                "serviceId",
                format!("urn:upnp-org:serviceId:{}", service.id),
            ),
            ("SCPDURL", url(service.scpd)),
            ("controlURL", url(service.control)),
            ("eventSubURL", url(service.event)),
        ] {
            out.push_str(&self.style.value("d", field, &value));
        }
        let _ = write!(out, "</{tag}>");
    }
}

/// The direction of an argument, its name, and its state variable.
type Argument = (bool, &'static str, &'static str);
const IN: bool = true;
const OUT: bool = false;

/// An action with its arguments.
type Action = (&'static str, &'static [Argument]);

/// A state variable with its type.
type Variable = (&'static str, &'static str);

const REMOTE: Argument = (IN, "NewRemoteHost", "RemoteHost");
const EXTERNAL: Argument = (IN, "NewExternalPort", "ExternalPort");
const PROTOCOL: Argument = (IN, "NewProtocol", "PortMappingProtocol");

const CONNECTION: &[Action] = &[
    (
        "GetConnectionTypeInfo",
        &[
            (OUT, "NewConnectionType", "ConnectionType"),
            (OUT, "NewPossibleConnectionTypes", "PossibleConnectionTypes"),
        ],
    ),
    (
        "GetStatusInfo",
        &[
            (OUT, "NewConnectionStatus", "ConnectionStatus"),
            (OUT, "NewLastConnectionError", "LastConnectionError"),
            (OUT, "NewUptime", "Uptime"),
        ],
    ),
    (
        "GetNATRSIPStatus",
        &[
            (OUT, "NewRSIPAvailable", "RSIPAvailable"),
            (OUT, "NewNATEnabled", "NATEnabled"),
        ],
    ),
    (
        "GetGenericPortMappingEntry",
        &[
            (IN, "NewPortMappingIndex", "PortMappingNumberOfEntries"),
            (OUT, "NewRemoteHost", "RemoteHost"),
            (OUT, "NewExternalPort", "ExternalPort"),
            (OUT, "NewProtocol", "PortMappingProtocol"),
            (OUT, "NewInternalPort", "InternalPort"),
            (OUT, "NewInternalClient", "InternalClient"),
            (OUT, "NewEnabled", "PortMappingEnabled"),
            (OUT, "NewPortMappingDescription", "PortMappingDescription"),
            (OUT, "NewLeaseDuration", "PortMappingLeaseDuration"),
        ],
    ),
    (
        "GetSpecificPortMappingEntry",
        &[
            REMOTE,
            EXTERNAL,
            PROTOCOL,
            (OUT, "NewInternalPort", "InternalPort"),
            (OUT, "NewInternalClient", "InternalClient"),
            (OUT, "NewEnabled", "PortMappingEnabled"),
            (OUT, "NewPortMappingDescription", "PortMappingDescription"),
            (OUT, "NewLeaseDuration", "PortMappingLeaseDuration"),
        ],
    ),
    ("AddPortMapping", ADD),
    ("DeletePortMapping", &[REMOTE, EXTERNAL, PROTOCOL]),
    (
        "GetExternalIPAddress",
        &[(OUT, "NewExternalIPAddress", "ExternalIPAddress")],
    ),
];

const ADD: &[Argument] = &[
    REMOTE,
    EXTERNAL,
    PROTOCOL,
    (IN, "NewInternalPort", "InternalPort"),
    (IN, "NewInternalClient", "InternalClient"),
    (IN, "NewEnabled", "PortMappingEnabled"),
    (IN, "NewPortMappingDescription", "PortMappingDescription"),
    (IN, "NewLeaseDuration", "PortMappingLeaseDuration"),
];

/// The actions that version 2 adds.
const CONNECTION_2: &[Action] = &[
    (
        "DeletePortMappingRange",
        &[
            (IN, "NewStartPort", "ExternalPort"),
            (IN, "NewEndPort", "ExternalPort"),
            PROTOCOL,
            (IN, "NewManage", "A_ARG_TYPE_Manage"),
        ],
    ),
    (
        "GetListOfPortMappings",
        &[
            (IN, "NewStartPort", "ExternalPort"),
            (IN, "NewEndPort", "ExternalPort"),
            PROTOCOL,
            (IN, "NewManage", "A_ARG_TYPE_Manage"),
            (IN, "NewNumberOfPorts", "PortMappingNumberOfEntries"),
            (OUT, "NewPortListing", "A_ARG_TYPE_PortListing"),
        ],
    ),
    (
        "AddAnyPortMapping",
        &[
            REMOTE,
            EXTERNAL,
            PROTOCOL,
            (IN, "NewInternalPort", "InternalPort"),
            (IN, "NewInternalClient", "InternalClient"),
            (IN, "NewEnabled", "PortMappingEnabled"),
            (IN, "NewPortMappingDescription", "PortMappingDescription"),
            (IN, "NewLeaseDuration", "PortMappingLeaseDuration"),
            (OUT, "NewReservedPort", "ExternalPort"),
        ],
    ),
];

const FIREWALL: &[Action] = &[
    (
        "GetFirewallStatus",
        &[
            (OUT, "FirewallEnabled", "FirewallEnabled"),
            (OUT, "InboundPinholeAllowed", "InboundPinholeAllowed"),
        ],
    ),
    (
        "AddPinhole",
        &[
            (IN, "RemoteHost", "A_ARG_TYPE_IPv6Address"),
            (IN, "RemotePort", "A_ARG_TYPE_Port"),
            (IN, "InternalClient", "A_ARG_TYPE_IPv6Address"),
            (IN, "InternalPort", "A_ARG_TYPE_Port"),
            (IN, "Protocol", "A_ARG_TYPE_Protocol"),
            (IN, "LeaseTime", "A_ARG_TYPE_LeaseTime"),
            (OUT, "UniqueID", "A_ARG_TYPE_UniqueID"),
        ],
    ),
    (
        "UpdatePinhole",
        &[
            (IN, "UniqueID", "A_ARG_TYPE_UniqueID"),
            (IN, "NewLeaseTime", "A_ARG_TYPE_LeaseTime"),
        ],
    ),
    ("DeletePinhole", &[(IN, "UniqueID", "A_ARG_TYPE_UniqueID")]),
    (
        "CheckPinholeWorking",
        &[
            (IN, "UniqueID", "A_ARG_TYPE_UniqueID"),
            (OUT, "IsWorking", "A_ARG_TYPE_Boolean"),
        ],
    ),
    (
        "GetOutboundPinholeTimeout",
        &[
            (IN, "RemoteHost", "A_ARG_TYPE_IPv6Address"),
            (IN, "RemotePort", "A_ARG_TYPE_Port"),
            (IN, "InternalClient", "A_ARG_TYPE_IPv6Address"),
            (IN, "InternalPort", "A_ARG_TYPE_Port"),
            (IN, "Protocol", "A_ARG_TYPE_Protocol"),
            (OUT, "OutboundPinholeTimeout", "A_ARG_TYPE_LeaseTime"),
        ],
    ),
];

const COMMON: &[Action] = &[(
    "GetCommonLinkProperties",
    &[
        (OUT, "NewWANAccessType", "WANAccessType"),
        (
            OUT,
            "NewLayer1UpstreamMaxBitRate",
            "Layer1UpstreamMaxBitRate",
        ),
        (
            OUT,
            "NewLayer1DownstreamMaxBitRate",
            "Layer1DownstreamMaxBitRate",
        ),
        (OUT, "NewPhysicalLinkStatus", "PhysicalLinkStatus"),
    ],
)];

/// The types of state variables; what is not listed is a string.
const TYPES: &[Variable] = &[
    ("ExternalPort", "ui2"),
    ("InternalPort", "ui2"),
    ("PortMappingNumberOfEntries", "ui2"),
    ("PortMappingEnabled", "boolean"),
    ("PortMappingLeaseDuration", "ui4"),
    ("Uptime", "ui4"),
    ("RSIPAvailable", "boolean"),
    ("NATEnabled", "boolean"),
    ("A_ARG_TYPE_Manage", "boolean"),
    ("FirewallEnabled", "boolean"),
    ("InboundPinholeAllowed", "boolean"),
    ("A_ARG_TYPE_Port", "ui2"),
    ("A_ARG_TYPE_Protocol", "ui2"),
    ("A_ARG_TYPE_UniqueID", "ui2"),
    ("A_ARG_TYPE_LeaseTime", "ui4"),
    ("A_ARG_TYPE_Boolean", "boolean"),
    ("Layer1UpstreamMaxBitRate", "ui4"),
    ("Layer1DownstreamMaxBitRate", "ui4"),
];

/// Writes the description of a service.
fn scpd(style: Style, service: &Service) -> String {
    let sets: &[&[Action]] = match (service.kind, service.version) {
        (Kind::Connection, 2) => &[CONNECTION, CONNECTION_2],
        (Kind::Connection, _) => &[CONNECTION],
        (Kind::Firewall, _) => &[FIREWALL],
        (Kind::Common, _) => &[COMMON],
        (Kind::Forwarding, _) => &[],
    };
    let open = |name: &str| format!("<{}>", style.name("s", name));
    let close = |name: &str| format!("</{}>", style.name("s", name));
    let root = style.name("s", "scpd");
    let namespace = style.namespace("s", "urn:schemas-upnp-org:service-1-0");
    let mut out = format!("<?xml version=\"1.0\"?>\r\n<{root} {namespace}>");
    out += &open("specVersion");
    out += &style.value("s", "major", "1");
    out += &style.value("s", "minor", "1");
    out += &close("specVersion");
    out += &open("actionList");
    let mut variables: Vec<&str> = Vec::new();
    for (name, arguments) in sets.iter().flat_map(|set| set.iter()) {
        out += &open("action");
        out += &style.value("s", "name", name);
        out += &open("argumentList");
        for (is_in, argument, variable) in *arguments {
            out += &open("argument");
            out += &style.value("s", "name", argument);
            out += &style.value("s", "direction", if *is_in { "in" } else { "out" });
            out += &style.value("s", "relatedStateVariable", variable);
            out += &close("argument");
            if !variables.contains(variable) {
                variables.push(variable);
            }
        }
        out += &close("argumentList");
        out += &close("action");
    }
    out += &close("actionList");
    out += &open("serviceStateTable");
    for variable in variables {
        let kind = TYPES.iter().find(|(name, _)| *name == variable);
        out += &open("stateVariable");
        out += &style.value("s", "name", variable);
        out += &style.value("s", "dataType", kind.map_or("string", |(_, kind)| kind));
        out += &close("stateVariable");
    }
    out += &close("serviceStateTable");
    let _ = write!(out, "</{root}>\r\n");
    out
}
