use std::time::Duration;

use quickcheck::quickcheck;

use super::*;

/// A report with every part, whose names would do harm if they were not escaped.
fn sample(names: usize) -> Report {
    let hostile = "<script>alert(1)</script>\"'&";
    let ms = Duration::from_millis;
    let cell = |r: usize, c: usize| Cell {
        connected: u64::from(!(r * c).is_multiple_of(3)),
        runs: 1,
        expected: !(r * c).is_multiple_of(3) || (r, c) == (3, 4),
        median: (!(r * c).is_multiple_of(3)).then(|| ms(((r + c) * 40) as u64)),
        note: hostile.into(),
    };
    let hop = |from, to, rule: &str, dropped| Hop {
        from,
        to,
        label: "10.0.0.2:40000 → 203.0.113.7:40000".into(),
        rule: rule.into(),
        explain: hostile.into(),
        dropped,
    };
    let lifelines = ["alice", "home <A>", "core", "flat", hostile];
    Report {
        stuck: None,
        title: format!("two homes {hostile}"),
        about: hostile.into(),
        command: "dunlin-sim run two.toml --seed 1".into(),
        facts: vec![
            ("seed".into(), "1".into()),
            (hostile.into(), hostile.into()),
        ],
        notes: vec![hostile.into(), "The core adds no delay.".into()],
        outcomes: vec![
            Outcome {
                place: "line 12".into(),
                what: "alice and bob connect within 5 s".into(),
                held: true,
                why: "after 112 ms".into(),
            },
            Outcome {
                place: hostile.into(),
                what: hostile.into(),
                held: false,
                why: hostile.into(),
            },
        ],
        matrices: vec![Matrix {
            title: "UDP".into(),
            rows: Vec::new(),
            names: (0..names)
                .map(|n| format!("cgnat-kind-number-{n}"))
                .collect(),
            about: vec![hostile.into(); names],
            cells: (0..names)
                .map(|r| (0..names).map(|c| cell(r, c)).collect())
                .collect(),
        }],
        sequence: Some(Sequence {
            lifelines: lifelines
                .iter()
                .map(|n| Lifeline {
                    name: (*n).into(),
                    what: "linux".into(),
                })
                .collect(),
            steps: (0..6)
                .map(|n| Step {
                    at: ms(n * 300),
                    what: "UDP, 64 bytes".into(),
                    hops: if n % 2 == 0 {
                        vec![
                            hop(0, 1, "nat.new-mapping", false),
                            hop(1, 2, "link.carried", false),
                            hop(2, 3, "nat.filtered", true),
                        ]
                    } else {
                        vec![
                            hop(4, 3, "nat.mapped", false),
                            hop(3, 2, "link.carried", false),
                            hop(2, 1, "nat.mapped", false),
                            hop(1, 0, "host.delivered", false),
                        ]
                    },
                })
                .collect(),
            left_out: 7,
        }),
        charts: [3u64, 30]
            .map(|n| Chart {
                title: hostile.into(),
                unit: if n == 3 {
                    Unit::BytesPerSecond
                } else {
                    Unit::PerMille
                },
                series: (0..n)
                    .map(|s| Series {
                        name: if s == 0 {
                            "median".into()
                        } else {
                            format!("peer {s}")
                        },
                        strong: s == 0,
                        points: (0..=60u64)
                            .map(|t| {
                                (
                                    Duration::from_secs(t),
                                    if n == 3 {
                                        t * t * 1_000 * (s + 1)
                                    } else {
                                        (t * 1000 / (30 + s)).min(1000)
                                    },
                                )
                            })
                            .collect(),
                    })
                    .collect(),
                end: Duration::from_secs(60),
            })
            .into(),
        counters: vec![Counter {
            node: hostile.into(),
            rule: "nat.filtered".into(),
            explain: hostile.into(),
            packets: 1_234_567,
            drops: true,
        }],
    }
}

