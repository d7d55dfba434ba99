//! The `dunlin-sim` command.
//!
//! Data go to standard output; progress and errors go to standard error. The exit codes are
//! described in [`exit::Exit`].

mod args;
mod dht;
mod exit;
mod explain;
mod matrix;
mod merge;
mod presets;
mod run;
mod say;
mod shrink;
mod sweep;

use std::{fs, path::Path, process::ExitCode};

use clap::Parser;
use dunlin_sim::scenario::{self, Document, Scenario};

use crate::{
    args::{Args, Command},
    exit::Exit,
    say::{complain, say},
};

fn main() -> ExitCode {
    // Exits with code 2 when the command line is invalid.
    let args = Args::parse();
    let done = match args.command {
        Command::Run(args) => run::run(&args),
        Command::Matrix(args) => matrix::matrix(&args),
        Command::Sweep(args) => sweep::sweep(&args),
        Command::Merge(args) => merge::merge(&args),
        Command::Shrink(args) => shrink::shrink(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Presets(args) => presets::presets(&args),
        Command::Dht(args) => dht::dht(&args),
        Command::Reference => {
            say(scenario::reference().trim_end());
            Ok(Exit::Held)
        }
    };
    let exit = done.unwrap_or_else(|message| {
        complain(&message);
        Exit::Usage
    });
    if say::lost() {
        return Exit::Usage.into();
    }
    exit.into()
}

/// Reads a scenario, or describes what is wrong with it.
fn load(path: &Path) -> Result<(Document, Scenario), String> {
    let name = path.display().to_string();
    let bytes = fs::read(path).map_err(|e| format!("{name}: {e}"))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        format!("{name}:{line}: this is not UTF-8 text")
    })?;
    let document = Document::parse(&text, &name).map_err(|e| e.to_string())?;
    let scenario = Scenario::from_document(&document).map_err(|e| e.to_string())?;
    Ok((document, scenario))
}

/// Writes a file, or describes why that failed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}

/// The requested number of threads, or the number of processors.
fn threads(jobs: Option<u16>) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    jobs.map_or_else(processors, usize::from)
}

/// Quotes a word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
