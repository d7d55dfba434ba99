//! The sequence chart: one row for each packet, from lifeline to lifeline.

use super::{Hop, Lifeline, MAX_STEPS, Sequence, svg::Svg, svg::escape, svg::short};
use crate::report::units;

const LEFT: f64 = 72.0;
const HEAD: f64 = 58.0;
const ROW: f64 = 46.0;
/// The height of a row in which the two endpoints are on separate lines.
const TALL_ROW: f64 = 60.0;
/// With more lifelines than this, lifelines are closer together.
const CROWDED: usize = 5;
/// The smallest scale at which the letters can be read.
const LEAST: f64 = 0.8;
/// The characters that fit above an arrow.
const MAX_LABEL: usize = 38;
/// The characters of one endpoint that fit above an arrow.
const MAX_HALF: usize = 31;

/// The position of a lifeline. Five fit a page at full width; more are closer together.
fn x(lifeline: usize, of: usize) -> f64 {
    let column = if of > CROWDED { 177.0 } else { 224.0 };
    LEFT + 70.0 + lifeline as f64 * column
}

fn heads(svg: &mut Svg, lifelines: &[Lifeline], bottom: f64) {
    let of = lifelines.len();
    for (n, lifeline) in lifelines.iter().enumerate() {
        svg.line("life", (x(n, of), HEAD), (x(n, of), bottom));
        svg.rect(
            "head",
            (x(n, of) - 66.0, 8.0),
            (132.0, HEAD - 14.0),
            &lifeline.name,
        );
        svg.text("headname", (x(n, of), 27.0), &short(&lifeline.name, 17));
        svg.text("headwhat", (x(n, of), 43.0), &short(&lifeline.what, 20));
    }
}

pub(super) fn draw(sequence: &Sequence) -> String {
    let steps = &sequence.steps[..sequence.steps.len().min(MAX_STEPS)];
    let of = sequence.lifelines.len();
    let width = x(of.saturating_sub(1), of) + 84.0;
    // Two endpoints that do not fit above an arrow are on separate lines, in every row.
    let is_long = |hop: &Hop| hop.label.chars().count() > MAX_LABEL;
    let split = of > CROWDED || steps.iter().flat_map(|s| &s.hops).any(is_long);
    let row = if split { TALL_ROW } else { ROW };
    let height = HEAD + 16.0 + steps.len() as f64 * row + 8.0;
    let mut svg = Svg::new("sequence", width, height, "Sequence chart");
    // It shrinks a little where that makes it fit; in a narrower window it is scrolled.
    svg.raw(&format!(
        "<style>svg.sequence{{min-width:{:.0}px}}</style>",
        width * LEAST
    ));
    svg.raw(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/>\
         </marker></defs>",
    );
    heads(&mut svg, &sequence.lifelines, height - 6.0);
    for (n, step) in steps.iter().enumerate() {
        let y = HEAD + row - 14.0 + n as f64 * row;
        svg.text("time end", (LEFT - 12.0, y + 4.0), &units::time(step.at));
        for hop in &step.hops {
            let last = sequence.lifelines.len().saturating_sub(1);
            let (from, to) = (x(hop.from.min(last), of), x(hop.to.min(last), of));
            let way = if to >= from { 1.0 } else { -1.0 };
            let class = if hop.dropped { "hop lost" } else { "hop" };
            // The arrow of a packet that is dropped ends before the lifeline, at a cross.
            let end = if hop.dropped {
                to - way * 16.0
            } else {
                to - way * 3.0
            };
            let tip = format!(
                "{}\n{}\n{}: {}",
                units::time(step.at),
                if hop.label.is_empty() {
                    &step.what
                } else {
                    &hop.label
                },
                hop.rule,
                hop.explain
            );
            let marker = if hop.dropped {
                ""
            } else {
                " marker-end=\"url(#arrow)\""
            };
            svg.raw(&format!(
                "<g><title>{}</title><line class=\"{class}\" x1=\"{:.1}\" y1=\"{y:.1}\" \
                 x2=\"{end:.1}\" y2=\"{y:.1}\"{marker}/>",
                escape(&format!("{}\n{tip}", step.what)),
                from + way * 3.0,
            ));
            if hop.dropped {
                svg.raw(&format!(
                    "<path class=\"cross\" d=\"M{:.1} {:.1}l10 10m0 -10l-10 10\"/>",
                    end - 5.0,
                    y - 5.0
                ));
            }
            let middle = (from + to) / 2.0;
            match hop.label.split_once(" → ").filter(|_| split) {
                Some((src, dst)) => {
                    let dst = format!("→ {dst}");
                    svg.text("label", (middle, y - 18.0), &short(src, MAX_HALF));
                    svg.text("label", (middle, y - 7.0), &short(&dst, MAX_HALF));
                }
                None => svg.text("label", (middle, y - 7.0), &short(&hop.label, MAX_LABEL)),
            }
            let rule = if hop.dropped { "rule lost" } else { "rule" };
            svg.text(rule, (middle, y + 14.0), &short(&hop.rule, 30));
            svg.raw("</g>");
        }
    }
    svg.end()
}