/// Checks that every tag is closed, that attributes are in quotes, and that there are no tags
/// besides those that this module writes.
fn is_well_formed(html: &str) -> Result<(), String> {
    const EMPTY: [&str; 4] = ["!doctype", "meta", "br", "wbr"];
    const KNOWN: [&str; 43] = [
        "html", "head", "title", "style", "body", "header", "h1", "h2", "h3", "p", "section", "dl",
        "div", "dt", "dd", "pre", "table", "tr", "th", "td", "code", "ul", "li", "span", "b",
        "svg", "text", "rect", "line", "path", "g", "defs", "marker", "footer", "circle", "a",
        "em", "i", "ol", "small", "strong", "thead", "tbody",
    ];
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').ok_or("a tag without an end")?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if tag.matches('"').count() % 2 == 1 {
            return Err(format!("odd quotes in <{tag}>"));
        }
        // The end of a cell can be left out (HTML §13.1.2.4).
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        if open.last().is_some_and(|o| o == "td") && (name == "td" || tag == "/tr") {
            open.pop();
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop().as_deref() != Some(name) {
                return Err(format!("</{name}> closes something else"));
            }
            continue;
        }
        if EMPTY.contains(&name) || tag.ends_with('/') {
            continue;
        }
        if !KNOWN.contains(&name) {
            return Err(format!("<{name}> is nothing that is written here"));
        }
        open.push(name.into());
    }
    if open.is_empty() {
        Ok(())
    } else {
        Err(format!("left open: {open:?}"))
    }
}

#[test]
fn the_page_is_well_formed_and_nothing_in_it_runs() {
    let html = sample(12).html();
    assert_eq!(is_well_formed(&html), Ok(()));
    assert!(!html.contains("<script"));
    for outside in ["http:", "https:", "url(h", "@import", "src=", "href="] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Failures are shown.
    assert!(html.contains("1 of 2 expectations failed"));
    assert!(html.contains("{background:var(--wrong);--m:\"!\""));
    assert!(html.contains("7 more packets are left out"));
    assert!(html.contains("The core adds no delay.</p>"));
}

#[test]
fn empty_and_odd_data_are_drawn() {
    assert_eq!(is_well_formed(&Report::default().html()), Ok(()));
    let mut odd = sample(1);
    odd.charts[0].series[0].points.clear();
    odd.charts[1].series[1].points = vec![(Duration::MAX, u64::MAX)];
    odd.matrices[0].cells = vec![Vec::new(), vec![Cell::default(); 5]];
    odd.sequence = Some(Sequence {
        lifelines: Vec::new(),
        steps: vec![Step {
            hops: vec![Hop {
                from: 9,
                ..Hop::default()
            }],
            ..Step::default()
        }],
        left_out: 0,
    });
    assert_eq!(is_well_formed(&odd.html()), Ok(()));
}

#[test]
fn a_run_that_ended_early_never_looks_well() {
    let report = Report {
        outcomes: vec![Outcome {
            held: true,
            ..Outcome::default()
        }],
        stuck: Some("no end <of it>".into()),
        ..Report::default()
    };
    let html = report.html();
    assert_eq!(is_well_formed(&html), Ok(()));
    assert!(html.contains("no end &lt;of it&gt;") && html.contains("badge no"));
    assert!(!html.contains("all expectations hold"));
}

#[test]
fn rows_may_be_others_than_columns() {
    let report = Report {
        matrices: vec![Matrix {
            title: "behind one box".into(),
            names: vec!["linux".into(), "pf".into()],
            rows: vec!["only row".into()],
            about: vec!["of linux".into(), "of pf".into()],
            cells: vec![vec![Cell::default(), Cell::default()]],
        }],
        ..Report::default()
    };
    let html = report.html();
    assert_eq!(is_well_formed(&html), Ok(()));
    assert!(html.contains("tbody tr:nth-child(1){--r:\"only row\";--t:\"only row\"}"));
    assert!(html.contains("thead th:hover:nth-child(3){--t:\"pf: of pf\"}"));
    assert!(html.contains("<th>only row</th><td><td>"));
}

