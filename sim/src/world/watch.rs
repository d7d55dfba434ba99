//! Captures and journeys: how people look into a run.

use std::fmt::Write;

use dunlin_core::Instant;

use super::{
    World,
    device::Kind,
    event::Flight,
    trace::{Filter, Journey, Journeys},
};
use crate::{
    id::DeviceId,
    packet::{
        pcapng::{Capture, Way},
        verdict::Rule,
    },
};

impl World {
    /// Captures the packets on a device's interfaces from now on. A host has one interface; a
    /// router has `wan` to its parent and `lan` to its children; the core has one to its children.
    /// A packet that was dropped has a comment that names the rule. Capturing does not change the
    /// run.
    pub fn capture(&mut self, device: DeviceId) {
        let name = self.name(device);
        if self.devices[device.index()].capture.is_some() {
            return;
        }
        let interfaces = match self.devices[device.index()].kind {
            Kind::Host(_) => vec![name],
            Kind::Router(_) => vec![format!("{name}.wan"), format!("{name}.lan")],
            Kind::Core(_) => vec![format!("{name}.wan"), name],
        };
        self.devices[device.index()].capture = Some(self.captures.len() as u32);
        self.captures.push((device, Capture::new(interfaces)));
    }

    /// The captures so far as pcapng files, with the names of their devices, in the order in which
    /// they were requested.
    #[must_use]
    pub fn captures(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.captures.iter();
        files
            .map(|(device, capture)| (self.name(*device), capture.to_pcapng()))
            .collect()
    }

    pub(super) fn capture_packet(
        &mut self,
        at: Instant,
        n: u32,
        upper: bool,
        way: Way,
        flight: &Flight,
        why: Option<Rule>,
    ) {
        let Some(capture) = self.devices[n as usize].capture else {
            return;
        };
        let (_, capture) = &mut self.captures[capture as usize];
        let comment = why.map(dropped);
        let interface = u32::from(!upper);
        capture.record(
            at,
            interface,
            way,
            flight.packet.bytes(),
            comment.as_deref(),
        );
    }

    /// Adds a comment to the packet that came in last at a device, with the reason why it did not
    /// go on.
    pub(super) fn captured_why(&mut self, n: u32, rule: Rule) {
        if let Some(capture) = self.devices[n as usize].capture {
            self.captures[capture as usize].1.comment(&dropped(rule));
        }
    }

    /// Records the newest `hops` hops of all packets from now on, for [`World::explain`]. Recording
    /// does not change the run.
    pub fn record_journeys(&mut self, hops: usize) {
        self.trace.journeys = Some(Journeys::new(hops));
    }

    /// The first `most` journeys that match `filter`, in the order in which they began. Empty when
    /// journeys were not recorded.
    #[must_use]
    pub fn explain(&self, filter: &Filter, most: usize) -> Vec<Journey> {
        let journeys = self.trace.journeys.as_ref();
        journeys.map_or_else(Vec::new, |j| j.find(filter, most))
    }

    /// Describes a journey for people, one line for each hop.
    #[must_use]
    pub fn describe(&self, journey: &Journey) -> String {
        let id = journey.packet;
        let mut text = format!(
            "packet {} of {}: {:?}, {} bytes\n",
            id.number,
            self.name(id.origin),
            journey.proto,
            journey.len
        );
        for hop in &journey.hops {
            let micros = hop.at.as_micros();
            let (from, to) = hop.before;
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{:>8}.{:06}  {:<16} {:<22} {from} > {to}",
                micros / 1_000_000,
                micros % 1_000_000,
                self.name(hop.device),
                hop.rule.name(),
            );
            if hop.after != hop.before {
                let (from, to) = hop.after;
                let _ = write!(text, "  becomes  {from} > {to}");
            }
            let _ = writeln!(text, "  ({})", hop.rule.explain());
        }
        text
    }
}

fn dropped(rule: Rule) -> String {
    format!("dropped: {}: {}", rule.name(), rule.explain())
}
