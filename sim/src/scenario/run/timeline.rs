//! What changes during a run: the progress of engines, answers to steady hosts, packets.

use std::{collections::BTreeMap, time::Duration};

use super::{
    built::{Built, at},
    engines,
    hosts::Steady,
};
use crate::{
    report::{Chart, Series, Unit},
    scenario::model::{Kind, Scenario},
};

/// The samples in each curve of a chart. Charts alone are sampled: everything that is judged or
/// told in numbers is the time of an event.
pub(crate) const SAMPLES: u32 = 240;

/// A line of a chart: the name of a host, and its points.
type Line = (String, Vec<(Duration, u64)>);

/// The mean of lines that have points at the same times.
fn mean(lines: &[Line]) -> Vec<(Duration, u64)> {
    let points = lines.first().map_or(&[][..], |(_, points)| points);
    let of = |n: usize| {
        lines
            .iter()
            .filter_map(move |(_, p)| Some(p.get(n)?.1))
            .sum::<u64>()
    };
    let count = lines.len().max(1) as u64;
    let each = points.iter().enumerate();
    each.map(|(n, (at, _))| (*at, of(n) / count)).collect()
}

fn mean_name(name: String, members: usize) -> String {
    match members {
        1 => name,
        _ => format!("{name}: mean of {members}"),
    }
}

/// What is drawn of a run.
pub(crate) struct Timeline {
    duration: Duration,
    /// The engines, with times and the bytes that each has.
    engines: Vec<Line>,
    /// The population of each member of one, by name.
    members: BTreeMap<String, String>,
    /// The length of the torrent.
    size: u64,
    packets: Vec<(Duration, u64)>,
    callers: Vec<String>,
}

impl Timeline {
    pub(crate) fn new(s: &Scenario) -> Self {
        let of_kind = |fits: fn(Kind) -> bool| {
            let hosts = s.hosts.iter().filter(move |h| fits(h.kind));
            hosts.map(|h| h.name.clone())
        };
        Self {
            duration: s.duration,
            engines: of_kind(|k| k == Kind::EngineLeech)
                .map(|n| (n, Vec::new()))
                .collect(),
            members: s
                .hosts
                .iter()
                .filter_map(|h| Some((h.name.clone(), h.population()?.to_owned())))
                .collect(),
            size: s.torrent.size,
            packets: vec![(Duration::ZERO, 0)],
            callers: of_kind(|k| k == Kind::Steady).collect(),
        }
    }

    pub(crate) fn sample(&mut self, built: &Built) {
        let now = built.world.now().saturating_since(at(Duration::ZERO));
        self.packets.push((now, built.world.trace().packets()));
        for (name, points) in &mut self.engines {
            points.push((now, engines::done(built, name)));
        }
    }

    /// The samples as charts.
    pub(crate) fn charts(&self, built: &Built) -> Vec<Chart> {
        let mut charts = Vec::new();
        if !self.engines.is_empty() {
            charts.push(self.completion());
            charts.push(self.throughput());
        }
        if !self.callers.is_empty() {
            charts.push(self.answers(built));
        }
        charts.push(Chart {
            title: "Packets per second".into(),
            unit: Unit::Count,
            series: vec![Series {
                name: "all hosts".into(),
                strong: false,
                points: rates(&self.packets),
            }],
            end: self.duration,
        });
        charts
    }

    /// The lines of hosts alone, and those of each population together, in the order of the file.
    fn grouped(&self, lines: &[Line]) -> Vec<(String, Vec<Line>)> {
        let mut all: Vec<(String, Vec<Line>)> = Vec::new();
        for line in lines {
            let name = self.members.get(&line.0).unwrap_or(&line.0);
            match all.iter_mut().find(|(n, _)| n == name) {
                Some((_, of)) => of.push(line.clone()),
                None => all.push((name.clone(), vec![line.clone()])),
            }
        }
        all
    }

