//! The same script through the simulator's NAT, at the times at which the kernel got it.

use std::time::Duration;

use dunlin_core::Instant;
use dunlin_sim::Verdict;
use dunlin_sim::middlebox::nat::Nat;

use super::Fate;
use super::compare::{Side, fate};
use super::model::Model;
use super::script::{Place, Script, Send, Wan};

/// What the simulator does with a script, packet by packet.
pub fn run(model: &Model, place: Place, script: &Script, times: &[Duration]) -> Vec<Fate> {
    let mut nat = Nat::new(model.nat.clone(), &[place.public()], script.seed);
    let mut fates: Vec<Fate> = Vec::with_capacity(script.events.len());
    for (i, event) in script.events.iter().enumerate() {
        let wan = match event.wan() {
            None => 0,
            Some(Wan::Port(port)) => port,
            Some(Wan::Seen(k)) => match fates[k] {
                Fate::Outside { port } => port,
                _ => {
                    fates.push(Fate::Unsent);
                    continue;
                }
            },
        };
        let sent = event.packet(place, i, wan);
        let mut packet = sent.clone();
        let now = Instant::ORIGIN + times[i];
        let (verdict, there, back) = match event.send {
            Send::In(..) => (nat.inbound(now, &mut packet), Side::Lan, Side::Wan),
            Send::Out(..) | Send::Hairpin(..) => {
                (nat.outbound(now, &mut packet), Side::Wan, Side::Lan)
            }
        };
        fates.push(match verdict {
            Verdict::Pass(_) => fate(place, event, &sent, there, &packet),
            Verdict::Hairpin(_) => fate(place, event, &sent, back, &packet),
            Verdict::Answer(_, answer) => fate(place, event, &sent, back, &answer),
            Verdict::Drop(_) | Verdict::Local(_) => Fate::Dropped,
        });
    }
    fates
}
