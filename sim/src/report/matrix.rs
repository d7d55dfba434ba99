//! The matrix as a heat map: a table whose cells say with one class each what there is to say.
//!
//! A matrix of a hundred kinds has ten thousand cells and a few dozen different results. Each
//! result is written once, as a rule of the style sheet that has its colour and its text, and so is
//! each name. Pointing at a cell puts the texts together at the lower edge of the window.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use super::{Cell, Matrix, svg::escape, svg::is_hostile, svg::short};
use crate::report::units;

/// The most characters of a name beside a row.
const MAX_NAME: usize = 26;
/// The upper bounds of the colour steps for the time to connect, in milliseconds.
const STEPS: [u128; 4] = [50, 100, 250, 1_000];

/// With more columns than this, the letters are small.
const DENSE: usize = 64;

/// The name of the colour of a cell.
fn colour(cell: &Cell) -> &'static str {
    if cell.runs == 0 {
        return "none";
    }
    if !cell.agrees() {
        return "wrong";
    }
    if !cell.expected {
        return "no";
    }
    let ms = cell.median.map_or(0, |m| m.as_millis());
    match STEPS.iter().take_while(|end| ms >= **end).count() {
        0 => "yes0",
        1 => "yes1",
        2 => "yes2",
        3 => "yes3",
        _ => "yes4",
    }
}

/// The result of a cell in words.
fn told(cell: &Cell) -> String {
    let mut text = match (cell.runs, cell.connected) {
        (0, _) => "not run".into(),
        (1, 0) => "does not connect".into(),
        (1, _) => "connects".into(),
        (runs, n) => format!("connects in {n} of {runs} runs"),
    };
    if let Some(median) = cell.median {
        text.push_str(&format!(", after {}", units::time(median)));
    }
    let says = if cell.expected {
        "connects"
    } else {
        "does not connect"
    };
    if cell.runs > 0 {
        text.push_str(&format!("\noracle: {says}"));
    }
    if !cell.note.is_empty() {
        text.push_str(&format!("\n{}", cell.note));
    }
    text
}

fn rows(matrix: &Matrix) -> &[String] {
    if matrix.rows.is_empty() {
        &matrix.names
    } else {
        &matrix.rows
    }
}

/// A text as a string of CSS that can stand within a `style` element.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' | '<' | '>' | '&' | '\n' => write!(f, "\\{:x} ", u32::from(c))?,
                c if is_hostile(c) => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// The style sheet that the matrices of a report share.
