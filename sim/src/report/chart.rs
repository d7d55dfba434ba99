//! Curves over time.

use std::{fmt::Write, time::Duration};

use super::{Chart, MAX_POINTS, MAX_SERIES, Series, Unit, svg::Svg, svg::escape, svg::short};
use crate::report::units;

/// The most lines with a colour and a name of their own. Further ones look alike.
const MAX_COLOURS: usize = 8;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 78.0;
/// Space for half of the last label of the axis.
const RIGHT: f64 = 36.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 34.0;

fn value(unit: Unit, n: u64) -> String {
    match unit {
        Unit::PerMille if n.is_multiple_of(10) => format!("{} %", n / 10),
        Unit::PerMille => format!("{}.{} %", n / 10, n % 10),
        Unit::BytesPerSecond => format!("{}/s", units::size(n)),
        Unit::Count => units::count(n),
    }
}

/// A round step of which `most` takes at most `parts`.
fn step(most: u64, parts: u64, binary: bool) -> u64 {
    let mut unit = 1u64;
    loop {
        let steps: [u64; 4] = if binary { [1, 2, 4, 8] } else { [1, 2, 5, 10] };
        for factor in steps {
            let step = unit.saturating_mul(factor);
            if step.saturating_mul(parts) >= most {
                return step;
            }
        }
        unit = unit.saturating_mul(if binary { 16 } else { 10 });
    }
}

/// A round step of time.
fn time_step(end: Duration, parts: u32) -> Duration {
    const MS: [u64; 20] = [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
        120_000, 300_000, 900_000, 3_600_000,
    ];
    MS.iter()
        .map(|ms| Duration::from_millis(*ms))
        .find(|step| *step * parts >= end)
        .unwrap_or_else(|| {
            let days = 1 + end.as_secs() / 86_400 / u64::from(parts);
            Duration::from_secs(days.saturating_mul(86_400))
        })
}

/// At most [`MAX_POINTS`] points, always including the last.
fn thin(points: &[(Duration, u64)]) -> impl Iterator<Item = &(Duration, u64)> {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = move |(n, _): &(usize, _)| n % every == 0 || *n == last;
    points.iter().enumerate().filter(kept).map(|(_, p)| p)
}

pub(super) fn draw(chart: &Chart) -> String {
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let end = points()
        .map(|p| p.0)
        .max()
        .unwrap_or_default()
        .max(chart.end);
    let end = end.max(Duration::from_millis(1));
    let most = points().map(|p| p.1).max().unwrap_or(0).max(1);
    let every = match chart.unit {
        Unit::PerMille if most <= 1_000 => 250,
        Unit::PerMille => step(most, 4, false),
        Unit::BytesPerSecond => step(most, 4, true),
        Unit::Count => step(most, 4, false),
    };
    let most = match chart.unit {
        Unit::PerMille => 1_000.max(most),
        _ => most.div_ceil(every).saturating_mul(every),
    };
    let x = |t: Duration| LEFT + (WIDTH - LEFT - RIGHT) * (t.as_secs_f64() / end.as_secs_f64());
    let y = |v: u64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (v as f64 / most as f64);
    let mut svg = Svg::new("chart", WIDTH, HEIGHT, &chart.title);
    for tick in (0..=8)
        .map(|n| every.saturating_mul(n))
        .take_while(|t| *t <= most)
    {
        svg.line("grid", (LEFT, y(tick)), (WIDTH - RIGHT, y(tick)));
        svg.text(
            "tick end",
            (LEFT - 8.0, y(tick) + 4.0),
            &value(chart.unit, tick),
        );
    }
    let every = time_step(end, 8);
    for t in (0..=8)
        .map(|n| every.saturating_mul(n))
        .take_while(|t| *t <= end)
    {
        svg.line(
            "axis",
            (x(t), HEIGHT - BOTTOM),
            (x(t), HEIGHT - BOTTOM + 5.0),
        );
        let label = if t.is_zero() {
            "0".into()
        } else {
            units::time(t)
        };
        svg.text("tick middle", (x(t), HEIGHT - BOTTOM + 19.0), &label);
    }
    svg.line(
        "axis",
        (LEFT, HEIGHT - BOTTOM),
        (WIDTH - RIGHT, HEIGHT - BOTTOM),
    );
    let many = chart.series.len() > MAX_COLOURS;
    let weak = chart.series.iter().enumerate().filter(|(_, s)| !s.strong);
    let strong = chart.series.iter().enumerate().filter(|(_, s)| s.strong);
    for (n, series) in weak.take(MAX_SERIES).chain(strong) {
        let class = match (series.strong, many) {
            (true, true) => "curve strong".into(),
            (true, false) => format!("curve strong s{}", n % MAX_COLOURS),
            (false, true) => "curve weak".into(),
            (false, false) => format!("curve s{}", n % MAX_COLOURS),
        };
        let mut path = String::new();
        for (i, (t, v)) in thin(&series.points).enumerate() {
            let command = if i == 0 { 'M' } else { 'L' };
            // Writing to a string cannot fail.
            let _ = write!(path, "{command}{:.1} {:.1}", x(*t), y(*v));
        }
        svg.raw(&format!(
            "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path>",
            escape(&series.name)
        ));
    }
    svg.end()
}

pub(super) fn legend(chart: &Chart) -> String {
    let many = chart.series.len() > MAX_COLOURS;
    let mut out = String::from("<ul class=\"legend\">");
    let mut item = |class: &str, name: &str| {
        out.push_str(&format!(
            "<li><span class=\"stroke {class}\"></span>{}</li>",
            short(name, 40)
        ));
    };
    if many {
        let weak = |s: &&Series| !s.strong;
        let n = chart.series.iter().filter(weak).count();
        item("weak", &format!("{n} hosts, one line each"));
        for s in chart.series.iter().filter(|s| s.strong) {
            item("strong", &s.name);
        }
    } else {
        for (n, s) in chart.series.iter().enumerate() {
            item(&format!("s{n}"), &s.name);
        }
    }
    out.push_str("</ul>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(step(1, 4, false), 1);
        assert_eq!(step(730, 4, false), 200);
        assert_eq!(step(3 << 20, 4, true), 1 << 20);
        assert_eq!(step(u64::MAX, 4, true), 1 << 62);
        assert_eq!(
            time_step(Duration::from_secs(60), 8),
            Duration::from_secs(10)
        );
        assert_eq!(
            time_step(Duration::from_secs(40 * 86_400), 8),
            Duration::from_secs(6 * 86_400)
        );
    }

    #[test]
    fn long_lines_are_thinned_to_their_ends() {
        let points: Vec<_> = (0..10_000).map(|n| (Duration::from_secs(n), n)).collect();
        let kept: Vec<_> = thin(&points).collect();
        assert!(kept.len() <= MAX_POINTS + 1);
        assert_eq!((kept[0].1, kept[kept.len() - 1].1), (0, 9_999));
    }
}