    fn completion(&self) -> Chart {
        let share = |have: u64| have * 1_000 / self.size.max(1);
        let mut series: Vec<Series> = Vec::new();
        if self.engines.len() > 1 {
            let samples = self.engines.iter().map(|(_, p)| p.len()).min().unwrap_or(0);
            let middle = |n: usize| {
                let mut have: Vec<u64> = self.engines.iter().map(|(_, p)| p[n].1).collect();
                have.sort_unstable();
                (self.engines[0].1[n].0, share(have[have.len() / 2]))
            };
            series.push(Series {
                name: "median".into(),
                strong: true,
                points: (0..samples).map(middle).collect(),
            });
        }
        let of_all = |all: &[Line], n: usize| {
            let mut have: Vec<u64> = all.iter().map(|(_, p)| p[n].1).collect();
            have.sort_unstable();
            have
        };
        for (name, all) in self.grouped(&self.engines) {
            let points = all.first().map_or(0, |(_, p)| p.len());
            let line = |name: String, tenths: usize| Series {
                name,
                strong: false,
                points: (0..points)
                    .map(|n| {
                        let have = of_all(&all, n);
                        let place = (have.len() - 1) * tenths / 10;
                        (all[0].1[n].0, share(have[place]))
                    })
                    .collect(),
            };
            match all.len() {
                1 => series.push(line(name, 5)),
                _ => series.extend([
                    line(format!("{name}: slowest tenth"), 1),
                    line(format!("{name}: median"), 5),
                    line(format!("{name}: fastest tenth"), 9),
                ]),
            }
        }
        Chart {
            title: "Completion".into(),
            unit: Unit::PerMille,
            series,
            end: self.duration,
        }
    }

    fn throughput(&self) -> Chart {
        let series = self
            .grouped(&self.engines)
            .into_iter()
            .map(|(name, all)| Series {
                name: mean_name(name, all.len()),
                strong: false,
                points: rates(&mean(&all)),
            });
        Chart {
            title: "Download rate".into(),
            unit: Unit::BytesPerSecond,
            series: series.collect(),
            end: self.duration,
        }
    }

    fn answers(&self, built: &Built) -> Chart {
        let lines = self.callers.iter().map(|name| {
            let caller = built.world.host::<Steady>(built.node(name));
            let seconds = 0..self.duration.as_secs();
            let of_second = |t: u64| caller.and_then(|c| c.per_second.get(&t)).copied();
            // The total so far: a host that waits has a level line, and the lines of several hosts
            // do not overlap.
            let mut so_far = 0u64;
            let points = seconds.map(|t| {
                so_far += of_second(t).unwrap_or(0);
                (Duration::from_secs(t + 1), so_far)
            });
            (name.clone(), points.collect())
        });
        let lines: Vec<Line> = lines.collect();
        let series = self.grouped(&lines).into_iter().map(|(name, all)| Series {
            name: mean_name(name, all.len()),
            strong: false,
            points: mean(&all),
        });
        Chart {
            title: "Answers so far".into(),
            unit: Unit::Count,
            series: series.collect(),
            end: self.duration,
        }
    }
}

/// The number of points in a curve of rates. With more of them, single blocks would show.
const RATES: usize = 60;

/// The growth per second, over as many samples as give about [`RATES`] points.
fn rates(points: &[(Duration, u64)]) -> Vec<(Duration, u64)> {
    let pair = |w: &[(Duration, u64)]| {
        let micros = (w[1].0.saturating_sub(w[0].0)).as_micros().max(1);
        let grown = u128::from(w[1].1.saturating_sub(w[0].1)) * 1_000_000 / micros;
        (w[1].0, u64::try_from(grown).unwrap_or(u64::MAX))
    };
    let every = points.len().div_ceil(RATES).max(1);
    let kept: Vec<_> = points.iter().step_by(every).copied().collect();
    kept.windows(2).map(pair).collect()
}
