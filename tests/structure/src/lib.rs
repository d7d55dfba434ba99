//! Measures the composition of the workspace and checks that imports run one way.
//!
//! The sources are parsed with `syn`, without a compiler: [`model`] reads a crate's module tree,
//! [`uses`] lists the paths that code names, [`rules`] checks them, [`surface`] lists the public items of a
//! crate and [`figures`] counts. Code under `#[cfg(test)]` is left out everywhere.
//!
//! # The rules of imports
//!
//! A use is a path in code or in an import that leads to an item of another module of the same crate,
//! followed through re-exports to the module that defines the item. What is reached by a method call alone has
//! no path and is not seen.
//!
//! 1. **No cycles between siblings.** A use from module `a::b::x` of an item of `a::c::y` counts as a use of
//!    `c` by `b` inside `a`. Among the children of one module these uses form no cycle. A module and
//!    what is inside it are one unit: a parent composes its children, and children see what the parent defines,
//!    so uses up and down the tree are free.
//! 2. **Layers.** The modules at the root of `dunlin-core` have ranks, and a module uses only modules of its own rank
//!    or of lower ones.
//! 3. **Crates.** Each crate uses only those crates of the workspace that its row in [`rules::CRATES`] names.
//!
//! What breaks rule 1 or 2 at the time of writing stands in `known.txt`, which may only shrink: an entry that
//! is not needed any more is an error too.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool reports to the terminal"
)]

pub mod cli;
pub mod figures;
pub mod model;
pub mod resolve;
pub mod rules;
pub mod surface;
pub mod uses;
