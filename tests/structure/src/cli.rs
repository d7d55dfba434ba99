//! The command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::{figures, rules, surface};

const USAGE: &str = "\
usage: dunlin-structure [figures] [ROOT]      measure a workspace (this one)
       dunlin-structure check                 whether imports run one way, and whether the surface is as recorded
       dunlin-structure prune                 take out of known.txt what is not needed any more
       dunlin-structure surface [--write]     print the public items of dunlin-core, or record them
";

/// Runs the command.
pub fn run(args: impl Iterator<Item = String>) -> ExitCode {
    let args: Vec<String> = args.collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = workspace();
    let done = match words[..] {
        [] | ["figures"] => figures::print(&root),
        ["figures", other] => figures::print(Path::new(other)),
        ["check"] => check(&root),
        ["prune"] => prune(&root),
        ["surface"] => surface::of_core(&root).map(|list| print!("{list}")),
        ["surface", "--write"] => surface::of_core(&root).and_then(|list| {
            let file = recorded(&root);
            fs::write(&file, list).map_err(|e| format!("{}: {e}", file.display()))
        }),
        _ => Err(USAGE.trim_end().to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace that this crate belongs to.
#[must_use]
pub fn workspace() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.ancestors().nth(2).unwrap_or(folder).to_owned()
}

/// What breaks the rules at the time of writing.
#[must_use]
pub fn known(root: &Path) -> PathBuf {
    root.join("tests/structure/known.txt")
}

/// The recorded list of public items.
#[must_use]
pub fn recorded(root: &Path) -> PathBuf {
    root.join("core/public-items.txt")
}

fn check(root: &Path) -> Result<(), String> {
    let known = rules::read_known(&known(root))?;
    let mut faults = rules::check(&rules::load(root)?, &known);
    faults.extend(surface::compare(root)?);
    if faults.is_empty() {
        match known.len() {
            0 => println!("imports run one way"),
            n => println!("imports run one way, but for {n} known uses"),
        }
        return Ok(());
    }
    Err(faults.join("\n"))
}

fn prune(root: &Path) -> Result<(), String> {
    let file = known(root);
    loop {
        let known = rules::read_known(&file)?;
        let crates = rules::load(root)?;
        let edges = crates
            .iter()
            .flat_map(|(krate, _)| rules::imports(krate).edges.into_keys());
        let Some(edge) = rules::needless(&edges.collect(), &known).into_iter().next() else {
            return Ok(());
        };
        println!("not needed any more: {edge}");
        let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
        let kept = text.lines().filter(|l| l.trim() != edge.to_string());
        let kept: String = kept.map(|l| format!("{l}\n")).collect();
        fs::write(&file, kept).map_err(|e| format!("{}: {e}", file.display()))?;
    }
}
