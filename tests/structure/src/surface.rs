//! The public items of a crate, as a list that is kept in the repository, so that a change of it is seen.
//!
//! An item is public if a path of public modules and re-exports leads to it; what is `#[doc(hidden)]` is left out with all
//! that is inside it. What a macro of the crate defines is not expanded: its invocation stands in the list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, Fields, ImplItem, Item, TraitItem};

use crate::model::{self, Crate, ModuleId, Target, is_hidden, is_public};
use crate::resolve::Found;
use crate::{cli, rules};

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The path of the item that it belongs to.
    pub path: String,
    /// What it says.
    pub text: String,
    /// Whether it counts as an item: fields, variants, implementations of traits and second names do not.
    pub counts: bool,
}

/// The list of `dunlin-core`.
///
/// # Errors
///
/// What cannot be read or parsed.
pub fn of_core(root: &Path) -> Result<String, String> {
    let (name, file, _) = rules::CRATES[0];
    let krate = Crate::load(name, root, file)?;
    let lines = items(&krate);
    let count = lines.iter().filter(|l| l.counts).count();
    let mut text = format!(
        "# The public items of dunlin-core: {count}. Recorded by `cargo run -p dunlin-structure surface --write`.\n"
    );
    for line in lines {
        text += &line.text;
        text.push('\n');
    }
    Ok(text)
}

/// How the surface of `dunlin-core` differs from the recorded one, if it does.
///
/// # Errors
///
/// What cannot be read or parsed.
pub fn compare(root: &Path) -> Result<Option<String>, String> {
    let file = cli::recorded(root);
    let before = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let after = of_core(root)?;
    if before == after {
        return Ok(None);
    }
    let lines = |text: &str| {
        text.lines()
            .map(str::to_owned)
            .collect::<BTreeSet<String>>()
    };
    let (before, after) = (lines(&before), lines(&after));
    let mut text = "the public items of dunlin-core are not those of core/public-items.txt; if they are meant to change: \
                    cargo run -p dunlin-structure surface --write"
        .to_owned();
    for line in before.difference(&after).filter(|l| !l.starts_with('#')) {
        text += &format!("\n  - {line}");
    }
    for line in after.difference(&before).filter(|l| !l.starts_with('#')) {
        text += &format!("\n  + {line}");
    }
    Ok(Some(text))
}

/// The public items of a crate, sorted by path.
#[must_use]
pub fn items(krate: &Crate) -> Vec<Line> {
    let mut reader = Reader {
        krate,
        at: BTreeMap::new(),
        again: Vec::new(),
        lines: Vec::new(),
    };
    // Where an item is defined is its first path; re-exports come second.
    let open = reader.open_modules();
    for &(module, ref path) in &open {
        let own = krate.modules[module].names.iter();
        for (name, _) in own.filter(|(_, n)| n.public && !n.hidden && is_item(&n.target)) {
            reader.at.insert((module, name.clone()), join(path, name));
        }
    }
    for (module, path) in &open {
        reader.exports(*module, path);
    }
    reader.write(&open);
    reader.lines.sort();
    reader.lines.dedup();
    reader.lines
}

fn is_item(target: &Target) -> bool {
    matches!(target, Target::Item)
}

fn join(path: &str, name: &str) -> String {
    format!("{path}::{name}")
}

struct Reader<'a> {
    krate: &'a Crate,
    /// The public path of each public item.
    at: BTreeMap<(ModuleId, String), String>,
    /// Second names, and what they lead to.
    again: Vec<(String, String)>,
    lines: Vec<Line>,
}

