//! Which files of a torrent are wanted.

use std::ops::RangeInclusive;

use dunlin_tokio::{FilePriority, core::metainfo::Info};
use globset::{GlobBuilder, GlobMatcher};

/// One `--select`: numbers and patterns, separated by commas.
#[derive(Clone, Debug)]
pub(crate) struct Selection(Vec<Item>);

#[derive(Clone, Debug)]
enum Item {
    /// Files by their number, from 1.
    Numbers(RangeInclusive<usize>),
    /// Files by path or name.
    Pattern(GlobMatcher),
}

impl Selection {
    /// Reads `1,3-5,*.iso`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|item| Item::parse(item.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn wants(&self, number: usize, path: &str) -> bool {
        self.0.iter().any(|item| match item {
            Item::Numbers(range) => range.contains(&number),
            Item::Pattern(pattern) => {
                let name = path.rsplit('/').next().unwrap_or(path);
                pattern.is_match(path) || pattern.is_match(name)
            }
        })
    }
}

impl Item {
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

/// How much each file is wanted; everything, if nothing was selected.
pub(crate) fn priorities(selections: &[Selection], info: &Info) -> Vec<FilePriority> {
    if selections.is_empty() {
        return Vec::new();
    }
    (1..)
        .zip(info.files())
        .map(|(number, file)| {
            let path = file.path.join("/");
            let wanted = selections.iter().any(|s| s.wants(number, &path));
            match wanted {
                true => FilePriority::Normal,
                false => FilePriority::Skip,
            }
        })
        .collect()
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
