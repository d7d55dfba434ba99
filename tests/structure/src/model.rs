//! A crate as a tree of modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// An index into [`Crate::modules`].
pub type ModuleId = usize;

/// A crate's modules, the root first.
pub struct Crate {
    /// As paths name it: `dunlin_core`.
    pub name: String,
    /// The folder that its files are named from.
    pub base: PathBuf,
    /// Every module that is compiled outside tests.
    pub modules: Vec<Module>,
}

/// A module: a file, or a block in one.
pub struct Module {
    /// The names from the root of the crate; empty for the root itself.
    pub path: Vec<String>,
    /// The file that it stands in, from [`Crate::base`].
    pub file: PathBuf,
    /// The module around it.
    pub parent: Option<ModuleId>,
    /// Whether `mod` says `pub`.
    pub public: bool,
    /// Whether it says `#[doc(hidden)]`.
    pub hidden: bool,
    /// What its names mean.
    pub names: BTreeMap<String, Name>,
    /// Paths that are imported with `*`, and whether they are re-exported.
    pub globs: Vec<(Vec<String>, bool)>,
    /// Its items, without those of tests.
    pub items: Vec<Item>,
}

/// What a name means in a module.
#[derive(Clone, Debug)]
pub struct Name {
    /// Where it leads.
    pub target: Target,
    /// Whether it says `pub`, without a restriction.
    pub public: bool,
    /// Whether it says `#[doc(hidden)]`.
    pub hidden: bool,
}

/// Where a name leads.
#[derive(Clone, Debug)]
pub enum Target {
    /// An item of this module.
    Item,
    /// A module inside this one.
    Module(ModuleId),
    /// An import: the path that it names.
    Import(Vec<String>),
}

/// A path that a `use` names.
pub struct Import {
    /// The segments, without a final `self`.
    pub path: Vec<String>,
    /// The name that it gets here; `None` for `*`.
    pub name: Option<String>,
}

impl Crate {
    /// Reads the crate whose root file is given, named from a folder.
    ///
    /// # Errors
    ///
    /// What cannot be read or parsed, with the file's name.
    pub fn load(name: &str, base: &Path, root: &str) -> Result<Self, String> {
        let root = PathBuf::from(root);
        let mut this = Self {
            name: name.to_owned(),
            base: base.to_owned(),
            modules: Vec::new(),
        };
        let children = root.parent().unwrap_or(Path::new("")).to_owned();
        this.add_file(root, &children, Vec::new(), None, (true, false))?;
        Ok(this)
    }

