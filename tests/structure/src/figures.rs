//! Figures of the composition, to compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Expr, Item, Stmt};

use crate::model::Crate;
use crate::resolve::Found;
use crate::{rules, surface};

/// Folders of the workspace's crates.
const FOLDERS: [&str; 7] = [
    "core",
    "runtime-std",
    "runtime-tokio",
    "runtime-mio",
    "runtime-smoltcp",
    "sim",
    "tests",
];

/// Tables of the engine that are searched by an id.
const TABLES: [&str; 8] = [
    "by_hash",
    "by_req2",
    "connections",
    "conns",
    "links",
    "members",
    "peers",
    "torrents",
];
/// The types that own others, by module: they are to stay small.
const OWNERS: [(&str, &str); 2] = [("engine", "Engine"), ("torrent", "Torrent")];
const LOOK_UPS: [&str; 6] = [
    "contains",
    "contains_key",
    "entry",
    "get",
    "get_mut",
    "remove",
];

/// So many equal lines in a row are taken for a copy.
const RUN: usize = 4;

/// Prints a table, one figure a line.
///
/// # Errors
///
/// What cannot be read or parsed.
pub fn print(root: &Path) -> Result<(), String> {
    for (name, value) in all(root)? {
        println!("{name:<52} {value}");
    }
    Ok(())
}

/// The figures of a workspace, by name.
///
/// # Errors
///
/// What cannot be read or parsed.
pub fn all(root: &Path) -> Result<Vec<(String, String)>, String> {
    let crates = rules::load(root)?;
    let core = &crates[0].0;
    let mut table = Vec::new();
    let mut row = |name: &str, value: String| table.push((name.to_owned(), value));

    for owner in OWNERS {
        let (_, name) = owner;
        let found = behaviour(core, owner);
        row(&format!("methods of {name}"), found.methods.to_string());
        row(
            &format!("files with methods of {name}"),
            found.files.to_string(),
        );
        row(&format!("fields of {name}"), found.fields.to_string());
    }
    for folder in ["engine", "torrent"] {
        let body = body(core, folder);
        row(
            &format!("guards (let … else {{ return }}) in core/src/{folder}"),
            body.guards.to_string(),
        );
        row(
            &format!("look-ups by id in core/src/{folder}"),
            body.look_ups.to_string(),
        );
    }

    let mut edges = BTreeSet::new();
    for (krate, _) in &crates {
        edges.extend(rules::imports(krate).edges.into_keys());
    }
    let cycles = rules::cycles(&edges);
    let mutual = edges.iter().filter(|e| {
        let mut back = (*e).clone();
        std::mem::swap(&mut back.from, &mut back.to);
        e.from < e.to && edges.contains(&back)
    });
    row(
        "groups of siblings in a cycle of imports",
        cycles.len().to_string(),
    );
    row(
        "siblings in such groups",
        cycles
            .iter()
            .map(|(_, m)| m.len())
            .sum::<usize>()
            .to_string(),
    );
    row(
        "pairs of siblings that import each other",
        mutual.count().to_string(),
    );
    let upward = edges.iter().filter(|e| rules::is_upward(e)).count();
    row("imports up the layers of core", upward.to_string());

    row(
        "public items of core",
        surface::items(core)
            .iter()
            .filter(|i| i.counts)
            .count()
            .to_string(),
    );

    let mut sizes = Vec::new();
    for folder in FOLDERS {
        let files = sources(&root.join(folder))?;
        let lines: usize = files.iter().map(|(_, n)| n).sum();
        let shipped = crates
            .iter()
            .filter(|(k, _)| k.files().next().is_some_and(|f| f.starts_with(folder)));
        let shipped = shipped.flat_map(|(k, _)| k.files().map(|f| root.join(f)));
        let shipped: BTreeSet<PathBuf> = shipped.collect();
        let outside_tests: usize = files
            .iter()
            .filter(|(f, _)| shipped.contains(f))
            .map(|(_, n)| n)
            .sum();
        row(
            &format!("lines of {folder}: all, in files that ship"),
            format!("{lines}, {outside_tests}"),
        );
        sizes.extend(files);
    }
    sizes.sort_by_key(|(_, lines)| *lines);
    row("files", sizes.len().to_string());
    if let (Some(median), Some((largest, lines))) = (sizes.get(sizes.len() / 2), sizes.last()) {
        row("lines of the median file", median.1.to_string());
        let name = largest.strip_prefix(root).unwrap_or(largest);
        row(
            "lines of the largest file",
            format!("{lines} ({})", name.display()),
        );
    }

    let drivers = ["runtime-tokio/src", "runtime-mio/src"].map(|f| texts(&root.join(f)));
    let [tokio, mio] = drivers;
    row(
        "lines of runtime-tokio that runtime-mio has too",
        alike(&tokio?, &mio?).to_string(),
    );
    Ok(table)
}

