//! Runs scenarios, and reports the results.

mod build;
mod built;
mod check;
mod engines;
mod events;
mod hosts;
mod mapper;
mod sequence;
mod services;
mod timeline;
mod watched;

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

pub use self::check::MAX_HOPS;
use self::{
    built::{Built, at},
    timeline::{SAMPLES, Timeline},
};
use super::model::{Check, Host, Kind, Scenario};
use crate::{
    packet::verdict::Rule,
    report::{Chart, Counter, Outcome, Report, Sequence, units},
    world::{Traffic, trace::Filter},
};

/// What a run records besides its outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Captures of the interfaces of every device.
    pub capture: bool,
    /// The paths of packets, for charts and explanations.
    pub journeys: bool,
    /// Curves over time.
    pub curves: bool,
    /// The two hosts whose packets are drawn; `None` for those of the first expectation.
    pub pair: Option<(String, String)>,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunResult {
    /// The name of the scenario.
    pub name: String,
    /// The seed.
    pub seed: u64,
    /// The hash of the trace.
    pub trace: u64,
    /// The number of packets that were created.
    pub packets: u64,
    /// The simulated time.
    pub ended: Duration,
    /// The outcome of every expectation.
    pub outcomes: Vec<Outcome>,
    /// What each host did, in the order of the file.
    pub hosts: Vec<HostResult>,
    /// What the model adds by itself to the times that it reports, in sentences.
    pub notes: Vec<String>,
    /// How often each rule decided at each device.
    pub counters: Vec<Counter>,
    /// The curves, if they were requested.
    pub charts: Vec<Chart>,
    /// The packets of a pair, if the paths of packets were requested.
    pub sequence: Option<Sequence>,
    /// The names of devices and their pcapng files, if they were requested.
    pub captures: Vec<(String, Vec<u8>)>,
    /// Why the run ended early, if it did.
    pub stuck: Option<String>,
}

/// What a host did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResult {
    /// The name.
    pub name: String,
    /// The population of which it is a member.
    pub population: Option<String>,
    /// The name of its kind.
    pub kind: &'static str,
    /// Packets and bytes on its link, with IP headers.
    pub traffic: Traffic,
    /// What its engine did, if it has one.
    pub torrent: Option<TorrentResult>,
}

/// The torrent on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TorrentResult {
    /// When it was complete and correct, if it was: the instant itself.
    pub completed: Option<Duration>,
    /// The times at which more bytes were verified, and how many there were in all then.
    pub curve: Vec<(Duration, u64)>,
    /// The bytes of the torrent's content that were received from peers since the machine was last
    /// switched on; 0 while it is off.
    pub downloaded: u64,
    /// The bytes that were sent to peers, like `downloaded`.
    pub uploaded: u64,
}

impl RunResult {
    /// The result of the host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> Option<&HostResult> {
        self.hosts.iter().find(|h| h.name == name)
    }

    /// Returns `true` when every expectation held.
    #[must_use]
    pub fn held(&self) -> bool {
        self.stuck.is_none() && self.outcomes.iter().all(|o| o.held)
    }

    /// The report of the run. `command` is the command that reproduces it.
    #[must_use]
    pub fn report(&self, scenario: &Scenario, command: &str) -> Report {
        let fact = |name: &str, value: String| (name.to_owned(), value);
        let facts = vec![
            fact("seed", self.seed.to_string()),
            fact("simulated time", units::time(self.ended)),
            fact("packets", units::count(self.packets)),
            fact(
                "nodes",
                units::count((scenario.hosts.len() + scenario.routers.len()) as u64),
            ),
            fact("trace hash", format!("{:016x}", self.trace)),
        ];
        Report {
            title: self.name.clone(),
            about: scenario.about.clone(),
            command: command.into(),
            facts,
            notes: self.notes.clone(),
            outcomes: self.outcomes.clone(),
            matrices: Vec::new(),
            sequence: self.sequence.clone(),
            charts: self.charts.clone(),
            counters: self.counters.clone(),
            stuck: self.stuck.clone(),
        }
    }
}

fn host(built: &Built, h: &Host) -> HostResult {
    HostResult {
        name: h.name.clone(),
        population: h.population().map(Into::into),
        kind: h.kind.info().name,
        traffic: built.world.traffic(built.node(&h.name)),
        torrent: h.kind.is_engine().then(|| engines::result(built, &h.name)),
    }
}

/// How often each rule decided at each device, or at all members of a population together.
fn counters(s: &Scenario, built: &Built) -> Vec<Counter> {
    let routers = s.routers.iter().map(|r| (&r.name, r.population()));
    let hosts = s.hosts.iter().map(|h| (&h.name, h.population()));
    let members: BTreeMap<&str, &str> = routers
        .chain(hosts)
        .filter_map(|(name, population)| Some((name.as_str(), population?)))
        .collect();
    let mut places: BTreeMap<(String, Rule), usize> = BTreeMap::new();
    let mut all: Vec<Counter> = Vec::new();
    for (node, rule, packets) in built.world.trace().counters_by_device() {
        let name = built.world.name(node);
        let name = members
            .get(name.as_str())
            .map_or(name.clone(), |p| (*p).to_owned());
        let place = *places.entry((name.clone(), rule)).or_insert(all.len());
        if place < all.len() {
            all[place].packets += packets;
            continue;
        }
        all.push(Counter {
            node: name,
            rule: rule.name().into(),
            explain: rule.explain().into(),
            packets,
            drops: sequence::ends(rule),
        });
    }
    all
}

