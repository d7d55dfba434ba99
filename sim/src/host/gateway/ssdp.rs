//! SSDP: answers to searches, and announcements (UPnP Device Architecture 1.1 §1).

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use dunlin_core::Instant;

use super::{ELSEWHERE, Gateway, Igd, Quirk, description, http::Head};
use crate::{host::HostCx, packet::Packet};

/// The port of SSDP.
pub(super) const PORT: u16 = 1_900;
/// The group of SSDP.
pub(super) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// The most answers that wait to be sent. Further searches are not answered.
const MAX_WAITING: usize = 256;
/// The longest delay of an answer in seconds, whatever a search permits (§1.3.3).
const MAX_DELAY: u64 = 5;

/// What waits to be said.
#[derive(Clone, Debug, Default)]
pub(super) struct Ssdp {
    /// Answers with their times, in order of time.
    waiting: VecDeque<(Instant, SocketAddr, String)>,
    /// When it announces itself next.
    next: Option<Instant>,
    /// It has announced itself since it was switched on.
    known: bool,
}

impl Ssdp {
    pub(super) fn begin(&mut self, at: Instant) {
        self.waiting.clear();
        self.next = Some(at);
        self.known = false;
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.waiting.front().map(|(at, ..)| *at);
        [first, self.next].into_iter().flatten().min()
    }
}

impl Gateway {
    /// Handles a datagram for SSDP's port.
    pub(super) fn search(&mut self, cx: &mut HostCx<'_>, packet: &Packet) {
        let (Some(_), SocketAddr::V4(_)) = (self.profile.igd, packet.flow().src) else {
            return;
        };
        let Some(head) = Head::read(packet.payload()) else {
            return;
        };
        let is_search = head.first().split(' ').next() == Some("M-SEARCH");
        let lax = self.profile.is_lax();
        let man = head.field("MAN").map(|m| m.trim_matches('"'));
        let wait: Option<u64> = head.field("MX").and_then(|m| m.parse().ok());
        // A search without a reason to be one, or without a time, is not one (§1.3.2).
        if !is_search || !lax && (man != Some("ssdp:discover") || wait.is_none()) {
            return;
        }
        let Some(target) = head.field("ST") else {
            return;
        };
        let wait = if lax { 0 } else { wait.unwrap_or(0) };
        for found in self.found(target) {
            if self.ssdp.waiting.len() >= MAX_WAITING {
                break;
            }
            let longest = wait.min(MAX_DELAY) * 1_000_000;
            let delay = match longest {
                0 => 0,
                most => cx.rng.next_u64() % most,
            };
            let at = cx.now + Duration::from_micros(delay);
            let place = self.ssdp.waiting.partition_point(|(t, ..)| *t <= at);
            let from = packet.flow().src;
            self.ssdp.waiting.insert(place, (at, from, found));
        }
        self.speak(cx);
    }

    /// The search targets to which an answer about `target` is due.
    fn found(&self, target: &str) -> Vec<String> {
        let all = self.targets();
        if target == "ssdp:all" {
            return all;
        }
        if all.iter().any(|t| t == target) {
            return vec![target.into()];
        }
        // A device answers for older versions of itself, in the version that was asked for.
        let older = |own: &String| {
            let (Some((a, own)), Some((b, asked))) =
                (own.rsplit_once(':'), target.rsplit_once(':'))
            else {
                return false;
            };
            let (own, asked) = (own.parse::<u32>(), asked.parse::<u32>());
            let (Ok(own), Ok(asked)) = (own, asked) else {
                return false;
            };
            a == b && asked > 0 && (asked < own || self.profile.is_lax())
        };
        match all.iter().any(older) {
            true => vec![target.into()],
            false => Vec::new(),
        }
    }

    /// Every search target that it is: the root, each device, and each service.
    fn targets(&self) -> Vec<String> {
        let Some(igd) = self.profile.igd else {
            return Vec::new();
        };
        let mut all = vec!["upnp:rootdevice".to_owned()];
        let version = if igd == Igd::V2 { 2 } else { 1 };
        for (n, device) in description::DEVICES.iter().enumerate() {
            all.push(description::uuid(n));
            all.push(format!("urn:schemas-upnp-org:device:{device}:{version}"));
        }
        let services = description::services(&self.profile);
        all.extend(services.iter().map(description::Service::urn));
        if self.profile.is_lax() {
            // It answers for services that its description leaves out.
            all.push("urn:schemas-upnp-org:service:WANPPPConnection:1".into());
            all.push("urn:schemas-upnp-org:service:DeviceProtection:1".into());
        }
        all.dedup();
        all
    }

