//! The command `dunlin-sim merge`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use dunlin_sim::report::units;
use serde_json::{Value, json};

use crate::{args, exit::Exit, say::say};

/// The most seeds that a message lists.
const MAX_NAMED: usize = 20;
/// The longest range of seeds that can be joined.
const MAX_SEEDS: u64 = 100_000_000;

/// What all shards must have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sweep {
    scenario: String,
    sum: String,
    first: u64,
    end: u64,
    of: u64,
}

/// The result of a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seed {
    trace: String,
    held: bool,
    failed: Vec<String>,
}

/// Everything that was read.
#[derive(Debug, Default)]
struct Joined {
    sweep: Option<Sweep>,
    shards: BTreeMap<u64, u64>,
    seeds: BTreeMap<u64, Seed>,
    duplicates: BTreeSet<u64>,
    contradictions: BTreeSet<u64>,
}

pub(crate) fn merge(args: &args::Merge) -> Result<Exit, String> {
    let mut joined = Joined::default();
    for path in &args.files {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        joined.read(path, &text)?;
    }
    joined.report()
}

impl Joined {
    fn read(&mut self, path: &Path, text: &str) -> Result<(), String> {
        let mut headed = false;
        for (n, line) in text
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim().is_empty())
        {
            let wrong = |what: &str| format!("{}:{}: {what}", path.display(), n + 1);
            let value: Value = serde_json::from_str(line)
                .map_err(|e| wrong(&format!("not a line of a sweep: {e}")))?;
            let part = match value["type"].as_str() {
                Some("sweep") => {
                    headed = true;
                    self.head(&value)
                }
                Some("seed") if headed => self.seed(&value),
                Some("seed") => Err("a seed before the line that says what was swept".into()),
                _ => Err("not a line of a sweep".into()),
            };
            part.map_err(|what| wrong(&what))?;
        }
        if !headed {
            return Err(format!("{}: nothing of a sweep in it", path.display()));
        }
        Ok(())
    }

    fn head(&mut self, v: &Value) -> Result<(), String> {
        let number = |key: &str| {
            v[key]
                .as_u64()
                .ok_or_else(|| format!("`{key}` is not a number"))
        };
        let text = |key: &str| {
            v[key]
                .as_str()
                .map(str::to_owned)
                .ok_or_else(|| format!("`{key}` is not text"))
        };
        let sweep = Sweep {
            scenario: text("scenario")?,
            sum: text("sum")?,
            first: number("first")?,
            end: number("end")?,
            of: number("of")?,
        };
        let shard = number("shard")?;
        if sweep.end.saturating_sub(sweep.first) > MAX_SEEDS || shard == 0 || shard > sweep.of {
            return Err("no sweep has these bounds".into());
        }
        match &self.sweep {
            None => self.sweep = Some(sweep),
            Some(other) if *other == sweep => {}
            Some(other) if other.sum != sweep.sum => {
                return Err(
                    "this is a sweep of another scenario, or of another version of it".into(),
                );
            }
            Some(_) => return Err("this is a sweep of other seeds, or in other shards".into()),
        }
        *self.shards.entry(shard).or_default() += 1;
        Ok(())
    }

    fn seed(&mut self, v: &Value) -> Result<(), String> {
        let seed = v["seed"].as_u64().ok_or("`seed` is not a number")?;
        let failed = v["failed"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let outcome = Seed {
            trace: v["trace"].as_str().ok_or("`trace` is not text")?.into(),
            held: v["held"]
                .as_bool()
                .ok_or("`held` is neither true nor false")?,
            failed: failed
                .iter()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
        };
        if let Some(before) = self.seeds.insert(seed, outcome.clone()) {
            self.duplicates.insert(seed);
            if before != outcome {
                self.contradictions.insert(seed);
            }
        }
        Ok(())
    }

    fn report(&self) -> Result<Exit, String> {
        let sweep = self.sweep.as_ref().ok_or("nothing of a sweep")?;
        let all = sweep.first..sweep.end;
        let missing: Vec<u64> = all
            .clone()
            .filter(|s| !self.seeds.contains_key(s))
            .collect();
        let strange: Vec<u64> = self
            .seeds
            .keys()
            .copied()
            .filter(|s| !all.contains(s))
            .collect();
        let missing_shards: Vec<u64> = (1..=sweep.of)
            .filter(|n| !self.shards.contains_key(n))
            .collect();
        let twice: Vec<u64> = self
            .shards
            .iter()
            .filter(|(_, n)| **n > 1)
            .map(|(s, _)| *s)
            .collect();
        let duplicates: Vec<u64> = self.duplicates.iter().copied().collect();
        let contradictions: Vec<u64> = self.contradictions.iter().copied().collect();
        let failed: Vec<u64> = self
            .seeds
            .iter()
            .filter(|(_, s)| !s.held)
            .map(|(n, _)| *n)
            .collect();
        let complete = missing.is_empty()
            && strange.is_empty()
            && missing_shards.is_empty()
            && contradictions.is_empty();
        for seed in &failed {
            if let Some(s) = self.seeds.get(seed) {
                let line = json!({ "type": "seed", "seed": seed, "trace": s.trace, "held": false, "failed": s.failed });
                if !say(&line.to_string()) {
                    return Ok(Exit::of(false));
                }
            }
        }
        let summary = json!({
            "type": "summary",
            "scenario": sweep.scenario,
            "sum": sweep.sum,
            "first": sweep.first,
            "end": sweep.end,
            "seeds": self.seeds.len(),
            "failed": failed.len(),
            "complete": complete,
            "missing": missing.len(),
            "missing_shards": missing_shards,
            "shards_twice": twice,
            "duplicates": duplicates.len(),
            "contradictions": contradictions,
        });
        say(&summary.to_string());
        let notes = [
            (&missing, "missing"),
            (&missing_shards, "whole shards missing"),
            (&twice, "shards there twice"),
            (&duplicates, "seeds there twice"),
            (
                &contradictions,
                "seeds with different results: the same seed must give the same",
            ),
            (&strange, "seeds out of the range"),
        ];
        for (list, what) in notes.iter().filter(|(list, _)| !list.is_empty()) {
            crate::say::complain(&format!("{what}: {}", named(list)));
        }
        Ok(Exit::of(complete && failed.is_empty()))
    }
}

fn named(list: &[u64]) -> String {
    let first: Vec<String> = list.iter().take(MAX_NAMED).map(u64::to_string).collect();
    match list.len() {
        n if n > MAX_NAMED => {
            let more = units::count((n - MAX_NAMED) as u64);
            format!("{} and {more} more", first.join(", "))
        }
        _ => first.join(", "),
    }
}
