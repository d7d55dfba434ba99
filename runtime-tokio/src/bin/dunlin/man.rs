//! Manual pages, one for each command, generated from the definitions of the help.

use std::{fs, io, path::Path};

use clap::CommandFactory;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use dunlin_tokio::system::config::{self, Settings};

use crate::{
    args::Args,
    exit::{self, Exit},
    output, print,
};

/// What a page has besides synopsis and options.
struct More {
    /// The command, as on the command line.
    command: &'static str,
    /// Examples: what they do, and the command line.
    examples: &'static [(&'static str, &'static str)],
    /// Whether the command reads the configuration file and uses a session folder.
    session: bool,
}

const MORE: &[More] = &[
    More {
        command: "dunlin",
        examples: &[
            (
                "Fetch what a magnet link names into the current folder:",
                "dunlin 'magnet:?xt=urn:btih:…'",
            ),
            (
                "See that everything works, without a network:",
                "dunlin demo",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin get",
        examples: &[
            (
                "Fetch two files of a torrent, at 2 MiB a second at most:",
                "dunlin get some.torrent --select 1,3 --limit-down 2MiB -d downloads",
            ),
            (
                "Fetch in order, and share until as much is uploaded as the torrent is large:",
                "dunlin get some.torrent --sequential --seed-ratio 1",
            ),
            (
                "Follow a download in a program:",
                "dunlin get some.torrent --json | jq -r 'select(.type == \"progress\").done'",
            ),
            (
                "Use nothing but a VPN's interface:",
                "dunlin get some.torrent --bind wg0",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin seed",
        examples: &[
            (
                "Share what was fetched before, wherever it was saved:",
                "dunlin seed some.torrent",
            ),
            (
                "Share files that are in a folder, for an hour:",
                "dunlin seed some.torrent --dir /srv/files --seed-time 3600",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin create",
        examples: &[
            (
                "Make folder.torrent for a folder:",
                "dunlin create folder -t https://tracker.example/announce",
            ),
            (
                "Print the torrent file, the same each time:",
                "dunlin create folder --no-date -o - | sha256sum",
            ),
        ],
        session: false,
    },
    More {
        command: "dunlin check",
        examples: &[(
            "Compare what is in a folder with a torrent:",
            "dunlin check some.torrent --dir downloads",
        )],
        session: false,
    },
    More {
        command: "dunlin show",
        examples: &[
            ("List the files of a torrent:", "dunlin show some.torrent"),
            (
                "Print the info-hash alone:",
                "dunlin show some.torrent --json | jq -r '.torrent // empty'",
            ),
        ],
        session: false,
    },
    More {
        command: "dunlin config",
        examples: &[
            ("Begin a configuration file:", "dunlin config --init"),
            (
                "List every key, its meaning and its default:",
                "dunlin config",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin demo",
        examples: &[("See it work:", "dunlin demo")],
        session: false,
    },
    More {
        command: "dunlin completions",
        examples: &[(
            "Complete commands and options in bash:",
            "dunlin completions bash > ~/.local/share/bash-completion/completions/dunlin",
        )],
        session: false,
    },
    More {
        command: "dunlin man",
        examples: &[(
            "Install the pages for yourself:",
            "dunlin man --dir ~/.local/share/man/man1",
        )],
        session: false,
    },
    More {
        command: "dunlin dht",
        examples: &[
            ("Take part in the DHT:", "dunlin dht node"),
            (
                "Find peers of a torrent:",
                "dunlin dht get-peers 'magnet:?xt=urn:btih:…'",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin dht node",
        examples: &[
            (
                "Take part with 20 KiB of upload a second at most:",
                "dunlin dht node --limit-up 20k",
            ),
            (
                "Begin a private network:",
                "dunlin dht node --local --bootstrap 192.168.1.2:6881",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin dht get-peers",
        examples: &[(
            "Find peers, and estimate how many seeds and leeches there are:",
            "dunlin dht get-peers 0123456789abcdef0123456789abcdef01234567 --scrape",
        )],
        session: true,
    },
    More {
        command: "dunlin dht announce",
        examples: &[(
            "Say that a peer on port 6881 of this host has a torrent:",
            "dunlin dht announce 0123456789abcdef0123456789abcdef01234567 --peer-port 6881",
        )],
        session: true,
    },
    More {
        command: "dunlin dht get",
        examples: &[(
            "Fetch an immutable item:",
            "dunlin dht get e5f96f6f38320f0f33959cb4d3d656452117aadb",
        )],
        session: true,
    },
    More {
        command: "dunlin dht put",
        examples: &[
            (
                "Store an immutable item; its target is printed:",
                "dunlin dht put 'Hello World!'",
            ),
            (
                "Store an item that can be changed:",
                "dunlin dht put --key FILE 'version one'",
            ),
        ],
        session: true,
    },
    More {
        command: "dunlin dht keygen",
        examples: &[("Make a key for items:", "dunlin dht keygen FILE")],
        session: false,
    },
    More {
        command: "dunlin dht sample",
        examples: &[(
            "Ask a node which info-hashes it knows:",
            "dunlin dht sample dht.example:6881",
        )],
        session: true,
    },
    More {
        command: "dunlin dht ping",
        examples: &[(
            "Ask a node for a sign of life:",
            "dunlin dht ping dht.example:6881",
        )],
        session: true,
    },
    More {
        command: "dunlin dht stats",
        examples: &[
            ("Show what the cache holds:", "dunlin dht stats"),
            ("Show the DHT as it is now:", "dunlin dht stats --live"),
        ],
        session: true,
    },
    More {
        command: "dunlin dht advice",
        examples: &[(
            "Keep the DHT out of the kernel's table of connections:",
            "dunlin dht advice",
        )],
        session: true,
    },
];

/// A page: its file name and its text.
struct Page {
    file: String,
    text: Vec<u8>,
}

/// Prints all pages, or writes each to its own file in `dir`.
pub(crate) fn man(dir: Option<&Path>) -> Exit {
    let mut pages = Vec::new();
    let made = render(&Args::command(), "dunlin", &mut pages);
    if let Err(error) = made {
        output::complain(&format!("cannot write the pages: {error}"));
        return Exit::Failed;
    }
    let Some(dir) = dir else {
        let all: Vec<u8> = pages.into_iter().flat_map(|page| page.text).collect();
        return print(&all);
    };
    if dir.exists() && !dir.is_dir() {
        output::complain(&format!(
            "{}: it is not a folder; name one with --dir",
            dir.display()
        ));
        return Exit::Failed;
    }
    let write = |path: &Path, text: &[u8]| {
        fs::create_dir_all(dir)?;
        fs::write(path, text)
    };
    for page in &pages {
        let path = dir.join(&page.file);
        if let Err(error) = write(&path, &page.text) {
            output::complain(&format!("{}: {error}", path.display()));
            return Exit::Failed;
        }
    }
    output::say(&format!(
        "{} pages written to {}",
        pages.len(),
        dir.display()
    ));
    Exit::Complete
}

/// Adds the pages of a command, called `words` on the command line, and of its subcommands.
fn render(command: &clap::Command, words: &str, pages: &mut Vec<Page>) -> io::Result<()> {
    let name = words.replace(' ', "-");
    let more = MORE.iter().find(|more| more.command == words);
    // The exit codes have their own section.
    let page = command
        .clone()
        .name(name.clone())
        .bin_name(words.to_owned());
    let man = Man::new(page.after_help("").after_long_help(""));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut text)?;
    }
    if command.get_subcommands().next().is_some() {
        man.render_subcommands_section(&mut text)?;
    }
    if command.get_after_help().is_some() {
        exit_codes(&mut text)?;
    }
    if let Some(more) = more {
        examples(more.examples, &mut text)?;
        if more.session {
            files(&mut text)?;
        }
    }
    pages.push(Page {
        file: format!("{name}.1"),
        text,
    });
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        render(sub, &format!("{words} {}", sub.get_name()), pages)?;
    }
    Ok(())
}

fn exit_codes(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for line in exit::HELP.lines().skip(1) {
        if let Some((code, meaning)) = line.trim().split_once(' ') {
            roff.control("TP", []);
            roff.text([bold(code)]);
            roff.text([roman(meaning.trim())]);
        }
    }
    roff.to_writer(text)
}

fn examples(examples: &[(&str, &str)], text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for (what, line) in examples {
        roff.control("PP", []);
        roff.text([roman(*what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([roman(*line)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    roff.to_writer(text)
}

/// The files used on this machine.
fn files(text: &mut Vec<u8>) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    let settings = config::default_path();
    let session = Settings::default().session;
    for (path, what) in [
        (
            settings,
            "The configuration file. dunlin config prints every key with its default.",
        ),
        (
            session,
            "The session folder: what each torrent has, where it was saved, and the nodes of the DHT.",
        ),
    ] {
        roff.control("TP", []);
        roff.text([bold(path.display().to_string())]);
        roff.text([roman(what)]);
    }
    roff.to_writer(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples() {
        let mut pages = Vec::new();
        render(&Args::command(), "dunlin", &mut pages).expect("memory");
        assert_eq!(
            pages.len(),
            MORE.len(),
            "a page without examples, or examples without a page"
        );
        for page in &pages {
            let text = std::str::from_utf8(&page.text).expect("text");
            for section in [".SH NAME", ".SH SYNOPSIS", ".SH EXAMPLES"] {
                assert!(text.contains(section), "{} lacks {section}", page.file);
            }
        }
        let get = pages.iter().find(|page| page.file == "dunlin-get.1");
        let get = String::from_utf8_lossy(&get.expect("a page").text);
        for section in [".SH OPTIONS", ".SH FILES", "EXIT STATUS"] {
            assert!(get.contains(section), "{get}");
        }
    }

    /// Every example is accepted by the parser.
    #[test]
    fn the_examples_are_understood() {
        use clap::Parser;
        for more in MORE {
            for (_, line) in more.examples {
                let line = line.split(['|', '>']).next().unwrap_or_default();
                let words = shell_words(line);
                let args = crate::with_command(words.iter().map(Into::into).collect());
                if let Err(error) = Args::try_parse_from(args) {
                    panic!("{line}: {error}");
                }
            }
        }
    }

    /// Splits a command line; single quotes keep blanks together.
    fn shell_words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (n, part) in line.split('\'').enumerate() {
            if n % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }
}
