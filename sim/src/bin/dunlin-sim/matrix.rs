//! The command `dunlin-sim matrix`.

use std::time::Duration;

use dunlin_sim::{
    BoxConfig,
    experiment::{
        matrix::{self, Kind, Matrix, Tried},
        oracle::{Attempt, Family, Meet, Transport},
    },
    middlebox::{firewall, nat},
    report::{Cell, Matrix as Map, Report, units},
    scenario,
};
use serde_json::{Value, json};

use crate::{
    args,
    exit::Exit,
    say::{Meter, say},
    shell, threads, write,
};

/// The most disagreements that are listed one by one.
const MAX_TOLD: usize = 50;

pub(crate) fn matrix(args: &args::Matrix) -> Result<Exit, String> {
    let family = match args.ip {
        args::Family::V4 => Family::V4,
        args::Family::V6 => Family::V6,
    };
    let kinds = chosen(args)?;
    let seeds: Vec<u64> = (1..=args.seeds).collect();
    let transports = match (args.udp, args.tcp) {
        (true, _) => &[Transport::Udp][..],
        (_, true) => &[Transport::Tcp],
        _ => &Transport::ALL,
    };
    let cells = kinds.len() * kinds.len() * 2;
    let meter = Meter::new("cells", cells as u64);
    let started = std::time::Instant::now();
    let m = matrix::run_on(threads(args.jobs), &kinds, family, &seeds, |p| {
        meter.step(|| match p.disagreeing {
            0 => "all agree with the oracle".into(),
            n => format!("{n} disagree with the oracle"),
        });
    });
    drop(meter);
    let took = started.elapsed();
    let of_interest = |t: Transport| transports.contains(&t);
    let wrong: Vec<_> = m
        .disagreements()
        .filter(|d| of_interest(d.transport))
        .collect();
    if let Some(path) = &args.report {
        write(path, report(&m, args, transports).html().as_bytes())?;
    }
    let shown = m.cells.iter().filter(|c| of_interest(c.transport));
    let count = shown.clone().count();
    if args.json {
        for cell in shown {
            if !say(&json_cell(&m, cell).to_string()) {
                return Ok(Exit::of(wrong.is_empty()));
            }
        }
        let summary = json!({
            "type": "summary",
            "types": m.kinds.len(),
            "cells": count,
            "seeds": seeds.len(),
            "worlds": m.runs(),
            "disagreements": wrong.len(),
            "hash": format!("{:016x}", m.hash()),
        });
        say(&summary.to_string());
        return Ok(Exit::of(wrong.is_empty()));
    }
    for d in wrong.iter().take(MAX_TOLD) {
        let oracle = match d.expected {
            Ok(()) => "that it connects".into(),
            Err(reason) => format!("that it does not: {reason}"),
        };
        let found = if d.connected {
            "connects"
        } else {
            "does not connect"
        };
        say(&format!(
            "{} × {}, {}, {}, {}, seed {}: {found}; the oracle says {oracle}",
            d.a,
            d.b,
            place(d.meet),
            d.transport.name(),
            d.attempt.name(),
            d.seed
        ));
    }
    say(&format!(
        "{} types, {} cells, {} worlds in {}: {}; hash {:016x}",
        m.kinds.len(),
        units::count(count as u64),
        units::count(m.runs() as u64),
        units::time(Duration::from_millis(
            u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
        )),
        match wrong.len() {
            0 => "all agree with the oracle".into(),
            n => format!("{n} runs disagree with the oracle"),
        },
        m.hash()
    ));
    Ok(Exit::of(wrong.is_empty()))
}

fn chosen(args: &args::Matrix) -> Result<Vec<Kind>, String> {
    let all = match args.ip {
        args::Family::V4 => matrix::kinds(),
        args::Family::V6 => matrix::kinds_v6(),
    };
    if args.types.is_empty() {
        return Ok(all);
    }
    let find = |name: &String| {
        let listed = all.iter().find(|k| k.name == *name).cloned();
        listed.or_else(|| preset(name)).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|k| k.name.as_str()).collect();
            let near = scenario::nearest_preset(name);
            let near = near.map_or(String::new(), |n| format!(" (did you mean `{n}`?)"));
            format!(
                "there is no type `{name}`{near}; there are {}, and every preset of a NAT or firewall",
                known.join(", ")
            )
        })
    };
    args.types.iter().map(find).collect()
}

/// A single NAT or firewall.
fn preset(name: &str) -> Option<Kind> {
    let mut config = BoxConfig::default();
    if let Ok(preset) = nat::presets::find(name) {
        config.nat = Some((preset.make)());
    } else {
        config.firewall = Some((firewall::presets::find(name)?.make)());
    }
    Some(Kind::new(name, vec![config]))
}

const fn place(meet: Meet) -> &'static str {
    match meet {
        Meet::Core => "over the internet",
        Meet::Box => "behind one box",
    }
}