/// A matrix of all kinds, for three attempts over two transports, is what people look at.
#[test]
fn a_large_report_is_below_a_megabyte() {
    const OF: usize = 110;
    let ms = Duration::from_millis;
    let cell = |n: usize| Cell {
        connected: u64::from(!n.is_multiple_of(3)),
        runs: 1,
        expected: !n.is_multiple_of(3),
        median: (!n.is_multiple_of(3)).then(|| ms(20 + (n % 40) as u64 * 7)),
        note: format!("reason number {}, in a sentence of some length", n % 15),
    };
    let names: Vec<String> = (0..OF).map(|n| format!("kind-number-{n}")).collect();
    let map = |title: usize| Matrix {
        title: title.to_string(),
        names: names.clone(),
        rows: Vec::new(),
        about: names
            .iter()
            .map(|n| format!("{n}, which is described at length"))
            .collect(),
        cells: (0..OF)
            .map(|r| (0..OF).map(|c| cell(r * 7 + c * 5 + title)).collect())
            .collect(),
    };
    let report = Report {
        matrices: (0..6).map(map).collect(),
        ..Report::default()
    };
    let html = report.html();
    assert_eq!(is_well_formed(&html), Ok(()));
    let cells = html.matches("<td").count();
    assert_eq!(cells, 6 * OF * OF);
    assert!(
        html.len() < 1_000_000 * cells / 56_000,
        "{} bytes",
        html.len()
    );
    // Nothing is lost: each result and name can be read at each cell.
    assert!(html.contains("--t:\"connects, after 34 ms\\a oracle: connects\\a reason number 2,"));
}

/// A word that is cut in the middle cannot be read, and neither can a column beyond the edge.
#[test]
fn tables_and_charts_are_whole() {
    let html = sample(2).html();
    assert!(html.contains("<td class=\"soft place\">line 12</td>"));
    assert!(html.contains("td.place { white-space: nowrap; }"));
    let table = html.find("th, td {").map(|at| &html[at..at + 200]);
    assert!(
        table.is_some_and(|t| !t.contains("overflow-wrap: anywhere")),
        "{table:?}"
    );
    // Each table and chart can be scrolled, and the chart shrinks to fit first.
    let wide = html.matches("<table").count() + html.matches("<svg").count();
    assert_eq!(wide, html.matches("<div class=\"scroll").count());
    assert!(html.contains("svg.sequence { max-width: 100%"));
    assert!(
        html.contains("svg.sequence{min-width:898px}"),
        "five lifelines"
    );
    // Two endpoints stand above an arrow where they fit, and on two lines where they do not.
    let mut report = sample(2);
    let one_line = "10.0.0.2:40000 → 203.0.113.7:40000</text>";
    assert!(html.contains(one_line));
    if let Some(sequence) = &mut report.sequence {
        sequence.steps[0].hops[0].label = "116.120.221.231:40000 → 84.158.55.122:3478".into();
    }
    let html = report.html();
    let halves = [
        ">116.120.221.231:40000</text>",
        ">→ 84.158.55.122:3478</text>",
    ];
    assert!(halves.iter().all(|half| html.contains(half)));
    assert!(!html.contains(one_line));
}

quickcheck! {
    fn any_text_is_text(text: String) -> Result<(), String> {
        let mut report = sample(2);
        report.title = text.clone();
        report.matrices[0].names[0] = text.clone();
        report.charts[0].series[0].name = text.clone();
        if let Some(s) = &mut report.sequence {
            s.lifelines[0].name = text;
        }
        is_well_formed(&report.html())
    }
}

/// Writes a page to look at: `REPORT_SAMPLE=/tmp/r.html cargo test -p dunlin-sim a_sample`.
#[test]
fn a_sample_can_be_looked_at() {
    let html = sample(40).html();
    assert!(html.len() > 10_000);
    if let Some(path) = std::env::var_os("REPORT_SAMPLE") {
        std::fs::write(path, html).expect("a place that can be written to");
    }
}