impl Reader<'_> {
    /// Modules that public modules alone lead to.
    fn open_modules(&self) -> Vec<(ModuleId, String)> {
        let mut open: Vec<(ModuleId, String)> = vec![(0, self.krate.name.clone())];
        let mut next = 0;
        while let Some((module, path)) = open.get(next).cloned() {
            next += 1;
            for (name, what) in &self.krate.modules[module].names {
                if let Target::Module(child) = what.target
                    && what.public
                    && !what.hidden
                {
                    open.push((child, join(&path, name)));
                }
            }
        }
        open
    }

    /// Follows the re-exports of a public module.
    fn exports(&mut self, module: ModuleId, path: &str) {
        let shown = &self.krate.modules[module];
        for (name, what) in shown.names.iter().filter(|(_, n)| n.public && !n.hidden) {
            if let Target::Import(target) = &what.target
                && let Some(found) = self.krate.resolve(module, target)
            {
                self.export(&found, &join(path, name));
            }
        }
        for (target, _) in shown.globs.iter().filter(|(_, public)| *public) {
            if let Some(Found::Module(from)) = self.krate.resolve(module, target) {
                let names = self.krate.modules[from].names.iter();
                for (name, _) in names.filter(|(_, n)| n.public && !n.hidden) {
                    if let Some(found) = self.krate.resolve(from, std::slice::from_ref(name)) {
                        self.export(&found, &join(path, name));
                    }
                }
            }
        }
    }

    fn export(&mut self, found: &Found, path: &str) {
        match found {
            Found::Item(module, name) => match self.at.get(&(*module, name.clone())) {
                Some(first) if first != path => self.again.push((path.to_owned(), first.clone())),
                Some(_) => {}
                None => drop(self.at.insert((*module, name.clone()), path.to_owned())),
            },
            // A private module under a public name: what is public in it is public there.
            Found::Module(module) => {
                let names = self.krate.modules[*module].names.iter();
                for (name, _) in names.filter(|(_, n)| n.public && !n.hidden) {
                    if let Some(found) = self.krate.resolve(*module, std::slice::from_ref(name))
                        && found != Found::Module(*module)
                    {
                        self.export(&found, &join(path, name));
                    }
                }
            }
            Found::Outside(name) => self.again.push((path.to_owned(), name.clone())),
        }
    }

    fn line(&mut self, path: &str, text: String, counts: bool) {
        self.lines.push(Line {
            path: path.to_owned(),
            text,
            counts,
        });
    }

    fn write(&mut self, open: &[(ModuleId, String)]) {
        for (_, path) in open.iter().skip(1) {
            self.line(path, format!("mod {path}"), true);
        }
        for (path, first) in std::mem::take(&mut self.again) {
            self.line(&path, format!("use {path} = {first}"), false);
        }
        let krate = self.krate;
        for (id, module) in krate.modules.iter().enumerate() {
            for item in &module.items {
                match item {
                    Item::Impl(i) => self.write_impl(id, i),
                    Item::Macro(i) => {
                        if let Some((_, path)) = open.iter().find(|(m, _)| *m == id)
                            && i.ident.is_none()
                        {
                            let name = text(i.mac.path.to_token_stream());
                            let given = text(without_docs(i.mac.tokens.clone()));
                            self.line(path, format!("macro {path}: {name}! {{ {given} }}"), true);
                        }
                    }
                    item => {
                        if let Some(name) = name(item)
                            && let Some(path) = self.at.get(&(id, name)).cloned()
                        {
                            self.write_item(&path, item);
                        }
                    }
                }
            }
        }
    }

    fn write_item(&mut self, path: &str, item: &Item) {
        match item {
            Item::Const(i) => {
                self.line(path, format!("const {path}: {}", text(&i.ty)), true);
            }
            Item::Static(i) => {
                self.line(path, format!("static {path}: {}", text(&i.ty)), true);
            }
            Item::Fn(i) => self.line(path, format!("fn {}", signature(path, &i.sig)), true),
            Item::Type(i) => {
                let generics = text(&i.generics);
                self.line(
                    path,
                    format!("type {path}{generics} = {}", text(&i.ty)),
                    true,
                );
            }
            Item::Struct(i) => {
                let generics = text(&i.generics);
                let marks = marks(&i.attrs);
                self.line(path, format!("struct {path}{generics}{marks}"), true);
                self.fields(path, &i.fields);
            }
            Item::Enum(i) => {
                let generics = text(&i.generics);
                let marks = marks(&i.attrs);
                self.line(path, format!("enum {path}{generics}{marks}"), true);
                for variant in i.variants.iter().filter(|v| !is_hidden(&v.attrs)) {
                    let name = join(path, &variant.ident.to_string());
                    let mut fields = text(without_docs(variant.fields.to_token_stream()));
                    if fields.starts_with('{') {
                        fields.insert(0, ' ');
                    }
                    self.line(&name, format!("variant {name}{fields}"), false);
                }
            }
            Item::Trait(i) => {
                let generics = text(&i.generics);
                let supers = match text(&i.supertraits) {
                    s if s.is_empty() => s,
                    s => format!(": {s}"),
                };
                self.line(path, format!("trait {path}{generics}{supers}"), true);
                for item in &i.items {
                    match item {
                        TraitItem::Fn(f) => {
                            let name = join(path, &f.sig.ident.to_string());
                            self.line(&name, format!("fn {}", signature(&name, &f.sig)), true);
                        }
                        TraitItem::Type(t) => {
                            let name = join(path, &t.ident.to_string());
                            self.line(&name, format!("type {name}"), true);
                        }
                        TraitItem::Const(c) => {
                            let name = join(path, &c.ident.to_string());
                            self.line(&name, format!("const {name}: {}", text(&c.ty)), true);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, path: &str, fields: &Fields) {
        for (i, field) in fields.iter().enumerate() {
            if is_public(&field.vis) && !is_hidden(&field.attrs) {
                let name = field
                    .ident
                    .as_ref()
                    .map_or(i.to_string(), ToString::to_string);
                let name = join(path, &name);
                self.line(&name, format!("field {name}: {}", text(&field.ty)), false);
            }
        }
    }

    fn write_impl(&mut self, at: ModuleId, block: &syn::ItemImpl) {
        let syn::Type::Path(ty) = &*block.self_ty else {
            return;
        };
        let segments = ty.path.segments.iter().map(|s| s.ident.to_string());
        let Some(Found::Item(module, name)) = self.krate.resolve(at, &segments.collect::<Vec<_>>())
        else {
            return;
        };
        let Some(path) = self.at.get(&(module, name)).cloned() else {
            return;
        };
        if let Some((of, _)) = &block.trait_ {
            if self.is_seen(at, of) {
                self.line(&path, format!("impl {} for {path}", text(of)), false);
            }
            return;
        }
        for item in &block.items {
            match item {
                ImplItem::Fn(f) if is_public(&f.vis) && !is_hidden(&f.attrs) => {
                    let name = join(&path, &f.sig.ident.unraw().to_string());
                    self.line(&name, format!("fn {}", signature(&name, &f.sig)), true);
                }
                ImplItem::Const(c) if is_public(&c.vis) && !is_hidden(&c.attrs) => {
                    let name = join(&path, &c.ident.to_string());
                    self.line(&name, format!("const {name}: {}", text(&c.ty)), true);
                }
                _ => {}
            }
        }
    }

    /// Whether a trait is public: another crate's, or a public one of this crate.
    fn is_seen(&self, at: ModuleId, path: &syn::Path) -> bool {
        let segments = path.segments.iter().map(|s| s.ident.to_string());
        match self.krate.resolve(at, &segments.collect::<Vec<_>>()) {
            Some(Found::Item(module, name)) => self.at.contains_key(&(module, name)),
            _ => true,
        }
    }
}

fn name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        _ => return None,
    };
    let shown = !model::is_hidden(model::attributes(item));
    shown.then(|| ident.unraw().to_string())
}

fn signature(path: &str, sig: &syn::Signature) -> String {
    let words = if sig.constness.is_some() {
        "const "
    } else {
        ""
    };
    let output = match &sig.output {
        syn::ReturnType::Default => String::new(),
        syn::ReturnType::Type(_, ty) => format!(" -> {}", text(ty)),
    };
    let bounds = sig.generics.where_clause.as_ref();
    let bounds = bounds.map_or(String::new(), |w| format!(" {}", text(w)));
    format!(
        "{words}{path}{}({}){output}{bounds}",
        text(&sig.generics),
        arguments(sig)
    )
}

/// The arguments as a caller sees them: whether the body changes one is its own affair.
fn arguments(sig: &syn::Signature) -> String {
    let shown = |input: &syn::FnArg| match input {
        syn::FnArg::Typed(typed) => match &*typed.pat {
            syn::Pat::Ident(name) => format!("{}: {}", name.ident, text(&typed.ty)),
            pattern => format!("{}: {}", text(pattern), text(&typed.ty)),
        },
        receiver @ syn::FnArg::Receiver(_) => text(without_docs(receiver.to_token_stream())),
    };
    let all: Vec<String> = sig.inputs.iter().map(shown).collect();
    all.join(", ")
}

/// What is derived, and whether fields or variants may be added.
fn marks(attrs: &[Attribute]) -> String {
    let mut derived = BTreeSet::new();
    let mut grows = "";
    for attr in attrs {
        if attr.path().is_ident("derive") {
            let _ = attr.parse_nested_meta(|meta| {
                derived.extend(meta.path.segments.last().map(|s| s.ident.to_string()));
                Ok(())
            });
        } else if attr.path().is_ident("non_exhaustive") {
            grows = " (non-exhaustive)";
        }
    }
    let derived: Vec<String> = derived.into_iter().collect();
    match derived.is_empty() {
        true => grows.to_owned(),
        false => format!("{grows}: {}", derived.join(", ")),
    }
}

/// Documentation comments are `#[doc = "…"]` among tokens.
fn without_docs(tokens: TokenStream) -> TokenStream {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let TokenTree::Punct(p) = &token
            && p.as_char() == '#'
            && matches!(tokens.peek(), Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Bracket)
        {
            tokens.next();
            continue;
        }
        kept.push(match token {
            TokenTree::Group(group) => {
                let inner = without_docs(group.stream());
                TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inner))
            }
            token => token,
        });
    }
    kept.into_iter().collect()
}

