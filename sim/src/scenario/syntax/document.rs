//! A scenario as it was written: tables of keys and values with their positions, before they are
//! interpreted. Shrinking works on this form, because it can be written back.

use std::{fmt::Write, ops::Range};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::error::{Errors, ScenarioError, ScenarioErrors};

/// The longest scenario file in bytes.
pub const MAX_FILE: usize = 4 << 20;

/// A value, and its position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub kind: ValueKind,
    /// The bytes of the file that it takes up.
    pub at: Range<usize>,
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// A string.
    Text(String),
    /// A number in decimal, as it was written.
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Value>),
    /// A date or a table, which no key accepts.
    Other,
}

impl ValueKind {
    /// The value as TOML. Dates and tables, which no key accepts, become an empty list.
    fn to_toml(&self) -> String {
        match self {
            Self::Text(text) => quote(text),
            Self::Number(number) => number.clone(),
            Self::Bool(b) => b.to_string(),
            Self::List(list) => {
                let items: Vec<String> = list.iter().map(|v| v.kind.to_toml()).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Other => "[]".into(),
        }
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: String,
    /// The position of the key.
    pub at: Range<usize>,
    /// The value.
    pub value: Value,
    /// The text of the value alone: numbers, strings and dates as they were written, and tables
    /// inline.
    raw: String,
}

impl Item {
    /// An item that was derived from what is at `at`.
    pub(crate) fn derived(key: &str, at: Range<usize>, kind: ValueKind) -> Self {
        Self {
            key: key.into(),
            raw: kind.to_toml(),
            value: Value {
                kind,
                at: at.clone(),
            },
            at,
        }
    }

    /// The same key with another value. Errors about it are at the place of the old one.
    pub(crate) fn with(&self, kind: ValueKind) -> Self {
        Self {
            at: self.at.clone(),
            ..Self::derived(&self.key, self.value.at.clone(), kind)
        }
    }

    /// The bytes that this takes up in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.key.len() + self.raw.len()
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `router`, `host` and so on; empty for the keys before the first table.
    pub section: String,
    /// The table is an element of a list, written as `[[section]]`.
    pub listed: bool,
    /// The position of its header.
    pub at: Range<usize>,
    /// Its keys, in the order of the file.
    pub items: Vec<Item>,
}

impl Entry {
    /// The item with this key.
    #[must_use]
    pub fn item(&self, key: &str) -> Option<&Item> {
        self.items.iter().find(|i| i.key == key)
    }

    /// The position for an error about `key`: that of its value if it is present, or that of the
    /// table.
    pub(crate) fn place(&self, key: &str) -> Range<usize> {
        self.item(key)
            .map_or_else(|| self.at.clone(), |i| i.value.at.clone())
    }
}

/// A whole scenario, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The name of the file in messages.
    pub file: String,
    text: String,
    /// The tables, in the order of the file.
    pub entries: Vec<Entry>,
}

impl Document {
    /// Reads TOML.
    ///
    /// # Errors
    /// When the text is not TOML, or longer than [`MAX_FILE`].
    pub fn parse(text: &str, file: &str) -> Result<Self, ScenarioErrors> {
        if text.len() > MAX_FILE {
            let help = format!("at most {} MiB", MAX_FILE >> 20);
            return Err(ScenarioError::new(file, text, 0..0, "this is too long", help).into());
        }
        let (table, wrong) = DeTable::parse_recoverable(text);
        let mut errors = Errors::default();
        for e in wrong {
            let at = e.span().unwrap_or(0..0);
            let message = format!("not TOML: {}", e.message());
            errors.keep::<()>(Err(ScenarioError::new(file, text, at, message, "")));
            if errors.is_full() {
                break;
            }
        }
        if !errors.is_empty() {
            return errors.or(Self::empty(text, file));
        }
        let mut top = Entry {
            section: String::new(),
            listed: false,
            at: 0..0,
            items: Vec::new(),
        };
        let mut entries = Vec::new();
        for (key, value) in table.get_ref() {
            match value.get_ref() {
                DeValue::Table(content) => {
                    entries.push(entry(text, key, false, &value.span(), content));
                }
                DeValue::Array(list)
                    if !list.is_empty()
                        && list
                            .iter()
                            .all(|v| matches!(v.get_ref(), DeValue::Table(_))) =>
                {
                    for one in list {
                        if let DeValue::Table(content) = one.get_ref() {
                            entries.push(entry(text, key, true, &one.span(), content));
                        }
                    }
                }
                _ => top.items.push(item(text, key, value)),
            }
        }
        top.items.sort_by_key(|i| i.at.start);
        entries.sort_by_key(|e| e.at.start);
        entries.insert(0, top);
        Ok(Self {
            entries,
            ..Self::empty(text, file)
        })
    }

