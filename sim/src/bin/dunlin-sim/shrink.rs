//! The command `dunlin-sim shrink`.

use dunlin_sim::{report::units, scenario};

use crate::{
    args,
    exit::Exit,
    load,
    say::{complain, say},
    write,
};

pub(crate) fn shrink(args: &args::Shrink) -> Result<Exit, String> {
    let (document, s) = load(&args.scenario)?;
    let seed = args.seed.unwrap_or(s.seed);
    let small = scenario::shrink(&document, seed).map_err(|e| e.to_string())?;
    let Some(small) = small else {
        complain(&format!(
            "nothing fails with seed {seed}: there is nothing to shrink"
        ));
        return Ok(Exit::Failed);
    };
    complain(&format!(
        "{} events became {}, {} tables {}, in {} runs",
        units::count(small.events_before as u64),
        units::count(small.events as u64),
        units::count(small.tables_before as u64),
        units::count(small.tables as u64),
        units::count(small.runs)
    ));
    let mut text = format!(
        "# Shrunk from {}, seed {seed}. It fails because:\n",
        document.file.replace('\n', " ")
    );
    for why in &small.failed {
        text.push_str(&format!("#   {}\n", why.replace(['\n', '\r'], " ")));
    }
    text.push_str(&small.document.to_toml());
    match &args.out {
        Some(path) => write(path, text.as_bytes())?,
        None => {
            say(text.trim_end());
        }
    }
    Ok(Exit::Held)
}
