//! The command `dunlin-sim dht`.

pub(crate) mod args;
mod farm;
mod swarm;

use crate::exit::Exit;

pub(crate) fn dht(command: &args::Command) -> Result<Exit, String> {
    match command {
        args::Command::Farm(args) => farm::farm(args),
        args::Command::Swarm(args) => swarm::swarm(args),
    }
}
