//! From a path in a module to the module that defines what it names.

use crate::model::{Crate, ModuleId, Target};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A module.
    Module(ModuleId),
    /// An item, with the module that defines it.
    Item(ModuleId, String),
    /// Something outside the crate: the first segment of the path that leads there.
    Outside(String),
}

/// Longer chains of re-exports are taken for loops.
const DEEPEST: u32 = 16;

impl Crate {
    /// What a path means in a module. `None`: a local name, or one of the prelude.
    #[must_use]
    pub fn resolve(&self, at: ModuleId, path: &[String]) -> Option<Found> {
        self.walk(at, path, DEEPEST)
    }

    fn walk(&self, at: ModuleId, path: &[String], depth: u32) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        let start = match first.as_str() {
            "crate" | "$crate" => Found::Module(0),
            "self" => Found::Module(at),
            "super" => Found::Module(self.modules[at].parent?),
            name => match self.look_up(at, name, depth) {
                Some(found) => found,
                // The name of another crate, if more follows.
                None if !rest.is_empty() => Found::Outside(name.to_owned()),
                None => return None,
            },
        };
        let mut found = start;
        for name in rest {
            found = match found {
                Found::Module(module) if name == "super" => {
                    Found::Module(self.modules[module].parent?)
                }
                Found::Module(module) if name == "self" => Found::Module(module),
                // A name that is not seen, such as a macro's, still stands in that module.
                Found::Module(module) => self
                    .look_up(module, name, depth)
                    .unwrap_or_else(|| Found::Item(module, name.clone())),
                // A variant or an associated item, or a path in another crate.
                found => return Some(found),
            };
        }
        Some(found)
    }

    fn look_up(&self, at: ModuleId, name: &str, depth: u32) -> Option<Found> {
        let depth = depth.checked_sub(1)?;
        let module = &self.modules[at];
        match module.names.get(name).map(|n| &n.target) {
            Some(Target::Item) => return Some(Found::Item(at, name.to_owned())),
            Some(Target::Module(id)) => return Some(Found::Module(*id)),
            // `use name;` or `use name::self` names a crate, not itself.
            Some(Target::Import(path)) if path.len() == 1 && path[0] == name => {
                return Some(Found::Outside(name.to_owned()));
            }
            Some(Target::Import(path)) => return self.walk(at, path, depth),
            None => {}
        }
        module.globs.iter().find_map(|(path, _)| {
            let Some(Found::Module(from)) = self.walk(at, path, depth) else {
                return None;
            };
            self.look_up(from, name, depth)
        })
    }
}
