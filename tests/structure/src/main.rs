//! The `dunlin-structure` command: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    dunlin_structure::cli::run(std::env::args().skip(1))
}
