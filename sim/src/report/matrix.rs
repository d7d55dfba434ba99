//! The matrix as a heat map.

use super::{Cell, Matrix, svg::Svg, svg::escape, svg::short};
use crate::report::units;

/// The most characters of a name beside a row.
const MAX_NAME: usize = 26;
/// The upper bounds of the colour steps for the time to connect, in milliseconds.
const STEPS: [u128; 4] = [50, 100, 250, 1_000];

/// With more columns than this, the letters are small.
const DENSE: usize = 64;

/// The class that colours a cell.
fn class(cell: &Cell) -> String {
    if cell.runs == 0 {
        return "cell none".into();
    }
    if !cell.agrees() {
        return "cell wrong".into();
    }
    if !cell.expected {
        return "cell no".into();
    }
    let ms = cell.median.map_or(0, |m| m.as_millis());
    let step = STEPS.iter().take_while(|end| ms >= **end).count();
    format!("cell yes{step}")
}

fn tip(matrix: &Matrix, row: usize, column: usize, cell: &Cell) -> String {
    let name = |of: &[String], n: usize| of.get(n).map_or(String::new(), Clone::clone);
    let (row, column) = (name(rows(matrix), row), name(&matrix.names, column));
    let mut text = format!("{row} × {column}\n");
    text.push_str(&match (cell.runs, cell.connected) {
        (0, _) => "not run".into(),
        (1, 0) => "does not connect".into(),
        (1, _) => "connects".into(),
        (runs, n) => format!("connects in {n} of {runs} runs"),
    });
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

pub(super) fn draw(matrix: &Matrix) -> String {
    let n = matrix.names.len();
    let side: f64 = match n {
        0..=12 => 30.0,
        13..=24 => 24.0,
        25..=48 => 18.0,
        49..=64 => 14.0,
        _ => 10.0,
    };
    let dense = n > DENSE;
    let letter = if dense { 5.2 } else { 7.2 };
    let letters = |names: &[String]| {
        let longest = names.iter().map(|s| s.chars().count()).max();
        longest.unwrap_or(0).min(MAX_NAME) as f64
    };
    let left = 14.0 + letters(rows(matrix)) * letter;
    let letters = letters(&matrix.names);
    // The names of columns rise at 50°.
    let top = 24.0 + letters * letter * 0.8;
    let right = letters * letter * 0.66 + 8.0;
    let (width, height) = (
        left + n as f64 * side + right,
        top + rows(matrix).len() as f64 * side + 10.0,
    );
    let mut svg = Svg::new(
        if dense { "matrix dense" } else { "matrix" },
        width,
        height,
        &matrix.title,
    );
    let label = |i: usize, name: &str, about: Option<&String>| {
        let tip = match about.map_or("", String::as_str) {
            "" => String::new(),
            about => format!("<title>{}: {}</title>", escape(name), escape(about)),
        };
        let middle = (i as f64 + 0.5) * side;
        (middle, format!("{}{tip}", short(name, MAX_NAME)))
    };
    for (i, name) in matrix.names.iter().enumerate() {
        let (middle, name) = label(i, name, matrix.about.get(i));
        let (x, y) = (left + middle + 2.0, top - 8.0);
        svg.raw(&format!(
            "<text class=\"name\" transform=\"translate({x:.1} {y:.1}) rotate(-50)\">{name}</text>"
        ));
    }
    for (i, name) in rows(matrix).iter().enumerate() {
        let about = matrix.about.get(i).filter(|_| matrix.rows.is_empty());
        let (middle, name) = label(i, name, about);
        svg.raw(&format!(
            "<text class=\"name end\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
            left - 8.0,
            top + middle + 4.0
        ));
    }
    for (r, row) in matrix.cells.iter().enumerate() {
        for (c, cell) in row.iter().enumerate().take(n) {
            let (x, y) = (left + c as f64 * side, top + r as f64 * side);
            let size = (side - 1.5, side - 1.5);
            svg.rect(&class(cell), (x, y), size, &tip(matrix, r, c, cell));
            let mark = match (cell.runs, cell.agrees(), cell.expected) {
                (0, ..) => continue,
                (_, false, _) => "!",
                // In a large matrix, the colour alone says it.
                (_, true, false) if dense => continue,
                (_, true, false) => "×",
                (_, true, true) => continue,
            };
            let middle = (x + (side - 1.5) / 2.0, y + side / 2.0 + 3.6);
            svg.text(if mark == "!" { "mark bad" } else { "mark" }, middle, mark);
        }
    }
    svg.end()
}

/// The meaning of the colours, and the number of cells of each.
pub(super) fn legend(matrix: &Matrix) -> String {
    let cells = || matrix.cells.iter().flatten();
    let mut out = String::from("<ul class=\"legend\">");
    let mut item = |class: &str, mark: &str, text: &str| {
        let n = cells()
            .filter(|c| self::class(c) == format!("cell {class}"))
            .count();
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
