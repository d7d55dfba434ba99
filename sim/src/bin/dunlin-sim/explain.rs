//! The command `dunlin-sim explain`.

use dunlin_sim::{
    report::units,
    scenario::{self, Question},
};

use crate::{args, exit::Exit, load, say::say};

pub(crate) fn explain(args: &args::Explain) -> Result<Exit, String> {
    let (_, s) = load(&args.scenario)?;
    let seed = args.seed.unwrap_or(s.seed);
    for name in args.from.iter().chain(&args.at) {
        let known = s.hosts.iter().map(|h| &h.name);
        if !known
            .chain(s.routers.iter().map(|r| &r.name))
            .any(|n| n == name)
        {
            return Err(format!(
                "there is no router or host `{name}` in this scenario"
            ));
        }
    }
    let question = Question {
        from: args.from.clone(),
        at: args.at.clone(),
        rule: args.rule,
        endpoints: args.endpoints.clone(),
        number: args.packet,
    };
    let (told, all) = scenario::explain(&s, seed, &question, args.most);
    for journey in &told {
        if !say(journey) {
            return Ok(Exit::Held);
        }
    }
    if all > told.len() {
        say(&format!(
            "{} more packets: see --most",
            units::count((all - told.len()) as u64)
        ));
    } else if all == 0 {
        say("no such packet");
    }
    Ok(Exit::Held)
}
