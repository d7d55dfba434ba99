//! The HTML page.

use super::{Report, chart, matrix, sequence, svg::escape};
use crate::report::units;

const STYLE: &str = include_str!("style.css");

impl Report {
    /// The whole file.
    #[must_use]
    pub fn html(&self) -> String {
        let sheet = matrix::Sheet::of(&self.matrices);
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <title>{}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n",
            escape(&self.title),
            sheet.css()
        );
        self.head(&mut out);
        self.outcomes(&mut out);
        for m in &self.matrices {
            out.push_str(&format!(
                "<section class=\"wide\">\n<h2>{}</h2>\n<p class=\"soft\">Point at a cell or a name for more.</p>\n{}<div class=\"scroll map\">\n{}</div>\n</section>\n",
                escape(&m.title),
                matrix::legend(m),
                sheet.draw(m)
            ));
        }
        if !self.charts.is_empty() {
            out.push_str("<section>\n<h2>Over time</h2>\n<div class=\"charts\">\n");
            for c in &self.charts {
                out.push_str(&format!(
                    "<div>\n<h3>{}</h3>\n<div class=\"scroll\">\n{}</div>\n{}</div>\n",
                    escape(&c.title),
                    chart::draw(c),
                    chart::legend(c)
                ));
            }
            out.push_str("</div>\n</section>\n");
        }
        self.counters(&mut out);
        if let Some(s) = self.sequence.as_ref().filter(|s| !s.steps.is_empty()) {
            out.push_str(&format!(
                "<section>\n<h2>Packet by packet</h2>\n<p class=\"soft\">Above each arrow the \
                 endpoints as they are on that stretch, below it the rule that the packet met. A \
                 cross is the end of a packet.</p>\n<div class=\"scroll\">\n{}</div>\n",
                sequence::draw(s)
            ));
            let undrawn = s.steps.len().saturating_sub(super::MAX_STEPS) as u64;
            let left_out = s.left_out + undrawn;
            if left_out > 0 {
                let more = units::count(left_out);
                out.push_str(&format!(
                    "<p class=\"soft\">{more} more packets are left out.</p>\n"
                ));
            }
            out.push_str("</section>\n");
        }
        out.push_str("<footer>Made by dunlin-sim. Nothing in this file is fetched from elsewhere.</footer>\n</body>\n</html>\n");
        out
    }

    fn head(&self, out: &mut String) {
        out.push_str(&format!("<header>\n<h1>{}</h1>\n", escape(&self.title)));
        if !self.about.is_empty() {
            out.push_str(&format!("<p>{}</p>\n", escape(&self.about)));
        }
        out.push_str("</header>\n<section>\n<h2>Summary ");
        let failed = self.outcomes.iter().filter(|o| !o.held).count();
        let cells = || self.matrices.iter().flat_map(|m| m.cells.iter().flatten());
        let wrong = cells().filter(|c| c.runs > 0 && !c.agrees()).count();
        let verdict = match (failed, wrong) {
            _ if self.stuck.is_some() => Some(("no", "the run ended early".into())),
            (0, 0) if !self.outcomes.is_empty() => Some(("ok", "all expectations hold".into())),
            (0, 0) if !self.matrices.is_empty() => {
                let n = units::count(cells().filter(|c| c.runs > 0).count() as u64);
                Some(("ok", format!("all {n} attempts agree with the oracle")))
            }
            (0, 0) => None,
            (0, n) => Some(("no", format!("{n} attempts disagree with the oracle"))),
            (n, _) => Some((
                "no",
                format!("{n} of {} expectations failed", self.outcomes.len()),
            )),
        };
        if let Some((class, text)) = verdict {
            out.push_str(&format!("<span class=\"badge {class}\">{text}</span>"));
        }
        out.push_str("</h2>\n<dl class=\"facts\">\n");
        for (name, value) in &self.facts {
            out.push_str(&format!(
                "<div><dt>{}</dt><dd>{}</dd></div>\n",
                escape(name),
                escape(value)
            ));
        }
        out.push_str("</dl>\n");
        if !self.notes.is_empty() {
            let notes = escape(&self.notes.join(" "));
            out.push_str(&format!("<p class=\"soft notes\">{notes}</p>\n"));
        }
        if let Some(stuck) = &self.stuck {
            out.push_str(&format!(
                "<p class=\"stuck\">The run ended early: {}</p>\n",
                escape(stuck)
            ));
        }
        if !self.command.is_empty() {
            out.push_str(&format!("<pre>{}</pre>\n", escape(&self.command)));
        }
        out.push_str("</section>\n");
    }

    fn outcomes(&self, out: &mut String) {
        if self.outcomes.is_empty() {
            return;
        }
        out.push_str(
            "<section>\n<h2>Expectations</h2>\n<div class=\"scroll\">\n<table>\n<tr><th></th><th>expected</th><th>seen</th><th>where</th></tr>\n",
        );
        for o in &self.outcomes {
            let (class, state) = if o.held {
                ("ok", "✓ holds")
            } else {
                ("no", "✗ fails")
            };
            out.push_str(&format!(
                "<tr class=\"{class}\"><td class=\"state\">{state}</td><td>{}</td><td>{}</td><td class=\"soft place\">{}</td></tr>\n",
                escape(&units::unbroken(&o.what)),
                escape(&units::unbroken(&o.why)),
                escape(&o.place)
            ));
        }
        out.push_str("</table>\n</div>\n</section>\n");
    }

    fn counters(&self, out: &mut String) {
        if self.counters.is_empty() {
            return;
        }
        out.push_str(
            "<section>\n<h2>Counters</h2>\n<div class=\"scroll\">\n<table>\n<tr><th>where</th><th>rule</th><th>what it means</th><th class=\"num\">packets</th></tr>\n",
        );
        let mut last = None;
        for c in &self.counters {
            // The name is written once, before its first rule.
            let node = if last == Some(&c.node) { "" } else { &c.node };
            last = Some(&c.node);
            let class = if c.drops { " class=\"drop\"" } else { "" };
            out.push_str(&format!(
                "<tr{class}><td class=\"place\">{}</td><td><code>{}</code></td><td class=\"soft\">{}</td><td class=\"num\">{}</td></tr>\n",
                escape(node),
                // A line may end after the dot.
                escape(&c.rule).replace('.', ".<wbr>"),
                escape(&c.explain),
                units::count(c.packets)
            ));
        }
        out.push_str("</table>\n</div>\n</section>\n");
    }
}