fn json_cell(m: &Matrix, cell: &matrix::Cell) -> Value {
    let tried = cell.tried.iter().map(|t| {
        json!({
            "attempt": t.attempt.name(),
            "oracle": t.expected.is_ok(),
            "reason": t.expected.err().map(dunlin_sim::experiment::oracle::Reason::explain),
            "connected": t.runs.iter().filter(|r| r.connected).count(),
            "runs": t.runs.len(),
            "median_us": median(t).and_then(|d| u64::try_from(d.as_micros()).ok()),
        })
    });
    json!({
        "type": "cell",
        "a": m.kinds[cell.a],
        "b": m.kinds[cell.b],
        "meet": match cell.meet { Meet::Core => "core", Meet::Box => "box" },
        "transport": cell.transport.name(),
        "agrees": cell.agrees(),
        "tried": tried.collect::<Vec<_>>(),
    })
}

/// The median over the runs that connected.
fn median(tried: &Tried) -> Option<Duration> {
    let mut times: Vec<Duration> = tried.runs.iter().filter_map(|r| r.after).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn report(m: &Matrix, args: &args::Matrix, transports: &[Transport]) -> Report {
    let attempts: [(Attempt, &str); 3] = [
        (
            Attempt::Together,
            "both send at once, as a relay tells them (hole punching)",
        ),
        (Attempt::Dial, "the row dials, the column only listens"),
        (
            Attempt::First,
            "the row sends first, the column a while later",
        ),
    ];
    let maps = transports.iter().flat_map(|t| {
        attempts.iter().map(move |(attempt, what)| {
            let title = format!("{}: {what}", t.name().to_uppercase());
            map(m, *t, *attempt, title)
        })
    });
    let mut command = "dunlin-sim matrix".to_owned();
    if args.udp {
        command.push_str(" --udp");
    }
    if args.tcp {
        command.push_str(" --tcp");
    }
    if args.ip == args::Family::V6 {
        command.push_str(" --ip v6");
    }
    if !args.types.is_empty() {
        command.push_str(&format!(" --types {}", shell(&args.types.join(","))));
    }
    command.push_str(&format!(" --seeds {}", args.seeds));
    let fact = |name: &str, value: String| (name.to_owned(), value);
    Report {
        title: format!("{} types of NAT, each against each", m.kinds.len()),
        about: "Two hosts, each behind a box of its own, are introduced by a server. What the \
                simulator did stands beside what an oracle, which shares no code with it, says \
                from the boxes' properties alone."
            .into(),
        command,
        facts: vec![
            fact("types", m.kinds.len().to_string()),
            fact("seeds for each attempt", args.seeds.to_string()),
            fact("worlds run", units::count(m.runs() as u64)),
            fact("hash of all", format!("{:016x}", m.hash())),
        ],
        matrices: maps.chain(behind_one(m, transports)).collect(),
        ..Report::default()
    }
}

fn map(m: &Matrix, transport: Transport, attempt: Attempt, title: String) -> Map {
    let mut cells = vec![vec![Cell::default(); m.kinds.len()]; m.kinds.len()];
    for cell in &m.cells {
        if cell.transport != transport || cell.meet != Meet::Core {
            continue;
        }
        let Some(tried) = cell.of(attempt) else {
            continue;
        };
        cells[cell.a][cell.b] = shown(tried);
    }
    Map {
        title,
        about: m.kinds.iter().map(|k| matrix::about(k)).collect(),
        names: m.kinds.clone(),
        rows: Vec::new(),
        cells,
    }
}

/// The matrix of two hosts behind the same box: a column for each type, a row for each attempt.
fn behind_one(m: &Matrix, transports: &[Transport]) -> Option<Map> {
    let with_box = |n: &usize| {
        let mut cells = m.cells.iter();
        cells.any(|c| c.meet == Meet::Box && c.a == *n)
    };
    let columns: Vec<usize> = (0..m.kinds.len()).filter(with_box).collect();
    let (mut rows, mut cells) = (Vec::new(), Vec::new());
    for t in transports {
        for attempt in Attempt::ALL {
            rows.push(format!("{}, {}", t.name().to_uppercase(), attempt.name()));
            let cell = |n: &usize| {
                let cell = m.cell(*n, *n, Meet::Box, *t);
                cell.and_then(|c| c.of(attempt))
                    .map_or_else(Cell::default, shown)
            };
            cells.push(columns.iter().map(cell).collect());
        }
    }
    let names: Vec<String> = columns.iter().map(|n| m.kinds[*n].clone()).collect();
    (!names.is_empty()).then(|| Map {
        title: "Two hosts behind one and the same box (hairpin)".into(),
        about: names.iter().map(|k| matrix::about(k)).collect(),
        names,
        rows,
        cells,
    })
}

fn shown(tried: &Tried) -> Cell {
    Cell {
        connected: tried.runs.iter().filter(|r| r.connected).count() as u64,
        runs: tried.runs.len() as u64,
        expected: tried.expected.is_ok(),
        median: median(tried),
        note: tried
            .expected
            .err()
            .map_or(String::new(), |r| r.explain().into()),
    }
}