/// Tokens as rustfmt would space them in a type or signature.
fn text(tokens: impl ToTokens) -> String {
    let mut out = String::new();
    spell(tokens.to_token_stream(), &mut out);
    out.replace(", )", ")").replace(",)", ")").trim().to_owned()
}

fn spell(tokens: TokenStream, out: &mut String) {
    // Whether the last token clings to what follows.
    let mut clings = true;
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => (" { ", " }"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                if !clings && !matches!(group.delimiter(), Delimiter::Parenthesis) {
                    space(out);
                }
                out.push_str(open);
                spell(group.stream(), out);
                out.push_str(close);
                clings = false;
            }
            TokenTree::Punct(p) => {
                let c = p.as_char();
                match c {
                    ',' | ';' => {
                        out.push(c);
                        out.push(' ');
                        clings = true;
                    }
                    ':' if p.spacing() == Spacing::Joint => {
                        out.push(c);
                        clings = true;
                    }
                    ':' if out.ends_with(':') => {
                        out.push(c);
                        clings = true;
                    }
                    ':' => {
                        out.push_str(": ");
                        clings = true;
                    }
                    '<' | '\'' | '&' | '?' | '!' | '#' => {
                        if !clings && matches!(c, '\'' | '&' | '?' | '#') {
                            space(out);
                        }
                        out.push(c);
                        clings = true;
                    }
                    '>' => {
                        out.push(c);
                        clings = false;
                        if out.ends_with("->") || out.ends_with("=>") {
                            out.push(' ');
                            clings = true;
                        }
                    }
                    '-' | '=' | '+' | '|' => {
                        space(out);
                        out.push(c);
                        if p.spacing() == Spacing::Alone {
                            out.push(' ');
                        }
                        clings = true;
                    }
                    _ => {
                        out.push(c);
                        clings = true;
                    }
                }
            }
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                if !clings {
                    space(out);
                }
                out.push_str(&token.to_string());
                clings = false;
            }
        }
    }
}

fn space(out: &mut String) {
    if !out.is_empty() && !out.ends_with([' ', '(', '[', '<']) {
        out.push(' ');
    }
}
