//! What of an answer is compared: not times, epochs, lengths and names of programs.

use crate::asked::Ask;

/// Fields whose values depend on the time, the machine or the version.
const VAGUE: [&str; 5] = [
    "errorDescription",
    "NewUptime",
    "NewLayer1UpstreamMaxBitRate",
    "NewLayer1DownstreamMaxBitRate",
    "NewWANAccessType",
];

impl Ask {
    /// The essence of the answers to this request.
    pub(crate) fn essence(&self, answers: &[Vec<u8>]) -> String {
        let each = answers.iter().map(|answer| match self {
            Self::Control(..) => control(answer),
            Self::Search(_) => found(&String::from_utf8_lossy(answer)),
            Self::Http(_) => http(&String::from_utf8_lossy(answer)),
        });
        let mut all: Vec<String> = each.collect();
        // The daemon hears each search twice.
        all.sort();
        all.dedup();
        all.join(" | ")
    }
}

/// The bytes of NAT-PMP or PCP, without the epoch.
fn control(answer: &[u8]) -> String {
    let mut bytes = answer.to_vec();
    let epoch = if bytes.len() >= 24 { 8..12 } else { 4..8 };
    if let Some(epoch) = bytes.get_mut(epoch) {
        epoch.fill(0);
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let found = lines.find(|(field, _)| field.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value.trim())
}

fn found(answer: &str) -> String {
    let first = answer.split("\r\n").next().unwrap_or_default();
    let fields = ["ST", "USN", "LOCATION", "CACHE-CONTROL", "EXT"];
    let fields = fields.map(|name| field(answer, name));
    format!("{first} {}", fields.join(" "))
}

fn http(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let content = field(head, "Content-Type");
    let closes = field(head, "Connection");
    let body = match content.contains("xml") {
        true => xml(body),
        // The words of an error page are free.
        false => String::new(),
    };
    format!("{status} {content} {closes} {body}")
}

/// The elements without elements in them, by local name.
fn leaves(xml: &str) -> Vec<(String, String)> {
    let (mut leaves, mut open, mut at) = (Vec::new(), None, 0);
    while let Some(start) = xml[at..].find('<').map(|n| at + n) {
        let Some(end) = xml[start..].find('>').map(|n| start + n) else {
            break;
        };
        let tag = &xml[start + 1..end];
        let local = |tag: &str| {
            let name = tag.split([' ', '/']).next().unwrap_or_default();
            name.rsplit(':').next().unwrap_or_default().to_owned()
        };
        if let Some(name) = tag.strip_prefix('/') {
            if let Some((opened, from)) = open.take()
                && opened == local(name)
            {
                leaves.push((opened, xml[from..start].to_owned()));
            }
        } else if tag.ends_with('/') {
            leaves.push((local(tag), String::new()));
            open = None;
        } else if !tag.starts_with(['?', '!']) {
            open = Some((local(tag), end + 1));
        }
        at = end + 1;
    }
    leaves
}

fn xml(body: &str) -> String {
    // A list within an answer is in a section, or escaped.
    let body = body.replace("<![CDATA[", "").replace("]]>", "");
    let body = body
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"");
    let leaves = leaves(&body.replace("&amp;", "&"));
    if body.contains("<scpd") {
        return actions(&leaves);
    }
    if body.contains("<root") {
        return services(&leaves);
    }
    let kept = leaves
        .iter()
        .filter(|(name, _)| !VAGUE.contains(&name.as_str()));
    let kept = kept.map(|(name, value)| match name.as_str() {
        // Some seconds passed.
        "NewLeaseDuration" | "NewLeaseTime" => {
            let left: u32 = value.parse().unwrap_or(u32::MAX);
            format!("{name}~{}", (left / 10).div_ceil(6) * 60)
        }
        _ => format!("{name}={value}"),
    });
    kept.collect::<Vec<_>>().join(" ")
}

/// The services of a description that concern port mappings, and where they are.
fn services(leaves: &[(String, String)]) -> String {
    let mut all = Vec::new();
    let mut concerns = false;
    for (name, value) in leaves {
        match name.as_str() {
            "deviceType" => all.push(value.clone()),
            "serviceType" => {
                concerns = !value.contains("DeviceProtection");
                if concerns {
                    all.push(value.clone());
                }
            }
            "controlURL" | "SCPDURL" | "serviceId" if concerns => all.push(value.clone()),
            _ => {}
        }
    }
    all.join(" ")
}

/// The actions of a service that concern port mappings, with their arguments.
fn actions(leaves: &[(String, String)]) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut concerns = false;
    for (n, (name, value)) in leaves.iter().enumerate() {
        if name != "name" {
            continue;
        }
        let next = leaves.get(n + 1).map(|(name, _)| name.as_str());
        match next {
            Some("direction") if concerns => {
                let last = all.last_mut().expect("an action comes first");
                last.push_str(&format!(" {value}/{}", leaves[n + 1].1));
            }
            // A state variable.
            Some("direction" | "dataType") => {}
            _ => {
                let known = ["PortMapping", "Pinhole", "ExternalIP", "GetStatusInfo"];
                concerns = known.iter().any(|part| value.contains(part))
                    // It counts packets, which the model does not.
                    && value != "GetPinholePackets";
                if concerns {
                    all.push(value.clone());
                }
            }
        }
    }
    all.sort();
    all.join("; ")
}