/// What a reader of the times has to know about the model.
fn notes(s: &Scenario) -> Vec<String> {
    let core = if s.has_regions() {
        "The core adds the delay between the regions of two hosts, and queues nothing."
    } else {
        "The core adds no delay: what is told of time is due to the links of hosts and routers."
    };
    let servers = s.hosts.iter().filter(|h| h.kind == Kind::Rendezvous);
    let leads = servers.map(|h| {
        format!(
            "{} introduces its hosts {} after the last of them has registered.",
            h.population().unwrap_or(&h.name),
            units::exact(h.options.lead)
        )
    });
    let mut all: Vec<String> = std::iter::once(core.into()).chain(leads).collect();
    // The members of a population say the same.
    all.dedup();
    all
}

/// Runs a scenario with a seed. The same scenario and seed give the same result, whatever the
/// options record.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64, options: &RunOptions) -> RunResult {
    to_the_end(scenario, seed, options).0
}

/// The packets to explain, by the names of the scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Packets made by this host or router.
    pub from: Option<String>,
    /// Packets that passed this host or router.
    pub at: Option<String>,
    /// Packets about which this rule decided.
    pub rule: Option<Rule>,
    /// Packets from or to these endpoints, before or after a translation. Port 0 matches any port.
    pub endpoints: Vec<std::net::SocketAddr>,
    /// The packet with this number among those that `from` made.
    pub number: Option<u32>,
}

/// Runs a scenario and describes the paths of the packets that match, at most `most` of them. Also
/// returns how many matched.
#[must_use]
pub fn explain(
    scenario: &Scenario,
    seed: u64,
    question: &Question,
    most: usize,
) -> (Vec<String>, usize) {
    let options = RunOptions {
        journeys: true,
        ..RunOptions::default()
    };
    let (_, built) = to_the_end(scenario, seed, &options);
    let node = |name: &String| built.nodes.get(name).copied();
    let filter = Filter {
        packet: None,
        proto: None,
        endpoints: question.endpoints.clone(),
        device: question.at.as_ref().and_then(node),
        rule: question.rule,
    };
    let from = question.from.as_ref().and_then(node);
    let wanted = |j: &crate::world::trace::Journey| {
        from.is_none_or(|f| j.packet.origin == f)
            && question.number.is_none_or(|n| j.packet.number == n)
    };
    let all: Vec<_> = built.world.explain(&filter, usize::MAX);
    let all: Vec<_> = all.into_iter().filter(wanted).collect();
    let told = all
        .iter()
        .take(most)
        .map(|j| built.world.describe(j))
        .collect();
    (told, all.len())
}

fn to_the_end(scenario: &Scenario, seed: u64, options: &RunOptions) -> (RunResult, Built) {
    let (drawn, wrong) = match scenario.drawn(seed) {
        Ok(drawn) => (drawn, None),
        Err(wrong) => (Cow::Borrowed(scenario), Some(wrong)),
    };
    let scenario = &*drawn;
    if let Some(wrong) = wrong {
        let result = RunResult {
            name: scenario.name.clone(),
            seed,
            stuck: Some(format!("what this seed draws is wrong: {wrong}")),
            ..RunResult::default()
        };
        return (result, build::build(scenario, seed));
    }
    let mut built = build::build(scenario, seed);
    let counts_packets = |c: &Check| matches!(c, Check::Delivered { .. });
    if options.journeys || scenario.expects.iter().any(|e| counts_packets(&e.check)) {
        built.world.record_journeys(MAX_HOPS);
    }
    if options.capture {
        let all: Vec<_> = built.nodes.values().copied().collect();
        all.into_iter().for_each(|node| built.world.capture(node));
    }
    let monitor = watched::monitor(scenario, &built);
    built.world.set_monitor(monitor);
    built.world.start();
    let mut timeline = Timeline::new(scenario);
    if options.curves {
        for n in 1..=SAMPLES {
            built.world.run_until(at(scenario.duration * n / SAMPLES));
            timeline.sample(&built);
            if built.world.stuck().is_some() {
                break;
            }
        }
    } else {
        built.world.run_until(at(scenario.duration));
    }
    let world = &built.world;
    let outcomes = scenario
        .expects
        .iter()
        .filter_map(|e| check::check(scenario, &built, seed, e))
        .collect();
    let counters = counters(scenario, &built);
    let result = RunResult {
        name: scenario.name.clone(),
        seed,
        trace: world.trace().hash(),
        packets: world.trace().packets(),
        ended: world.now().saturating_since(at(Duration::ZERO)),
        outcomes,
        hosts: scenario.hosts.iter().map(|h| host(&built, h)).collect(),
        notes: notes(scenario),
        counters,
        charts: if options.curves {
            timeline.charts(&built)
        } else {
            Vec::new()
        },
        sequence: options
            .journeys
            .then(|| sequence::draw(scenario, &built, options.pair.as_ref())),
        captures: if options.capture {
            world.captures()
        } else {
            Vec::new()
        },
        stuck: world.stuck().map(|s| world.explain_stuck(s)),
    };
    (result, built)
}
