//! The `dunlin` command.
//!
//! Data goes to standard output; what is meant for people only (bars, errors, warnings) goes to standard
//! error. [`exit::Exit`] explains the exit codes.

mod args;
mod create;
mod demo;
mod dht;
mod exit;
mod get;
mod input;
mod json;
mod man;
mod output;
mod report;
mod schema;
mod screen;
mod select;
mod settings;
mod show;
mod signals;
mod status;
mod units;
mod verify;

use std::{
    ffi::OsString,
    future::Future,
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use clap::{CommandFactory, Parser};

use crate::{
    args::{Args, Command},
    exit::Exit,
};

fn main() -> ExitCode {
    let started = Instant::now();
    let given = with_command(std::env::args_os().collect());
    let args = match Args::try_parse_from(&given) {
        Ok(args) => args,
        Err(error) => return refused(&error, &given, started),
    };
    if args.command.is_json() {
        output::speak_json();
    }
    let prints = args.command.only_prints();
    let mut exit = run_command(args.command);
    // The result of such a command is lost if it cannot be printed.
    if prints && exit == Exit::Complete && !output::is_printed() {
        exit = Exit::Failed;
    }
    output::end(exit.code(), started.elapsed());
    exit.into()
}

/// Reports an invalid command line, or prints the help that was asked for.
fn refused(error: &clap::Error, given: &[OsString], started: Instant) -> ExitCode {
    // Standard error may be closed.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Complete.into();
    }
    if given.iter().any(|arg| arg == "--json") {
        output::speak_json();
        let message = error.to_string();
        let message = message.lines().next().unwrap_or_default();
        output::say_json(&json::error("command line", message));
        output::end(Exit::Usage.code(), started.elapsed());
    }
    Exit::Usage.into()
}

fn run_command(command: Command) -> Exit {
    match command {
        Command::Get(get) => run(get::get(get)),
        Command::Seed(seed) => run(get::seed(seed)),
        Command::Dht(args) => dht::dht(args),
        Command::Demo(demo) => run(demo::demo(demo)),
        Command::Show(show) => show::show(&show),
        Command::Create(create) => create::create(&create),
        Command::Check(check) => verify::check(&check),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "dunlin", &mut text);
            print(&text)
        }
        Command::Config(config) => settings::print(&config),
        Command::Man { dir } => man::man(dir.as_deref()),
    }
}

/// Inserts `get` if the command line has a torrent in place of a command.
fn with_command(mut args: Vec<OsString>) -> Vec<OsString> {
    let command = Args::command();
    let is_command = |arg: &OsString| {
        let name = arg.to_str().unwrap_or_default();
        let known = command.find_subcommand(name).is_some();
        known || matches!(name, "help" | "-h" | "--help" | "-V" | "--version")
    };
    let is_torrent = |arg: &OsString| arg.to_str().is_some_and(input::is_torrent);
    let is_option = |arg: &OsString| arg.to_string_lossy().starts_with('-');
    let given = args.get(1..).unwrap_or_default();
    let first = given.first();
    if first.is_some_and(|first| is_torrent(first) || is_option(first))
        && !first.is_some_and(is_command)
        && given.iter().any(is_torrent)
        && (first.is_some_and(is_torrent) || !given.iter().any(is_command))
    {
        args.insert(1, "get".into());
    }
    args
}

/// Runs a command that needs the network. One thread is enough: the disk has threads of its own, and waking
/// more would cost more than it gains.
fn run(command: impl Future<Output = Exit>) -> Exit {
    dunlin_std::session::setup::raise_open_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // A name that is still being resolved, or a file on a server that does not answer, must not
            // delay the end; everything that had to be written has been written.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            output::fail("runtime", &format!("cannot start: {error}"));
            Exit::Failed
        }
    }
}

/// Writes data. It is not an error if the reader closes its end early.
fn print(text: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            output::complain(&format!("standard output: {error}"));
            Exit::Failed
        }
        _ => Exit::Complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_in_place_of_a_command_means_get() {
        const HASH: &str = "0123456789abcdef0123456789abcdef01234567";
        let magnet = input::magnet(HASH);
        let whole = |given: &[&str]| {
            let args = std::iter::once(&"dunlin").chain(given).map(OsString::from);
            with_command(args.collect())
        };
        for given in [
            &[magnet.as_str()][..],
            &[HASH, "-d", "there"],
            &["https://host/x.torrent"],
            &["nowhere/x.torrent", "get"],
            &["--json", "-v", &magnet],
            &["-"],
        ] {
            let args = whole(given);
            assert_eq!((&args[1], args.len()), (&"get".into(), given.len() + 2));
        }
        for given in [
            &[][..],
            &["get", &magnet],
            &["dht", "get-peers", HASH],
            &["--help"],
            &["--version"],
            &["help", "get"],
            &["frobnicate", &magnet],
            &["sede", "x.torrent"],
            &["-v", "get", &magnet],
            &["ftp://host/x.torrent"],
        ] {
            assert_eq!(whole(given).len(), given.len() + 1, "{given:?}");
        }
    }
}