struct Behaviour {
    methods: usize,
    files: usize,
    fields: usize,
}

fn behaviour(core: &Crate, owner: (&str, &str)) -> Behaviour {
    let (home, name) = owner;
    let mut files = BTreeSet::new();
    let (mut methods, mut fields) = (0, 0);
    for (id, module) in core.modules.iter().enumerate() {
        for item in &module.items {
            match item {
                Item::Struct(s) if s.ident == name && module.path == [home] => {
                    fields = s.fields.len();
                }
                Item::Impl(i) if i.trait_.is_none() && is_type(core, id, &i.self_ty, owner) => {
                    let fns = i.items.iter().filter(|i| matches!(i, syn::ImplItem::Fn(_)));
                    methods += fns.count();
                    files.insert(&module.file);
                }
                _ => {}
            }
        }
    }
    Behaviour {
        methods,
        files: files.len(),
        fields,
    }
}

fn is_type(core: &Crate, at: usize, ty: &syn::Type, (home, name): (&str, &str)) -> bool {
    let syn::Type::Path(path) = ty else {
        return false;
    };
    let segments = path.path.segments.iter().map(|s| s.ident.to_string());
    let found = core.resolve(at, &segments.collect::<Vec<_>>());
    matches!(found, Some(Found::Item(m, found)) if found == name && core.modules[m].path == [home])
}

#[derive(Default)]
struct Body {
    guards: usize,
    look_ups: usize,
}

fn body(core: &Crate, folder: &str) -> Body {
    let mut body = Body::default();
    let inside = core.modules.iter();
    for module in inside.filter(|m| m.path.first().is_some_and(|p| p == folder)) {
        for item in &module.items {
            body.visit_item(item);
        }
    }
    body
}

impl<'ast> Visit<'ast> for Body {
    fn visit_local(&mut self, local: &'ast syn::Local) {
        let diverge = local.init.as_ref().and_then(|i| i.diverge.as_ref());
        if let Some((_, otherwise)) = diverge
            && let Expr::Block(block) = &**otherwise
            && let Some(Stmt::Expr(Expr::Return(_), _)) = block.block.stmts.last()
        {
            self.guards += 1;
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let table = match &*call.receiver {
            Expr::Field(field) => match &field.member {
                syn::Member::Named(name) => Some(name.to_string()),
                syn::Member::Unnamed(_) => None,
            },
            Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
            _ => None,
        };
        let method = call.method.to_string();
        if table.is_some_and(|t| TABLES.contains(&t.as_str())) && LOOK_UPS.contains(&&*method) {
            self.look_ups += 1;
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// The files of a folder with their numbers of lines.
fn sources(folder: &Path) -> Result<Vec<(PathBuf, usize)>, String> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|n| n != "target") {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).map_err(|e| e.to_string())?;
                let lines = text.lines().count();
                all.push((path, lines));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// The lines of each file of a folder that say something.
fn texts(folder: &Path) -> Result<Vec<Vec<String>>, String> {
    let files = sources(folder)?;
    let read = |(file, _): &(PathBuf, usize)| {
        let text = fs::read_to_string(file).map_err(|e| e.to_string())?;
        let lines = text.lines().map(str::trim);
        // Brackets and imports are alike everywhere.
        let says = |l: &&str| l.len() > 3 && !l.starts_with("use ") && !l.starts_with("//");
        Ok(lines.filter(says).map(str::to_owned).collect())
    };
    files.iter().map(read).collect()
}

/// How many lines of `ours` stand in a row of `RUN` lines or more that `theirs` has too.
#[must_use]
pub fn alike(ours: &[Vec<String>], theirs: &[Vec<String>]) -> usize {
    let known: BTreeSet<&[String]> = theirs.iter().flat_map(|f| f.windows(RUN)).collect();
    let copied = |file: &Vec<String>| {
        let mut marked = vec![false; file.len()];
        for (at, window) in file.windows(RUN).enumerate() {
            if known.contains(window) {
                marked[at..at + RUN].fill(true);
            }
        }
        marked.into_iter().filter(|m| *m).count()
    };
    ours.iter().map(copied).sum()
}
