//! The objects of `--json`, as `docs/JSON.md` describes them. In debug builds every object that is printed
//! is compared with that page, and tests check the whole page.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use serde_json::{Map, Value};

/// The version of `docs/JSON.md`.
pub(crate) const VERSION: u32 = 1;
/// The text of `docs/JSON.md`.
const PAGE: &str = include_str!("../../../../docs/JSON.md");

/// The keys of one type.
#[derive(Debug, Default)]
struct Keys {
    always: BTreeSet<String>,
    sometimes: BTreeSet<String>,
}

/// How an object differs from its description, if it does.
pub(crate) fn fault(object: &Value) -> Option<String> {
    static TYPES: OnceLock<BTreeMap<String, Keys>> = OnceLock::new();
    let kind = object["type"].as_str()?;
    check(TYPES.get_or_init(types), kind, object.as_object()?)
}

/// All types of the page, including the objects inside of others.
fn types() -> BTreeMap<String, Keys> {
    let mut types: BTreeMap<String, Keys> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in PAGE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            current = heading.split('`').nth(1).map(str::to_owned);
            if let Some(kind) = &current {
                types.entry(kind.clone()).or_default();
            }
        } else if let (Some(kind), Some(row)) = (&current, line.strip_prefix("| `"))
            && let (Some(key), Some(keys)) = (row.split('`').next(), types.get_mut(kind))
        {
            match key.strip_suffix('?') {
                Some(key) => keys.sometimes.insert(key.to_owned()),
                None => keys.always.insert(key.to_owned()),
            };
        }
    }
    types
}

fn check(
    types: &BTreeMap<String, Keys>,
    kind: &str,
    object: &Map<String, Value>,
) -> Option<String> {
    let Some(keys) = types.get(kind) else {
        return Some(format!("`{kind}` is not on the page"));
    };
    if let Some(key) = keys.always.iter().find(|key| !object.contains_key(*key)) {
        return Some(format!("`{kind}` has no `{key}`"));
    }
    for (key, value) in object.iter().filter(|(key, _)| *key != "type") {
        if !keys.always.contains(key) && !keys.sometimes.contains(key) {
            return Some(format!("`{kind}` has `{key}`, which is not on the page"));
        }
        let within: Vec<&Map<String, Value>> = match value {
            Value::Object(object) => vec![object],
            Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
            _ => Vec::new(),
        };
        for object in within {
            let kind = match object.get("type").and_then(Value::as_str) {
                Some(kind) => kind.to_owned(),
                None if key == "cause" => key.clone(),
                None => format!("{kind}.{key}"),
            };
            if let Some(fault) = check(types, &kind, object) {
                return Some(fault);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_is_of_this_version_and_its_index_names_every_type() {
        assert!(PAGE.contains(&format!("This page is version {VERSION}.")));
        let types = types();
        assert!(types.len() > 20 && types["progress"].always.len() == 16);
        assert!(types["status"].sometimes.contains("wakeups"));
        let index: String = PAGE
            .lines()
            .filter(|line| !line.starts_with("| `"))
            .collect();
        let index = PAGE.split("\n## ").next().unwrap_or_default().to_owned() + &index;
        for kind in types
            .keys()
            .filter(|kind| !kind.contains('.') && *kind != "cause")
        {
            assert!(index.contains(&format!("`{kind}`")), "{kind}");
        }
    }

    #[test]
    fn what_is_not_on_the_page_is_noticed() {
        let good = json!({ "type": "peer", "torrent": "", "peer": "" });
        assert_eq!(fault(&good), None);
        for bad in [
            json!({ "type": "nonsense" }),
            json!({ "type": "peer", "peer": "" }),
            json!({ "type": "peer", "torrent": "", "peer": "", "more": 1 }),
            json!({ "type": "error", "what": "", "message": "", "cause": { "why": 1 } }),
        ] {
            assert!(fault(&bad).is_some(), "{bad}");
        }
    }
}
