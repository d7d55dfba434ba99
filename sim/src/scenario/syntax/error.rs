//! Errors in scenario files: what is invalid, where, and what would be valid.

use std::{
    fmt::{self, Write},
    ops::Range,
};

/// The characters shown of the line with the error. Longer lines are cut around it.
const MAX_SHOWN: usize = 100;

/// The most errors of a file that are told.
const MAX_ERRORS: usize = 100;

/// Everything that is wrong with a scenario, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioErrors {
    /// At least one error.
    errors: Vec<ScenarioError>,
    /// Reading ended before the end of the file.
    more: bool,
}

impl ScenarioErrors {
    /// The errors, of which there is at least one.
    pub fn iter(&self) -> impl Iterator<Item = &ScenarioError> {
        self.errors.iter()
    }
}

impl From<ScenarioError> for ScenarioErrors {
    fn from(error: ScenarioError) -> Self {
        Self {
            errors: vec![error],
            more: false,
        }
    }
}

impl fmt::Display for ScenarioErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_char('\n')?;
            }
            error.fmt(f)?;
        }
        if self.more {
            write!(f, "\nthe first {MAX_ERRORS} errors are told")?;
        }
        Ok(())
    }
}

impl std::error::Error for ScenarioErrors {}

/// The errors found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    all: Vec<ScenarioError>,
    /// One error is enough for each place of the file, because one table stands for many.
    once: bool,
}

impl Errors {
    /// The value; notes the error instead if there is one.
    pub(crate) fn keep<T>(&mut self, result: Result<T, ScenarioError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let place = |e: &ScenarioError| (e.line, e.column);
                let again = self.once && self.all.iter().any(|e| place(e) == place(&error));
                // One more than is told, so that it is known that there are more.
                if !again && self.all.len() <= MAX_ERRORS {
                    self.all.push(error);
                }
                None
            }
        }
    }

    /// Tells one error for each place from now on.
    pub(crate) const fn once_for_each_place(&mut self) {
        self.once = true;
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns `true` when no more errors are told.
    pub(crate) fn is_full(&self) -> bool {
        self.all.len() > MAX_ERRORS
    }

    /// The value if no error was found.
    pub(crate) fn or<T>(mut self, value: T) -> Result<T, ScenarioErrors> {
        if self.all.is_empty() {
            return Ok(value);
        }
        let more = self.is_full();
        self.all.truncate(MAX_ERRORS);
        self.all.sort_by_key(|e| (e.line, e.column));
        self.all.dedup();
        Err(ScenarioErrors {
            errors: self.all,
            more,
        })
    }
}

/// An error in a scenario.
///
/// ```text
/// home.toml:7:1: `maping` is not a key of [[router]]
///   7 | maping = "EIM"
///     | ^^^^^^ did you mean `mapping`?
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The name of the file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    /// What is invalid.
    pub message: String,
    /// What would be valid.
    pub help: String,
    /// The line in printable characters, cut if it is long.
    shown: Box<str>,
    /// The column of the marks below it, and their number.
    marks: (usize, usize),
}

impl ScenarioError {
    /// An error about the bytes `at` of `text`.
    pub(crate) fn new(
        file: &str,
        text: &str,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let floor = |mut n: usize| {
            n = n.min(text.len());
            while !text.is_char_boundary(n) {
                n -= 1;
            }
            n
        };
        let start = floor(at.start);
        let end = floor(at.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |n| n + 1);
        let line_end = text[start..]
            .find('\n')
            .map_or(text.len(), |n| start + n)
            .max(start);
        // Lines may end in "\r\n".
        let line_end = match text[start..line_end].strip_suffix('\r') {
            Some(line) => start + line.len(),
            None => line_end,
        };
        let before: Vec<char> = text[line_start..start].chars().collect();
        let line: Vec<char> = text[line_start..line_end].chars().map(printable).collect();
        let column = before.len();
        let marked = text[start..end.min(line_end)].chars().count().max(1);
        // The part of the line around the error.
        let first = if line.len() <= MAX_SHOWN {
            0
        } else {
            column
                .saturating_sub(MAX_SHOWN / 3)
                .min(line.len() - MAX_SHOWN)
        };
        let last = line.len().min(first + MAX_SHOWN);
        let cut = |there: bool| if there { "…" } else { "" };
        let shown = format!(
            "{}{}{}",
            cut(first > 0),
            line[first..last].iter().collect::<String>().trim_end(),
            cut(last < line.len())
        );
        Self {
            file: file.into(),
            line: text[..line_start].matches('\n').count() + 1,
            column: column + 1,
            message: message.into(),
            help: help.into(),
            shown: shown.into(),
            marks: (
                column - first + usize::from(first > 0),
                marked.min(last.saturating_sub(column)).max(1),
            ),
        }
    }
}