pub(super) struct Sheet<'a> {
    /// The names of columns and rows that occur, with what is said about them.
    names: Vec<(&'a [String], &'a [String], &'a [String])>,
    /// The number of each result, by colour and words. The most frequent is number 0.
    results: BTreeMap<(&'static str, String), usize>,
}

impl<'a> Sheet<'a> {
    pub(super) fn of(matrices: &'a [Matrix]) -> Self {
        let mut names = Vec::new();
        let mut counts: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
        for m in matrices {
            let own = (m.names.as_slice(), rows(m), m.about.as_slice());
            if !names.contains(&own) {
                names.push(own);
            }
            for cell in m.cells.iter().flatten() {
                *counts.entry((colour(cell), told(cell))).or_default() += 1;
            }
        }
        let mut sorted: Vec<_> = counts.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let numbered = sorted.into_iter().enumerate();
        Self {
            names,
            results: numbered.map(|(n, (result, _))| (result, n)).collect(),
        }
    }

    /// The rules of the style sheet.
    pub(super) fn css(&self) -> String {
        let mut out = String::new();
        for ((colour, told), n) in &self.results {
            let class = if *n == 0 {
                String::new()
            } else {
                format!(".c{n}")
            };
            // A mark that always stands in the cell, and one for large cells only.
            let (mark, large) = match *colour {
                "no" => ("", "×"),
                "wrong" => ("!", ""),
                _ => ("", ""),
            };
            let fill = match *colour {
                "none" => "transparent".into(),
                colour => format!("var(--{colour})"),
            };
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(
                out,
                ".matrix td{class}{{background:{fill};--m:\"{mark}\";--x:\"{large}\";--t:{}}}",
                Quoted(told)
            );
        }
        for (n, (columns, rows, about)) in self.names.iter().enumerate() {
            let tip = |i: usize, name: &str| match about.get(i).map_or("", String::as_str) {
                "" => name.to_owned(),
                about => format!("{name}: {about}"),
            };
            for (i, name) in columns.iter().enumerate() {
                let place = i + 2;
                let _ = writeln!(
                    out,
                    ".n{n} td:hover:nth-child({place}){{--c:{}}}\n\
                     .n{n} thead th:hover:nth-child({place}){{--t:{}}}",
                    Quoted(name),
                    Quoted(&tip(i, name))
                );
            }
            for (i, name) in rows.iter().enumerate() {
                // What is said is about the columns, which may be the rows as well.
                let tip = if columns == rows {
                    tip(i, name)
                } else {
                    name.clone()
                };
                let _ = writeln!(
                    out,
                    ".n{n} tbody tr:nth-child({}){{--r:{};--t:{}}}",
                    i + 1,
                    Quoted(name),
                    Quoted(&tip)
                );
            }
        }
        out
    }

    pub(super) fn draw(&self, matrix: &Matrix) -> String {
        let of = matrix.names.len();
        let side = match of {
            0..=12 => 30,
            13..=24 => 24,
            25..=48 => 18,
            49..=64 => 14,
            _ => 9,
        };
        let own = (
            matrix.names.as_slice(),
            rows(matrix),
            matrix.about.as_slice(),
        );
        let n = self.names.iter().position(|n| *n == own).unwrap_or(0);
        let dense = if of > DENSE { " dense" } else { "" };
        let mut out = format!(
            "<table class=\"matrix{dense} n{n}\" style=\"--s:{side}px\" role=\"img\" aria-label=\"{}\">\n\
             <thead><tr><th></th>",
            escape(&matrix.title)
        );
        for name in &matrix.names {
            let _ = write!(out, "<th><span>{}</span></th>", short(name, MAX_NAME));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for (r, name) in rows(matrix).iter().enumerate() {
            let _ = write!(out, "<tr><th>{}</th>", short(name, MAX_NAME));
            let cells = matrix.cells.get(r).map_or(&[][..], Vec::as_slice);
            for cell in cells.iter().take(of) {
                // The end tag of a cell can be left out.
                match self.results.get(&(colour(cell), told(cell))) {
                    Some(0) | None => out.push_str("<td>"),
                    Some(n) => {
                        let _ = write!(out, "<td class=c{n}>");
                    }
                }
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table>\n");
        out
    }
}

/// The meaning of the colours, and the number of cells of each.
pub(super) fn legend(matrix: &Matrix) -> String {
    let cells = || matrix.cells.iter().flatten();
    let mut out = String::from("<ul class=\"legend\">");
    let mut item = |class: &str, mark: &str, text: &str| {
        let n = cells().filter(|c| colour(c) == class).count();
        if n > 0 {
            out.push_str(&format!(
                "<li><span class=\"swatch {class}\">{mark}</span>{text} <b>{n}</b></li>"
            ));
        }
    };
    item("yes0", "", "connects within 50 ms");
    item("yes1", "", "connects within 100 ms");
    item("yes2", "", "connects within 250 ms");
    item("yes3", "", "connects within 1 s");
    item("yes4", "", "connects later");
    let mark = if matrix.names.len() > DENSE { "" } else { "×" };
    item("no", mark, "does not connect, as the oracle says");
    item("wrong", "!", "oracle and simulation disagree");
    item("none", "", "not run");
    out.push_str("</ul>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_its_string() {
        let hostile = Quoted("a\"}</style>\\\n\u{7}b").to_string();
        assert_eq!(hostile, "\"a\\22 }\\3c /style\\3e \\5c \\a \u{fffd}b\"");
    }
}
