//! Events that are derived from the seed.

use std::time::Duration;

use rand_core::Rng;

use super::{Action, Event, Random, Scenario};
use crate::{
    rng::SimRng,
    scenario::{
        population,
        syntax::{
            document::{Document, quote},
            error::{Errors, ScenarioErrors},
        },
    },
};

/// Separates random events from everything else that is derived from the seed.
const PART: u64 = 0x7261_6e64_6f6d;

/// A number below `end`. The bias is `end` in 2^64, which does not matter.
fn below(rng: &mut SimRng, end: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(end.max(1))) >> 64) as u64
}

impl Random {
    /// The events of a seed, in order of time. `port` returns the port of a host.
    fn draw(&self, seed: u64, end: Duration, port: impl Fn(&str) -> u16) -> Vec<Event> {
        let mut rng = SimRng::part(seed, PART);
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let from = micros(self.from);
        let span = micros(self.until.unwrap_or(end).min(end)).saturating_sub(from);
        let mut events: Vec<Event> = (0..self.count)
            .map(|_| {
                let at = Duration::from_micros(from + below(&mut rng, span + 1));
                let mut pick =
                    |of: &[String]| of[below(&mut rng, of.len() as u64) as usize].clone();
                let (from, to) = (pick(&self.senders), pick(&self.receivers));
                let n = below(&mut rng, self.ports.into()) as u16;
                let action = Action::Send {
                    to_port: self.to_port.unwrap_or_else(|| port(&to)),
                    from,
                    port: 40_000 + n,
                    to,
                    size: 64,
                };
                Event { at, action }
            })
            .collect();
        events.sort_by_key(|e| e.at);
        events
    }
}

impl Scenario {
    /// All events, including those derived from `seed`, in order of time.
    #[must_use]
    pub fn all_events(&self, seed: u64) -> Vec<Event> {
        let mut events = self.events.clone();
        if let Some(random) = &self.random {
            let port = |name: &str| {
                let host = self.hosts.iter().find(|h| h.name == name);
                host.map_or(0, super::Host::port)
            };
            events.extend(random.draw(seed, self.duration, port));
            events.sort_by_key(|e| e.at);
        }
        events
    }
}

/// The same scenario with its seed, with its populations member by member, and with the events that `[random]` derives from it written
/// out.
///
/// # Errors
/// When the document is not a valid scenario.
pub fn written_out(doc: &Document, seed: u64) -> Result<Document, ScenarioErrors> {
    let scenario = Scenario::drawn_from(doc, seed)?;
    let mut errors = Errors::default();
    // The scenario was read, so there are none.
    let doc = &*population::written_out(doc, seed, &mut errors);
    let mut text = format!("seed = {seed}\n");
    // The seed comes before the first table, in place of the file's own.
    let rest = doc
        .only(|_, e| e.section != "random")
        .without_key("seed")
        .to_toml();
    text.push_str(&rest);
    if let Some(random) = &scenario.random {
        let port = |name: &str| {
            let host = scenario.hosts.iter().find(|h| h.name == name);
            host.map_or(0, super::Host::port)
        };
        for event in random.draw(seed, scenario.duration, port) {
            if let Action::Send {
                from,
                port,
                to,
                to_port,
                ..
            } = &event.action
            {
                text.push_str(&format!(
                    "\n[[event]]\nat = \"{}us\"\nsend = {}\nport = {port}\nto = {}\nto-port = {to_port}\n",
                    event.at.as_micros(),
                    quote(from),
                    quote(to)
                ));
            }
        }
    }
    Document::parse(&text, &doc.file)
}