/// Control characters are shown and not sent to the terminal.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        '\u{200e}'
        | '\u{200f}'
        | '\u{061c}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c => c,
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let (skip, marks) = self.marks;
        let message: String = self.message.chars().map(printable).collect();
        let help: String = self.help.chars().map(printable).collect();
        writeln!(f, "{}:{number}:{}: {message}", self.file, self.column)?;
        writeln!(f, "  {number} | {}", self.shown)?;
        let margin = " ".repeat(number.len());
        let line = format!(
            "  {margin} | {}{} {help}",
            " ".repeat(skip),
            "^".repeat(marks)
        );
        f.write_str(line.trim_end())
    }
}

impl std::error::Error for ScenarioError {}

/// The known name that `text` was probably meant to be.
pub(crate) fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short, so a long text is not a misspelt one, and computing its distance would take
    // long.
    if text.len() > 64 {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    known
        .into_iter()
        .map(|k| {
            let k_lower = k.to_ascii_lowercase();
            (strsim::damerau_levenshtein(&lower, &k_lower), k)
        })
        .filter(|(far, k)| *far <= 1 + k.len() / 4 && *far < text.len().max(k.len()))
        .min_by_key(|(far, _)| *far)
        .map(|(_, k)| k)
}

/// `did you mean …?`, or the list of all known names.
pub(crate) fn suggest<'a>(
    text: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(near) = nearest(text, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    if all.is_empty() {
        return format!("there are no {what}");
    }
    format!("{what}: {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked() {
        let text = "a = 1\nmaping = \"EIM\"\nb = 2\n";
        let e = ScenarioError::new(
            "x.toml",
            text,
            6..12,
            "`maping` is not a key",
            "did you mean `mapping`?",
        );
        assert_eq!(
            e.to_string(),
            "x.toml:2:1: `maping` is not a key\n  2 | maping = \"EIM\"\n    | ^^^^^^ did you mean `mapping`?"
        );
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}BAD{}", "x".repeat(500), "y".repeat(500));
        let e = ScenarioError::new("x", &text, 500..503, "m", "h");
        let shown = e.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let at = lines[1].chars().position(|c| c == 'B');
        assert_eq!(at, lines[2].chars().position(|c| c == '^'));
        assert!(lines[1].chars().count() < 120, "{shown}");
        assert_eq!(e.column, 501);
    }

    #[test]
    fn the_end_of_a_line_is_no_part_of_it() {
        for text in ["a = 1\r\nb = 2", "a = 1\nb = 2", "a = 1\r", "a = 1"] {
            let e = ScenarioError::new("x", text, 4..5, "m", "h");
            assert_eq!(e.to_string(), "x:1:5: m\n  1 | a = 1\n    |     ^ h");
        }
        // A position between the two characters of a line's end.
        let e = ScenarioError::new("x", "a\r\nb", 2..2, "m", "h");
        assert_eq!((e.line, e.column), (1, 3));
    }

    #[test]
    fn nothing_steers_the_terminal() {
        let e = ScenarioError::new("x", "a = \"\u{1b}[2J\"", 4..9, "bad \u{1b}", "\u{7}");
        assert!(!e.to_string().contains(['\u{1b}', '\u{7}']));
    }
}
