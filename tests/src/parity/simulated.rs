//! The same script through the simulator's box, at the times at which the kernel got it.

use std::time::Duration;

use dunlin_core::Instant;
use dunlin_sim::middlebox::Middlebox;
use dunlin_sim::packet::verdict::Rule;
use dunlin_sim::{Packet, Verdict};

use super::Fate;
use super::body::Body;
use super::compare::{Side, fate};
use super::model::Model;
use super::script::{Place, Script, Send};
use super::table::{self, Table};

/// What the simulator does with a script, packet by packet, and its table after each packet, at the
/// time of `looked`.
pub fn run(
    model: &Model,
    place: Place,
    script: &Script,
    times: &[Duration],
    looked: &[Duration],
) -> (Vec<Fate>, Vec<Table>) {
    let mut middlebox = Middlebox::new(model.config.clone(), &[place.public()], script.seed);
    let mut fates: Vec<Fate> = Vec::with_capacity(script.events.len());
    let mut tables = Vec::with_capacity(script.events.len());
    // What came out, for the ICMP errors about it.
    let mut outs: Vec<Option<Packet>> = Vec::new();
    for i in 0..script.events.len() {
        let sent = script
            .ends(place, i, |k| fates[k].port())
            .and_then(|ends| script.packet(i, ends, script.quote(i, &outs)));
        let now = Instant::ORIGIN + times[i];
        let came = match &sent {
            Some(sent) => pass(&mut middlebox, now, script, i, sent),
            None => Vec::new(),
        };
        let event = &script.events[i];
        fates.push(match &sent {
            Some(sent) => fate(place, event, sent, &came),
            None => Fate::Unsent,
        });
        outs.push(came.into_iter().next().map(|(_, packet)| packet));
        tables.push(table::simulated(&middlebox, Instant::ORIGIN + looked[i]));
    }
    (fates, tables)
}

/// Lets one packet through. What comes out of it is returned.
fn pass(
    middlebox: &mut Middlebox,
    now: Instant,
    script: &Script,
    i: usize,
    sent: &Packet,
) -> Vec<(Side, Packet)> {
    let mut packet = sent.clone();
    let event = &script.events[i];
    // A router without a NAT takes the hop itself.
    let routes = middlebox.nat().is_none();
    let (verdict, there, back) = match event.send {
        Send::In(..) => (middlebox.inbound(now, &mut packet), Side::Lan, Side::Wan),
        Send::Out(..) | Send::Hairpin(..) => {
            (middlebox.outbound(now, &mut packet), Side::Wan, Side::Lan)
        }
    };
    let (side, first) = match verdict {
        Verdict::Pass(_) => (there, packet),
        Verdict::Hairpin(_) => (back, packet),
        Verdict::Answer(_, answer) => return vec![(back, *answer)],
        // The router behind the box reports it, unless it is an error itself.
        Verdict::Drop(Rule::HopLimit) if !matches!(event.body, Body::Error { .. }) => {
            return vec![(back, too_far(&packet))];
        }
        Verdict::Drop(_) | Verdict::Local(_) | Verdict::Hold(_) => return Vec::new(),
    };
    let rest: Vec<Packet> = std::iter::from_fn(|| middlebox.next_fragment()).collect();
    let all = std::iter::once(first).chain(rest);
    all.map(|mut packet| {
        if routes {
            packet.hop();
        }
        (side, packet)
    })
    .collect()
}

/// What a router sends about a packet whose hops are used up.
fn too_far(packet: &Packet) -> Packet {
    let from = packet.flow().dst.ip();
    Packet::icmp_error(from, dunlin_sim::IcmpError::HopLimit, packet)
}