    fn empty(text: &str, file: &str) -> Self {
        Self {
            file: file.into(),
            text: text.into(),
            entries: Vec::new(),
        }
    }

    /// The text that was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error about a position in the text.
    pub(crate) fn error(
        &self,
        at: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> ScenarioError {
        ScenarioError::new(&self.file, &self.text, at, message, help)
    }

    /// The same document with only those tables for which `keep` returns `true`. The keys before
    /// the first table are always kept.
    #[must_use]
    pub fn only(&self, mut keep: impl FnMut(usize, &Entry) -> bool) -> Self {
        let entries = self.entries.iter().enumerate();
        Self {
            file: self.file.clone(),
            text: self.text.clone(),
            entries: entries
                .filter(|(n, e)| *n == 0 || keep(*n, e))
                .map(|(_, e)| e.clone())
                .collect(),
        }
    }

    /// The same document with other tables, of which the first is that of the keys before all others.
    pub(crate) fn with_entries(&self, entries: Vec<Entry>) -> Self {
        Self {
            file: self.file.clone(),
            text: self.text.clone(),
            entries,
        }
    }

    /// The same document without one of the keys before the first table.
    #[must_use]
    pub fn without_key(mut self, key: &str) -> Self {
        if let Some(top) = self.entries.first_mut() {
            top.items.retain(|i| i.key != key);
        }
        self
    }

    /// Writes the document as TOML without comments. Reading that gives the same document, whether
    /// or not it is a valid scenario.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for (n, entry) in self.entries.iter().enumerate() {
            if n > 0 {
                let (open, close) = if entry.listed {
                    ("[[", "]]")
                } else {
                    ("[", "]")
                };
                // Writing to a string cannot fail, here and below.
                let _ = writeln!(out, "\n{open}{}{close}", quote_key(&entry.section));
            }
            for item in &entry.items {
                let _ = writeln!(out, "{} = {}", quote_key(&item.key), item.raw);
            }
        }
        out
    }
}

fn entry(
    text: &str,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    listed: bool,
    at: &Range<usize>,
    content: &DeTable<'_>,
) -> Entry {
    let mut items: Vec<Item> = content.iter().map(|(k, v)| item(text, k, v)).collect();
    items.sort_by_key(|i| i.at.start);
    Entry {
        section: name.get_ref().to_string(),
        listed,
        at: at.clone(),
        items,
    }
}

