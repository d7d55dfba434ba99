//! The command `dunlin-sim presets`.

use dunlin_sim::scenario;

use crate::{args, exit::Exit, say::say};

pub(crate) fn presets(args: &args::Presets) -> Result<Exit, String> {
    match &args.name {
        Some(name) => {
            let Some(text) = scenario::preset_in_full(name) else {
                let near = scenario::nearest_preset(name);
                let near = near.map_or(String::new(), |n| format!(": did you mean `{n}`?"));
                return Err(format!("there is no preset `{name}`{near}"));
            };
            say(text.trim_end());
        }
        None => {
            for (title, list) in scenario::all_presets() {
                let width = list
                    .iter()
                    .map(|(n, _)| n.chars().count())
                    .max()
                    .unwrap_or(0);
                let lines = list
                    .iter()
                    .map(|(n, about)| format!("  {n:width$}  {about}"));
                let lines: Vec<String> = lines.collect();
                if !say(&format!("{title}:\n{}\n", lines.join("\n"))) {
                    break;
                }
            }
        }
    }
    Ok(Exit::Held)
}