    /// The unique service name of a search target.
    fn usn(&self, target: &str) -> String {
        if target.starts_with("uuid:") {
            return target.into();
        }
        let owner = description::owner(target);
        format!("{}::{target}", description::uuid(owner))
    }

    /// The address at which it answers searches.
    pub(super) fn upnp_address(&self) -> Option<Ipv4Addr> {
        match self.profile.has(Quirk::OffSubnet) {
            true => Some(ELSEWHERE),
            false => self.lan(),
        }
    }

    fn location(&self) -> Option<String> {
        let places = [
            (Quirk::LocationElsewhere, ELSEWHERE),
            (Quirk::LocationLoopback, Ipv4Addr::LOCALHOST),
            (Quirk::LocationLinkLocal, Ipv4Addr::new(169, 254, 1, 1)),
            (Quirk::LocationMulticast, GROUP),
        ];
        let place = places.iter().find(|(quirk, _)| self.profile.has(*quirk));
        let host = place.map(|(_, addr)| *addr).or(self.upnp_address())?;
        let port = self.profile.http_port;
        Some(format!("http://{host}:{port}{}", description::ROOT))
    }

    /// A message with the fields that all of them have.
    fn message(&self, first: &str, fields: &[(&str, &str)]) -> Option<String> {
        let (age, location) = (self.profile.max_age.as_secs(), self.location()?);
        let boot = (self.booted.as_micros() / 1_000_000).max(1);
        let mut text = format!("{first}\r\n");
        let (age, boot) = (format!("max-age={age}"), boot.to_string());
        let common = [
            ("CACHE-CONTROL", age.as_str()),
            ("LOCATION", &location),
            ("SERVER", description::SERVER),
            ("BOOTID.UPNP.ORG", &boot),
            ("CONFIGID.UPNP.ORG", "1"),
        ];
        for (name, value) in fields.iter().chain(&common) {
            let name = match self.profile.has(Quirk::LowerCaseHeaders) {
                true => name.to_lowercase(),
                false => (*name).to_owned(),
            };
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Some(text)
    }

    /// Announces itself, or takes that back.
    pub(super) fn notify(&self, cx: &mut HostCx<'_>, alive: bool) {
        let Some(own) = self.upnp_address().filter(|_| self.profile.igd.is_some()) else {
            return;
        };
        let nts = if alive { "ssdp:alive" } else { "ssdp:byebye" };
        for target in self.targets() {
            let usn = self.usn(&target);
            let group = format!("{GROUP}:{PORT}");
            let fields = [
                ("HOST", group.as_str()),
                ("NT", &target),
                ("NTS", nts),
                ("USN", &usn),
            ];
            if let Some(text) = self.message("NOTIFY * HTTP/1.1", &fields) {
                let to = SocketAddr::from((GROUP, PORT));
                cx.send_udp((own, PORT).into(), to, text.as_bytes());
            }
        }
    }

    /// Says what is due.
    pub(super) fn speak(&mut self, cx: &mut HostCx<'_>) {
        let Some(own) = self.upnp_address().filter(|_| self.profile.igd.is_some()) else {
            return;
        };
        while self
            .ssdp
            .waiting
            .front()
            .is_some_and(|(at, ..)| *at <= cx.now)
        {
            let Some((_, to, target)) = self.ssdp.waiting.pop_front() else {
                break;
            };
            let usn = self.usn(&target);
            let fields = [("EXT", ""), ("ST", target.as_str()), ("USN", &usn)];
            if let Some(text) = self.message("HTTP/1.1 200 OK", &fields) {
                self.stats.searches += 1;
                cx.send_udp((IpAddr::V4(own), PORT).into(), to, text.as_bytes());
            }
        }
        if self.ssdp.next.is_some_and(|at| at <= cx.now) {
            if !self.ssdp.known {
                // Clients may still believe in what it was before (§1.2.2).
                self.notify(cx, false);
            }
            self.notify(cx, true);
            self.ssdp.known = true;
            self.ssdp.next = Some(cx.now + self.profile.max_age / 2);
        }
    }
}