    /// The files, each once.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let outer = |m: &&Module| m.parent.is_none_or(|p| self.modules[p].file != m.file);
        self.modules.iter().filter(outer).map(|m| &*m.file)
    }

    fn add_file(
        &mut self,
        file: PathBuf,
        children: &Path,
        path: Vec<String>,
        parent: Option<ModuleId>,
        shown: (bool, bool),
    ) -> Result<ModuleId, String> {
        let text = fs::read_to_string(self.base.join(&file))
            .map_err(|e| format!("{}: {e}", file.display()))?;
        let parsed = syn::parse_file(&text)
            .map_err(|e| format!("{}:{}: {e}", file.display(), e.span().start().line))?;
        self.add(file, children, path, parent, shown, parsed.items)
    }

    fn add(
        &mut self,
        file: PathBuf,
        children: &Path,
        path: Vec<String>,
        parent: Option<ModuleId>,
        (public, hidden): (bool, bool),
        items: Vec<Item>,
    ) -> Result<ModuleId, String> {
        let id = self.modules.len();
        self.modules.push(Module {
            path,
            file,
            parent,
            public,
            hidden,
            names: BTreeMap::new(),
            globs: Vec::new(),
            items: Vec::new(),
        });
        for item in items {
            if is_test(attributes(&item)) {
                continue;
            }
            if let Item::Mod(inner) = item {
                self.add_inner(id, children, inner)?;
            } else {
                self.name(id, &item);
                self.modules[id].items.push(item);
            }
        }
        Ok(id)
    }

    fn add_inner(
        &mut self,
        id: ModuleId,
        children: &Path,
        inner: syn::ItemMod,
    ) -> Result<(), String> {
        let name = inner.ident.unraw().to_string();
        let shown = (is_public(&inner.vis), is_hidden(&inner.attrs));
        let mut path = self.modules[id].path.clone();
        path.push(name.clone());
        let child = if let Some((_, items)) = inner.content {
            let file = self.modules[id].file.clone();
            self.add(file, &children.join(&name), path, Some(id), shown, items)?
        } else {
            let (file, children) = match path_attribute(&inner.attrs) {
                Some(at) => {
                    let folder = self.modules[id].file.parent().unwrap_or(Path::new(""));
                    let file = folder.join(at);
                    let children = file.parent().unwrap_or(Path::new("")).to_owned();
                    (file, children)
                }
                None => {
                    let beside = children.join(format!("{name}.rs"));
                    let under = children.join(&name).join("mod.rs");
                    let file = if self.base.join(&beside).exists() {
                        beside
                    } else {
                        under
                    };
                    (file, children.join(&name))
                }
            };
            self.add_file(file, &children, path, Some(id), shown)?
        };
        let target = Target::Module(child);
        self.define(id, name, target, shown);
        Ok(())
    }

    fn define(
        &mut self,
        id: ModuleId,
        name: String,
        target: Target,
        (public, hidden): (bool, bool),
    ) {
        let name_here = Name {
            target,
            public,
            hidden,
        };
        // A type and a function, or a module and an item, may share a name: what is shown more wins.
        match self.modules[id].names.get(&name) {
            Some(old) if old.public && !public => {}
            _ => drop(self.modules[id].names.insert(name, name_here)),
        }
    }

    fn name(&mut self, id: ModuleId, item: &Item) {
        let mut define = |ident: &syn::Ident, vis: &Visibility, attrs: &[Attribute]| {
            let shown = (is_public(vis), is_hidden(attrs));
            self.define(id, ident.unraw().to_string(), Target::Item, shown);
        };
        match item {
            Item::Const(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Enum(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Fn(i) => define(&i.sig.ident, &i.vis, &i.attrs),
            Item::Static(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Struct(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Trait(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::TraitAlias(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Type(i) => define(&i.ident, &i.vis, &i.attrs),
            Item::Union(i) => define(&i.ident, &i.vis, &i.attrs),
            // What a macro defines is not known: each word that it is given may be an item.
            Item::Macro(i) if i.ident.is_none() => {
                for word in words(i.mac.tokens.clone()) {
                    self.define(id, word, Target::Item, (false, false));
                }
            }
            Item::Use(i) => {
                let shown = (is_public(&i.vis), is_hidden(&i.attrs));
                for import in imports(&i.tree) {
                    match import.name {
                        None => self.modules[id].globs.push((import.path, shown.0)),
                        Some(name) if name == "_" => {}
                        Some(name) => {
                            self.define(id, name, Target::Import(import.path), shown);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

/// The paths that a `use` names.
#[must_use]
pub fn imports(tree: &UseTree) -> Vec<Import> {
    let mut all = Vec::new();
    flatten(tree, &mut Vec::new(), &mut all);
    all
}

fn flatten(tree: &UseTree, prefix: &mut Vec<String>, all: &mut Vec<Import>) {
    let mut leaf = |ident: &syn::Ident, name: Option<String>| {
        let mut path = prefix.clone();
        let last = ident.unraw().to_string();
        if last != "self" || path.is_empty() {
            path.push(last);
        }
        let name = name.or_else(|| path.last().cloned());
        all.push(Import { path, name });
    };
    match tree {
        UseTree::Path(p) => {
            prefix.push(p.ident.unraw().to_string());
            flatten(&p.tree, prefix, all);
            prefix.pop();
        }
        UseTree::Name(n) => leaf(&n.ident, None),
        UseTree::Rename(r) => leaf(&r.ident, Some(r.rename.unraw().to_string())),
        UseTree::Glob(_) => all.push(Import {
            path: prefix.clone(),
            name: None,
        }),
        UseTree::Group(g) => {
            for tree in &g.items {
                flatten(tree, prefix, all);
            }
        }
    }
}

fn words(tokens: TokenStream) -> Vec<String> {
    let mut all = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => all.push(ident.unraw().to_string()),
            TokenTree::Group(group) => all.extend(words(group.stream())),
            _ => {}
        }
    }
    all
}

/// Whether the visibility is `pub` without a restriction.
#[must_use]
pub fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether one of the attributes is `#[doc(hidden)]`.
#[must_use]
pub fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| {
        a.path().is_ident("doc") && a.parse_args::<syn::Ident>().is_ok_and(|i| i == "hidden")
    })
}

/// Whether the attributes leave the item to builds of tests.
#[must_use]
pub fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|a| {
        a.path().is_ident("test")
            || (a.path().is_ident("cfg") && a.parse_args::<Meta>().is_ok_and(|m| implies_test(&m)))
    })
}

fn implies_test(meta: &Meta) -> bool {
    let list = |l: &syn::MetaList| {
        l.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .unwrap_or_default()
    };
    match meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(l) if l.path.is_ident("all") => list(l).iter().any(implies_test),
        Meta::List(l) if l.path.is_ident("any") => list(l).iter().all(implies_test),
        _ => false,
    }
}

fn path_attribute(attrs: &[Attribute]) -> Option<String> {
    attrs.iter().find_map(|a| match &a.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit {
                lit: syn::Lit::Str(at),
                ..
            }) => Some(at.value()),
            _ => None,
        },
        _ => None,
    })
}

/// An item's attributes.
#[must_use]
pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::ExternCrate(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::ForeignMod(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::TraitAlias(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}
