//! Which files of a torrent are wanted.

use std::ops::RangeInclusive;

use dunlin_tokio::{
    FilePriority,
    dunlin_core::metainfo::{FileKind, Info},
};
use globset::{GlobBuilder, GlobMatcher};

/// One `--select`: numbers and patterns, separated by commas.
#[derive(Clone, Debug)]
pub(crate) struct Selection(Vec<Item>);

/// The result of a selection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picked {
    /// No file is wanted.
    pub(crate) nothing: bool,
    /// Parts of the selection that match no file, as they were written.
    pub(crate) unmatched: Vec<String>,
}

#[derive(Clone, Debug)]
struct Item {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// Files by number, counted from 1.
    Numbers(RangeInclusive<usize>),
    /// Files by path or name.
    Pattern(GlobMatcher),
}

impl Selection {
    /// Parses `1,3-5,*.iso`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|item| Item::parse(item.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    #[cfg(test)]
    fn wants(&self, number: usize, path: &str) -> bool {
        self.0.iter().any(|item| item.wants(number, path))
    }
}

impl Item {
    fn parse(text: &str) -> Result<Self, String> {
        Rule::parse(text).map(|rule| Self {
            text: text.into(),
            rule,
        })
    }

    fn wants(&self, number: usize, path: &str) -> bool {
        match &self.rule {
            Rule::Numbers(range) => range.contains(&number),
            Rule::Pattern(pattern) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                pattern.is_match(path) || pattern.is_match(name)
            }
        }
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty item; write it like 1,3-5 or *.iso".into());
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            if first == 0 || last < first {
                return Err(format!("`{text}`: files are counted from 1, upwards"));
            }
            return Ok(Self::Numbers(first..=last));
        }
        GlobBuilder::new(text)
            .case_insensitive(true)
            .literal_separator(false)
            .build()
            .map(|glob| Self::Pattern(glob.compile_matcher()))
            .map_err(|error| error.to_string())
    }
}

/// The priority of each file, and the result of the selection.
pub(crate) fn priorities(selections: &[Selection], info: &Info) -> (Vec<FilePriority>, Picked) {
    let items: Vec<&Item> = selections.iter().flat_map(|s| &s.0).collect();
    let mut used = vec![false; items.len()];
    let mut priorities = Vec::with_capacity(info.files().len());
    for (number, file) in (1..).zip(info.files()) {
        let path = file.path.join("/");
        let mut priority = FilePriority::Skip;
        // Nobody selects padding.
        if file.kind != FileKind::Padding {
            for (item, used) in items.iter().zip(&mut used) {
                if item.wants(number, &path) {
                    *used = true;
                    priority = FilePriority::Normal;
                }
            }
        }
        priorities.push(priority);
    }
    let unmatched = items.iter().zip(&used).filter(|(_, used)| !**used);
    let picked = Picked {
        nothing: !used.contains(&true),
        unmatched: unmatched.map(|(item, _)| item.text.clone()).collect(),
    };
    (priorities, picked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_patterns_may_be_mixed() {
        let s = Selection::parse("1, 3-5,*.ISO").unwrap();
        let wanted = [
            (1, "a"),
            (2, "b"),
            (3, "c"),
            (5, "d"),
            (6, "disk.iso"),
            (7, "sub/x.iso"),
        ];
        let got: Vec<usize> = wanted
            .into_iter()
            .filter(|&(n, path)| s.wants(n, path))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(got, [1, 3, 5, 6, 7]);
    }

    #[test]
    fn a_folder_is_selected_by_a_pattern_for_its_path() {
        let s = Selection::parse("extras/*").unwrap();
        assert!(s.wants(9, "extras/deep/file") && !s.wants(9, "main/file"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1,,2", "0", "5-3", "a[b"] {
            assert!(Selection::parse(text).is_err(), "{text}");
        }
    }
}
