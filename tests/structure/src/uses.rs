//! The paths that a module's code names.

use proc_macro2::{TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::model::{self, Module, imports};

/// A path in code, and the line that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The segments.
    pub path: Vec<String>,
    /// The line, from one.
    pub line: usize,
}

/// Every path in the code of a module: in imports, types, expressions, and the arguments of macros.
#[must_use]
pub fn paths(module: &Module) -> Vec<Use> {
    let mut visitor = Paths { all: Vec::new() };
    for item in &module.items {
        visitor.visit_item(item);
    }
    visitor.all
}

struct Paths {
    all: Vec<Use>,
}

impl Paths {
    fn push(&mut self, path: Vec<String>, line: usize) {
        self.all.push(Use { path, line });
    }

    /// Paths are words with `::` between them; the rest of the tokens is left to the compiler.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                // `$crate`
                TokenTree::Punct(p) if p.as_char() == '$' && colons == 0 => {}
                TokenTree::Ident(ident) => {
                    if colons != 2 && !path.is_empty() {
                        self.push(std::mem::take(&mut path), line);
                    }
                    if path.is_empty() {
                        line = ident.span().start().line;
                    }
                    path.push(ident.unraw().to_string());
                    colons = 0;
                }
                other => {
                    if !path.is_empty() {
                        self.push(std::mem::take(&mut path), line);
                    }
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        if !path.is_empty() {
            self.push(path, line);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|s| s.ident.unraw().to_string());
        self.push(segments.collect(), path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let line = item.span().start().line;
        for import in imports(&item.tree) {
            self.push(import.path, line);
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.visit_path(&mac.path);
        self.scan(mac.tokens.clone());
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !model::is_test(model::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !model::is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !model::is_test(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_local(&mut self, local: &'ast syn::Local) {
        if !model::is_test(&local.attrs) {
            visit::visit_local(self, local);
        }
    }

    // Documentation and derives name nothing that the module depends on by itself.
    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    // `pub(in path)`
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