fn item(
    text: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Item {
    Item {
        key: key.get_ref().to_string(),
        at: key.span(),
        value: convert(value),
        raw: written(text, value),
    }
}

/// A value as TOML that can be read alone. The text at a table's position is not enough: `[[a.b]]`
/// is an element of a list in the table `a`, which may be continued further down.
fn written(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    match value.get_ref() {
        DeValue::Array(list) => {
            let items: Vec<_> = list.iter().map(|v| written(text, v)).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let mut items: Vec<_> = table.iter().collect();
            items.sort_by_key(|(key, _)| key.span().start);
            let items: Vec<_> = items
                .into_iter()
                .map(|(key, v)| format!("{} = {}", quote_key(key.get_ref()), written(text, v)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        _ => text.get(value.span()).unwrap_or_default().into(),
    }
}

fn convert(value: &Spanned<DeValue<'_>>) -> Value {
    let kind = match value.get_ref() {
        DeValue::String(s) => ValueKind::Text(s.to_string()),
        DeValue::Integer(n) if n.radix() == 10 => ValueKind::Number(n.as_str().replace('_', "")),
        DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
            .map_or(ValueKind::Other, |n| ValueKind::Number(n.to_string())),
        DeValue::Float(n) => ValueKind::Number(n.as_str().replace('_', "")),
        DeValue::Boolean(b) => ValueKind::Bool(*b),
        DeValue::Array(list) => ValueKind::List(list.iter().map(convert).collect()),
        DeValue::Datetime(_) | DeValue::Table(_) => ValueKind::Other,
    };
    Value {
        kind,
        at: value.span(),
    }
}

fn quote_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.into()
    } else {
        quote(key)
    }
}

/// `text` as a TOML string.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    const TEXT: &str = "seed = 0x10 # sixteen\n[[host]]\nname = 'a\"b'\nports = [1, 2_000]\n\
                        [random]\nevents = 3\n[[host]]\n\"odd key\" = true\n";

    /// The document without positions, which differ after writing it.
    fn bare(d: &Document) -> Vec<(String, Vec<(String, String)>)> {
        let items = |e: &Entry| {
            e.items
                .iter()
                .map(|i| (i.key.clone(), i.raw.clone()))
                .collect()
        };
        let mut all: Vec<_> = d
            .entries
            .iter()
            .map(|e| (e.section.clone(), items(e)))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn what_is_written_back_reads_the_same() {
        let one = Document::parse(TEXT, "x").expect("valid");
        let two = Document::parse(&one.to_toml(), "x").expect("valid again");
        assert_eq!(bare(&one), bare(&two));
        assert_eq!(one.entries.len(), 4);
        assert_eq!(
            one.entries[0].items[0].value.kind,
            ValueKind::Number("16".into())
        );
    }

    #[test]
    fn tables_within_tables_are_written_back() {
        for text in [
            "[[eve.t]]\na = 1\n[[eve.t]]\nb = '''x\ny'''\n[[eve.t.deeper]]\nc = 2_0\n",
            "[[eve.t]]\n[other]\nx = 1\n[eve]\ny = 1979-05-27 07:32:00Z\n",
            "[a.b.c]\nd = [1, # one\n 2]\n[a]\nz.y = 3\n",
            "a.b = 1\na.\"c d\" = {}\n",
            "[[host]]\n[host.x]\ny = [{z = 1}, [], [[]]]\n[[host]]\n",
            "host = [{name = 'a'}, 5]\nb = [{c = 1}]\n",
            "[\"\"]\nkey = 1\n[[\"\\n\"]]\n",
        ] {
            let one = Document::parse(text, "x").expect("valid");
            let toml = one.to_toml();
            let two = Document::parse(&toml, "x");
            let two = two.unwrap_or_else(|e| panic!("{text}\nbecame\n{toml}\n{e}"));
            assert_eq!(bare(&one), bare(&two), "{text}\nbecame\n{toml}");
            assert_eq!(two.to_toml(), toml);
        }
    }

    #[test]
    fn tables_can_be_left_out() {
        let one = Document::parse(TEXT, "x").expect("valid");
        let less = one.only(|n, e| e.section != "host" || n == 1);
        assert_eq!(less.entries.len(), 3);
        assert!(less.to_toml().contains("2_000"));
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_place() {
        let e = Document::parse("a = 1\nb = \n", "f.toml").expect_err("no value");
        let first = e.iter().next().expect("an error");
        assert_eq!((first.line, first.file.as_str()), (2, "f.toml"));
        assert!(e.to_string().contains("2 | b ="), "{e}");
    }

    quickcheck! {
        fn any_text_is_quoted(text: String) -> bool {
            let toml = format!("a = {}", quote(&text));
            Document::parse(&toml, "x").expect("valid").entries[0].items[0].value.kind == ValueKind::Text(text)
        }
    }
}
